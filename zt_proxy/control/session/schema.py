"""The tables of the SQLite store, and how a store of before becomes one of now.

Everything that is looked for is found by an index: a look-up among 100,000 sessions costs what it costs with one.
"""

VERSION = 2

SCHEMA = """
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
CREATE TABLE IF NOT EXISTS codes (
  code_hash BLOB PRIMARY KEY, expires REAL NOT NULL, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transactions (
  number INTEGER PRIMARY KEY AUTOINCREMENT, state_hash BLOB NOT NULL UNIQUE, browser BLOB NOT NULL,
  client TEXT NOT NULL, expires REAL NOT NULL, blob BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS transactions_client ON transactions(client, number);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

FROM_1 = f"""
PRAGMA foreign_keys=OFF;
PRAGMA legacy_alter_table=ON;
BEGIN IMMEDIATE;
ALTER TABLE sessions RENAME TO sessions_1;
DROP INDEX sessions_subject;
{SCHEMA}
INSERT INTO sessions SELECT * FROM sessions_1;
DROP TABLE sessions_1;
PRAGMA user_version=2;
COMMIT;
PRAGMA legacy_alter_table=OFF;
PRAGMA foreign_keys=ON;
"""  # noqa: S608 - two constants of this file
"""A table without row ids keeps a quarter of a page of a row at most: with an ID token, 5 KiB a session, not 2."""
