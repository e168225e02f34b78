"""One request for each thing that a profile or a rule can tell apart: what tools try when they search.

A matcher that looks at a body, a query or a header is taken at its word: the sample means what the matcher says, and
such a request can be made.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from zt_proxy.core.types import NO_ACT, Act
from zt_proxy.policy.profile_spec import MatcherSpec, ProfileSpec
from zt_proxy.policy.profile_tests import act_of

ELSE = "else"
"""A name that no rule has; longer if one has it."""
_WILD = re.compile(r"\{([a-z][a-z0-9_]*)(\*\*)?\}|\*\*|\*")
_PART = re.compile(r"\{([^{}]*)\}")
_SAFE = re.compile(r"[^A-Za-z0-9._~-]")
ANY_METHODS = ("GET", "POST")


class Sample(msgspec.Struct, frozen=True):
    """A request, and what it means."""

    method: str
    path: str
    act: Act = NO_ACT
    websocket: bool = False
    certain: bool = True
    """False: method and path alone do not make it mean this; the matcher asks for more."""


def samples_of(
    spec: ProfileSpec, prefix: str = "/", objects: Mapping[str, Iterable[str]] | None = None
) -> list[Sample]:
    """For each matcher, method and object. `objects`: kind → names to be tried, beside one that nobody has named."""
    found: dict[Sample, None] = {}
    base = "" if prefix == "/" else prefix
    for matcher in spec.matchers:
        for name in _names(matcher, objects or {}):
            act = act_of(matcher, name, spec.sensitivities)
            captured = _captured(matcher, name)
            for template in matcher.paths or ("/" + ELSE,):
                path = base + filled(template, captured)
                for method in matcher.methods or (("GET",) if matcher.websocket else ANY_METHODS):
                    found[Sample(method, path, act, matcher.websocket, _is_certain(matcher))] = None
    otherwise = spec.otherwise
    for method, action in (("GET", otherwise.safe), ("POST", otherwise.unsafe)):
        found[Sample(method, f"{base}/zz-nobody-knows-this", Act(action, refused=action is None))] = None
    upgrade = Act(otherwise.websocket, refused=otherwise.websocket is None)
    found[Sample("GET", f"{base}/zz-nobody-knows-this", upgrade, websocket=True)] = None
    return list(found)


def filled(template: str, captured: Mapping[str, str] | None = None, wild: str = "x") -> str:
    """A path that fits a template: wild cards become `wild`, captures what they are to be."""
    text = _WILD.sub(lambda found: _SAFE.sub("-", (captured or {}).get(found[1] or "", "") or wild), template)
    return text or "/"


def instances(pattern: str, wild: str = "x") -> str:
    """A text that fits a pattern with `*`."""
    return pattern.replace("*", wild)


def unnamed(names: Iterable[str]) -> str:
    """A name that is none of these, and that no pattern with a beginning or an end of its own fits."""
    word = "zz-" + ELSE
    while word in names:
        word += "-" + ELSE
    return word


def _names(matcher: MatcherSpec, objects: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Name and owner of what it is about; several, where a request says which."""
    about = matcher.object
    if about is None:
        return [("", "")]
    known = [name for kind in (about.kind, "*") for name in objects.get(kind, ())]
    owner = "" if not about.owner else "zz-" + ELSE if "{" in about.owner else about.owner
    if "{" not in about.name:
        return [(about.name, owner)]
    return [(name, owner) for name in dict.fromkeys((*known, unnamed(known)))]


def _captured(matcher: MatcherSpec, name: tuple[str, str]) -> dict[str, str]:
    """Where the whole name is one capture of the path, the path says it."""
    about = matcher.object
    found = _PART.fullmatch(about.name) if about is not None else None
    return {found[1]: name[0]} if found is not None and name[0] else {}


def _is_certain(matcher: MatcherSpec) -> bool:
    about = matcher.object.name if matcher.object is not None else ""
    asks = matcher.query or matcher.headers or matcher.body or matcher.graphql is not None
    return not asks and "{body." not in about and "{query." not in about and "{graphql" not in about
