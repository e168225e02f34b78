"""Sessions end to end: sign-in over two hosts and a provider, step-up, time-outs, revocation, sign-out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.lab.browser import LOGIN, SESSION, Browser, Page, provider_of
from tests.lab.idp import ABSENT, MockIdp
from tests.lab.proxy import APP, ORIGIN, PORTAL, ProxyLab, allow, lab_route
from tests.lab.waiting import until
from zt_proxy.control.settings import SessionSettings
from zt_proxy.core.clock import Clock, ManualClock, SystemClock
from zt_proxy.policy.spec import RuleSpec

OTHER = "other.test"
HOME, ELSEWHERE, AUTH = f"https://{APP}", f"https://{OTHER}", f"https://{PORTAL}"
MINUTE, HOUR = 60.0, 3600.0
STEP_UP = (
    allow("deploy", paths=("/deploy/**", "/deploy"), reauth=5 * MINUTE),
    allow("export", paths=("/export",), reauth=5 * MINUTE),
    allow("staff", paths=("/", "/flows", "/notes")),
)


class World:
    """A proxy before two apps, a provider, and a clock of the test's own."""

    def __init__(self, lab: ProxyLab, idp: MockIdp, clock: ManualClock) -> None:
        self.lab = lab
        self.idp = idp
        self.clock = clock

    def browser(self) -> Browser:
        return Browser(self.lab)

    async def person(self) -> Browser:
        """Somebody who is signed in at the first app."""
        browser = self.browser()
        assert (await browser.visit(HOME + "/")).status == 200
        return browser

    @property
    def visits(self) -> int:
        """How often a browser was sent to the provider."""
        return self.idp.requests["authorize"]

    @property
    def reached(self) -> list[bytes]:
        return [seen.target for seen in self.lab.upstream.seen]


@asynccontextmanager
async def world(
    rules: tuple[RuleSpec, ...] = (allow(),),
    *,
    other: tuple[RuleSpec, ...] = (allow(),),
    clock: Clock | None = None,
    route: dict[str, Any] | None = None,
    **lab: Any,
) -> AsyncIterator[World]:
    time = clock or ManualClock()
    routes = (lab_route("app", APP, rules, **(route or {})), lab_route("other", OTHER, other))
    async with (
        MockIdp(clock=time) as idp,
        ProxyLab(providers=(provider_of(idp),), routes=routes, clock=time, **lab) as running,
    ):
        yield World(running, idp, time)  # type: ignore[arg-type]


def refusal(page: Page) -> str:
    reason: str = page.reply.problem["reason"]
    return reason


# ---- sign-in ----


@pytest.mark.case("ZT-SESS-02")
async def test_a_sign_in_leads_over_portal_and_provider_back_to_where_it_began() -> None:
    async with world() as w:
        browser = w.browser()
        page = await browser.visit(HOME + "/flows?tab=1&x=%2e")
        assert (page.status, page.reply.body) == (200, b"ok")
        assert page.hosts == [APP, PORTAL, urlsplit(w.idp.issuer).netloc, PORTAL, APP, APP]
        assert page.hops[0] == page.hops[-1].replace("x=.", "x=%2e") == HOME + "/flows?tab=1&x=%2e"
        assert [seen.header(b"cookie") for seen in w.lab.upstream.seen] == [None]
        assert browser.set_cookies
        for host, line in browser.set_cookies:
            name, *attributes = line.split("; ")
            assert name.startswith("__Host-zt")
            assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes), (host, line)
            assert "domain" not in line.lower()
            assert len(line) <= 4096


async def test_the_second_app_needs_no_second_sign_in_and_gets_a_cookie_of_its_own() -> None:
    async with world() as w:
        browser = await w.person()
        page = await browser.visit(ELSEWHERE + "/")
        assert page.status == 200
        assert page.hosts == [OTHER, PORTAL, OTHER, OTHER]
        assert w.visits == 1
        values = [browser.cookies(host)[SESSION] for host in (APP, OTHER, PORTAL)]
        assert len(set(values)) == 3
        for host, foreign in ((APP, values[1]), (OTHER, values[0]), (APP, values[2]), (PORTAL, values[0])):
            reply = await w.lab.get("/", f"{SESSION}={foreign}".encode(), host=host)
            assert reply.status == 401, host


@pytest.mark.case("ZT-OIDC-01")
async def test_cookies_planted_before_the_sign_in_are_worth_nothing_after_it() -> None:
    async with world() as w:
        attacker = await w.person()
        victim = w.browser()
        planted = {SESSION: attacker.cookies(APP)[SESSION], LOGIN: "A" * 43}
        assert w.lab.proxy.control is not None
        sessions = w.lab.proxy.control.sessions
        for sid in set(sessions._live):
            await sessions.end(sid, "signed-out")
        victim.cookies(APP).update(planted)
        victim.cookies(PORTAL)[SESSION] = attacker.cookies(PORTAL)[SESSION]
        w.idp.user = "bob"
        assert (await victim.visit(HOME + "/")).status == 200
        assert victim.cookies(APP)[SESSION] != planted[SESSION]
        assert (await w.lab.get("/", f"{SESSION}={planted[SESSION]}".encode())).status == 401


@pytest.mark.case("ZT-OIDC-01")
async def test_a_code_and_a_state_work_in_their_own_browser_alone_and_once() -> None:
    async with world() as w:
        attacker, victim = w.browser(), w.browser()
        await attacker.request(HOME + "/")
        stopped = await attacker.visit(HOME + "/", until="/.zt/callback")
        callback = stopped.location
        assert (await victim.request(callback)).status == 400
        assert SESSION not in victim.cookies(PORTAL)
        handed = await attacker.request(callback)
        resume = handed.location
        assert resume.startswith(HOME + "/.zt/resume?code=")
        assert (await victim.request(resume)).status == 400
        assert SESSION not in victim.cookies(APP)
        assert (await attacker.request(resume)).status == 400, "the victim's attempt used the code up"
        assert (await attacker.visit(HOME + "/")).status == 200
        assert w.visits == 1


@pytest.mark.case("ZT-OIDC-01")
@pytest.mark.case("ZT-SESS-18")
async def test_a_step_up_changes_the_cookie_and_the_old_one_is_dead() -> None:
    async with world(STEP_UP) as w:
        browser = await w.person()
        old = browser.cookies(APP)[SESSION]
        await w.lab.advance(10 * MINUTE)
        assert (await browser.visit(HOME + "/deploy")).status == 200
        assert browser.cookies(APP)[SESSION] != old
        assert (await w.lab.get("/", f"{SESSION}={old}".encode())).status == 401
        assert (await browser.visit(HOME + "/")).status == 200


async def test_two_tabs_may_sign_in_at_once() -> None:
    async with world() as w:
        browser = w.browser()
        tabs = [await browser.visit(HOME + path, until="/.zt/callback") for path in ("/one", "/two")]
        for tab, path in zip(tabs, ("/one", "/two"), strict=True):
            page = await browser.visit(tab.location)
            assert (page.status, page.url) == (200, HOME + path)
        again = await browser.visit(tabs[0].location)
        assert again.url in {AUTH + "/", HOME + "/"}, "the back button finds a live session"
        assert again.status == 200


async def test_background_requests_begin_no_login_and_leave_no_cookies() -> None:
    async with world() as w:
        browser = w.browser()
        pages = await asyncio.gather(*(browser.fetch(f"{HOME}/api/{number}") for number in range(20)))
        assert {page.status for page in pages} == {401}
        assert browser.set_cookies == []
        tabs = [await browser.request(f"{HOME}/{number}") for number in range(10)]
        assert {tab.status for tab in tabs} == {302}
        assert list(browser.cookies(APP)) == [LOGIN]
        assert len(browser.set_cookies) == 1
        assert (await browser.fetch(tabs[0].location)).status == 401
        assert w.visits == 0


async def test_a_browser_that_loses_the_cookie_is_told_so_at_the_third_turn() -> None:
    async with world(clock=SystemClock()) as w:
        browser = w.browser()
        browser.blocks.add(APP)
        page = await browser.visit(HOME + "/")
        assert page.url.startswith(AUTH)
        assert "login-loop" in page.text
        assert "cookie" in page.text.lower()
        assert w.visits == 1
        assert w.reached == []


async def test_without_a_second_factor_nothing_is_reached() -> None:
    async with world() as w:
        w.idp.claims = {"amr": ["pwd"], "acr": ABSENT}
        browser = w.browser()
        page = await browser.visit(HOME + "/")
        assert page.status == 403
        assert "login-mfa-missing" in page.text
        assert all(SESSION not in browser.cookies(host) for host in (APP, PORTAL))
        weak = await w.lab.sign_in(mfa=False)
        for reply in (await w.lab.get("/", weak), await w.lab.get("/", weak, b"Accept: text/html\r\n")):
            assert reply.status == 403
            assert b"mfa-required" in reply.body
        assert w.lab.upstream.connections == 0


# ---- cookies ----


@pytest.mark.case("ZT-SESS-01")
async def test_a_session_cookie_that_comes_twice_counts_for_nothing() -> None:
    async with ProxyLab() as lab:
        cookie, other = await lab.sign_in(), await lab.sign_in("bob")
        for both in (
            cookie + b"; " + other,
            cookie + b"; " + cookie,
            cookie + b"; __host-zt=x",
            b"; ".join((cookie, b"=" + cookie)),
        ):
            reply = await lab.get("/", both)
            assert (reply.status, reply.problem["reason"]) == (401, "cookie-repeated")
            cleared = reply.header("set-cookie") or ""
            assert cleared.startswith("__Host-zt=; ")
            assert {"Path=/", "Secure", "HttpOnly", "Max-Age=0"} <= set(cleared.split("; "))
        reply = await lab.get("/", cookie, b"Cookie: %b\r\n" % other)
        assert (reply.status, reply.problem["reason"]) == (401, "cookie-repeated")
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-SESS-06")
async def test_the_state_directory_holds_no_cookie_and_no_token() -> None:
    async with world() as w:
        browser = await w.person()
        await browser.visit(ELSEWHERE + "/")
        files = {path.name: path.read_bytes() for path in (w.lab.directory / "state").rglob("*") if path.is_file()}
        assert any(name.startswith("sessions.db") for name in files)
        secrets = [value for jar in browser.jar.values() for value in jar.values()]
        handles = [browser.cookies(host)[SESSION] for host in (APP, OTHER, PORTAL)]
        assert all(len(handle) >= 64 for handle in handles)
        for secret in (*secrets, *(handle[:43] for handle in handles), w.idp.last_id_token):
            assert not any(secret.encode() in content for content in files.values())


@pytest.mark.case("ZT-SESS-03")
async def test_a_session_is_one_cookie_and_pieces_of_one_are_nothing() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        name, _, value = cookie.partition(b"=")
        for pieces in (
            b"session_chunks=99999999; session_0=" + value,
            b"%b_chunks=99999999; %b_0=%b; %b_1=%b" % (name, name, value[:20], name, value[20:]),
            b"%b.0=%b; %b.1=%b" % (name, value[:20], name, value[20:]),
            b"; ".join(b"%b_%d=x" % (name, number) for number in range(500)),
        ):
            reply = await lab.get("/", pieces)
            assert (reply.status, reply.problem["reason"]) == (401, "login-required")
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-OIDC-27")
async def test_what_a_stranger_posts_is_not_kept_and_not_passed_on() -> None:
    async with ProxyLab() as lab:
        host = b"POST /save HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n" + ORIGIN
        form = b"Content-Type: application/x-www-form-urlencoded\r\n"
        for body in (
            b"Content-Length: 0\r\n\r\n",
            b"\r\n",
            b"Content-Length: 3\r\n\r\na=b",
            form + b"Content-Length: 3\r\n\r\na=b",
            form + b"Content-Length: 200000\r\n\r\n" + b"a" * 200_000,
            form + b"Content-Length: 1000000000\r\n\r\n" + b"a" * 1000,
            form + b"Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n",
        ):
            reply = await lab.send(host + body)
            assert (reply.status, reply.header("location")) == (401, None), body[:40]
            assert reply.all("set-cookie") == []
        assert lab.upstream.connections == 0
        stored = b"".join(path.read_bytes() for path in (lab.directory / "state").rglob("*") if path.is_file())
        assert b"a" * 500 not in stored


# ---- time-outs ----


@pytest.mark.case("ZT-SESS-08")
async def test_constant_use_does_not_move_the_absolute_limit() -> None:
    async with world(session=SessionSettings(idle=4 * HOUR, absolute=12 * HOUR)) as w:
        browser = await w.person()
        for hours in (3, 3, 3, 2):
            await w.lab.advance(hours * HOUR)
            assert (await browser.request(HOME + "/")).status == 200
        await w.lab.advance(59 * MINUTE)
        assert (await browser.request(HOME + "/")).status == 200, "11:59 h"
        await w.lab.advance(2 * MINUTE)
        page = await browser.fetch(HOME + "/")
        assert (page.status, refusal(page)) == (401, "session-expired"), "12:01 h"
        again = await browser.visit(HOME + "/")
        assert (again.status, w.visits) == (200, 2)


@pytest.mark.case("ZT-SESS-09")
async def test_fifteen_idle_minutes_end_a_strict_session_everywhere() -> None:
    async with world(session=SessionSettings(idle=15 * MINUTE, absolute=12 * HOUR)) as w:
        browser = await w.person()
        await browser.visit(ELSEWHERE + "/")
        await w.lab.advance(14 * MINUTE)
        assert (await browser.request(HOME + "/")).status == 200
        await w.lab.advance(14 * MINUTE)
        assert (await browser.request(ELSEWHERE + "/")).status == 200, "activity counts for the whole session"
        await w.lab.advance(15 * MINUTE + 1)
        assert refusal(await browser.fetch(HOME + "/")) in {"session-idle", "session-unknown"}
        assert (await browser.fetch(ELSEWHERE + "/")).status == 401
        assert (await browser.visit(HOME + "/")).status == 200
        assert w.visits == 2


async def test_what_a_page_does_by_itself_keeps_no_session_awake() -> None:
    async with world() as w:
        browser = await w.person()
        for _ in range(4):
            await w.lab.advance(7 * MINUTE)
            assert (await browser.fetch(HOME + "/poll")).status == 200
        await w.lab.advance(3 * MINUTE)
        assert refusal(await browser.fetch(HOME + "/poll")) == "session-idle"


async def test_an_unsafe_request_is_activity_unless_the_route_ignores_its_path() -> None:
    async with world(route={"idle_ignore": ("/heartbeat",)}) as w:
        busy, idle = await w.person(), await w.person()
        for _ in range(3):
            await w.lab.advance(15 * MINUTE)
            assert (await busy.fetch(HOME + "/save", "POST")).status == 200
            await idle.fetch(HOME + "/heartbeat", "POST")
        assert refusal(await idle.fetch(HOME + "/")) in {"session-idle", "session-unknown"}
        assert (await busy.fetch(HOME + "/")).status == 200


@pytest.mark.parametrize("way_around", ["none", "portal", "other app", "cookie deleted"])
async def test_a_route_that_finds_a_session_idle_wants_a_new_proof_whatever_happens_meanwhile(way_around: str) -> None:
    async with world(route={"idle_timeout": 5 * MINUTE}) as w:
        browser = await w.person()
        await browser.visit(ELSEWHERE + "/")
        await w.lab.advance(5 * MINUTE + 1)
        assert refusal(await browser.fetch(HOME + "/")) == "session-idle"
        if way_around == "portal":
            assert (await browser.visit(AUTH + "/")).status == 200
        elif way_around == "other app":
            assert (await browser.visit(ELSEWHERE + "/")).status == 200
        elif way_around == "cookie deleted":
            del browser.cookies(APP)[SESSION]
        assert (await browser.fetch(HOME + "/")).status == 401
        assert w.visits == 1
        page = await browser.visit(HOME + "/")
        assert (page.status, w.visits) == (200, 2)
        assert w.idp.authorizations[-1].query.get("prompt") == "login"
        assert (await browser.fetch(HOME + "/")).status == 200


async def test_a_routes_absolute_limit_only_tightens() -> None:
    async with world(route={"absolute_timeout": HOUR}) as w:
        browser = await w.person()
        for _ in range(3):
            await w.lab.advance(19 * MINUTE)
            assert (await browser.request(HOME + "/")).status == 200
        await w.lab.advance(4 * MINUTE)
        assert refusal(await browser.fetch(HOME + "/")) == "session-expired"
        assert (await browser.visit(ELSEWHERE + "/")).status == 200, "the other route has no such limit"
        assert w.visits == 1
        assert (await browser.visit(HOME + "/")).status == 200
        assert w.visits == 2


# ---- step-up ----


@pytest.mark.case("ZT-APP-02")
@pytest.mark.case("ZT-SESS-18")
async def test_a_step_up_unlocks_one_rule_of_one_route_in_one_session_for_its_time() -> None:
    async with world(STEP_UP, other=STEP_UP) as w:
        browser, second = await w.person(), await w.person()
        await browser.visit(ELSEWHERE + "/")
        await w.lab.advance(10 * MINUTE)
        asked = await browser.fetch(HOME + "/deploy", "POST")
        assert (asked.status, refusal(asked)) == (401, "reauth-required")
        assert 'max_age="300"' in (asked.reply.header("www-authenticate") or "")
        page = await browser.visit(HOME + "/deploy")
        assert (page.status, w.visits) == (200, 3)
        assert w.idp.authorizations[-1].query["prompt"] == "login"
        assert w.idp.authorizations[-1].query["max_age"] == "0"
        assert (await browser.fetch(HOME + "/deploy", "POST")).status == 200
        for url, who in (
            (HOME + "/export", browser),
            (ELSEWHERE + "/deploy", browser),
            (HOME + "/deploy", second),
        ):
            assert refusal(await who.fetch(url, "POST")) == "reauth-required", url
        await w.lab.advance(5 * MINUTE + 1)
        assert refusal(await browser.fetch(HOME + "/deploy", "POST")) == "reauth-required"
        assert w.reached.count(b"/export") == 0


@pytest.mark.case("ZT-SESS-18")
async def test_a_stale_answer_of_the_provider_unlocks_nothing() -> None:
    async with world(STEP_UP) as w:
        browser = await w.person()
        await w.lab.advance(10 * MINUTE)
        w.idp.claims = {"auth_time": int(w.clock.now() - 9 * MINUTE)}
        page = await browser.visit(HOME + "/deploy")
        assert page.status in {401, 403}
        assert "login-not-fresh" in page.text
        assert refusal(await browser.fetch(HOME + "/deploy", "POST")) == "reauth-required"
        assert (await browser.fetch(HOME + "/")).status == 200, "the session itself goes on"
        assert b"/deploy" not in w.reached


@pytest.mark.case("ZT-SESS-18")
async def test_another_person_cannot_answer_a_step_up() -> None:
    async with world(STEP_UP) as w:
        browser = await w.person()
        await w.lab.advance(10 * MINUTE)
        w.idp.user = "bob"
        page = await browser.visit(HOME + "/deploy")
        assert page.status == 403
        assert "login-other-subject" in page.text
        assert refusal(await browser.fetch(HOME + "/deploy", "POST")) == "reauth-required"
        assert b"/deploy" not in w.reached


# ---- the end ----


@pytest.mark.case("ZT-SESS-10")
async def test_a_revoked_session_loses_its_next_request_and_its_running_download() -> None:
    async with ProxyLab() as lab:
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nonly the beginning"
        sid, cookie = await lab.new_session()
        _, other = await lab.new_session("bob")
        mine, theirs = await lab.connect(), await lab.connect()
        for client, value in ((mine, cookie), (theirs, other)):
            await client.write(b"GET /big HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % value)
            assert (await client.reader.readuntil(b"the beginning")).startswith(b"HTTP/1.1 200 OK")
        assert lab.proxy.control is not None
        assert lab.proxy.worker is not None
        await lab.proxy.control.sessions.end(sid, "revoked")
        async with asyncio.timeout(1):
            assert await mine.ended() == b""
        reply = await lab.get("/", cookie)
        assert (reply.status, reply.problem["reason"]) == (401, "session-unknown")
        assert len(list(lab.proxy.worker.listeners[0].exchanges())) == 1, "the other session's download goes on"


@pytest.mark.case("ZT-SESS-10")
async def test_a_disabled_person_is_out_of_every_session_also_in_the_middle_of_an_upload() -> None:
    async with ProxyLab() as lab:
        cookies = [await lab.sign_in() for _ in range(3)]
        client = await lab.connect()
        head = b"POST /up HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%bContent-Length: 1000\r\n\r\nabc"
        await client.write(head % (cookies[0], ORIGIN))
        assert lab.proxy.control is not None
        await until(lambda: lab.upstream.connections == 1)
        assert await lab.proxy.control.sessions.end_subject("https://idp.test", "alice", "disabled") == 3
        async with asyncio.timeout(1):
            await client.ended()
        assert [(await lab.get("/", cookie)).status for cookie in cookies] == [401] * 3
        assert lab.upstream.seen == []


@pytest.mark.case("ZT-SESS-05")
async def test_signing_out_ends_the_session_at_every_host_and_removes_the_cookie() -> None:
    async with world() as w:
        browser = await w.person()
        await browser.visit(ELSEWHERE + "/")
        before = {host: browser.cookies(host)[SESSION] for host in (APP, OTHER, PORTAL)}
        question = await browser.visit(HOME + "/.zt/sign-out")
        assert question.url == AUTH + "/.zt/sign-out"
        browser.set_cookies.clear()
        done = await browser.submit(question, "/.zt/sign-out", {"token": question.input("token")})
        assert done.status == 200
        assert done.url.startswith(AUTH + "/.zt/signed-out")
        assert w.idp.requests["logout"] == 1
        (cleared,) = (line for host, line in browser.set_cookies if host == PORTAL and line.startswith(SESSION + "="))
        assert cleared.startswith(SESSION + "=; ")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=0"} <= set(cleared.split("; "))
        assert SESSION not in browser.cookies(PORTAL)
        for host, value in before.items():
            reply = await w.lab.get("/", f"{SESSION}={value}".encode(), host=host)
            assert reply.status == 401, host


@pytest.mark.case("ZT-OIDC-21")
async def test_looking_at_the_sign_out_or_another_sites_form_ends_nothing() -> None:
    async with world() as w:
        browser = await w.person()
        question = await browser.visit(AUTH + "/.zt/sign-out")
        await browser.visit(HOME + "/.zt/sign-out")
        foreign = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}
        form = b"token=" + question.input("token").encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        attempts = (
            ("POST", foreign | kind, form),
            ("POST", foreign | {"Origin": HOME, "Sec-Fetch-Site": "same-site"} | kind, form),
            ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": AUTH} | kind, b"token=guessed"),
            ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": AUTH} | kind, b""),
            ("GET", {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, b""),
        )
        for method, headers, body in attempts:
            page = await browser.request(AUTH + "/.zt/sign-out", method, headers, body)
            assert method == "GET" or page.status in {400, 403}, headers
        assert (await browser.request(HOME + "/.zt/sign-out", "POST", foreign | kind, form)).status in {403, 404, 405}
        assert (await browser.fetch(HOME + "/")).status == 200
        assert (await browser.request(AUTH + "/")).status == 200


# ---- redirects ----


@pytest.mark.case("ZT-REDIR-01")
@pytest.mark.case("ZT-REDIR-02")
async def test_no_target_or_parameter_leads_a_browser_to_a_foreign_host() -> None:
    hostile = (
        "/\\evil.test", "//evil.test", "///evil.test", "/%09/evil.test", "/%5cevil.test", "/%2fevil.test", "/.evil.test",
        "/@evil.test", "/https:evil.test", "/https://evil.test/", "/%0d%0aLocation:%20https://evil.test", "/..//evil.test",
        "/;//evil.test", "/?rd=https://evil.test", "/.zt/sign-in?to=https://evil.test", "/javascript:alert(1)",
        "/%68ttps://evil.test", "/%E2%80%AEevil.test", "/a?next=//evil.test#x",
    )  # fmt: skip
    portal = (
        "/.zt/sign-in?to=https://evil.test", "/.zt/sign-in?to=//evil.test", "/.zt/sign-in?rd=https://evil.test",
        "/.zt/sign-in?with=https://evil.test", "/.zt/callback?state=x&code=y&redirect_uri=https://evil.test",
        "/.zt/signed-out?post_logout_redirect_uri=https://evil.test", "/.zt/sign-out?rd=https://evil.test",
    )  # fmt: skip
    async with world() as w:
        own = {APP, OTHER, PORTAL, urlsplit(w.idp.issuer).netloc}
        browser = w.browser()
        for raw in hostile:
            browser.jar.pop(APP, None)
            answer = await browser.request(HOME + raw)
            if answer.status != 302:
                assert (answer.status, answer.location) in {(400, ""), (404, "")}, raw
                continue
            page = await browser.visit(HOME + raw)
            assert {urlsplit(hop).netloc for hop in page.hops} <= own, raw
            assert page.url.startswith(HOME + "/"), raw
        for raw in portal:
            page = await w.browser().request(AUTH + raw)
            if page.location:
                assert urlsplit(page.location).netloc in own | {""}, raw
                assert not page.location.startswith(("//", "/\\")), raw


@pytest.mark.case("ZT-REDIR-04")
async def test_a_hand_off_that_was_changed_moved_or_kept_too_long_is_refused() -> None:
    async with world() as w:
        browser = w.browser()
        link = (await browser.request(HOME + "/flows")).location
        token = parse_qs(urlsplit(link).query)["to"][0]
        middle = len(token) // 2
        flipped = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
        for bad in (flipped, token[:-1], token[1:], token + "A", "", "A" * 400, token[::-1]):
            page = await browser.request(f"{AUTH}/.zt/sign-in?to={bad}")
            assert (page.status, page.location) == (400, ""), bad
        assert (await browser.request(f"{AUTH}/.zt/sign-in?to={token}&to={token}")).status == 400
        assert (await browser.request(f"{HOME}/.zt/sign-in?to={token}")).status == 404
        await w.lab.advance(601)
        assert (await browser.request(link)).status == 400
        assert w.visits == 0
