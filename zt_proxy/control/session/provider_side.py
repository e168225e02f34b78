"""What providers say of sessions after the sign-in: that they are over, and what has changed about the person.

    logout token ──► announced ──► ended (every session it concerns, and logins that are on their way)
    refresh      ──► due ──► (control.identity.refresh asks) ──► renewed ──► workers decide anew
                                                            └──► refused: ended

A refresh moves neither `auth_time` nor a level nor a deadline (FIELD 15): nobody has proved anything.
"""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Protocol

import msgspec

from zt_proxy.control.identity.logout import Logouts
from zt_proxy.control.identity.types import LogoutNotice, Renewed, VerifiedLogin
from zt_proxy.control.session.ending import Changes
from zt_proxy.control.session.live import Live
from zt_proxy.control.session.record import (
    SessionRecord,
    names_of,
    provider_hash,
    seal_record,
    subject_hash,
)
from zt_proxy.control.session.store import RenewalRow, SessionStore
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.keys import KeyRing, Secret
from zt_proxy.link.messages import RENEWED

LOGOUT = "provider-logout"
"""Why a session ended, in the log."""
ATTEMPTS = 8


class Authority(Protocol):
    """The part of the session manager that this needs."""

    async def record(self, sid: str) -> SessionRecord | None: ...

    async def end_many(self, sids: Sequence[str], reason: str) -> None: ...

    def ended(self, sid: str) -> bool: ...


class ProviderSide:
    """Every method may raise UnavailableError(STORE_UNAVAILABLE)."""

    def __init__(
        self,
        authority: Authority,
        store: SessionStore,
        live: MutableMapping[str, Live],
        changes: Changes,
        ring: KeyRing,
        clock: Clock,
    ) -> None:
        self.logouts = Logouts(clock)
        self.heard: Callable[[str], Awaitable[None]] = _nobody
        """Told of each session whose provider was asked again, once the answer is kept."""
        self._authority = authority
        self._store = store
        self._live = live
        self._changes = changes
        self._ring = ring
        self._clock = clock

    # the provider says that it is over

    async def announced(self, notice: LogoutNotice) -> int:
        """End what a logout token names; gives how many sessions. They are dead when this returns, even if it raises.

        Raises ClientError(LOGOUT_TOKEN_INVALID) for a token that was used before.
        """
        self.logouts.take(notice)
        try:
            # Whatever is created from here on is refused by `refuse`; what was created before is found here.
            sids = await self._of_session(notice.issuer, notice.sid)
            if notice.subject is not None:
                known = await self._store.sessions_of(subject_hash(self._ring, notice.issuer, notice.subject))
                sids |= {sid for sid in known if await self._is_meant(sid, notice)}
            await self._end(sids)
        except UnavailableError:
            self.logouts.give_back(notice)
            raise
        return len(sids)

    async def end(self, issuer: str, provider_sid: str) -> int:
        """End the sessions that belong to one at the provider; gives how many. Dead when this returns, as above."""
        self.logouts.show(issuer, provider_sid)
        sids = await self._of_session(issuer, provider_sid)
        await self._end(sids)
        return len(sids)

    def refuse(self, login: VerifiedLogin) -> None:
        """Raises ClientError(LOGIN_ENDED, 401) if the provider has ended this login since it attested it."""
        if self.logouts.concerns(login):
            raise ClientError(Reason.LOGIN_ENDED, "the provider announced the end of this login", status=401)

    async def _of_session(self, issuer: str, provider_sid: str | None) -> set[str]:
        if provider_sid is None:
            return set()
        return set(await self._store.named(provider_hash(self._ring, issuer, provider_sid)))

    async def _is_meant(self, sid: str, notice: LogoutNotice) -> bool:
        """Whether a session of the person is one that the notice is about, which it does not name by its own id."""
        record = await self._authority.record(sid)
        if record is None or record.issued > notice.issued:
            return False
        return notice.sid is None or record.provider_sid is None

    async def _end(self, sids: set[str]) -> None:
        if sids:
            await self._authority.end_many(tuple(sids), LOGOUT)

    # the person proved at the provider once more

    async def proved_again(self, sid: str, login: VerifiedLogin) -> None:
        """A step-up made, or used, another session at the provider: its end is this session's end as well.

        Raises ClientError(LOGIN_ENDED or SESSION_UNKNOWN, 401).
        """
        self.refuse(login)

        def change(record: SessionRecord) -> SessionRecord:
            return msgspec.structs.replace(
                record,
                provider_sid=login.provider_sid or record.provider_sid,
                id_token=login.id_token,
                issued=max(login.issued, record.issued),
                refresh_token=login.refresh_token or record.refresh_token,
            )

        if not await self._change(sid, change, login.renew_in):
            raise ClientError(Reason.SESSION_UNKNOWN, "the session is over", status=401)
        self.refuse(login)

    # the provider says who the person is now

    async def record(self, sid: str) -> SessionRecord | None:
        """As `SessionManager.record`."""
        return await self._authority.record(sid)

    async def due(self, provider: str, limit: int) -> tuple[str, ...]:
        """Ids of sessions whose provider is to be asked, the longest overdue first."""
        return await self._store.due_renewals(provider, self._clock.now(), limit)

    async def postpone(self, sid: str, provider: str, seconds: float) -> None:
        """Ask again after these seconds."""
        await self._store.put_renewal(RenewalRow(sid, provider, self._clock.now() + seconds))

    async def renewed(self, sid: str, answer: Renewed) -> bool:
        """Keep what a refresh gave, durably. Workers hear of it if the person changed. False: the session is over.

        After an UnavailableError it counts in this process; call it again until it is in the store.
        """

        def change(record: SessionRecord) -> SessionRecord:
            overtaken = not _same(record.refresh_token, answer.used)  # by a step-up, which brought a token of its own
            return msgspec.structs.replace(
                record,
                refresh_token=record.refresh_token if overtaken else answer.token,
                principal=answer.principal or record.principal,
                id_token=answer.id_token or record.id_token,
            )

        kept = await self._change(sid, change, answer.again_in)
        if kept:
            await self.heard(sid)
        return kept

    async def refused(self, sid: str, used: Secret, reason: str) -> bool:
        """The provider takes this token no more: the session ends, unless it has another one by now."""
        record = await self._authority.record(sid)
        if record is None or not _same(record.refresh_token, used):
            return False
        await self._authority.end_many((sid,), reason)
        return True

    async def _change(self, sid: str, change: Callable[[SessionRecord], SessionRecord], due_in: float) -> bool:
        for _ in range(ATTEMPTS):
            if await self._authority.record(sid) is None:
                return False
            async with self._changes.lock:
                live = self._live.get(sid)
                if live is not None:
                    return await self._put(live, change(live.record), due_in)
        raise UnavailableError(Reason.STORE_UNAVAILABLE, "the session was pushed out of memory again and again")

    async def _put(self, live: Live, record: SessionRecord, due_in: float) -> bool:
        """With the lock of the changes held."""
        changed = record.principal != live.record.principal
        # In this process it counts at once: of two tokens the provider takes only the newer one.
        live.record = record
        blob = seal_record(self._ring, record)
        names = names_of(self._ring, record.principal, record.provider_sid)
        renewal = None
        if record.refresh_token is not None:
            renewal = RenewalRow(record.sid, record.provider, self._clock.now() + due_in)
        try:
            saved = await self._store.save_renewed(record.sid, blob, names, renewal, self._changes.sequence + 1)
        finally:
            if changed:
                self._changes.tell(record.sid, RENEWED)
        return saved and not self._authority.ended(record.sid)


async def _nobody(_sid: str) -> None:
    """Before anyone wants to know."""


def _same(one: Secret | None, other: Secret | None) -> bool:
    return one is not None and other is not None and one.reveal() == other.reveal()
