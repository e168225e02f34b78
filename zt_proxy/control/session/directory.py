"""Sessions as an operator looks for them: by person, by host, page by page."""

import base64
import binascii
from collections.abc import Sequence
from typing import Protocol

import msgspec

from zt_proxy.control.session.record import name_hash, names_of, open_record
from zt_proxy.control.session.store import SessionRow, SessionStore
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import KeyRing

PAGE = 500
"""Most sessions of one page."""


class Listed(msgspec.Struct, frozen=True):
    """A live session. Times are seconds since the epoch."""

    sid: str
    subject: str
    issuer: str
    provider: str
    email: str | None
    name: str | None
    mfa: bool
    created: float
    last_activity: float
    idle_deadline: float
    absolute_deadline: float
    hosts: tuple[str, ...]
    """Where the person is signed in by it."""
    device: str = ""
    """The browser that signed in, coarsely."""
    address: str = ""
    """Where it signed in from."""
    device_id: str = ""
    """By which the device can be locked."""
    groups: tuple[str, ...] = ()
    """As the provider said last."""


class Page(msgspec.Struct, frozen=True):
    sessions: tuple[Listed, ...]
    following: str
    """Ask with it for the next page; empty after the last one."""


class Authority(Protocol):
    """Who knows what the store does not know yet."""

    def last_activity(self, sid: str, stored: float) -> float: ...

    def ended(self, sid: str) -> bool: ...


class SessionDirectory:
    """Every method raises UnavailableError(STORE_UNAVAILABLE) when the store cannot answer."""

    def __init__(self, authority: Authority, store: SessionStore, ring: KeyRing, clock: Clock) -> None:
        self._authority = authority
        self._store = store
        self._ring = ring
        self._clock = clock

    async def count(self) -> int:
        """Sessions in the store; some may be past their time and not swept yet."""
        return await self._store.count_sessions()

    async def page(self, after: str = "", *, limit: int = PAGE, host: str | None = None) -> Page:
        """The newest sign-ins first, those of one host in no particular order.

        Raises ClientError(MALFORMED) for an `after` that no page gave.
        """
        limit = max(1, min(limit, PAGE))
        rows = await self._store.page(_position(after) if after else None, limit, host)
        following = _cursor(rows[-1][0]) if len(rows) == limit else ""
        return Page(self._living(rows), following)

    async def of_user(self, user: str) -> tuple[Listed, ...]:
        """Every session of a subject or an e-mail address, whichever provider vouched for it."""
        return self._living(await self._store.rows(await self._store.named(name_hash(self._ring, user))))

    async def of_sids(self, sids: Sequence[str]) -> tuple[Listed, ...]:
        """Those of these that live."""
        return self._living(await self._store.rows(sids))

    async def one(self, sid: str) -> Listed | None:
        """The session of an id, if it lives."""
        found = self._living(await self._store.rows((sid,)))
        return found[0] if found else None

    async def groups_of(self, sid: str) -> frozenset[str]:
        """Of the person of a session; none if it does not live."""
        session = await self.one(sid)
        return frozenset(session.groups) if session is not None else frozenset()

    async def name_old(self) -> None:
        """Give names to sessions that a version of the program stored which knew of none."""
        while rows := await self._store.unnamed(PAGE):
            named: list[tuple[bytes, str]] = []
            for row in rows:
                try:
                    record = open_record(self._ring, row.sid, row.blob)
                    names = names_of(self._ring, record.principal, record.provider_sid)
                except ValueError:
                    names = (name_hash(self._ring, row.sid),)  # it does not open and lets nobody in
                named += [(name, row.sid) for name in names]
            await self._store.put_names(named)

    def _living(self, rows: Sequence[tuple[SessionRow, tuple[str, ...]]]) -> tuple[Listed, ...]:
        now = self._clock.now()
        found = (self._listed(row, hosts, now) for row, hosts in rows)
        return tuple(each for each in found if each is not None)

    def _listed(self, row: SessionRow, hosts: tuple[str, ...], now: float) -> Listed | None:
        last_activity = self._authority.last_activity(row.sid, row.last_activity)
        if self._authority.ended(row.sid) or now >= min(row.absolute_deadline, last_activity + row.idle_timeout):
            return None
        try:
            record = open_record(self._ring, row.sid, row.blob)
        except ValueError:
            return None
        who = record.principal
        return Listed(
            sid=row.sid,
            subject=who.subject,
            issuer=who.issuer,
            provider=record.provider,
            email=who.email,
            name=who.name,
            mfa=record.mfa,
            created=record.created,
            last_activity=last_activity,
            idle_deadline=last_activity + row.idle_timeout,
            absolute_deadline=row.absolute_deadline,
            hosts=hosts,
            device=record.arrival.label,
            address=record.arrival.address,
            device_id=record.arrival.device,
            groups=tuple(sorted(who.groups)),
        )


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(tuple[float, str]).decode


def _cursor(row: SessionRow) -> str:
    return base64.urlsafe_b64encode(_encode((row.absolute_deadline, row.sid))).decode("ascii")


def _position(after: str) -> tuple[float, str]:
    try:
        return _decode(base64.urlsafe_b64decode(after))
    except (ValueError, binascii.Error) as error:
        raise ClientError(Reason.MALFORMED, "`after` is not what an earlier page gave") from error
