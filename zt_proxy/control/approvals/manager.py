"""Takes requests for approval and decisions about them: on record first, then in the session, then durable.

    requester ──ask──► request ──approve──► audit log ─► Session.approved ─► every worker
                          └─────refuse────► audit log

A decision that was begun is carried out whole, whoever stops waiting for it. Who may decide is the caller's question
(`types.may_decide`): it depends on the configuration and the directory of the moment.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Protocol, TypeVar

import structlog
from msgspec.structs import replace

from zt_proxy.control.approvals.store import ApprovalStore
from zt_proxy.control.approvals.types import DAY, Request, Rules, State, is_own, name_of
from zt_proxy.control.session.manager import SessionManager
from zt_proxy.control.session.record import SessionRecord
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.handoff import Handoff
from zt_proxy.core.keys import b64encode
from zt_proxy.core.session import Approval, Principal, Session, unlock_key
from zt_proxy.policy.spec import Approve

MOST = 10_000
"""Requests at a time."""
EACH = 20
"""Of one session, but for those that somebody agreed to."""
PERSON = 40
"""The same of all sessions of one person: whoever signs in again and again neither fills the list for everybody nor
the mail of who may agree."""
SWEEP = 60.0
"""Seconds between looks whether a request's time has come."""

log = structlog.get_logger("zt_proxy.approvals")
T = TypeVar("T")


class Write(Protocol):
    """`AuditWriter.write`."""

    def __call__(self, kind: str, **fields: str | int | float | bool) -> Awaitable[None]: ...


class Approvals:
    """Use `start` before the portal serves, and `close` at the end; run `run()` beside it."""

    def __init__(self, store: ApprovalStore, sessions: SessionManager, write: Write, clock: Clock) -> None:
        self._store = store
        self._sessions = sessions
        self._write = write
        self._clock = clock
        self._requests: dict[str, Request] = {}
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    async def start(self) -> None:
        """Know what the store knows. Raises UnavailableError."""
        now = self._clock.now()
        self._requests = {each.id: each for each in await self._store.all() if now < each.expires}

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Forget what is over, until cancelled."""
        while True:
            await sleep(SWEEP)
            try:
                await self.sweep()
            except UnavailableError as error:
                log.warning("requests for approval that are over are not forgotten yet", detail=str(error))

    async def close(self) -> None:
        """What was begun is done first."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._store.close()

    # ---- to look at

    def find(self, id: str) -> Request | None:
        """A request that is not over; it may be decided."""
        request = self._requests.get(id)
        return request if request is not None and self._clock.now() < request.expires else None

    def latest(self, sid: str, about: Handoff) -> Request | None:
        """What this session asked last under this rule, as it is now."""
        key = unlock_key(about.route, about.rule)
        found = [each for each in self.of_session(sid) if each.key == key and each.handoff.scope == about.scope]
        return max(found, key=lambda each: each.created, default=None)

    def of_session(self, sid: str) -> tuple[Request, ...]:
        """What it asked, the newest first."""
        now = self._clock.now()
        found = [each for each in self._requests.values() if each.sid == sid and now < each.expires]
        return tuple(sorted(found, key=lambda each: each.created, reverse=True))

    def waiting(self, rules: Rules, may: Callable[[Request], bool]) -> tuple[Request, ...]:
        """Those that wait for a decision that `may` says somebody could give, the oldest first."""
        now = self._clock.now()
        found = [each for each in self._requests.values() if each.rule in rules and each.waits(now) and may(each)]
        return tuple(sorted(found, key=lambda each: each.created))

    # ---- one after the other

    async def ask(self, session: Session | SessionRecord, handoff: Handoff, reason: str) -> Request:
        """A new request of this session, or the one that waits already for the same rule.

        Raises ClientError(TOO_MANY_REQUESTS, 429), UnavailableError.
        """
        return await self._whole(self._ask(session, handoff, reason))

    async def approve(self, id: str, by: Principal, named: Approve) -> Request:
        """This person agrees; the requester's session may do it when this returns.

        Raises ClientError: APPROVAL_UNKNOWN (404) if nobody waits for this person's word, SESSION_UNKNOWN if the
        requester's session is over; UnavailableError.
        """
        return await self._whole(self._decide(id, by, named.valid))

    async def refuse(self, id: str, by: Principal) -> Request:
        """This person does not. Raises as `approve`."""
        return await self._whole(self._decide(id, by, None))

    async def sweep(self) -> None:
        """Forget what is over, and what belongs to sessions that are. Raises UnavailableError."""
        await self._whole(self._sweep())

    async def _whole(self, work: Coroutine[object, object, T]) -> T:
        task = asyncio.ensure_future(self._in_turn(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, work: Coroutine[object, object, T]) -> T:
        async with self._one:
            return await work

    async def _ask(self, session: Session | SessionRecord, handoff: Handoff, reason: str) -> Request:
        now = self._clock.now()
        latest = self.latest(session.sid, handoff)
        if latest is not None and latest.waits(now):
            return latest
        own = [each for each in self.of_session(session.sid) if each.state is not State.APPROVED]
        if len(self._requests) >= MOST or len(own) >= EACH or self._of_person(session.principal, now) >= PERSON:
            raise ClientError(Reason.TOO_MANY_REQUESTS, "too many requests for approval", status=429)
        key = unlock_key(handoff.route, handoff.rule)
        if stale := [each for each in own if each.key == key and each.waits(now)]:
            await self._forget(stale)  # the rule says something else by now: to agree to that would open nothing
        request = Request(
            id=b64encode(secrets.token_bytes(16)),
            sid=session.sid,
            who=session.principal,
            handoff=handoff,
            created=now,
            expires=min(now + DAY, session.absolute_deadline),
            reason=reason,
            justification=session.justified.get(key, ""),
        )
        await self._on_record("asked", request, "")
        await self._store.put(request)
        self._requests[request.id] = request
        return request

    def _of_person(self, who: Principal, now: float) -> int:
        return sum(
            (each.who.issuer, each.who.subject) == (who.issuer, who.subject)
            and each.state is not State.APPROVED
            and now < each.expires
            for each in self._requests.values()
        )

    async def _decide(self, id_: str, by: Principal, valid: float | None) -> Request:
        """`valid`: seconds that the approval lasts; None: it is none."""
        now = self._clock.now()
        request = self.find(id_)
        if request is None or not request.waits(now) or is_own(request, by):
            raise ClientError(Reason.APPROVAL_UNKNOWN, "nobody waits for this person's word on that", status=404)
        if await self._sessions.record(request.sid) is None:
            await self._forget((request,))
            raise ClientError(Reason.APPROVAL_UNKNOWN, "the session that asked is over", status=404)
        until = now + min(valid, DAY) if valid is not None else 0.0
        state = State.APPROVED if valid is not None else State.REFUSED
        decided = replace(request, state=state, by=name_of(by), decided=now, until=until)
        await self._on_record(state.value, decided, by.provider)
        if valid is not None:
            await self._sessions.grants.approve(
                request.sid, request.key, Approval(decided.by, until, request.handoff.scope)
            )
        await self._store.put(decided)
        self._requests[decided.id] = decided
        log.info("a request for approval is decided", request=decided.id, state=state.value, by=decided.by)
        return decided

    async def _sweep(self) -> None:
        now = self._clock.now()
        over = [
            each
            for each in tuple(self._requests.values())
            if now >= each.expires or await self._sessions.record(each.sid) is None
        ]
        if over:
            await self._forget(over)

    async def _forget(self, requests: "list[Request] | tuple[Request, ...]") -> None:
        """Requests that nobody decided are on record as that."""
        now = self._clock.now()
        for each in requests:
            if each.state is State.WAITING:
                await self._on_record("expired", each, "")
            self._requests.pop(each.id, None)
        await self._store.drop([each.id for each in requests], now)

    async def _on_record(self, action: str, request: Request, provider: str) -> None:
        """Both persons, and what it is about. Raises UnavailableError."""
        about = request.handoff
        fields: dict[str, str | int | float | bool] = {
            "request": request.id,
            "sid": request.sid,
            "user": request.who.subject,
            "issuer": request.who.issuer,
            "provider": request.who.provider,
            "route": about.route,
            "rule": about.rule,
            "host": about.host,
            "method": about.method,
            "path": about.path,
        }
        more = {
            "email": request.who.email or "",
            "about": about.action,
            "object": about.object,
            "reason": request.reason,
            "justification": request.justification,
            "by": request.by,
            "by_provider": provider,
        }
        fields.update({name: text for name, text in more.items() if text})
        if request.until:
            fields["until"] = request.until
        await self._write("approval", action=action, **fields)
