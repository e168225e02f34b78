"""Loops, tabs and what piles up (FIELD 7 to 9), where an own factor stands between the provider and the session."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.lab.authenticator import Authenticator
from tests.lab.portal import APP, PORTAL, SESSION_COOKIE, Browser, PortalLab
from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level

SCRIPT = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path, pending_logins_per_address=5) as lab:
        lab.provider.level = Level.SINGLE
        yield lab


async def known(lab: PortalLab) -> Authenticator:
    """Somebody who has a passkey, and is signed in elsewhere."""
    phone = Authenticator()
    await lab.browser("203.0.113.77").enrol_and_sign_in(phone)
    lab.clock.advance(120)
    return phone


def forget(browser: Browser) -> None:
    for host in (APP, PORTAL):
        browser.cookies(host).pop(SESSION_COOKIE, None)


async def rows(lab: PortalLab) -> int:
    found = await lab.sessions._store._run(lambda db: db.execute("SELECT COUNT(*) FROM transactions").fetchone())  # type: ignore[attr-defined]
    return int(found[0])


async def test_two_tabs_that_sign_in_at_once_end_up_in_one_session_each_at_its_own_page(lab: PortalLab) -> None:
    phone = await known(lab)
    browser = lab.browser()
    pages = [await browser.to_own_factor(target=f"/tab/{n}") for n in range(2)]
    answers = [await browser.on(await browser.show_passkey(page, phone)) for page in pages]
    assert [answer.location for answer in answers] == ["/tab/0", "/tab/1"]
    here = [
        each for each in await lab.sessions.of_person("https://idp.example", "alice") if each.address == "192.0.2.7"
    ]
    assert len(here) == 1
    assert "replaced" not in {change.reason for change in lab.changes}


async def test_a_tab_that_was_left_at_the_factor_returns_when_another_one_signed_in(lab: PortalLab) -> None:
    phone = await known(lab)
    browser = lab.browser()
    page = await browser.to_own_factor()
    await browser.on(await browser.show_passkey(page, phone))
    again = await browser.get(PORTAL, page)
    assert (again.status, again.location) == (303, "/")
    lab.clock.advance(601)
    late = await browser.get(PORTAL, page)
    assert (late.status, late.location) == (303, "/")


async def test_the_third_turn_of_a_browser_that_loses_its_cookies_names_the_causes(lab: PortalLab) -> None:
    phone = await known(lab)
    browser = lab.browser()
    for _ in range(2):
        page = await browser.to_own_factor()
        assert (await browser.on(await browser.show_passkey(page, phone))).location == "/red/?a=1"
        forget(browser)
        lab.clock.advance(3)
    page = await browser.to_own_factor()
    answer = await browser.show_passkey(page, phone)
    assert json.loads(answer.text)["reason"] == Reason.LOGIN_LOOP


async def test_a_background_request_begins_nothing_and_uses_nothing_up(lab: PortalLab) -> None:
    phone = await known(lab)
    browser = lab.browser()
    page = await browser.to_own_factor()
    before = await rows(lab)
    for address in (page, page.replace("confirm", "enrol"), "/.zt/confirm?for=me", "/.zt/enrol", "/.zt/me"):
        answer = await browser.get(PORTAL, address, headers=SCRIPT)
        assert answer.status == 401, address
        assert answer.set_cookies == []
    assert await rows(lab) == before
    assert (await browser.on(await browser.show_passkey(page, phone))).location == "/red/?a=1"


async def test_sign_ins_that_nobody_finishes_neither_pile_up_nor_grow_the_cookies(lab: PortalLab) -> None:
    phone = await known(lab)
    browser = lab.browser()
    pages = []
    for _ in range(20):
        lab.clock.advance(1)
        pages.append(await browser.to_own_factor())
        assert await rows(lab) <= 5
    assert set(browser.cookies(PORTAL)) == {"__Host-zt-login"}
    first = await browser.show_passkey(pages[0], phone)
    assert json.loads(first.text)["reason"] == Reason.LOGIN_STATE_UNKNOWN
    assert (await browser.on(await browser.show_passkey(pages[-1], phone))).location == "/red/?a=1"


async def test_another_address_keeps_its_sign_in_when_somebody_fills_the_table(lab: PortalLab) -> None:
    phone = await known(lab)
    honest = lab.browser("198.51.100.1")
    page = await honest.to_own_factor()
    flood = lab.browser("203.0.113.9")
    for _ in range(12):
        await flood.to_own_factor()
    assert (await honest.on(await honest.show_passkey(page, phone))).location == "/red/?a=1"


async def test_ten_tabs_restored_at_once_share_one_factor(lab: PortalLab) -> None:
    phone = await known(lab)
    browser = lab.browser()
    page = await browser.to_own_factor(target="/tab/0")
    await browser.on(await browser.show_passkey(page, phone))
    answers = await asyncio.gather(
        *(browser.get(PORTAL, "/.zt/sign-in?to=" + browser.handoff(target=f"/tab/{n}")) for n in range(1, 10))
    )
    assert {urlsplit(answer.location).path for answer in answers} == {"/.zt/resume"}
    assert len({parse_qs(urlsplit(answer.location).query)["code"][0] for answer in answers}) == 9
