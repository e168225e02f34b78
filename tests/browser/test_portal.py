"""What only a browser can say about the portal's headers: the style is admitted, the sign-out form arrives.

Two of Chromium's rules meet at the form: under `Referrer-Policy: no-referrer` it would be sent with `Origin: null`, and
`form-action` also holds for the redirect to the provider that follows the POST.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from playwright.async_api import Page, async_playwright

from tests.lab.portal import PortalLab

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
COOKIE = "zt-session"
"""Without the prefix, which asks for TLS: here the browser talks to the portal itself, without a worker."""


@pytest.fixture
async def provider() -> AsyncIterator[TestServer]:
    async def logout(request: web.Request) -> web.Response:
        return web.Response(text="signed out at the provider")

    application = web.Application()
    application.router.add_get("/logout", logout)
    async with TestServer(application, host="127.0.0.1") as server:
        yield server


@pytest.fixture
async def lab(tmp_path: Path, provider: TestServer) -> AsyncIterator[PortalLab]:
    port = unused_port()
    host = f"localhost:{port}"
    settings = {"portal_origin": f"http://{host}", "portal_host": host, "session_cookie": COOKIE}
    async with PortalLab(tmp_path, port=port, **settings) as lab:
        lab.provider.end_session = str(provider.make_url("/logout"))
        yield lab


@pytest.fixture
async def page(lab: PortalLab) -> AsyncIterator[Page]:
    """A browser behind what a worker would add, already signed in at the portal."""
    origin, host = lab.settings.portal_origin, lab.settings.portal_host
    call = {"host": host, "client": "192.0.2.7", "sid": None, "request_id": "req-1"}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = await browser.new_context()
        tab = await context.new_page()
        await tab.route(
            f"{origin}/**",
            lambda route: route.continue_(headers={**route.request.headers, "X-ZT-Assertion": json.dumps(call)}),
        )
        visitor = lab.browser()
        visitor.jar[host] = {}
        sent = await visitor.get(host, "/.zt/sign-in?with=corp")
        await visitor.get(host, "/.zt/callback?code=abc&state=" + sent.location.partition("state=")[2])
        await context.add_cookies([{"name": COOKIE, "value": visitor.jar[host][COOKIE], "url": origin}])
        yield tab
        await browser.close()


async def test_the_sign_out_button_signs_out_here_and_at_the_provider(lab: PortalLab, page: Page) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(lab.settings.portal_origin + "/")
    assert "Alice" in await page.inner_text("main")
    await page.click("text=Sign out")
    await page.click("button")
    await page.wait_for_url("**/logout**")
    assert "signed out at the provider" in await page.inner_text("body")
    assert lab.changes[-1].reason == "signed-out"
    assert [text for text in complaints if "favicon" not in text] == []


@pytest.mark.parametrize("width", [390, 1280])
async def test_the_style_is_admitted_and_nothing_is_wider_than_the_window(
    lab: PortalLab, page: Page, width: int
) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    for path in ("/", "/.zt/sign-out", "/.zt/nothing"):
        await page.goto(lab.settings.portal_origin + path)
        assert await page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") != "0px"
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await page.evaluate("document.documentElement.lang") == "en"
        assert await page.evaluate("document.querySelectorAll('h1').length") == 1


async def test_everything_can_be_reached_and_seen_from_the_keyboard(lab: PortalLab, page: Page) -> None:
    await page.goto(lab.settings.portal_origin + "/.zt/sign-out")
    for expected in ("BUTTON", "A"):
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.tagName") == expected
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
