"""The operator's commands against a proxy of several processes, as it is run."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.lab.proxy import Client
from tests.load.stage import ROOT, Stage
from zt_proxy.cli.operator_client import Unreachable, ask


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage(tmp_path, workers=2, crowd=("ann", "ann", "ben"), spare=8) as stage:
        await settled(stage)
        yield stage


async def command(stage: Stage, *arguments: str) -> tuple[int, str]:
    """Run `zt-proxy …`; exit code and standard output."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "zt_proxy.cli.main", *arguments, "-c", str(stage.config)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


async def status(stage: Stage) -> dict[str, Any]:
    socket = stage.directory / "state" / "run" / "operator.sock"
    return await asyncio.to_thread(ask, socket, "GET", "/status")


async def settled(stage: Stage) -> None:
    """Wait until both workers are there and nothing is wrong."""
    async with asyncio.timeout(30):
        while True:
            with suppress(Unreachable):
                found = await status(stage)
                if len(found["workers"]) == 2 and not found["problems"]:
                    return
            await asyncio.sleep(0.05)


async def busy(stage: Stage) -> bool:
    """Every worker has something under way."""
    workers = (await status(stage))["workers"]
    return len(workers) == 2 and min(each["requests"] for each in workers) > 0


async def follow(stage: Stage, cookie: bytes) -> Client:
    """A download that does not end."""
    client = await stage.connect()
    await client.write(stage.head("GET", "/feed", cookie) + b"\r\n")
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return client


async def streams_on_every_worker(stage: Stage, cookie: bytes) -> list[Client]:
    """Downloads that do not end, at least one on each worker."""
    opened: list[Client] = []
    async with asyncio.timeout(30):
        while not await busy(stage):
            for _ in range(4):
                opened.append(await follow(stage, cookie))
    return opened


async def private(stage: Stage, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{stage.metrics}{path}") as answer:
        return answer.status, await answer.text()


async def drained(client: Client) -> None:
    """Read until the connection ends."""
    with suppress(ConnectionError, OSError):
        while await client.reader.read(65536):
            pass


async def test_status_list_metrics_and_readiness_speak_for_every_process(stage: Stage) -> None:
    code, out = await command(stage, "status")
    assert code == 0, out
    for piece in ("supervisor", "control", "worker-0", "worker-1", "epoch 1", f"127.0.0.1:{stage.port}"):
        assert piece in out
    pids = {each["name"]: each["pid"] for each in (await status(stage))["processes"]}
    assert len(set(pids.values())) == 4
    (_, first), (_, second), _ = stage.people
    opened = await streams_on_every_worker(stage, first)
    code, out = await command(stage, "sessions", "list", "--user", "ann@example.com", "--json")
    shown = {each["sid"]: each["open"] for each in json.loads(out)["sessions"]}
    assert shown == {stage.sids[first]: len(opened), stage.sids[second]: 0}
    code, text = await private(stage, "/metrics")
    assert code == 200
    lines = [line for line in text.splitlines() if line[0] != "#"]
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines), "a series came twice"
    for piece in (
        'zt_worker_up{worker="0"} 1.0',
        'zt_worker_up{worker="1"} 1.0',
        'zt_process_restarts_total{process="worker-1"} 0.0',
        'process_resident_memory_bytes{process="worker-0"}',
        'process_resident_memory_bytes{process="control"}',
    ):
        assert any(line.startswith(piece) for line in lines), piece
    code, text = await private(stage, "/readyz")
    parts = json.loads(text)["parts"]
    assert code == 200
    assert {"control", "workers", "record", "configuration"} <= set(parts)
    assert all(part["ok"] for part in parts.values())
    for client in opened:
        await client.close()


async def test_a_revocation_holds_on_every_worker_and_leaves_the_others_alone(stage: Stage) -> None:
    (_, first), (_, second), (_, ben) = stage.people
    opened = await streams_on_every_worker(stage, first)
    kept = [await follow(stage, ben) for _ in range(4)]
    code, out = await command(stage, "sessions", "revoke", "--user", "ann", "--reason", "left")
    assert code == 0, out
    assert "2 sessions ended." in out
    async with asyncio.timeout(5):
        await asyncio.gather(*(drained(client) for client in opened))
    for cookie in (first, second):
        for _ in range(4):
            assert (await stage.get("/x", cookie)).status == 401
    assert (await stage.get("/x", ben)).status == 200
    for client in kept:
        assert not client.reader.at_eof()
        await client.close()


async def test_a_worker_that_hangs_is_named_and_a_revocation_is_certain_when_its_lease_ends(stage: Stage) -> None:
    (_, first), *_ = stage.people
    opened = await streams_on_every_worker(stage, first)
    hung = (await status(stage))["workers"][1]
    os.kill(hung["pid"], signal.SIGSTOP)
    try:
        code, out = await command(stage, "sessions", "revoke", "--sid", stage.sids[first], "--json")
        done = json.loads(out)
        assert code == 3
        assert (done["revoked"], done["in_force"]) == (1, False)
        assert [each["worker"] for each in done["waiting"]] == [1]
        assert 0 < done["certain_in"] <= 5.0
        found = await status(stage)
        assert "worker 1: it does not answer" in found["problems"]
    finally:
        os.kill(hung["pid"], signal.SIGCONT)
    async with asyncio.timeout(10):
        await asyncio.gather(*(drained(client) for client in opened))
    assert (await stage.get("/x", first)).status == 401


async def test_a_refused_file_is_shown_everywhere_and_takes_nothing_out_of_service(stage: Stage) -> None:
    assert stage.proxy is not None
    good = stage.config.read_text()
    stage.config.write_text(good.replace("drain: 3s", "drain: soon"))
    stage.proxy.send_signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while not (found := await status(stage))["configuration"]["problem"]:
            await asyncio.sleep(0.05)
    assert "drain" in found["configuration"]["problem"]
    assert found["configuration"]["epoch"] == 1
    code, out = await command(stage, "status")
    assert code == 1
    assert "was refused" in out
    code, text = await private(stage, "/readyz")
    assert (code, json.loads(text)["ready"]) == (200, True)
    assert "drain" in json.loads(text)["parts"]["configuration"]["problem"]
    assert (await stage.get("/x", stage.people[0][1])).status == 200
    stage.config.write_text(good)
    stage.proxy.send_signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while (await status(stage))["configuration"]["problem"]:
            await asyncio.sleep(0.05)


async def test_the_commands_work_again_when_control_was_killed_and_started_again(stage: Stage) -> None:
    stage.kill("control")
    async with asyncio.timeout(30):
        while (await command(stage, "status"))[0] != 0:
            await asyncio.sleep(0.1)
    found = await status(stage)
    assert {each["name"]: each["restarts"] for each in found["processes"]}["control"] == 1
    code, out = await command(stage, "sessions", "revoke", "--user", "ben")
    assert code in {0, 3}, out
    assert (await stage.get("/x", stage.people[2][1])).status == 401
