"""How often somebody may be wrong about a one-time code: counted in the store, so that no restart forgives.

A person is counted under issuer and subject, whatever name or address they came in by (CVE-2025-24806, ZT-SESS-16). Six
digits with one step of skew are found by one guess in 333,333; the hundredth wrong one in a row is the last that was
looked at (NIST SP 800-63B-4 §3.2.2), which leaves a guesser one chance in 3,333.
"""

import sqlite3

PATIENCE = 5
"""Wrong codes in a row of one person, then the lock."""
FIRST_LOCK = 300.0
LONGEST_LOCK = 900.0
"""Seconds: 5, 10 and then 15 minutes, for each further wrong code once more."""
LAST = 100
"""Wrong codes in a row after which none is looked at before another factor was shown, or an administrator helped."""
ADDRESS_PATIENCE = 30
"""Wrong codes from one address (IPv6: its /64), of whomever."""
ADDRESS_WINDOW = 600.0
"""Seconds that they are counted."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS tries (
  person BLOB PRIMARY KEY, wrong INTEGER NOT NULL, until REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wrongs (client TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS wrongs_client ON wrongs(client, at);
CREATE INDEX IF NOT EXISTS wrongs_at ON wrongs(at);
"""


def person_waits(db: sqlite3.Connection, person: bytes, now: float) -> float:
    """Seconds for which no one-time code of theirs is looked at. A clock that is set back locks nobody for long."""
    row = db.execute("SELECT wrong, until FROM tries WHERE person=?", (person,)).fetchone()
    if row is None:
        return 0.0
    return LONGEST_LOCK if row[0] >= LAST else min(LONGEST_LOCK, max(0.0, row[1] - now))


def address_waits(db: sqlite3.Connection, client: str, now: float) -> float:
    """Seconds for which no code from this address is looked at."""
    row = db.execute(
        "SELECT at FROM wrongs WHERE client=? AND at>? AND at<=? ORDER BY at DESC LIMIT 1 OFFSET ?",
        (client, now - ADDRESS_WINDOW, now, ADDRESS_PATIENCE - 1),
    ).fetchone()
    return float(row[0] + ADDRESS_WINDOW - now) if row else 0.0


def wrong_from(db: sqlite3.Connection, client: str, now: float) -> None:
    """Count a wrong code against the address it came from."""
    db.execute("DELETE FROM wrongs WHERE at<=?", (now - ADDRESS_WINDOW,))
    db.execute("INSERT INTO wrongs VALUES (?, ?)", (client, now))


def wrong_of(db: sqlite3.Connection, person: bytes, now: float) -> None:
    """Count a wrong one-time code against the person."""
    row = db.execute("SELECT wrong FROM tries WHERE person=?", (person,)).fetchone()
    wrong = (row[0] if row else 0) + 1
    over = wrong - PATIENCE
    until = now + min(LONGEST_LOCK, FIRST_LOCK * 2.0 ** min(over, 8)) if over >= 0 else 0.0
    db.execute("INSERT OR REPLACE INTO tries VALUES (?, ?, ?)", (person, wrong, until))


def forgive(db: sqlite3.Connection, person: bytes) -> None:
    """They showed a factor: what was wrong before counts no more."""
    db.execute("DELETE FROM tries WHERE person=?", (person,))
