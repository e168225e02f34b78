"""The tests of a matcher, the object it names, and what two answers are together."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import msgspec

from zt_proxy.core.types import SEVERAL, Act, Action, Sensitivity
from zt_proxy.policy import graphql
from zt_proxy.policy.bodies import JsonBody, refused, text_of
from zt_proxy.policy.profile_spec import FieldTest, MatcherSpec, MessageSpec, ObjectSpec, SensitivitySpec

MAX_NAME = 512
_SOURCE = re.compile(r"\{([a-z][a-z0-9_]*)(?:\.([^{}]+))?\}")
_LEVELS = tuple(Sensitivity)

_BELOW_BUILD = frozenset({Action.VIEW, Action.USE})
_BELOW_DEPLOY = _BELOW_BUILD | {Action.BUILD}
_BELOW_INTEGRATIONS = _BELOW_DEPLOY | {Action.DEPLOY}
COVERS: dict[Action, frozenset[Action]] = {
    Action.VIEW: frozenset(),
    Action.USE: frozenset(),
    Action.EXPORT: frozenset({Action.VIEW}),
    Action.BUILD: _BELOW_BUILD,
    Action.DEPLOY: _BELOW_DEPLOY,
    Action.MANAGE_INTEGRATIONS: _BELOW_INTEGRATIONS,
    Action.MANAGE_ACCESS: _BELOW_INTEGRATIONS | {Action.MANAGE_INTEGRATIONS},
}
"""Which action stands for which others when a request may be both. Where neither covers the other (somebody who may
use need not be one who may look), no single action is safe, and the request is refused."""


class Ambiguous(Exception):
    """Two readers may understand the query differently."""


def fields_fit(body: JsonBody, tests: Iterable[tuple[FieldTest, Callable[[str], bool]]]) -> bool:
    for test, fits in tests:
        values = body.fields(test.name)
        if bool(values) is test.absent:
            return False
        if test.values:
            texts = [text_of(value) for value in values]
            if not any(text is not None and fits(text) for text in texts):
                if None in texts and "*" not in test.name:  # JavaScript, for one, compares ["full"] == "full"
                    raise refused("a field that decides is no text or number")
                return False
    return True


def parameters(query: bytes | None, name: str) -> list[str]:
    """All values of a query parameter. Raises Ambiguous when a platform might find others."""
    values = []
    for piece in (query or b"").split(b"&"):
        key, _, value = piece.replace(b"+", b" ").partition(b"=")
        spelled = unquote_to_bytes(key).decode("utf-8", "replace")
        if spelled == name:
            values.append(unquote_to_bytes(value).decode("utf-8", "replace"))
        elif spelled.partition("[")[0].strip().lower() == name.lower():
            raise Ambiguous
    return values


def parameter_fits(query: bytes | None, test: FieldTest, fits: Callable[[str], bool]) -> bool:
    if not test.values:
        try:
            return bool(parameters(query, test.name)) is not test.absent
        except Ambiguous:
            return not test.absent
    values = parameters(query, test.name)
    if len(values) > 1:
        raise Ambiguous
    return bool(values) and fits(values[0])


def glob(text: str) -> str:
    """A pattern for text with `*`, each matched at its first fit: no text makes it backtrack."""
    first, *rest = map(re.escape, text.split("*"))
    if not rest:
        return first
    return first + "".join(f"(?>.*?{part})" for part in rest[:-1] if part) + ".*" + rest[-1]


def text_test(values: tuple[str, ...], *, folded: bool = False) -> Callable[[str], bool]:
    """Whether a text is one of the values, where `*` is any run of characters; no values: any text is."""
    if not values:
        return lambda _: True
    pattern = re.compile("|".join(map(glob, values)), re.DOTALL | (re.IGNORECASE if folded else 0))
    return lambda text: pattern.fullmatch(text) is not None


def tests_of(tests: tuple[FieldTest, ...]) -> tuple[tuple[FieldTest, Callable[[str], bool]], ...]:
    return tuple((test, text_test(test.values)) for test in tests)


def segment_text(segment: bytes) -> str:
    """A part of a path as the platform will understand it. Raises Ambiguous when it is too long for a name."""
    if len(segment) > MAX_NAME:
        raise Ambiguous
    return (unquote_to_bytes(segment) if b"%" in segment else segment).decode("utf-8", "replace")


def object_of(
    spec: ObjectSpec | None,
    captured: dict[str, bytes],
    query: bytes | None,
    body: JsonBody | None,
    part: graphql.Part | None,
) -> tuple[str, str]:
    """Name and owner of the object; empty when a part of it is not there.

    Raises Ambiguous, or ClientError for the body, when a platform might find another one.
    """
    if spec is None:
        return "", ""
    return (
        _filled(spec.name, captured, query, body, part),
        _filled(spec.owner, captured, query, body, part),
    )


def _filled(
    template: str,
    captured: dict[str, bytes],
    query: bytes | None,
    body: JsonBody | None,
    part: graphql.Part | None,
) -> str:
    if "{" not in template:
        return template
    missing = False

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        source, inner = found[1], found[2]
        if inner is None:
            text = segment_text(captured.get(source, b""))
        elif source == "query":
            texts = parameters(query, inner)
            if len(texts) > 1:
                raise Ambiguous
            text = texts[0] if texts else ""
        elif source == "graphql":
            text = part.field if part is not None else ""
        else:
            values = body.fields(inner) if body is not None else []
            if len(values) > 1 or (values and text_of(values[0]) is None):
                raise refused("it names several objects")
            text = (text_of(values[0]) or "") if values else ""
        missing = missing or not text
        if len(text) > MAX_NAME:
            raise Ambiguous
        return text

    name = _SOURCE.sub(value, template)
    return "" if missing else name


def act_of(spec: MatcherSpec | MessageSpec, called: tuple[str, str], sensitivities: Sequence[SensitivitySpec]) -> Act:
    """What a matcher says of a request whose object has this name and owner."""
    name, owner = called
    kind = spec.object.kind if spec.object is not None else ""
    sensitivity = spec.sensitivity
    if sensitivities and kind:
        label = f"{kind}:{name}".lower()
        for entry in sensitivities:
            if any(_pattern(wanted).fullmatch(label) for wanted in entry.objects):
                sensitivity = _more(sensitivity, entry.level)
                break
    return Act(spec.action, kind, name, sensitivity, spec.changes, spec.id, spec.action is None, owner)


@lru_cache(1024)
def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile(glob(wanted.lower()), re.DOTALL)


def _more(one: Sensitivity | None, other: Sensitivity | None) -> Sensitivity | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=_LEVELS.index)


def joined(one: Act, one_general: bool, other: Act, other_general: bool) -> Act:
    """What a request is that may be either: whatever covers both. What only a general matcher knew gives way to what a
    matcher knows by name. Of two objects none stands for the other: a rule for the first would let the second pass."""
    if one.refused or other.refused:
        return one if one.refused else other
    if one_general is not other_general:
        return other if one_general else one
    assert one.action is not None
    assert other.action is not None
    if one.action is other.action or other.action in COVERS[one.action]:
        first, second = one, other
    elif one.action in COVERS[other.action]:
        first, second = other, one
    else:
        return Act(matcher=one.matcher or other.matcher, refused=True)
    if one.kind and other.kind and one.kind != other.kind:
        return Act(matcher=first.matcher, refused=True)
    same = (one.kind, one.object) == (other.kind, other.object)
    return msgspec.structs.replace(
        first,
        kind=one.kind or other.kind,
        object=first.object if same else SEVERAL,
        owner=first.owner if same and one.owner == other.owner else "",
        sensitivity=_more(first.sensitivity, second.sensitivity),
        changes=first.changes or second.changes,
    )
