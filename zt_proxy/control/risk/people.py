"""People who have signed in, in one SQLite file of their own, used by one thread.

Two values of each: who they are by the provider's last word (for `zt-proxy who-can`), and what their sign-ins were like
(for the risk). The file names nobody: people are keyed hashes, and what can be read is sealed. It is no part of a
decision: whoever loses it starts to learn what is usual once more.
"""

import binascii
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from zt_proxy.control.database import Database
from zt_proxy.control.factors.types import Person
from zt_proxy.control.session.record import subject_hash
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.private import private_directory
from zt_proxy.core.session import ClaimValue, Principal
from zt_proxy.policy.habits import DAY, KEPT, NO_HISTORY, History

MOST = 100_000
"""People; whoever was not seen for longest gives way."""
PAGE = 500
"""Most people of one page."""
FRESH = DAY
"""Seconds for which a refresh that tells nothing new is not written down."""
VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
  person BLOB PRIMARY KEY NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL, profile BLOB NOT NULL,
  history BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS people_last_seen ON people(last_seen);
"""


class Profile(msgspec.Struct, frozen=True):
    """Who somebody is by their provider's last word."""

    provider: str
    issuer: str
    subject: str
    email: str | None
    name: str | None
    groups: tuple[str, ...]
    roles: tuple[str, ...]
    claims: Mapping[str, ClaimValue]

    @classmethod
    def of(cls, principal: Principal) -> "Profile":
        return cls(
            provider=principal.provider,
            issuer=principal.issuer,
            subject=principal.subject,
            email=principal.email,
            name=principal.name,
            groups=tuple(sorted(principal.groups)),
            roles=tuple(sorted(principal.roles)),
            claims=dict(principal.claims),
        )


class KnownPerson(Profile, frozen=True, kw_only=True):
    """The same, and when. Times are seconds since the epoch."""

    first_seen: float
    last_seen: float


class PeoplePage(msgspec.Struct, frozen=True):
    people: tuple[KnownPerson, ...]
    following: str
    """Ask with it for the next page; empty after the last one."""


_encode = msgspec.msgpack.encode
_profile = msgspec.msgpack.Decoder(Profile).decode
_history = msgspec.msgpack.Decoder(History).decode
Row = tuple[bytes, float, float, bytes]


class KnownPeople:
    """Use `await KnownPeople.open(...)`. Every method raises UnavailableError(STORE_UNAVAILABLE)."""

    def __init__(self, database: Database, ring: KeyRing, clock: Clock, most: int = MOST) -> None:
        self._run = database.run
        self.close = database.close
        self._ring = ring
        self._clock = clock
        self._most = most

    @classmethod
    async def open(cls, state_dir: Path, clock: Clock, most: int = MOST) -> "KnownPeople":
        """`people.db` and `store.keys` of the state folder, made where missing (mode 0600).

        Raises ConfigurationError if either cannot be used.
        """
        private_directory(state_dir)
        ring = KeyRing.load_or_create(state_dir / "store.keys")
        database = await Database.open(state_dir / "people.db", "known people", schema=SCHEMA, version=VERSION)
        return cls(database, ring, clock, most)

    async def history(self, who: Person) -> History:
        """What sign-ins of this person were like; `NO_HISTORY` if there was none."""
        person = self._person(who)
        return await self._run(lambda db: self._history_in(db, person))

    async def signed_in(self, principal: Principal, after: Callable[[History], History]) -> None:
        """A sign-in that succeeded; `after` gives the history with it."""
        now, person = self._clock.now(), self._person(Person.of(principal))
        profile = self._seal("profile", person, _encode(Profile.of(principal)))

        def work(db: sqlite3.Connection) -> None:
            history = self._seal("history", person, _encode(after(self._history_in(db, person))))
            changed = db.execute(
                "UPDATE people SET last_seen=?, profile=?, history=? WHERE person=?", (now, profile, history, person)
            )
            if changed.rowcount:
                return
            db.execute("DELETE FROM people WHERE last_seen<=?", (now - KEPT,))
            (count,) = db.execute("SELECT count(*) FROM people").fetchone()
            db.execute(
                "DELETE FROM people WHERE person IN (SELECT person FROM people ORDER BY last_seen LIMIT ?)",
                (max(0, count + 1 - self._most),),
            )
            db.execute("INSERT INTO people VALUES (?, ?, ?, ?, ?)", (person, now, now, profile, history))

        await self._run(work)

    async def amend(self, who: Person, change: Callable[[History], History]) -> History | None:
        """Change the history of somebody who has signed in before; gives the new one. None: nobody knows them."""
        person = self._person(who)

        def work(db: sqlite3.Connection) -> History | None:
            if db.execute("SELECT 1 FROM people WHERE person=?", (person,)).fetchone() is None:
                return None
            history = change(self._history_in(db, person))
            sealed = self._seal("history", person, _encode(history))
            db.execute("UPDATE people SET history=? WHERE person=?", (sealed, person))
            return history

        return await self._run(work)

    async def renewed(self, principal: Principal) -> bool:
        """The provider said once more who somebody is; True if it says something else than before."""
        now, person = self._clock.now(), self._person(Person.of(principal))
        profile = Profile.of(principal)

        def work(db: sqlite3.Connection) -> bool:
            row = db.execute("SELECT last_seen, profile FROM people WHERE person=?", (person,)).fetchone()
            if row is None:
                return False
            changed = self._profile_of(person, row[1]) != profile
            if changed or now - row[0] > FRESH:
                sealed = self._seal("profile", person, _encode(profile))
                db.execute("UPDATE people SET last_seen=?, profile=? WHERE person=?", (now, sealed, person))
            return changed

        return await self._run(work)

    async def page(self, after: str = "", limit: int = PAGE) -> PeoplePage:
        """Everybody who is known, in no particular order, that stays the same.

        Raises ClientError(MALFORMED) for an `after` that no page gave.
        """
        limit = max(1, min(limit, PAGE))
        try:
            start = binascii.unhexlify(after)
        except ValueError as error:
            raise ClientError(Reason.MALFORMED, "`after` is not what an earlier page gave") from error
        since = self._clock.now() - KEPT

        def work(db: sqlite3.Connection) -> list[Row]:
            return db.execute(
                "SELECT person, first_seen, last_seen, profile FROM people WHERE person>? AND last_seen>? "
                "ORDER BY person LIMIT ?",
                (start, since, limit),
            ).fetchall()

        rows = await self._run(work)
        found = (self._known(row) for row in rows)
        following = rows[-1][0].hex() if len(rows) == limit else ""
        return PeoplePage(tuple(each for each in found if each is not None), following)

    def _known(self, row: Row) -> KnownPerson | None:
        """None: sealed with a key that is gone."""
        person, first_seen, last_seen, sealed = row
        profile = self._profile_of(person, sealed)
        if profile is None:
            return None
        return KnownPerson(**msgspec.structs.asdict(profile), first_seen=first_seen, last_seen=last_seen)

    def _profile_of(self, person: bytes, sealed: bytes) -> Profile | None:
        try:
            return _profile(self._ring.open("person-profile", sealed, person))
        except (ValueError, msgspec.MsgspecError):
            return None

    def _history_in(self, db: sqlite3.Connection, person: bytes) -> History:
        row = db.execute("SELECT history FROM people WHERE person=?", (person,)).fetchone()
        if row is None:
            return NO_HISTORY
        try:
            return _history(self._ring.open("person-history", row[0], person))
        except (ValueError, msgspec.MsgspecError):
            return NO_HISTORY  # sealed with a key that is gone: what was usual is learnt anew

    def _seal(self, what: str, person: bytes, plain: bytes) -> bytes:
        return self._ring.seal(f"person-{what}", plain, person)

    def _person(self, who: Person) -> bytes:
        return subject_hash(self._ring, who.issuer, who.subject)
