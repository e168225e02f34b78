"""session.js in Chromium, popup blocker on: what needs a fresh proof is held, confirmed, and sent once more."""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.lab.step_up import StepUpLab, TestBrowser, chromium
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
    "FormData with a file": FILLED
    + "const r = await fetch('/act/deploy', {method: 'POST', body: f}); return [r.status, (await r.json()).got > 300000];",
    "FormData of 3 MB": "const f = new FormData(); f.append('file', new Blob(['x'.repeat(3e6)]), 'x.bin'); const r = await fetch('/act/deploy', {method: 'POST', body: f}); return [r.status, (await r.json()).got > 3e6];",
    "Request": "const r = await fetch(new Request('/act/deploy', {method: 'POST', body: 'text'})); return [r.status, (await r.json()).got === 4];",
    "Request with FormData": FILLED
    + "const r = await fetch(new Request('/act/deploy', {method: 'PUT', body: f})); return [r.status, (await r.json()).got > 300000];",
    "Request as options": "const r = await fetch('/act/deploy', new Request('/free/x', {method: 'POST', headers: {'X-Mine': 'kept'}})); return [r.status, r.headers.get('x-kept')];",
    "URLSearchParams": "const r = await fetch('/act/deploy', {method: 'POST', body: new URLSearchParams({a: 'b&'})}); return [r.status, (await r.json()).got === 6];",
    "buffer that is used again": "const b = new Uint8Array([1, 2, 3]); const p = fetch('/act/deploy', {method: 'POST', body: b}); b.fill(9); const r = await p; return [r.status, (await r.json()).digest];",
    "GET": "const r = await fetch('/act/deploy?x=1'); return [r.status, (await r.json()).got === 0];",
    "XHR": XHR.format(
        more="", set="x.setRequestHeader('X-Mine', 'kept');", body="'text'", got="x.getResponseHeader('X-Kept')"
    ),
    "XHR as JSON": XHR.format(more="", set="x.responseType = 'json';", body="new Blob(['text'])", got="x.response.got"),
    "XHR as buffer": XHR.format(
        more="",
        set="x.responseType = 'arraybuffer'; x.timeout = 600000;",
        body="'text'",
        got="x.response.byteLength > 10 && x.timeout === 600000",
    ),
    "XHR with a MIME type of its own": XHR.format(
        more="", set="x.overrideMimeType('text/xml');", body="'text'", got="x.responseURL"
    ),
    "XHR of 3 MB": XHR.format(more="", set="", body="'x'.repeat(3e6)", got="JSON.parse(x.responseText).got"),
    "XHR of an older constructor": "const x = new old(); "
    + XHR.split(";", 1)[1].format(more="", set="", body="'text'", got="x instanceof XMLHttpRequest"),
    "XHR twice": "const x = new XMLHttpRequest(); const once = (p) => new Promise(r => { x.onload = () => r(x.status); x.open('POST', p); x.send('x'); }); return [await once('/act/deploy'), await once('/free/x')];",
    "axios": "const r = await axios.post('/act/deploy', {a: 1}, {headers: {'X-Mine': 'kept'}}); return [r.status, r.headers['x-kept']];",
    "axios over fetch": "const r = await axios.post('/act/deploy', {a: 1}, {adapter: 'fetch'}); return [r.status, r.data.got];",
    "axios with progress": FILLED
    + "const seen = []; const r = await axios.post('/act/deploy', f, {onUploadProgress: (e) => seen.push(e.progress)}); return [r.status, seen.at(-1)];",
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
    tab = await browser.tab("/", ("axios", "jquery", "htmx"))
    for kind, script in KINDS.items():
        lab.proofs.clear()
        lab.arrived.clear()
        await tab.go(f"(async () => {{ {script} }})()")
        status, got = await tab.out()
        if kind == "XHR with a MIME type of its own":
            got = got == f"{lab.origin}/act/deploy"
        assert (kind, status, got) == (kind, 200, EXPECTED.get(kind, True))
        assert [sent.path for sent in lab.arrived if "act" in sent.path] == ["/act/deploy"], kind
        assert await tab.quiet("errors") == [], kind
        await tab.shows_nothing()
    assert len(lab.windows) == len(KINDS)


RECORD = """(async () => {
  const x = new XMLHttpRequest(), seen = []; window.x = x;
  const add = (target, name, types) => types.forEach((type) => target.addEventListener(type, () =>
    seen.push(name + (type === 'readystatechange' ? 'rs' + x.readyState + '/' + x.status : type))));
  add(x, '', ['readystatechange', 'loadstart', 'progress', 'load', 'loadend', 'error', 'abort', 'timeout']);
  add(x.upload, 'up.', ['loadstart', 'progress', 'load', 'loadend']);
  x.open('POST', '%s'); x.send('text');
  await new Promise((done) => x.addEventListener('loadend', done));
  return [seen, x.responseText, x.getResponseHeader('Content-Type'), x.responseURL];
})()"""


async def test_xhr_events_of_a_held_request_are_those_of_one_that_passed(lab: StepUpLab, browser: TestBrowser) -> None:
    lab.automatic = True
    tab = await browser.tab()
    await tab.go(RECORD % "/free/deploy")
    plain, *more = await tab.out()
    await tab.go(RECORD % "/act/deploy")
    held, *same = await tab.out()
    assert held == plain
    assert same[:2] == more[:2]
    assert held[0] == "rs1/0"
    assert held[-2:] == ["load", "loadend"]


async def test_a_cancelled_request_gets_its_own_401_with_everything_in_it(lab: StepUpLab, browser: TestBrowser) -> None:
    bare = await browser.tab("/?bare=1")
    await bare.go(RECORD % "/act/deploy")
    plain = await bare.out()
    tab = await browser.tab()
    await tab.go(RECORD % "/act/deploy")
    await tab.shows("Finish in the window")
    assert await tab.quiet("[x.readyState, x.status, x.responseText, x.getResponseHeader('a')]") == [1, 0, "", None]
    await tab.press("Cancel")
    assert await tab.out() == plain
    await tab.shows_nothing()
    await tab.go(POST.replace("r.status", "r.json()"))
    await tab.press("Cancel")
    assert (await tab.out())["title"] == "Confirm it is you"
    assert lab.arrived == [] or all("act" not in sent.path for sent in lab.arrived)


async def test_an_app_that_gives_up_while_it_is_held_sees_an_abort_and_the_proof_is_not_lost(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    tab = await browser.tab()
    await tab.go(RECORD % "/act/deploy")
    await tab.shows("Finish in the window")
    await tab.quiet("x.abort(), 0")
    seen, text, *_ = await tab.out()
    assert seen[-3:] == ["rs4/0", "abort", "loadend"]
    assert text == ""
    await browser.confirm()
    await tab.shows("Please do it once more")
    await tab.go(POST)
    assert await tab.out() == 200
    assert len(lab.windows) == 1

    lab.proofs.clear()
    await tab.go("window.c = new AbortController(), fetch('/act/deploy', {method: 'POST', signal: c.signal})")
    await tab.shows("Finish in the window")
    await tab.quiet("c.abort(new Error('changed my mind')), 0")
    assert await tab.out() == {"error": "changed my mind"}


async def test_ten_requests_at_once_share_one_window_and_go_out_once_each(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    one = "new Promise(r => { const x = new XMLHttpRequest(); x.onload = () => r(x.status); x.open('POST', '/act/deploy'); x.send('x' + %d); })"
    two = "fetch('/act/deploy', {method: 'POST', body: 'f' + %d}).then(r => r.status)"
    await tab.go("Promise.all([" + ",".join((one if n % 2 else two) % n for n in range(10)) + "])")
    await browser.confirm()
    assert await tab.out() == [200] * 10
    assert len(set(lab.bodies("/act/deploy"))) == len(lab.bodies("/act/deploy")) == 10
    assert len(lab.windows) == 1


async def test_two_tabs_need_one_confirmation(lab: StepUpLab, browser: TestBrowser) -> None:
    first, second = await browser.tab(), await browser.tab()
    await first.page.bring_to_front()
    await first.go(POST)
    await browser.window()
    await second.page.bring_to_front()
    await second.go(POST)
    await second.shows("in another tab")
    await browser.confirm()
    assert [await first.out(), await second.out()] == [200, 200]
    assert len(lab.windows) == 1


async def test_a_tab_that_waited_for_another_asks_by_itself_when_that_one_is_cancelled(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    first, second = await browser.tab(), await browser.tab()
    await first.go(POST)
    await browser.window()
    await second.page.bring_to_front()
    await second.go(POST)
    await second.shows("in another tab")
    await first.page.bring_to_front()
    await first.press("Cancel")
    assert await first.out() == 401
    await second.page.bring_to_front()
    await second.press("Confirm it is you")
    await browser.confirm()
    assert await second.out() == 200


async def test_a_request_in_a_frame_is_asked_for_by_the_outer_page(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.quiet("""(async () => { const f = document.createElement('iframe'); f.src = '/frame'; f.id = 'inner';
        const loaded = new Promise(r => f.onload = r); document.body.append(f); await loaded; })()""")
    await tab.quiet("window.inner = document.getElementById('inner').contentWindow, 0")
    await tab.go("inner.fetch('/act/deploy', {method: 'POST', body: 'in'}).then(r => r.status)")
    await tab.shows("Finish in the window")
    assert await tab.quiet("inner.document.querySelector('zt-session')") is None
    await browser.confirm()
    assert await tab.out() == 200
    assert await tab.quiet("inner.zt === window.zt")


# ---- the window


async def test_a_window_that_is_refused_becomes_a_dialog_with_a_button(lab: StepUpLab, browser: TestBrowser) -> None:
    lab.wait = 5.5  # Chromium forgets the click after five seconds
    tab = await browser.tab()
    await tab.go(POST)
    await tab.shows("Nothing you entered is lost")
    assert browser.windows() == []
    assert (
        await tab.quiet("document.querySelector('zt-session').shadowRoot.activeElement.textContent")
        == "Confirm it is you"
    )
    lab.wait = 0
    await tab.press("Confirm it is you")
    await browser.confirm()
    assert await tab.out() == 200
    assert lab.bodies("/act/deploy") == [b"flows"]


async def test_a_window_that_the_browser_itself_refuses_becomes_a_dialog_too(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    tab = await browser.tab()
    await tab.go(
        "(window.open('/free/x', 'theirs', 'popup'), fetch('/act/deploy', {method: 'POST'}).then(r => r.status))"
    )
    await tab.shows("Nothing you entered is lost")  # the app's own window has used the click up
    await tab.press("Confirm it is you")
    await browser.confirm()
    assert await tab.out() == 200


@pytest.mark.parametrize("app", ["unsafe-none", "same-origin", "same-origin-allow-popups"])
@pytest.mark.parametrize("portal", ["unsafe-none", "same-origin"])
async def test_isolated_pages_on_the_way_do_not_matter(
    lab: StepUpLab, browser: TestBrowser, app: str, portal: str
) -> None:
    lab.app_headers = {"Cross-Origin-Opener-Policy": app}
    lab.portal_headers = {"Cross-Origin-Opener-Policy": portal}
    lab.preflight = False  # the poll does not help
    tab = await browser.tab()
    await tab.go(POST)
    await browser.confirm()
    assert await tab.out() == 200


async def test_the_poll_notices_what_no_message_told(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.go(POST)
    await (await browser.window()).close()
    await tab.shows("Open it again")  # a closed window is no answer
    assert await tab.quiet("window.out") is None
    lab.proofs.add("act/deploy")
    assert await tab.out() == 200
    await tab.shows_nothing()


STRICT = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'none'; img-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


async def test_trusted_types_and_a_strict_policy_are_no_obstacle(lab: StepUpLab, browser: TestBrowser) -> None:
    lab.app_headers = {"Content-Security-Policy": STRICT}
    tab = await browser.tab()
    await tab.go(POST)
    await tab.shows("Finish in the window")
    look = "getComputedStyle(document.querySelector('zt-session').shadowRoot.querySelector('dialog')).borderRadius"
    assert await tab.quiet(look) == "14.4px"
    await browser.confirm()
    assert await tab.out() == 200
    assert await tab.quiet("errors") == []


async def test_keys_in_the_dialog_do_not_reach_the_app_and_escape_cancels(lab: StepUpLab, browser: TestBrowser) -> None:
    lab.wait = 5.2
    tab = await browser.tab()
    await tab.go(POST)
    await tab.shows("Nothing you entered is lost")
    await tab.quiet("keys.length = 0")
    for key in ("Delete", "a", "Tab", "Tab", "Tab"):
        await tab.page.keyboard.press(key)
    await tab.page.mouse.click(5, 5)  # beside it: the focus may be anywhere now
    await tab.page.keyboard.press("Delete")
    await tab.page.keyboard.press("Escape")
    assert await tab.out() == 401
    assert await tab.quiet("keys.filter((key) => key !== 'Escape')") == []


async def test_leaving_is_asked_about_while_something_waits(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    asked: list[str] = []

    async def stay(dialog: Any) -> None:
        asked.append(dialog.type)
        await dialog.dismiss()

    tab.page.on("dialog", stay)
    await tab.go(POST)
    await browser.window()
    await tab.quiet("setTimeout(() => location.assign('/frame'), 0), 0")
    await until(lambda: asked == ["beforeunload"])
    await browser.confirm()
    assert await tab.out() == 200
    await tab.quiet("setTimeout(() => location.assign('/frame'), 0), 0")
    await tab.page.wait_for_url("**/frame")
    assert asked == ["beforeunload"]


# ---- what is followed, and how often


async def test_a_proof_that_does_not_count_ends_in_the_401_and_not_in_a_loop(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    lab.satisfied = False
    lab.automatic = True
    tab = await browser.tab()
    await tab.go(POST)
    assert await tab.out() == 401
    assert len(lab.challenged) == 2
    assert len(lab.windows) == 1
    await tab.shows_nothing()


@pytest.mark.parametrize("scoped", [True, False])
async def test_requests_of_two_rules_are_asked_for_one_after_the_other(
    lab: StepUpLab, browser: TestBrowser, scoped: bool
) -> None:
    lab.scoped = scoped
    tab = await browser.tab()
    await tab.go(
        "Promise.all(['/act/deploy', '/act/delete'].map((p) => fetch(p, {method: 'POST'}).then(r => r.status)))"
    )
    await browser.confirm()
    await tab.press("Confirm it is you")
    await browser.confirm()
    assert await tab.out() == [200, 200]
    assert sorted(lab.windows) == ["act/delete", "act/deploy"]
    assert len(lab.arrived) - sum("free" in sent.path for sent in lab.arrived) == 2


async def test_a_proof_that_is_good_once_is_asked_for_each_request(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.go(
        "Promise.all([1, 2].map((n) => fetch('/once/wipe', {method: 'POST', body: 'x' + n}).then(r => r.status)))"
    )
    await browser.confirm()
    await tab.press("Confirm it is you")
    await browser.confirm()
    assert await tab.out() == [200, 200]
    assert sorted(lab.bodies("/once/wipe")) == [b"x1", b"x2"]


@pytest.mark.case("ZT-REDIR-01")
@pytest.mark.parametrize(
    "url", ["https://evil.test/.zt/step-up", "//evil.test/.zt/step-up", "/step-up", "/.zt/../x", "javascript:alert(1)"]
)
async def test_a_challenge_that_leads_elsewhere_is_not_followed(lab: StepUpLab, browser: TestBrowser, url: str) -> None:
    lab.challenge_url = url
    tab = await browser.tab()
    await tab.go(POST)
    assert await tab.out() == 401
    await tab.shows_nothing()
    assert len(browser.context.pages) == 1


async def test_an_answer_of_401_without_our_challenge_is_the_apps_own(lab: StepUpLab, browser: TestBrowser) -> None:
    lab.challenge_url = ""
    tab = await browser.tab()
    await tab.go("fetch('/over/x', {method: 'POST'}).then(r => r.status)")
    assert await tab.out() == 401
    await tab.go("fetch('http://127.0.0.1:1/').catch(() => 'foreign')")
    assert await tab.out() == "foreign"
    await tab.go("fetch('http://[').catch((e) => e.name)")
    assert await tab.out() == "TypeError"


async def test_a_page_with_a_base_of_its_own_asks_this_proxy(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.quiet(
        "{ const b = document.createElement('base'); b.href = 'http://127.0.0.1:1/'; document.head.prepend(b); } 0"
    )
    await tab.go("fetch(location.origin + '/act/deploy', {method: 'POST', body: 'x'.repeat(2e6)}).then(r => r.status)")
    await browser.confirm()
    assert await tab.out() == 200
    assert lab.asked_ahead[0]["path"] == "/act/deploy"


async def test_a_large_body_is_asked_for_ahead_and_sent_once(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.go("fetch('/act/deploy?a=1', {method: 'PUT', body: 'x'.repeat(2e6)}).then(r => r.status)")
    await browser.confirm()
    assert await tab.out() == 200
    assert lab.challenged == []
    assert lab.asked_ahead[0] == {"method": "PUT", "path": "/act/deploy?a=1"}


async def test_a_synchronous_request_gets_its_401_and_works_at_the_next_try(
    lab: StepUpLab, browser: TestBrowser
) -> None:
    tab = await browser.tab()
    job = "(() => { const x = new XMLHttpRequest(); x.open('POST', '/act/deploy', false); x.send('s'); return x.status; })()"
    await tab.go(job)
    assert await tab.out() == 401
    await browser.confirm()
    await tab.shows("Please do it once more")
    await tab.go(job)
    assert await tab.out() == 200


# ---- who is asked


async def test_polls_never_prompt_not_even_right_after_a_click(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    poll = "fetch('/poll/news').then(r => r.status)"
    await tab.background(poll)
    assert await tab.out() == 401
    await tab.go(poll)
    assert await tab.out() == 401
    await tab.shows_nothing()
    tab = await browser.tab()
    await tab.background(RECORD.replace("'POST'", "'GET'") % "/poll/more")
    assert (await tab.out())[0][-1] == "loadend"
    await tab.shows_nothing()
    assert browser.windows() == []


async def test_an_autosave_waits_behind_a_quiet_note_that_takes_no_focus(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.quiet("document.getElementById('text').focus()")
    await tab.background(POST)
    await tab.shows("Your last change is waiting")
    assert await tab.quiet("document.activeElement.id") == "text"
    assert browser.windows() == []
    assert lab.arrived == [] or lab.bodies("/act/deploy") == []
    await tab.press("Confirm")
    await browser.confirm()
    assert await tab.out() == 200
    assert lab.bodies("/act/deploy") == [b"flows"]


async def test_a_note_that_is_put_away_lets_the_autosave_fail(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.background(POST)
    await tab.press("Not now")
    assert await tab.out() == 401
    await tab.shows_nothing()


async def test_a_note_nobody_answers_ends_after_two_minutes(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.page.clock.install()
    await tab.page.reload()
    await tab.until("document.readyState === 'complete'")
    await tab.background(POST)
    await tab.shows("Your last change is waiting")
    await tab.page.clock.fast_forward(119_000)
    assert await tab.quiet("window.out") is None
    await tab.page.clock.fast_forward(2_000)
    assert await tab.out() == 401
    await tab.shows_nothing()


async def test_a_click_joins_the_waiting_autosave_and_both_go_out(lab: StepUpLab, browser: TestBrowser) -> None:
    tab = await browser.tab()
    await tab.quiet("window.first = fetch('/act/deploy', {method: 'POST', body: 'auto'}).then(r => r.status), 0")
    await tab.shows("Your last change is waiting")
    await tab.go(POST)
    await browser.confirm()
    assert await tab.out() == 200
    assert await tab.quiet("first") == 200
    assert len(lab.windows) == 1


# ---- how it looks


@pytest.mark.parametrize("width", [320, 1280])
async def test_nothing_is_wider_than_the_window_and_every_control_has_a_name(
    lab: StepUpLab, browser: TestBrowser, width: int
) -> None:
    tab = await browser.tab()
    await tab.page.set_viewport_size({"width": width, "height": 640})
    await tab.background(POST)
    await tab.shows("Your last change is waiting")
    inside = """[...document.querySelector('zt-session').shadowRoot.querySelectorAll('*')].every((element) => {
        const box = element.getBoundingClientRect(); return box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight; })"""
    await tab.until(inside)
    await tab.press("Confirm")
    await tab.shows("Finish in the window")
    await tab.until(inside)
    named = await tab.quiet(
        """(() => { const root = document.querySelector('zt-session').shadowRoot, dialog = root.querySelector('dialog');
        const text = (name) => root.getElementById(dialog.getAttribute(name)).textContent;
        return [text('aria-labelledby'), text('aria-describedby'), dialog.matches(':modal')]; })()"""
    )
    assert named == ["Confirm it is you", await tab.quiet(
        "`Finish in the window that just opened. ${location.host} then goes on by itself.`"
    ), True]  # fmt: skip
    await browser.confirm()
    assert await tab.out() == 200


# ---- what is no proof


@pytest.mark.parametrize(
    ("ask", "title"), [("justify", "Say why"), ("approve", "Somebody else has to agree"), ("toString", "Confirm it is")]
)
async def test_the_words_are_those_of_what_is_asked(lab: StepUpLab, browser: TestBrowser, ask: str, title: str) -> None:
    lab.ask = ask
    tab = await browser.tab()
    await tab.go(POST)
    await tab.shows(title)
    await browser.confirm()
    assert await tab.out() == 200
    assert lab.bodies("/act/deploy") == [b"flows"]
