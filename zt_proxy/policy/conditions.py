"""Conditions to closures, once at load: one small function for each way to compare a fact."""

from collections.abc import Callable, Iterable, Sequence

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.types import Facts
from zt_proxy.policy import facts as known
from zt_proxy.policy.hours import compile_hours
from zt_proxy.policy.nodes import Ask, Node, Verdict, all_of, any_of, negated
from zt_proxy.policy.spec import FACTS, All, Any, Cel, Condition, Hours, Named, Not, RouteRules, Test, Value
from zt_proxy.policy.templates import compile_paths, plain_reading, wildcards

TIMED = frozenset({"auth_age", "risk"})
"""Facts that change while session and way stay the same."""


class Role:
    """Whether somebody has a role of the configuration or, by the same name, of the provider."""

    __slots__ = ("emails", "groups", "name", "node", "subjects", "users")

    def __init__(
        self, name: str, users: Iterable[str], groups: Iterable[str], node: Node | None, *, several: bool = False
    ) -> None:
        """`several`: see `RouteRules.several`."""
        self.name = name
        self.users = frozenset(users)
        self.subjects = frozenset(user for user in self.users if not (several and "@" in user))
        self.emails = any("@" in user for user in self.users)
        self.groups = frozenset(groups)
        self.node = node

    def ask(self, facts: Facts) -> Verdict:
        who = facts.principal
        if who is None:
            return None
        if (
            (self.name and self.name in who.roles)
            or who.subject in self.subjects
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
        self.several = rules.several
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
            users, groups = (spec.users, spec.groups) if spec else ((), ())
            self._roles[name] = Role(name, users, groups, node, several=self.several)
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
            return compile_hours(condition)
        case Cel():
            from zt_proxy.policy.expressions import compile_expression

            return compile_expression(condition.expression, words)
        case Not():
            child = compile_condition(condition.item, words)
            return Node(f"not ({child.label})", negated(child.ask), kind="not", children=(child,))
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


def _user(label: str, values: tuple[Value, ...], words: Vocabulary) -> Node:
    role = Role("", (known.text_of(value) for value in values), (), None, several=words.several)

    def ask(facts: Facts) -> Verdict:
        return role.ask(facts)

    def actual(facts: Facts) -> str:
        who = facts.principal
        return known.shown(None if who is None else [each for each in (who.subject, who.email) if each])

    return Node(label, ask, lacks=lambda _: ("user",), actual=actual)


def _user_like(label: str, values: tuple[Value, ...], words: Vocabulary) -> Node:
    """Whose address is not verified may fit a pattern of addresses, or not: nobody knows."""
    patterns = [known.text_of(value) for value in values]
    fits, by_mail = wildcards(patterns), any("@" in pattern for pattern in patterns)

    def ask(facts: Facts) -> Verdict:
        who = facts.principal
        if who is None:
            return None
        named = fits(who.subject) and not (words.several and "@" in who.subject)
        if named or (who.email is not None and fits(who.email)):
            return True
        return None if by_mail and who.email is None else False

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
    ("user", "like"): _user_like,
    ("role", "in"): _role,
    ("role", "is"): _role,
    ("clearance", "is"): _clearance,
    ("owner", "is"): _owner,
    ("path", "fits"): _path,
}
assert {fact for fact, _ in _SPECIAL} | set(known.TEXTS) | set(known.NUMBERS) | {"department", "location"} == set(FACTS)
