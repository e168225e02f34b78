"""Known devices in one SQLite file of their own, used by one thread.

    sign-in ──cookie──► seen ──► Seen(device, new, first)
                                   └─ new, and not the first ever ──► notice ──► token ──(mail)──► take

The file names nobody: people are keyed hashes, cookies and tokens plain ones, and what can be read is sealed. It is no
part of a decision: whoever loses it is told of their devices once more.
"""

import hashlib
import secrets
import sqlite3
from pathlib import Path

import msgspec

from zt_proxy.control.database import Database
from zt_proxy.control.factors.types import Person
from zt_proxy.control.session.record import subject_hash
from zt_proxy.core.clock import Clock
from zt_proxy.core.keys import KeyRing, b64decode, b64encode, new_id
from zt_proxy.core.private import private_directory

MOST = 50
"""Devices of one person; the one not seen for longest gives way."""
KEPT = 400 * 86_400.0
"""Seconds: as long as a browser keeps a cookie at most (RFC 6265bis §5.5)."""
NOTICE_LIFE = 14 * 86_400.0
"""Seconds for which the link in a mail is good."""
TOKEN_BYTES = 32
VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS people (person BLOB PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS devices (
  person BLOB NOT NULL, cookie BLOB NOT NULL, id TEXT NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
  blob BLOB NOT NULL, PRIMARY KEY (person, cookie)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notices (
  token BLOB PRIMARY KEY NOT NULL, expires REAL NOT NULL, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS notices_expires ON notices(expires);
"""


class Device(msgspec.Struct, frozen=True):
    """A browser of one person. Times are seconds since the epoch."""

    id: str
    label: str
    """Of `agent_label`, at the last sign-in."""
    address: str
    """Of the last sign-in."""
    first_seen: float
    last_seen: float


class Seen(msgspec.Struct, frozen=True):
    """What a sign-in tells of its device."""

    device: Device
    cookie: str
    """The one that came, or a new one; to be set anew either way, so that it lives on."""
    new: bool
    """This person has not signed in with this browser before."""
    first: bool
    """This person has not signed in at all before, as far as is known."""

    def __repr__(self) -> str:
        return f"Seen({self.device.id!r}, new={self.new}, first={self.first})"


class Notice(msgspec.Struct, frozen=True):
    """What a mail told of."""

    issuer: str
    subject: str
    device: str
    """Id."""
    label: str
    address: str
    at: float

    @property
    def person(self) -> Person:
        return Person(self.issuer, self.subject)


class _Sealed(msgspec.Struct, frozen=True):
    label: str
    address: str


_encode = msgspec.msgpack.encode


class KnownDevices:
    """Use `await KnownDevices.open(...)`. Every method raises UnavailableError(STORE_UNAVAILABLE)."""

    def __init__(self, database: Database, ring: KeyRing, clock: Clock) -> None:
        self._run = database.run
        self.close = database.close
        self._ring = ring
        self._clock = clock

    @classmethod
    async def open(cls, state_dir: Path, clock: Clock) -> "KnownDevices":
        """`devices.db` and `store.keys` of the state folder, made where missing (mode 0600).

        Raises ConfigurationError if either cannot be used.
        """
        private_directory(state_dir)
        ring = KeyRing.load_or_create(state_dir / "store.keys")
        path = state_dir / "devices.db"
        return cls(await Database.open(path, "known devices", schema=SCHEMA, version=VERSION), ring, clock)

    async def seen(self, who: Person, cookie: str | None, label: str, address: str, fresh: str = "") -> Seen:
        """A sign-in of this person came with this cookie (None: with none). Of two at once one is the first. `fresh`:
        the id of the device, if it is a new one."""
        now, person = self._clock.now(), self._person(who)
        if cookie is None or not is_device_cookie(cookie):
            cookie = b64encode(secrets.token_bytes(TOKEN_BYTES))
        key, fresh = _hash(cookie), fresh or new_device_id()

        def work(db: sqlite3.Connection) -> Seen:
            db.execute("DELETE FROM devices WHERE person=? AND last_seen<=?", (person, now - KEPT))
            first = db.execute("INSERT OR IGNORE INTO people VALUES (?)", (person,)).rowcount == 1
            row = db.execute("SELECT id, first_seen FROM devices WHERE person=? AND cookie=?", (person, key)).fetchone()
            id_, first_seen = row or (fresh, now)
            blob = self._ring.seal("device", _encode(_Sealed(label, address)), person + id_.encode())
            db.execute(
                "INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?, ?)", (person, key, id_, first_seen, now, blob)
            )
            db.execute(
                "DELETE FROM devices WHERE person=? AND cookie NOT IN "
                "(SELECT cookie FROM devices WHERE person=? ORDER BY last_seen DESC, cookie=? DESC LIMIT ?)",
                (person, person, key, MOST),
            )
            return Seen(Device(id_, label, address, first_seen, now), cookie, row is None, first)

        return await self._run(work)

    async def id_of(self, who: Person, cookie: str | None) -> str:
        """Of the browser with this cookie, if this person has signed in with it before; else empty."""
        if cookie is None or not is_device_cookie(cookie):
            return ""
        person, key, since = self._person(who), _hash(cookie), self._clock.now() - KEPT

        def work(db: sqlite3.Connection) -> str:
            row = db.execute(
                "SELECT id FROM devices WHERE person=? AND cookie=? AND last_seen>?", (person, key, since)
            ).fetchone()
            return row[0] if row else ""

        return await self._run(work)

    async def known(self, who: Person, cookie: str | None) -> bool:
        """Whether this person has signed in with the browser of this cookie before."""
        return bool(await self.id_of(who, cookie))

    async def of(self, who: Person) -> tuple[Device, ...]:
        """The person's devices, the one seen last first."""
        person = self._person(who)

        def work(db: sqlite3.Connection) -> list[tuple[str, float, float, bytes]]:
            return db.execute(
                "SELECT id, first_seen, last_seen, blob FROM devices WHERE person=? AND last_seen>? "
                "ORDER BY last_seen DESC",
                (person, self._clock.now() - KEPT),
            ).fetchall()

        found = []
        for id_, first_seen, last_seen, blob in await self._run(work):
            try:
                plain = self._ring.open("device", blob, person + id_.encode())
            except ValueError:
                continue  # sealed with a key that is gone: nobody can say what it was
            sealed = msgspec.msgpack.decode(plain, type=_Sealed)
            found.append(Device(id_, sealed.label, sealed.address, first_seen, last_seen))
        return tuple(found)

    async def forget(self, who: Person, id_: str) -> bool:
        """The next sign-in with it is one with a new device. False if the person has no such device."""
        person = self._person(who)
        return await self._run(
            lambda db: db.execute("DELETE FROM devices WHERE person=? AND id=?", (person, id_)).rowcount > 0
        )

    async def notice(self, who: Person, device: Device) -> str:
        """A token for the link in a mail about this device, good once."""
        token, now = b64encode(secrets.token_bytes(TOKEN_BYTES)), self._clock.now()
        key = _hash(token)
        notice = Notice(who.issuer, who.subject, device.id, device.label, device.address, now)
        blob = self._ring.seal("device-notice", _encode(notice), key)

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM notices WHERE expires<=?", (now,))
            db.execute("INSERT INTO notices VALUES (?, ?, ?)", (key, now + NOTICE_LIFE, blob))

        await self._run(work)
        return token

    async def asked(self, token: str) -> Notice | None:
        """What a token is about, without using it; None if it is none, used or too old."""
        return await self._opened(token, "SELECT expires, blob FROM notices WHERE token=?")

    async def take(self, token: str) -> Notice | None:
        """The same, and the token is worth nothing any more: of any number of callers exactly one gets it."""
        return await self._opened(token, "DELETE FROM notices WHERE token=? RETURNING expires, blob")

    async def _opened(self, token: str, sql: str) -> Notice | None:
        key = _hash(token)
        row = await self._run(lambda db: db.execute(sql, (key,)).fetchone())
        if row is None or row[0] <= self._clock.now():
            return None
        try:
            return msgspec.msgpack.decode(self._ring.open("device-notice", row[1], key), type=Notice)
        except ValueError:
            return None

    def _person(self, who: Person) -> bytes:
        return subject_hash(self._ring, who.issuer, who.subject)


def new_device_id() -> str:
    """Of a device that nobody has seen before."""
    return new_id(9)


def is_device_cookie(value: str) -> bool:
    """Whether it looks like one of ours; anything else is replaced, so that nobody can choose a short one."""
    try:
        return len(b64decode(value)) == TOKEN_BYTES
    except ValueError:
        return False


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
