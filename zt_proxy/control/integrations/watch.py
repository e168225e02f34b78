"""Watches revocation lists, and tells the workers what is in force: at each change of a file, and as time passes.

Files are looked at, not waited for: four looks a second cost nothing to speak of, see every kind of change (rename
over, rewrite in place, exchanged link, network file system), and cannot fall silent as a notification can.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from zt_proxy.control.integrations.revocation import Floors, Source, Standing, by_authorities, show_time
from zt_proxy.control.settings import RevocationSource
from zt_proxy.core.clock import Clock
from zt_proxy.link.messages import RevocationList

LOOK = 0.25
"""Seconds between looks; reading and telling come on top, and all has to be done within one second."""

log = structlog.get_logger("zt_proxy.revocation")

Deliver = Callable[[tuple[RevocationList, ...]], None]


class CrlWatcher:
    """Use `prepare` and `adopt`, at the start as at each reload, and `run` as a task.

    `deliver` is called on the event loop with all lists whenever one of them changed. What is wrong with a list is
    named and refuses certificates; it keeps nothing from starting. Raises ConfigurationError for a damaged `floors`.
    """

    def __init__(self, clock: Clock, floors: Path, deliver: Deliver) -> None:
        self._clock = clock
        self._deliver = deliver
        self._floors = Floors(floors)
        self._sources: list[Source] = []
        self._version: tuple[object, ...] = ()
        self._problems: tuple[str, ...] = ()

    async def run(self) -> None:
        """Look again and again. A look that fails must not be the last: revocations would stop in silence."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self.look()
            except Exception as error:
                problem = f"revocation lists could not be read: {type(error).__name__}; those read before stay in force"
                if problem not in self._problems:
                    log.exception("looking at revocation lists failed")
                self._tell((problem,))

    async def prepare(self, sources: tuple[RevocationSource, ...]) -> list[Source]:
        """Read the lists of another configuration beside those in force. A source that stays keeps its lists."""
        kept = {source.settings: source for source in self._sources}
        prepared = [kept.get(each) or Source(each) for each in by_authorities(sources)]
        now = self._clock.now()
        for source in prepared:
            if source.settings not in kept:
                await asyncio.to_thread(source.refresh, self._floors, now)
        return prepared

    def adopt(self, prepared: list[Source]) -> None:
        """Put them in force."""
        self._sources = prepared
        self._publish(_standings(prepared, self._clock.now()))

    def problems(self) -> tuple[str, ...]:
        """Everything that is not as it should be, in the operator's words."""
        return self._problems

    async def look(self) -> None:
        """Read what changed, judge by the clock, deliver what is new."""
        sources = self._sources
        if not sources:
            self._problems = ()
            return
        standings = await asyncio.to_thread(self._refresh, sources)
        if sources is self._sources:
            self._publish(standings)

    def _refresh(self, sources: list[Source]) -> list[Standing]:
        now = self._clock.now()
        self._floors.look()
        for source in sources:
            source.refresh(self._floors, now)
        problems = [problem for source in sources for problem in source.problems(now)]
        try:
            self._floors.raise_to(each for source in sources for each in source.in_force)
        except OSError as error:
            problems.append(f"{self._floors.path} cannot be written: {error.strerror or type(error).__name__}")
        self._tell(tuple(dict.fromkeys(problems)))
        return _standings(sources, now)

    def _publish(self, standings: list[Standing]) -> None:
        """Deliver if anything is other than it was."""
        version = tuple(each.version for each in standings)
        if version == self._version:
            return
        before, self._version = self._version, version
        self._deliver(tuple(each.message() for each in standings))
        for each in standings:
            if each.version not in before and each.current is not None and not each.problem:
                log.info(
                    "revocation list in force",
                    issuer=each.name,
                    revoked=len(each.current),
                    number=each.current.number,
                    until=show_time(each.current.next_update),
                )

    def _tell(self, problems: tuple[str, ...]) -> None:
        """Each problem once, when it comes and when it goes."""
        for problem in problems:
            if problem not in self._problems:
                log.error("revocation list", problem=problem)
        if self._problems and not problems:
            log.info("revocation lists are as they should be again")
        self._problems = problems


def _standings(sources: list[Source], now: float) -> list[Standing]:
    return [standing for source in sources for standing in source.standings(now)]
