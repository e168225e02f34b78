"""The real JupyterLab in report-only: every request and every kernel message of a tour is what its profile says."""

import pytest

from tests.real.platforms import jupyterlab
from tests.real.tour import tour, unexpected
from zt_proxy.core.types import Action, Mode

__all__ = ["jupyterlab"]

pytestmark = [pytest.mark.real, pytest.mark.browser]

REQUESTS = """
GET                   /api/contents/*/checkpoints    view
POST|DELETE           /api/contents/*/checkpoints*   build
GET                   /api/contents*                 view
PUT|POST|PATCH|DELETE /api/contents*                 build
POST|PATCH|DELETE     /api/sessions*                 use
GET                   /api/sessions*                 view
POST                  /api/kernels/*/interrupt       use
POST                  /api/kernels/*/restart         use
GET                   /api/kernels/*/channels        view
GET                   /api/kernels                   view
GET                   /api/kernelspecs*              view
GET                   /kernelspecs/*                 view
POST|DELETE           /api/terminals*                build
GET                   /api/terminals                 view
GET                   /terminals/websocket/1         build
GET                   /api/events/subscribe          view
GET                   /api/config/*                  view
GET                   /api/me                        view
GET                   /api/nbconvert                 view
GET                   /nbconvert/markdown/orders.ipynb export
GET                   /files/*                       export
GET                   /lsp/status                    view
PUT                   /lab/api/workspaces/*          view
GET                   /lab/api/workspaces*           view
PUT                   /lab/api/settings/*            build
GET                   /lab/api/*                     view
GET                   /lab/extensions/*              view
GET                   /lab*                          view
GET                   /static/*                      view
POST                  /api/shutdown                  deploy
MESSAGE               /api/kernels/*#execute         build
MESSAGE               /api/kernels/*#other           build
MESSAGE               /api/kernels/*#edit-help       use
MESSAGE               /api/kernels/*#inquire         view
MESSAGE               /api/kernels/*#debug-look      view
"""


CALLS = (
    "rename('notes.txt', 'renamed.txt')",
    "copy('renamed.txt', '')",
    "delete('renamed.txt')",
    "newUntitled({path: '', type: 'notebook'})",
    "createCheckpoint('orders.ipynb')",
)
"""What the file browser does, by the client that it uses itself."""


async def run(page, command, method, path, arguments="{}", asks=False):
    """One of JupyterLab's own commands, as its menus run it, until this request of it is answered."""

    def is_it(answer):
        return answer.request.method == method and path in answer.url

    async with page.expect_response(is_it):
        await page.evaluate(f"void jupyterapp.commands.execute('{command}', {arguments})")
        if asks:
            await page.locator(".jp-Dialog:not([aria-label^=Directory]) .jp-mod-accept").click()


async def test_every_request_and_message_of_a_tour_through_jupyterlab_has_the_action_it_should(jupyterlab):
    platform = jupyterlab()
    async with tour("jupyterlab", platform.port) as it:
        page = it.page
        await page.goto(f"{it.origin}/lab")
        await page.locator(".jp-DirListing-item", has_text="orders.ipynb").dblclick()
        await page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
        await page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        await it.has_sent(b"debugInfo")
        assert not any(b"execute_request" in message or b'"evaluate"' in message for message in it.sent)
        await page.keyboard.press("Shift+Enter")
        await page.get_by_text("ran 42").wait_for()
        await page.keyboard.type("p")
        await page.keyboard.press("Tab")
        await it.has_sent(b"complete_request")
        await run(page, "docmanager:save", "PUT", "/api/contents/orders.ipynb")
        await run(page, "notebook:interrupt-kernel", "POST", "/interrupt")
        await run(page, "notebook:restart-kernel", "POST", "/restart", asks=True)
        async with page.context.expect_page() as opened:
            await page.evaluate("void jupyterapp.commands.execute('notebook:export-to-format', {format: 'markdown'})")
        await (await opened.value).close()
        async with page.expect_download():
            await page.evaluate("void jupyterapp.commands.execute('docmanager:download')")
        # The file browser complains when it lists a folder at the moment in which a file leaves it.
        complaint = page.get_by_role("dialog", name="Directory not found")
        await page.add_locator_handler(complaint, lambda dialog: dialog.locator(".jp-mod-accept").click())
        for call in CALLS:
            await page.evaluate(f"jupyterapp.serviceManager.contents.{call}.then(() => 0)")
        await run(page, "apputils:change-theme", "PUT", "/lab/api/settings/", "{theme: 'JupyterLab Dark'}")
        await page.locator('[data-id="extensionmanager.main-view"]').click()
        await run(page, "terminal:create-new", "POST", "/api/terminals")
        await page.locator(".jp-Terminal .xterm-screen").click()
        await it.has_sent(b'"set_size"')
        await run(page, "filemenu:shutdown", "POST", "/api/shutdown", asks=True)
        decisions = await it.decisions()
    assert unexpected(decisions, REQUESTS) == []
    assert (platform.folder / "work" / "ran").exists()


async def test_who_may_not_build_opens_a_notebook_and_a_kernel_and_runs_nothing_in_it(jupyterlab):
    platform = jupyterlab()
    async with tour("jupyterlab", platform.port, (Action.VIEW, Action.USE), Mode.ENFORCE) as it:
        page = it.page
        await page.goto(f"{it.origin}/lab")
        await page.locator(".jp-DirListing-item", has_text="orders.ipynb").dblclick()
        await page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
        await page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        async with page.expect_websocket(lambda socket: "/channels" in socket.url):  # it connects again
            await page.keyboard.press("Shift+Enter")
            await it.is_denied("execute")
        decisions = await it.decisions()
    assert not (platform.folder / "work" / "ran").exists()
    (ran, *_) = (record for record in decisions if record.get("matcher") == "execute")
    assert (ran["action"], ran["effect"], ran["reason"]) == ("build", "deny", "no-rule-matched")
    assert {record["action"] for record in decisions if record["effect"] == "allow"} == {"view", "use"}
