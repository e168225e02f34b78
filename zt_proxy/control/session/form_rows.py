"""The table of kept forms, as the SQLite store works on it. Each function is one transaction's work."""

import sqlite3

from zt_proxy.control.session.store import FormRow

SCHEMA = """
CREATE TABLE IF NOT EXISTS forms (
  number INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE,
  sid TEXT NOT NULL REFERENCES sessions(sid) ON DELETE CASCADE, place BLOB NOT NULL, released INTEGER NOT NULL,
  expires REAL NOT NULL, size INTEGER NOT NULL, blob BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS forms_sid ON forms(sid, number, size);
"""
"""A name is a hash: of what the hand-off names until the form is released, then of the token."""
ROWS = 64
"""Forms of one session, however small: a row costs more than what is in it."""


def put(db: sqlite3.Connection, row: FormRow, *, total: int, each: int, now: float) -> bool:
    """See `SessionStore.put_form`."""
    sweep(db, now)
    size = len(row.blob)
    if size > each or db.execute("SELECT 1 FROM sessions WHERE sid=?", (row.sid,)).fetchone() is None:
        return False
    while _size(db, row.sid) + size > each or _count(db, row.sid) >= ROWS:
        _drop_oldest(db, row.sid)
    while db.execute("SELECT COALESCE(SUM(size), 0) FROM forms").fetchone()[0] + size > total:
        sid, most = db.execute(
            "SELECT sid, SUM(size) AS most FROM forms GROUP BY sid ORDER BY most DESC LIMIT 1"
        ).fetchone()
        if most < _size(db, row.sid) + size:  # whoever fills the table pays for it
            return False
        _drop_oldest(db, sid)
    db.execute(
        "INSERT INTO forms (name, sid, place, released, expires, size, blob) VALUES (?, ?, ?, 0, ?, ?, ?)",
        (row.name, row.sid, row.place, row.expires, size, row.blob),
    )
    return True


def release(
    db: sqlite3.Connection, name: bytes, sid: str, place: bytes, token: bytes, *, now: float, expires: float
) -> bool:
    """See `SessionStore.release_form`."""
    changed = db.execute(
        "UPDATE forms SET name=?, released=1, expires=? "
        "WHERE name=? AND sid=? AND place=? AND released=0 AND expires>?",
        (token, expires, name, sid, place, now),
    )
    return changed.rowcount == 1


def take(db: sqlite3.Connection, token: bytes, sid: str, place: bytes, now: float) -> bytes | None:
    """See `SessionStore.take_form`."""
    row = db.execute(
        "DELETE FROM forms WHERE name=? AND sid=? AND place=? AND released=1 AND expires>? RETURNING blob",
        (token, sid, place, now),
    ).fetchone()
    return row[0] if row else None


def sweep(db: sqlite3.Connection, now: float) -> None:
    """Delete what nobody came back for."""
    db.execute("DELETE FROM forms WHERE expires<=?", (now,))


def _size(db: sqlite3.Connection, sid: str) -> int:
    found: int = db.execute("SELECT COALESCE(SUM(size), 0) FROM forms WHERE sid=?", (sid,)).fetchone()[0]
    return found


def _count(db: sqlite3.Connection, sid: str) -> int:
    found: int = db.execute("SELECT COUNT(*) FROM forms WHERE sid=?", (sid,)).fetchone()[0]
    return found


def _drop_oldest(db: sqlite3.Connection, sid: str) -> None:
    db.execute("DELETE FROM forms WHERE number=(SELECT MIN(number) FROM forms WHERE sid=?)", (sid,))
