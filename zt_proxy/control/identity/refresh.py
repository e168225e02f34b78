"""Asking providers again: what they say of a person is believed for minutes, not for the life of a session.

    tick ──► due (the store) ──► renew at the provider ──► kept durably ──► workers decide anew
                                      ├─ invalid_grant, another person: the session ends
                                      └─ down: it lives on, until its own deadlines; asked again later

Off the path of every request. Only control refreshes, each session once at a time: so a token that rotates (RFC 9700
§4.14.2) is never used twice, unless the provider's answer is lost on its way. A refresh is no proof and no activity: it
moves neither `auth_time` nor a deadline (FIELD 1, 15).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog

from zt_proxy.control.identity.types import LoginRefused, NotAdmitted, Renewed
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ProviderError, Reason, UnavailableError
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Principal

SHARE = 0.8
"""Of an access token's life, after which the provider is asked."""
SPREAD = 0.2
"""Part of the time that is up to chance: sessions that began together are not asked about together."""
SHORTEST = 10.0
AT_ONCE = 16
"""Refreshes under way at one provider: sign-ins, which people wait for, have turns of their own."""
TICK = 1.0
REST = 2.0
LONGEST_REST = 300.0
"""Seconds, doubled from `REST` on, for which a provider that does not answer is left alone; then one asks first."""
NOTED = 3
"""Failures in a row after which the operator is told."""
AGAIN = 120.0
"""Seconds until a session is tried again whose refresh went wrong in a way that may be its own."""
STORE_AGAIN = 2.0
GRACE = 2.0
"""Seconds that those under way have at the end: an answer that is not kept costs a session."""
ENDS = frozenset((Reason.LOGIN_OTHER_SUBJECT, Reason.LOGIN_GROUPS_OVERAGE))
"""What the provider may say of a person that no session may go on with, beside whatever it is `NotAdmitted` for."""
REFUSED = "refresh-refused"
"""Why a session ended, in the log."""

log = structlog.get_logger(__name__)


def renew_in(settings: ProviderSettings, lifetime: float | None) -> float:
    """Seconds until the provider is asked again; `lifetime`: of the access token, where it says."""
    longest = settings.refresh_every if not lifetime else min(settings.refresh_every, SHARE * lifetime)
    return max(SHORTEST, _jittered(longest))


def _jittered(seconds: float) -> float:
    return seconds * (1.0 - SPREAD * random.random())  # noqa: S311 - spreads load, hides nothing


class Renewing(Protocol):
    """A provider that can be asked again."""

    name: str

    async def renew(self, token: Secret, who: Principal) -> Renewed:
        """Raises LoginRefused when the provider takes the token no more, ProviderError for anything else."""
        ...


class Record(Protocol):
    """The part of a session's record that a refresh needs."""

    @property
    def principal(self) -> Principal: ...

    @property
    def refresh_token(self) -> Secret | None: ...


class Sessions(Protocol):
    """The part of `session.provider_side` that this needs. Every method may raise UnavailableError."""

    async def due(self, provider: str, limit: int) -> tuple[str, ...]: ...

    async def record(self, sid: str) -> Record | None: ...

    async def postpone(self, sid: str, provider: str, seconds: float) -> None: ...

    async def renewed(self, sid: str, answer: Renewed) -> bool: ...

    async def refused(self, sid: str, used: Secret, reason: str) -> bool: ...


class _Turn(msgspec.Struct):
    """A provider, and how it has been doing."""

    provider: Renewing
    rests_until: float = 0.0
    """Monotonic seconds."""
    failures: int = 0
    under_way: set[str] = msgspec.field(default_factory=set)


class Refresher:
    """`use` providers, then `run` as a task; `close` at the end."""

    def __init__(
        self, sessions: Sessions, clock: Clock, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._pause = pause
        self._turns: dict[str, _Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def use(self, providers: Iterable[Renewing]) -> None:
        """The providers of the configuration in force. Who is being asked about stays so: one at a time."""
        before = self._turns
        self._turns = {}
        for provider in providers:
            turn = self._turns[provider.name] = before.get(provider.name) or _Turn(provider)
            turn.provider = provider

    def problems(self) -> tuple[str, ...]:
        """Providers that do not answer: what is known of their people grows old."""
        down = (turn for turn in self._turns.values() if turn.failures >= NOTED)
        return tuple(f"provider {turn.provider.name} does not answer: groups are as they were" for turn in down)

    async def run(self) -> None:
        """Look each second who is due, until cancelled."""
        while True:
            await self._pause(TICK)
            try:
                await self.tick()
            except UnavailableError as error:
                log.error("session store unavailable", detail=error.detail)

    async def tick(self) -> None:
        """Begin the refreshes that are due and that there is room for. Raises UnavailableError."""
        for turn in tuple(self._turns.values()):
            if self._clock.monotonic() < turn.rests_until:
                continue
            room = (1 if turn.failures else AT_ONCE) - len(turn.under_way)
            if room <= 0:
                continue
            due = await self._sessions.due(turn.provider.name, room + len(turn.under_way))
            for sid in [sid for sid in due if sid not in turn.under_way][:room]:
                turn.under_way.add(sid)
                task = asyncio.create_task(self._refresh(turn, sid), name="refresh")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait for those under way."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def close(self) -> None:
        """Let those under way come to their end, for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.settled()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _refresh(self, turn: _Turn, sid: str) -> None:
        try:
            await self._ask(turn, sid)
        except UnavailableError as error:  # still due: it is tried again
            log.error("session store unavailable", detail=error.detail)
        except Exception:
            log.exception("a refresh failed", sid=sid, provider=turn.provider.name)
            with suppress(UnavailableError):
                await self._sessions.postpone(sid, turn.provider.name, _jittered(AGAIN))
        finally:
            turn.under_way.discard(sid)

    async def _ask(self, turn: _Turn, sid: str) -> None:
        provider = turn.provider
        record = await self._sessions.record(sid)  # ends a session whose time is over
        if record is None or record.refresh_token is None:
            await self._sessions.postpone(sid, provider.name, LONGEST_REST)
            return
        used = record.refresh_token
        try:
            answer = await provider.renew(used, record.principal)
        except LoginRefused as error:
            turn.failures = 0
            if await self._sessions.refused(sid, used, REFUSED):
                log.info("refresh refused", sid=sid, provider=provider.name, error=error.error)
            return
        except ProviderError as error:
            await self._failed(turn, sid, error)
            return
        turn.failures = 0
        await self._keep(sid, answer)
        if isinstance(answer.fault, NotAdmitted) or (answer.fault is not None and answer.fault.reason in ENDS):
            await self._sessions.refused(sid, answer.token, answer.fault.reason.value)
        if answer.fault is not None:
            log.warning("refresh not believed", sid=sid, provider=provider.name, detail=answer.fault.detail)

    async def _keep(self, sid: str, answer: Renewed) -> None:
        """Until the store has it: the provider takes no other token any more."""
        while True:
            try:
                await self._sessions.renewed(sid, answer)
                return
            except UnavailableError as error:
                log.error("refresh token not stored yet", sid=sid, detail=error.detail)
                await self._pause(STORE_AGAIN)

    async def _failed(self, turn: _Turn, sid: str, error: ProviderError) -> None:
        """The session lives on with what was known. A provider that is down is left alone for a while; a session that
        alone cannot be refreshed must not keep the others waiting."""
        log.warning(
            "refresh failed", sid=sid, provider=turn.provider.name, reason=error.reason.value, detail=error.detail
        )
        now = self._clock.monotonic()
        if error.reason is Reason.PROVIDER_UNREACHABLE and now >= turn.rests_until:
            turn.failures += 1
            turn.rests_until = now + _jittered(min(LONGEST_REST, REST * 2.0 ** min(turn.failures - 1, 16)))
        down = error.reason is Reason.PROVIDER_UNREACHABLE
        await self._sessions.postpone(sid, turn.provider.name, _jittered(REST if down else AGAIN))
