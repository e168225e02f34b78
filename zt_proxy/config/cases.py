"""Cases beside a configuration: requests, and what has to be decided about them. See docs/how-to/policy-tests.md.

defaults: {route: builder, network: office, at: "2026-11-24T10:00+01:00"}
people: {ann: {user: ann@example.com, groups: [makers]}}
cases:
  - {name: a maker may not deploy, who: ann, method: POST, path: /flows, expect: deny, reason: no-rule-matched}
"""

import json
from collections.abc import Callable, Iterable
from collections.abc import Mapping as AnyMapping
from pathlib import Path
from typing import Any

import msgspec

from zt_proxy.config import units
from zt_proxy.config.problems import Collector, Mark, Problem, Severity, choice, nearest
from zt_proxy.config.questions import Question, faults, moment
from zt_proxy.config.tree import Mapping, Sequence, parse, read_text
from zt_proxy.config.worlds import Estate
from zt_proxy.core.errors import Reason
from zt_proxy.core.session import ClaimValue, Level
from zt_proxy.core.types import ChallengeKind

PERSON = ("user", "subject", "provider", "groups", "roles", "claims", "integration")
REQUEST = (
    *("route", "method", "path", "query", "headers", "body", "websocket", "who", *PERSON),
    *("network", "address", "country", "asn", "device", "level", "proved_ago", "risk", "at"),
    *("justified", "approved_by", "break_glass"),
)
EXPECTED = ("expect", "reason", "rule", "obligations", "missing")
OBLIGATIONS = ("mfa", "reauth", "justify", "approve", "masks", "limit", "notify", "break_glass")
WORDS = ("allow", "deny", *(f"challenge:{kind.value}" for kind in ChallengeKind))
_TOP = ("defaults", "people", "cases")
_LISTS = frozenset({"groups", "roles", "network"})
_FLAGS = frozenset({"websocket", "break_glass"})
_READ: AnyMapping[str, Callable[[str], float]] = {"proved_ago": units.duration, "at": lambda text: moment(text, 0.0)}
_ALIASES = {"group": "groups", "role": "roles", "claim": "claims", "header": "headers", "networks": "network"}


class Case(msgspec.Struct, frozen=True):
    """One request and what has to come of it. Of what is None nothing is expected."""

    name: str
    file: Path
    line: int
    column: int
    question: Question
    expect: str
    reason: str | None = None
    rule: str | None = None
    obligations: AnyMapping[str, Any] | None = None
    """Each that is written is compared; an empty mapping: there are none."""
    missing: tuple[str, ...] | None = None

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class LoadedCases(msgspec.Struct, frozen=True):
    """The cases of one file that can be run, and everything that is wrong in it."""

    path: Path
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def beside(config: Path) -> list[Path]:
    """Where cases are looked for: `NAME.tests.yaml` beside `NAME.yaml`, and `tests/*.yaml`."""
    one = config.with_name(f"{config.stem}.tests.yaml")
    return [*([one] if one.is_file() else []), *sorted((config.parent / "tests").glob("*.yaml"))]


def load_cases(path: Path, estate: Estate) -> LoadedCases:
    """Read a file of cases. Never raises for what it holds or for its absence: see `problems`."""
    problems = Collector(path)
    text = read_text(path, problems)
    tree = parse(text, problems) if text is not None else None
    cases = _Reader(path, problems, estate).cases(tree) if tree is not None else []
    return LoadedCases(path, tuple(cases), tuple(problems.sorted()))


class _Reader:
    """Every mistake at its place; a case with one is not run."""

    def __init__(self, path: Path, problems: Collector, estate: Estate) -> None:
        self._path = path
        self._problems = problems
        self._estate = estate
        self._people: dict[str, Mapping] = {}

    def cases(self, tree: Mapping) -> list[Case]:
        self._known(tree, _TOP)
        people = tree.get("people")
        if isinstance(people, Mapping):
            for name, person in people.items():
                if self._mapping(person, people.values_at[name], "a person"):
                    self._known(person, PERSON)
                    self._people[name] = person
        defaults = tree.get("defaults", Mapping(tree.at))
        if self._mapping(defaults, tree.values_at.get("defaults", tree.at), "`defaults`"):
            self._known(defaults, REQUEST)
        else:
            defaults = Mapping(tree.at)
        written = tree.get("cases")
        if not isinstance(written, Sequence) or not written:
            self._problems.error(tree.values_at.get("cases", tree.at), "there are no cases", "a list under `cases`")
            return []
        names: dict[str, Mark] = {}
        found = []
        for item, at in zip(written, written.items_at, strict=True):
            if not self._mapping(item, at, "a case"):
                continue
            case = self._case(item, defaults)
            name = str(item.get("name", ""))
            if name in names:
                self._problems.error(
                    item.values_at["name"], f"another case is called `{name}`", hint=f"line {names[name].line}"
                )
            names.setdefault(name, at)
            if case is not None:
                found.append(case)
        return found

    def _case(self, item: Mapping, defaults: Mapping) -> Case | None:
        before = self._errors()
        self._known(item, ("name", *REQUEST, *EXPECTED))
        for key in ("name", "expect"):
            if not isinstance(item.get(key), str):
                self._problems.error(item.values_at.get(key, item.at), f"`{key}` is missing in this case")
        question = self._question(item, defaults)
        self._one_of(item, "expect", WORDS)
        self._one_of(item, "reason", [reason.value for reason in Reason])
        self._rule(item, question)
        obligations = self._obligations(item)
        missing = self._texts(item, "missing") if "missing" in item else None
        if self._errors() > before or question is None:
            return None
        rule = item.get("rule")
        return Case(
            name=str(item["name"]),
            file=self._path,
            line=item.at.line,
            column=item.at.column,
            question=question,
            expect=str(item["expect"]),
            reason=item.get("reason"),
            rule=None if rule is None else "" if rule == "none" else str(rule),
            obligations=obligations,
            missing=missing,
        )

    def _question(self, item: Mapping, defaults: Mapping) -> Question | None:
        before = self._errors()
        who = self._who(item, defaults)
        said: dict[str, tuple[Mapping, Any]] = {}
        named = any(key in item for key in ("who", *PERSON))
        for source in (defaults, *((who,) if who is not None else ()), item):
            for key in source:
                if source is defaults and named and key in ("who", *PERSON):
                    continue  # a case that says who asks has nobody of the defaults in it
                if key in REQUEST and key != "who":
                    said[key] = source, self._value(source, key)
        if "route" not in said:
            routes = list(self._estate.routes)
            if len(routes) != 1:
                self._problems.error(item.at, "`route` is missing in this case", choice(routes))
                return None
            said["route"] = item, routes[0]
        if self._errors() > before:
            return None
        try:
            question = msgspec.convert({key: value for key, (_, value) in said.items()}, Question)
        except msgspec.ValidationError as error:
            self._problems.error(item.at, str(error))
            return None
        for fault in faults(question, self._estate):
            source = said[fault.key][0] if fault.key in said else item
            at = _place(source, fault.key, fault.item)
            (self._problems.error if fault.fatal else self._problems.warning)(
                at, fault.message, fault.expected, fault.hint
            )
        return question

    def _who(self, item: Mapping, defaults: Mapping) -> Mapping | None:
        source = item if any(key in item for key in ("who", *PERSON)) else defaults
        name = source.get("who")
        if name is None or name == "stranger":
            return None
        if name not in self._people:
            known = ["stranger", *self._people]
            self._problems.error(
                source.values_at["who"], f"`{name}` is nobody under `people`", choice(known), nearest(str(name), known)
            )
            return None
        return self._people[str(name)]

    def _value(self, source: Mapping, key: str) -> Any:
        value, at = source[key], source.values_at[key]
        if key in _LISTS:
            return self._texts(source, key)
        if key in {"claims", "headers"}:
            if not self._mapping(value, at, f"`{key}`"):
                return {}
            return {name: _claim(each) if key == "claims" else str(each) for name, each in value.items()}
        if key in _FLAGS or key == "asn":
            wanted = int if key == "asn" else bool
            if not isinstance(value, wanted) or (key == "asn" and isinstance(value, bool)):
                self._problems.error(at, f"`{key}` is {value!r}", "a number" if key == "asn" else "`true` or `false`")
            return value
        if key in _READ:
            try:
                return _READ[key](str(value))
            except ValueError as error:
                self._problems.error(at, f"`{key}`: {error}")
                return 0.0
        if key == "body" and isinstance(value, Mapping | Sequence):
            return json.dumps(value)
        if not isinstance(value, str):
            self._problems.error(at, f"`{key}` is {value!r}", "text")
            return ""
        return value

    def _rule(self, item: Mapping, question: Question | None) -> None:
        world = self._estate.routes.get(question.route) if question is not None else None
        name = item.get("rule")
        if world is None or name is None or name == "none":
            return
        known = [rule.id for rule in world.rules.rules]
        if name not in known:
            self._problems.error(
                item.values_at["rule"], f"route `{world.name}` has no rule `{name}`", hint=nearest(str(name), known)
            )

    def _obligations(self, item: Mapping) -> AnyMapping[str, Any] | None:
        if "obligations" not in item:
            return None
        written, at = item["obligations"], item.values_at["obligations"]
        if written == "none":
            return {}
        if not self._mapping(written, at, "`obligations`"):
            return None
        self._known(written, OBLIGATIONS)
        found: dict[str, Any] = {}
        for key in [each for each in OBLIGATIONS if each in written]:
            value, place = written[key], written.values_at[key]
            if key == "mfa":
                self._one_of(written, key, [level.word for level in Level])
            elif key == "reauth" and value != "once":
                try:
                    value = units.show_duration(units.duration(value))
                except ValueError as error:
                    self._problems.error(place, f"`reauth`: {error}")
            elif key == "masks" or (key == "approve" and not isinstance(value, bool)):
                value = sorted(self._texts(written, key))
            elif key in {"justify", "notify", "break_glass", "limit"} and not isinstance(value, bool):
                self._problems.error(place, f"`{key}` is {value!r}", "`true` or `false`")
            found[key] = value
        return found

    def _texts(self, source: Mapping, key: str) -> tuple[str, ...]:
        value = source[key]
        items = value if isinstance(value, Sequence) else [value]
        if not all(isinstance(each, str) for each in items):
            self._problems.error(source.values_at[key], f"`{key}` holds something else than text")
            return ()
        return tuple(items)

    def _one_of(self, source: Mapping, key: str, words: Iterable[str]) -> None:
        value = source.get(key)
        if isinstance(value, str) and value not in words:
            known = list(words)
            hint = nearest(value, known)
            self._problems.error(
                source.values_at[key], f"`{key}` is `{value}`", choice(known) if len(known) <= 10 else "", hint
            )
        elif value is not None and not isinstance(value, str):
            self._problems.error(source.values_at[key], f"`{key}` is {value!r}", "text")

    def _known(self, source: Mapping, keys: Iterable[str]) -> None:
        words = list(keys)
        for key in source:
            if key not in words:
                meant = _ALIASES.get(key, "")
                hint = f"did you mean `{meant}`?" if meant in words else nearest(key, words)
                self._problems.error(
                    source.keys_at[key], f"unknown key `{key}`", hint=hint or f"known: {choice(words)}"
                )

    def _mapping(self, value: Any, at: Mark, what: str) -> bool:
        if not isinstance(value, Mapping):
            self._problems.error(at, f"{what} is no mapping")
        return isinstance(value, Mapping)

    def _errors(self) -> int:
        return sum(problem.severity is Severity.ERROR for problem in self._problems.sorted())


def _place(source: Mapping, key: str, item: int | str | None) -> Mark:
    value = source.get(key)
    if isinstance(item, int) and isinstance(value, Sequence) and item < len(value.items_at):
        return value.items_at[item]
    if isinstance(item, str) and isinstance(value, Mapping) and item in value.keys_at:
        return value.keys_at[item]
    return source.values_at.get(key, source.at)


def _claim(value: Any) -> ClaimValue:
    return tuple(str(each) for each in value) if isinstance(value, Sequence) else value
