"""Sessions end to end: the sign-in over two hosts and a provider, its cookies, revocation, sign-out."""

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.lab.browser import LOGIN, SESSION
from tests.lab.idp import ABSENT
from tests.lab.proxy import APP, ORIGIN, PORTAL, ProxyLab
from tests.lab.waiting import until
from tests.lab.world import (
    AUTH,
    ELSEWHERE,
    HOME,
    MINUTE,
    OTHER,
    STEP_UP,
    world,
)
from zt_proxy.core.clock import SystemClock

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
        assert "/.zt/enrol?login=" in page.url
        assert "Set up your second factor" in page.text
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
