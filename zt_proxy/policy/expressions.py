"""Conditions in the Common Expression Language (https://cel.dev), for what the words of the configuration cannot say.

The library is the optional extra `cel`, and is loaded when the first expression is compiled and not before.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.types import Facts
from zt_proxy.policy import facts as known
from zt_proxy.policy.nodes import Node, Verdict

if TYPE_CHECKING:
    from zt_proxy.policy.conditions import Vocabulary

_HEADER = re.compile(r"""\bheaders\s*(?:\[\s*["']([^"']+)["']\s*\]|\.\s*(\w+))""")
_TEXT = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""")
_NAME = re.compile(r"(?<![\w.])[a-z_]\w*")


def headers_in(expression: str) -> set[str]:
    """Lower-case names of the headers that an expression asks for, as `headers["x-name"]`."""
    return {(quoted or plain).lower() for quoted, plain in _HEADER.findall(expression)}


def compile_expression(expression: str, words: "Vocabulary") -> Node:
    """The expression, type-checked. What nobody knows has no value in it: the answer is then neither yes nor no, unless
    it does not depend on that (`a || b` where `a` is true).

    Raises ConfigurationError when the extra is not installed, and for an expression that does not compile, names what
    is no fact, or is neither true nor false.
    """
    try:
        from cel_expr_python import cel
    except ImportError as error:
        raise ConfigurationError("a condition is written in CEL: pip install 'zt-proxy[cel]'") from error
    types: dict[str, Any] = {
        "text": cel.Type.STRING, "texts": cel.Type.List(cel.Type.STRING), "number": cel.Type.DOUBLE,
        "integer": cel.Type.INT, "flag": cel.Type.BOOL, "claims": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "headers": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
    }  # fmt: skip
    environment = cel.NewEnv(variables={name: types[kind] for name, (kind, _) in VARIABLES.items()})
    try:
        compiled = environment.compile(expression)
    except RuntimeError as error:
        said = str(error).removeprefix("INVALID_ARGUMENT: ").partition("\n")[0]
        raise ConfigurationError(f"CEL expression {expression!r}: {said}") from error
    if compiled.return_type() != cel.Type.BOOL:
        raise ConfigurationError(f"CEL expression {expression!r} is {compiled.return_type().name()}, not true or false")
    shouted = [name for pair in _HEADER.findall(expression) for name in pair if name != name.lower()]
    if shouted:
        raise ConfigurationError(
            f"CEL expression {expression!r}: write {shouted[0].lower()!r}, as headers are kept here"
        )
    bare = _TEXT.sub("", expression)
    wanted = [name for name in VARIABLES if name in set(_NAME.findall(bare))]

    def values(facts: Facts) -> dict[str, object]:
        found = {name: VARIABLES[name][1](facts, words) for name in wanted}
        return {name: value for name, value in found.items() if value is not None}

    def ask(facts: Facts) -> Verdict:
        said = compiled.eval(data=values(facts)).value()
        return said if isinstance(said, bool) else None

    def lacks(facts: Facts) -> list[str]:
        present = values(facts)
        return [name for name in wanted if name not in present] or ["cel"]

    def actual(facts: Facts) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in values(facts).items())

    return Node(expression, ask, lacks=lacks, actual=actual, timed=True, headers=headers_in(expression))


def _person(read: Callable[[Any], object]) -> Callable[[Facts, "Vocabulary"], object]:
    return lambda facts, _: None if facts.principal is None else read(facts.principal)


def _one(fact: str) -> Callable[[Facts, "Vocabulary"], object]:
    texts = known.TEXTS[fact]

    def read(facts: Facts, _: "Vocabulary") -> object:
        values = texts(facts)
        return None if values is None else next(iter(values), "")

    return read


def _roles(facts: Facts, words: "Vocabulary") -> object:
    if facts.principal is None:
        return None
    return sorted(facts.principal.roles | {role.name for role in words.roles() if role.ask(facts)})


def _claims(who: Any) -> dict[str, object]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in who.claims.items()}


VARIABLES: dict[str, tuple[str, Callable[[Facts, "Vocabulary"], object]]] = {
    "user": ("text", _person(lambda who: who.subject)),
    "email": ("text", _person(lambda who: who.email)),
    "groups": ("texts", _person(lambda who: sorted(who.groups))),
    "roles": ("texts", _roles),
    "claims": ("claims", _person(_claims)),
    "provider": ("text", _person(lambda who: who.provider)),
    "networks": ("texts", lambda facts, _: None if facts.origin is None else sorted(facts.origin.zones)),
    "country": ("text", _one("country")),
    "asn": ("integer", lambda facts, _: None if facts.origin is None else facts.origin.asn),
    "address": ("text", lambda facts, _: facts.client),
    "device_known": ("flag", lambda facts, _: None if facts.session is None else facts.session.device_known),
    "level": ("integer", lambda facts, _: None if facts.session is None else int(facts.session.level)),
    "auth_age": ("number", lambda facts, _: known.age(facts)),
    "risk": ("integer", lambda facts, _: None if facts.risk is None else facts.risk.score),
    "risk_level": ("text", _one("risk")),
    "method": ("text", _one("method")),
    "path": ("text", lambda facts, _: facts.path.decode("latin-1")),
    "headers": (
        "headers",
        lambda facts, _: {name: value for name, value in facts.headers.items() if value is not None},
    ),
    "action": ("text", _one("action")),
    "object": ("text", _one("object")),
    "owner": ("text", lambda facts, _: facts.act.owner or None),
    "sensitivity": ("text", _one("sensitivity")),
    "changes": ("text", _one("changes")),
    "now": ("number", lambda facts, _: facts.now),
}
"""What an expression may name: its type, and the function that reads it; None is not known."""
