"""Several processes as one proxy: killed, drained, replaced, orphaned; and what a client sees of it."""

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.lab.fleet import Fleet, alive
from tests.lab.proxy import Client
from tests.lab.waiting import until
from tests.lab.ws import TEXT, close_code, frame, read_frame, remaining_frames

PROMISED = 3.0
"""Seconds in which a part that died is there again."""


async def echoes(client: Client) -> bool:
    await client.write(frame(TEXT, b"hello"))
    async with asyncio.timeout(10):
        return (await read_frame(client.reader)).payload == b"hello"


def records(fleet: Fleet) -> list[dict[str, Any]]:
    """What is durable in the audit log."""
    lines: list[dict[str, Any]] = []
    for path in sorted((fleet.directory / "state" / "audit").glob("*.jsonl")):
        lines += [json.loads(line) for line in path.read_text().splitlines()]
    return lines


def connections(worker: psutil.Process) -> int:
    return sum(1 for each in worker.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED)


async def test_both_workers_serve_and_their_decisions_come_into_one_log(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        assert len(fleet.children("control")) == 1
        workers = fleet.children("worker")
        clients = [await fleet.connect() for _ in range(32)]
        held = [connections(worker) for worker in workers]
        assert sum(held) >= 32
        assert min(held) > 2, f"one worker got nearly all: {held}"
        for client in clients:
            await client.write(fleet.head())
            assert (await client.reply()).status == 200
        assert (await fleet.get("/", None)).status == 401
        fleet.signal(signal.SIGTERM)
        assert await fleet.ended() == 0
        decisions = [line for line in records(fleet) if line["type"] == "decision"]
        assert {line["worker"] for line in decisions} == {0, 1}
        assert [line["effect"] for line in decisions].count("allow") == 32


async def test_a_worker_process_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("aiohttp", "pydantic", "ruamel.yaml", "jinja2", "sqlite3", "authlib", "importlib.metadata", "zipfile")
    program = (
        "import sys; from zt_proxy.processes import lean; lean.without_rich(); import zt_proxy.processes.worker_process;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_secrets_go_to_nobody_who_does_not_need_them(tmp_path: Path) -> None:
    secret = "the-providers-secret-4711"
    by_environment = (('"${file:secret}"', '"${env:ZT_FLEET_SECRET}"'),)
    async with Fleet(tmp_path, environment={"ZT_FLEET_SECRET": secret}, replace=by_environment) as fleet:
        for child in fleet.children():
            told = " ".join([*child.cmdline(), *child.environ().values()])
            assert "PATH" in child.environ()
            assert secret not in told
        assert secret not in fleet.log
        assert await fleet.serves()


async def test_a_killed_worker_is_started_again_and_its_sibling_goes_on(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        sockets = [await fleet.websocket() for _ in range(12)]
        before = fleet.children("worker")
        before[0].kill()
        await fleet.back(PROMISED)
        await until(lambda: len(fleet.children("worker")) == 2)
        survived = 0
        for client in sockets:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                survived += await echoes(client)
        assert 0 < survived < len(sockets), "those of the other worker, and no others"
        await until(
            lambda: bool(
                fleet.said("a process serves", child="worker-0") or fleet.said("a process serves", child="worker-1")
            )
        )
        assert fleet.said("a process ended; starting it again")
        assert await fleet.serves(12)


async def test_a_slot_without_a_worker_is_served_by_a_sibling(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        stays = fleet.children("worker")[0]

        def without_the_other() -> bool:
            for worker in fleet.children("worker"):
                if worker.pid != stays.pid:
                    worker.kill()
            pauses = {line["again_in"] for line in fleet.said("a process cannot start")}
            return len(pauses) > 1 and bool(fleet.said("a slot is served by a sibling"))

        await until(without_the_other, 40)  # it says so, and tries again ever more slowly
        assert await fleet.serves(16)
        await until(lambda: bool(fleet.said("a process serves")), 30)
        assert await fleet.serves(16)


async def test_a_killed_control_is_started_again_and_sessions_and_sockets_outlive_it(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        client = await fleet.websocket()
        assert await fleet.serves()
        (before,) = fleet.children("control")
        before.kill()
        assert (await fleet.get()).status == 200, "cached sessions are served while the lease lasts"
        await until(lambda: bool(fleet.said("a process serves", child="control")))
        await fleet.back(PROMISED, "bob")  # whom no worker had cached
        assert await echoes(client)
        assert await fleet.serves()


async def test_a_worker_that_starts_while_control_is_away_serves_once_control_is_back(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        (control,) = fleet.children("control")
        control.suspend()
        fleet.children("worker")[0].kill()
        await until(lambda: len(fleet.children("worker")) == 2)
        control.resume()
        await fleet.back()
        await until(lambda: bool(fleet.said("a process serves")))


@pytest.mark.case("ZT-NET-03")
async def test_the_children_of_a_dead_supervisor_end_and_a_new_one_serves_at_once(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        client = await fleet.websocket()
        orphans = fleet.children()
        assert len(orphans) == 3
        fleet.signal(signal.SIGKILL)
        await fleet.ended()
        fleet.launch()
        await until(lambda: not any(alive(each) for each in orphans), PROMISED)
        frames = await remaining_frames(client.reader)
        assert not frames or close_code(frames[-1]) == 1001
        await until(lambda: bool(fleet.said("serving")), 30)
        assert await fleet.serves()
        assert (await fleet.get("/", "bob")).status == 200, "no session is lost"


async def test_a_stop_lets_requests_end_and_tells_websockets_to_go(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        hold = fleet.upstream.hold = asyncio.Event()
        client, slow = await fleet.websocket(), await fleet.connect()
        await slow.write(fleet.head("/slow"))
        await until(lambda: any(seen.target == b"/slow" for seen in fleet.upstream.seen))
        children = fleet.children()
        fleet.signal(signal.SIGTERM)
        frames = await remaining_frames(client.reader)
        assert close_code(frames[-1]) == 1001
        hold.set()
        assert (await slow.reply()).status == 200
        assert await fleet.ended() == 0
        assert not any(alive(child) for child in children)
        assert fleet.events()[-1]["event"] == "stopped"
        ends = [line for line in records(fleet) if line["type"] == "end"]
        assert len(ends) == 2, "both have their end on record"


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    async with Fleet(tmp_path, drain="1h") as fleet:
        await fleet.download()
        fleet.signal(signal.SIGINT)
        await until(lambda: bool(fleet.said("draining")))
        fleet.signal(signal.SIGINT)
        assert await fleet.ended() == 0


async def test_a_worker_asked_to_end_is_replaced_first(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        gone = fleet.children("worker")[0]
        gone.terminate()
        while alive(gone):
            assert (await fleet.get()).status == 200, "no connection is lost on the way"
        assert len(fleet.children("worker")) == 2
        assert await fleet.serves()


async def test_a_control_asked_to_end_is_followed_by_another(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        (gone,) = fleet.children("control")
        gone.terminate()
        await until(lambda: not alive(gone))
        await until(lambda: bool(fleet.said("a process serves", child="control")))
        await fleet.back(PROMISED)
        assert not fleet.said("a process cannot start")


async def test_a_part_that_cannot_start_at_all_ends_the_start_and_is_named(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        fleet.signal(signal.SIGTERM)
        await fleet.ended()
        (tmp_path / "state" / "store.keys").write_text("damaged")
        fleet.launch()
        assert await fleet.ended() == 1
        (said,) = fleet.said("cannot start")
        assert "store.keys: not a key ring" in said["problem"]


async def test_a_second_proxy_on_the_same_folders_or_address_is_refused(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        command = [sys.executable, "-m", "zt_proxy.cli.main", "run", "-c"]
        done = await asyncio.to_thread(
            subprocess.run, [*command, str(fleet.config)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "another zt-proxy runs with the runtime folder" in done.stderr
        other = tmp_path / "other.yaml"
        other.write_text(fleet.config.read_text().replace("state_dir: state", "state_dir: elsewhere"))
        done = await asyncio.to_thread(
            subprocess.run, [*command, str(other)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1:{fleet.port}" in done.stderr
        assert await fleet.serves()
