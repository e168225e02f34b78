"""Disks that are full or fail, a ring that nobody reads, a store that is locked, gone or garbage."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.injection import Steady, steady
from tests.lab.proxy import Client, ProxyLab
from tests.lab.waiting import until
from zt_proxy.control.audit import chain
from zt_proxy.control.audit.verify import verify
from zt_proxy.control.session import sqlite
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError, UnavailableError
from zt_proxy.link import memory


class FailingDisk:
    """The module `os`, on a disk where one kind of call fails; a write fails half-way."""

    def __init__(self, call: str, error: int) -> None:
        self.call = call
        self.error = error

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self.call else getattr(os, name)

    def _fail(self, *args: Any, **more: Any) -> Any:
        if self.call == "write":
            descriptor, data = args
            os.write(descriptor, bytes(data)[: len(data) // 2])
        raise OSError(self.error, "the disk fails")


@contextmanager
def failing_disk(call: str, error: int) -> Iterator[None]:
    """The audit log's disk fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "os", FailingDisk(call, error))
        yield


def problem(proxy: Steady) -> str:
    assert proxy.lab.proxy.control is not None
    return proxy.lab.proxy.control.problem()


async def drained(proxy: Steady) -> None:
    await until(lambda: proxy.worker.recorder.used() == 0)


@pytest.mark.parametrize(
    ("call", "error"),
    [("write", errno.ENOSPC), ("write", errno.EDQUOT), ("fdatasync", errno.EIO), ("fdatasync", errno.ENOSPC)],
)
async def test_when_the_log_cannot_be_written_nothing_is_decided_after_the_lease(call: str, error: int) -> None:
    clock = ManualClock()
    async with steady(clock=clock) as proxy:
        await drained(proxy)
        with failing_disk(call, error):
            held = await proxy.ask()
            assert held.status == 200, "it is on record in the ring"
            await until(lambda: problem(proxy) != "")
            clock.advance(6)
            for _ in range(3):
                denied = await proxy.ask()
                assert (denied.status, denied.reason) == (503, "record-unavailable")
                proxy.unrecorded.add(denied.path)
                assert denied.reply is not None
                assert denied.reply.header("retry-after") is not None
        await drained(proxy)
        assert problem(proxy) == ""
        await proxy.stands(denied)
        assert len(proxy.lab.upstream.seen) == 3, "the denied ones never got there"
        await proxy.lab.stop()
        report = verify([proxy.lab.directory / "audit"])
        assert report.ok, report.problem


async def test_a_new_log_file_that_cannot_be_made_keeps_the_records_in_the_ring() -> None:
    clock = ManualClock()
    async with steady(clock=clock) as proxy:
        await drained(proxy)
        control = proxy.lab.proxy.control
        assert control is not None
        assert control.audit._chain is not None
        control.audit._chain._rotate_bytes = 1
        with failing_disk("open", errno.ENOSPC):
            assert (await proxy.ask()).status == 200
            await until(lambda: problem(proxy) != "")
            clock.advance(6)
            denied = await proxy.ask()
            assert denied.status == 503
            proxy.unrecorded.add(denied.path)
        await drained(proxy)
        await proxy.stands(denied)
        await proxy.lab.stop()
        assert verify([proxy.lab.directory / "audit"]).ok


async def test_a_full_ring_denies_and_forwards_nothing() -> None:
    async with steady(worker={"ring_bytes": 32 * 1024}, clock=ManualClock()) as proxy:
        await drained(proxy)
        client = await proxy.lab.connect()
        with failing_disk("write", errno.ENOSPC):
            statuses = [await again(client, proxy, number) for number in range(160)]
        first = statuses.index(503)
        assert set(statuses[:first]) == {200}
        assert set(statuses[first:]) == {503}
        assert len([seen for seen in proxy.lab.upstream.seen if seen.target.startswith(b"/full/")]) == first
        await client.close()
        await drained(proxy)
        await proxy.stands(await proxy.ask())
        lines = await proxy.lab.log()
        allowed = [line["path"] for line in lines if line["type"] == "decision" and line["effect"] == "allow"]
        assert [path for path in allowed if path.startswith("/full/")] == [f"/full/{n}" for n in range(first)]


async def again(client: Client, proxy: Steady, number: int) -> int:
    await client.write(b"GET /full/%d HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % (number, proxy.cookie))
    return (await client.reply()).status


# ---- the store ----


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store waits a moment for a lock, instead of seconds."""
    monkeypatch.setattr(sqlite, "BUSY", 0.02)


LOCKING = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(lab: ProxyLab) -> Iterator[None]:
    """Another process holds the store's write lock, as a backup does."""
    command = [sys.executable, "-c", LOCKING, str(lab.directory / "state" / "sessions.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        yield


def forget(proxy: Steady) -> None:
    """Control and worker have to look into the store."""
    control = proxy.lab.proxy.control
    assert control is not None
    control.sessions._live.clear()
    control.sessions._handles.clear()
    proxy.worker.sessions.forget("")


@pytest.mark.usefixtures("impatient")
async def test_a_locked_store_ends_no_session_and_brings_none_back() -> None:
    async with steady() as proxy:
        control = proxy.lab.proxy.control
        assert control is not None
        other, cookie = await proxy.lab.new_session("bob")
        with locked(proxy.lab):
            forget(proxy)
            assert (await proxy.ask()).status == 200, "reading goes on"
            with pytest.raises(UnavailableError):
                await proxy.lab.new_session()
            with pytest.raises(UnavailableError):
                await control.sessions.end(other, "signed-out")
            forget(proxy)
            refused = await proxy.ask(cookie=cookie)
            assert refused.status == 401, "dead at once, though the store does not know yet"
        await control.sessions.sweep()
        forget(proxy)
        control.sessions._ended._buried.clear()
        assert (await proxy.ask(cookie=cookie)).status == 401, "and now the store knows"
        await proxy.stands(refused)


async def test_a_store_that_is_garbage_gives_503_and_is_never_taken_for_an_empty_one() -> None:
    async with steady() as proxy:
        state = proxy.lab.directory / "state"
        control = proxy.lab.proxy.control
        assert control is not None
        store: Any = control.sessions._store
        store._thread.submit(lambda: store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()).result()
        store._thread.submit(lambda: store._connection.execute("PRAGMA shrink_memory").fetchall()).result()
        for path in (state / "sessions.db", state / "sessions.db-wal"):
            path.write_bytes(os.urandom(max(path.stat().st_size, 64 * 1024)))
        assert (await proxy.ask()).status == 200, "what the worker knows is still so"
        forget(proxy)
        denied = await proxy.ask()
        assert (denied.status, denied.reason) == (503, "store-unavailable")
        assert denied.reply is not None
        assert denied.reply.all("set-cookie") == [], "nobody loses a cookie by it (FIELD 16)"
        await proxy.rest()
        with pytest.raises(ConfigurationError):
            await sqlite.SqliteStore.open(state / "sessions.db")


async def test_a_store_that_hangs_has_a_bounded_queue_in_which_changes_still_find_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite, "QUEUE", 5)
    async with steady() as proxy:
        control = proxy.lab.proxy.control
        assert control is not None
        store: Any = control.sessions._store
        stuck = threading.Event()
        store._thread.submit(stuck.wait, 60)
        try:
            await until(lambda: store._queued() == 0)
            asked = [asyncio.ensure_future(store.session("x")) for _ in range(5)]
            await until(lambda: store._queued() == 5)
            for one in asked[:3]:
                one.cancel()  # who gives up leaves its place in the queue behind
            with pytest.raises(UnavailableError):
                await store.session("x")
            forget(proxy)
            denied = await proxy.ask()
            assert (denied.status, denied.reason) == (503, "store-unavailable")
            change = asyncio.ensure_future(store.end_sessions(["x"], 1))
            await until(lambda: store._queued() == 6)
        finally:
            stuck.set()
        await change
        assert [await one for one in asked[3:]] == [None, None]
        await proxy.stands(denied)


async def test_a_store_that_was_deleted_under_the_proxy_goes_on_until_it_ends() -> None:
    async with steady() as proxy:
        for path in Path(proxy.lab.directory / "state").glob("sessions.db*"):
            path.unlink()
        forget(proxy)
        answer = await proxy.ask()
        assert answer.status in {200, 503}
        if answer.status == 200:
            await proxy.stands(answer)


async def test_a_store_whose_thread_is_stuck_keeps_nobody_waiting_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "PATIENCE", 0.05)
    async with steady() as proxy:
        control = proxy.lab.proxy.control
        assert control is not None
        stuck = threading.Event()
        control.sessions._store._thread.submit(stuck.wait, 60)  # type: ignore[attr-defined]
        try:
            forget(proxy)
            answer = await proxy.ask()
            assert (answer.status, answer.reason) == (503, "control-unavailable")
        finally:
            stuck.set()
        await proxy.stands(answer)
