"""A Deploy in a real Node-RED, pressed when the proof of identity has run out: confirmed in the small window, it goes
through, and the editor never notices. Chromium with its popup blocker on, a virtual authenticator, a certified provider.
"""

import asyncio
import contextlib
import json
import re
import sys
from dataclasses import dataclass

import pytest
import trustme
from playwright.async_api import async_playwright

from tests.browser.test_demo_factors import picture
from tests.browser.test_node_red_journey import FLOWS, PORTAL, edit
from tests.lab.passkeys import Finger
from tests.real.fixtures import CHROMIUM, USERS, node_red, oidc_provider, program  # noqa: F401 - some are fixtures
from zt_proxy.demo.layout import free_port

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(180)]

CONFIG = """\
version: 1
state_dir: state
workers: 2
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
    helper: inject
    rules:
      - id: staff-view
        allow: [{{methods: [GET, HEAD]}}, {{methods: [POST], paths: ["/settings/user"]}}]
        to: {{groups: [staff]}}
      - id: releasers-deploy
        allow: [{{methods: [POST], paths: [/flows]}}]
        to: {{groups: [releasers]}}
        require: {require}
limits: {{drain: 1s}}
log: {{format: console}}
"""

PASSKEY = "{mfa: phishing-resistant, reauth: 10s}"
PROVIDER = "{mfa: multi, reauth: 10s}"
REFUSE_THE_FIRST_WINDOW = """
  const open = window.open; let refused = false;
  window.open = (...given) => { if (refused) return open(...given); refused = true; window.__refused = true; return null; };
"""
TRUSTED = """
  if (window.trustedTypes) trustedTypes.createPolicy('default', {
    createHTML: (text) => text, createScript: (text) => text, createScriptURL: (text) => text });
"""
"""What an app brings that is built on innerHTML and runs under Trusted Types."""


@dataclass
class Scene:
    """The proxy between provider and platform, and the browser's profile of one person."""

    app: str
    portal: str
    node_red_folder: object
    context: object
    finger: Finger

    async def enrol_a_passkey(self, page):
        """On the portal's page, right after the sign-in."""
        await self.finger.attach(page)
        await page.goto(f"{self.portal}/.zt/enrol")
        await page.get_by_role("button", name="Create a passkey").click()
        await page.get_by_role("heading", name="Keep these recovery codes").wait_for()
        await self.finger.learn()
        await page.goto(self.app)

    async def until_too_old(self, page):
        """Until a Deploy would be held: asked as the page's own script asks."""
        ask = """async () => (await fetch('/.zt/preflight', {method: 'POST', headers: {'Content-Type': 'application/json'},
          body: JSON.stringify({method: 'POST', path: '/flows'})})).status"""
        async with asyncio.timeout(30):
            while await page.evaluate(ask) != 401:
                await asyncio.sleep(0.25)

    def deployed(self):
        return json.loads((self.node_red_folder / "flows.json").read_text())


@pytest.fixture
async def scene(tmp_path, oidc_provider, node_red):  # noqa: F811
    async with contextlib.AsyncExitStack() as running:

        async def start(require, *, headers=None, policy="", scripts=()):
            ca = trustme.CA()
            leaf = ca.issue_cert(PORTAL, FLOWS, "localhost")
            files = {name: str(tmp_path / f"site.{name}") for name in ("pem", "key")}
            ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
            leaf.private_key_pem.write_to_path(files["key"])
            for part in leaf.cert_chain_pems:
                part.write_to_path(files["pem"], append=True)
            (tmp_path / "oidc-secret").write_text("zt-secret")
            port = free_port(0)
            portal = f"https://{PORTAL}:{port}"
            provider = oidc_provider(
                [f"{portal}/.zt/callback"],
                issuer="https://localhost:{port}",
                tls={"cert": files["pem"], "key": files["key"]},
                headers=headers or {},
            )
            platform = node_red(policy=policy)
            values = {"port": port, "portal": PORTAL, "flows": FLOWS, "issuer": provider.issuer}
            text = CONFIG.format(**values, upstream=platform.url, require=require)
            (tmp_path / "zt-proxy.yaml").write_text(text)
            command = (sys.executable, "-m", "zt_proxy.cli.main", "run", "-c", str(tmp_path / "zt-proxy.yaml"))
            running.enter_context(program(command, "serving"))
            playwright = await running.enter_async_context(async_playwright())
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP *.test 127.0.0.1"],
                ignore_default_args=["--disable-popup-blocking"],
            )
            running.push_async_callback(browser.close)
            context = await browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
            for script in scripts:
                await context.add_init_script(script)
            return Scene(f"https://{FLOWS}:{port}", portal, platform.user_dir, context, Finger(context))

        yield start


async def sign_in(scene, username="rita"):
    page = await scene.context.new_page()
    await page.goto(scene.app)
    await prove(page, username)
    await page.wait_for_url(scene.app + "/")
    return page


async def prove(page, username):
    """Name, password and code on the provider's page."""
    await page.get_by_label("User name").fill(username)
    await page.get_by_label("Password").fill(USERS[username]["password"])
    await page.get_by_label("Code").fill(USERS[username]["code"])
    await page.get_by_role("button", name="Sign in").click()


class Watched:
    """What the editor showed and what it was answered, from when it is watched."""

    def __init__(self, page):
        self.page = page
        self.posts = []
        page.on("response", lambda answer: self._note(answer))

    def _note(self, answer):
        if answer.request.method == "POST" and answer.url.endswith("/flows"):
            self.posts.append(answer.status)

    async def begin(self):
        """Forget what was shown so far."""
        await self.page.evaluate("""() => { window.__toasts = [];
          const notify = RED.notify; RED.notify = (...given) => { window.__toasts.push([String(given[0]), given[1]?.type ?? given[1]]); return notify(...given); }; }""")

    async def toasts(self):
        return await self.page.evaluate("window.__toasts")


async def press_deploy(page):
    await page.locator("#red-ui-header-button-deploy").click()


async def deploys(scene, page, watched, payload, confirm):
    """Press Deploy in the real editor and confirm in the small window; nothing is lost and no error shows."""
    await edit(page, payload)
    await watched.begin()
    async with page.context.expect_page() as opening:
        await press_deploy(page)
        await confirm.before(page)
    window = await opening.value
    await confirm.inside(scene, window)
    await expect_deployed(scene, page, watched, payload)
    if not window.is_closed():
        await window.wait_for_event("close")


async def expect_deployed(scene, page, watched, payload):
    await (
        page.locator(".red-ui-notification-success, .notification-success")
        .or_(page.get_by_text("Successfully deployed"))
        .first.wait_for()
    )
    assert watched.posts[-2:] == [401, 200]
    assert [toast for toast in await watched.toasts() if toast[1] == "error"] == []
    assert not await page.evaluate("RED.nodes.dirty()")
    flows = {node["id"]: node for node in scene.deployed()}
    assert flows["zt-inject"]["payload"] == payload


class ByPasskey:
    async def before(self, page):
        """The window opens by itself, within the click."""

    async def inside(self, scene, window):
        await picture(scene.context.pages[0], "node-red-held")
        await picture(window, "node-red-window")
        await scene.finger.attach(window)
        with contextlib.suppress(Exception):  # it may have gone on by itself, and closed
            await window.get_by_role("button", name="Use your passkey").click(timeout=5000)


class ByPasskeyAfterTheOverlay(ByPasskey):
    async def before(self, page):
        """The browser refused the window: the dialog's button opens it."""
        await page.get_by_role("button", name="Confirm it is you").click()


class ByProvider:
    async def before(self, page):
        """The window opens by itself, within the click."""

    async def inside(self, scene, window):
        await prove(window, "rita")


async def test_a_deploy_goes_through_after_the_passkey_in_the_small_window(scene):
    scene = await scene(PASSKEY)
    page = await sign_in(scene)
    await scene.enrol_a_passkey(page)
    watched = Watched(page)
    await deploys(scene, page, watched, "with the first passkey", ByPasskey())
    await scene.until_too_old(page)
    await deploys(scene, page, watched, "after it ran out", ByPasskey())
    assert watched.posts == [401, 200, 401, 200]


async def test_a_deploy_goes_through_when_the_provider_isolates_its_window(scene):
    scene = await scene(PROVIDER, headers={"Cross-Origin-Opener-Policy": "same-origin"})
    page = await sign_in(scene)
    await scene.until_too_old(page)
    await deploys(scene, page, Watched(page), "through an isolated window", ByProvider())


async def test_a_deploy_goes_through_under_trusted_types(scene):
    policy = (
        "require-trusted-types-for 'script'; trusted-types default; script-src 'unsafe-inline' 'unsafe-eval' 'self'"
    )
    scene = await scene(PASSKEY, policy=policy, scripts=[TRUSTED])
    page = await sign_in(scene)
    await scene.enrol_a_passkey(page)
    assert await page.evaluate(
        "() => { try { new DOMParser(); document.createElement('div').innerHTML = 1; return true } catch { return false } }"
    )
    await deploys(scene, page, Watched(page), "under trusted types", ByPasskey())


async def test_a_deploy_goes_through_when_the_window_was_refused_and_the_overlay_is_used(scene):
    scene = await scene(PASSKEY, scripts=[REFUSE_THE_FIRST_WINDOW])
    page = await sign_in(scene)
    await scene.enrol_a_passkey(page)
    await deploys(scene, page, Watched(page), "from the overlay", ByPasskeyAfterTheOverlay())
    assert await page.evaluate("window.__refused")


async def test_who_cancels_keeps_the_flow_and_may_press_deploy_again(scene):
    scene = await scene(PASSKEY)
    page = await sign_in(scene)
    await scene.enrol_a_passkey(page)
    watched = Watched(page)
    await edit(page, "kept")
    async with page.context.expect_page() as opening:
        await press_deploy(page)
    window = await opening.value
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_text(re.compile("Deploy failed")).first.wait_for()
    assert await page.evaluate("RED.nodes.dirty()")
    await window.close()
    assert watched.posts == [401]
    await watched.begin()
    async with page.context.expect_page() as opening:
        await press_deploy(page)
    await ByPasskey().inside(scene, await opening.value)
    await expect_deployed(scene, page, watched, "kept")
