"""Locks through the whole proxy: what they stop, what they cut, what the person and the operator are told."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.attack.test_integrations import CRM, MachineLab
from tests.integration.test_operator import LARGE, Platform, begin, command, everything_open, under_way
from tests.lab.proxy import PORTAL, ProxyLab, allow
from tests.lab.waiting import until
from tests.lab.world import HOME, refusal, world
from tests.lab.ws import close_code, handshake, open_websocket, remaining_frames
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.session import Level, Proof
from zt_proxy.link.locks import Lock, LockEffect, LockKind

NAVIGATION = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nAccept: text/html\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class LockPlatform(Platform):
    """As `Platform`, and everything else is answered."""

    _plain = False

    def _agree(self, request: Any) -> bytes:
        try:
            return super()._agree(request)
        except KeyError:
            self._plain = True
            return OK

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plain, self._plain = self._plain, False
        if plain:
            await writer.drain()
        else:
            await super()._talk(reader, writer)


def lab(**more: Any) -> ProxyLab:
    return ProxyLab(upstream=LockPlatform(), **more)


async def locked(proxy: ProxyLab, *arguments: str) -> dict[str, Any]:
    code, out, err = await command(proxy, "lock", *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert found["in_force"]
    lock: dict[str, Any] = found["lock"]
    return lock


async def set_lock(proxy: ProxyLab, effect: LockEffect, kind: LockKind = LockKind.USER, value: str = "alice") -> Lock:
    """As control does, without a command."""
    control = proxy.proxy.control
    assert control is not None
    lock = Lock("00000001", kind, value, effect, "c", "root", proxy.clock.now())
    control.link.lock(lock)
    return lock


@pytest.mark.parametrize(
    "how",
    [
        ["user", "alice"],
        ["user", "Alice@Example.com"],
        ["user", "alice", "--provider", "corp"],
        ["session", "SID"],
        ["route", "app", "--yes"],
    ],
    ids=" ".join,
)
async def test_a_lock_cuts_what_is_open_and_refuses_what_comes_until_it_is_lifted(how: list[str]) -> None:
    async with lab() as proxy:
        _, bobs = await proxy.new_session("bob")
        cookie = await proxy.sign_in("alice")
        socket, rest = await everything_open(proxy, cookie)
        await everything_open(proxy, bobs)
        how = [proxy.sid if each == "SID" else each for each in how]
        code, out, _ = await command(proxy, "lock", *how, "--reason", "laptop stolen")
        assert code == 0
        assert "In force on every worker." in out
        assert close_code((await remaining_frames(socket.reader))[-1]) == 4403
        for client in rest:
            await client.ended()
        refused = await proxy.get("/", cookie)
        assert (refused.status, refused.problem["reason"]) == (403, "locked")
        everybody = how[0] == "route"
        assert (await proxy.get("/", bobs)).status == (403 if everybody else 200)
        assert await under_way(proxy) == (0 if everybody else 4)
        undo = out.partition("Undo: zt-proxy ")[2].split()
        code, out, _ = await command(proxy, *undo, "--reason", "it was her")
        assert code == 0
        assert (await proxy.get("/", cookie)).status == 200
        lines = [line for line in await proxy.log() if line["type"] == "operator"]
        assert [(line["action"], line["reason"]) for line in lines] == [
            ("lock", "laptop stolen"),
            ("unlock", "it was her"),
        ]
        assert lines[0]["uid"] == os.getuid()
        assert lines[0]["effect"] == "block"


async def test_the_person_is_told_that_they_are_locked_and_nothing_of_the_inside() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        lock = await locked(proxy, "user", "alice", "--reason", "we suspect her")
        page = await proxy.get("/", cookie, NAVIGATION)
        text = page.body.decode()
        assert page.status == 403
        assert "Your access is locked" in text
        assert "<code>locked</code>" in text
        assert page.header("x-request-id") in text
        for inside in ("we suspect her", lock["id"]):
            assert inside not in text
        assert (await proxy.get("/.zt/sign-out", cookie, NAVIGATION)).status != 403
        record = next(line for line in await proxy.decisions() if line["reason"] == "locked")
        assert (record["effect"], record["lock"]) == ("deny", lock["id"])


async def test_a_person_is_locked_by_what_their_provider_calls_them() -> None:
    async with lab() as proxy:
        await proxy.sign_in("alice")
        lock = await locked(proxy, "user", "ALICE@example.com", "--effect", "read-only")
        assert (lock["value"], lock["provider"], lock["shown"]) == ("alice", "corp", "alice@example.com")
        assert (await command(proxy, "unlock", "--user", "alice@EXAMPLE.com"))[0] == 0


async def test_who_is_not_known_yet_is_locked_when_they_come() -> None:
    async with lab() as proxy:
        code, out, _ = await command(proxy, "lock", "user", "Mallory@example.com", "--until-reviewed")
        assert code == 0
        assert "Check the spelling" in out
        cookie = await proxy.sign_in("mallory")
        assert (await proxy.get("/", cookie)).problem["reason"] == "locked"


async def test_people_whom_several_providers_know_are_not_locked_by_guess() -> None:
    async with lab() as proxy:
        await proxy.sign_in("alice")
        await proxy.new_session("alice", provider="guests")
        principal = (await proxy.proxy.control.sessions.record(proxy.sid)).principal
        code, _, err = await command(proxy, "lock", "user", "alice")
        assert (code, "--provider" in err) == (1, True), (err, principal)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["session", "nobody"], 1, "no session has the id"),
        (["route", "nowhere", "--yes"], 1, "there is no route nowhere"),
        (["integration", "nothing"], 1, "there is no integration nothing"),
        (["user", "alice", "--provider", "nobody"], 1, "there is no provider nobody"),
        (["route", "app"], 2, "--yes"),
        (["user", "alice", "--for", "soon"], 2, "--for"),
        (["user", "alice", "--for", "1h", "--until-reviewed"], 2, "either"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_an_order_that_makes_no_sense_locks_nothing_and_says_why(
    arguments: list[str], code: int, said: str
) -> None:
    async with lab() as proxy:
        found, _, err = await command(proxy, "lock", *arguments)
        assert (found, said in err) == (code, True), err
        assert not [line for line in await proxy.log() if line["type"] == "operator"]


async def test_the_list_says_who_is_locked_how_since_when_why_until_when_and_by_whom() -> None:
    async with lab() as proxy:
        await proxy.sign_in("alice")
        assert (await command(proxy, "locks"))[1] == "Nothing is locked.\n"
        first = await locked(proxy, "user", "alice", "--reason", "odd \x1b[2J hours", "--for", "2h")
        second = await locked(proxy, "device", "d1", "--effect", "step-up", "--until-reviewed")
        _, out, _ = await command(proxy, "locks")
        for piece in (
            first["id"],
            "alice@example.com",
            "block",
            "in 1 h 59 min",
            "odd \\x1b",
            "when reviewed",
            "step-up",
        ):
            assert piece in out, out
        assert "\x1b[2J" not in out
        code, out, _ = await command(proxy, "locks", "--review", first["id"], "--reason", "seen")
        assert code == 0
        assert "reviewed by" in (await command(proxy, "locks"))[1]
        await command(proxy, "locks", "--review", second["id"], "--reason", "seen")
        _, out, _ = await command(proxy, "locks", "--all", "--json")
        found = json.loads(out)
        assert [each["id"] for each in found["locks"]] == [first["id"]]
        assert [(each["id"], each["ended_reason"]) for each in found["past"]] == [(second["id"], "seen")]
        code, _, err = await command(proxy, "unlock", second["id"])
        assert (code, "no lock in force" in err) == (1, True)


async def test_read_only_lets_people_look_and_change_nothing() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        socket = await open_websocket(proxy, cookie)
        download = await begin(proxy, cookie, "/download")
        await locked(proxy, "user", "alice", "--effect", "read-only")
        assert close_code((await remaining_frames(socket.reader))[-1]) == 4403
        assert await under_way(proxy) == 1  # looking goes on
        await download.close()
        assert (await proxy.get("/", cookie)).status == 200
        refused = await proxy.get("/", cookie, b"Origin: https://app.test\r\n", method="DELETE")
        assert (refused.status, refused.problem["reason"]) == (403, "locked-read-only")
        client = await proxy.connect()
        await client.write(handshake(cookie))
        assert (await client.reply()).problem["reason"] == "locked-read-only"


async def test_no_export_on_a_route_without_a_profile_lets_nothing_through() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        download = await begin(proxy, cookie, "/download")
        await locked(proxy, "user", "alice", "--effect", "no-export")
        await download.ended()
        assert (await proxy.get("/", cookie)).problem["reason"] == "locked-no-export"


async def test_step_up_asks_for_a_proof_made_since_and_then_lets_go_on() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        socket = await open_websocket(proxy, cookie)
        await locked(proxy, "user", "alice", "--effect", "step-up", "--for", "1h")
        assert close_code((await remaining_frames(socket.reader))[-1]) == 4403
        sent = await proxy.get("/", cookie, NAVIGATION)
        assert (sent.status, (sent.header("location") or "").startswith(f"https://{PORTAL}/.zt/sign-in")) == (302, True)
        told = await proxy.get("/", cookie)
        assert (told.status, told.problem["reason"]) == (401, "locked-step-up")
        assert (told.problem["level"], told.problem["step_up_url"] != "") == ("phishing-resistant", True)
        control = proxy.proxy.control
        assert control is not None
        await control.sessions.unlock(proxy.sid, "app", "", Proof(proxy.clock.now(), Level.MULTI))
        assert (await proxy.get("/", cookie)).status == 401
        await control.sessions.unlock(proxy.sid, "app", "", Proof(proxy.clock.now(), Level.PHISHING_RESISTANT))
        assert (await proxy.get("/", cookie)).status == 200
        again = await open_websocket(proxy, cookie)
        await set_lock(proxy, LockEffect.STEP_UP, LockKind.ROUTE, "app")
        assert close_code((await remaining_frames(again.reader))[-1]) == 4403


async def test_a_lock_counts_for_permissions_that_were_remembered_and_for_the_public() -> None:
    async with lab(rules=(allow(), allow("open", public=True, paths=("/open",)))) as proxy:
        cookie = await proxy.sign_in("alice")
        client = await proxy.connect()
        request = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie
        for _ in range(3):
            await client.write(request)
            assert (await client.reply()).status == 200
        await set_lock(proxy, LockEffect.BLOCK)
        await client.write(request)
        assert (await client.reply()).problem["reason"] == "locked"
        assert (await proxy.get("/open")).status == 200
        await set_lock(proxy, LockEffect.BLOCK, LockKind.ROUTE, "app")
        assert (await proxy.get("/open")).problem["reason"] == "locked"
        assert (await proxy.get("/")).problem["reason"] == "login-required"  # a stranger learns of no lock


async def test_a_script_that_asks_ahead_is_told_of_the_lock() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        await set_lock(proxy, LockEffect.READ_ONLY)
        body = b'{"method": "POST", "path": "/edit"}'
        for method, status in ((b"POST", 403), (b"GET", 204)):
            asked = body.replace(b"POST", method)
            reply = await proxy.send(
                b"POST /.zt/preflight HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\nCookie: %b\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (cookie, len(asked), asked)
            )
            assert reply.status == status


async def test_a_lock_runs_out_by_the_clock_and_is_then_ended_on_record() -> None:
    async with lab(clock=ManualClock()) as proxy:
        control = proxy.proxy.control
        assert control is not None
        cookie = await proxy.sign_in("alice")
        await locked(proxy, "user", "alice", "--for", "1m")
        assert (await proxy.get("/", cookie)).status == 403
        await proxy.advance(60)
        assert (await proxy.get("/", cookie)).status == 200
        await control.locks.sweep()
        (line,) = [line for line in await proxy.log() if line["type"] == "lock"]
        assert (line["action"], line["value"]) == ("expire", "alice")


async def test_an_integration_is_locked_like_a_person_and_cannot_step_up(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, control={"integrations": ("crm",)}) as machines:
        leaf = machines.ca.issue(uris=[CRM])
        assert (await machines.ask(leaf)).status == 200
        for effect, reason in (("step-up", "locked"), ("block", "locked")):
            await locked(machines, "integration", "crm", "--effect", effect)
            assert (await machines.ask(leaf)).problem["reason"] == reason
            await command(machines, "unlock", "--integration", "crm")
        assert (await machines.ask(leaf)).status == 200


async def test_a_lock_is_there_after_a_reload() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        await set_lock(proxy, LockEffect.BLOCK)
        await proxy.proxy.reload(replace(proxy.proxy.built, worker=replace(proxy.proxy.built.worker, drain=1.0)))
        assert (await proxy.get("/", cookie)).problem["reason"] == "locked"


async def test_the_end_of_what_a_lock_cut_is_on_record() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        download = await begin(proxy, cookie, "/download")
        await locked(proxy, "user", "alice")
        await download.ended()
        await until(lambda: not any(proxy.proxy.worker.exchanges()))
        ends = [line for line in await proxy.log() if line["type"] == "end"]
        assert [line["reason"] for line in ends if line.get("reason")] == ["locked"]
    assert LARGE


async def test_who_proves_anew_at_the_portal_goes_on_and_whoever_else_has_the_cookie_did_not() -> None:
    async with world(worker={"strongest": {"corp": Level.MULTI}}) as w:
        person = await w.person()
        await w.lab.advance(60)
        sid = (await w.lab.proxy.control.sessions.directory().page()).sessions[0].sid
        await set_lock(w.lab, LockEffect.STEP_UP, LockKind.SESSION, sid)
        before = w.visits
        assert refusal(await person.fetch(HOME + "/flows")) == "locked-step-up"
        await w.lab.advance(1)
        page = await person.visit(HOME + "/flows")
        assert (page.status, page.url, w.visits) == (200, HOME + "/flows", before + 1)
        assert (await person.fetch(HOME + "/flows")).status == 200
        await w.lab.advance(60)
        again = Lock("00000002", LockKind.SESSION, sid, LockEffect.STEP_UP, "c", "root", w.clock.now())
        w.lab.proxy.control.link.lock(again)
        assert refusal(await person.fetch(HOME + "/flows")) == "locked-step-up"
