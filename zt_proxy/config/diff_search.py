"""A search for requests that two configurations decide differently.

For each route: every kind of request that the profiles and rules of either file can tell apart, every kind of people,
every value on both sides of every border, first the most ordinary circumstances, then one thing, two things that are
otherwise. If all combinations are too many, the rest of the budget goes into combinations drawn by a seed.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import msgspec

from zt_proxy.config.diff_people import Someone, people_of
from zt_proxy.config.diff_values import Axis, Rules, Sides, axes_of, lenient, spread
from zt_proxy.config.outcomes import Outcome, outcome_of, rule_of
from zt_proxy.config.worlds import Estate, RouteWorld
from zt_proxy.core.session import Approval, Level, Risk, RiskLevel, Session, unlock_key
from zt_proxy.core.types import ASKED_OF_PEOPLE, Act, Decision, Effect, Facts, Origin
from zt_proxy.policy.conditions import Vocabulary, compile_condition
from zt_proxy.policy.index import RequestIndex
from zt_proxy.policy.samples import ANY_METHODS, Sample, filled, samples_of
from zt_proxy.policy.spec import Test

BUDGET = 200_000
SELF = "@self"
_EVER = 100 * 365 * 86_400.0
_STEP = 2_000
_REQUEST = ("method", "path", "action", "object", "changes", "sensitivity")


class Pair(msgspec.Struct, frozen=True):
    """One request, and what it means to each file."""

    sample: Sample
    acts: tuple[Act, Act]
    rules: tuple[Rules, Rules] = ((), ())
    """Of each file, those that are about it."""


class Found(msgspec.Struct, frozen=True):
    """The most ordinary request on which the same two rules differ in the same way."""

    route: str
    before: Outcome
    after: Outcome
    request: str
    means: str
    who: str
    words: tuple[str, ...]
    """Options of `explain` that ask the same question; a body or a query of its own is not among them."""
    certain: bool


class Searched(msgspec.Struct, frozen=True):
    """How one route was searched."""

    route: str
    how: str
    """`only-before`, `only-after`, `same` (the rules are, nothing was tried), `every` combination, `part` of them."""
    requests: int = 0
    """Kinds of requests that the two can tell apart."""
    settled: int = 0
    """Of these, kinds about which both have the same rules, so that nothing had to be tried."""
    tried: int = 0
    combinations: int = 0
    """Of the other kinds, with people and circumstances."""
    found: tuple[Found, ...] = ()


def search(
    one: Estate, other: Estate, *, budget: int = BUDGET, seed: int = 0, tell: Callable[[int], None] = lambda _: None
) -> list[Searched]:
    """Each route of either file. `budget`: combinations in all; `tell` is told now and then how many were tried."""
    results: list[Searched] = []
    both = [name for name in one.routes if name in other.routes]
    open_routes = [name for name in both if not _same(one, other, name)]
    for name in dict.fromkeys((*one.routes, *other.routes)):
        if name not in both:
            results.append(Searched(name, "only-before" if name in one.routes else "only-after"))
        elif name not in open_routes:
            results.append(Searched(name, "same"))
        else:
            results.append(_route(name, (one, other), budget // len(open_routes), seed, tell))
    return results


def _route(name: str, estates: tuple[Estate, Estate], budget: int, seed: int, tell: Callable[[int], None]) -> Searched:
    one, other = (estate.routes[name] for estate in estates)
    pairs = distinct(Sides(one, other, *estates))
    found: dict[tuple[str, ...], Found] = {}
    attempts: list[_Search] = []
    for pair in pairs:
        sides = Sides(one, other, *estates, pair.rules)
        if pair.acts[0] != pair.acts[1] or not sides.agree():
            attempts.append(_Search(sides, pair, seed, tell, found))
    tried = 0
    attempts.sort(key=lambda attempt: attempt.combinations)  # what small ones leave is for the large ones
    for place, attempt in enumerate(attempts):
        attempt.run((budget - tried) // (len(attempts) - place))
        tried += attempt.tried
    combinations = sum(attempt.combinations for attempt in attempts)
    how = "every" if tried >= combinations else "part"
    return Searched(name, how, len(pairs), len(pairs) - len(attempts), tried, combinations, tuple(found.values()))


def _same(one: Estate, other: Estate, route: str) -> bool:
    first, second = one.routes[route], other.routes[route]
    plain = (first.rules, first.masks, first.profile_spec, first.paths, first.prefix) == (
        second.rules, second.masks, second.profile_spec, second.paths, second.prefix,
    )  # fmt: skip
    return plain and one.schema.networks == other.schema.networks and lenient(one) == lenient(other)


class _Search:
    """One kind of request, with people and circumstances that matter to its rules."""

    def __init__(
        self,
        sides: Sides,
        pair: Pair,
        seed: int,
        tell: Callable[[int], None],
        found: dict[tuple[str, ...], Found],
    ) -> None:
        self.sides, self.pair, self.tell, self.found = sides, pair, tell, found
        self.random = random.Random(seed)  # noqa: S311 - examples, not secrets
        self.axes: list[Axis] = axes_of(sides)
        people = people_of(sides)
        self.people = people.someone
        self.tried = 0
        self.keys = [unlock_key(world.name, rule.id) for world in sides.worlds for rule in world.rules.rules]
        self.lenient = [lenient(estate) for estate in sides.estates]
        self.masks = [{mask.name: mask for mask in world.masks} for world in sides.worlds]
        free = prod(len(axis.choices) for axis in self.axes if not axis.of_session)
        everything = prod(len(axis.choices) for axis in self.axes)
        others = sum(not each.is_person for each in self.people)
        self.combinations = (people.kinds - others) * everything + others * free

    def run(self, budget: int) -> None:
        """Try every combination if the budget is enough for that."""
        counts = [len(axis.choices) for axis in self.axes]
        every = self.combinations <= budget
        for combo in spread(counts, len(counts) if every else 2):
            for who in self.people:
                self._try(who, combo)
            if not every and self.tried >= budget * 3 // 4:
                break
        while not every and self.tried < min(budget, self.combinations):
            combo = tuple(self.random.randrange(count) for count in counts)
            self._try(self.random.choice(self.people), combo)

    def _try(self, who: Someone, combo: Sequence[int]) -> None:
        moved = any(place and axis.of_session for place, axis in zip(combo, self.axes, strict=True))
        if moved and not who.is_person:
            return
        given = {axis.name: axis.choices[place].value for axis, place in zip(self.axes, combo, strict=True)}
        address, zones = given["network"]
        headers = {value[0]: value[1] for name, value in given.items() if name.startswith("header:")}
        facts = [
            self._facts(
                side,
                who,
                self._session(who, given, side),
                Origin(address, zones[side], given["country"], given["asn"]),
                headers,
                given["time"],
            )
            for side in (0, 1)
        ]
        one, other = self.sides.worlds
        was, now = one.decide(facts[0]), other.decide(facts[1])
        if self._key(0, facts[0], was) != self._key(1, facts[1], now):
            self._note(who, combo, (facts[0], was), (facts[1], now))
        self.tried += 1
        if not self.tried % _STEP:
            self.tell(_STEP)

    def _facts(
        self, side: int, who: Someone, session: Session | None, origin: Origin, headers: Any, at: float
    ) -> Facts:
        act, sample = self.pair.acts[side], self.pair.sample
        if act.owner == SELF:
            act = msgspec.structs.replace(act, owner=who.principal.subject if who.principal else "")
        world = self.sides.worlds[side]
        return Facts(
            at,
            world.name,
            sample.method.encode(),
            sample.path.encode(),
            origin.address,
            who.principal,
            session,
            act,
            origin,
            session.risk if session is not None else None,
            {name: headers.get(name) for name in world.policy.headers_wanted},
        )

    def _session(self, who: Someone, given: dict[str, Any], side: int) -> Session | None:
        principal = who.principal
        if principal is None or principal.integration:
            return None
        at, level = given["time"], given.get("level", Level.MULTI)
        risk: RiskLevel | None = given.get("risk")
        reason, lead = given.get("reason", ""), given.get("approval", "")
        return Session(
            "", "", principal, "", (),
            mfa=level >= Level.MULTI or self.lenient[side].get(principal.provider, False),
            auth_time=at - given["age"],
            created=at - given["age"],
            last_activity=at,
            idle_timeout=_EVER,
            absolute_deadline=at + _EVER,
            level=level,
            device_known=given.get("device"),
            risk=Risk(0, risk) if risk is not None else None,
            justified=dict.fromkeys(self.keys, reason) if reason else {},
            approved=dict.fromkeys(self.keys, Approval(lead, at + _EVER)) if lead else {},
            break_glass=at + 60.0 if given.get("break-glass") else 0.0,
        )  # fmt: skip

    def _key(self, side: int, facts: Facts, decision: Decision) -> tuple[Any, ...]:
        """All of a decision that somebody notices: not which rule made it."""
        if decision.effect is Effect.DENY:
            return (Effect.DENY,)
        world, given = self.sides.worlds[side], decision.obligations
        machine = bool(facts.principal and facts.principal.integration)
        if decision.challenge is not None:
            rule = rule_of(world, decision.rule, machine=machine) if decision.challenge in ASKED_OF_PEOPLE else None
            approve = rule.approve if rule is not None and decision.challenge.value == "approve" else None
            return decision.challenge, decision.max_age, decision.level, decision.once, approve
        masks = [self.masks[side][name] for name in world.masks_for(facts, decision)] if world.masks else []
        limit = None
        if given is not None and given.limit:
            rule = rule_of(world, decision.rule, machine=machine)
            limit = rule.limit if rule is not None else None
        shown = tuple((each.fields, each.way, each.value, each.case_insensitive, each.headers) for each in masks)
        flags = (given.notify, given.break_glass) if given is not None else (False, False)
        return Effect.ALLOW, limit, flags, tuple(sorted(shown, key=repr))

    def _note(
        self, who: Someone, combo: Sequence[int], was: tuple[Facts, Decision], now: tuple[Facts, Decision]
    ) -> None:
        one, other = self.sides.worlds
        before, after = outcome_of(one, *was), outcome_of(other, *now)
        key = (before.rule or before.word, after.rule or after.word)
        if key in self.found:
            return
        words = [*who.words]
        for axis, place in zip(self.axes, combo, strict=True):
            told = place or axis.name in {"device", "risk", "country", "asn", "network", "time"}
            if told and (who.is_person or not axis.of_session):
                words += axis.choices[place].words
        sample = self.pair.sample
        about = ["--websocket"] if sample.websocket else []
        self.found[key] = Found(
            one.name,
            before,
            after,
            f"{'WebSocket ' if sample.websocket else ''}{sample.method} {sample.path}",
            _means(self.pair),
            " ".join(who.words) or "a stranger",
            ("--route", one.name, "-X", sample.method, "--path", sample.path, *about, *words),
            sample.certain,
        )


def distinct(sides: Sides) -> list[Pair]:
    """One request of each kind that the rules of the two files can tell apart."""
    indexes = [
        RequestIndex(world.rules.rules, case_insensitive=world.rules.case_insensitive, remember=False)
        for world in sides.worlds
    ]
    asked: list[Test] = list(sides.tests(*_REQUEST))
    nodes = [[compile_condition(test, Vocabulary(world.rules)).ask for test in asked] for world in sides.worlds]
    owned = sides.asks("owner")
    found: dict[tuple[Any, ...], Pair] = {}
    for pair in sorted(_pairs(sides), key=lambda pair: (not pair.sample.certain, len(pair.sample.path))):
        for owner in (None, "", SELF) if owned else (None,):
            acts = pair.acts
            if owner is not None and any(act.action is None for act in acts):
                continue
            if owner is not None:
                first, second = (msgspec.structs.replace(act, owner=owner) for act in acts)
                acts = (first, second)
            kind: list[Any] = []
            kept: list[Rules] = []
            for act, index, asks, world in zip(acts, indexes, nodes, sides.worlds, strict=True):
                method, path = pair.sample.method.encode(), pair.sample.path.encode()
                facts = Facts(0.0, "", method, path, "", None, None, act)
                fitting = index.fitting(facts)
                kept.append(_fitting(index, fitting, world.rules.rules))
                kind += [fitting, act.refused, act.owner, *(ask(facts) for ask in asks)]
                kind += [act.sensitivity] if sides.asks("clearance", "sensitivity") else []
            found.setdefault(tuple(kind), Pair(pair.sample, acts, (kept[0], kept[1])))
    return list(found.values())


def _fitting(index: RequestIndex, bits: int, rules: Rules) -> Rules:
    return tuple(rule for rule, own in zip(rules, index.bits, strict=True) if own & bits)


def _pairs(sides: Sides) -> Iterator[Pair]:
    samples: list[dict[tuple[str, str, str, bool, str], Sample]] = []
    objects = _objects(sides)
    for world in sides.worlds:
        made = samples_of(world.profile_spec, world.prefix.decode(), objects) if world.profile_spec else []
        samples.append({_id(each): each for each in made})
    for key in dict.fromkeys((*samples[0], *samples[1])):
        sample = samples[0].get(key) or samples[1][key]
        acts = [
            made[key].act if key in made else _classified(world, sample)
            for made, world in zip(samples, sides.worlds, strict=True)
        ]
        yield Pair(sample, (acts[0], acts[1]))
    for sample in _of_rules(sides):
        yield Pair(sample, (_classified(sides.worlds[0], sample), _classified(sides.worlds[1], sample)))


def _id(sample: Sample) -> tuple[str, str, str, bool, str]:
    return sample.method, sample.path, sample.act.matcher, sample.websocket, sample.act.object


def _classified(world: RouteWorld, sample: Sample) -> Act:
    return world.classify(sample.method.encode(), sample.path.encode(), None, lambda _: None, sample.websocket)


def _objects(sides: Sides) -> dict[str, list[str]]:
    """Kind → names that fit what rules say of objects."""
    patterns = [each for rule in sides.rules for match in rule.matches for each in match.objects]
    patterns += [str(value) for test in sides.tests("object") for value in test.values]
    for world in sides.worlds:
        if world.profile_spec is not None:
            patterns += [each for entry in world.profile_spec.sensitivities for each in entry.objects]
    found: dict[str, list[str]] = {}
    for pattern in dict.fromkeys(patterns):
        kind, _, name = pattern.partition(":")
        found.setdefault("*" if "*" in kind else kind, []).append(name.replace("*", "x"))
    return found


def _of_rules(sides: Sides) -> Iterator[Sample]:
    """Paths that rules name, with every method that is named, and a path that nobody names."""
    base = sides.worlds[0].prefix.decode().rstrip("/")
    named = dict.fromkeys(method for rule in sides.rules for match in rule.matches for method in match.methods)
    methods = tuple(dict.fromkeys((*ANY_METHODS, *named, *(str(v) for t in sides.tests("method") for v in t.values))))
    templates = dict.fromkeys(path for rule in sides.rules for match in rule.matches for path in match.paths)
    templates.update(dict.fromkeys(str(value) for test in sides.tests("path") for value in test.values))
    paths = [f"{base}/zz-nobody-knows-this"]
    for template in templates:
        inside = filled(template, wild="x")
        paths += [inside, filled(template, wild="zz-else"), inside.rstrip("/") + "/zz-else"]
    for path in dict.fromkeys(paths):
        yield from (Sample(method, path) for method in methods)


def _means(pair: Pair) -> str:
    act = pair.acts[1] if pair.acts[1].action is not None else pair.acts[0]
    if act.action is None:
        return ""
    return act.action.value + (f" {act.kind}:{act.object}" if act.kind else "")
