"""Conditions to closures, once at load: three-valued, after Kleene.

True, False, or None where a fact is not known. `all` is False as soon as one item is, `any` True as soon as one is,
whatever the others would say; `not` of what is not known is not known. The same closures serve the decision and the
trace of it, so that the two cannot disagree.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.types import Facts
from zt_proxy.policy import facts as known
from zt_proxy.policy.spec import FACTS, All, Any, Cel, Condition, Hours, Named, Not, RouteRules, Test, Value
from zt_proxy.policy.templates import compile_paths, plain_reading

Verdict = bool | None
Ask = Callable[[Facts], Verdict]
TIMED = frozenset({"auth_age", "risk"})
"""Facts that change while session and way stay the same."""


class Node:
    """A condition, ready: what it says of a request, and what a trace shows of it."""

    __slots__ = ("actual", "ask", "children", "headers", "kind", "label", "lacks", "timed")

    def __init__(
        self,
        label: str,
        ask: Ask,
        *,
        kind: str = "test",
        children: Sequence["Node"] = (),
        lacks: Callable[[Facts], Iterable[str]] = lambda _: (),
        actual: Callable[[Facts], str] = lambda _: "",
        timed: bool = False,
        headers: Iterable[str] = (),
    ) -> None:
        self.label = label
        self.ask = ask
        self.kind = kind
        """`test`, `all`, `any`, `not`, or `named`."""
        self.children = tuple(children)
        self.lacks = lacks
        """Of a leaf that says None: the facts it lacks."""
        self.actual = actual
        """Of a leaf: the value it compared, as text."""
        self.timed: bool = timed or any(child.timed for child in children)
        """It may say something else later of the same session and the same request."""
        self.headers: frozenset[str] = frozenset(headers).union(*(child.headers for child in children))
        """Lower-case names of the headers it asks for."""

    def missing(self, facts: Facts) -> set[str]:
        """Names of the facts for want of which it says None; none if it says something."""
        if self.ask(facts) is not None:
            return set()
        found = set(self.lacks(facts))
        for child in self.children:
            found |= child.missing(facts)
        return found


class Role:
    """Whether somebody has a role of the configuration or, by the same name, of the provider."""

    __slots__ = ("emails", "groups", "name", "node", "users")

    def __init__(self, name: str, users: Iterable[str], groups: Iterable[str], node: Node | None) -> None:
        self.name = name
        self.users = frozenset(users)
        self.emails = any("@" in user for user in self.users)
        self.groups = frozenset(groups)
        self.node = node

    def ask(self, facts: Facts) -> Verdict:
        who = facts.principal
        if who is None:
            return None
        if (
            (self.name and self.name in who.roles)
            or who.subject in self.users
            or not self.groups.isdisjoint(who.groups)
        ):
            return True
        if who.email in self.users:
            return True
        verdict = None if self.emails and who.email is None else False
        if self.node is None:
            return verdict
        said = self.node.ask(facts)
        return verdict if said is False else said

    def missing(self, facts: Facts) -> set[str]:
        if self.ask(facts) is not None:
            return set()
        found = {"user"} if facts.principal is None or (self.emails and facts.principal.email is None) else set()
        return found if self.node is None else found | self.node.missing(facts)


class Vocabulary:
    """What the words of one route's conditions mean: its roles, its names of claims, how it reads paths."""

    def __init__(self, rules: RouteRules) -> None:
        self.attributes = rules.attributes
        self.case_insensitive = rules.case_insensitive
        self._specs = {spec.name: spec for spec in rules.roles}
        self._roles: dict[str, Role] = {}
        self._open: list[str] = []

    def role(self, name: str) -> Role:
        """Raises ConfigurationError for roles that define one another in a circle."""
        if name not in self._roles:
            if name in self._open:
                raise ConfigurationError(f"role {name!r} is defined by itself: {' → '.join([*self._open, name])}")
            self._open.append(name)
            spec = self._specs.get(name)
            node = None if spec is None or spec.when is None else compile_condition(spec.when, self)
            self._roles[name] = Role(name, spec.users if spec else (), spec.groups if spec else (), node)
            self._open.pop()
        return self._roles[name]

    def roles(self) -> list[Role]:
        """All that the configuration defines."""
        return [self.role(name) for name in self._specs]


def compile_condition(condition: Condition, words: Vocabulary) -> Node:
    """The condition, ready. Raises ConfigurationError for one that can mean nothing."""
    match condition:
        case Test():
            return _compile_test(condition, words)
        case Hours():
            return _compile_hours(condition)
        case Cel():
            from zt_proxy.policy.expressions import compile_expression

            return compile_expression(condition.expression, words)
        case Not():
            child = compile_condition(condition.item, words)
            return Node(f"not ({child.label})", _negated(child.ask), kind="not", children=(child,))
        case Named():
            child = compile_condition(condition.item, words)
            return Node(f"access level {condition.name}", child.ask, kind="named", children=(child,))
        case All() | Any():
            kind = "all" if isinstance(condition, All) else "any"
            if not condition.items:
                raise ConfigurationError(f"`{kind}` of nothing is no condition")
            nodes = [compile_condition(item, words) for item in condition.items]
            asks = [node.ask for node in nodes]
            label = f" {'and' if kind == 'all' else 'or'} ".join(node.label for node in nodes)
            return Node(label, (all_of if kind == "all" else any_of)(asks), kind=kind, children=nodes)


def all_of(asks: Sequence[Ask]) -> Ask:
    """Kleene's conjunction."""
    if len(asks) == 1:
        return asks[0]

    def ask(facts: Facts) -> Verdict:
        verdict: Verdict = True
        for each in asks:
            said = each(facts)
            if said is False:
                return False
            if said is None:
                verdict = None
        return verdict

    return ask


def any_of(asks: Sequence[Ask]) -> Ask:
    """Kleene's disjunction."""
    if len(asks) == 1:
        return asks[0]

    def ask(facts: Facts) -> Verdict:
        verdict: Verdict = False
        for each in asks:
            said = each(facts)
            if said is True:
                return True
            if said is None:
                verdict = None
        return verdict

    return ask


def _negated(ask: Ask) -> Ask:
    def negated(facts: Facts) -> Verdict:
        said = ask(facts)
        return None if said is None else not said

    return negated


# ---- comparisons: one function for each way to compare ----


def _compile_test(test: Test, words: Vocabulary) -> Node:
    fact, op, values = test.fact, test.op, test.values
    label = f"{fact} {op.replace('_', ' ')} {', '.join(known.text_of(value) for value in values)}"
    if not values:
        raise ConfigurationError(f"condition {label!r} compares with nothing")
    special = _SPECIAL.get((fact, op))
    if special is not None:
        return special(label, values, words)
    if op in {"in", "is", "like"}:
        if fact == "level" and op == "in":
            return _numeric(label, fact, "at_least", (min(values, key=lambda value: _number(label, value, fact)),))
        return _textual(label, fact, op, values, words)
    if op in {"at_least", "at_most"}:
        return _numeric(label, fact, op, values)
    raise ConfigurationError(f"condition {label!r}: no such comparison of this fact")


def _textual(label: str, fact: str, op: str, values: tuple[Value, ...], words: Vocabulary) -> Node:
    kind, _, name = fact.partition(":")
    headers: tuple[str, ...] = ()
    if kind == "claim" and name:
        texts = known.claim(name)
    elif kind == "header" and name:
        texts, headers = known.header(name), (name.lower(),)
    elif fact in {"department", "location", "clearance"}:
        texts = known.claim(words.attributes.get(fact, fact))
    elif fact in known.TEXTS:
        texts = known.TEXTS[fact]
    else:
        raise ConfigurationError(f"condition {label!r}: no such comparison of this fact")
    wanted = [known.text_of(value) for value in values]
    if fact == "country":
        wanted = [each.upper() for each in wanted]
    elif fact == "asn":
        wanted = [each.upper().removeprefix("AS") for each in wanted]
    compare = _like(texts, wanted) if op == "like" else _in(texts, frozenset(wanted))
    return Node(
        label, compare, lacks=lambda _: (fact,), actual=lambda facts: known.shown(texts(facts)),
        timed=fact in TIMED, headers=headers,
    )  # fmt: skip


def _in(texts: known.Texts, wanted: frozenset[str]) -> Ask:
    def ask(facts: Facts) -> Verdict:
        values = texts(facts)
        return None if values is None else not wanted.isdisjoint(values)

    return ask


def _like(texts: known.Texts, wanted: Sequence[str]) -> Ask:
    fits = wildcards(wanted)

    def ask(facts: Facts) -> Verdict:
        values = texts(facts)
        return None if values is None else any(fits(value) for value in values)

    return ask


def wildcards(patterns: Iterable[str]) -> Callable[[str], object]:
    """Whether a text is like one of the patterns; `*` is any run of characters, everything else itself."""
    # Each `*` between two literals takes the first fit and never tries another: no text can make it backtrack.
    bodies = []
    for pattern in patterns:
        first, *rest = (re.escape(part) for part in pattern.split("*"))
        middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
        bodies.append(first + middle + (f".*{rest[-1]}" if rest else ""))
    return re.compile("|".join(f"(?:{body})" for body in bodies), re.DOTALL).fullmatch


def _number(label: str, value: Value, fact: str) -> float:
    words = known.NUMBERS[fact][1] if fact in known.NUMBERS else {}
    if isinstance(value, str) and value in words:
        return words[value]
    if isinstance(value, (bool, str)) or words:
        raise ConfigurationError(f"condition {label!r}: {value!r} is no {' or '.join(words) or 'number'}")
    return value


def _numeric(label: str, fact: str, op: str, values: tuple[Value, ...]) -> Node:
    if len(values) != 1:
        raise ConfigurationError(f"condition {label!r} needs one value")
    limit = _number(label, values[0], fact)
    if fact in known.NUMBERS:
        number = known.NUMBERS[fact][0]
    elif fact.startswith("claim:") and fact != "claim:":
        number = known.claim_number(fact.removeprefix("claim:"))
    else:
        raise ConfigurationError(f"condition {label!r}: no such comparison of this fact")

    def at_least(facts: Facts) -> Verdict:
        value = number(facts)
        return None if value is None else value >= limit

    def at_most(facts: Facts) -> Verdict:
        value = number(facts)
        return None if value is None else value <= limit

    def actual(facts: Facts) -> str:
        value = number(facts)
        if value is None:
            return "not known"
        return next((word for word, rank in _words(fact).items() if rank == value), f"{value:g}")

    return Node(
        label, at_least if op == "at_least" else at_most, lacks=lambda _: (fact,), actual=actual, timed=fact in TIMED
    )


def _words(fact: str) -> dict[str, int]:
    return known.NUMBERS[fact][1] if fact in known.NUMBERS else {}


def _user(label: str, values: tuple[Value, ...], _: Vocabulary) -> Node:
    role = Role("", (known.text_of(value) for value in values), (), None)

    def ask(facts: Facts) -> Verdict:
        return role.ask(facts)

    def actual(facts: Facts) -> str:
        who = facts.principal
        return known.shown(None if who is None else [each for each in (who.subject, who.email) if each])

    return Node(label, ask, lacks=lambda _: ("user",), actual=actual)


def _role(label: str, values: tuple[Value, ...], words: Vocabulary) -> Node:
    roles = [words.role(known.text_of(value)) for value in values]
    nodes = [role.node for role in roles if role.node is not None]

    def lacks(facts: Facts) -> Iterable[str]:
        return set().union(*(role.missing(facts) for role in roles))

    def actual(facts: Facts) -> str:
        if facts.principal is None:
            return known.shown(None)
        return known.shown(facts.principal.roles | {role.name for role in roles if role.ask(facts)})

    return Node(
        label, any_of([role.ask for role in roles]), lacks=lacks, actual=actual,
        timed=any(node.timed for node in nodes), headers=frozenset().union(*(node.headers for node in nodes)),
    )  # fmt: skip


def _clearance(label: str, values: tuple[Value, ...], words: Vocabulary) -> Node:
    texts = known.claim(words.attributes.get("clearance", "clearance"))
    wanted = _flag(label, values)

    def held(facts: Facts) -> int | None:
        ranks = [known.SENSITIVITY.get(text) for text in texts(facts) or ()]
        return None if not ranks or None in ranks else max(rank for rank in ranks if rank is not None)

    def ask(facts: Facts) -> Verdict:
        rank, of = held(facts), facts.act.sensitivity
        return None if rank is None or of is None else (rank >= known.SENSITIVITY[of.value]) is wanted

    def lacks(facts: Facts) -> Iterable[str]:
        return [
            name
            for name, value in (("clearance", held(facts)), ("sensitivity", facts.act.sensitivity))
            if value is None
        ]

    def actual(facts: Facts) -> str:
        of = facts.act.sensitivity
        return f"{known.shown(texts(facts))} for {'not known' if of is None else of.value}"

    return Node(label, ask, lacks=lacks, actual=actual)


def _owner(label: str, values: tuple[Value, ...], _: Vocabulary) -> Node:
    wanted = _flag(label, values)

    def ask(facts: Facts) -> Verdict:
        who, owner = facts.principal, facts.act.owner
        return None if who is None or not owner else (owner in known.names_of(who)) is wanted

    def lacks(facts: Facts) -> Iterable[str]:
        return ("owner",) if not facts.act.owner else ("user",)

    return Node(label, ask, lacks=lacks, actual=lambda facts: facts.act.owner or "not known")


def _flag(label: str, values: tuple[Value, ...]) -> bool:
    if len(values) != 1 or not isinstance(values[0], bool):
        raise ConfigurationError(f"condition {label!r} is true or false")
    return values[0]


def _path(label: str, values: tuple[Value, ...], words: Vocabulary) -> Node:
    """What only a careless platform would read as one of the paths is neither one of them nor another."""
    templates = [known.text_of(value) for value in values]
    spelled = compile_paths(templates, case_insensitive=words.case_insensitive).fullmatch
    plain = compile_paths(templates, case_insensitive=words.case_insensitive, decoded=True).fullmatch

    def ask(facts: Facts) -> Verdict:
        if spelled(facts.path):
            return True
        careless = plain_reading(facts.path)
        return None if careless is not None and plain(careless) else False

    return Node(label, ask, lacks=lambda _: ("path",), actual=lambda facts: facts.path.decode("latin-1"))


_SPECIAL: dict[tuple[str, str], Callable[[str, tuple[Value, ...], Vocabulary], Node]] = {
    ("user", "in"): _user,
    ("user", "is"): _user,
    ("role", "in"): _role,
    ("role", "is"): _role,
    ("clearance", "is"): _clearance,
    ("owner", "is"): _owner,
    ("path", "fits"): _path,
}
assert {fact for fact, _ in _SPECIAL} | set(known.TEXTS) | set(known.NUMBERS) | {"department", "location"} == set(FACTS)


# ---- time of day and week ----

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _compile_hours(hours: Hours) -> Node:
    """By the clock on the wall: an hour that a change to winter time repeats counts both times (IANA tz database)."""
    if not hours.days or not set(hours.days) <= set(range(7)):
        raise ConfigurationError(f"days {hours.days!r} are no days of the week, 0 to 6")
    if not (0 <= hours.start < 1440 and 0 <= hours.end <= 1440):
        raise ConfigurationError("minutes of the day are 0 to 1440")
    try:
        zone = ZoneInfo(hours.zone)
    except (OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ConfigurationError(f"time zone {hours.zone!r} is not known") from error
    except KeyError as error:
        raise ConfigurationError(f"time zone {hours.zone!r} is not known") from error
    days, start, end = frozenset(hours.days), hours.start, hours.end
    last: list[tuple[int, bool]] = [(-1, False)]  # the minute that was asked last: zones change on whole minutes

    def local(now: float) -> datetime:
        return datetime.fromtimestamp(now, UTC).astimezone(zone)

    def ask(facts: Facts) -> Verdict:
        minute, said = last[0]
        if minute == (this := int(facts.now // 60)):
            return said
        there = local(facts.now)
        day, passed = there.weekday(), there.hour * 60 + there.minute
        if start < end:
            said = day in days and start <= passed < end
        else:
            said = (day in days and passed >= start) or ((day - 1) % 7 in days and passed < end)
        last[0] = (this, said)
        return said

    def actual(facts: Facts) -> str:
        there = local(facts.now)
        return f"{_DAYS[there.weekday()]} {there:%H:%M} {hours.zone}"

    named = ",".join(_DAYS[day] for day in sorted(days))
    label = f"time {named} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} {hours.zone}"
    return Node(label, ask, actual=actual, timed=True)
