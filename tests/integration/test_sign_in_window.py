"""A page whose session is over, or nearly, signs in again in a small window: by way of the portal, back to its end."""

import json
from urllib.parse import urlsplit

from tests.lab.browser import SESSION, Browser, Page, provider_of
from tests.lab.idp import MockIdp
from tests.lab.proxy import APP, ProxyLab
from zt_proxy.core.clock import ManualClock

APP_ORIGIN = f"https://{APP}"


async def ask(browser: Browser, **question: object) -> Page:
    """A preflight of the page's script."""
    body = json.dumps({"method": "GET", "path": "/flows", **question}).encode()
    headers = {
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Dest": "empty",
        "Sec-Fetch-Site": "same-origin",
        "Origin": APP_ORIGIN,
        "Content-Type": "application/json",
    }
    return await browser.request(f"{APP_ORIGIN}/.zt/preflight", "POST", headers, body)


def window_of(page: Page) -> str:
    challenge = page.reply.header("zt-challenge") or ""
    assert (page.status, challenge[:7]) == (401, "login; "), page
    return APP_ORIGIN + challenge.partition('"')[2].rstrip('"') + "&window=1"


async def test_a_page_without_a_session_gets_one_through_a_window() -> None:
    async with MockIdp() as idp, ProxyLab(providers=(provider_of(idp),)) as lab:
        browser = Browser(lab)
        page = await browser.visit(window_of(await ask(browser)))
        assert (page.status, urlsplit(page.url).path) == (200, "/.zt/confirmed")
        assert (await ask(browser)).status == 204


async def test_a_session_near_its_end_is_followed_by_a_new_one_that_was_proved_anew() -> None:
    clock = ManualClock()
    async with MockIdp(clock=clock) as idp, ProxyLab(providers=(provider_of(idp),), clock=clock) as lab:
        browser = Browser(lab)
        assert (await browser.visit(f"{APP_ORIGIN}/flows")).status == 200
        before = browser.cookies(APP)[SESSION]
        assert (await ask(browser)).status == 204
        await lab.advance(60)
        page = await browser.visit(window_of(await ask(browser, renew=True)))
        assert (page.status, urlsplit(page.url).path) == (200, "/.zt/confirmed")
        assert any(urlsplit(idp.issuer).netloc == host for host in page.hosts)
        assert browser.cookies(APP)[SESSION] != before
        assert (await ask(browser)).status == 204
