"""The demo's three: a viewer with the provider's code, a maker with an authenticator app, a releaser with a passkey."""

import os
import re
from pathlib import Path

import pytest

from tests.browser.test_demo import sign_in
from tests.browser.test_factors import enrol_app, visitor
from tests.lab.passkeys import Finger
from tests.real.fixtures import browser  # noqa: F401 - a fixture
from zt_proxy.demo.run import demo

pytestmark = pytest.mark.browser
PICTURES = os.environ.get("ZT_PICTURES")
"""A folder for what the README shows; nothing is written without it."""


@pytest.fixture
async def layout(tmp_path):
    async with demo(tmp_path / "state", "builtin", port=0, idp_port=0) as running:
        yield running.layout


async def picture(page, name):
    if PICTURES:
        await page.wait_for_load_state()
        await page.screenshot(path=Path(PICTURES) / f"{name}.png")


async def by_password(person, layout, username, path="/"):
    """Through the provider, which asks for a password alone."""
    await person.page.goto(layout.app_url + path)
    await person.page.get_by_role("link", name=f"{username} /").click()
    await person.page.get_by_role("button", name="Continue").click()


async def test_the_viewer_needs_nothing_but_the_code_of_the_provider(browser, layout):  # noqa: F811
    page = await sign_in(browser, layout, "vera")
    await page.get_by_role("heading", name="Records").wait_for()


async def test_the_maker_sets_up_an_authenticator_app_and_edits(browser, layout):  # noqa: F811
    max_ = await visitor(browser, viewport={"width": 1280, "height": 800})
    await by_password(max_, layout, "max", "/editor")
    await picture(max_.page, "enrol")
    await enrol_app(max_)
    await picture(max_.page, "codes")
    await max_.page.get_by_role("button", name="I kept them").click()
    async with max_.page.expect_response("**/api/deploy") as refused:
        await max_.page.get_by_role("button", name="Deploy").click()
    assert (await refused.value).status == 403
    await max_.page.goto(f"{layout.app_url}/")
    await max_.page.get_by_role("button", name="New record").click()
    await max_.page.get_by_label("Item").fill("Chair")
    await max_.page.get_by_role("button", name="Save").click()
    await max_.page.get_by_text("Saved.").wait_for()
    await max_.page.goto(layout.portal_url + "/.zt/me")
    await max_.page.get_by_role("heading", name=re.compile("factor", re.IGNORECASE)).first.wait_for()
    await picture(max_.page, "me")


async def test_the_releaser_deploys_with_a_passkey_in_the_small_window_and_loses_nothing(browser, layout):  # noqa: F811
    rita = await visitor(browser, viewport={"width": 1280, "height": 800})
    page = rita.page
    await by_password(rita, layout, "rita", "/editor")
    await page.get_by_label("Code").fill(await page.inner_text("#demo-code"))
    await page.get_by_role("button", name="Sign in").click()
    records = await page.context.new_page()
    await records.goto(layout.app_url)
    assert await records.inner_text("#me-name") == "Rita Roth"
    await records.get_by_text("on", exact=True).wait_for()
    await page.bring_to_front()
    await page.get_by_role("button", name="Add a field").click()
    await page.locator("#fields li:last-child input").fill("Cost centre")
    async with page.context.expect_page() as opening:
        await page.get_by_role("button", name="Deploy").click()
    window = await opening.value
    await Finger(page.context).attach(window)
    await picture(page, "held")
    # The first time: a passkey is set up after a fresh sign-in, and its proof counts at once.
    await window.get_by_role("link", name="rita /").click()
    await window.get_by_role("button", name="Continue").click()
    await window.get_by_label("Code").fill(await window.inner_text("#demo-code"))
    await window.get_by_role("button", name="Sign in").click()
    await window.wait_for_url(layout.portal_url + "/**")
    await picture(window, "window-first")
    await window.get_by_role("button", name="Create a passkey").click()
    await window.get_by_role("button", name="I kept them").click()
    await page.get_by_text("Version 2 is deployed.").wait_for()
    assert await page.locator("#fields li:last-child input").input_value() == "Cost centre"
    await records.get_by_role("columnheader", name="Cost centre").wait_for()
