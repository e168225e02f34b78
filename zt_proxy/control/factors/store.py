"""`factors.db`: one SQLite file, one thread, every change on the disk before it counts (synchronous=FULL).

    factors     one row each; `counter` is the signature counter of a passkey, the last step of a one-time password
    codes       hashes of recovery codes, deleted as they are used
    challenges  what was handed to a browser and has not come back
    people      who owns factors, sealed; `names` finds them for an operator
    grants      permissions to enrol
    tries, wrongs    see `throttle`

Blobs are sealed with id and person as associated data. Methods raise UnavailableError(STORE_UNAVAILABLE) when the store
cannot answer, and what each says.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from zt_proxy.control.database import Database
from zt_proxy.control.factors import throttle
from zt_proxy.control.factors.schema import SCHEMA, VERSION
from zt_proxy.control.factors.types import FactorKind, FactorRefused, unknown
from zt_proxy.core.errors import ClientError, Reason

PENDING = 10
"""Challenges of one person for one purpose at once; the oldest gives way."""
PENDING_ALL = 500
"""Challenges of one person at once; the oldest of the purpose with the most gives way. Whoever only knows the password
asks for others than the person, and would need as many addresses as make that many sign-ins to be in their way."""
PASSKEYS = 20
"""Of one person."""
APPS = 5
"""Secrets of one-time passwords of one person."""
MOST = {FactorKind.PASSKEY: PASSKEYS, FactorKind.TOTP: APPS}

Names = Sequence[bytes]


class FactorRow(NamedTuple):
    id: str
    person: bytes
    kind: FactorKind
    created: float
    last_used: float | None
    counter: int
    disabled: bool
    credential: bytes | None
    blob: bytes
    remaining: int = 0


class PersonRow(NamedTuple):
    """Who owns factors: sealed, and the keyed hashes of what they are called."""

    person: bytes
    blob: bytes
    names: tuple[bytes, ...]


class ChallengeRow(NamedTuple):
    token: bytes
    person: bytes
    kind: str
    """What is asked for; in the store with `:` and the purpose, for which there may be `PENDING`."""
    expires: float
    blob: bytes


_FACTOR = "id, person, kind, created, last_used, counter, disabled, credential, blob"
_OF = (
    f"SELECT {_FACTOR}, (SELECT COUNT(*) FROM codes WHERE factor=factors.id) FROM factors "  # noqa: S608
    "WHERE person=? ORDER BY rowid"
)
_CHALLENGE = "token, person, kind, expires, blob"
_KIND = "instr(kind, ? || ':')=1"


class FactorStore:
    """Use `await FactorStore.open(path)`."""

    def __init__(self, database: Database) -> None:
        self._run = database.run
        self.close = database.close

    @classmethod
    async def open(cls, path: Path) -> "FactorStore":
        """Open or create the file (mode 0600). Raises ConfigurationError if it cannot be used."""
        return cls(await Database.open(path, "store of factors", schema=SCHEMA, version=VERSION))

    # factors

    async def of(self, person: bytes) -> tuple[FactorRow, ...]:
        """The oldest first."""
        return await self._run(lambda db: _rows(db, person))

    async def add(
        self,
        row: FactorRow,
        owner: PersonRow,
        *,
        have: frozenset[str],
        needs_grant: bool,
        now: float,
        token: bytes | None = None,
    ) -> None:
        """A new factor, which uses up `token` (a challenge that is still there) and a grant, if there is one.

        Raises ClientError: FACTOR_UNKNOWN (the token is gone), ENROLMENT_NOT_FRESH if the person's factors are not
        `have` any more, ENROLMENT_NOT_GRANTED, FACTOR_TOO_MANY, FACTOR_NOT_ACCEPTED for a passkey that somebody has.
        """

        def work(db: sqlite3.Connection) -> None:
            if token is not None and _take(db, token, row.person, row.kind, now) is None:
                raise unknown("this enrolment took too long, or it is done")
            rows = _rows(db, row.person)
            if {each.id for each in rows} != have:
                raise ClientError(Reason.ENROLMENT_NOT_FRESH, "another factor came in between", status=401)
            if not _take_grant(db, owner.names, now) and needs_grant:
                raise ClientError(Reason.ENROLMENT_NOT_GRANTED, "nobody granted this enrolment", status=403)
            if [each.kind for each in rows].count(row.kind) >= MOST[row.kind]:
                raise ClientError(Reason.FACTOR_TOO_MANY, f"{MOST[row.kind]} of this kind already", status=409)
            if db.execute("SELECT 1 FROM factors WHERE credential=?", (row.credential,)).fetchone() is not None:
                raise ClientError(Reason.FACTOR_NOT_ACCEPTED, "this passkey is known already", status=409)
            _know(db, owner)
            _insert(db, row)

        await self._run(work)

    async def put_codes(self, row: FactorRow, owner: PersonRow, hashes: Sequence[bytes]) -> None:
        """New recovery codes in the place of the old ones.

        Raises ClientError(FACTOR_UNKNOWN) for somebody without a factor that they could stand in for.
        """

        def work(db: sqlite3.Connection) -> None:
            if not any(each.kind is not FactorKind.RECOVERY for each in _rows(db, row.person)):
                raise unknown("no factor that recovery codes could stand in for")
            _know(db, owner)
            db.execute("DELETE FROM factors WHERE person=? AND kind=?", (row.person, row.kind))
            _insert(db, row)
            db.executemany("INSERT INTO codes VALUES (?, ?)", [(each, row.id) for each in hashes])

        await self._run(work)

    async def save_blob(self, person: bytes, factor: str, blob: bytes) -> bool:
        """False if the person has no such factor."""

        def work(db: sqlite3.Connection) -> bool:
            return db.execute("UPDATE factors SET blob=? WHERE id=? AND person=?", (blob, factor, person)).rowcount == 1

        return await self._run(work)

    async def remove(self, person: bytes, factor: str, *, last: bool, kinds: Sequence[str]) -> None:
        """Raises ClientError: FACTOR_UNKNOWN; FACTOR_LAST if nothing of `kinds` would be left to use, unless `last`."""

        def work(db: sqlite3.Connection) -> None:
            if db.execute("DELETE FROM factors WHERE id=? AND person=?", (factor, person)).rowcount != 1:
                raise unknown("no such factor")
            left = {each.kind for each in _rows(db, person) if not each.disabled}
            if not last and not left & set(kinds):
                raise ClientError(Reason.FACTOR_LAST, "this is the last factor", status=409)
            db.execute("DELETE FROM people WHERE person=? AND person NOT IN (SELECT person FROM factors)", (person,))

        await self._run(work)

    async def reset(self, person: bytes) -> int:
        """Forget everything about a person; gives how many factors that were."""

        def work(db: sqlite3.Connection) -> int:
            count: int = db.execute("SELECT COUNT(*) FROM factors WHERE person=?", (person,)).fetchone()[0]
            for table in ("people", "challenges", "tries"):
                db.execute(f"DELETE FROM {table} WHERE person=?", (person,))  # noqa: S608
            return count

        return await self._run(work)

    # factors are shown

    async def passkey_used(self, factor: str, counter: int, owner: PersonRow, now: float) -> bool:
        """Record a verified answer. False: its counter did not rise (WebAuthn §6.1.1), and the passkey is disabled now.

        Raises ClientError(FACTOR_UNKNOWN) if it was removed or disabled in between.
        """

        def work(db: sqlite3.Connection) -> bool:
            row = db.execute(
                "SELECT counter FROM factors WHERE id=? AND person=? AND NOT disabled", (factor, owner.person)
            ).fetchone()
            if row is None:
                raise unknown("the passkey was removed")
            if (counter or row[0]) and counter <= row[0]:
                db.execute("UPDATE factors SET disabled=1 WHERE id=?", (factor,))
                return False
            db.execute("UPDATE factors SET counter=?, last_used=? WHERE id=?", (counter, now, factor))
            throttle.forgive(db, owner.person)
            _know(db, owner)
            return True

        return await self._run(work)

    async def otp_used(
        self, client: str, matches: Sequence[tuple[str, int]], owner: PersonRow, now: float
    ) -> str | FactorRefused:
        """The factor whose code this was: of `matches` (factor, step) one whose last step was before. Of any number of
        callers with one code exactly one gets it. What is refused is counted, so it is given, not raised."""

        def work(db: sqlite3.Connection) -> str | FactorRefused:
            wait = max(throttle.person_waits(db, owner.person, now), throttle.address_waits(db, client, now))
            if wait:
                return _locked(wait)
            for factor, step in matches:
                used = db.execute(
                    "UPDATE factors SET counter=?, last_used=? WHERE id=? AND person=? AND counter<?",
                    (step, now, factor, owner.person, step),
                )
                if used.rowcount == 1:
                    throttle.forgive(db, owner.person)
                    _know(db, owner)
                    return factor
            throttle.wrong_from(db, client, now)
            throttle.wrong_of(db, owner.person, now)
            wait = max(throttle.person_waits(db, owner.person, now), throttle.address_waits(db, client, now))
            detail = "the code was used before" if matches else "wrong code"
            return FactorRefused(Reason.FACTOR_WRONG, detail, retry_after=wait, used=bool(matches))

        return await self._run(work)

    async def code_used(self, client: str, hash_: bytes | None, owner: PersonRow, now: float) -> str | FactorRefused:
        """The same for a recovery code, which no lock of one-time passwords stops: nobody guesses one."""

        def work(db: sqlite3.Connection) -> str | FactorRefused:
            wait = throttle.address_waits(db, client, now)
            if wait:
                return _locked(wait)
            row = db.execute("DELETE FROM codes WHERE hash=? RETURNING factor", (hash_,)).fetchone()
            if row is None:
                throttle.wrong_from(db, client, now)
                wait = throttle.address_waits(db, client, now)
                return FactorRefused(Reason.FACTOR_WRONG, "no such recovery code", retry_after=wait)
            db.execute("UPDATE factors SET last_used=? WHERE id=?", (now, row[0]))
            throttle.forgive(db, owner.person)
            return str(row[0])

        return await self._run(work)

    # challenges

    async def put_challenge(self, row: ChallengeRow, now: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM challenges WHERE expires<=?", (now,))
            db.execute(
                "DELETE FROM challenges WHERE person=? AND kind=? AND number NOT IN "
                "(SELECT number FROM challenges WHERE person=? AND kind=? ORDER BY number DESC LIMIT ?)",
                (row.person, row.kind, row.person, row.kind, PENDING - 1),
            )
            db.execute(
                "DELETE FROM challenges WHERE (SELECT COUNT(*) FROM challenges WHERE person=?)>=? AND number="
                "(SELECT MIN(number) FROM challenges WHERE person=? GROUP BY kind ORDER BY COUNT(*) DESC LIMIT 1)",
                (row.person, PENDING_ALL, row.person),
            )
            db.execute(f"INSERT INTO challenges ({_CHALLENGE}) VALUES (?, ?, ?, ?, ?)", row)  # noqa: S608

        await self._run(work)

    async def take_challenge(self, token: bytes, person: bytes, kind: str, now: float) -> ChallengeRow | None:
        """Delete and give: of any number of callers exactly one gets it. Another person's stays."""
        return await self._run(lambda db: _take(db, token, person, kind, now))

    async def challenge(self, token: bytes, person: bytes, kind: str, now: float) -> ChallengeRow | None:
        def work(db: sqlite3.Connection) -> ChallengeRow | None:
            row = db.execute(
                f"SELECT {_CHALLENGE} FROM challenges WHERE token=? AND person=? AND {_KIND} AND expires>?",  # noqa: S608
                (token, person, kind, now),
            ).fetchone()
            return ChallengeRow(*row) if row else None

        return await self._run(work)

    # administrators

    async def put_grant(self, name: bytes, expires: float) -> None:
        await self._run(lambda db: db.execute("INSERT OR REPLACE INTO grants VALUES (?, ?)", (name, expires)))

    async def has_grant(self, names: Names, now: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            asked = [db.execute("SELECT 1 FROM grants WHERE name=? AND expires>?", (each, now)) for each in names]
            return any(found.fetchone() for found in asked)

        return await self._run(work)

    async def named(self, name: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """People (hash, sealed) who are called this."""

        def work(db: sqlite3.Connection) -> tuple[tuple[bytes, bytes], ...]:
            return tuple(db.execute("SELECT person, blob FROM people JOIN names USING (person) WHERE name=?", (name,)))

        return await self._run(work)

    async def people(self) -> tuple[tuple[bytes, bytes], ...]:
        """Some of those who have factors (hash, sealed)."""
        return await self._run(lambda db: tuple(db.execute("SELECT person, blob FROM people LIMIT 100")))

    # rotation of the key ring

    async def rewrite(self, blobs: Callable[[str, bytes, bytes], bytes | None]) -> None:
        """Put what `blobs(id, person, blob)` gives in the place of each blob; None: it stays. `id` is "" for people."""

        def work(db: sqlite3.Connection) -> None:
            for person, blob in db.execute("SELECT person, blob FROM people").fetchall():
                new = blobs("", person, blob)
                if new is not None:
                    db.execute("UPDATE people SET blob=? WHERE person=?", (new, person))
            for factor, person, blob in db.execute("SELECT id, person, blob FROM factors").fetchall():
                new = blobs(factor, person, blob)
                if new is not None:
                    db.execute("UPDATE factors SET blob=? WHERE id=?", (new, factor))

        await self._run(work)


def _rows(db: sqlite3.Connection, person: bytes) -> tuple[FactorRow, ...]:
    return tuple(
        FactorRow._make((*row[:2], FactorKind(row[2]), *row[3:6], bool(row[6]), *row[7:]))
        for row in db.execute(_OF, (person,)).fetchall()
    )


def _insert(db: sqlite3.Connection, row: FactorRow) -> None:
    db.execute(f"INSERT INTO factors ({_FACTOR}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row[:9])  # noqa: S608


def _know(db: sqlite3.Connection, owner: PersonRow) -> None:
    """Remember who this is, if they are called otherwise than before."""
    known = {name for (name,) in db.execute("SELECT name FROM names WHERE person=?", (owner.person,))}
    if known == set(owner.names):
        return
    db.execute(
        "INSERT INTO people VALUES (?, ?) ON CONFLICT(person) DO UPDATE SET blob=excluded.blob",
        (owner.person, owner.blob),
    )
    db.execute("DELETE FROM names WHERE person=?", (owner.person,))
    db.executemany("INSERT INTO names VALUES (?, ?)", [(name, owner.person) for name in owner.names])


def _take(db: sqlite3.Connection, token: bytes, person: bytes, kind: str, now: float) -> ChallengeRow | None:
    row = db.execute(
        f"DELETE FROM challenges WHERE token=? AND person=? AND {_KIND} RETURNING {_CHALLENGE}",  # noqa: S608
        (token, person, kind),
    ).fetchone()
    return ChallengeRow(*row) if row and row[3] > now else None


def _take_grant(db: sqlite3.Connection, names: Names, now: float) -> bool:
    """One permission is one factor, also for somebody who has two names and a permission under each."""
    db.execute("DELETE FROM grants WHERE expires<=?", (now,))
    return any(db.execute("DELETE FROM grants WHERE name=?", (name,)).rowcount == 1 for name in names)


def _locked(wait: float) -> FactorRefused:
    return FactorRefused(Reason.FACTOR_LOCKED, "too many wrong codes", retry_after=wait)
