"""The whole way with nothing of ours but the proxy: a certified provider, a real Node-RED, and Chromium between them.

The proxy runs as an operator runs it: a process of its own, from a YAML file, until SIGTERM.
"""

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import jwt
import pytest
import trustme

from tests.real.fixtures import USERS, browser, node_red, oidc_provider, program  # noqa: F401 - some are fixtures
from zt_proxy.demo.layout import free_port
from zt_proxy.demo.node_red import EXAMPLE_FLOWS

pytestmark = [pytest.mark.browser, pytest.mark.real]

ZT_PROXY = (sys.executable, "-m", "zt_proxy.cli.main")
PORTAL, FLOWS = "auth.zt.test", "flows.zt.test"

WHOAMI = (
    {"id": "in", "type": "http in", "z": "zt-tab", "name": "", "url": "/whoami", "method": "get", "upload": False,
     "x": 160, "y": 240, "wires": [["tell", "zt-debug"]]},
    {"id": "tell", "type": "function", "z": "zt-tab", "name": "headers", "outputs": 1, "x": 360, "y": 240,
     "func": "return {...msg, payload: msg.req.headers};", "libs": [], "wires": [["out"]]},
    {"id": "out", "type": "http response", "z": "zt-tab", "name": "", "statusCode": "", "headers": {},
     "x": 560, "y": 240, "wires": []},
)  # fmt: skip
"""An end point of a citizen developer's: tells what headers arrive, and sends its query to the debug side bar."""

CONFIG = """\
version: 1
state_dir: state
listen:
  - name: web
    address: "127.0.0.1:{port}"
    tls: {{certificate: site.pem, key: site.key}}
portal: {{url: "https://{portal}:{port}"}}
identity:
  providers:
    corp:
      display_name: Example Company
      issuer: "{issuer}"
      client_id: zt
      client_secret: "${{file:oidc-secret}}"
      ca: ca.pem
      acr_values: ["urn:zt:mfa"]
routes:
  - name: builder
    host: "{flows}"
    upstream: "{upstream}"
    paths: {{case: insensitive}}
    rules:
      - id: staff-view
        allow:
          - {{methods: [GET, HEAD]}}
          - {{methods: [POST], paths: ["/settings/user"]}}
        to: {{groups: [staff]}}
      - id: makers-try
        allow: [{{methods: [POST], paths: ["/inject/*", "/debug/**"]}}]
        to: {{groups: [makers]}}
      - id: releasers-deploy
        allow: [{{methods: [POST], paths: [/flows]}}]
        to: {{groups: [releasers]}}
        require: {{reauth: 15m}}
metrics: {{address: "127.0.0.1:{metrics}"}}
limits: {{drain: 1s}}
log: {{format: console}}
"""


@dataclass
class Stage:
    """The proxy between its provider and its platform, and what each browser was answered."""

    folder: Path
    port: int
    metrics: int
    node_red_folder: Path
    running: contextlib.ExitStack
    answers: list[tuple[str, str, str]] = field(default_factory=list)
    """(request id, method, path) of all that Node-RED's host answered to a browser."""

    @property
    def app(self):
        return f"https://{FLOWS}:{self.port}"

    @property
    def portal(self):
        return f"https://{PORTAL}:{self.port}"

    async def log(self):
        """Stop the proxy, let the operator's command verify its log, and give the records."""
        await asyncio.to_thread(self.running.close)
        command = (*ZT_PROXY, "audit", "verify", "--json", str(self.folder / "state" / "audit"))
        report = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert (report.returncode, json.loads(report.stdout)["ok"]) == (0, True), report.stdout + report.stderr
        files = sorted((self.folder / "state" / "audit").glob("*.jsonl"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    async def keys(self):
        """The keys that the portal publishes for whoever verifies assertions."""
        trust = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        url = f"https://127.0.0.1:{self.port}/.zt/jwks.json"
        host = {"Host": f"{PORTAL}:{self.port}"}
        async with (
            aiohttp.ClientSession() as http,
            http.get(url, headers=host, ssl=trust, server_hostname=PORTAL) as answer,
        ):
            return {key["kid"]: jwt.PyJWK(key) for key in (await answer.json())["keys"]}

    async def scrape(self):
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.metrics}/metrics") as answer:
            return await answer.text()


@pytest.fixture
def stage(tmp_path, oidc_provider, node_red):  # noqa: F811
    ca = trustme.CA()
    leaf = ca.issue_cert(PORTAL, FLOWS, "localhost")
    files = {name: str(tmp_path / f"site.{name}") for name in ("pem", "key")}
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    leaf.private_key_pem.write_to_path(files["key"])
    for part in leaf.cert_chain_pems:
        part.write_to_path(files["pem"], append=True)
    (tmp_path / "oidc-secret").write_text("zt-secret")
    port, metrics = free_port(0), free_port(0)
    portal = f"https://{PORTAL}:{port}"
    provider = oidc_provider(
        [f"{portal}/.zt/callback"],
        [f"{portal}/.zt/signed-out"],
        issuer="https://localhost:{port}",  # the name of it that every machine's resolver knows
        tls={"cert": files["pem"], "key": files["key"]},
    )
    platform = node_red([*EXAMPLE_FLOWS, *WHOAMI])
    text = CONFIG.format(
        port=port, metrics=metrics, portal=PORTAL, flows=FLOWS, issuer=provider.issuer, upstream=platform.url
    )
    (tmp_path / "zt-proxy.yaml").write_text(text)
    with contextlib.ExitStack() as running:
        command = (*ZT_PROXY, "run", "-c", str(tmp_path / "zt-proxy.yaml"))
        running.enter_context(program(command, "serving"))
        yield Stage(tmp_path, port, metrics, platform.user_dir, running)


async def sign_in(browser, stage, username, path="/", **options):  # noqa: F811
    """A browser of its own in which this person opened Node-RED and typed name, password and code at the provider."""
    context = await browser.new_context(ignore_https_errors=True, **options)

    def note(answer):
        if answer.url.startswith(stage.app):
            path = answer.url.removeprefix(stage.app).partition("?")[0]
            stage.answers.append((answer.headers["x-request-id"], answer.request.method, path))

    context.on("response", note)
    page = await context.new_page()
    await page.goto(stage.app + path)
    assert page.url.startswith("https://localhost:")
    await page.get_by_label("User name").fill(username)
    await page.get_by_label("Password").fill(USERS[username]["password"])
    await page.get_by_label("Code").fill(USERS[username].get("code", ""))
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(stage.app + path)
    return page


async def edit(page, payload):
    """Drag a comment from the palette to the flow, and have the inject node send `payload`."""
    await page.wait_for_selector(".red-ui-flow-node-button-button")
    comment = page.locator('.red-ui-palette-node[data-palette-type="comment"]')
    await comment.drag_to(page.locator("#red-ui-workspace-chart"), target_position={"x": 400, "y": 400})
    await page.locator("#zt-inject .red-ui-flow-node").first.dblclick(force=True)
    await page.locator("#node-input-name").wait_for()
    row = page.locator("#node-input-property-container .red-ui-typedInput-input-wrap input")
    await row.last.fill(payload)
    await page.locator("#node-dialog-ok").click()
    await page.locator("#node-input-name").wait_for(state="detached")


async def deploy(page):
    """Press Deploy; gives the answer to the POST."""
    async with page.expect_response(lambda answer: answer.request.method == "POST") as sent:
        await page.locator("#red-ui-header-button-deploy").click()
    answer = await sent.value
    assert answer.url.endswith("/flows")
    await page.locator("#red-ui-editor-shade").wait_for(state="hidden")  # until then the editor takes no clicks
    return answer


async def show_debug(page):
    await page.keyboard.press("Control+g")
    await page.keyboard.press("d")


async def test_a_releaser_edits_deploys_sees_the_message_live_and_all_of_it_is_on_record(browser, stage):  # noqa: F811
    page = await sign_in(browser, stage, "rita")
    async with page.expect_websocket(lambda socket: socket.url.endswith("/comms")) as opened:
        await page.reload()
    comms = await opened.value
    frames, closed = [], asyncio.Event()
    comms.on("framereceived", lambda data: frames.append(str(data)))
    comms.on("close", lambda _: closed.set())
    await edit(page, "edited through the proxy")
    assert (await deploy(page)).status == 200
    flows = {node["id"]: node for node in json.loads((stage.node_red_folder / "flows.json").read_text())}
    assert "comment" in {node["type"] for node in flows.values()}
    assert flows["zt-inject"]["payload"] == "edited through the proxy"

    await show_debug(page)
    await page.locator("#zt-inject .red-ui-flow-node-button-button").click()
    await page.locator(".red-ui-debug-msg").get_by_text("edited through the proxy").wait_for()
    assert any("edited through the proxy" in frame for frame in frames)

    tab = await page.context.new_page()
    headers = await (await tab.goto(f"{stage.app}/whoami?a=1")).json()
    keys = await stage.keys()
    token = headers["x-zt-assertion"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, ["ES256"], audience=f"https://{FLOWS}:{stage.port}", issuer=stage.portal)
    assert (claims["sub"], claims["groups"], claims["acr"]) == ("rita", ["makers", "releasers", "staff"], "urn:zt:mfa")
    assert "cookie" not in headers
    assert 'zt_decisions_total{effect="allow",reason="rule-allowed",worker="0"}' in await stage.scrape()

    await tab.goto(f"{stage.portal}/.zt/sign-out")
    await tab.get_by_role("button", name="Sign out everywhere").click()
    await asyncio.wait_for(closed.wait(), 10)
    await tab.get_by_role("button", name="Sign out").click()  # the provider's own question
    await tab.wait_for_url(f"{stage.portal}/.zt/signed-out*")
    await tab.goto(stage.app)
    await tab.get_by_label("User name").wait_for()
    assert tab.url.startswith("https://localhost:")
    await page.context.close()

    records = await stage.log()
    decisions = [record for record in records if record["type"] == "decision"]
    decided = {record["id"]: (record["method"], record["path"]) for record in decisions}
    assert len(decided) >= len(stage.answers) > 50
    assert [answer for answer in stage.answers if decided.get(answer[0]) != answer[1:]] == []
    (posted,) = (record for record in decisions if (record["method"], record["path"]) == ("POST", "/flows"))
    assert (posted["sub"], posted["effect"], posted["rule"]) == ("rita", "allow", "releasers-deploy")
    sockets = [record for record in decisions if record["path"] == "/comms"]
    assert {record["protocol"] for record in sockets} == {"websocket"}
    assert (sockets[0]["sub"], sockets[0]["effect"], sockets[0]["rule"]) == ("rita", "allow", "staff-view")
    ends = {record["id"] for record in records if record["type"] == "end"}
    assert {record["id"] for record in decisions} == ends


async def test_a_viewer_may_not_deploy_and_the_editor_goes_on_working(browser, stage):  # noqa: F811
    page = await sign_in(browser, stage, "vera")
    closed = []
    page.on("websocket", lambda socket: socket.on("close", lambda _: closed.append(socket.url)))
    await page.reload()
    await edit(page, "never")
    refused = await deploy(page)
    problem = await refused.json()
    assert (refused.status, refused.headers["content-type"]) == (403, "application/problem+json")
    assert (problem["status"], problem["reason"]) == (403, "no-rule-matched")
    assert "never" not in (stage.node_red_folder / "flows.json").read_text()

    await show_debug(page)
    tab = await page.context.new_page()
    await tab.goto(f"{stage.app}/whoami")
    await page.locator(".red-ui-debug-msg").first.wait_for()
    assert await page.evaluate("RED.nodes.dirty()")  # nothing of the person's work is lost
    assert closed == []
    await page.context.close()

    decisions = [record for record in await stage.log() if record["type"] == "decision"]
    (posted,) = (record for record in decisions if (record["method"], record["path"]) == ("POST", "/flows"))
    assert (posted["sub"], posted["effect"], posted["reason"]) == ("vera", "deny", "no-rule-matched")
