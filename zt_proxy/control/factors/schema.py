"""The tables of `factors.db`, and the way to them."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from zt_proxy.control.factors import throttle
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.private import check_private

VERSION = 1
BUSY = 2.0
"""Seconds to wait for a lock that a backup holds."""

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS people (person BLOB PRIMARY KEY, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (
  name BLOB NOT NULL, person BLOB NOT NULL REFERENCES people(person) ON DELETE CASCADE,
  PRIMARY KEY (name, person)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS names_person ON names(person);
CREATE TABLE IF NOT EXISTS factors (
  id TEXT PRIMARY KEY NOT NULL, person BLOB NOT NULL REFERENCES people(person) ON DELETE CASCADE, kind TEXT NOT NULL,
  created REAL NOT NULL, last_used REAL, counter INTEGER NOT NULL, disabled INTEGER NOT NULL,
  credential BLOB UNIQUE, blob BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS factors_person ON factors(person);
CREATE TABLE IF NOT EXISTS codes (
  hash BLOB PRIMARY KEY, factor TEXT NOT NULL REFERENCES factors(id) ON DELETE CASCADE) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS codes_factor ON codes(factor);
CREATE TABLE IF NOT EXISTS challenges (
  number INTEGER PRIMARY KEY AUTOINCREMENT, token BLOB NOT NULL UNIQUE, person BLOB NOT NULL, kind TEXT NOT NULL,
  expires REAL NOT NULL, blob BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS challenges_person ON challenges(person, number);
CREATE INDEX IF NOT EXISTS challenges_expires ON challenges(expires);
CREATE TABLE IF NOT EXISTS grants (name BLOB PRIMARY KEY, expires REAL NOT NULL) STRICT, WITHOUT ROWID;
{throttle.SCHEMA}
"""

T = TypeVar("T")


def connect(path: Path) -> sqlite3.Connection:
    """Open or make the file (mode 0600). Raises ConfigurationError, sqlite3.Error, OSError."""
    path.touch(mode=0o600)
    check_private(path, path.stat())
    # The thread pool has one thread, and no other ever uses the connection.
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, VERSION}:
            raise ConfigurationError(f"{path}: store of factors of version {version}; this program reads {VERSION}")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """All of `work`, durable when this returns, or nothing of it if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
