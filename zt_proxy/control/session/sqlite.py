"""The store in one SQLite file, used by one thread.

WAL with synchronous=NORMAL never corrupts, but a power cut may lose the last commits. Where losing one would undo a
revocation (ended sessions, replaced handles) the commit is made with synchronous=FULL.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from zt_proxy.control.session import form_rows, login_rows, renewals
from zt_proxy.control.session.schema import connect
from zt_proxy.control.session.store import CodeRow, FormRow, HandleRow, RenewalRow, SessionRow, TransactionRow
from zt_proxy.core.errors import ConfigurationError, Reason, UnavailableError

BUSY = 2.0
"""Seconds to wait for a lock that a backup or an inspecting operator holds."""
QUEUE = 2_000
"""Trips that may wait for the store's thread, each with `TOGETHER` look-ups at most; changes may wait behind as many
again."""
TOGETHER = 64
"""Look-ups of one moment that go to the thread together; a change waits no longer than for these."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Found = dict[bytes, tuple[HandleRow, SessionRow]]
"""What the store knows, by the hash of the handle."""
Asked = list[tuple[bytes, "asyncio.Future[tuple[HandleRow, SessionRow] | None]"]]

_FULL = "too many wait for the session store"
_CLOSED = "session store is closed"
_SESSION = "sid, subject, last_activity, idle_timeout, absolute_deadline, blob"
_OF_HANDLE = f"SELECT host, {_SESSION} FROM handles JOIN sessions USING (sid) WHERE handle_hash=?"  # noqa: S608


class SqliteStore:
    """`SessionStore` in a file. Use `await SqliteStore.open(path)`."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread
        self._asked: Asked = []

    @classmethod
    async def open(cls, path: Path) -> "SqliteStore":
        """Open or create the file (mode 0600).

        Raises ConfigurationError if it is not a store of this version, or if others may read it.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, connect, path, BUSY)
        except (sqlite3.Error, OSError) as error:
            thread.shutdown(wait=False)
            raise ConfigurationError(f"{path}: cannot open the session store: {error}") from error
        except ConfigurationError:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    def _queued(self) -> int:
        """What waits for the thread; also calls that were given up, which stay until their turn."""
        return self._thread._work_queue.qsize()

    async def _run(self, work: Work[T], *, durable: bool = False, reads: bool = False) -> T:
        """Run one transaction in the store's thread. Cancelling the caller does not cut the transaction in half."""
        try:
            loop = asyncio.get_running_loop()
            if self._queued() >= (QUEUE if reads else 2 * QUEUE):  # look-ups give way to changes
                raise UnavailableError(Reason.STORE_UNAVAILABLE, _FULL)
            return await loop.run_in_executor(self._thread, _transact, self._connection, work, durable, reads)
        except sqlite3.Error as error:
            raise UnavailableError(Reason.STORE_UNAVAILABLE, f"session store: {error}") from error
        except RuntimeError as error:  # the executor is shut down
            raise UnavailableError(Reason.STORE_UNAVAILABLE, _CLOSED) from error

    # sessions

    async def sequence(self) -> int:
        def work(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT value FROM counters WHERE name='sequence'").fetchone()
            return row[0] if row else 0

        return await self._run(work, reads=True)

    async def insert_session(
        self, row: SessionRow, names: Sequence[bytes] = (), renewal: RenewalRow | None = None
    ) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
                (row.sid, row.subject, row.last_activity, row.idle_timeout, row.absolute_deadline, row.blob),
            )
            db.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", [(name, row.sid) for name in names])
            if renewal is not None:
                renewals.put(db, renewal)

        await self._run(work)

    async def session(self, sid: str) -> SessionRow | None:
        def work(db: sqlite3.Connection) -> SessionRow | None:
            row = db.execute(f"SELECT {_SESSION} FROM sessions WHERE sid=?", (sid,)).fetchone()  # noqa: S608
            return SessionRow(*row) if row else None

        return await self._run(work, reads=True)

    async def session_of_handle(self, handle_hash: bytes) -> tuple[HandleRow, SessionRow] | None:
        """Questions of one moment go to the thread together: the way there and back costs more than an answer."""
        if self._queued() >= QUEUE:
            raise UnavailableError(Reason.STORE_UNAVAILABLE, _FULL)
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._look_up)
        answer: asyncio.Future[tuple[HandleRow, SessionRow] | None] = loop.create_future()
        self._asked.append((handle_hash, answer))
        if len(self._asked) >= TOGETHER:
            self._look_up()
        return await answer

    def _look_up(self) -> None:
        """Send who asked on their way. Answers come in the order of the thread's work, among those to changes: what
        was read before a change is known before the change is, and cannot be remembered after it."""
        asked, self._asked = self._asked, []
        if not asked:
            return
        loop = asyncio.get_running_loop()

        def work(db: sqlite3.Connection) -> Found:
            found: Found = {}
            for handle, _ in asked:
                row = db.execute(_OF_HANDLE, (handle,)).fetchone()
                if row is not None:
                    found[handle] = HandleRow(handle, row[1], row[0]), SessionRow(*row[1:])
            return found

        def go() -> None:
            try:
                loop.call_soon_threadsafe(_answer, asked, _transact(self._connection, work, False, True), "")
            except Exception as error:  # whatever it is: those who asked must not wait for ever
                loop.call_soon_threadsafe(_answer, asked, {}, f"session store: {error}")

        try:
            self._thread.submit(go)
        except RuntimeError:  # the executor is shut down
            _answer(asked, {}, _CLOSED)

    async def replace_handle(self, row: HandleRow, sequence: int) -> tuple[bytes, ...] | None:
        def work(db: sqlite3.Connection) -> tuple[bytes, ...] | None:
            if db.execute("SELECT 1 FROM sessions WHERE sid=?", (row.sid,)).fetchone() is None:
                return None
            old = db.execute(
                "DELETE FROM handles WHERE sid=? AND host=? RETURNING handle_hash", (row.sid, row.host)
            ).fetchall()
            db.execute("INSERT INTO handles VALUES (?, ?, ?)", (row.handle_hash, row.sid, row.host))
            if old:
                _count(db, sequence)
            return tuple(hash_ for (hash_,) in old)

        return await self._run(work, durable=True)

    async def save_blob(self, sid: str, blob: bytes, sequence: int) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            _count(db, sequence)
            return db.execute("UPDATE sessions SET blob=? WHERE sid=?", (blob, sid)).rowcount == 1

        return await self._run(work)

    async def due_renewals(self, provider: str, now: float, limit: int) -> tuple[str, ...]:
        return await self._run(lambda db: renewals.due(db, provider, now, limit), reads=True)

    async def put_renewal(self, row: RenewalRow) -> None:
        await self._run(lambda db: renewals.put(db, row))

    async def save_renewed(
        self, sid: str, blob: bytes, names: Sequence[bytes], renewal: RenewalRow | None, sequence: int
    ) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            _count(db, sequence)
            return renewals.save(db, sid, blob, names, renewal)

        return await self._run(work, durable=True)

    async def touch(self, activity: Mapping[str, float], alive: Collection[str] = ()) -> None:
        rows = [(at, sid, at, sid in alive, at, at) for sid, at in activity.items()]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(
                "UPDATE sessions SET last_activity=? WHERE sid=? AND last_activity<? "
                "AND (? OR last_activity+idle_timeout>?) AND absolute_deadline>?",
                rows,
            )

        await self._run(work)

    async def end_sessions(self, sids: Sequence[str], sequence: int) -> None:
        rows = [(sid,) for sid in sids]

        def work(db: sqlite3.Connection) -> None:
            _count(db, sequence)
            db.executemany("DELETE FROM sessions WHERE sid=?", rows)

        await self._run(work, durable=True)

    async def drop_handles(self, sequence: int) -> None:
        def work(db: sqlite3.Connection) -> None:
            _count(db, sequence)
            for table in ("handles", "codes"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608

        await self._run(work, durable=True)

    async def sessions_of(self, subject: bytes) -> tuple[str, ...]:
        def work(db: sqlite3.Connection) -> tuple[str, ...]:
            return tuple(sid for (sid,) in db.execute("SELECT sid FROM sessions WHERE subject=?", (subject,)))

        return await self._run(work, reads=True)

    async def overdue(self, now: float) -> tuple[str, ...]:
        def work(db: sqlite3.Connection) -> tuple[str, ...]:
            found = db.execute(
                "SELECT sid FROM sessions WHERE absolute_deadline<=? "
                "UNION SELECT sid FROM sessions WHERE last_activity+idle_timeout<=?",
                (now, now),
            )
            return tuple(sid for (sid,) in found)

        return await self._run(work, reads=True)

    # for the operator

    async def sids(self) -> tuple[str, ...]:
        return await self._run(lambda db: tuple(sid for (sid,) in db.execute("SELECT sid FROM sessions")), reads=True)

    async def count_sessions(self) -> int:
        def work(db: sqlite3.Connection) -> int:
            count: int = db.execute("SELECT COUNT(*) FROM sessions").fetchone()[0]
            return count

        return await self._run(work, reads=True)

    async def named(self, name: bytes) -> tuple[str, ...]:
        def work(db: sqlite3.Connection) -> tuple[str, ...]:
            return tuple(sid for (sid,) in db.execute("SELECT sid FROM names WHERE name=?", (name,)))

        return await self._run(work, reads=True)

    async def unnamed(self, limit: int) -> tuple[SessionRow, ...]:
        def work(db: sqlite3.Connection) -> tuple[SessionRow, ...]:
            found = db.execute(
                f"SELECT {_SESSION} FROM sessions WHERE NOT EXISTS "  # noqa: S608
                "(SELECT 1 FROM names WHERE names.sid=sessions.sid) LIMIT ?",
                (limit,),
            )
            return tuple(SessionRow(*row) for row in found)

        return await self._run(work, reads=True)

    async def put_names(self, names: Sequence[tuple[bytes, str]]) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR IGNORE INTO names SELECT ?, sid FROM sessions WHERE sid=?", names)

        await self._run(work)

    async def page(
        self, after: tuple[float, str] | None, limit: int, host: str | None
    ) -> tuple[tuple[SessionRow, tuple[str, ...]], ...]:
        deadline, sid = after or (float("inf"), "")
        if host is None:
            sql = (
                f"SELECT {_SESSION} FROM sessions WHERE (absolute_deadline, sid) < (?, ?) "  # noqa: S608
                "ORDER BY absolute_deadline DESC, sid DESC LIMIT ?"
            )
            values: tuple[object, ...] = (deadline, sid, limit)
        else:
            sql = (
                f"SELECT {_SESSION} FROM handles JOIN sessions USING (sid) WHERE host=? AND sid>? "  # noqa: S608
                "ORDER BY handles.sid LIMIT ?"
            )
            values = (host, sid, limit)

        def work(db: sqlite3.Connection) -> tuple[tuple[SessionRow, tuple[str, ...]], ...]:
            return tuple((SessionRow(*row), _hosts(db, row[0])) for row in db.execute(sql, values).fetchall())

        return await self._run(work, reads=True)

    async def rows(self, sids: Sequence[str]) -> tuple[tuple[SessionRow, tuple[str, ...]], ...]:
        def work(db: sqlite3.Connection) -> tuple[tuple[SessionRow, tuple[str, ...]], ...]:
            found = [db.execute(f"SELECT {_SESSION} FROM sessions WHERE sid=?", (s,)).fetchone() for s in sids]  # noqa: S608
            return tuple((SessionRow(*row), _hosts(db, row[0])) for row in found if row is not None)

        return await self._run(work, reads=True)

    # logins under way

    async def put_code(self, row: CodeRow) -> None:
        await self._run(lambda db: login_rows.put_code(db, row))

    async def take_code(self, code_hash: bytes) -> CodeRow | None:
        return await self._run(lambda db: login_rows.take_code(db, code_hash), durable=True)

    async def put_transaction(self, row: TransactionRow, *, total: int, per_client: int, now: float) -> bool:
        return await self._run(
            lambda db: login_rows.put_transaction(db, row, total=total, per_client=per_client, now=now)
        )

    async def take_transaction(self, state_hash: bytes, browser: bytes) -> TransactionRow | None:
        return await self._run(lambda db: login_rows.take_transaction(db, state_hash, browser), durable=True)

    async def transaction(self, state_hash: bytes, browser: bytes) -> TransactionRow | None:
        return await self._run(lambda db: login_rows.transaction(db, state_hash, browser), reads=True)

    async def has_transaction(self, state_hash: bytes) -> bool:
        return await self._run(lambda db: login_rows.has_transaction(db, state_hash), reads=True)

    async def put_form(self, row: FormRow, *, total: int, each: int, now: float) -> bool:
        return await self._run(lambda db: form_rows.put(db, row, total=total, each=each, now=now))

    async def release_form(
        self, name: bytes, sid: str, place: bytes, token: bytes, *, now: float, expires: float
    ) -> bool:
        return await self._run(lambda db: form_rows.release(db, name, sid, place, token, now=now, expires=expires))

    async def take_form(self, token: bytes, sid: str, place: bytes, now: float) -> bytes | None:
        return await self._run(lambda db: form_rows.take(db, token, sid, place, now), durable=True)

    async def sweep(self, now: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            form_rows.sweep(db, now)
            login_rows.sweep(db, now)

        await self._run(work)


def _answer(asked: Asked, found: Found, problem: str) -> None:
    for handle, answer in asked:
        if answer.done():
            continue  # nobody waits any more
        if problem:
            answer.set_exception(UnavailableError(Reason.STORE_UNAVAILABLE, problem))
        else:
            answer.set_result(found.get(handle))


def _transact(connection: sqlite3.Connection, work: Work[T], durable: bool, reads: bool) -> T:
    if durable:
        connection.execute("PRAGMA synchronous=FULL")
    try:
        connection.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result
    finally:
        if durable:
            connection.execute("PRAGMA synchronous=NORMAL")


def _hosts(db: sqlite3.Connection, sid: str) -> tuple[str, ...]:
    return tuple(host for (host,) in db.execute("SELECT host FROM handles WHERE sid=? ORDER BY host", (sid,)))


def _count(db: sqlite3.Connection, sequence: int) -> None:
    db.execute(
        "INSERT INTO counters VALUES ('sequence', ?) ON CONFLICT(name) DO UPDATE SET value=MAX(value, excluded.value)",
        (sequence,),
    )
