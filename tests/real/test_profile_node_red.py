"""The real Node-RED in report-only: every request of its editor, and of what its flows offer, is what its profile says."""

import pytest

from tests.browser.test_node_red_journey import WHOAMI, deploy, edit
from tests.real.tour import tour, unexpected
from zt_proxy.demo.node_red import EXAMPLE_FLOWS

pytestmark = [pytest.mark.real, pytest.mark.browser]

REQUESTS = """
POST              /flows                         deploy
POST              /flows/state                   deploy
POST              /flow                          deploy
PUT|DELETE        /flow/*                        deploy
GET               /flow*                         view
POST              /nodes                         manage-integrations
PUT|DELETE        /nodes/*                       manage-integrations
GET               /nodes*                        view
GET               /plugins*                      view
GET               /icons*                        view
GET               /credentials/*                 manage-integrations
GET               /context/*                     export
DELETE            /context/*                     build
POST              /inject/zt-inject              use
POST              /debug/*                       build
GET               /debug/view/*                  view
POST              /library/*                     build
GET               /library/*                     view
POST              /settings/user                 view
GET               /settings*                     view
GET               /projects                      view
GET               /diagnostics                   export
GET               /comms                         view
GET               /auth/login                    view
GET               /whoami#                       use
GET               /                              view
GET               /red/*                         view
GET               /vendor/*                      view
GET               /theme*                        view
GET               /locales/*                     view
GET               /types/*                       view
GET               /favicon.ico                   view
"""

EDITOR = (
    "$.ajax({url: 'flows', type: 'POST', contentType: 'application/json', data: '{}', "
    "headers: {'Node-RED-API-Version': 'v2', 'Node-RED-Deployment-Type': 'reload'}})",
    "$.post('flows/state', {state: 'stop'})",
    "$.ajax({url: 'flow', type: 'POST', contentType: 'application/json', data: '{\"label\": \"Two\", \"nodes\": []}'})"
    ".then((flow) => $.ajax({url: 'flow/' + flow.id, type: 'PUT', contentType: 'application/json',"
    "  data: JSON.stringify({id: flow.id, label: 'Three', nodes: []})})"
    "  .then(() => $.getJSON('flow/' + flow.id)).then(() => $.ajax({url: 'flow/' + flow.id, type: 'DELETE'})))",
    "$.ajax({url: 'nodes', type: 'POST', contentType: 'application/json', data: '{\"module\": \"node-red-node-x\"}'})",
    "$.ajax({url: 'nodes/@scope/x', type: 'DELETE'})",
    "$.ajax({url: 'nodes/node-red/inject', type: 'PUT', contentType: 'application/json', data: '{\"enabled\": true}'})",
    "$.getJSON('credentials/http-request/zt-inject')",
    "$.getJSON('context/global')",
    "$.ajax({url: 'context/global/nothing', type: 'DELETE'})",
    "$.ajax({url: 'library/local/flows/kept.json', type: 'POST', contentType: 'application/json', data: '[]'})",
    "$.getJSON('library/local/flows/')",
    "$.getJSON('auth/login')",
    "$.getJSON('settings/user')",
    "$.getJSON('projects')",
    "$.getJSON('diagnostics')",
    "$.get('debug/view/view.html')",
    "fetch('whoami')",
)
"""What the editor's dialogs ask, by the client that it uses itself."""


async def test_every_request_of_a_tour_through_node_red_has_the_action_it_should(node_red):
    async with tour("node-red", node_red([*EXAMPLE_FLOWS, *WHOAMI]).port) as it:
        page = it.page
        await page.goto(f"{it.origin}/")
        await edit(page, "changed on tour")
        for kind in ("full", "flow", "node"):
            await page.evaluate(f"RED.menu.setSelected('deploymenu-item-{kind}', true); RED.nodes.dirty(true)")
            assert (await deploy(page)).status == 200
        async with page.expect_response(lambda answer: "/inject/" in answer.url):
            await page.locator("#zt-inject .red-ui-flow-node-button-button").click()
        async with page.expect_response(lambda answer: "/debug/" in answer.url):
            await page.locator("#zt-debug .red-ui-flow-node-button-button").click()
        async with page.expect_response(lambda answer: answer.request.method == "POST"):
            await page.evaluate("RED.settings.set('tour', 'taken')")
        for script in EDITOR:
            await page.evaluate(f"() => {script}.then(() => 0, () => 0)")
        decisions = await it.decisions()
    assert unexpected(decisions, REQUESTS) == []
