"""When the provider is asked again about whose session: the store's queries, each a piece of one transaction."""

import sqlite3
from collections.abc import Sequence

from zt_proxy.control.session.store import RenewalRow


def due(db: sqlite3.Connection, provider: str, now: float, limit: int) -> tuple[str, ...]:
    found = db.execute(
        "SELECT sid FROM renewals WHERE provider=? AND due<=? ORDER BY due LIMIT ?", (provider, now, limit)
    )
    return tuple(sid for (sid,) in found)


def put(db: sqlite3.Connection, row: RenewalRow) -> None:
    """Nothing if the session is not there (any more)."""
    db.execute(
        "INSERT INTO renewals SELECT sid, ?, ? FROM sessions WHERE sid=? "
        "ON CONFLICT(sid) DO UPDATE SET due=excluded.due, provider=excluded.provider",
        (row.provider, row.due, row.sid),
    )


def save(db: sqlite3.Connection, sid: str, blob: bytes, names: Sequence[bytes], renewal: RenewalRow | None) -> bool:
    """False, and nothing stored, if the session is not there (any more)."""
    if db.execute("UPDATE sessions SET blob=? WHERE sid=?", (blob, sid)).rowcount != 1:
        return False
    db.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", [(name, sid) for name in names])
    if renewal is not None:
        put(db, renewal)
    return True
