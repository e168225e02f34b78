"""Requests for approval in one SQLite file of their own, used by one thread; what is written is durable when a method
returns. What stands in the file is sealed: what somebody wants to do, and why, is nobody's business who finds a backup.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from zt_proxy.control.approvals.types import Request
from zt_proxy.control.database import Database
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.private import private_directory

FILE = "approvals.db"
VERSION = 1
PURPOSE = "approval-request"

SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
  id TEXT PRIMARY KEY NOT NULL, expires REAL NOT NULL, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Request).decode

log = structlog.get_logger("zt_proxy.approvals")


class ApprovalStore:
    """Use `await ApprovalStore.open(...)`. Every method raises UnavailableError(STORE_UNAVAILABLE)."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._run = database.run
        self.close = database.close
        self._ring = ring

    @classmethod
    async def open(cls, state_dir: Path) -> "ApprovalStore":
        """`approvals.db` and `store.keys` of the state folder, made where missing (mode 0600).

        Raises ConfigurationError if either cannot be used.
        """
        private_directory(state_dir)
        ring = KeyRing.load_or_create(state_dir / "store.keys")
        return cls(await Database.open(state_dir / FILE, "approvals", schema=SCHEMA, version=VERSION), ring)

    async def all(self) -> tuple[Request, ...]:
        """Every request. One that does not open any more is left out: nobody loses more by it than the asking."""

        def work(db: sqlite3.Connection) -> list[tuple[str, bytes]]:
            return db.execute("SELECT id, blob FROM requests").fetchall()

        found = []
        for id_, blob in await self._run(work):
            try:
                found.append(_decode(self._ring.open(PURPOSE, blob, id_.encode())))
            except (ValueError, msgspec.MsgspecError):
                log.warning("a request for approval cannot be read; it has to be made anew", request=id_)
        return tuple(found)

    async def put(self, request: Request) -> None:
        """Keep it, in place of the one with its id."""
        row = (request.id, request.expires, self._ring.seal(PURPOSE, _encode(request), request.id.encode()))

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?)", row)

        await self._run(work)

    async def drop(self, ids: Sequence[str], now: float) -> None:
        """Forget these, and whatever has expired."""

        def work(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM requests WHERE id=?", [(id_,) for id_ in ids])
            db.execute("DELETE FROM requests WHERE expires<=?", (now,))

        await self._run(work)
