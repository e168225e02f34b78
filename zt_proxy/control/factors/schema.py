"""The tables of `factors.db`."""

from zt_proxy.control.factors import throttle

VERSION = 1

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
