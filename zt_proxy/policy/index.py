"""Which rules are about a request, and which about a person, without asking each rule.

Each of a rule's matches is a clause, and each clause one bit of a Python integer. A method, a path, an action, an
object and a person each give the bits of the clauses that they fit; what fits all of them is left to be judged. So a
thousand rules cost little more than ten (`benchmarks`: `decision_us_1000`).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.session import Principal
from zt_proxy.core.types import NO_ACT, SEVERAL, Act, Action, Facts
from zt_proxy.policy.paths import PathIndex
from zt_proxy.policy.spec import RequestMatch, RuleEffect, RuleSpec
from zt_proxy.policy.templates import plain_reading, wildcards

Fits = Callable[[str], object]
REMEMBERED = 4096
"""Requests (method, path, action and object) per route whose fitting clauses are remembered."""
REMEMBERED_LENGTH = 256
"""Longer paths and names are looked up anew each time, so that nobody can fill memory with them."""


class RequestIndex:
    """Immutable but for what it remembers: from a request to the bits of the clauses that are about it."""

    __slots__ = (
        "_actions", "_any_object", "_any_path", "_denies", "_longest", "_methods", "_objects", "_other_action",
        "_other_method", "_plain", "_remembered", "_spelled", "bits", "unnamed",
    )  # fmt: skip

    def __init__(self, specs: Sequence[RuleSpec], *, case_insensitive: bool = False, remember: bool = True) -> None:
        """Bits follow the order of `specs`. `remember`: what was found of a request is kept for the next one like it.

        Raises ConfigurationError for a template, an action or an object that can fit nothing.
        """
        clauses: list[tuple[RuleSpec, RequestMatch]] = []
        self.bits: list[int] = []
        """The bits of each rule's clauses; 0 of a rule that is about nothing."""
        for spec in specs:
            self.bits.append(((1 << len(spec.matches)) - 1) << len(clauses))
            clauses += [(spec, match) for match in spec.matches]
        numbered = [(1 << number, spec, match) for number, (spec, match) in enumerate(clauses)]
        self._other_method = _together(bit for bit, _, match in numbered if not match.methods)
        self._methods: dict[bytes, int] = {}
        for bit, _, match in numbered:
            for method in match.methods:
                known = self._methods.get(method.encode(), self._other_method)
                self._methods[method.encode()] = known | bit
        self._any_path = _together(bit for bit, _, match in numbered if not match.paths)
        paths = [(path, bit, spec) for bit, spec, match in numbered for path in match.paths]
        self._spelled = PathIndex(((path, bit) for path, bit, _ in paths), case_insensitive=case_insensitive)
        denied = [(path, bit) for path, bit, spec in paths if spec.effect is RuleEffect.DENY]
        self._plain = PathIndex(denied, case_insensitive=case_insensitive, decoded=True) if denied else None
        self._other_action = _together(bit for bit, _, match in numbered if not match.actions)
        self._actions = _actions(((bit, match.actions) for bit, _, match in numbered), self._other_action)
        self._any_object = _together(bit for bit, _, match in numbered if not match.objects)
        self._objects = _Objects([(name, bit) for bit, _, match in numbered for name in match.objects])
        self._denies = _together(bit for bit, spec, _ in numbered if spec.effect is RuleEffect.DENY)
        self.unnamed = _together(
            bit
            for bit, spec, match in numbered
            if spec.effect is RuleEffect.DENY or (match.paths and not match.actions)
        )
        """Clauses that may fit a request which the profile refuses because it does not know it."""
        self._longest = REMEMBERED_LENGTH if remember else -1
        self._remembered: dict[tuple[object, ...], int] = {}

    def fitting(self, facts: Facts) -> int:
        """Bits of the clauses that are about this request, by its method, path, action and object."""
        act = facts.act
        key: tuple[object, ...]
        if act is NO_ACT:
            key = (facts.method, facts.path)
        else:
            key = (facts.method, facts.path, act.action and act.action._value_, act.kind, act.object, act.refused)
        bits = self._remembered.get(key)
        if bits is None:
            bits = self.methods(facts) & self.paths(facts) & self.actions(act) & self.objects(act)
            if act.refused:
                bits &= self.unnamed
            if len(facts.path) + len(act.object) + len(act.kind) <= self._longest:
                if len(self._remembered) >= REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = bits
        return bits

    def methods(self, facts: Facts) -> int:
        return self._methods.get(facts.method, self._other_method)

    def paths(self, facts: Facts) -> int:
        """A deny also holds for the path as a careless platform would read it, where the route lets such paths in."""
        bits = self._any_path | self._spelled.bits(facts.path)
        plain = None if self._plain is None else plain_reading(facts.path)
        return bits if self._plain is None or plain is None else bits | self._plain.bits(plain)

    def actions(self, act: Act) -> int:
        """What the profile refuses to name may be any action: a deny holds for it, an allow does not."""
        if act.action is not None:
            return self._actions.get(act.action._value_, self._other_action)
        return self._other_action | self._denies if act.refused else self._other_action

    def objects(self, act: Act) -> int:
        """As with actions; of several objects of one kind a deny holds that is about any of that kind."""
        if act.refused:
            return self._any_object | self._denies
        if not act.kind:
            return self._any_object
        bits = self._any_object | self._objects.bits(act.kind, act.object)
        return bits | self._objects.of_kind(act.kind) & self._denies if act.object == SEVERAL else bits


class _Objects:
    """`KIND:NAME`, each with wild cards, to bits."""

    __slots__ = ("_kinds", "_like")

    def __init__(self, patterns: Iterable[tuple[str, int]]) -> None:
        together: dict[str, list[tuple[str, int]]] = {}
        for pattern, bit in patterns:
            kind, colon, name = pattern.partition(":")
            if not (kind and colon and name):
                raise ConfigurationError(f"object {pattern!r} is not KIND:NAME")
            together.setdefault(kind, []).append((name, bit))
        self._kinds = {kind: _Names(names) for kind, names in together.items() if "*" not in kind}
        self._like = [(wildcards([kind]), _Names(names)) for kind, names in together.items() if "*" in kind]

    def bits(self, kind: str, name: str) -> int:
        names = self._kinds.get(kind)
        found = names.bits(name) if names is not None else 0
        for fits, names in self._like:
            if fits(kind):
                found |= names.bits(name)
        return found

    def of_kind(self, kind: str) -> int:
        """Bits of all patterns for objects of this kind, whatever they are called."""
        found = self._kinds[kind].all if kind in self._kinds else 0
        for fits, names in self._like:
            if fits(kind):
                found |= names.all
        return found


class _Names:
    """Names with wild cards to bits; those with one at the end alone, as most are, are looked up by how they begin."""

    __slots__ = ("_lengths", "_like", "_starts", "_whole", "all")

    def __init__(self, patterns: Iterable[tuple[str, int]]) -> None:
        self._whole: dict[str, int] = {}
        self._starts: dict[str, int] = {}
        like: dict[str, int] = {}
        for pattern, bit in patterns:
            start, star, rest = pattern.partition("*")
            into, name = (like, pattern) if rest else (self._starts, start) if star else (self._whole, start)
            into[name] = into.get(name, 0) | bit
        self.all = _together(bits for each in (self._whole, self._starts, like) for bits in each.values())
        self._lengths = sorted({len(start) for start in self._starts})
        self._like = [(wildcards([pattern]), bits) for pattern, bits in like.items()]

    def bits(self, name: str) -> int:
        found = self._whole.get(name, 0)
        for length in self._lengths:
            if length > len(name):
                break
            found |= self._starts.get(name[:length], 0)
        for fits, bits in self._like:
            if fits(name):
                found |= bits
        return found


def _actions(clauses: Iterable[tuple[int, tuple[str, ...]]], otherwise: int) -> dict[str, int]:
    """Of each action that a clause names, the bits of the clauses that it fits; `otherwise` those that name none."""
    found: dict[str, int] = {}
    for bit, patterns in clauses:
        for pattern in patterns:
            for action in _like(pattern):
                found[action] = found.get(action, otherwise) | bit
    return found


@lru_cache(256)
def _like(pattern: str) -> tuple[str, ...]:
    """The actions that a word of a rule stands for."""
    fits = wildcards([pattern])
    actions = tuple(action.value for action in Action if fits(action.value))
    if not actions:
        raise ConfigurationError(f"action {pattern!r} is none of {', '.join(Action)}")
    return actions


def _together(bits: Iterable[int]) -> int:
    found = 0
    for bit in bits:
        found |= bit
    return found


class SubjectIndex:
    """From a person to the bits of the rules that may be about them; each rule says itself whether it really is."""

    __slots__ = ("_everyone", "_groups", "_mails", "_people", "_roles", "_users")

    def __init__(self) -> None:
        self._everyone = 0
        self._users: dict[str, int] = {}
        self._mails: dict[str, int] = {}
        self._people: dict[tuple[str, str], int] = {}
        self._groups: dict[str, int] = {}
        self._roles: dict[str, int] = {}

    def add_everyone(self, bits: int) -> None:
        """A rule that asks for itself."""
        self._everyone |= bits

    def add(
        self,
        bits: int,
        users: Iterable[str],
        mails: Iterable[str],
        people: Iterable[tuple[str, str]],
        groups: Iterable[str],
        roles: Iterable[str],
    ) -> None:
        """A rule for whoever is listed: subjects, verified addresses, provider with subject, groups, provider roles."""
        listed: tuple[tuple[dict[str, int], Iterable[str]], ...] = (
            (self._users, users), (self._mails, mails), (self._groups, groups), (self._roles, roles)
        )  # fmt: skip
        for index, names in listed:
            for name in names:
                index[name] = index.get(name, 0) | bits
        for person in people:
            self._people[person] = self._people.get(person, 0) | bits

    def candidates(self, who: Principal) -> int:
        """Bits of the rules that may be about this person."""
        bits = self._everyone | self._users.get(who.subject, 0)
        if who.email is not None and self._mails:
            bits |= self._mails.get(who.email, 0)
        if self._people:
            bits |= self._people.get((who.provider, who.subject), 0)
        groups = self._groups
        for group in groups.keys() & who.groups:
            bits |= groups[group]
        if self._roles and who.roles:
            for role in self._roles.keys() & who.roles:
                bits |= self._roles[role]
        return bits
