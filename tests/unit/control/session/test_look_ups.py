"""Look-ups of one moment share the way to the store's thread, and nothing else."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from zt_proxy.control.session.sqlite import TOGETHER, SqliteStore
from zt_proxy.control.session.store import HandleRow, SessionRow
from zt_proxy.core.errors import UnavailableError

COUNT = 3 * TOGETHER


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "sessions.db")
    for number in range(COUNT):
        await opened.insert_session(SessionRow(f"s{number}", b"subject", 1.0, 1800.0, 9e9, b"sealed"))
        await opened.replace_handle(HandleRow(b"h%d" % number, f"s{number}", "app"), 0)
    yield opened
    await opened.close()


async def test_each_of_many_at_once_gets_its_own_answer_in_a_few_transactions(store: SqliteStore) -> None:
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    handles = [b"h%d" % number for number in range(COUNT)]
    known, unknown = await asyncio.gather(
        asyncio.gather(*map(store.session_of_handle, handles)),
        asyncio.gather(*(store.session_of_handle(b"made up %d" % number) for number in range(TOGETHER))),
    )
    store._connection.set_trace_callback(None)
    assert [found and (found[0].handle_hash, found[1].sid) for found in known] == [
        (handle, f"s{number}") for number, handle in enumerate(handles)
    ]
    assert not any(unknown)
    assert statements.count("COMMIT") <= 5


async def test_who_gives_up_takes_nobody_along(store: SqliteStore) -> None:
    stuck = threading.Event()
    store._thread.submit(stuck.wait, 60)
    asked = [asyncio.ensure_future(store.session_of_handle(b"h%d" % number)) for number in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    stuck.set()
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert [isinstance(each, tuple) and each[1].sid for each in done[1:]] == ["s1", "s2"]


async def test_a_session_that_ended_is_not_found_by_who_asks_after_it(store: SqliteStore) -> None:
    before = asyncio.ensure_future(store.session_of_handle(b"h0"))
    await asyncio.sleep(0)
    ending = asyncio.ensure_future(store.end_sessions(["s0"], 1))
    await ending
    assert await store.session_of_handle(b"h0") is None
    await before


async def test_what_was_read_before_a_change_is_known_before_the_change_is(store: SqliteStore) -> None:
    """Else a handle that was replaced could be remembered behind its replacement."""
    order: list[str] = []

    async def look() -> None:
        await store.session_of_handle(b"h0")
        order.append("looked up")

    async def replace() -> None:
        await asyncio.sleep(0)
        await store.replace_handle(HandleRow(b"fresh", "s0", "app"), 1)
        order.append("replaced")

    stuck = threading.Event()
    store._thread.submit(stuck.wait, 60)
    both = asyncio.gather(look(), replace())
    while store._queued() < 2:
        await asyncio.sleep(0)
    stuck.set()
    while store._queued():  # both are done before this loop hears of either
        pass
    await both
    assert order == ["looked up", "replaced"]


async def test_a_failure_is_everybodys_who_asked(store: SqliteStore) -> None:
    await asyncio.get_running_loop().run_in_executor(store._thread, store._connection.execute, "DROP TABLE handles")
    done = await asyncio.gather(*(store.session_of_handle(b"h%d" % n) for n in range(9)), return_exceptions=True)
    assert all(isinstance(each, UnavailableError) for each in done)
