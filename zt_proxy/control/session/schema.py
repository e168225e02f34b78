"""The tables of the SQLite store, and how a store of before becomes one of now.

Everything that is looked for is found by an index: a look-up among 100,000 sessions costs what it costs with one.
"""

import sqlite3
from pathlib import Path

from zt_proxy.control.session.form_rows import SCHEMA as FORMS
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.private import check_private

VERSION = 3

SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS sessions (
  sid TEXT PRIMARY KEY NOT NULL, subject BLOB NOT NULL, last_activity REAL NOT NULL, idle_timeout REAL NOT NULL,
  absolute_deadline REAL NOT NULL, blob BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS sessions_subject ON sessions(subject);
CREATE INDEX IF NOT EXISTS sessions_absolute ON sessions(absolute_deadline, sid);
CREATE INDEX IF NOT EXISTS sessions_idle ON sessions(last_activity + idle_timeout);
CREATE TABLE IF NOT EXISTS handles (
  handle_hash BLOB PRIMARY KEY, sid TEXT NOT NULL REFERENCES sessions(sid) ON DELETE CASCADE,
  host TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS handles_sid ON handles(sid, host);
CREATE INDEX IF NOT EXISTS handles_host ON handles(host, sid);
CREATE TABLE IF NOT EXISTS names (
  name BLOB NOT NULL, sid TEXT NOT NULL REFERENCES sessions(sid) ON DELETE CASCADE,
  PRIMARY KEY (name, sid)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS names_sid ON names(sid);
CREATE TABLE IF NOT EXISTS renewals (
  sid TEXT PRIMARY KEY NOT NULL REFERENCES sessions(sid) ON DELETE CASCADE, provider TEXT NOT NULL,
  due REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS renewals_due ON renewals(provider, due);
CREATE TABLE IF NOT EXISTS codes (
  code_hash BLOB PRIMARY KEY, expires REAL NOT NULL, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transactions (
  number INTEGER PRIMARY KEY AUTOINCREMENT, state_hash BLOB NOT NULL UNIQUE, browser BLOB NOT NULL,
  client TEXT NOT NULL, expires REAL NOT NULL, blob BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS transactions_client ON transactions(client, number);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
    + FORMS
)

FROM_1 = f"""
PRAGMA foreign_keys=OFF;
PRAGMA legacy_alter_table=ON;
BEGIN IMMEDIATE;
ALTER TABLE sessions RENAME TO sessions_1;
DROP INDEX sessions_subject;
{SCHEMA}
INSERT INTO sessions SELECT * FROM sessions_1;
DROP TABLE sessions_1;
DELETE FROM names;
PRAGMA user_version=3;
COMMIT;
PRAGMA legacy_alter_table=OFF;
PRAGMA foreign_keys=ON;
"""  # noqa: S608 - two constants of this file
"""A table without row ids keeps a quarter of a page of a row at most: with an ID token, 5 KiB a session, not 2."""

FROM_2 = """
BEGIN IMMEDIATE;
DELETE FROM names;
PRAGMA user_version=3;
COMMIT;
"""
"""Sessions without a name are named when the store is opened, now by the provider's session id as well."""


def connect(path: Path, busy: float) -> sqlite3.Connection:
    """Open or make the file (mode 0600); `busy`: seconds to wait for a lock.

    Raises ConfigurationError, sqlite3.Error, OSError.
    """
    path.touch(mode=0o600)
    check_private(path, path.stat())
    # The thread pool has one thread, and no other ever uses the connection.
    connection = sqlite3.connect(path, timeout=busy, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, 1, 2, VERSION}:
            raise ConfigurationError(f"{path}: session store of version {version}; this program reads {VERSION}")
        if version == 1:
            connection.executescript(FROM_1)
        if version == 2:
            connection.executescript(FROM_2)
        connection.executescript(SCHEMA)
        # Nobody can come in by these any more: an end of everything, or a sign-in, was cut off by the end of control.
        connection.execute(
            "DELETE FROM sessions WHERE NOT EXISTS (SELECT 1 FROM handles WHERE handles.sid=sessions.sid)"
        )
        connection.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection
