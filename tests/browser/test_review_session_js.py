"""session.js against apps and answers that would make it do more than it was asked to."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.lab.step_up import StepUpLab, TestBrowser, chromium

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

FETCH = "fetch('{path}', {{method: '{method}'{more}}}).then(r => r.status)"
XHR = "new Promise(r => {{ const x = new XMLHttpRequest(); x.onloadend = () => r(x.status); x.open('{method}', '{path}'); x.send({body}); }})"


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


@pytest.mark.parametrize(("status", "place"), [(303, "/act/receipt"), (307, "/act/receipt"), (303, "/free/pay")])
@pytest.mark.parametrize(
    "job",
    [
        FETCH.format(path="/free/pay", method="POST", more=", body: 'x'"),
        XHR.format(path="/free/pay", method="POST", body="'x'"),
    ],
)
async def test_what_the_app_did_already_is_not_done_again_for_a_proof_that_its_redirect_needs(
    lab: StepUpLab, browser: TestBrowser, job: str, status: int, place: str
) -> None:
    lab.automatic = True
    lab.redirects["/free/pay"] = status, place
    tab = await browser.tab()
    await tab.go(job)
    assert await tab.out() == 401
    assert lab.bodies("/free/pay") == [b"x"], "the app has done it: a second time would be one too many"
    await tab.shows_nothing()


@pytest.mark.parametrize(
    "job", [FETCH.format(path="/free/old", method="GET", more=""), XHR.format(path="/free/old", method="GET", body="")]
)
async def test_reading_that_is_led_elsewhere_asks_for_what_is_needed_there(
    lab: StepUpLab, browser: TestBrowser, job: str
) -> None:
    lab.redirects["/free/old"] = 302, "/act/new?x=1"
    tab = await browser.tab()
    await tab.go(job)
    await tab.shows("Finish in the window that just opened")
    await browser.confirm()
    assert await tab.out() == 200
    assert {asked["path"] for asked in lab.asked_ahead} == {"/act/new?x=1"}
    await tab.shows_nothing()


async def test_whoever_speaks_to_it_in_the_page_leads_its_window_nowhere_else(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    tab = await browser.tab()
    for place in ("https://evil.test/.zt/step-up", f"{lab.origin}/free/phish", "javascript:document.title='x'"):
        await tab.go(
            "window[Symbol.for('zt-proxy.session')].join('x', "
            f"{{url: new URL({place!r}), level: '', scope: '', once: false, at: performance.now()}}, "
            "{who: 'person', method: 'GET', path: '/act/x', sentAt: 0, asked: new Set()}).leave() ?? 1"
        )
        await tab.press("Confirm it is you")
        await tab.shows("Nothing you entered is lost")
        assert len(browser.context.pages) == 1, place
        await tab.press("Cancel")
        await tab.shows_nothing()
