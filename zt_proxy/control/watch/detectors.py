"""What counts as unusual: arithmetic over small state, no clock and no IO.

Volume: bytes and requests of one person at one route, in windows that begin with the first request after the one
before has ended. Closed windows make a `Baseline`; the open one is compared with it at every request.
"""

from collections.abc import Iterable, Mapping
from math import inf, sqrt

import msgspec

from zt_proxy.control.settings import VolumeSettings

MEMORY = 200
"""Windows that the mean remembers: about three working days of minutes in which somebody did something."""
ENOUGH = 10
"""Closed windows without which there is no history, however long ago it began."""
SPREAD = 4.0
"""Standard deviations above the mean that are usual, too, for somebody whose traffic comes in bursts."""
CAP = 3.0
"""A window counts in the history as this many times the mean at most: one burst must not make the next one usual."""
GROWTH = 2.0
"""What is usual grows by this factor a day at most: to bring it up to ten times takes more than three days."""
NEVER = 1 << 62
"""More than anybody takes."""
DAY = 86_400.0


class Baseline(msgspec.Struct, array_like=True):
    """Mean and variance of closed windows, weighted exponentially."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0
    day: int = 0
    """Days since the epoch at the last change of `ceiling`."""
    ceiling: float = inf
    """What the mean may be on that day."""
    bursts: float = inf
    """What `_burst` may be on that day."""

    def learn(self, value: float, at: float, least: float, *, settled: bool) -> None:
        """Take a closed window in. `settled`: history is long enough to be defended against a fast rise.

        `least` is the mean below which a rise makes no difference.
        """
        if settled:
            day = int(at // DAY)
            if day != self.day or self.ceiling == inf:
                self.day, self.ceiling = day, GROWTH * max(self.mean, least)
                self.bursts = GROWTH * max(self._burst(), least)
            value = min(value, CAP * max(self.mean, least))
        self.count += 1
        share = max(1.0 / self.count, 1.0 / MEMORY)
        away = value - self.mean
        step = share * away
        self.mean += step
        self.variance = (1.0 - share) * (self.variance + away * step)
        if settled:
            self.mean = min(self.mean, self.ceiling)

    def most(self, factor: float, floor: float) -> float:
        """The most that is usual."""
        return max(floor, factor * self.mean, min(self._burst(), self.bursts))

    def _burst(self) -> float:
        return self.mean + SPREAD * sqrt(self.variance)


class Level(msgspec.Struct, array_like=True):
    """The windows of one length."""

    until: float = 0.0
    """End of the open window; 0: none is open."""
    sent: int = 0
    requests: int = 0
    alarmed: bool = False
    """Something in the open window has been told already."""
    usual_sent: Baseline = msgspec.field(default_factory=Baseline)
    usual_requests: Baseline = msgspec.field(default_factory=Baseline)


class Excess(msgspec.Struct, frozen=True):
    """More than usual."""

    what: str
    """`bytes` or `requests`"""
    seen: float
    usual: float
    """The mean of their own windows, or of everybody's at this route; 0: there is no history."""
    limit: float
    """The most that would not have been told."""
    window: float
    """Seconds."""
    peers: bool = False
    """`usual` is everybody's at this route, because this person has no history there."""


class Flow:
    """One person at one route. What is cheap to count is how much is left until somebody has to look closer."""

    __slots__ = (
        "_requests",
        "_sent",
        "dirty",
        "first",
        "last",
        "levels",
        "requests_left",
        "route",
        "sent_left",
        "until",
    )

    def __init__(self, route: "Flow | None", first: float, levels: tuple[Level, ...]) -> None:
        self.route = route
        """Everybody at this route; None: this is that one."""
        self.first = first
        self.last = first
        self.levels = levels
        """What `taken` says is not in them yet."""
        self.until = 0.0
        """When `turn` is due."""
        self.sent_left = self.requests_left = NEVER
        self._sent = self._requests = NEVER
        """Of what `sent_left` and `requests_left` are the rest."""
        self.dirty = False

    def add(self, sent: int, at: float, rules: VolumeSettings) -> Excess | None:
        """A request ended at `at` (epoch seconds)."""
        if at >= self.until:
            self.turn(at, rules)
        self.sent_left -= sent
        self.requests_left -= 1
        if self.sent_left < 0 or self.requests_left < 0:
            return self.excess(at, rules)
        return None

    def more(self, sent: int, at: float, rules: VolumeSettings) -> Excess | None:
        """So many bytes more of a request that goes on."""
        self.requests_left += 1
        return self.add(sent, at, rules)

    def taken(self) -> tuple[int, int]:
        """Bytes and requests that are in no level yet."""
        return self._sent - self.sent_left, self._requests - self.requests_left

    def _fold(self) -> None:
        sent, requests = self.taken()
        for level in self.levels:
            level.sent += sent
            level.requests += requests
        self._sent, self._requests = self.sent_left, self.requests_left

    def turn(self, at: float, rules: VolumeSettings) -> None:
        """Close what is over at `at`, and begin what is not open."""
        self._fold()
        for index, (level, length) in enumerate(zip(self.levels, rules.windows, strict=True)):
            if at >= level.until:
                if level.requests:
                    self._close(index, level, at, rules)
                level.until, level.sent, level.requests, level.alarmed = at + length, 0, 0, False
        self.until = self.levels[0].until
        self.last, self.dirty = at, True
        self._limit(at, rules)

    def _close(self, index: int, level: Level, at: float, rules: VolumeSettings) -> None:
        for flow in (self, self.route) if self.route is not None else (self,):
            mine = flow.levels[index]
            known = flow._known(mine, at, rules)
            mine.usual_sent.learn(level.sent, at, rules.floor / rules.factor, settled=known)
            mine.usual_requests.learn(level.requests, at, rules.requests_floor / rules.factor, settled=known)
            flow.last, flow.dirty = at, True

    def _known(self, level: Level, at: float, rules: VolumeSettings) -> bool:
        """History is as long as it has to be."""
        return at - self.first >= rules.learn and level.usual_sent.count >= ENOUGH

    def _usable(self, index: int, at: float, rules: VolumeSettings) -> bool:
        """There is something to compare with. Where nothing has to be learnt, that is the floor for a first window; a
        longer one waits for one of its kind, since what it holds is several times what a short one may."""
        level = self.levels[index]
        if rules.learn > 0:
            return self._known(level, at, rules)
        return index == 0 or level.usual_sent.count > 0

    def _against(self, index: int, at: float, rules: VolumeSettings) -> Level | None:
        """Whose history a level's window is compared with: their own, else everybody's at this route, else nobody's."""
        for flow in (self, self.route):
            if flow is not None and flow._usable(index, at, rules):
                return flow.levels[index]
        return None

    def _limit(self, at: float, rules: VolumeSettings) -> None:
        """Work out how much more is usual. Everything taken is in the levels."""
        sent = requests = NEVER
        for index, level in enumerate(self.levels):
            against = self._against(index, at, rules)
            if against is not None and not level.alarmed:
                sent = min(sent, int(against.usual_sent.most(rules.factor, rules.floor)) - level.sent)
                most = int(against.usual_requests.most(rules.factor, rules.requests_floor))
                requests = min(requests, most - level.requests)
        self.sent_left = self._sent = sent
        self.requests_left = self._requests = requests

    def excess(self, at: float, rules: VolumeSettings) -> Excess | None:
        """What is over its limit by most. It is told once a window, whichever window's it was."""
        self._fold()
        found: Excess | None = None
        for index, level in enumerate(self.levels):
            against = self._against(index, at, rules)
            if against is None or level.alarmed:
                continue
            for what, seen, usual, floor in (
                ("bytes", level.sent, against.usual_sent, rules.floor),
                ("requests", level.requests, against.usual_requests, rules.requests_floor),
            ):
                most = usual.most(rules.factor, floor)
                if seen > most and (found is None or seen / most > found.seen / found.limit):
                    found = Excess(what, seen, usual.mean, most, rules.windows[index], against is not level)
        if found is not None:
            for level in self.levels:
                level.alarmed = True
        self._limit(at, rules)
        return found


def new_flow(route: Flow | None, at: float, rules: VolumeSettings) -> Flow:
    """Of somebody who was not seen at this route before."""
    return Flow(route, at, tuple(Level() for _ in rules.windows))


# ---- first use ----

PEERS = 2
"""People of one's groups who use something, for it to be the habit of the group."""
Use = tuple[str, str]
"""Route and action; the action is empty where no profile says one."""


class Person(msgspec.Struct):
    """What somebody uses, and since when they are known."""

    first: float
    used: dict[Use, float] = {}
    """When last, in epoch seconds."""


class FirstUse(msgspec.Struct, frozen=True):
    """Outside the habit of the person and of their groups."""

    new_route: bool
    """They have never been at this route at all; else it is the action that is new to them."""
    usual: tuple[str, ...]
    """What they use: `ROUTE` or `ROUTE:ACTION`."""
    peers: int
    """How many others of their groups use it: fewer than `PEERS`."""


USUAL = 8
"""Things that an alert names as usual."""


def first_use(
    person: Person, use: Use, at: float, learn: float, peers: Iterable[Mapping[Use, float]]
) -> FirstUse | None:
    """Whether this use is none of the person's habits; `peers` are the habits of the others in their groups.

    Changes nothing.
    """
    if use in person.used or at - person.first < learn:
        return None
    count = 0
    for habits in peers:
        count += use in habits
        if count >= PEERS:
            return None
    usual = sorted(person.used, key=lambda each: person.used[each], reverse=True)[:USUAL]
    return FirstUse(
        all(route != use[0] for route, _ in person.used),
        tuple(f"{route}:{action}" if action else route for route, action in usual),
        count,
    )
