"""Locks over several processes: on every worker, through the ends of control and workers, and by the clock."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_reload import IN_FORCE
from tests.lab.fleet import Fleet, free_port
from tests.lab.waiting import until
from tests.lab.ws import close_code, remaining_frames
from zt_proxy.cli.operator_client import Unreachable, ask


@pytest.fixture
async def fleet(tmp_path: Path):
    async with Fleet(tmp_path, metrics=free_port()) as made:
        yield made


async def operator(fleet: Fleet, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """As the commands ask; again while control is being replaced."""
    socket = fleet.directory / "state" / "run" / "operator.sock"
    async with asyncio.timeout(20):
        while True:
            try:
                return await asyncio.to_thread(ask, socket, method, target, body)
            except Unreachable:
                await asyncio.sleep(0.05)


async def locks_kept(fleet: Fleet) -> list[float]:
    """How many locks each worker keeps to."""
    _, writer = connection = await asyncio.open_connection("127.0.0.1", fleet.metrics)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await connection[0].read()).decode()
    writer.close()
    return [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("zt_locks{")]


async def lock(fleet: Fleet, **order: Any) -> dict[str, Any]:
    done = await operator(fleet, "POST", "/locks", {"kind": "user", "value": "alice", "lasts": 600.0, **order})
    assert done["in_force"], done
    made: dict[str, Any] = done["lock"]
    return made


async def answers(fleet: Fleet, who: str = "alice", count: int = 12) -> set[tuple[int, str]]:
    """What new connections are told, whichever worker they come to."""
    found = set()
    for _ in range(count):
        reply = await fleet.get("/", who)
        found.add((reply.status, reply.problem["reason"] if reply.status >= 400 else ""))
    return found


async def test_a_lock_cuts_what_is_open_on_every_worker_and_refuses_everywhere(fleet: Fleet) -> None:
    sockets = [await fleet.websocket() for _ in range(8)]
    downloads = [await fleet.download() for _ in range(8)]
    other = await fleet.download("bob")
    made = await lock(fleet, reason="laptop stolen")
    assert set(await locks_kept(fleet)) == {1.0}
    for client in sockets:
        assert close_code((await remaining_frames(client.reader))[-1]) == 4403
    for client in downloads:
        await client.ended()
    assert await answers(fleet) == {(403, "locked")}
    assert await other.reader.read(1)
    assert await answers(fleet, "bob") == {(200, "")}
    done = await operator(fleet, "POST", "/locks/lift", {"id": made["id"]})
    assert done["in_force"]
    assert await answers(fleet) == {(200, "")}


async def test_a_lock_survives_the_end_of_control_and_a_worker_that_begins_later_has_it(fleet: Fleet) -> None:
    made = await lock(fleet, lasts=None)
    fleet.children("control")[0].kill()
    await fleet.back(who="bob")
    assert await answers(fleet) == {(403, "locked")}
    found = await operator(fleet, "GET", "/locks")
    assert [each["id"] for each in found["locks"]] == [made["id"]]
    before = {worker.pid for worker in fleet.children("worker")}
    for worker in fleet.children("worker"):
        worker.kill()
    await until(lambda: len({worker.pid for worker in fleet.children("worker")} - before) == 2)
    await fleet.back(who="bob")
    assert await answers(fleet) == {(403, "locked")}
    # Not `in_force` for certain: for all that control knows, who was killed may live on its lease for a while.
    await operator(fleet, "POST", "/locks/lift", {"kind": "user", "value": "alice"})
    assert await answers(fleet) == {(200, "")}


async def test_a_lock_survives_a_restart_of_everything_and_a_reload(fleet: Fleet) -> None:
    await lock(fleet, effect="read-only")
    fleet.signal(signal.SIGTERM)
    await fleet.ended()
    await fleet.start()
    await fleet.back(who="bob")
    assert (await fleet.get()).status == 200
    fleet.drain = "6s"
    fleet.write()
    fleet.signal(signal.SIGHUP)
    await until(lambda: bool(fleet.said(IN_FORCE, epoch=2)))
    client = await fleet.connect()
    await client.write(fleet.head().replace(b"GET", b"DELETE", 1))
    assert (await client.reply("DELETE")).problem["reason"] == "locked-read-only"


async def test_a_lock_ends_by_the_clock_on_every_worker(fleet: Fleet) -> None:
    await lock(fleet, lasts=2.0)
    assert (await fleet.get()).status == 403
    async with asyncio.timeout(20):
        while await answers(fleet) != {(200, "")}:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(20):
        while not (await operator(fleet, "GET", "/locks?past=1"))["past"]:
            await asyncio.sleep(0.05)
