"""The real Streamlit in report-only: every request and every message of a tour is what its profile says."""

import pytest

from tests.real.platforms import streamlit
from tests.real.tour import tour, unexpected
from zt_proxy.core.types import Action, Mode

__all__ = ["streamlit"]

pytestmark = [pytest.mark.real, pytest.mark.browser]

REQUESTS = """
GET        /_stcore/stream          use
GET|HEAD   /_stcore/health          use
GET        /_stcore/host-config     use
GET        /settings/_stcore/*      use
PUT|DELETE /_stcore/upload_file/*/* use
GET        /media/*.csv             export
GET        /media/*.png             use
GET        /static/*                use
GET        /favicon.png             use
GET        /settings                use
GET        /                        use
MESSAGE    *#rerun                  use
MESSAGE    *#rerun-page             use
MESSAGE    *#upload-addresses       use
MESSAGE    *#clear-cache            build
"""


async def test_every_request_and_message_of_a_tour_through_streamlit_has_the_action_it_should(streamlit):
    async with tour("streamlit", streamlit("app.test").port) as it:
        page = it.page
        await page.goto(it.origin)
        await page.get_by_label("Name").fill("Ada")
        await page.keyboard.press("Tab")
        await page.get_by_role("button", name="Greet").click()
        await page.get_by_text("Hello Ada").wait_for()
        file = {"name": "orders.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}
        await page.locator("input[type=file]").set_input_files(files=[file])
        await page.get_by_text("8 bytes came").wait_for()
        async with page.expect_download() as started:
            await page.get_by_role("button", name="Download").first.click()
        assert (await started.value).suggested_filename == "orders.csv"
        await page.get_by_role("button", name="Remove orders.csv").click()
        await page.get_by_text("8 bytes came").wait_for(state="detached")
        await page.get_by_role("link", name="settings").click()
        await page.get_by_role("heading", name="Settings of the app").wait_for()
        await page.goto(f"{it.origin}/settings")
        await page.get_by_role("heading", name="Settings of the app").wait_for()
        await page.locator("body").press("c")
        await page.get_by_role("button", name="Clear caches").click()
        await page.get_by_role("button", name="Clear caches").wait_for(state="detached")
        decisions = await it.decisions()
    assert unexpected(decisions, REQUESTS) == []
    assert any(record.get("reported") for record in decisions)


async def test_who_may_only_use_an_app_may_not_clear_what_it_keeps_for_all_and_goes_on_using_it(streamlit):
    async with tour("streamlit", streamlit("app.test").port, (Action.USE,), Mode.ENFORCE) as it:
        page = it.page
        await page.goto(it.origin)
        await page.get_by_label("Name").wait_for()
        async with page.expect_websocket():  # it connects again
            await page.locator("body").press("c")
            await page.get_by_role("button", name="Clear caches").click()
            await it.is_denied("clear-cache")
        await page.get_by_label("Name").fill("Ada")
        await page.keyboard.press("Tab")
        await page.get_by_role("button", name="Greet").click()
        await page.get_by_text("Hello Ada").wait_for()
        decisions = await it.decisions()
    denied = {record["matcher"] for record in decisions if record["effect"] == "deny"}
    assert denied == {"clear-cache", "download"}  # the page fetches what its download button has before anybody clicks
