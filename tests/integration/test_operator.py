"""The operator's commands against a running proxy: what they show, and that a revocation cuts what is open at once."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.attack.test_integrations import CRM, MachineLab
from tests.lab.proxy import APP, Client, ProxyLab, allow
from tests.lab.upstream import Seen
from tests.lab.waiting import until
from tests.lab.ws import EchoPlatform, close_code, open_websocket, remaining_frames
from zt_proxy.control.operator import server
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.link.messages import WorkerState

ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nthe first bytes"


class Platform(EchoPlatform):
    """Echoes WebSockets; `/events` and `/download` begin and do not end."""

    def _agree(self, request: Seen) -> bytes:
        self._socket = request.header(b"upgrade") is not None
        if self._socket:
            return super()._agree(request)
        return {b"/events": ENDLESS, b"/download": LARGE}[request.target]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._socket:
            await super()._talk(reader, writer)
        else:
            await reader.read()


def lab(**more: Any) -> ProxyLab:
    return ProxyLab(upstream=Platform(), **more)


async def command(lab: ProxyLab, *arguments: str) -> tuple[int, str, str]:
    """Run `zt-proxy …` as the operator would; exit code, standard output, standard error."""
    file = lab.directory / "zt-proxy.yaml"
    if not file.exists():
        file.write_text(f"version: 1\nruntime_dir: {lab.directory / 'run'}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "zt_proxy.cli.main", *arguments, "-c", str(file),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def begin(lab: ProxyLab, cookie: bytes, path: str) -> Client:
    """A response that has begun and does not end."""
    client = await lab.connect()
    await client.write(b"GET %b HTTP/1.1\r\nHost: %b\r\nCookie: %b\r\n\r\n" % (path.encode(), APP.encode(), cookie))
    head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 20)
    assert head.startswith(b"HTTP/1.1 200 "), head
    return client


async def upload(lab: ProxyLab, cookie: bytes) -> Client:
    client = await lab.connect()
    await client.write(
        b"POST /upload HTTP/1.1\r\nHost: %b\r\nOrigin: https://app.test\r\nCookie: %b\r\nContent-Length: 1000000\r\n\r\n"
        b"the first bytes" % (APP.encode(), cookie)
    )
    return client


async def everything_open(lab: ProxyLab, cookie: bytes) -> tuple[Client, list[Client]]:
    """A WebSocket, and an event stream, a download and an upload, all under way."""
    before = await under_way(lab)
    socket = await open_websocket(lab, cookie)
    rest = [await begin(lab, cookie, "/events"), await begin(lab, cookie, "/download"), await upload(lab, cookie)]
    worker = lab.proxy.worker
    assert worker is not None
    await until(lambda: sum(1 for each in worker.exchanges() if each.relay is not None) == before + 4)
    return socket, rest


async def under_way(lab: ProxyLab) -> int:
    assert lab.proxy.worker is not None
    return sum(1 for _ in lab.proxy.worker.exchanges())


@pytest.mark.parametrize("how", ["sid", "user", "e-mail", "all"])
async def test_a_revocation_cuts_sockets_streams_downloads_and_uploads_and_refuses_new_requests(how: str) -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        socket, rest = await everything_open(proxy, cookie)
        others = await proxy.new_session("bob")
        bobs, _ = await everything_open(proxy, others[1])
        chosen = {
            "sid": ["--sid", proxy.sid],
            "user": ["--user", "alice"],
            "e-mail": ["--user", "Alice@example.com", "--provider", "corp"],
            "all": ["--all", "--yes"],
        }[how]
        code, out, _ = await command(proxy, "sessions", "revoke", *chosen, "--reason", "laptop stolen")
        assert code == 0
        assert "In force on every worker." in out
        assert close_code((await remaining_frames(socket.reader))[-1]) == 4401
        for client in rest:
            await client.ended()
        assert (await proxy.get("/", cookie)).status == 401
        if how == "all":
            assert close_code((await remaining_frames(bobs.reader))[-1]) == 4401
        else:
            assert await under_way(proxy) == 4
        order = next(line for line in await proxy.log() if line["type"] == "operator")
        assert order["action"] == "revoke-sessions"
        assert order["uid"] == os.getuid()
        assert order["reason"] == "laptop stolen"
        assert order["by"] == {"sid": "sid", "all": "everything"}.get(how, "user")
        assert order["sessions"] == (2 if how == "all" else 1)


async def test_the_list_shows_who_is_signed_in_where_and_what_is_open() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        await open_websocket(proxy, cookie)
        bob, _ = await proxy.new_session("bob", host="other.test")
        code, out, _ = await command(proxy, "sessions", "list", "--json")
        found = {each["subject"]: each for each in json.loads(out)["sessions"]}
        assert code == 0
        assert set(found) == {"alice", "bob"}
        assert (found["alice"]["open"], found["alice"]["hosts"]) == (1, [APP])
        assert (found["bob"]["open"], found["bob"]["sid"]) == (0, bob)
        code, out, _ = await command(proxy, "sessions", "list", "--host", "other.test")
        assert code == 0
        assert "bob@example.com" in out
        assert bob in out
        assert "alice" not in out
        code, out, _ = await command(proxy, "sessions", "list", "--user", "nobody")
        assert (code, out) == (0, "Nobody is signed in.\n")
        code, out, _ = await command(proxy, "sessions", "list", "--limit", "1")
        assert "There are more" in out


async def test_the_list_shows_what_integrations_have_open(tmp_path: Path) -> None:
    async with MachineLab(tmp_path) as machines:
        machines.upstream.hold = asyncio.Event()
        client = await machines.as_machine(machines.ca.issue(uris=[CRM]))
        await client.write(b"GET /api/contacts/7 HTTP/1.1\r\nHost: app.test\r\n\r\n")
        await machines.upstream.arrived(1)
        code, out, _ = await command(machines, "sessions", "list")
        assert (code, out) == (0, "Nobody is signed in.\nintegration crm: 1 open\n")


async def test_nothing_a_provider_says_moves_the_operators_cursor() -> None:
    async with lab() as proxy:
        await proxy.new_session("mal\x1b[2Jlory\u202e")
        _, out, _ = await command(proxy, "sessions", "list")
        assert "\x1b[2J" not in out
        assert "\u202e" not in out


async def test_people_whom_several_providers_know_are_not_ended_by_guess() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        await proxy.new_session("alice", provider="guests")
        code, _, err = await command(proxy, "sessions", "revoke", "--user", "alice")
        assert code == 1
        assert "corp, guests" in err
        assert "--provider" in err
        assert (await command(proxy, "sessions", "revoke", "--user", "alice", "--provider", "guests"))[0] == 0
        assert (await proxy.get("/events", cookie, method="HEAD")).status != 401


async def test_who_or_what_is_not_there_is_said() -> None:
    async with lab() as proxy:
        for chosen, said in (
            (["--user", "nobody"], "nobody has no session"),
            (["--sid", "x"], "no session has the id"),
        ):
            code, _, err = await command(proxy, "sessions", "revoke", *chosen)
            assert code == 1
            assert said in err
        code, _, err = await command(proxy, "sessions", "revoke", "--all")
        assert (code, "--yes" in err) == (2, True)
        code, _, err = await command(proxy, "sessions", "revoke", "--all", "--user", "alice")
        assert (code, "exactly one" in err) == (2, True)
        assert not [line for line in await proxy.log() if line["type"] == "operator"]


async def test_nothing_is_revoked_that_cannot_be_put_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("alice")
        assert proxy.proxy.control is not None

        async def full(_kind: str, **_fields: object) -> None:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, "no space left on device")

        monkeypatch.setattr(proxy.proxy.control.audit, "write", full)
        code, _, err = await command(proxy, "sessions", "revoke", "--user", "alice")
        assert code == 2
        assert "no space left" in err
        assert (await proxy.get("/events", cookie, method="HEAD")).status != 401


async def test_a_worker_that_has_not_confirmed_is_named_with_the_end_of_its_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with lab() as proxy:
        await proxy.sign_in("alice")
        assert proxy.proxy.control is not None
        link = proxy.proxy.control.link

        async def not_yet(_sequence: int, _within: float) -> bool:
            return False

        monkeypatch.setattr(link, "settled", not_yet)
        monkeypatch.setattr(link, "workers", lambda: [WorkerState(3, "b", 1, False, 0, 1.5)])
        code, out, _ = await command(proxy, "sessions", "revoke", "--user", "alice")
        assert code == 3
        assert "Worker 3 is not connected; its lease ends in 3.5 s." in out


async def test_status_shows_the_processes_the_workers_the_sessions_and_the_record() -> None:
    async with lab() as proxy:
        await open_websocket(proxy, await proxy.sign_in("alice"))
        code, out, _ = await command(proxy, "status", "--json")
        found = json.loads(out)
        assert code == 0
        assert [each["name"] for each in found["processes"]] == ["proxy"]
        (worker,) = found["workers"]
        assert worker["pid"] == os.getpid()
        assert (worker["connected"], worker["problem"], worker["websockets"]) == (True, "", 1)
        assert (found["sessions"], found["open"]) == (1, 1)
        assert found["record"]["ok"]
        assert found["listeners"] == [{"name": "web", "address": f"127.0.0.1:{proxy.port}"}]
        assert found["configuration"]["epoch"] == 1
        code, out, _ = await command(proxy, "status")
        assert code == 0
        for piece in ("epoch 1", f"127.0.0.1:{proxy.port}", "sessions       1", "every record is durable", "running"):
            assert piece in out


async def test_status_fails_when_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as proxy:
        assert proxy.proxy.control is not None
        monkeypatch.setattr(proxy.proxy.control.audit, "problem", lambda: "no space left on device")
        code, out, _ = await command(proxy, "status")
        assert code == 1
        assert "! audit log: no space left on device" in out


async def test_status_finds_the_proxy_though_its_file_is_broken_by_now() -> None:
    async with lab() as proxy:
        file = proxy.directory / "zt-proxy.yaml"
        for text in (
            "runtime_dir: 'run'\nroutes: [{",
            "state_dir: .\nversion: {[",
            "version: 1\nruntime_dir: run\nx: 1",
        ):
            file.write_text(text)
            assert (await command(proxy, "status"))[0] == 0
        file.write_text("version: 1\nruntime_dir: elsewhere\n")
        assert (await command(proxy, "status"))[0] == 2
        assert (await command(proxy, "status", "--socket", str(proxy.directory / "run" / "operator.sock")))[0] == 0


async def test_a_proxy_that_does_not_run_is_said_to(tmp_path: Path) -> None:
    async with lab() as proxy:
        await proxy.stop()
        for arguments in (["status"], ["sessions", "list"], ["sessions", "revoke", "--user", "alice"]):
            code, out, err = await command(proxy, *arguments)
            assert (code, out) == (2, "")
            assert "the proxy is not running" in err


async def test_the_socket_answers_its_own_user_and_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as proxy:
        path = proxy.directory / "run" / "operator.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        monkeypatch.setattr(server, "_peer", lambda _request: os.getuid() + 1)
        code, out, err = await command(proxy, "sessions", "revoke", "--all", "--yes")
        assert (code, out) == (2, "")
        assert f"this socket is for uid {os.getuid()}" in err
        monkeypatch.setattr(server, "_peer", lambda _request: 0)
        assert (await command(proxy, "status"))[0] == 0


async def test_the_api_refuses_what_it_does_not_know() -> None:
    async with lab(rules=(allow(),)) as proxy:
        path = proxy.directory / "run" / "operator.sock"
        for head, body, status in (
            (b"POST /sessions/revoke", b'{"usr": "alice"}', 400),
            (b"POST /sessions/revoke", b'{"user": "alice", "sid": "x"}', 400),
            (b"POST /sessions/revoke", b'{"sid": "x", "provider": "corp"}', 400),
            (b"POST /sessions/revoke", b'{"user": "alice", "reason": "%b"}' % (b"x" * 300), 400),
            (b"POST /sessions/revoke", b"not json", 400),
            (b"POST /sessions/revoke", b"x" * 100_000, 413),
            (b"GET /sessions/revoke", b"", 405),
            (b"GET /sessions?after=nonsense", b"", 400),
            (b"GET /sessions?colour=red", b"", 400),
            (b"GET /sessions?limit=" + b"9" * 5_000, b"", 400),
            (b"GET /", b"", 404),
        ):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (head, len(body)) + body)
            line = await reader.readline()
            assert int(line.split()[1]) == status, (head, body, line)
            writer.close()
