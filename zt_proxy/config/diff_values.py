"""What two versions of a route can tell apart: people and circumstances, both sides of every border they name."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from zt_proxy.config import logic, names
from zt_proxy.config.worlds import Estate, RouteWorld
from zt_proxy.core.session import Level, RiskLevel
from zt_proxy.core.types import Facts
from zt_proxy.policy.conditions import Vocabulary, compile_condition
from zt_proxy.policy.spec import Cel, Condition, Hours, RoleSpec, RuleSpec, Test

ELSE = "zz-else"
_MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
NOON = (_MONDAY + timedelta(days=1, hours=11)).timestamp()
_OUTSIDE = ("203.0.113.77", "198.51.100.77", "192.0.2.77", "8.8.8.8", "1.1.1.1")


class Choice(msgspec.Struct, frozen=True):
    """One value, and how `explain` is told of it."""

    value: Any
    words: tuple[str, ...] = ()


class Axis(msgspec.Struct, frozen=True):
    """One thing that may be one way or another; the first value is the most ordinary."""

    name: str
    choices: tuple[Choice, ...]
    of_session: bool = True
    """It says nothing of strangers and integrations."""


Rules = tuple[RuleSpec, ...]


class Sides:
    """The two versions of a route, as far as they are about some requests, and what both name."""

    def __init__(
        self, one: RouteWorld, other: RouteWorld, first: Estate, second: Estate, kept: tuple[Rules, Rules] | None = None
    ) -> None:
        """`kept`: the rules of each that are about those requests; None: all."""
        self.worlds = (one, other)
        self.estates = (first, second)
        self.kept = kept or (one.rules.rules, other.rules.rules)
        self.rules: list[RuleSpec] = [*self.kept[0], *self.kept[1]]
        self.roles = (_roles(one, self.kept[0]), _roles(other, self.kept[1]))
        conditions: list[Condition | None] = [rule.when for rule in self.rules]
        for world, roles in zip(self.worlds, self.roles, strict=True):
            conditions += [role.when for role in roles]
            conditions += [mask.applies for mask in world.masks]
        self.atoms = list(dict.fromkeys(atom for condition in conditions for atom in logic.atoms(condition)))
        self.facts = {atom.fact for atom in self.atoms if isinstance(atom, Test)}
        self.cel = any(isinstance(atom, Cel) for atom in self.atoms)

    def agree(self) -> bool:
        """Nothing that could tell the two apart: the same rules, roles, masks and terms."""
        (one, other), (first, second) = self.worlds, self.estates
        by_id = [{(rule.id, rule.integrations): rule for rule in rules} for rules in self.kept]
        terms = [
            (each.rules.mode, each.rules.provider, each.rules.attributes, each.rules.break_glass, each.masks)
            for each in (one, other)
        ]
        return (
            by_id[0] == by_id[1]
            and self.roles[0] == self.roles[1]
            and terms[0] == terms[1]
            and one.rules.case_insensitive == other.rules.case_insensitive
            and first.schema.networks == second.schema.networks
            and lenient(first) == lenient(second)
        )

    def tests(self, *facts: str) -> Iterator[Test]:
        """Comparisons of these facts."""
        return (atom for atom in self.atoms if isinstance(atom, Test) and atom.fact in facts)

    def asks(self, *facts: str) -> bool:
        """Some condition is about one of these facts; an expression may be about all of them."""
        return self.cel or not self.facts.isdisjoint(facts)


def lenient(estate: Estate) -> dict[str, bool]:
    """Provider → its people need no second factor."""
    return {name: bool(each.insecure_no_mfa) for name, each in estate.schema.identity.providers.items()}


def _roles(world: RouteWorld, rules: Rules) -> tuple[RoleSpec, ...]:
    """Roles of the file that these rules ask for, also by way of others, and those that masks ask for."""
    specs = {role.name: role for role in world.rules.roles}
    waiting = [name for rule in rules for name in rule.roles]
    conditions: list[Condition | None] = [rule.when for rule in rules]
    conditions += [mask.applies for mask in world.masks]
    found: dict[str, RoleSpec] = {}
    while waiting or conditions:
        for condition in conditions:
            named = [atom for atom in logic.atoms(condition) if isinstance(atom, Test) and atom.fact == "role"]
            waiting += [str(value) for atom in named for value in atom.values]
            if any(isinstance(atom, Cel) for atom in logic.atoms(condition)):
                waiting += specs  # an expression may ask for any
        fresh = [name for name in dict.fromkeys(waiting) if name in specs and name not in found]
        found.update((name, specs[name]) for name in fresh)
        waiting, conditions = [], [specs[name].when for name in fresh]
    return tuple(found[name] for name in sorted(found))


def axes_of(sides: Sides) -> list[Axis]:
    """Circumstances that the two can tell apart."""
    found = [
        Axis("network", tuple(_addresses(sides)), of_session=False),
        Axis("country", tuple(_countries(sides)), of_session=False),
        Axis("asn", tuple(_systems(sides)), of_session=False),
        Axis("time", tuple(_times(sides)), of_session=False),
    ]
    for name in sorted({test.fact for test in sides.tests(*(fact for fact in sides.facts if fact[:7] == "header:"))}):
        found.append(_header(sides, name))
    proves = any(rule.proves for rule in sides.rules)
    if sides.asks("level") or proves:
        levels = (Level.MULTI, Level.PHISHING_RESISTANT, Level.SINGLE)
        found.append(Axis("level", tuple(Choice(each, ("--level", each.word)) for each in levels)))
    found.append(Axis("age", tuple(_ages(sides))))
    if sides.asks("device_known"):
        words = {True: ("--device", "known"), False: ("--device", "new"), None: ()}
        found.append(Axis("device", tuple(Choice(known, said) for known, said in words.items())))
    if sides.asks("risk"):
        choices = [Choice(level, ("--risk", level.word)) for level in RiskLevel]
        found.append(Axis("risk", (*choices, Choice(None))))
    if any(rule.justify for rule in sides.rules):
        found.append(Axis("reason", (Choice(""), Choice("because", ("--justified", "because")))))
    if any(rule.approve for rule in sides.rules):
        found.append(Axis("approval", (Choice(""), Choice("zz-lead", ("--approved-by", "zz-lead")))))
    if any(world.rules.break_glass for world in sides.worlds):
        found.append(Axis("break-glass", (Choice(False), Choice(True, ("--break-glass",)))))
    return [axis for axis in found if axis.choices]


def _addresses(sides: Sides) -> list[Choice]:
    """One address for each combination of networks that either file makes of addresses."""
    candidates = list(_OUTSIDE)
    for estate in sides.estates:
        for items in estate.schema.networks.values():
            for network in names.networks(items):
                first, last = network[0], network[-1]
                inner = [first + 1] if network.num_addresses > 2 else []
                around = [first - 1] if int(first) else []
                around += [last + 1] if int(last) + 1 < 1 << last.max_prefixlen else []
                candidates += [str(each) for each in (*inner, first, last, *around)]
    found: dict[tuple[frozenset[str], frozenset[str]], Choice] = {}
    for address in candidates:
        one, other = (estate.origins.of(address).zones for estate in sides.estates)
        found.setdefault((one, other), Choice((address, (one, other)), ("--address", address)))
    ordered = sorted(found.items(), key=lambda item: len(item[0][0]) + len(item[0][1]))
    if not sides.asks("network"):
        ordered = ordered[:1]
    return [choice for _, choice in ordered]


def _countries(sides: Sides) -> list[Choice]:
    named = dict.fromkeys(str(value).upper() for test in sides.tests("country") for value in test.values)
    other = next(code for code in ("AQ", "BV", "TF", "HM") if code not in named)
    if not sides.asks("country"):
        return [Choice(None)]
    return [*(Choice(code, ("--country", code)) for code in named), Choice(other, ("--country", other)), Choice(None)]


def _systems(sides: Sides) -> list[Choice]:
    wanted = [str(value).upper().removeprefix("AS") for test in sides.tests("asn") for value in test.values]
    named = dict.fromkeys(map(int, wanted))
    if not sides.asks("asn"):
        return [Choice(None)]
    other = next(number for number in range(64_496, 64_512) if number not in named)
    return [*(Choice(number, ("--asn", str(number))) for number in (*named, other)), Choice(None)]


def _times(sides: Sides) -> list[Choice]:
    """One moment of a week for each way in which the hours of both files can come out."""
    hours = [atom for atom in sides.atoms if isinstance(atom, Hours)]
    words = Vocabulary(sides.worlds[0].rules)
    asks = [compile_condition(each, words).ask for each in hours]
    candidates = [NOON]
    for each in hours:
        for day in range(7):
            midnight = (_MONDAY + timedelta(days=day)).replace(tzinfo=ZoneInfo(each.zone))
            for minute in (each.start, each.start - 1, each.end, each.end - 1):
                candidates.append((midnight + timedelta(minutes=minute)).timestamp())
    found: dict[tuple[Any, ...], Choice] = {}
    for at in candidates:
        facts = Facts(at, "", b"GET", b"/", "", None, None)
        moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="minutes")
        words_of = ("--at", moment) if hours else ()
        found.setdefault(tuple(ask(facts) for ask in asks), Choice(at, words_of))
    return list(found.values())


def _header(sides: Sides, fact: str) -> Axis:
    name = fact.removeprefix("header:").lower()
    values = dict.fromkeys(str(value).replace("*", "x") for test in sides.tests(fact) for value in test.values)
    choices = [Choice((name, None)), *(Choice((name, each), ("-H", f"{name}:{each}")) for each in (*values, ELSE))]
    return Axis(fact, tuple(choices), of_session=False)


def _ages(sides: Sides) -> list[Choice]:
    """Seconds since the sign-in: both sides of every bound."""
    bounds = {float(value) for test in sides.tests("auth_age") for value in test.values}
    bounds |= {rule.reauth for rule in sides.rules if rule.reauth is not None}
    if any(rule.once for rule in sides.rules):
        bounds.add(60.0)
    ages = sorted({0.0, *bounds, *(bound + 1 for bound in bounds), *(max(0.0, bound - 1) for bound in bounds)})
    return [Choice(age, ("--proved-ago", f"{age:g}s") if age else ()) for age in ages]


def spread(choices: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
    """Places of one value on each axis, the most ordinary first: no axis, one, up to `most` away from the first."""
    from itertools import combinations, product

    for away in range(most + 1):
        for axes in combinations([axis for axis, count in enumerate(choices) if count > 1], away):
            for places in product(*(range(1, choices[axis]) for axis in axes)):
                combo = [0] * len(choices)
                for axis, place in zip(axes, places, strict=True):
                    combo[axis] = place
                yield tuple(combo)
