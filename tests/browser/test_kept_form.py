"""The page that sends a kept form on, in Chromium: by itself, as an own form, past its own strict policy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page, async_playwright

from zt_proxy.pages.resume import onward_headers, onward_page, resume_headers, resume_page

TOKEN = "t" * 43
TARGET = "/edit?a=1&b=%22%3E"


class App:
    """An origin that serves the page, and keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, str], bytes]] = []
        self.policy = ""
        self.onward = ""

    async def page(self, request: web.Request) -> web.Response:
        if self.policy:
            form = f"<form method=post action='/edit'><button>Go</button></form><script>{'document.forms[0].submit()'}</script>"
            return web.Response(text=form, content_type="text/html", headers={"Content-Security-Policy": self.policy})
        return web.Response(
            body=resume_page(request.host, TARGET, TOKEN), headers=resume_headers(), content_type="text/html"
        )

    async def edit(self, request: web.Request) -> web.Response:
        self.sent.append((request.raw_path, dict(request.headers), await request.read()))
        if self.onward and request.method == "POST":
            if self.policy:
                headers = onward_headers(self.onward)
                return web.Response(
                    body=onward_page(request.host, self.onward), headers=headers, content_type="text/html"
                )
            raise web.HTTPSeeOther(self.onward)
        return web.Response(text="sent", content_type="text/html")


@asynccontextmanager
async def opened(app: App, *, scripts: bool = True) -> AsyncIterator[tuple[Page, TestServer]]:
    application = web.Application()
    application.router.add_get("/.zt/resume", app.page)
    application.router.add_route("*", "/edit", app.edit)
    async with TestServer(application) as server, async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            context = await chromium.new_context(java_script_enabled=scripts)
            yield await context.new_page(), server
        finally:
            await chromium.close()


@pytest.mark.parametrize("scripts", [True, False])
async def test_the_page_sends_the_form_on_as_the_apps_own(scripts: bool) -> None:
    app = App()
    async with opened(app, scripts=scripts) as (page, server):
        own = f"http://localhost:{server.port}"
        await page.goto(f"{own}/.zt/resume?code=secret")
        if not scripts:
            await page.get_by_role("button", name="Send it").click()
        await page.wait_for_url(own + TARGET)
        ((target, headers, body),) = app.sent
        assert (target, body) == (TARGET, b"zt_resume=" + TOKEN.encode())
        assert len(body) == int(headers["Content-Length"]) == 53
        assert headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert (headers["Origin"], headers["Sec-Fetch-Site"]) == (own, "same-origin")
        assert (headers["Sec-Fetch-Mode"], headers["Sec-Fetch-Dest"]) == ("navigate", "document")
        await page.reload()


async def test_what_the_app_answers_may_lead_anywhere() -> None:
    app = App()
    async with opened(app) as (page, server):
        app.onward = f"http://127.0.0.1:{server.port}/edit"
        await page.goto(f"http://localhost:{server.port}/.zt/resume")
        await page.wait_for_url(f"http://127.0.0.1:{server.port}/edit", wait_until="commit")


async def test_an_apps_own_form_policy_does_not_stop_the_way_to_the_portal() -> None:
    app = App()
    app.policy = "form-action 'self'; script-src 'unsafe-inline'"
    async with opened(app) as (page, server):
        app.onward = f"http://127.0.0.1:{server.port}/edit"
        await page.goto(f"http://localhost:{server.port}/.zt/resume", wait_until="commit")
        await page.wait_for_url(app.onward)
        assert len(app.sent) == 2
