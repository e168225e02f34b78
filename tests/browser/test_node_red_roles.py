"""Who may do what in a real Node-RED, in words of its profile: a viewer looks, a maker builds, a releaser deploys.

The same three on a second route that only reports: nothing is kept from them, and the log says what would have been.
"""

import contextlib
import json
import subprocess

import pytest
import trustme

from tests.browser.test_node_red_journey import PORTAL, ZT_PROXY, Stage, deploy, edit, sign_in
from tests.real.fixtures import browser, node_red, oidc_provider, program  # noqa: F401 - some are fixtures
from zt_proxy.demo.layout import free_port

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(180)]

ENFORCED, REPORTED = "flows.zt.test", "watched.zt.test"

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
roles:
  viewer: {{groups: [staff]}}
  maker: {{groups: [makers]}}
  releaser: {{groups: [releasers]}}
routes:
  - name: builder
    host: "{enforced}"
    upstream: "{upstream}"
    profile: node-red
    paths: {{case: insensitive}}
    rules:
      - {{id: look, allow: [view], to: {{roles: [viewer]}}}}
      - {{id: try-and-build, allow: [use, build], to: {{roles: [maker]}}}}
      - {{id: release, allow: [deploy], to: {{roles: [releaser]}}, require: {{reauth: 15m}}}}
  - name: watched
    host: "{reported}"
    upstream: "{upstream}"
    profile: node-red
    mode: report
    paths: {{case: insensitive}}
    rules:
      - {{id: look, allow: [view], to: {{roles: [viewer]}}}}
      - {{id: try-and-build, allow: [use, build], to: {{roles: [maker]}}}}
      - {{id: release, allow: [deploy], to: {{roles: [releaser]}}, require: {{reauth: 15m}}}}
metrics: {{address: "127.0.0.1:{metrics}"}}
limits: {{drain: 1s}}
log: {{format: console}}
"""

MAY = {"vera": set(), "max": {"inject", "debug"}, "rita": {"inject", "debug", "flows"}}
"""What each of the three may do besides looking: try a flow out, switch a debug node, deploy."""


class Place(Stage):
    """The stage, seen from one of its routes."""

    host = ENFORCED

    @property
    def app(self):
        return f"https://{self.host}:{self.port}"


@pytest.fixture
def place(tmp_path, oidc_provider, node_red):  # noqa: F811
    ca = trustme.CA()
    leaf = ca.issue_cert(PORTAL, ENFORCED, REPORTED, "localhost")
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
        issuer="https://localhost:{port}",
        tls={"cert": files["pem"], "key": files["key"]},
    )
    platform = node_red()
    text = CONFIG.format(
        port=port, metrics=metrics, portal=PORTAL, enforced=ENFORCED, reported=REPORTED, issuer=provider.issuer,
        upstream=platform.url,
    )  # fmt: skip
    (tmp_path / "zt-proxy.yaml").write_text(text)
    with contextlib.ExitStack() as running:
        command = (*ZT_PROXY, "run", "-c", str(tmp_path / "zt-proxy.yaml"))
        running.enter_context(program(command, "serving"))
        yield Place(tmp_path, port, metrics, platform.user_dir, running)


async def press(page, button, path):
    """Press the button of a node; gives the status of what it asked."""
    async with page.expect_response(lambda answer: path in answer.url) as asked:
        await page.locator(f"#{button} .red-ui-flow-node-button-button").click()
    return (await asked.value).status


async def try_everything(browser, place, name):  # noqa: F811
    """Sign in, look, try a flow, switch a debug node, change the flow, deploy; gives what was let through."""
    page = await sign_in(browser, place, name)
    statuses = {"inject": await press(page, "zt-inject", "/inject/"), "debug": await press(page, "zt-debug", "/debug/")}
    await edit(page, f"edited by {name}")
    statuses["flows"] = (await deploy(page)).status
    await page.context.close()
    assert set(statuses.values()) <= {200, 201, 403}
    return {what for what, status in statuses.items() if status < 400}


async def test_a_viewer_looks_a_maker_builds_and_a_releaser_deploys(browser, place):  # noqa: F811
    flows = place.node_red_folder / "flows.json"
    for name, may in MAY.items():
        assert await try_everything(browser, place, name) == may
        assert (f"edited by {name}" in flows.read_text()) is ("flows" in may)
    decisions = [record for record in await place.log() if record["type"] == "decision"]
    asked = {(record["sub"], record["action"], record["effect"]) for record in decisions if record.get("sub")}
    assert asked == {
        *(("vera", action, "deny") for action in ("use", "build", "deploy")),
        ("vera", "view", "allow"),
        *(("max", action, "allow") for action in ("view", "use", "build")),
        ("max", "deploy", "deny"),
        *(("rita", action, "allow") for action in ("view", "use", "build", "deploy")),
    }


async def test_in_report_only_nobody_notices_and_the_log_says_what_would_have_been(browser, place):  # noqa: F811
    place.host = REPORTED
    flows = place.node_red_folder / "flows.json"
    for name in MAY:
        assert await try_everything(browser, place, name) == {"inject", "debug", "flows"}
        assert f"edited by {name}" in flows.read_text()
    records = [record for record in await place.log() if record["type"] == "decision" and record.get("sub")]
    decisions = [record for record in records if record["route"] == "watched"]
    assert {record["effect"] for record in decisions} == {"allow"}
    would_be = {(record["sub"], record["action"], tuple(record.get("reported", ()))) for record in decisions}
    refused = ("route:deny:no-rule-matched",)
    assert {each for each in would_be if each[2]} == {
        *(("vera", action, refused) for action in ("use", "build", "deploy")),
        ("max", "deploy", refused),
    }
    assert {each[:2] for each in would_be if not each[2]} == {
        *((name, "view") for name in MAY),
        *((name, action) for name in ("max", "rita") for action in ("use", "build")),
        ("rita", "deploy"),
    }
    said = subprocess.run(
        [*ZT_PROXY, "impact", "-c", str(place.folder / "zt-proxy.yaml"), "--by", "person", "--json"],
        capture_output=True, check=True,
    )  # fmt: skip
    rows = {(row["subject"], row["route"], row["would"]) for row in json.loads(said.stdout)["rows"]}
    assert rows == {(f"{name}@example.com", "watched", "deny") for name in ("vera", "max")}
