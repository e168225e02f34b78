"""Whether a condition can be met at all, or is met whatever happens. To find mistakes: False means "not seen"."""

from collections.abc import Iterable
from functools import cache

from zt_proxy.config.build_when import ORDERED, WEEK
from zt_proxy.config.schema_when import ACTIONS, CHANGES
from zt_proxy.policy.spec import All, Any, Cel, Condition, Hours, Named, Not, Test

_WAYS = 256
"""Combinations of alternatives beyond which nothing is said."""
_DOMAINS: dict[str, tuple[object, ...]] = {
    **ORDERED,
    "action": ACTIONS,
    "changes": (*CHANGES, ""),  # most requests change none
    "device_known": (True, False),
    "clearance": (True, False),
    "owner": (True, False),
}
"""Facts with few values: each request has one of them, or it is not known."""
_SINGLE = frozenset({"country", "asn", "provider", "method"})
"""Facts with many values, of which a request has one. Of groups, departments, claims a person may have several."""

Atom = tuple[Test | Hours | Cel, bool]
"""A comparison, and whether it has to come true (else: false)."""


def never(condition: Condition) -> bool:
    """Nothing that is known makes it true."""
    ways = _ways(condition, positive=True)
    return ways is not None and all(_contradict(way) for way in ways)


def always(condition: Condition) -> bool:
    """Nothing that is known makes it false."""
    ways = _ways(condition, positive=False)
    return ways is not None and all(_contradict(way) for way in ways)


def conjuncts(condition: Condition | None) -> frozenset[Condition]:
    """What has to be met together: more of them is a narrower condition."""
    if condition is None:
        return frozenset()
    if isinstance(condition, Named):
        return conjuncts(condition.item)
    if isinstance(condition, All):
        return frozenset().union(*(conjuncts(item) for item in condition.items))
    return frozenset({condition})


def atoms(condition: Condition | None) -> Iterable[Test | Hours | Cel]:
    """Every comparison in a condition."""
    if isinstance(condition, All | Any):
        for item in condition.items:
            yield from atoms(item)
    elif isinstance(condition, Not | Named):
        yield from atoms(condition.item)
    elif condition is not None:
        yield condition


def _ways(condition: Condition, *, positive: bool) -> list[tuple[Atom, ...]] | None:
    """Alternatives, each a list of comparisons that go together; None when there are too many."""
    if isinstance(condition, Named):
        return _ways(condition.item, positive=positive)
    if isinstance(condition, Not):
        return _ways(condition.item, positive=not positive)
    if isinstance(condition, All | Any):
        below = [_ways(item, positive=positive) for item in condition.items]
        if isinstance(condition, All) is positive:
            return _product(below)
        found = [way for ways in below if ways is not None for way in ways]
        return None if None in below or len(found) > _WAYS else found
    return [((condition, positive),)]


def _product(below: list[list[tuple[Atom, ...]] | None]) -> list[tuple[Atom, ...]] | None:
    found: list[tuple[Atom, ...]] = [()]
    for ways in below:
        if ways is None or len(found) * len(ways) > _WAYS:
            return None
        found = [(*way, *more) for way in found for more in ways]
    return found


def _contradict(way: tuple[Atom, ...]) -> bool:
    """These comparisons cannot all come out as they have to."""
    hours = [(atom, wanted) for atom, wanted in way if isinstance(atom, Hours)]
    tests: dict[str, list[tuple[Test, bool]]] = {}
    for atom, wanted in way:
        if isinstance(atom, Test):
            tests.setdefault(atom.fact, []).append((atom, wanted))
    opaque = [(atom, wanted) for atom, wanted in way if isinstance(atom, Cel)]
    if any((atom, not wanted) in opaque for atom, wanted in opaque):
        return True
    return _no_time(hours) or any(_no_value(fact, found) for fact, found in tests.items())


def _no_value(fact: str, tests: list[tuple[Test, bool]]) -> bool:
    if any((test, not wanted) in tests for test, wanted in tests):
        return True
    if fact in _DOMAINS:
        domain = _DOMAINS[fact]
        return not set(domain).intersection(*(_fitting(test, wanted, domain) for test, wanted in tests))
    if fact == "auth_age":
        return _no_age(tests)
    listed = [(frozenset(test.values), wanted) for test, wanted in tests if test.op == "in"]
    refused = frozenset[object]().union(*(values for values, wanted in listed if not wanted))
    chosen = [values for values, wanted in listed if wanted]
    if any(values <= refused for values in chosen):
        return True
    return fact in _SINGLE and bool(chosen) and not frozenset.intersection(*chosen) - refused


def _fitting(test: Test, wanted: bool, domain: tuple[object, ...]) -> set[object]:
    if test.op in {"at_least", "at_most"} and test.values[0] in domain:
        place = domain.index(test.values[0])
        fits = set(domain[place:] if test.op == "at_least" else domain[: place + 1])
    elif test.op in {"in", "is"}:
        fits = set(test.values)
    else:
        return set(domain)
    return fits if wanted else set(domain) - fits


def _no_age(tests: list[tuple[Test, bool]]) -> bool:
    """Seconds from `low` to `high`: no younger than nothing, and with no end."""
    low, high, open_end = 0.0, float("inf"), False
    for test, wanted in tests:
        bound = float(test.values[0])
        if (test.op == "at_least") is wanted:
            low, open_end = max(low, bound), open_end or not wanted
        else:
            high, open_end = min(high, bound), open_end or not wanted
    return low > high or (open_end and low == high)


def _no_time(hours: list[tuple[Hours, bool]]) -> bool:
    """Windows of one zone that never meet. Those of different zones are not compared."""
    zones: dict[str, int] = {}
    for window, wanted in hours:
        fits = _minutes(window) if wanted else _FULL & ~_minutes(window)
        zones[window.zone] = zones.get(window.zone, _FULL) & fits
    return not all(zones.values())


_FULL = (1 << WEEK) - 1


@cache
def _minutes(window: Hours) -> int:
    """The minutes of the week, one bit each."""
    found = 0
    length = window.end - window.start + (1440 if window.start > window.end else 0)
    for day in window.days:
        bits = ((1 << length) - 1) << (day * 1440 + window.start)
        found |= (bits & _FULL) | (bits >> WEEK)
    return found
