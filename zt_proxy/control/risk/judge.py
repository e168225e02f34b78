"""Assesses sign-ins and keeps assessments up to date.

sign-in   ──► judge ──► Risk, part of the new session ──► admitted: the history with it
wrong code ─► failed ──► live sessions of the person assessed anew ──► workers hear of it
refresh   ──► renewed ─┘
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog

from zt_proxy.control.factors.types import Person
from zt_proxy.control.risk.attempts import Attempts
from zt_proxy.control.risk.people import KnownPeople, Profile
from zt_proxy.control.session.cap import Note
from zt_proxy.control.session.directory import Listed
from zt_proxy.control.session.record import SessionRecord
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ConfigurationError, UnavailableError
from zt_proxy.core.lines import Value
from zt_proxy.core.session import Principal, Risk
from zt_proxy.policy.geo import COPIES, Origins, Place
from zt_proxy.policy.habits import leaves_by
from zt_proxy.policy.risk import Circumstances, RiskSettings, assess, renewed, shared, signals

LOOK = 5.0
"""Seconds between looks whether an address database has changed."""

log = structlog.get_logger(__name__)


class Sessions(Protocol):
    """What the judge needs of the sessions."""

    note: Note

    async def of_person(self, issuer: str, subject: str) -> tuple[Listed, ...]: ...

    async def record(self, sid: str) -> SessionRecord | None: ...

    async def judged(self, sid: str, risk: Risk) -> bool: ...


def origins_of(settings: ControlSettings, before: Origins | None = None) -> Origins:
    """The look-ups of a configuration; those of before, where nothing changed. Reads files.

    Raises ConfigurationError for what is no network.
    """
    if before is not None and before.settings == settings.origins:
        return before
    try:
        return Origins(settings.origins, settings.runtime_dir / COPIES)
    except ValueError as error:
        raise ConfigurationError(f"networks: {error}") from error


class Judge:
    """`use` origins and settings; then every method may be called. What goes wrong with the store shuts nobody out:
    nobody then knows the risk, and rules that ask for it do not let anybody in by it."""

    def __init__(self, people: KnownPeople, sessions: Sessions, clock: Clock) -> None:
        self.people = people
        self._sessions = sessions
        self._clock = clock
        self._attempts = Attempts(clock)
        self._origins: Origins | None = None
        self._settings = RiskSettings()

    @property
    def origins(self) -> Origins | None:
        """The look-ups in force."""
        return self._origins

    def use(self, origins: Origins, settings: RiskSettings) -> None:
        """Of the configuration in force."""
        self._origins, self._settings = origins, settings
        if origins.settings.insecure_origin_header:
            log.warning("anybody may say which country they are in", header=origins.settings.insecure_origin_header)

    def place(self, address: str, header: Callable[[str], str | None]) -> Place:
        """Where a sign-in comes from. `header` gives a header of its request: for demonstrations alone."""
        assert self._origins is not None
        name = self._origins.settings.insecure_origin_header
        return self._origins.place(address, header(name) if name else None)

    async def judge(self, who: Person, place: Place, device_known: bool | None) -> Risk | None:
        """The risk of a sign-in; None if nobody can say."""
        now = self._clock.now()
        try:
            history = await self.people.history(who)
        except UnavailableError as error:
            log.error("risk not known", detail=error.detail)
            return None
        failures = history.failures_by(now)
        if not shared(place.origin, self._settings):
            failures = max(failures, self._attempts.of(place.origin.address))
        return assess(
            signals(Circumstances(now, place, device_known, history, failures), self._settings), None, self._settings
        )

    async def admitted(self, principal: Principal, place: Place) -> None:
        """The sign-in succeeded: it is part of what is usual from now on. Raises UnavailableError."""
        now = self._clock.now()
        egress = leaves_by(place.origin, self._settings.egress)
        await self.people.signed_in(principal, lambda history: history.after(place, now, egress=egress))

    async def failed(self, who: Person | None, address: str) -> None:
        """A wrong code, or a sign-in that was refused; `who` None: nobody knows whose."""
        self._attempts.failed(address)
        if who is None:
            return
        try:
            now = self._clock.now()
            history = await self.people.amend(who, lambda history: history.failed(now))
            if history is None:
                return
            failures = history.failures_by(now)
            for session in await self._sessions.of_person(who.issuer, who.subject):
                await self._again(session.sid, failures)
        except UnavailableError as error:
            log.error("failed attempt not remembered", detail=error.detail)

    async def not_theirs(self, who: Person, address: str) -> None:
        """A person says that a sign-in from this address was somebody else's. Raises UnavailableError."""
        assert self._origins is not None
        origin = self._origins.of(address)
        await self.people.amend(who, lambda history: history.without(origin))

    async def renewed(self, sid: str) -> None:
        """The provider was asked again about a session: who it is, and how it looks by now."""
        try:
            record = await self._sessions.record(sid)
            if record is None:
                return
            if await self.people.renewed(record.principal):
                await self._sessions.note("person-changed", sid=sid, **person_line(record.principal))
            who = Person.of(record.principal)
            failures = (await self.people.history(who)).failures_by(self._clock.now())
            await self._again(sid, failures)
        except UnavailableError as error:
            log.error("assessment not renewed", sid=sid, detail=error.detail)

    async def _again(self, sid: str, failures: int) -> None:
        record = await self._sessions.record(sid)
        if record is None or record.risk is None:
            return
        risk = renewed(record.risk, failures, self._settings)
        if risk is not record.risk and await self._sessions.judged(sid, risk):
            log.info("risk changed", sid=sid, score=risk.score, level=risk.level.word)

    def problems(self) -> tuple[str, ...]:
        """What an operator should see to."""
        return self._origins.problems() if self._origins is not None else ()

    async def run(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Take changed address databases over, until cancelled."""
        while True:
            await pause(LOOK)
            if self._origins is not None:
                await asyncio.to_thread(self._origins.refresh, copy=True)

    async def close(self) -> None:
        await self.people.close()


def person_line(principal: Principal) -> dict[str, Value]:
    """Who somebody is, for the audit log: what rules can ask of them."""
    profile = msgspec.structs.asdict(Profile.of(principal))
    return {"user": profile.pop("subject"), **{name: value for name, value in profile.items() if value}}


def place_line(place: Place) -> dict[str, Value]:
    """Where somebody is, for the audit log; what is not known is left out."""
    origin = place.origin
    line = {"address": origin.address, "zones": sorted(origin.zones), "country": origin.country, "asn": origin.asn}
    return {name: value for name, value in line.items() if value}


def risk_line(risk: Risk | None) -> dict[str, Value]:
    """`62 medium` and the reasons, for the audit log; nothing if nobody knows."""
    if risk is None:
        return {}
    return {"risk": f"{risk.score} {risk.level.word}", "risk_reasons": list(risk.reasons)}
