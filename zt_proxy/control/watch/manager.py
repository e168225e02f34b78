"""Watching as a whole: takes records from the writer, runs the detectors, keeps the history, tells of what is found."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import structlog

from zt_proxy.control.locks.types import LockKeeper
from zt_proxy.control.settings import WatchSettings
from zt_proxy.control.watch import findings
from zt_proxy.control.watch.alerts import Alert, Alerts, Recording
from zt_proxy.control.watch.detectors import Use, first_use
from zt_proxy.control.watch.observer import Observer, Seen, person_of
from zt_proxy.control.watch.store import PAGE, Learnt, Members, WatchStore
from zt_proxy.control.watch.webhooks import Webhook, Webhooks
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ZtError
from zt_proxy.link.records import Noted

WAITING = 200_000
"""Records that wait to be looked at; more are counted as dropped."""
SAVE = 30.0
"""Seconds between saves of the history: what a crash costs of it."""
TOGETHER = 500
"""Histories that are packed and saved in one go."""
MEMBERS = 5_000
"""People of one group that are known to be in it."""
GROUPS = 2_000
"""Groups whose people are known."""

log = structlog.get_logger("zt_proxy.watch")
T = TypeVar("T")
Groups = Callable[[str], Awaitable[frozenset[str]]]
"""The groups of the person of a session. Raises ZtError when nobody can say."""


class Watch:
    """Use `await Watch.open(...)`, then `adopt` and `start`; `stop` saves the history."""

    def __init__(
        self, settings: WatchSettings, clock: Clock, audit: Recording, groups: Groups, store: WatchStore, learnt: Learnt
    ) -> None:
        self.webhooks = Webhooks(clock)
        self.alerts = Alerts(settings, clock, audit, self.webhooks, store.keep)
        self.observer = Observer(settings)
        self.observer.flows = learnt.flows
        self.observer.people = learnt.people
        self.failures = 0
        """Times that watching failed over something; the log says over what."""
        self._dropped = 0
        self._clock = clock
        self._groups = groups
        self._store = store
        self._members: Members = learnt.members
        self._joined: dict[tuple[str, str], float] = {}
        self._changed: set[str] = set()
        self._records: deque[Noted] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._news: deque[Seen] = deque()
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls, settings: WatchSettings, state_dir: Path, clock: Clock, audit: Recording, groups: Groups
    ) -> "Watch":
        """With the history of `watch.db`. Raises ConfigurationError, UnavailableError."""
        store = await WatchStore.open(state_dir)
        try:
            return cls(settings, clock, audit, groups, store, await store.load(settings.volume))
        except BaseException:
            await store.close()
            raise

    def use(self, locks: LockKeeper | None) -> None:
        """Who locks for detectors that may."""
        self.alerts.locks = locks

    def prepare(self, settings: WatchSettings) -> list[Webhook]:
        """For `adopt`. Raises ConfigurationError."""
        return self.webhooks.prepare(settings.webhooks)

    def adopt(self, settings: WatchSettings, fresh: list[Webhook]) -> None:
        """Judge and tell by these settings."""
        self.webhooks.adopt(settings.webhooks, fresh)
        if settings != self.observer.settings:
            self.observer.configure(settings)
            self.alerts.configure(settings)

    def start(self) -> None:
        for name, work in (
            ("read", self._read),
            ("judge", self._judge),
            ("tell", self.alerts.run),
            ("keep", self._keep),
        ):
            self._tasks.append(asyncio.create_task(work(), name=f"watch-{name}"))

    async def stop(self) -> None:
        """What the record writer has told by now is looked at and kept."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        try:
            await self._work_off()
            await self._save()
        except ZtError as error:
            log.error("history not saved", problem=str(error))
        await self.webhooks.close()
        await self._store.close()

    async def finish(self) -> None:
        """Tell what is counted but not told. Before the audit writer stops."""
        try:
            await self._work_off()
            await self.alerts.finish(everything=True)
        except ZtError as error:
            log.error("alerts not told", problem=str(error))

    # ---- from the record writer ----

    def take(self, noted: Noted) -> None:
        """Never waits; what there is no room for is counted."""
        if self._waiting + len(noted) > WAITING:
            self._dropped += len(noted)
            return
        self._waiting += len(noted)
        self._records.append(noted)
        self._wake.set()

    async def _read(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._records:
                noted = self._records.popleft()
                self._waiting -= len(noted)
                await self._look(noted)

    async def _look(self, noted: Noted) -> None:
        try:
            self.observer.read(noted)
        except Exception:  # of this batch; the records themselves are safe
            self._fail("records not watched")
        self._hand_on()
        await asyncio.sleep(0)  # whoever else has something to do goes first

    def _hand_on(self) -> None:
        observer = self.observer
        for finding in observer.found:
            self.alerts.put(finding)
        observer.found.clear()
        if observer.news:
            self._news += observer.news
            observer.news.clear()
            self._woken.set()

    async def _work_off(self) -> None:
        while self._records:
            noted = self._records.popleft()
            self._waiting -= len(noted)
            await self._look(noted)
        await self._judge_all()
        await self.alerts.work_off()

    # ---- first use ----

    async def _judge(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._judge_all()

    async def _judge_all(self) -> None:
        while self._news:
            seen = self._news.popleft()
            try:
                self._judge_one(seen, await self._groups_of(seen))
            except Exception:
                self._fail("first use not judged")

    async def _groups_of(self, seen: Seen) -> frozenset[str]:
        if not seen.facts.sid:
            return frozenset()
        try:
            return await self._groups(seen.facts.sid)
        except ZtError as error:
            log.warning("groups not known", problem=str(error))
            return frozenset()

    def _judge_one(self, seen: Seen, groups: frozenset[str]) -> None:
        facts, rules = seen.facts, self.observer.settings.first_use
        who, use = person_of(facts), (facts.route, facts.action)
        person = self.observer.person(who, seen.at)
        self._join(who, groups, seen.at)
        found = first_use(person, use, seen.at, rules.learn, self._peers(who, groups))
        self._changed.add(who)
        self.observer.keep(person, use, seen.at)
        if found is not None:
            self.alerts.put(findings.first_use(facts, seen.id, seen.path, seen.at, found, rules.response))

    def _peers(self, who: str, groups: frozenset[str]) -> Iterator[Mapping[Use, float]]:
        """Habits of the others in these groups, each once."""
        people, told = self.observer.people, {who}
        for group in groups:
            for each in self._members.get(group, ()):
                if each not in told and each in people:
                    told.add(each)
                    yield people[each].used

    def _join(self, who: str, groups: frozenset[str], at: float) -> None:
        for group in groups:
            if group not in self._members and len(self._members) >= GROUPS:
                continue
            members = self._members.setdefault(group, {})
            if who in members or len(members) < MEMBERS:
                members[who] = self._joined[group, who] = at

    # ---- history ----

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SAVE)
            try:
                await self.alerts.finish()
                await self._save()
            except ZtError as error:
                self.failures += 1
                log.error("history not saved", problem=str(error))
            except Exception:
                self._fail("history not saved")

    async def _save(self) -> None:
        observer, now = self.observer, self._clock.now()
        flows = {key: flow for key, flow in observer.flows.items() if flow.dirty or flow.taken()[1]}
        people = {who: observer.people[who] for who in self._changed if who in observer.people}
        joined = [(group, who, at) for (group, who), at in self._joined.items()]
        longest = max(observer.settings.volume.windows)
        for flow in flows.values():
            flow.dirty = False
            if flow.until > now + longest:  # the clock was set back: that window would stay open for as long
                flow.until = 0.0
                for level in flow.levels:
                    level.until = 0.0
        self._changed.clear()
        self._joined.clear()
        for part in _parts(flows):  # to pack all of them at once would keep control from everything else
            await self._store.save(part, {}, (), observer.settings.volume, now)
        for some in _parts(people):
            await self._store.save({}, some, (), observer.settings.volume, now)
        if joined:
            await self._store.save({}, {}, joined, observer.settings.volume, now)

    # ---- for operators ----

    async def recent(self, since: float = 0.0, limit: int = PAGE) -> tuple[Alert, ...]:
        """Alerts, the newest first. Raises UnavailableError(STORE_UNAVAILABLE)."""
        return await self._store.alerts(since, limit)

    @property
    def dropped(self) -> int:
        """Records and findings that there was no room for."""
        return self._dropped + self.observer.dropped + self.alerts.dropped

    def problems(self) -> tuple[str, ...]:
        """What an operator should see to."""
        ended = tuple(f"the task {task.get_name()} ended" for task in self._tasks if task.done())
        return (*ended, *self.webhooks.problems())

    def _fail(self, what: str) -> None:
        self.failures += 1
        log.exception(what)


def _parts(values: dict[str, T]) -> Iterator[dict[str, T]]:
    items = list(values.items())
    for start in range(0, len(items), TOGETHER):
        yield dict(items[start : start + TOGETHER])
