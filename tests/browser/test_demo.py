"""The whole demo as a person meets it: the proxy in front of the built-in app, and in front of a real Node-RED."""

import contextlib

import pytest
from playwright.async_api import Error as PlaywrightError

from tests.lab.passkeys import Finger
from tests.real.fixtures import MODULES, browser, need_node  # noqa: F401 - browser is a fixture
from zt_proxy.demo.run import demo

pytestmark = pytest.mark.browser


@pytest.fixture
async def builtin(tmp_path):
    async with demo(tmp_path / "state", "builtin", port=0, idp_port=0) as running:
        yield running.layout


@pytest.fixture
async def node_red_demo(tmp_path):
    need_node("node-red")
    async with demo(tmp_path / "state", "node-red", port=0, idp_port=0, modules=MODULES) as running:
        yield running.layout


async def sign_in(browser, layout, username, path="/"):  # noqa: F811
    """A browser of its own in which this person opened the app and typed password and code."""
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    await page.goto(layout.app_url + path)
    await page.get_by_role("link", name=username + " /").click()
    await page.get_by_role("button", name="Continue").click()
    if username != "nina":
        await page.get_by_label("Code").fill(await page.inner_text("#demo-code"))
        await page.get_by_role("button", name="Sign in").click()
    return page


async def test_a_viewer_reads_and_is_told_why_a_change_is_refused(browser, builtin):  # noqa: F811
    page = await sign_in(browser, builtin, "vera")
    await page.get_by_role("button", name="New record").click()
    await page.get_by_label("Item").fill("Chair")
    async with page.expect_response("**/api/records") as refused:
        await page.get_by_role("button", name="Save").click()
    answer = await refused.value
    assert answer.status == 403
    await page.get_by_text((await answer.json())["title"]).wait_for()
    assert (await page.goto(f"{builtin.app_url}/editor")).status == 403


@pytest.mark.parametrize("username", ["olaf", "nina"])
async def test_an_outsider_and_a_person_before_their_second_factor_reach_nothing(browser, builtin, username):  # noqa: F811
    page = await sign_in(browser, builtin, username)
    shown = {"olaf": "no-rule-matched", "nina": "Set up your second factor"}[username]
    await page.get_by_text(shown).wait_for()
    assert await page.locator("#records").count() == 0
    answer = await page.goto(f"{builtin.app_url}/api/records")
    assert "Standing desk" not in await answer.text()


async def test_signing_out_ends_both_sessions(browser, builtin):  # noqa: F811
    page = await sign_in(browser, builtin, "vera")
    await page.get_by_text("Vera Voss").first.click()
    await page.get_by_role("link", name="Sign out").click()
    await page.get_by_role("button", name="Sign out everywhere").click()
    await page.wait_for_url(f"{builtin.portal_url}/.zt/signed-out*")
    await page.goto(builtin.app_url)
    await page.get_by_label("User name").wait_for()


async def test_signing_out_at_the_provider_signs_out_of_the_app(browser, builtin):  # noqa: F811
    page = await sign_in(browser, builtin, "vera")
    await page.get_by_text("Vera Voss").first.wait_for()
    at_provider = await page.context.new_page()
    await at_provider.goto(builtin.issuer + "/logout")
    await at_provider.get_by_role("button", name="Sign out").click()
    await at_provider.get_by_text("You are signed out").wait_for()
    await page.goto(builtin.app_url)
    await page.get_by_label("User name").wait_for()
    assert "signed out by the provider" in (builtin.folder / "proxy.log").read_text()


@pytest.mark.real
async def test_node_red_is_edited_and_deployed_and_its_debug_message_arrives(browser, node_red_demo):  # noqa: F811
    page = await sign_in(browser, node_red_demo, "rita")
    finger = Finger(page.context)
    await finger.attach(page)
    await page.goto(node_red_demo.portal_url + "/.zt/enrol")
    await page.get_by_role("button", name="Create a passkey").click()
    await page.get_by_role("heading", name="Keep these recovery codes").wait_for()
    await finger.learn()
    await page.goto(node_red_demo.app_url)
    await page.wait_for_selector(".red-ui-flow-node-button-button")
    # The message of the first inject arrives over the editor's WebSocket, in the debug side bar.
    await page.keyboard.press("Control+g")
    await page.keyboard.press("d")
    await page.locator(".red-ui-flow-node-button-button").first.click(force=True)
    await page.get_by_text("hello through the proxy").first.wait_for()
    await page.evaluate("RED.nodes.workspace('zt-tab').label = 'Deployed'; RED.nodes.dirty(true)")
    async with page.context.expect_page() as opening:
        await page.locator("#red-ui-header-button-deploy").click()
    window = await opening.value
    await finger.attach(window)
    with contextlib.suppress(PlaywrightError):  # it may have gone on by itself, and closed
        await window.get_by_role("button", name="Use your passkey").click(timeout=5000)
    await page.get_by_text("Successfully deployed").first.wait_for()
    assert '"Deployed"' in (node_red_demo.folder / "node-red" / "flows.json").read_text()
