"""session.js in Chromium, popup blocker on: what needs a fresh proof is held, confirmed, and sent once more."""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.lab.step_up import StepUpLab, Tab, TestBrowser, chromium
from tests.lab.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

POST = "fetch('/act/deploy', {method: 'POST', body: 'flows'}).then(r => r.status)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def contexts() -> AsyncIterator[Callable[..., Any]]:
    async with chromium() as new_context:
        yield new_context


@pytest_asyncio.fixture(loop_scope="module")
async def lab() -> AsyncIterator[StepUpLab]:
    async with StepUpLab() as lab:
        yield lab


@pytest_asyncio.fixture(loop_scope="module")
async def browser(lab: StepUpLab, contexts: Callable[..., Any]) -> AsyncIterator[TestBrowser]:
    context = await contexts(viewport={"width": 1280, "height": 800})
    yield TestBrowser(lab, context)
    await context.close()


# ---- every way to send


async def test_a_click_that_needs_a_proof_opens_the_window_and_the_app_sees_only_its_success(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    tab = await browser.tab()
    await tab.go(POST)
    await tab.shows("Finish in the window that just opened")
    assert lab.host in await tab.said()
    await browser.confirm()
    assert await tab.out() == 200
    assert lab.bodies("/act/deploy") == [b"flows"]
    assert len(lab.challenged) == 1
    assert len(lab.windows) == 1
    await tab.shows_nothing()
    assert await tab.quiet("document.activeElement.id") == "go"


FILLED = "const f = new FormData(); f.append('a', 'ä'); f.append('file', new Blob(['x'.repeat(300000)]), 'x.bin');"
XHR = "const x = new XMLHttpRequest(); {more} x.open('POST', '/act/deploy'); {set} x.send({body}); await new Promise(r => x.onloadend = r); return [x.status, {got}];"
KINDS = {
    "JSON": "const r = await fetch('/act/deploy', {method: 'POST', headers: {'X-Mine': 'kept', 'Content-Type': 'application/json'}, body: JSON.stringify({a: 1})}); return [r.status, r.headers.get('x-kept')];",
    "FormData with a file": FILLED + "const r = await fetch('/act/deploy', {method: 'POST', body: f}); return [r.status, (await r.json()).got > 300000];",
    "FormData of 3 MB": "const f = new FormData(); f.append('file', new Blob(['x'.repeat(3e6)]), 'x.bin'); const r = await fetch('/act/deploy', {method: 'POST', body: f}); return [r.status, (await r.json()).got > 3e6];",
    "Request": "const r = await fetch(new Request('/act/deploy', {method: 'POST', body: 'text'})); return [r.status, (await r.json()).got === 4];",
    "Request with FormData": FILLED + "const r = await fetch(new Request('/act/deploy', {method: 'PUT', body: f})); return [r.status, (await r.json()).got > 300000];",
    "Request as options": "const r = await fetch('/act/deploy', new Request('/free/x', {method: 'POST', headers: {'X-Mine': 'kept'}})); return [r.status, r.headers.get('x-kept')];",
    "URLSearchParams": "const r = await fetch('/act/deploy', {method: 'POST', body: new URLSearchParams({a: 'b&'})}); return [r.status, (await r.json()).got === 6];",
    "buffer that is used again": "const b = new Uint8Array([1, 2, 3]); const p = fetch('/act/deploy', {method: 'POST', body: b}); b.fill(9); const r = await p; return [r.status, (await r.json()).digest];",
    "GET": "const r = await fetch('/act/deploy?x=1'); return [r.status, (await r.json()).got === 0];",
    "XHR": XHR.format(more="", set="x.setRequestHeader('X-Mine', 'kept');", body="'text'", got="x.getResponseHeader('X-Kept')"),
    "XHR as JSON": XHR.format(more="", set="x.responseType = 'json';", body="new Blob(['text'])", got="x.response.got"),
    "XHR as buffer": XHR.format(more="", set="x.responseType = 'arraybuffer'; x.timeout = 600000;", body="'text'", got="x.response.byteLength > 10 && x.timeout === 600000"),
    "XHR with a MIME type of its own": XHR.format(more="", set="x.overrideMimeType('text/xml');", body="'text'", got="x.responseURL"),
    "XHR of 3 MB": XHR.format(more="", set="", body="'x'.repeat(3e6)", got="JSON.parse(x.responseText).got"),
    "XHR of an older constructor": "const x = new old(); " + XHR.split(";", 1)[1].format(more="", set="", body="'text'", got="x instanceof XMLHttpRequest"),
    "XHR twice": "const x = new XMLHttpRequest(); const once = (p) => new Promise(r => { x.onload = () => r(x.status); x.open('POST', p); x.send('x'); }); return [await once('/act/deploy'), await once('/free/x')];",
    "axios": "const r = await axios.post('/act/deploy', {a: 1}, {headers: {'X-Mine': 'kept'}}); return [r.status, r.headers['x-kept']];",
    "axios over fetch": "const r = await axios.post('/act/deploy', {a: 1}, {adapter: 'fetch'}); return [r.status, r.data.got];",
    "axios with progress": FILLED + "const seen = []; const r = await axios.post('/act/deploy', f, {onUploadProgress: (e) => seen.push(e.progress)}); return [r.status, seen.at(-1)];",
    "jQuery": "const r = await new Promise((yes, no) => jQuery.ajax({url: '/act/deploy', method: 'POST', data: {a: 'b'}}).then((d, s, x) => yes([x.status, d.got]), no)); return r;",
    "htmx": "const f = document.getElementById('form'); f.setAttribute('hx-post', '/act/deploy'); f.setAttribute('hx-target', '#more'); f.setAttribute('hx-trigger', 'now'); htmx.process(f); const done = new Promise(r => f.addEventListener('htmx:afterRequest', (e) => r(e.detail.xhr.status))); htmx.trigger(f, 'now'); return [await done, document.getElementById('more').textContent.includes('got')];",
    "htmx multipart": "const f = document.getElementById('form'); f.setAttribute('hx-post', '/act/deploy'); f.setAttribute('hx-encoding', 'multipart/form-data'); f.setAttribute('hx-trigger', 'now'); htmx.process(f); const done = new Promise(r => f.addEventListener('htmx:afterRequest', (e) => r(e.detail.xhr.status))); htmx.trigger(f, 'now'); return [await done, 1];",
}
EXPECTED = {
    "JSON": "kept", "Request as options": "kept", "XHR": "kept", "XHR as JSON": 4, "XHR of 3 MB": 3_000_000,
    "buffer that is used again": hashlib.sha256(b"\1\2\3").hexdigest(), "XHR twice": 200, "axios": "kept",
    "axios over fetch": 7, "axios with progress": 1, "jQuery": 3, "htmx multipart": 1,
}  # fmt: skip


async def test_every_way_to_send_goes_out_once_more_with_its_body_and_headers(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    lab.automatic = True
    for kind, script in KINDS.items():
        lab.proofs.clear()
        lab.arrived.clear()
        tab = await browser.tab("/", ("axios", "jquery", "htmx"))
        await tab.go(f"(async () => {{ {script} }})()")
        status, got = await tab.out()
        if kind == "XHR with a MIME type of its own":
            got = got == f"{lab.origin}/act/deploy"
        assert (kind, status, got) == (kind, 200, EXPECTED.get(kind, True))
        assert [sent.path for sent in lab.arrived if "act" in sent.path] == ["/act/deploy"], kind
        assert await tab.quiet("errors") == [], kind
        await tab.page.close()
