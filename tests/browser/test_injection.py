"""Injected pages in Chromium: the script runs, past policies of every kind, and whatever else they stop stays stopped.

Each page is asked for twice: through a route that injects, and through one that does not.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Route, async_playwright

from tests.lab.proxy import APP, PORTAL, ProxyLab, allow, lab_route
from tests.lab.step_up import CHROMIUM
from tests.lab.upstream import OK, Seen
from tests.wire.test_inject_html import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PLAIN = "plain.test"
PROBE = """
window.helper = {ran: true, first: document.head.firstElementChild === document.currentScript,
                 mode: document.compatMode, talked: false};
fetch('/.zt/session').then(() => { helper.talked = true; }, () => {}).then(() => { helper.done = true; });
"""
"""In place of session.js: what it could do."""

WANTS = b"""<!doctype html><html><head><title>App</title>
<script>window.inline = true</script><script nonce="dGhlaXJz">window.nonced = true</script>
<script src="/own.js"></script><script src="/static/own.js"></script><script src="/.ztx/own.js"></script>
</head><body onload="window.handler = true"><img src="/image.svg" onload="window.image = true">
<script nonce="dGhlaXJz">try { eval('window.evaluated = true') } catch (e) {}
window.asked = fetch('/data').then(() => true, () => false)</script></body></html>"""
DID = """async () => ({inline: !!window.inline, nonced: !!window.nonced, handler: !!window.handler, image: !!window.image,
  evaluated: !!window.evaluated, loaded: window.loaded || [], data: await window.asked})"""

RO = b"Content-Security-Policy-Report-Only: "
CSP = b"Content-Security-Policy: "
POLICIES = {
    "none": b"",
    "self": CSP + b"script-src 'self'",
    "default self": CSP + b"default-src 'self'",
    "script none": CSP + b"script-src 'none'",
    "default none": CSP + b"default-src 'none'",
    "nonce": CSP + b"script-src 'nonce-dGhlaXJz'",
    "strict": CSP + b"script-src 'nonce-dGhlaXJz' 'strict-dynamic'",
    "strict with its fallback": CSP + b"script-src 'strict-dynamic' 'nonce-dGhlaXJz' 'unsafe-inline' https:",
    "strict by default": CSP + b"default-src 'strict-dynamic' 'nonce-dGhlaXJz'",
    "inline": CSP + b"script-src 'unsafe-inline' 'unsafe-eval'; connect-src 'none'",
    "path": CSP + b"default-src https://app.test/static/ https://plain.test/static/ 'unsafe-inline'",
    "hash": CSP + b"script-src 'sha256-c3RyYW5nZXI='",
    "elements": CSP + b"script-src 'unsafe-inline'; script-src-elem 'none'",
    "two in a line": CSP + b"script-src 'nonce-dGhlaXJz', default-src 'none'; img-src *",
    "two lines": CSP
    + b"script-src 'nonce-dGhlaXJz'\r\n"
    + CSP
    + b"connect-src 'none'\r\n"
    + RO
    + b"default-src 'none'",
    "trusted types": CSP + b"script-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'",
    "sandbox that allows": CSP + b"sandbox allow-scripts allow-same-origin; script-src 'none'",
}
SANDBOXED = {
    "sandbox": CSP + b"sandbox allow-scripts",
    "sandbox without scripts": CSP + b"sandbox allow-same-origin",
}


@dataclass
class Lab:
    """The proxy, a browser, and what the platform answers by target."""

    context: BrowserContext
    answers: dict[bytes, bytes]

    @staticmethod
    def page(body: bytes, headers: bytes = b"", charset: str = "") -> bytes:
        """The platform's answer with a page of this body, and with these header lines."""
        lines = b"Content-Type: text/html%b\r\n" % (f"; charset={charset}".encode() if charset else b"")
        lines += headers + b"\r\n" if headers else b""
        return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (lines, len(body), body)

    async def visit(self, host: str, script: str, body: bytes, headers: bytes = b"", *, argument: object = None) -> Any:
        """What `script` gives in a page of this body and these header lines."""
        self.answers[b"/page"] = self.page(body, headers)
        tab = await self.context.new_page()
        try:
            await tab.goto(f"https://{host}/page", wait_until="load")
            return await tab.evaluate(script, argument)
        finally:
            await tab.close()


async def probe(route: Route) -> None:
    await route.fulfill(content_type="text/javascript", body=PROBE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    own = b"(window.loaded ||= []).push(new URL(document.currentScript.src).pathname)"
    script = b"HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: %d\r\n\r\n%b" % (len(own), own)
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"
    image = b"HTTP/1.1 200 OK\r\nContent-Type: image/svg+xml\r\nContent-Length: %d\r\n\r\n%b" % (len(drawing), drawing)
    answers = {b"/own.js": script, b"/static/own.js": script, b"/.ztx/own.js": script, b"/image.svg": image}
    rules = (allow("everyone", public=True),)
    routes = (lab_route("app", APP, rules, helper=True), lab_route("plain", PLAIN, rules))

    def answer(request: Seen) -> bytes:
        return answers.get(request.target, OK)

    async with ProxyLab(routes=routes, certificates=((APP, PORTAL, PLAIN),)) as proxy, async_playwright() as playwright:
        proxy.upstream.answer = answer
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
                f"--host-resolver-rules=MAP *:443 127.0.0.1:{proxy.port}",
            ],
        )  # fmt: skip
        context = await browser.new_context(ignore_https_errors=True)
        await context.route("**/.zt/session.js?v=*", probe)
        await context.route("**/.zt/session", lambda route: route.fulfill(json={}))
        yield Lab(context, answers)
        await browser.close()


HELPER = (
    "async () => { while (window.helper && !helper.done) await new Promise(r => setTimeout(r)); return window.helper }"
)


@pytest.mark.parametrize("name", POLICIES)
async def test_the_script_runs_and_talks_and_all_else_is_as_without_it(lab: Lab, name: str) -> None:
    policy = POLICIES[name]
    found = await lab.visit(APP, HELPER, WANTS, policy)
    assert found == {"ran": True, "first": True, "mode": "CSS1Compat", "talked": True, "done": True}
    assert await lab.visit(APP, DID, WANTS, policy) == await lab.visit(PLAIN, DID, WANTS, policy)


@pytest.mark.parametrize("name", SANDBOXED)
async def test_a_sandboxed_page_is_as_without_it(lab: Lab, name: str) -> None:
    source = "() => document.documentElement.outerHTML"
    assert await lab.visit(APP, HELPER, WANTS, SANDBOXED[name]) is None
    injected, plain = [await lab.visit(host, source, WANTS, SANDBOXED[name]) for host in (APP, PLAIN)]
    assert injected == plain


async def test_the_script_comes_before_a_policy_in_the_page(lab: Lab) -> None:
    meta = b"<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\">"
    found = await lab.visit(APP, "() => helper.ran", WANTS.replace(b"<title>", meta + b"<title>"))
    assert found is True


@pytest.mark.parametrize("name", ["none", "default none", "strict", "trusted types"])
async def test_the_proxy_s_own_script_takes_the_page_in_hand(lab: Lab, name: str) -> None:
    await lab.context.unroute("**/.zt/session.js?v=*")
    try:
        mark = "() => Object.hasOwn(window, Symbol.for('zt-proxy.session'))"
        assert await lab.visit(APP, mark, WANTS, POLICIES[name]) is True
        assert await lab.visit(PLAIN, mark, WANTS, POLICIES[name]) is False
    finally:
        await lab.context.route("**/.zt/session.js?v=*", probe)


TREE = """async (count) => {
  const tree = (page) => {
    const first = !!page.defaultView.helper?.first;
    for (const each of page.querySelectorAll('script[src^="/.zt/session.js"]')) each.remove();
    const attributes = (element) => [...element.attributes].map((each) => each.name + '=' + each.value);
    return {first, tree: [page.compatMode, page.doctype?.publicId ?? null, page.characterSet,
      attributes(page.documentElement), attributes(page.head), page.body?.textContent.trim(),
      [...page.head.children, ...(page.body?.children ?? [])].map((each) => each.outerHTML)]};
  };
  return await Promise.all([...Array(count).keys()].map((number) => new Promise((done) => {
    const frame = document.createElement('iframe');
    frame.onload = () => done(tree(frame.contentDocument));
    frame.src = '/page/' + number;
    document.body.append(frame);
  })));
}"""


async def test_no_page_is_parsed_otherwise_because_of_it(lab: Lab) -> None:
    """Chromium's parser has the last word on where a head begins, and on which pages are in quirks mode."""
    for number, marked in enumerate(PAGES):
        body = marked.replace(b"^", b"")
        lab.answers[b"/page/%d" % number] = lab.page(body, charset="utf-8")
    injected, plain = [await lab.visit(host, TREE, b"<body>", argument=len(PAGES)) for host in (APP, PLAIN)]
    for marked, one, other in zip(PAGES, injected, plain, strict=True):
        assert (one["first"], other["first"]) == (True, False), marked
        assert one["tree"] == other["tree"], marked
