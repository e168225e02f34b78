"""How unusual a sign-in or a request looks: signals with weights, a score of 0 to 100, a level.

    sign-in ──► signals(Circumstances) ──► assess ──► Risk of the session      (control)
    request ──► of_request(session, origin, …) ──► the same, or more           (worker)

Each signal is one small function. A level goes up at once and comes down late (hysteresis), so that a score that
wavers around a threshold does not let people in and out.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

import msgspec

from zt_proxy.core.session import Risk, RiskLevel, Session
from zt_proxy.core.types import Origin
from zt_proxy.policy.geo import Place
from zt_proxy.policy.habits import DAY, HOUR, NO_HISTORY, History, leaves_by, spot_of
from zt_proxy.policy.travel import Spot, apart

SPEED = 1_000.0
"""Kilometres an hour from door to door that nobody travels faster than."""
NEARBY = 300.0
"""Kilometres below which nobody is said to have travelled."""
AGENTS = 1024
"""User-Agents whose marks are remembered."""
AGENT = 512
"""Bytes of a User-Agent beyond which no browser's goes, and which is not remembered: it may have as many as all headers
together, and anybody could have every worker keep a thousand of those."""
ATTEMPTS = 5
"""Failed attempts from which the signal has its whole weight; one alone is a slip and says nothing."""

WEIGHTS: Mapping[str, int] = {
    "new-device": 25,
    "new-country": 25,
    "impossible-travel": 40,
    "unusual-hour": 10,
    "failed-attempts": 20,
    "address-changed": 15,
    "agent-changed": 25,
    "dormant": 20,
}
"""Signal → what it adds to the score."""
NETWORKS: Mapping[str, int] = {"office": -20, "hosting": 20}
"""Network zone → what it adds; a zone that is not here adds nothing. Of several the highest counts."""


class RiskSettings(msgspec.Struct, frozen=True):
    """`risk` of the configuration."""

    weights: Mapping[str, int] = msgspec.field(default_factory=lambda: dict(WEIGHTS))
    """Every key of `WEIGHTS`; 0 switches a signal off."""
    networks: Mapping[str, int] = msgspec.field(default_factory=lambda: dict(NETWORKS))
    medium: int = 30
    high: int = 60
    """Scores from which a level is reached."""
    low_again: int = 20
    medium_again: int = 50
    """Scores down to which it stays."""
    egress: frozenset[str] = frozenset()
    """Zones that are the company's own exits: who comes from there may be anywhere."""
    dormant: float = 90 * DAY
    """Seconds without a sign-in after which an account counts as dormant."""


class Signal(msgspec.Struct, frozen=True, gc=False):
    """One thing that is unusual, or reassuring, and what it adds to the score."""

    name: str
    weight: int

    @property
    def reason(self) -> str:
        """`new-device+25`"""
        return f"{self.name}{self.weight:+d}"


class Circumstances(msgspec.Struct, frozen=True):
    """A sign-in, and what was known of the person before it."""

    now: float
    place: Place
    device_known: bool | None = None
    """None: nobody knows."""
    history: History = NO_HISTORY
    failures: int = 0
    """Failed attempts of late, of this person or from this address."""


Signals = Iterator[Signal]


def new_device(seen: Circumstances, settings: RiskSettings) -> Signals:
    """The person has not signed in with this browser before."""
    if seen.device_known is False:
        yield Signal("new-device", settings.weights["new-device"])


def new_country(seen: Circumstances, settings: RiskSettings) -> Signals:
    """From a country that the person has not signed in from before. At their first sign-in none is."""
    origin, history = seen.place.origin, seen.history
    if origin.country is None or not history.seen or leaves_by(origin, settings.egress):
        return
    if origin.country not in history.countries:
        yield Signal("new-country", settings.weights["new-country"])


def impossible_travel(seen: Circumstances, settings: RiskSettings) -> Signals:
    """Too far from the last sign-in for the time in between.

    One network that the person has used before may be anywhere (mobile carriers, private relays), and so may who comes
    by way of the company's exit.
    """
    origin, last = seen.place.origin, seen.history.visit
    if last is None or leaves_by(origin, settings.egress):
        return
    if origin.asn is not None and (origin.asn == last.asn or origin.asn in seen.history.networks):
        return
    if too_far(last.spot, spot_of(seen.place), seen.now - last.at):
        yield Signal("impossible-travel", settings.weights["impossible-travel"])


def network(seen: Circumstances, settings: RiskSettings) -> Signals:
    """What the operator thinks of the network: the office lowers, a hosting provider raises."""
    yield from _network(seen.place.origin, settings)


def unusual_hour(seen: Circumstances, settings: RiskSettings) -> Signals:
    """At a time of the week at which this person hardly ever signs in, once enough is known of them."""
    if seen.history.hours.unusual(seen.now):
        yield Signal("unusual-hour", settings.weights["unusual-hour"])


def failed_attempts(seen: Circumstances, settings: RiskSettings) -> Signals:
    """Wrong codes and refused sign-ins of late."""
    yield from _failures(seen.failures, settings)


def dormant(seen: Circumstances, settings: RiskSettings) -> Signals:
    """Nobody has used the account for long."""
    if seen.history.seen and seen.now - seen.history.seen > settings.dormant:
        yield Signal("dormant", settings.weights["dormant"])


SIGNALS: tuple[Callable[[Circumstances, RiskSettings], Signals], ...] = (
    new_device,
    new_country,
    impossible_travel,
    network,
    unusual_hour,
    failed_attempts,
    dormant,
)
"""What is asked at a sign-in."""


def signals(seen: Circumstances, settings: RiskSettings) -> tuple[Signal, ...]:
    """Everything unusual about a sign-in, and what reassures; without those of weight 0."""
    return tuple(signal for each in SIGNALS for signal in each(seen, settings) if signal.weight)


def assess(found: Iterable[Signal], before: Risk | None, settings: RiskSettings) -> Risk:
    """The risk that signals make. `before`: the assessment that this one follows, for the hysteresis."""
    found = tuple(found)
    score = min(100, max(0, sum(signal.weight for signal in found)))
    level = level_of(score, before.level if before is not None else RiskLevel.LOW, settings)
    return Risk(score, level, tuple(signal.reason for signal in found))


def level_of(score: int, before: RiskLevel, settings: RiskSettings) -> RiskLevel:
    """Up as soon as a threshold is reached; down once the score is at or below where the level ends."""
    if score >= settings.high:
        return RiskLevel.HIGH
    if before is RiskLevel.HIGH and score > settings.medium_again:
        return RiskLevel.HIGH
    if score >= settings.medium:
        return RiskLevel.MEDIUM
    if before is not RiskLevel.LOW and score > settings.low_again:
        return RiskLevel.MEDIUM
    return RiskLevel.LOW


def renewed(before: Risk, failures: int, settings: RiskSettings) -> Risk:
    """An assessment of a sign-in, brought up to date: what was unusual about it stays, failed attempts come and go."""
    kept = [each for each in map(_signal, before.reasons) if each.name != "failed-attempts"]
    risk = assess((*kept, *_failures(failures, settings)), before, settings)
    return before if risk == before else risk


def of_request(
    session: Session,
    origin: Origin,
    agent: str,
    now: float,
    settings: RiskSettings,
    of: Callable[[str], Origin],
) -> Risk | None:
    """The session's risk, with what this very request adds: another address, another browser.

    `agent`: `agent_mark` of the request's User-Agent; `of`: `Origins.of`, asked about the address of the sign-in only
    if this one is another. None if nobody assessed the session. Where nothing differs, it gives the session's own
    value, and makes none.
    """
    base = session.risk
    if base is None:
        return None
    moved = session.address and session.address != origin.address
    changed = session.agent and session.agent != agent
    if not moved and not changed:
        return base
    found: list[Signal] = []
    if moved:
        found.extend(_moved(of(session.address), origin, now - session.auth_time, settings))
    if changed:
        found.append(Signal("agent-changed", settings.weights["agent-changed"]))
    found = [signal for signal in found if signal.weight]
    if not found:
        return base
    score = min(100, base.score + sum(signal.weight for signal in found))
    reasons = (*base.reasons, *(signal.reason for signal in found))
    return Risk(score, level_of(score, base.level, settings), reasons)


def agent_mark(agent: bytes) -> str:
    """A User-Agent as sessions remember it; empty for none."""
    return _remembered_mark(agent) if len(agent) <= AGENT else _mark(agent)


def _mark(agent: bytes) -> str:
    return hashlib.sha256(agent).hexdigest()[:16] if agent else ""


_remembered_mark = lru_cache(maxsize=AGENTS)(_mark)


def shared(origin: Origin, settings: RiskSettings) -> bool:
    """Whether many people of the company share the address: what one of them does there says nothing of another."""
    return leaves_by(origin, settings.egress) or any(settings.networks.get(zone, 0) < 0 for zone in origin.zones)


def too_far(one: Spot, other: Spot, seconds: float) -> bool:
    """Whether nobody gets from one place to the other in this time."""
    distance = apart(one, other)
    return distance > max(NEARBY, SPEED * seconds / HOUR)


def _moved(before: Origin, after: Origin, seconds: float, settings: RiskSettings) -> Signals:
    """An address is another one; phones change theirs all day, so one in the same zone, network or country says
    nothing. A worse network counts for what it is worse."""
    if leaves_by(before, settings.egress) or leaves_by(after, settings.egress):
        return
    worse = _of_network(after, settings) - _of_network(before, settings)
    if worse > 0:
        yield from (Signal(each.name, worse) for each in _network(after, settings))
    if not before.zones.isdisjoint(after.zones) or (before.asn is not None and before.asn == after.asn):
        return
    if before.country == after.country:
        return
    yield Signal("address-changed", settings.weights["address-changed"])
    if too_far(Spot(before.country), Spot(after.country), seconds):
        yield Signal("impossible-travel", settings.weights["impossible-travel"])


def _network(origin: Origin, settings: RiskSettings) -> Signals:
    rated = [(settings.networks[zone], zone) for zone in origin.zones if zone in settings.networks]
    if rated:
        weight, zone = max(rated)
        yield Signal(f"network-{zone}", weight)


def _of_network(origin: Origin, settings: RiskSettings) -> int:
    return sum(signal.weight for signal in _network(origin, settings))


def _failures(count: int, settings: RiskSettings) -> Signals:
    if count > 1:
        weight = settings.weights["failed-attempts"] * min(count, ATTEMPTS) // ATTEMPTS
        if weight:
            yield Signal("failed-attempts", weight)


def _signal(reason: str) -> Signal:
    """The inverse of `Signal.reason`."""
    place = max(reason.rfind("+"), reason.rfind("-"))
    return Signal(reason[:place], int(reason[place:]))
