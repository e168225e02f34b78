"""The page of one's own sign-ins in Chromium: readable at every width and in both colours, and usable without a script."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port
from playwright.async_api import Page, async_playwright

from tests.lab.authenticator import Authenticator
from tests.lab.portal import APP, ORIGIN, Browser, PortalLab
from zt_proxy.control.factors.types import Person
from zt_proxy.core.session import Principal, Proof

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
COOKIE = "zt-session"
"""Without the prefix, which asks for TLS: here the browser talks to the portal itself, without a worker."""
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1"
PICTURES = os.environ.get("ZT_PICTURES", "")
"""A folder to look at what the tests saw."""


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    port = unused_port()
    host = f"localhost:{port}"
    settings = {
        "portal_origin": f"http://{host}",
        "portal_host": host,
        "session_cookie": COOKIE,
        "login_cookie": "zt-login",
        "device_cookie": "zt-device",
    }
    async with PortalLab(tmp_path, port=port, **settings) as lab:
        lab.provider.end_session = None
        lab.provider.principal = Principal(
            subject="alice",
            issuer="https://idp.example",
            provider="corp",
            email="alice.longer-than-usual@engineering.example.com",
            name="Alice Archer",
            groups=frozenset({"staff", "makers", "releasers"}),
        )
        yield lab


async def sign_in(lab: PortalLab, agent: str, address: str) -> Browser:
    visitor, host = lab.browser(address), lab.settings.portal_host
    headers = {"Sec-Fetch-Mode": "navigate", "User-Agent": agent}
    sent = await visitor.get(host, "/.zt/sign-in?with=corp", headers=headers)
    state = sent.location.partition("state=")[2]
    await visitor.get(host, f"/.zt/callback?code=abc&state={state}", headers=headers)
    return visitor


async def enrol(lab: PortalLab) -> None:
    """A passkey and recovery codes, the way the factors themselves take them."""
    person = Person.of(lab.provider.principal)
    proof, device = Proof(lab.clock.now(), lab.provider.level), Authenticator()
    asked = await lab.factors.begin_passkey(person, "alice", proof, this_login=True)
    origin = lab.settings.factors.origin or ORIGIN
    await lab.factors.add_passkey(person, asked.token, device.create(asked.options_json, origin), "Work laptop")
    await lab.factors.new_recovery_codes(person)


@pytest.fixture
async def page(lab: PortalLab) -> AsyncIterator[Page]:
    """A browser without scripts, behind what a worker would add, already signed in here and elsewhere."""
    origin, host = lab.settings.portal_origin, lab.settings.portal_host
    await sign_in(lab, IPHONE, "2001:db8:85a3::8a2e:370:7334")
    await enrol(lab)
    lab.clock.advance(200)
    here = await sign_in(lab, FIREFOX, "192.0.2.7")
    session = await lab.sessions.of_person("https://idp.example", "alice")
    await lab.sessions.issue_handle(session[0].sid, APP)
    call = {"host": host, "client": "192.0.2.7", "sid": None, "request_id": "req-1"}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = await browser.new_context(java_script_enabled=False)
        tab = await context.new_page()
        await tab.route(
            f"{origin}/**",
            lambda route: route.continue_(headers={**route.request.headers, "X-ZT-Assertion": json.dumps(call)}),
        )
        await context.add_cookies([{"name": COOKIE, "value": here.jar[host][COOKIE], "url": origin}])
        yield tab
        await browser.close()


async def picture(page: Page, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_everything_fits_the_window_and_no_button_is_cut(
    lab: PortalLab, page: Page, width: int, scheme: str
) -> None:
    await page.set_viewport_size({"width": width, "height": 844})
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await page.goto(lab.settings.portal_origin + "/.zt/me")
    for summary in await page.locator("summary").all():
        await summary.click()
    await picture(page, f"me-{width}-{scheme}")
    assert await page.locator("h1").count() == 1
    for place in await page.locator("main, main button, main a, main summary, main input:not([type=hidden])").all():
        box = await place.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    small = page.locator("main button, main summary, main a.go")
    for each in await small.all():
        box = await each.bounding_box()
        assert box is not None
        assert box["height"] >= 24, "WCAG 2.2, 2.5.8"
    token = await lab.devices.notice(
        Person.of(lab.provider.principal), (await lab.devices.of(Person.of(lab.provider.principal)))[0]
    )
    await page.goto(f"{lab.settings.portal_origin}/.zt/not-me?token={token}")
    await picture(page, f"not-me-{width}-{scheme}")
    await page.get_by_role("button", name="It was not me").click()
    await page.get_by_role("heading", name="Every session of yours has ended").wait_for()
    await picture(page, f"not-me-done-{width}-{scheme}")
    await page.goto(f"{lab.settings.portal_origin}/.zt/not-me?token={token}")
    await page.get_by_role("heading", name="not good any more").wait_for()


async def test_without_a_script_sessions_end_names_change_and_devices_are_forgotten(lab: PortalLab, page: Page) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(lab.settings.portal_origin + "/")
    await page.get_by_role("link", name="Your sign-ins").click()
    phone = page.locator("#sessions + ul li", has_text="Safari on iPhone")
    await phone.get_by_role("button", name="Sign out").click()
    await page.get_by_text("That session has ended").wait_for()
    assert await phone.count() == 0
    assert await page.locator("#sessions + ul li").count() == 1

    factor = page.locator("#factors + ul li", has_text="Work laptop")
    await factor.locator("summary").click()
    await factor.get_by_label("Name").fill("Grey laptop")
    await factor.get_by_role("button", name="Save the name").click()
    await page.get_by_text("The new name is saved").wait_for()
    assert await page.locator("#factors + ul li", has_text="Grey laptop").count() == 1

    device = page.locator("#devices + ul li", has_text="Safari on iPhone")
    await device.get_by_role("button", name="Forget").click()
    await page.get_by_text("That device is forgotten").wait_for()
    assert await device.count() == 0

    await page.get_by_role("button", name="Sign out everywhere").click()
    await page.get_by_role("heading", name="You are signed out").wait_for()
    assert [text for text in complaints if "favicon" not in text] == []
