"""Every step of a sign-in fails, and the provider in every way that providers do: nobody is signed in by it."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.faults.injection import PORTAL, SECRET, Steady, raising
from tests.lab.browser import Browser, Page, provider_of
from tests.lab.idp import MockIdp
from tests.lab.proxy import APP, ProxyLab
from zt_proxy.core.errors import Reason, UnavailableError

HOME = f"https://{APP}/"
SESSION = "__Host-zt"
FAULTS = {
    "RuntimeError": raising(RuntimeError, SECRET),
    "TimeoutError": raising(TimeoutError, SECRET),
    "disk full": raising(OSError, errno.ENOSPC, SECRET),
    "cancelled": raising(asyncio.CancelledError),
    "unavailable": raising(UnavailableError, Reason.STORE_UNAVAILABLE, SECRET),
}


@asynccontextmanager
async def arrival(**provider: object) -> AsyncIterator[tuple[Steady, MockIdp]]:
    async with MockIdp() as idp, ProxyLab(providers=(provider_of(idp, **provider),)) as lab:
        yield Steady(lab), idp


def not_signed_in(browser: Browser, page: Page) -> None:
    """It failed, said so without saying why inside, and left no session behind."""
    assert page.status >= 400, (page.url, page.status)
    assert SECRET not in page.text
    assert "Traceback" not in page.text
    assert SESSION not in browser.cookies(APP)


async def works_again(proxy: Steady) -> None:
    browser = Browser(proxy.lab)
    page = await browser.visit(HOME)
    assert (page.status, page.url) == (200, HOME)


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("seam", PORTAL)
async def test_a_step_of_the_sign_in_that_fails_signs_nobody_in(seam: str) -> None:
    async with arrival() as (proxy, _):
        for name, fault in FAULTS.items():
            browser = Browser(proxy.lab)
            with proxy.fault(seam, fault) as met:
                page = await browser.visit(HOME)
            assert met, name
            not_signed_in(browser, page)
            await works_again(proxy)
        await proxy.rest()


async def hang() -> web.Response:
    await asyncio.sleep(0.6)  # far longer than the proxy waits
    return web.Response()


PROVIDER: dict[str, Callable[[], web.StreamResponse | Awaitable[web.StreamResponse]]] = {
    "hangs": hang,
    "500": lambda: web.Response(status=500, text=SECRET),
    "429": lambda: web.Response(status=429),
    "no JSON": lambda: web.Response(text=SECRET, content_type="application/json"),
    "another type": lambda: web.Response(text="{}", content_type="text/html"),
    "an empty object": lambda: web.json_response({}),
    "a list": lambda: web.json_response([SECRET]),
    "a redirect": lambda: web.Response(status=302, headers={"Location": "https://elsewhere.test/"}),
    "too much": lambda: web.Response(body=b" " * (2 * 1024 * 1024), content_type="application/json"),
    "deep": lambda: web.Response(text="[" * 100_000, content_type="application/json"),
}


@pytest.mark.parametrize("endpoint", ["discovery", "jwks", "token"])
@pytest.mark.parametrize("how", PROVIDER)
async def test_a_provider_that_is_slow_down_or_garbage_signs_nobody_in(how: str, endpoint: str) -> None:
    async with arrival(timeout=0.2) as (proxy, idp):
        idp.replies[endpoint] = PROVIDER[how]
        browser = Browser(proxy.lab)
        page = await browser.visit(HOME)
        not_signed_in(browser, page)
        assert page.status in {502, 503}
        del idp.replies[endpoint]
        await works_again(proxy)


async def test_a_provider_that_is_not_there_signs_nobody_in_and_signs_nobody_out() -> None:
    async with MockIdp() as gone:
        provider = provider_of(gone, timeout=1.0)
    async with ProxyLab(providers=(provider,)) as lab:
        cookie = await lab.sign_in()
        browser = Browser(lab)
        page = await browser.visit(HOME)
        not_signed_in(browser, page)
        assert page.status == 503
        assert page.reply.header("retry-after")
        assert (await lab.get("/", cookie)).status == 200
