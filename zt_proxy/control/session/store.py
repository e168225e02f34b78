"""What the session manager asks of a store: rows in, rows out, each change whole or not at all.

The store never sees a secret in the clear: handles, codes and states arrive as SHA-256 hashes, blobs are sealed
(`KeyRing.seal` with the record's id as associated data), subjects are keyed hashes. Deadlines are in the clear so that
expired rows can be swept without opening them; the sealed blob stays the authority.

Every method raises UnavailableError(STORE_UNAVAILABLE) when the store cannot answer (locked, full, gone). There is no
fall-back to memory (FIELD 16).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec


class SessionRow(msgspec.Struct, frozen=True):
    """A sign-in at rest. Times are seconds since the epoch."""

    sid: str
    subject: bytes
    """Keyed hash of issuer and subject: finds every session of a person without naming them."""
    last_activity: float
    idle_timeout: float
    absolute_deadline: float
    blob: bytes


class RenewalRow(msgspec.Struct, frozen=True):
    """What the provider said of a session's person is asked again when `due`, with the token in the sealed record."""

    sid: str
    provider: str
    due: float


class HandleRow(msgspec.Struct, frozen=True):
    """One cookie of one host. `host` is part of the check, not only of the key (ZT-SESS-02)."""

    handle_hash: bytes
    sid: str
    host: str


class CodeRow(msgspec.Struct, frozen=True):
    """A one-time code on its way from the portal to an app's host."""

    code_hash: bytes
    expires: float
    blob: bytes


class TransactionRow(msgspec.Struct, frozen=True):
    """A login that was sent to the provider and has not come back."""

    state_hash: bytes
    browser: bytes
    """SHA-256 of the portal host's login cookie."""
    client: str
    """Address (IPv6: its /64) by which pending logins are capped."""
    expires: float
    blob: bytes


class FormRow(msgspec.Struct, frozen=True):
    """A form that waits for a proof of identity."""

    name: bytes
    sid: str
    place: bytes
    """SHA-256 of the host and target it was sent to."""
    expires: float
    blob: bytes


class SessionStore(Protocol):
    """One writer; methods are atomic and take effect in the order of the calls."""

    async def sequence(self) -> int:
        """Number of the last committed change; 0 in a new store."""

    async def insert_session(
        self, row: SessionRow, names: Sequence[bytes] = (), renewal: RenewalRow | None = None
    ) -> None:
        """`names` are keyed hashes by which `named` finds the session: of its subject, of its e-mail address, of the
        provider's session."""

    async def session(self, sid: str) -> SessionRow | None: ...

    async def session_of_handle(self, handle_hash: bytes) -> tuple[HandleRow, SessionRow] | None: ...

    async def replace_handle(self, row: HandleRow, sequence: int) -> tuple[bytes, ...] | None:
        """Store a handle and delete the older ones of the same session and host; gives their hashes.

        None, and nothing stored, if the session is not there (any more).
        """

    async def save_blob(self, sid: str, blob: bytes, sequence: int) -> bool:
        """False, and nothing stored, if the session is not there (any more)."""

    async def due_renewals(self, provider: str, now: float, limit: int) -> tuple[str, ...]:
        """Ids of the sessions of a provider that are due, the longest overdue first."""

    async def put_renewal(self, row: RenewalRow) -> None:
        """Move the time at which a session is due; nothing if the session is not there (any more)."""

    async def save_renewed(
        self, sid: str, blob: bytes, names: Sequence[bytes], renewal: RenewalRow | None, sequence: int
    ) -> bool:
        """Store a session's new content, more names, and when it is due again; durable when it returns.

        False, and nothing stored, if the session is not there (any more).
        """

    async def touch(self, activity: Mapping[str, float], alive: Collection[str] = ()) -> None:
        """Move last activity forward, where it lies inside both deadlines. Of those in `alive` the caller knows that
        they were not idle by then: activity in between, which was never written, is what kept them awake."""

    async def end_sessions(self, sids: Sequence[str], sequence: int) -> None:
        """Delete sessions and their handles, whole or not at all; durable when it returns. Those not there are skipped.

        Codes under way may stay: there is no session left that a handle could be issued for.
        """

    async def drop_handles(self, sequence: int) -> None:
        """Delete every handle and code, at once however many there are; durable when it returns.

        Sessions without a handle are deleted when the store is opened.
        """

    async def sessions_of(self, subject: bytes) -> tuple[str, ...]: ...

    async def overdue(self, now: float) -> tuple[str, ...]:
        """Ids of sessions past one of their deadlines."""

    async def sids(self) -> tuple[str, ...]:
        """Ids of all sessions."""

    async def count_sessions(self) -> int: ...

    async def named(self, name: bytes) -> tuple[str, ...]:
        """Ids of the sessions stored with this name."""

    async def unnamed(self, limit: int) -> tuple[SessionRow, ...]:
        """Sessions without a name: an earlier version of the program stored them."""

    async def put_names(self, names: Sequence[tuple[bytes, str]]) -> None:
        """Add (name, session id), where the session is still there."""

    async def page(
        self, after: tuple[float, str] | None, limit: int, host: str | None
    ) -> tuple[tuple[SessionRow, tuple[str, ...]], ...]:
        """Sessions and their hosts, from behind (absolute deadline, id) on: the newest sign-in first, those of one host
        by id."""

    async def rows(self, sids: Sequence[str]) -> tuple[tuple[SessionRow, tuple[str, ...]], ...]:
        """The same for those of `sids` that are there."""

    async def put_code(self, row: CodeRow) -> None: ...

    async def take_code(self, code_hash: bytes) -> CodeRow | None:
        """Delete and give: of any number of callers exactly one gets it."""

    async def put_transaction(self, row: TransactionRow, *, total: int, per_client: int, now: float) -> bool:
        """Store under both caps. At the client's cap its oldest gives way; at the total, the oldest of whoever has
        most. False, and nothing stored, if everybody has one only."""

    async def take_transaction(self, state_hash: bytes, browser: bytes) -> TransactionRow | None:
        """Delete and give, if it is this browser's."""

    async def transaction(self, state_hash: bytes, browser: bytes) -> TransactionRow | None:
        """Give, if it is this browser's, and leave it there."""

    async def has_transaction(self, state_hash: bytes) -> bool: ...

    async def put_form(self, row: FormRow, *, total: int, each: int, now: float) -> bool:
        """Store under two bounds in bytes. At a session's own (`each`) its oldest form gives way; at the `total`, the
        oldest of the session that has most. False, and nothing stored, if that is this one, or if it is over."""

    async def release_form(
        self, name: bytes, sid: str, place: bytes, token: bytes, *, now: float, expires: float
    ) -> bool:
        """Rename a form that waits, once, so that `take_form` finds it. False if there is none of this session for this
        place."""

    async def take_form(self, token: bytes, sid: str, place: bytes, now: float) -> bytes | None:
        """Delete and give the blob of a released form: of any number of callers exactly one gets it."""

    async def sweep(self, now: float) -> None:
        """Delete codes, transactions and forms past their time."""

    async def close(self) -> None: ...
