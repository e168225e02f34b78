"""What a page's script learns of its session, and what its reports of a person's activity do."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.portal import APP, PORTAL, Answer, Browser, PortalLab
from zt_proxy.core.session import Level

SCRIPT = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
START = 43_200.0


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        yield lab


async def state(browser: Browser, host: str = APP) -> dict[str, Any]:
    answer = await browser.get(host, "/.zt/session", headers=SCRIPT)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    found: dict[str, Any] = json.loads(answer.text)
    return found


async def report(browser: Browser, headers: dict[str, str] | None = None) -> Answer:
    return await browser.request("POST", APP, "/.zt/activity", headers=headers or SCRIPT)


@pytest.mark.parametrize("host", [APP, PORTAL])
async def test_the_state_says_who_how_proved_and_until_when(lab: PortalLab, host: str) -> None:
    browser = lab.browser()
    assert await state(browser, host) == {"signed_in": False}
    began = lab.clock.now()
    await browser.sign_in()
    lab.clock.advance(100)
    found = await state(browser, host)
    assert found.pop("level") in {level.word for level in Level}
    assert found == {
        "signed_in": True,
        "who": "Alice",
        "proved_at": began,
        "now": began + 100,
        "idle_deadline": began + 900,
        "absolute_deadline": began + START,
    }


async def test_asking_for_the_state_is_no_activity(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    before = (await state(browser))["idle_deadline"]
    lab.clock.advance(500)
    assert (await state(browser))["idle_deadline"] == before
    lab.clock.advance(400)
    assert await state(browser) == {"signed_in": False}


async def test_the_idle_deadline_is_never_told_beyond_the_absolute_one(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    for _ in range(53):
        lab.clock.advance(810)
        assert (await report(browser)).status == 204
    found = await state(browser)
    assert found["idle_deadline"] == found["absolute_deadline"]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
async def test_another_sites_page_is_told_nothing(lab: PortalLab, site: str) -> None:
    browser = lab.browser()
    await browser.sign_in()
    for host in (APP, PORTAL):
        answer = await browser.get(host, "/.zt/session", headers={"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": site})
        assert answer.status == 403
        assert json.loads(answer.text)["reason"] == "cross-origin"
        assert "Alice" not in answer.text


async def test_reported_activity_keeps_a_session_awake_at_every_host(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    lab.clock.advance(800)
    answer = await report(browser)
    assert (answer.status, answer.text) == (204, "")
    lab.clock.advance(800)
    assert (await state(browser))["signed_in"]
    assert (await state(browser, PORTAL))["signed_in"]


async def test_reported_activity_brings_no_idle_session_back(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    lab.clock.advance(901)
    answer = await report(browser)
    assert (answer.status, json.loads(answer.text)["reason"]) == (401, "login-required")
    assert await browser.session() is None


async def test_reported_activity_never_moves_the_absolute_deadline(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    end = (await state(browser))["absolute_deadline"]
    while lab.clock.now() + 850 < end:
        lab.clock.advance(850)
        assert (await report(browser)).status == 204
    lab.clock.advance(850)
    assert (await report(browser)).status == 401


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": f"https://{PORTAL}"},
    {"Sec-Fetch-Site": "same-origin", "Origin": f"https://{PORTAL}"},
    {"Origin": "null"},
    {"Sec-Fetch-Mode": "cors"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_activity_is_believed_from_this_hosts_own_page_alone(lab: PortalLab, headers: dict[str, str]) -> None:
    browser = lab.browser()
    await browser.sign_in()
    before = (await state(browser))["idle_deadline"]
    lab.clock.advance(100)
    assert (await report(browser, headers)).status == 403
    assert (await state(browser))["idle_deadline"] == before


async def test_activity_is_reported_at_apps_alone(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    assert (await browser.request("POST", PORTAL, "/.zt/activity", headers=SCRIPT)).status == 404
