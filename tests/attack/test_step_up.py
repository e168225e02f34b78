"""Step-ups against people who plant, replay, forge and race: a proof lifts what it was given for, and nothing else."""

import asyncio
import os

import pytest

from tests.integration.test_step_up import RULES, TEXT, URLENCODED, handoff_in, onward, proven, send_on, stale, submit
from tests.lab.browser import NAVIGATE
from tests.lab.proxy import APP, Reply, allow
from tests.lab.waiting import until
from tests.lab.world import ELSEWHERE, HOME, MINUTE, OTHER, refusal, world
from tests.lab.ws import (
    OWN_ORIGIN,
    EchoPlatform,
    accept,
    close_code,
    closing,
    handshake,
    lab_with_echo,
    open_websocket,
    remaining_frames,
)
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.session import Proof

FOREIGN = (
    {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.test"},
    {"Sec_Fetch_Site": "cross-site", "Origin": HOME},
    {"Sec_Fetch_Site": "same-site", "Origin": "https://other.test"},
    {"Sec_Fetch_Site": "none", "Origin": HOME},
    {"Sec_Fetch_Site": "", "Origin": HOME},
    {"Sec_Fetch_Site": "same-origin", "Origin": "null"},
    {"Sec_Fetch_Dest": "iframe"},
    {"Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"},
)


# ---- whose proof, and what for


@pytest.mark.case("ZT-APP-02")
@pytest.mark.case("ZT-SESS-18")
async def test_a_proof_for_one_request_is_good_for_no_other_method_path_rule_or_session() -> None:
    rules = (allow("release", paths=("/release", "/release/b"), once=True), *RULES[1:])
    async with world(rules, other=rules) as w:
        person, same_person = await w.person(), await w.person()
        await person.visit(ELSEWHERE + "/")
        await w.lab.advance(10 * MINUTE)
        asked = await person.fetch(HOME + "/release", "POST")
        assert (await person.visit(asked.reply.problem["step_up_url"])).status == 200
        for browser, method, url in (
            (person, "PUT", HOME + "/release"),
            (person, "POST", HOME + "/release/b"),
            (person, "POST", HOME + "/deploy"),
            (person, "POST", ELSEWHERE + "/release"),
            (same_person, "POST", HOME + "/release"),
        ):
            assert refusal(await browser.fetch(url, method)) == "reauth-required", (method, url)
        assert (await person.fetch(HOME + "/release?x=1", "POST")).status == 200
        assert len(w.reached) == w.reached.count(b"/") + 1


@pytest.mark.case("ZT-SESS-18")
async def test_a_proof_for_one_request_is_worth_nothing_after_two_minutes() -> None:
    async with stale() as (w, person):
        asked = await person.fetch(HOME + "/release", "POST")
        await person.visit(asked.reply.problem["step_up_url"])
        await w.lab.advance(121)
        assert refusal(await person.fetch(HOME + "/release", "POST")) == "reauth-required"


@pytest.mark.case("ZT-SESS-18")
async def test_an_address_that_was_planted_in_another_browser_lifts_nobody() -> None:
    async with world(RULES) as w:
        attacker, victim = await w.person(), await w.person()
        await w.lab.advance(10 * MINUTE)
        asked = await attacker.fetch(HOME + "/deploy", "POST")
        for address in (asked.reply.problem["step_up_url"], asked.reply.problem["login_url"]):
            assert (await victim.visit(address)).status in {400, 403}
        for browser in (attacker, victim):
            assert refusal(await browser.fetch(HOME + "/deploy", "POST")) == "reauth-required"


@pytest.mark.case("ZT-REDIR-04")
async def test_an_address_that_was_changed_leads_nowhere() -> None:
    async with stale() as (_, person):
        asked = await person.fetch(HOME + "/deploy", "POST")
        address = asked.reply.problem["step_up_url"]
        place = len(address) // 2
        for changed in (address[:place] + ("A" if address[place] != "A" else "B") + address[place + 1 :], address[:-9]):
            page = await person.visit(changed)
            assert (page.status, page.hosts) == (400, [APP])
        page = await person.visit(address.replace("app.test", "other.test"))
        assert page.status in {400, 403}
        assert refusal(await person.fetch(HOME + "/deploy", "POST")) == "reauth-required"


@pytest.mark.case("ZT-SESS-10")
async def test_a_session_that_ends_while_its_proof_is_spent_opens_nothing() -> None:
    async with stale() as (w, person):
        asked = await person.fetch(HOME + "/release", "POST")
        await person.visit(asked.reply.problem["step_up_url"])
        assert w.lab.proxy.control is not None
        sessions = w.lab.proxy.control.sessions
        spend = sessions.spend

        async def revoked_meanwhile(sid: str, key: str) -> bool:
            spent = await spend(sid, key)
            await sessions.end(sid, "revoked")
            return spent

        sessions.spend = revoked_meanwhile  # type: ignore[method-assign]
        page = await person.fetch(HOME + "/release", "POST")
        assert (page.status, refusal(page)) == (401, "session-unknown")
        assert b"/release" not in w.reached


async def test_a_spent_proof_cuts_no_stream_of_the_session() -> None:
    async with lab_with_echo(rules=(*RULES[:1], allow("staff"))) as lab:
        sid, cookie = await lab.new_session()
        socket = await open_websocket(lab, cookie)
        assert lab.proxy.control is not None
        proof = Proof(lab.clock.now(), 2)
        await lab.proxy.control.sessions.unlock(sid, "app", "release", proof, "POST /release")
        assert await lab.proxy.control.sessions.spend(sid, "app\x1frelease\x1fPOST /release")
        await socket.write(closing(1000))
        (last,) = await remaining_frames(socket.reader)
        assert close_code(last) == 1000, "the platform's own answer, not a cut"


# ---- headers of the proxy's own


@pytest.mark.case("ZT-APP-01")
async def test_nobody_but_the_proxy_speaks_its_headers_in_either_direction() -> None:
    async with world() as w:
        person = await w.person()
        w.lab.upstream.answer = (
            b'HTTP/1.1 401 Unauthorized\r\nZT-Challenge: step-up; url="/.zt/step-up?to=x"\r\nContent-Length: 0\r\n\r\n'
        )
        page = await person.fetch(HOME + "/", ZT_Challenge="x", ZT_Handoff="y")
        assert (page.status, page.reply.header("zt-challenge")) == (401, None)
        assert not [name for name, _ in w.lab.upstream.seen[-1].headers if name.lower().startswith(b"zt-")]


@pytest.mark.case("ZT-APP-01")
async def test_no_client_can_ask_for_the_place_where_forms_are_kept() -> None:
    async with stale() as (w, person):
        asked = await person.fetch(HOME + "/deploy", "POST")
        sealed = asked.reply.problem["step_up_url"].partition("to=")[2]
        for host in (HOME, ELSEWHERE, "https://auth.test"):
            for path in ("/.zt/keep", "/.zt/keep?x", "/.zt/%6beep"):
                page = await submit(person, host + path, TEXT, ZT_Handoff=sealed, Origin=host)
                assert page.status in {400, 404}, (host, path)
        assert await forms_in(w) == 0


async def forms_in(w: object) -> int:
    """How many forms control keeps."""
    store = w.lab.proxy.control.sessions._store  # type: ignore[attr-defined]
    count: int = await store._run(lambda db: db.execute("SELECT COUNT(*) FROM forms").fetchone()[0], reads=True)
    return count


# ---- forms


@pytest.mark.case("ZT-APP-02")
@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_form_that_another_page_may_have_sent_is_never_kept(foreign: dict[str, str]) -> None:
    async with stale() as (w, person):
        page = await submit(person, HOME + "/deploy", TEXT, **foreign)
        assert page.status in {401, 403}
        assert await forms_in(w) == 0
        assert b"/deploy" not in w.reached


async def test_a_token_nobody_gave_out_goes_nowhere() -> None:
    async with stale() as (w, person):
        stranger = w.browser()
        for browser, path in ((person, "/edit"), (person, "/deploy"), (stranger, "/edit")):
            page = await submit(browser, HOME + path, b"zt_resume=" + b"a" * 43)
            assert (page.status, "This form was sent already" in page.text) == (409, True)
        assert [seen.target for seen in w.lab.upstream.seen if seen.method == b"POST"] == []


@pytest.mark.case("ZT-SESS-18")
async def test_a_token_is_good_in_its_session_at_its_host_and_target_alone() -> None:
    async with world(RULES, other=RULES) as w:
        person, same_person = await w.person(), await w.person()
        w.idp.user = "bob"
        mallory = await w.person()
        w.idp.user = "alice"
        for browser in (person, same_person, mallory):
            await browser.visit(ELSEWHERE + "/")
        await w.lab.advance(10 * MINUTE)
        page = await proven(person, await submit(person, HOME + "/deploy", TEXT))
        body = b"zt_resume=" + page.input("zt_resume").encode()
        for browser, url in (
            (mallory, HOME + "/deploy"),
            (same_person, HOME + "/deploy"),
            (person, HOME + "/deploy/"),
            (person, HOME + "/deploy?x=1"),
            (person, HOME + "/edit"),
            (person, ELSEWHERE + "/deploy"),
        ):
            origin = HOME if url.startswith(HOME) else ELSEWHERE
            assert (await submit(browser, url, body, Origin=origin)).status == 409, url
        assert [seen for seen in w.lab.upstream.seen if seen.method == b"POST"] == []
        assert (await send_on(person, page)).status == 200, "and none of that used it up"


async def test_of_the_same_token_many_times_at_once_one_goes_on() -> None:
    async with stale() as (w, person):
        page = await proven(person, await submit(person, HOME + "/deploy", TEXT))
        pages = await asyncio.gather(*(send_on(person, page) for _ in range(10)))
        assert sorted(each.status for each in pages) == [200] + [409] * 9
        assert [seen.body for seen in w.lab.upstream.seen if seen.target == b"/deploy"] == [TEXT]


async def test_a_form_that_comes_back_is_decided_anew() -> None:
    async with stale() as (w, person):
        page = await proven(person, await submit(person, HOME + "/deploy", TEXT))
        await w.lab.advance(6 * MINUTE)
        again = await send_on(person, page)
        assert onward(again), "the proof is too old by now: it is kept once more"
        assert b"/deploy" not in w.reached
        assert (await send_on(person, await proven(person, again))).status == 200
        assert [seen.body for seen in w.lab.upstream.seen if seen.target == b"/deploy"] == [TEXT]


async def test_a_hostile_page_gets_no_other_session_s_form_with_a_name_out_of_an_address() -> None:
    async with world(RULES) as w:
        victim, attacker = await w.person(), await w.person()
        await w.lab.advance(10 * MINUTE)
        kept = await submit(victim, HOME + "/deploy", b"secret=1")
        name = handoff_in(w, onward(kept)).kept
        page = await submit(attacker, HOME + "/deploy", b"zt_resume=" + name.encode())
        assert page.status == 409
        assert (await submit(victim, HOME + "/deploy", b"zt_resume=" + name.encode())).status == 409, (
            "a name is no token"
        )
        assert (await attacker.visit(onward(kept))).status == 403
        assert b"/deploy" not in w.reached
        assert (await send_on(victim, await proven(victim, kept))).status == 200


async def test_the_page_that_sends_a_form_on_writes_its_address_safely() -> None:
    async with stale() as (w, person):
        target = "/deploy/x?a=1&b='\"&c=%22%3E%3Cscript%3E"
        kept = await submit(person, HOME + target.replace('"', "%22"), TEXT)
        page = await proven(person, kept)
        assert page.text.count("<script>") == 1
        assert (await send_on(person, page)).status in {200, 409}
        assert w.visits == 2


async def test_a_form_that_stops_half_way_holds_nothing_up() -> None:
    async with stale() as (w, person):
        worker = w.lab.proxy.worker
        assert worker is not None
        cookies = "; ".join(f"{name}={value}" for name, value in person.cookies(APP).items())
        lines = {
            **NAVIGATE,
            "Sec-Fetch-Site": "same-origin",
            "Origin": HOME,
            "Content-Type": URLENCODED,
            "Cookie": cookies,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        for path in ("/edit", "/.zt/preflight"):
            client = await w.lab.connect()
            await client.write(
                f"POST {path} HTTP/1.1\r\nHost: {APP}\r\n{head}Content-Length: 53\r\n\r\nzt_resume=".encode()
            )
            await until(lambda: any(exchange.waiting for exchange in worker.exchanges()))
            await client.close()
            await until(lambda: not any(True for _ in worker.exchanges()))
        assert [line["reason"] for line in await w.lab.decisions()][-2:] == ["client-gone", "client-gone"]


# ---- sockets


async def upgrade(lab: object, cookie: bytes, extra: bytes = OWN_ORIGIN) -> tuple[Reply, list[object]]:
    client = await lab.connect()  # type: ignore[attr-defined]
    await client.write(handshake(cookie, extra))
    reply = await client.reply()
    frames: list[object] = list(await remaining_frames(client.reader)) if reply.status == 101 else []
    return reply, frames


@pytest.mark.case("ZT-WS-05")
async def test_a_socket_of_a_session_that_ended_is_accepted_and_closed_and_the_platform_hears_nothing() -> None:
    async with lab_with_echo() as lab:
        sid, cookie = await lab.new_session()
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.end(sid, "signed-out")
        protocols = b"Sec-WebSocket-Protocol: mqtt, other\r\n"
        reply, frames = await upgrade(lab, cookie, OWN_ORIGIN + protocols)
        assert reply.status == 101
        assert reply.header("sec-websocket-accept") == accept(b"dGhlIHNhbXBsZSBub25jZQ==").decode()
        assert reply.header("sec-websocket-protocol") == "mqtt"
        (last,) = frames
        assert close_code(last) == 4401  # type: ignore[arg-type]
        assert last.payload[2:] == b"session-unknown"  # type: ignore[attr-defined]
        assert lab.upstream.connections == 0
        decisions = await lab.decisions()
        assert [(line["effect"], line["reason"]) for line in decisions] == [("challenge", "session-unknown")]


@pytest.mark.case("ZT-WS-05")
async def test_a_socket_of_a_session_that_ran_out_is_told_so_by_its_close() -> None:
    async with lab_with_echo(clock=ManualClock()) as lab:
        cookie = await lab.sign_in()
        await (await open_websocket(lab, cookie)).close()
        await lab.advance(13 * 3600)
        reply, frames = await upgrade(lab, cookie)
        assert reply.status == 101
        assert [close_code(last) for last in frames] == [4401]  # type: ignore[arg-type]


@pytest.mark.case("ZT-WS-01")
async def test_a_socket_of_another_origin_is_refused_also_when_the_session_is_over() -> None:
    async with lab_with_echo() as lab:
        sid, cookie = await lab.new_session()
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.end(sid, "signed-out")
        for extra in (
            b"Origin: https://evil.test\r\n",
            b"Origin: null\r\n",
            b"",
            b"Origin: https://app.test.evil.test\r\n",
        ):
            reply, _ = await upgrade(lab, cookie, extra)
            assert reply.status == 403, extra
        assert lab.upstream.connections == 0


async def test_a_socket_that_needs_a_step_up_is_refused_and_asks_nobody() -> None:
    async with lab_with_echo(rules=(allow("wire", paths=("/ws",), reauth=60.0),), clock=ManualClock()) as lab:
        cookie = await lab.sign_in()
        await (await open_websocket(lab, cookie)).close()
        platform = lab.upstream
        assert isinstance(platform, EchoPlatform)
        before = platform.connections
        await lab.advance(120)
        reply, _ = await upgrade(lab, cookie)
        assert (reply.status, reply.problem["reason"]) == (401, "reauth-required")
        assert (reply.header("zt-challenge"), reply.header("location")) == (None, None)
        assert platform.connections == before


async def test_a_body_that_is_nearly_a_token_is_the_apps_whatever_it_holds() -> None:
    async with stale() as (w, person):
        bodies = [b"zt_resume=" + b"a" * 42 + b".", b"ZT_RESUME=" + b"a" * 43, b"zt_resume=" + b"a" * 42 + b"%"]
        bodies.append(os.urandom(53))
        for body in bodies:
            assert (await submit(person, HOME + "/edit", body)).status == 200
        assert [seen.body for seen in w.lab.upstream.seen if seen.target == b"/edit"] == bodies


async def test_two_hosts_and_a_foreign_origin_make_no_preflight() -> None:
    async with stale() as (w, person):
        for origin, site in (
            ("https://evil.test", "cross-site"),
            (f"https://{OTHER}", "same-site"),
            ("null", "cross-site"),
        ):
            page = await person.request(
                HOME + "/.zt/preflight",
                "POST",
                {"Origin": origin, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"},
                b'{"method": "GET", "path": "/"}',
            )
            assert (page.status, refusal(page)) == (403, "cross-origin")
        assert w.visits == 1
