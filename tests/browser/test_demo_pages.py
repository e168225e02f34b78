"""The demo's own pages in a real browser: without JavaScript, on a phone, and under their content security policy."""

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from tests.real.fixtures import browser  # noqa: F401 - a fixture
from zt_proxy.core.clock import SystemClock
from zt_proxy.demo.app import AppConfig, build_app
from zt_proxy.demo.idp import Client, IdpConfig, build_idp
from zt_proxy.demo.web import serve

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
AUTHORIZE = "response_type=code&client_id=zt&scope=openid&state=s&code_challenge_method=S256&code_challenge=" + "a" * 43


@pytest.fixture
async def landing():
    """Where the provider sends people back to: a page of another origin."""
    app = web.Application()

    async def page(request):
        return web.Response(text="back at the client")

    app.router.add_get("/callback", page)
    async with serve(app) as running:
        yield f"{running.url}/callback"


@pytest.fixture
async def provider(landing, unused_tcp_port):
    base = f"http://127.0.0.1:{unused_tcp_port}"
    app = build_idp(IdpConfig(base, [Client("zt", "zt-secret", (landing,))]))
    async with serve(app, port=unused_tcp_port):
        yield base


@pytest.fixture
async def app():
    """The app, and a header as the proxy would send it."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "k", "use": "sig"}
    now = int(SystemClock().now())
    claims = {"iss": "i", "aud": "a", "sub": "s", "name": "Rita Roth", "iat": now, "exp": now + 120}
    token = jwt.encode(claims, key, "ES256", {"kid": "k"})

    async def jwks(request):
        return web.json_response({"keys": [public]})

    keys = web.Application()
    keys.router.add_get("/jwks", jwks)
    async with serve(keys) as published, serve(build_app(AppConfig(f"{published.url}/jwks", "i", "a"))) as running:
        yield running.url, {"X-ZT-Assertion": token}


async def is_wider_than_the_screen(page):
    return await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


async def test_signing_in_works_on_a_phone_without_javascript(browser, provider, landing):  # noqa: F811
    context = await browser.new_context(viewport=PHONE, java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{provider}/authorize?{AUTHORIZE}&redirect_uri={landing}")
    await page.get_by_role("link", name="Rita Roth").click()
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("Code").fill(await page.inner_text("#demo-code"))
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_text("back at the client").wait_for()
    assert "state=s" in page.url
    assert "iss=" in page.url


async def test_no_page_of_the_provider_is_wider_than_a_phone(browser, provider, landing):  # noqa: F811
    page = await (await browser.new_context(viewport=PHONE)).new_page()
    await page.goto(provider)
    assert not await is_wider_than_the_screen(page)
    await page.goto(f"{provider}/authorize?{AUTHORIZE}&redirect_uri={landing}")
    assert not await is_wider_than_the_screen(page)
    await page.get_by_label("User name").fill("vera")
    await page.get_by_label("Password").fill("vera-demo")
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("Code").wait_for()
    assert not await is_wider_than_the_screen(page)


async def test_a_deploy_in_the_editor_shows_up_live_in_another_window(browser, app):  # noqa: F811
    url, headers = app
    context = await browser.new_context(extra_http_headers=headers)
    complaints = []
    records, editor = await context.new_page(), await context.new_page()
    for page in (records, editor):
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
    await records.goto(f"{url}/")
    await records.get_by_text("on", exact=True).wait_for()
    await editor.goto(f"{url}/editor")
    await editor.get_by_role("button", name="Add a field").click()
    await editor.locator("#fields li:last-child input").fill("Cost centre")
    await editor.get_by_role("button", name="Deploy").click()
    await editor.get_by_text("Version 2 is deployed.").wait_for()
    await records.get_by_role("columnheader", name="Cost centre").wait_for()
    assert complaints == []


async def test_a_record_is_made_and_edited_on_a_phone(browser, app):  # noqa: F811
    url, headers = app
    context = await browser.new_context(viewport=PHONE, extra_http_headers=headers)
    page = await context.new_page()
    await page.goto(f"{url}/")
    await page.get_by_role("button", name="New record").click()
    await page.get_by_label("Item").fill("Chair")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("Saved.").wait_for()
    row = page.locator("tr", has_text="Chair")
    await row.get_by_role("button", name="Edit").click()
    await page.get_by_label("Item").fill("Armchair")
    await page.get_by_role("button", name="Save").click()
    await page.locator("tr", has_text="Armchair").wait_for()
    assert not await is_wider_than_the_screen(page)
    await page.goto(f"{url}/editor")
    assert not await is_wider_than_the_screen(page)


async def test_a_refusal_is_told_in_the_proxys_words(browser, app):  # noqa: F811
    url, headers = app
    context = await browser.new_context(extra_http_headers=headers)
    page = await context.new_page()
    problem = '{"title": "You may not do this", "detail": "No rule of this route allows it.", "status": 403}'
    await page.route(
        "**/api/deploy",
        lambda route: route.fulfill(status=403, content_type="application/problem+json", body=problem),
    )
    await page.goto(f"{url}/editor")
    await page.get_by_role("button", name="Deploy").click()
    await page.get_by_text("You may not do this — No rule of this route allows it.").wait_for()


async def test_a_deploy_after_an_old_sign_in_offers_a_way_that_loses_nothing(browser, app):  # noqa: F811
    url, headers = app
    context = await browser.new_context(extra_http_headers=headers)
    page = await context.new_page()
    problem = '{"title": "Please confirm", "status": 401, "reason": "reauth-required"}'
    await page.route(
        "**/api/deploy",
        lambda route: route.fulfill(status=401, content_type="application/problem+json", body=problem),
    )
    await page.goto(f"{url}/editor")
    await page.locator("#fields li:last-child input").fill("Typed and not saved")
    await page.get_by_role("button", name="Deploy").click()
    async with context.expect_page() as opened:
        await page.get_by_role("link", name="Confirm that it is you").click()
    beside = await opened.value
    await beside.get_by_role("heading", name="It is you, Rita Roth").wait_for()
    await page.unroute("**/api/deploy")
    await page.get_by_role("button", name="Deploy").click()
    await page.get_by_text("Version 2 is deployed.").wait_for()
    assert await page.locator("#fields li:last-child input").input_value() == "Typed and not saved"
