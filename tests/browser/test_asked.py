"""People in Chromium: one says why and waits for another's word in the small window, and their work goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.lab.asked import AUTH, CONTROL, HOME, RULES, WHY, stated
from tests.lab.step_up import CHROMIUM
from tests.lab.upstream import OK, Seen
from tests.lab.world import World, world
from zt_proxy.core.clock import SystemClock

pytestmark = pytest.mark.browser

PAGE = b"""<!doctype html><html><head><title>App</title></head><body><button id="go">Go</button><p id="out"></p>
<script>go.onclick = async () => { const r = await fetch('/both', {method: 'POST', body: 'x'}); out.textContent = r.status }</script>
</body></html>"""
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE)


def answer(request: Seen) -> bytes:
    return HTML if request.target == b"/" else OK


@asynccontextmanager
async def chromium(w: World) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--ignore-certificate-errors",
                f"--host-resolver-rules=MAP *:443 127.0.0.1:{w.lab.port}",
            ],
        )
        yield browser
        await browser.close()


@pytest.fixture
async def w() -> AsyncIterator[World]:
    route = {"helper": True, "break_glass": ("bob@example.test",)}
    async with world(RULES, route=route, control=CONTROL, clock=SystemClock()) as w:
        w.lab.upstream.answer = answer
        yield w


async def signed_in(w: World, browser: Browser, user: str, **context: object) -> tuple[BrowserContext, Page]:
    w.idp.user = user
    made = await browser.new_context(ignore_https_errors=True, **context)  # type: ignore[arg-type]
    page = await made.new_page()
    await page.goto(HOME + "/")
    assert page.url == HOME + "/"
    return made, page


async def next_window(page: Page, address: str) -> Page:
    """It opens by itself as long as the person's click counts, else by a button."""
    await page.get_by_role("heading", name="Somebody else has to agree").wait_for()

    def opened() -> list[Page]:
        return [each for each in page.context.pages if each.url.startswith(address)]

    button = page.get_by_role("button", name="Somebody else has to agree")
    async with asyncio.timeout(20):
        while not opened():
            if await button.is_visible():
                await button.click()
            await asyncio.sleep(0.05)
    return opened()[0]


async def test_a_click_is_asked_why_then_waits_for_somebody_and_goes_through(w: World) -> None:
    async with chromium(w) as browser:
        _, page = await signed_in(w, browser, "bob")
        async with page.expect_popup() as opened:
            await page.click("#go")
        window = await opened.value
        await window.wait_for_url(AUTH + "/.zt/why?**")
        await window.fill("#said", WHY)
        async with window.expect_event("close"):
            await window.get_by_role("button", name="Go on").click(no_wait_after=True)
        window = await next_window(page, AUTH + "/.zt/approval?")
        await window.get_by_role("button", name="Ask for it").click()
        await window.get_by_role("heading", name="Waiting for somebody to agree").wait_for()
        _, other = await signed_in(w, browser, "alice", java_script_enabled=False)
        await other.goto(AUTH + "/")
        await other.get_by_role("link", name="1 request waits for your word").click()
        assert WHY in await other.inner_text("main")
        await other.get_by_role("button", name="Agree to the request of bob@example.test").click()
        await other.get_by_text("You agreed.").wait_for()
        await page.get_by_text("200").wait_for()
        assert (stated(w)["justification"], stated(w)["approved_by"]) == (WHY, "alice@example.test")
        assert [seen.method for seen in w.lab.upstream.seen if seen.target == b"/both"] == [b"POST"]


async def test_all_of_it_works_without_a_script(w: World) -> None:
    async with chromium(w) as browser:
        _, page = await signed_in(w, browser, "bob", java_script_enabled=False)
        await page.goto(HOME + "/both")
        await page.fill("#said", WHY)
        await page.get_by_role("button", name="Go on").click()
        await page.get_by_role("button", name="Ask for it").click()
        await page.get_by_role("heading", name="Waiting for somebody to agree").wait_for()
        _, other = await signed_in(w, browser, "alice", java_script_enabled=False)
        await other.goto(AUTH + "/.zt/approvals")
        await other.get_by_role("button", name="Agree").click()
        await page.wait_for_url(HOME + "/both")  # the page looks again by itself
        await page.goto(AUTH + "/.zt/break-glass")
        await page.fill("#said", "The line in hall 3 stands still")
        await page.get_by_role("button", name="Break the glass").click()
        await page.goto(HOME + "/secret")
        assert stated(w)["break_glass"] is True
        await page.goto(AUTH + "/.zt/me")
        await page.get_by_role("button", name="End it now").click()
        await page.wait_for_url(AUTH + "/.zt/me")
        assert await page.get_by_role("button", name="End it now").count() == 0


@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_is_cut_at_any_width(w: World, width: int) -> None:
    async with chromium(w) as browser:
        size = {"width": width, "height": 844}
        _, page = await signed_in(w, browser, "bob", viewport=size)
        seen = []
        await page.goto(HOME + "/both")
        seen.append(await fits(page, width))
        await page.fill("#said", "W" * 500)
        await page.get_by_role("button", name="Go on").click()
        seen.append(await fits(page, width))
        await page.fill("#said", "M" * 500)
        await page.get_by_role("button", name="Ask for it").click()
        seen.append(await fits(page, width))
        _, other = await signed_in(w, browser, "alice", viewport=size)
        await other.goto(AUTH + "/.zt/approvals")
        seen.append(await fits(other, width))
        await page.goto(AUTH + "/.zt/break-glass")
        seen.append(await fits(page, width))
        assert seen == [True] * 5


async def fits(page: Page, width: int) -> bool:
    """No element goes beyond the window, and there is one heading."""
    await page.wait_for_load_state()
    assert await page.locator("h1").count() == 1
    right = await page.evaluate(
        "Math.max(...[...document.querySelectorAll('main, main *')].map(e => e.getBoundingClientRect().right))"
    )
    return float(right) <= width
