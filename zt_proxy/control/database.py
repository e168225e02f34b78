"""A SQLite file of control's with the one thread that uses it: transactions are whole, in order, or not at all."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from zt_proxy.core.errors import ConfigurationError, Reason, UnavailableError
from zt_proxy.core.private import check_private

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
QUEUE = 1000
"""Transactions that wait for a thread; more are refused."""


class Database:
    """Use `await Database.open(...)`. Durable when `run` returns (synchronous=FULL)."""

    def __init__(self, name: str, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._name = name
        self._connection = connection
        self._thread = thread
        self._closed = False

    @classmethod
    async def open(cls, path: Path, name: str, *, schema: str, version: int, busy: float = 2.0) -> "Database":
        """Open or make the file (mode 0600). `name` is how errors call it; `busy`: seconds to wait for a lock.

        Raises ConfigurationError if it cannot be used, is of another version, or if others may read it.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=path.stem)
        try:
            connection = await asyncio.get_running_loop().run_in_executor(
                thread, _connect, path, name, schema, version, busy
            )
        except (sqlite3.Error, OSError) as error:
            thread.shutdown(wait=False)
            raise ConfigurationError(f"{path}: cannot open the {name}: {error}") from error
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(name, connection, thread)

    async def close(self) -> None:
        """What waits is done first. Another time does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    async def run(self, work: Work[T]) -> T:
        """One transaction; what it raises undoes it. Cancelling the caller does not cut it in half.

        Raises UnavailableError(STORE_UNAVAILABLE).
        """
        try:
            if self._thread._work_queue.qsize() >= QUEUE:
                raise UnavailableError(Reason.STORE_UNAVAILABLE, f"too many wait for the {self._name}")
            return await asyncio.get_running_loop().run_in_executor(self._thread, _transact, self._connection, work)
        except sqlite3.Error as error:
            raise UnavailableError(Reason.STORE_UNAVAILABLE, f"{self._name}: {error}") from error
        except RuntimeError as error:  # the executor is shut down
            raise UnavailableError(Reason.STORE_UNAVAILABLE, f"{self._name}: closed") from error


def _connect(path: Path, name: str, schema: str, version: int, busy: float) -> sqlite3.Connection:
    path.touch(mode=0o600)
    check_private(path, path.stat())
    # The thread pool has one thread, and no other ever uses the connection.
    connection = sqlite3.connect(path, timeout=busy, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in {0, version}:
            raise ConfigurationError(f"{path}: {name} of version {found}; this program reads {version}")
        connection.executescript(schema)
        connection.execute(f"PRAGMA user_version={version}")
    except BaseException:
        connection.close()
        raise
    return connection


def _transact(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
