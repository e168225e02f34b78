"""session.js and the life of a session in Chromium: real activity is told, its end announced, and nothing is lost."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.lab.step_up import StepUpLab, Tab, TestBrowser, chromium
from tests.lab.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def contexts() -> AsyncIterator[Callable[..., Any]]:
    async with chromium() as new_context:
        yield new_context


@pytest_asyncio.fixture(loop_scope="module")
async def lab() -> AsyncIterator[StepUpLab]:
    async with StepUpLab() as lab:
        yield lab


@pytest_asyncio.fixture(loop_scope="module")
async def browser(lab: StepUpLab, contexts: Callable[..., Any]) -> AsyncIterator[TestBrowser]:
    context = await contexts(viewport={"width": 1280, "height": 800})
    yield TestBrowser(lab, context)
    await context.close()


LOOK = """for (const use of [new BroadcastChannel('zt-step-up')]) { use.postMessage({type: 'look'}); setTimeout(() => use.close(), 100); } 0"""
"""What another tab says when something has changed."""


async def known(tab: Tab, path: str = "zt.session?.signed_in") -> None:
    """Until the page has heard how its session stands."""
    await tab.until(path)


async def with_clock(browser: TestBrowser) -> Tab:
    """A tab whose time is ours."""
    page = await browser.context.new_page()
    await page.clock.install()
    tab = await browser.visit(page)
    await page.clock.run_for(1100)
    await known(tab)
    return tab


async def test_what_a_person_does_is_told_once_a_minute_and_what_a_script_does_is_not(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    tab = await with_clock(browser)
    await tab.page.clock.run_for(70_000)
    await tab.quiet("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'a', bubbles: true})), 0")
    await tab.quiet("document.getElementById('go').click(), 0")
    assert lab.activities == 0
    for _ in range(5):
        await tab.page.keyboard.press("a")
    await until(lambda: lab.activities == 1)
    await tab.page.clock.run_for(50_000)
    await tab.page.mouse.click(200, 300)
    assert lab.activities == 1
    await tab.page.clock.run_for(11_000)  # the click is told when the minute is over
    await until(lambda: lab.activities == 2)
    await tab.page.clock.run_for(600_000)
    assert lab.activities == 2


async def test_the_end_of_a_quiet_session_is_announced_and_a_click_in_one_tab_keeps_it_in_all(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    assert lab.session is not None
    first, second = await browser.tab(), await browser.tab()
    for tab in (first, second):
        await known(tab)
    lab.session["idle"] = 100.0
    await first.quiet(LOOK)
    for tab in (first, second):
        await tab.page.bring_to_front()
        await tab.shows("Are you still there?")
        assert f"{lab.host} signs you out in 2 minutes" in await tab.said()
    await second.press("Stay signed in")
    for tab in (first, second):
        await tab.shows_nothing()
    assert lab.activities == 1
    assert await second.quiet("zt.session.idle_deadline - zt.session.now") == pytest.approx(1800)


async def test_a_page_that_was_warned_in_vain_says_that_it_is_signed_out_and_keeps_everything(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    assert lab.session is not None
    tab = await with_clock(browser)
    await tab.quiet("document.getElementById('text').value = 'typed'")
    lab.session["idle"] = 60.0
    await tab.page.clock.run_for(1_690_000)
    await tab.shows("Are you still there?")
    lab.session = None
    await tab.page.clock.run_for(62_000)
    await tab.shows("You are signed out")
    assert "Are you still there?" not in await tab.said()
    assert await tab.quiet("document.getElementById('text').value") == "typed"


async def test_signing_in_again_happens_in_a_window_and_the_page_goes_on(lab: StepUpLab, browser: TestBrowser) -> None:
    tab, other = await browser.tab(), await browser.tab()
    for each in (tab, other):
        await known(each)
    lab.session = None
    await tab.page.bring_to_front()
    await tab.go("fetch('/act/deploy', {method: 'POST'}).then(r => r.status)")
    assert await tab.out() == 401
    await tab.press("Sign in")
    await browser.confirm()
    await tab.shows_nothing()
    lab.proofs.add("act/deploy")
    await tab.go("fetch('/act/deploy', {method: 'POST'}).then(r => r.status)")
    assert await tab.out() == 200
    assert lab.bodies("/act/deploy") == [b""]


async def test_another_person_who_signs_in_is_named_before_anything_is_sent(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    tab = await browser.tab()
    await known(tab)
    lab.session = None
    await tab.background("fetch('/poll/x').then(r => r.status)")
    lab.next_person = "bob@example.com"
    await tab.press("Sign in")
    await browser.confirm()
    await tab.shows("You are signed in as bob@example.com now")
    assert "opened as alice@example.com" in await tab.said()


async def test_before_its_longest_time_a_session_can_be_renewed_in_a_window(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    assert lab.session is not None
    lab.session["absolute"] = 200.0
    tab = await browser.tab()
    await tab.quiet("document.getElementById('text').focus()")
    await tab.shows("Your session ends in 3 minutes")
    assert await tab.quiet("document.activeElement.id") == "text"
    await tab.press("Sign in again")
    await browser.confirm()
    await tab.shows_nothing()
    assert [ahead["renew"] for ahead in lab.asked_ahead] == [True]


async def test_a_banner_that_is_put_away_does_not_come_back_with_every_poll(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    tab = await browser.tab()
    await known(tab)
    lab.session = None
    await tab.background("fetch('/poll/x').then(r => r.status)")
    await tab.press("Hide")
    await tab.background("fetch('/poll/x').then(r => r.status)")
    assert await tab.out() == 401
    await tab.shows_nothing()


async def test_a_page_that_is_open_to_everybody_says_nothing_about_sessions(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    lab.session = None
    page = await browser.context.new_page()
    await page.clock.install()
    tab = await browser.visit(page)
    await page.clock.run_for(5000)
    await until(lambda: lab.looks > 0)
    await tab.shows_nothing()


async def test_a_session_that_may_rest_for_a_minute_is_not_announced_to_end_all_the_time(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    assert lab.session is not None
    lab.session["idle"] = 60.0
    tab = await with_clock(browser)
    lab.session["idle"] = 30.0
    await tab.page.clock.run_for(30_000)
    await tab.shows_nothing()
    lab.session["idle"] = 15.0
    await tab.page.clock.run_for(15_000)
    await tab.shows("signs you out in 15 seconds")


async def test_the_interface_is_small_and_cannot_be_changed(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await known(tab)
    assert await tab.quiet("Object.keys(zt)") == ["session", "extend"]
    assert (
        await tab.quiet("(() => { try { zt.extend = 1; } catch {} zt = 1; return typeof zt.extend; })()") == "function"
    )
    assert await tab.quiet("zt.session.who") == "alice@example.com"
    await tab.quiet("zt.extend()")
    assert lab.activities == 0  # nobody is there
    await tab.go("zt.extend().then((session) => session.signed_in)")
    assert await tab.out() is True
    assert lab.activities == 1
