"""What watching has learnt, and the alerts of late: `watch.db` in the state folder, which control alone writes.

It names people, as the audit log does; mode 0600. Losing it costs the history, and nothing else.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from zt_proxy.control.database import Database
from zt_proxy.control.settings import VolumeSettings
from zt_proxy.control.watch.alerts import Alert
from zt_proxy.control.watch.detectors import Flow, Level, Person, new_flow
from zt_proxy.control.watch.observer import FLOWS, PEOPLE, SEP, last_used
from zt_proxy.core.private import private_directory

VERSION = 1
KEPT = 120 * 86_400.0
"""Seconds for which somebody is remembered who does nothing."""
ALERTS = 10_000
"""Alerts that are kept; the oldest give way. All of them are in the audit log."""
PAGE = 1_000
"""Alerts of one answer."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS flows (
  key TEXT PRIMARY KEY NOT NULL, last REAL NOT NULL, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS people (
  key TEXT PRIMARY KEY NOT NULL, last REAL NOT NULL, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
  grp TEXT NOT NULL, person TEXT NOT NULL, last REAL NOT NULL, PRIMARY KEY (grp, person)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (id TEXT PRIMARY KEY NOT NULL, at REAL NOT NULL, blob BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS alerts_at ON alerts(at);
"""
Members = dict[str, dict[str, float]]
"""Group → person → when they were last known to be in it."""
Row = tuple[str, float, bytes]


class _Traffic(msgspec.Struct, array_like=True):
    windows: tuple[float, ...]
    first: float
    levels: tuple[Level, ...]


class _Habits(msgspec.Struct, array_like=True):
    first: float
    used: list[tuple[str, str, float]]


_pack = msgspec.msgpack.encode
_traffic = msgspec.msgpack.Decoder(_Traffic).decode
_habits = msgspec.msgpack.Decoder(_Habits).decode
_alert = msgspec.json.Decoder(Alert).decode


class Learnt(msgspec.Struct):
    """Everything that was kept."""

    flows: dict[str, Flow]
    people: dict[str, Person]
    members: Members


class WatchStore:
    """Use `await WatchStore.open(...)`. Every method raises UnavailableError(STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._run = database.run
        self.close = database.close

    @classmethod
    async def open(cls, state_dir: Path) -> "WatchStore":
        """Raises ConfigurationError if the file cannot be used."""
        private_directory(state_dir)
        return cls(await Database.open(state_dir / "watch.db", "watching's history", schema=SCHEMA, version=VERSION))

    async def load(self, rules: VolumeSettings) -> Learnt:
        """Rows that do not read, or are of other windows, are left out."""

        def work(connection: sqlite3.Connection) -> tuple[list[Row], list[Row], list[tuple[str, str, float]]]:
            return (
                connection.execute("SELECT * FROM flows ORDER BY last DESC LIMIT ?", (FLOWS,)).fetchall(),
                connection.execute("SELECT * FROM people ORDER BY last DESC LIMIT ?", (PEOPLE,)).fetchall(),
                connection.execute("SELECT * FROM members").fetchall(),
            )

        flows, people, rows = await self._run(work)
        members: Members = {}
        for group, person, last in rows:
            members.setdefault(group, {})[person] = last
        return Learnt(_flows(flows, rules), _people(people), members)

    async def save(
        self,
        flows: Mapping[str, Flow],
        people: Mapping[str, Person],
        members: Iterable[tuple[str, str, float]],
        rules: VolumeSettings,
        now: float,
    ) -> None:
        """What changed; and forget who was not seen for long."""
        traffic = [(key, flow.last, _packed(flow, rules)) for key, flow in flows.items()]
        habits = [
            (key, last_used(each), _pack(_Habits(each.first, [(*use, at) for use, at in each.used.items()])))
            for key, each in people.items()
        ]
        belonging = list(members)

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO flows VALUES (?, ?, ?)", traffic)
            connection.executemany("INSERT OR REPLACE INTO people VALUES (?, ?, ?)", habits)
            connection.executemany("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", belonging)
            for table in ("flows", "people", "members"):
                connection.execute(f"DELETE FROM {table} WHERE last < ?", (now - KEPT,))  # noqa: S608 - names of ours

        await self._run(work)

    async def keep(self, alert: Alert) -> None:
        """In place of what was known of it."""
        blob = msgspec.json.encode(alert)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO alerts VALUES (?, ?, ?)", (alert.id, alert.at, blob))
            connection.execute(
                "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts ORDER BY at DESC LIMIT -1 OFFSET ?)", (ALERTS,)
            )

        await self._run(work)

    async def alerts(self, since: float = 0.0, limit: int = PAGE) -> tuple[Alert, ...]:
        """The newest first."""

        def work(connection: sqlite3.Connection) -> list[tuple[bytes]]:
            return connection.execute(
                "SELECT blob FROM alerts WHERE at >= ? ORDER BY at DESC, id LIMIT ?", (since, min(limit, PAGE))
            ).fetchall()

        return tuple(_alert(blob) for (blob,) in await self._run(work))


def _packed(flow: Flow, rules: VolumeSettings) -> bytes:
    """With what was just taken counted in, so that an open window goes on after a restart."""
    sent, requests = flow.taken()
    levels = tuple(
        msgspec.structs.replace(level, sent=level.sent + sent, requests=level.requests + requests)
        for level in flow.levels
    )
    return _pack(_Traffic(rules.windows, flow.first, levels))


def _flows(rows: list[Row], rules: VolumeSettings) -> dict[str, Flow]:
    read: dict[str, tuple[float, _Traffic]] = {}
    for key, last, blob in rows:
        try:
            traffic = _traffic(blob)
        except msgspec.MsgspecError:
            continue
        if traffic.windows == rules.windows and len(traffic.levels) == len(rules.windows):
            read[key] = last, traffic
    flows: dict[str, Flow] = {}
    for key in sorted(read, key=lambda each: not each.startswith(SEP)):  # everybody's first: the others refer to it
        last, traffic = read[key]
        everybody = None
        if not key.startswith(SEP):
            name = SEP + key.rpartition(SEP)[2]
            everybody = flows.get(name)
            if everybody is None:
                everybody = flows[name] = new_flow(None, traffic.first, rules)
        flow = flows[key] = Flow(everybody, traffic.first, traffic.levels)
        flow.last = last
    return flows


def _people(rows: list[Row]) -> dict[str, Person]:
    people: dict[str, Person] = {}
    for key, _, blob in rows:
        try:
            habits = _habits(blob)
        except msgspec.MsgspecError:
            continue
        people[key] = Person(habits.first, {(route, action): at for route, action, at in habits.used})
    return people
