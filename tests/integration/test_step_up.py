"""A proof that is missing in the middle of somebody's work: asked for, given, and the work goes on."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from tests.lab.browser import LOGIN, NAVIGATE, SESSION, Browser, Page
from tests.lab.fleet import Fleet
from tests.lab.proxy import APP, allow
from tests.lab.world import HOME, MINUTE, World, refusal, world
from zt_proxy.config import read
from zt_proxy.control.session.manager import open_sessions
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.handoff import Handoff, Purpose, open_handoff
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Level, Proof
from zt_proxy.policy.spec import RuleSpec

RULES: tuple[RuleSpec, ...] = (
    allow("release", methods=("POST",), paths=("/release",), once=True),
    allow("deploy", paths=("/deploy", "/deploy/**"), reauth=5 * MINUTE),
    allow("vault", paths=("/vault",), level=Level.PHISHING_RESISTANT),
    allow("staff", paths=("/", "/flows", "/notes", "/edit")),
)
URLENCODED = "application/x-www-form-urlencoded"
TEXT = b"name=Zo%C3%AB&note=a+long+text"


@asynccontextmanager
async def stale(**more: Any) -> AsyncIterator[tuple[World, Browser]]:
    """A person whose sign-in is too old for what they are about to do."""
    async with world(RULES, **more) as w:
        person = await w.person()
        await w.lab.advance(10 * MINUTE)
        yield w, person


async def submit(browser: Browser, url: str, body: bytes, kind: str = URLENCODED, **replaced: str) -> Page:
    """A person sends a form of the app's own page; no redirect is followed."""
    headers = {
        **NAVIGATE,
        "Sec-Fetch-Site": "same-origin",
        "Origin": HOME,
        "Referer": HOME + "/edit",
        "Content-Type": kind,
        **{name.replace("_", "-"): value for name, value in replaced.items()},
    }
    return await browser.request(url, "POST", {name: value for name, value in headers.items() if value}, body)


def onward(page: Page) -> str:
    """Where the page leads that says that a form is kept."""
    assert page.status == 200, page
    return (page.reply.header("refresh") or "").removeprefix("0; url=")


async def proven(browser: Browser, page: Page) -> Page:
    """Go on to the portal, prove what is asked, and come back to the page that sends the form on."""
    back = await browser.visit(onward(page))
    assert (back.status, urlsplit(back.url).path) == (200, "/.zt/resume"), back
    return back


async def send_on(browser: Browser, page: Page) -> Page:
    """What the page does by itself."""
    action = re.search(r'action="([^"]*)"', page.text)
    assert action is not None
    body = b"zt_resume=" + page.input("zt_resume").encode()
    return await submit(browser, urljoin(page.url, action[1].replace("&amp;", "&")), body, Referer=page.url)


def handoff_in(w: World, address: str) -> Handoff:
    control = w.lab.proxy.control
    assert control is not None
    text = parse_qs(urlsplit(address).query)["to"][0]
    return open_handoff(KeyRing.load_or_create(w.lab.directory / "state" / "worker.keys"), text, w.clock.now())


# ---- what a script is told


async def test_a_script_is_told_what_is_missing_and_where_to_give_it() -> None:
    async with stale() as (w, person):
        asked = await person.fetch(HOME + "/deploy", "POST")
        reply, problem = asked.reply, asked.reply.problem
        assert (asked.status, problem["reason"], problem["rule"]) == (401, "reauth-required", "deploy")
        assert reply.header("cache-control") == "no-store"
        assert reply.header("www-authenticate") == (
            'Bearer realm="zt-proxy", error="insufficient_user_authentication", max_age="300"'
        )
        challenge = reply.header("zt-challenge") or ""
        found = re.fullmatch(
            r'step-up; url="(/\.zt/step-up\?to=[\w%.-]+)"; level="single"; max-age=300; once=\?0; method="POST"; '
            r'scope="[0-9a-f]{16}"',
            challenge,
        )
        assert found is not None, challenge
        assert problem["step_up_url"] == HOME + found[1]
        assert (problem["level"], problem["max_age"]) == ("single", 300)
        assert reply.all("set-cookie") == []
        handoff = handoff_in(w, problem["step_up_url"])
        assert (handoff.purpose, handoff.host, handoff.target) == (Purpose.REAUTH, APP, "/")
        assert (handoff.route, handoff.rule, handoff.level, handoff.request) == ("app", "deploy", Level.SINGLE, "")
        assert handoff.sid == (await session_of(w, person)).sid
        assert b"/deploy" not in w.reached


async def session_of(w: World, browser: Browser) -> Any:
    control = w.lab.proxy.control
    assert control is not None
    records = [control.sessions._live[sid].record for sid in control.sessions._live]
    return max(records, key=lambda record: record.created)


async def test_a_level_is_asked_for_by_its_name_and_an_age_only_where_there_is_one() -> None:
    async with stale() as (_, person):
        asked = await person.fetch(HOME + "/vault")
        assert (asked.status, refusal(asked)) == (401, "mfa-required")
        assert asked.reply.header("www-authenticate") == (
            'Bearer realm="zt-proxy", error="insufficient_user_authentication", acr_values="phishing-resistant"'
        )
        assert "max-age" not in (asked.reply.header("zt-challenge") or "")
        assert 'level="phishing-resistant"' in (asked.reply.header("zt-challenge") or "")
        assert "max_age" not in asked.reply.problem


async def test_a_proof_for_one_request_names_the_request() -> None:
    async with stale() as (w, person):
        asked = await person.fetch(HOME + "/release?dry=1", "POST")
        assert (asked.reply.header("zt-challenge") or "").partition("; max-age=")[2].startswith("0; once=?1")
        assert handoff_in(w, asked.reply.problem["step_up_url"]).request == "POST /release"


async def test_several_requests_at_once_do_not_disturb_each_others_step_up() -> None:
    async with stale() as (_, person):
        asked = await asyncio.gather(
            *(person.fetch(HOME + path, "POST") for path in ("/deploy", "/release", "/deploy/b"))
        )
        assert all(page.reply.all("set-cookie") == [] for page in asked)
        for page in asked:
            done = await person.visit(page.reply.problem["step_up_url"])
            assert (done.status, done.url) == (200, HOME + "/")
        assert (await person.fetch(HOME + "/deploy", "POST")).status == 200
        assert (await person.fetch(HOME + "/release", "POST")).status == 200


async def test_a_step_up_works_long_after_the_sign_in_and_needs_no_other_cookie_than_the_sessions() -> None:
    async with stale() as (_, person):
        person.cookies(APP).pop(LOGIN, None)
        asked = await person.fetch(HOME + "/deploy", "POST")
        assert (await person.visit(asked.reply.problem["step_up_url"])).url == HOME + "/"
        assert (await person.fetch(HOME + "/deploy", "POST")).status == 200
        assert set(person.cookies(APP)) == {SESSION}


async def test_who_waits_for_events_gets_no_address_to_prove_anything_at() -> None:
    async with stale() as (_, person):
        asked = await person.fetch(HOME + "/deploy", Accept="text/event-stream")
        assert (asked.status, asked.reply.header("zt-challenge")) == (401, None)


async def test_a_small_window_ends_at_the_page_that_closes_it() -> None:
    async with stale() as (_, person):
        asked = await person.fetch(HOME + "/deploy", "POST")
        page = await person.visit(asked.reply.problem["step_up_url"] + "&window=1")
        assert (page.status, page.url) == (200, HOME + "/.zt/confirmed")
        assert (await person.fetch(HOME + "/deploy", "POST")).status == 200


# ---- a proof for one request


@pytest.mark.case("ZT-APP-02")
async def test_a_proof_for_one_request_lets_it_through_once_and_nothing_else() -> None:
    async with stale() as (w, person):
        asked = await person.fetch(HOME + "/release", "POST")
        assert (await person.visit(asked.reply.problem["step_up_url"])).url == HOME + "/"
        assert refusal(await person.fetch(HOME + "/deploy", "POST")) == "reauth-required"
        assert (await person.fetch(HOME + "/release", "POST")).status == 200
        assert refusal(await person.fetch(HOME + "/release", "POST")) == "reauth-required"
        assert w.reached.count(b"/release") == 1


async def test_of_many_requests_at_once_a_proof_lets_one_through_with_its_body() -> None:
    async with stale() as (w, person):
        asked = await person.fetch(HOME + "/release", "POST")
        await person.visit(asked.reply.problem["step_up_url"])
        bodies = [b"%d" % number * 50_000 for number in range(8)]
        origin = {"Origin": HOME, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
        pages = await asyncio.gather(*(person.request(HOME + "/release", "POST", origin, body) for body in bodies))
        assert sorted(page.status for page in pages) == [200] + [401] * 7
        (seen,) = [seen for seen in w.lab.upstream.seen if seen.target == b"/release"]
        assert seen.body in bodies
        decisions = [line for line in await w.lab.decisions() if line.get("path") == "/release"]
        assert sorted(line["effect"] for line in decisions) == ["allow"] + ["challenge"] * 8


async def test_when_control_cannot_say_nothing_passes() -> None:
    async with stale() as (w, person):
        asked = await person.fetch(HOME + "/release", "POST")
        await person.visit(asked.reply.problem["step_up_url"])
        control = w.lab.proxy.control
        assert control is not None

        async def nobody_knows(sid: str, key: str) -> bool:
            raise UnavailableError(Reason.STORE_UNAVAILABLE, "the disk is full")

        control.sessions.spend = nobody_knows  # type: ignore[method-assign]
        page = await person.fetch(HOME + "/release", "POST")
        assert (page.status, refusal(page)) == (503, "store-unavailable")
        assert page.reply.header("retry-after") is not None
        assert b"/release" not in w.reached


class Proven(Fleet):
    """Alice has proven who she is for one release, just now."""

    async def _sign_in(self) -> None:
        await super()._sign_in()
        built, clock = read(self.config), SystemClock()
        ring = KeyRing.load_or_create(built.control.state_dir / "worker.keys")
        sessions = await open_sessions(built.control, ring, clock)
        proof = Proof(clock.now(), Level.MULTI)
        await sessions.unlock(self.sids["alice"], "app", "release", proof, "POST /release")
        await sessions.close()


@pytest.mark.case("ZT-SESS-18")
async def test_of_two_workers_exactly_one_lets_a_request_through(tmp_path: Path) -> None:
    rules = (
        '{id: release, allow: [{methods: [POST], paths: ["/release"]}], to: {groups: [staff]}, require: {reauth: once}}',
        '{id: staff, allow: [{methods: [GET], paths: ["/**"]}], to: {groups: [staff]}}',
    )
    async with Proven(tmp_path, rules=rules) as fleet:
        host = f"{APP.replace('.test', '.localhost')}:{fleet.port}"
        request = (
            f"POST /release HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\nContent-Length: 2\r\nCookie: "
        ).encode() + fleet.cookies["alice"] + b"\r\n\r\nok"  # fmt: skip
        clients = [await fleet.connect() for _ in range(24)]
        for client in clients:  # both workers know the session and its proof
            await client.write(fleet.head())
            assert (await client.reply()).status == 200
        await asyncio.gather(*(client.write(request) for client in clients))
        replies = await asyncio.gather(*(client.reply("POST") for client in clients))
        assert sorted(reply.status for reply in replies) == [200] + [401] * 23
        assert [seen.target for seen in fleet.upstream.seen].count(b"/release") == 1


# ---- a question ahead


async def preflight(browser: Browser, question: object, **more: str) -> Page:
    headers = {
        "Origin": HOME,
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "cors",
        "Content-Type": "application/json",
    }
    named = {name.replace("_", "-"): value for name, value in more.items()}
    body = question if isinstance(question, bytes) else json.dumps(question).encode()
    return await browser.request(HOME + "/.zt/preflight", "POST", {**headers, **named}, body)


async def test_a_preflight_says_what_the_request_would_meet_and_changes_nothing() -> None:
    async with stale() as (w, person):
        for method, path in (("POST", "/deploy?now=1"), ("POST", "/release"), ("GET", "/vault"), ("GET", "/elsewhere")):
            told, real = (
                await preflight(person, {"method": method, "path": path}),
                await person.fetch(HOME + path, method),
            )
            assert (told.status, refusal(told)) == (real.status, refusal(real)), path
            assert told.reply.header("www-authenticate") == real.reply.header("www-authenticate")
            assert told.reply.problem.get("level") == real.reply.problem.get("level")
        asked = await preflight(person, {"method": "POST", "path": "/release"})
        handoff = handoff_in(w, asked.reply.problem["step_up_url"])
        assert (handoff.request, handoff.rule) == ("POST /release", "release")
        await person.visit(asked.reply.problem["step_up_url"])
        for _ in range(2):
            assert (await preflight(person, {"method": "POST", "path": "/release"})).status == 204
        assert (await preflight(person, {"method": "HEAD", "path": "/flows"})).status == 204
        assert (await person.fetch(HOME + "/release", "POST")).status == 200
        assert refusal(await preflight(person, {"method": "POST", "path": "/release"})) == "reauth-required"
        assert w.reached.count(b"/release") == 1
        decisions = await w.lab.decisions()
        told = [line for line in decisions if line.get("path") == "/.zt/preflight"]
        assert {(line["effect"], line["reason"]) for line in told} == {("allow", "internal")}


async def test_a_stranger_learns_no_more_from_a_preflight_than_from_the_request() -> None:
    async with world((*RULES, allow("health", public=True, paths=("/healthz",)))) as w:
        stranger = w.browser()
        for path in ("/flows", "/release", "/nowhere", "/healthz"):
            told, real = await preflight(stranger, {"method": "GET", "path": path}), await stranger.fetch(HOME + path)
            if real.status == 200:
                assert told.status == 204
            else:
                assert (told.status, refusal(told)) == (real.status, refusal(real)) == (401, "login-required")


@pytest.mark.parametrize(
    ("question", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"method": "GET"}', 400),
        ({"method": "get", "path": "/"}, 400),
        ({"method": "GET /x", "path": "/"}, 400),
        ({"method": "TRACE", "path": "/"}, 405),
        ({"method": "GET", "path": "//elsewhere.test/"}, 400),
        ({"method": "GET", "path": "https://app.test/"}, 400),
        ({"method": "GET", "path": "/a/%2e%2e%2fb"}, 400),
        ({"method": "GET", "path": "/.zt/session"}, 404),
        ({"method": "GET", "path": "/" + "a" * 5000}, 413),
    ],
)
async def test_a_preflight_that_asks_nonsense_is_refused(question: object, status: int) -> None:
    async with stale() as (_, person):
        assert (await preflight(person, question)).status == status


async def test_a_preflight_of_another_origin_is_refused() -> None:
    async with stale() as (_, person):
        question = {"method": "GET", "path": "/flows"}
        told = await preflight(person, question, Origin="https://evil.test", Sec_Fetch_Site="cross-site")
        assert (told.status, refusal(told)) == (403, "cross-origin")


# ---- forms


MULTIPART = (
    b'--zt\r\nContent-Disposition: form-data; name="name"\r\n\r\nZo\xc3\xab\r\n'
    b'--zt\r\nContent-Disposition: form-data; name="file"; filename="flows.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + bytes(range(256)) * 8000 + b"\r\n--zt--\r\n"
)


@pytest.mark.parametrize(
    ("kind", "body"),
    [(URLENCODED, TEXT), ("multipart/form-data; boundary=zt", MULTIPART), ("text/plain;charset=UTF-8", b"a=b\r\n")],
)
async def test_a_form_waits_for_the_proof_and_goes_on_as_it_was(kind: str, body: bytes) -> None:
    async with stale() as (w, person):
        kept = await submit(person, HOME + "/deploy?mode=full&x=1", body, kind)
        assert b"/deploy?mode=full&x=1" not in w.reached
        page = await proven(person, kept)
        assert "script-src 'sha256-" in (page.reply.header("content-security-policy") or "")
        done = await send_on(person, page)
        assert done.status == 200
        (seen,) = [seen for seen in w.lab.upstream.seen if seen.target.startswith(b"/deploy")]
        assert (seen.method, seen.target) == (b"POST", b"/deploy?mode=full&x=1")
        assert (seen.body, seen.header(b"content-type")) == (body, kind.encode())
        assert seen.header(b"content-length") == str(len(body)).encode()
        assert (seen.header(b"origin"), seen.header(b"referer")) == (HOME.encode(), f"{HOME}/edit".encode())
        assert not [name for name, _ in seen.headers if name.lower().startswith(b"zt-")]
        log = [line for line in await w.lab.log() if line.get("path") == "/deploy"]
        assert [(line["effect"], line["reason"]) for line in log] == [
            ("challenge", "reauth-required"),
            ("allow", "rule-allowed"),
        ]


async def test_a_form_for_a_proof_that_is_good_once_goes_on_once() -> None:
    async with stale() as (w, person):
        page = await proven(person, await submit(person, HOME + "/release", TEXT))
        assert (await send_on(person, page)).status == 200
        assert (await send_on(person, page)).status == 409
        assert [seen.body for seen in w.lab.upstream.seen if seen.target == b"/release"] == [TEXT]


async def test_two_tabs_keep_two_forms_and_each_goes_where_it_was_sent() -> None:
    async with stale() as (w, person):
        kept = [await submit(person, f"{HOME}/deploy/{tab}", b"tab=" + tab.encode()) for tab in "ab"]
        pages = [await proven(person, each) for each in kept]
        for page in reversed(pages):
            assert (await send_on(person, page)).status == 200
        sent = [(seen.target, seen.body) for seen in w.lab.upstream.seen if seen.target.startswith(b"/deploy")]
        assert sent == [(b"/deploy/b", b"tab=b"), (b"/deploy/a", b"tab=a")]


async def test_a_form_that_is_too_large_to_keep_is_said_not_to_have_been_sent() -> None:
    async with stale(worker={"form_limit": 1000}) as (w, person):
        for body, kind in ((b"x" * 1001, URLENCODED), (b"{}", "application/json")):
            page = await submit(person, HOME + "/deploy", body, kind)
            assert page.status == 401
            assert "Your form was not sent." in page.text
            assert "go back to it and send it again" in page.text
            link = page.text.partition('class="go" href="')[2].partition('"')[0]
            assert (await person.visit(link)).url == HOME + "/"
            await w.lab.advance(10 * MINUTE)
        assert w.reached.count(b"/deploy") == 0


async def test_keeping_forms_can_be_turned_off() -> None:
    async with stale(worker={"form_limit": 0}) as (_, person):
        assert (await submit(person, HOME + "/deploy", TEXT)).status == 401


async def test_a_form_that_nobody_comes_back_for_is_gone_after_its_time() -> None:
    async with stale() as (w, person):
        page = await proven(person, await submit(person, HOME + "/release", TEXT))
        await w.lab.advance(11 * MINUTE)
        assert (await send_on(person, page)).status == 409
        assert b"/release" not in w.reached


async def test_a_form_of_the_apps_that_looks_like_a_token_is_the_apps_own() -> None:
    async with stale() as (w, person):
        like = b"zt_resumes=" + b"a" * 42
        assert (await submit(person, HOME + "/edit", like)).status == 200
        assert [seen.body for seen in w.lab.upstream.seen if seen.target == b"/edit"] == [like]


async def test_a_page_that_was_left_behind_says_that_the_form_was_sent() -> None:
    async with stale() as (w, person):
        page = await proven(person, await submit(person, HOME + "/deploy", TEXT))
        await send_on(person, page)
        again = await send_on(person, page)
        assert (again.status, "This form was sent already" in again.text) == (409, True)
        assert w.reached.count(b"/deploy") == 1
