"""Locks in one SQLite file of their own, used by one thread; what is written is durable when a method returns.

What stands in the file is sealed: whom somebody locked, and why, is nobody's business who finds a backup. A lock that
cannot be opened any more stops control at its start: nobody could say whom it was about, and without it they may
do what they were locked out of.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zt_proxy.control.database import Database
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.private import private_directory
from zt_proxy.link.locks import Lock

FILE = "locks.db"
VERSION = 1
PURPOSE = "lock"
PAST = 1_000
"""Locks that are over and kept to be looked at, the newest."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS locks (
  id TEXT PRIMARY KEY NOT NULL, sequence INTEGER NOT NULL, ended REAL, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS locks_ended ON locks(ended, sequence);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


class Past(msgspec.Struct, frozen=True):
    """A lock that is over."""

    lock: Lock
    ended: float
    """Epoch seconds."""
    by: str = ""
    """Who lifted it; empty: its time had come."""
    reason: str = ""


class _Sealed(msgspec.Struct, frozen=True):
    lock: Lock
    by: str = ""
    reason: str = ""


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(_Sealed).decode


class LockStore:
    """Use `await LockStore.open(...)`. Every method raises UnavailableError(STORE_UNAVAILABLE)."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._run = database.run
        self.close = database.close
        self._ring = ring

    @classmethod
    async def open(cls, state_dir: Path) -> "LockStore":
        """`locks.db` and `store.keys` of the state folder, made where missing (mode 0600).

        Raises ConfigurationError if either cannot be used.
        """
        private_directory(state_dir)
        ring = KeyRing.load_or_create(state_dir / "store.keys")
        return cls(await Database.open(state_dir / FILE, "locks", schema=SCHEMA, version=VERSION), ring)

    async def in_force(self) -> tuple[Lock, ...]:
        """Those that nobody has ended, in the order of their making; also those whose time is over.

        Raises ConfigurationError for one that does not open.
        """

        def work(db: sqlite3.Connection) -> list[tuple[str, bytes]]:
            return db.execute("SELECT id, blob FROM locks WHERE ended IS NULL ORDER BY sequence").fetchall()

        try:
            return tuple([self._opened(id_, blob).lock for id_, blob in await self._run(work)])
        except (ValueError, msgspec.MsgspecError) as error:
            raise ConfigurationError(
                f"{FILE}: a lock cannot be read: store.keys is not the one it was written with. Put that back, or "
                f"remove {FILE} and make the locks anew"
            ) from error

    async def put(self, lock: Lock) -> int:
        """Keep it, in place of the one with its id. Gives the number of the change, which only rises."""
        blob = self._seal(lock.id, _Sealed(lock))

        def work(db: sqlite3.Connection) -> int:
            number = _count(db)
            db.execute("INSERT OR REPLACE INTO locks VALUES (?, ?, NULL, ?)", (lock.id, number, blob))
            return number

        return await self._run(work)

    async def end(self, locks: Sequence[Lock], at: float, by: str, reason: str) -> int:
        """They are over. Gives the number of the change."""
        rows = [(at, self._seal(lock.id, _Sealed(lock, by, reason)), lock.id) for lock in locks]

        def work(db: sqlite3.Connection) -> int:
            number = _count(db)
            db.executemany("UPDATE locks SET ended=?, blob=? WHERE id=? AND ended IS NULL", rows)
            db.execute(
                "DELETE FROM locks WHERE ended IS NOT NULL AND id NOT IN "
                "(SELECT id FROM locks WHERE ended IS NOT NULL ORDER BY ended DESC, sequence DESC LIMIT ?)",
                (PAST,),
            )
            return number

        return await self._run(work)

    async def past(self) -> tuple[Past, ...]:
        """Those that are over, the latest first."""

        def work(db: sqlite3.Connection) -> list[tuple[str, float, bytes]]:
            return db.execute(
                "SELECT id, ended, blob FROM locks WHERE ended IS NOT NULL ORDER BY ended DESC, sequence DESC"
            ).fetchall()

        found = []
        for id_, ended, blob in await self._run(work):
            try:
                sealed = self._opened(id_, blob)
            except (ValueError, msgspec.MsgspecError):
                continue  # sealed with a key that is gone, and over
            found.append(Past(sealed.lock, ended, sealed.by, sealed.reason))
        return tuple(found)

    def _seal(self, id_: str, sealed: _Sealed) -> bytes:
        return self._ring.seal(PURPOSE, _encode(sealed), id_.encode())

    def _opened(self, id_: str, blob: bytes) -> _Sealed:
        return _decode(self._ring.open(PURPOSE, blob, id_.encode()))


def _count(db: sqlite3.Connection) -> int:
    row = db.execute(
        "INSERT INTO counters VALUES ('sequence', 1) ON CONFLICT(name) DO UPDATE SET value=value+1 RETURNING value"
    ).fetchone()
    number: int = row[0]
    return number
