"""The demo's circumstances: abroad asks for more, accounts are masked, and too much of an export is locked."""

import asyncio
import json
import re
import sys

import pytest

from tests.browser.test_demo import sign_in
from tests.browser.test_demo_factors import picture
from tests.lab.passkeys import Finger
from tests.real.fixtures import browser  # noqa: F401 - a fixture
from zt_proxy.demo.run import demo

pytestmark = pytest.mark.browser
ABROAD = {"X-Demo-Country": "BR"}


@pytest.fixture
async def layout(tmp_path):
    async with demo(tmp_path / "state", "builtin", port=0, idp_port=0) as running:
        yield running.layout


async def command(layout, *arguments):
    """What `zt-proxy ARGUMENTS` prints for the proxy of the demo."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "zt_proxy.cli.main", *arguments, "--config", str(layout.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def export(page, years=1):
    """Status and orders, as a script of the app's page gets them."""
    status, text = await page.evaluate(
        "async years => { const a = await fetch(`/api/export?years=${years}`); return [a.status, await a.text()]; }",
        years,
    )
    return status, json.loads(text).get("orders")


async def test_who_goes_abroad_shows_a_passkey_where_a_code_was_enough(browser, layout):  # noqa: F811
    page = await sign_in(browser, layout, "vera")
    await page.get_by_role("heading", name="Records").wait_for()
    await page.context.set_extra_http_headers(ABROAD)
    finger = Finger(page.context)
    await finger.attach(page)
    await page.goto(layout.app_url)
    await page.get_by_role("link", name="vera /").click()
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("Code").fill(await page.inner_text("#demo-code"))
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Create a passkey").click()
    await page.get_by_role("button", name="I kept them").click()
    await page.get_by_role("heading", name="Records").wait_for()
    assert (await export(page))[0] == 403


async def test_ten_times_the_usual_download_locks_exports_until_an_operator_has_looked(browser, layout):  # noqa: F811
    page = await sign_in(browser, layout, "vera")
    await page.get_by_role("heading", name="Records").wait_for()
    await page.locator("#live-state", has_text="on").wait_for()
    status, orders = await export(page)
    assert status == 200
    assert len(orders) == 4000
    assert all(re.fullmatch(r"\*{4}\d{4}", order["account"]) for order in orders)
    assert (await export(page, 12))[0] == 200

    async def locked():
        while (await export(page))[0] == 200:
            await asyncio.sleep(0.1)  # another process: nothing here could be awaited

    await asyncio.wait_for(locked(), 5)
    answer = await page.goto(f"{layout.app_url}/api/export?years=12")
    assert answer.status == 403
    await page.get_by_text("locked-no-export").wait_for()
    await picture(page, "locked")
    await page.goto(layout.app_url)
    await page.get_by_role("heading", name="Records").wait_for()

    assert "vera@example.com" in await command(layout, "alerts")
    (lock,) = json.loads(await command(layout, "locks", "--json"))["locks"]
    assert (lock["effect"], lock["by"]) == ("no-export", "watch:volume")
    await command(layout, "unlock", lock["id"], "--reason", "agreed: yearly report")
    assert (await export(page))[0] == 200


async def test_a_releaser_sees_whole_accounts(browser, layout):  # noqa: F811
    page = await sign_in(browser, layout, "rita")
    await page.get_by_role("heading", name="Records").wait_for()
    status, orders = await export(page)
    assert status == 200
    assert all(order["account"].startswith("DE") for order in orders)
