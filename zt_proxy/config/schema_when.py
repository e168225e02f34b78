"""`when`: conditions of rules, roles and access levels. Docstrings under the keys are the reference manual's text."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from zt_proxy.config.problems import choice, nearest
from zt_proxy.config.schema_base import Duration, Model
from zt_proxy.config.tree import Mapping, Sequence
from zt_proxy.core.types import Action, Change, Sensitivity

ACTIONS = tuple(action.value for action in Action)
CHANGES = tuple(change.value for change in Change)
SENSITIVITIES = tuple(one.value for one in Sensitivity)
RISKS = ("low", "medium", "high")
LEVEL_WORDS = ("single", "multi", "phishing-resistant")

LevelWord = Literal["single", "multi", "phishing-resistant"]
RiskWord = Literal["low", "medium", "high"]
SensitivityWord = Literal["public", "internal", "confidential", "restricted"]
ChangeWord = Literal["access-control", "integration", "data-handling", "deployment"]


def expand(word: str) -> tuple[str, ...]:
    """The actions that a word means: one, all (`*`), or those with a beginning (`manage-*`). Empty: none."""
    if word.endswith("*"):
        return tuple(action for action in ACTIONS if action.startswith(word[:-1]))
    return (word,) if word in ACTIONS else ()


def _action(value: Any) -> Any:
    if isinstance(value, str) and not expand(value):
        hint = nearest(value, ACTIONS)
        raise ValueError(f"`{value}` is no action; expected {choice((*ACTIONS, '*', 'manage-*'))}{_in_brackets(hint)}")
    return value


def _in_brackets(hint: str) -> str:
    return f" ({hint})" if hint else ""


def one_or_list(value: Any) -> Any:
    """A list of one where a single value was written."""
    return value if isinstance(value, Sequence | list) or value is None else [value]


def one_or_list_in_each(value: Any) -> Any:
    """The same for every value of a mapping, without forgetting where each stood."""
    if not isinstance(value, Mapping):
        return value
    return {name: one_or_list(item) for name, item in value.items()}


def _system(value: Any) -> Any:
    """`AS3320` is 3320."""
    if isinstance(value, str) and value[:2].upper() == "AS" and value[2:].isascii() and value[2:].isdigit():
        return int(value[2:])
    if isinstance(value, str):
        raise ValueError(f"`{value}` is no autonomous system; expected a number such as `3320` or `AS3320`")
    return value


def _bounds(value: Any) -> Any:
    """A word alone would leave open whether more or less of it is meant as well."""
    if isinstance(value, str):
        raise ValueError(f"`{value}` alone is unclear; expected `{{at_most: {value}}}` or `{{at_least: {value}}}`")
    return value


def _or_one(item: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [item, {"type": "array", "minItems": 1, "items": item}]})


_ACTION_PATTERN = {"type": "string", "anyOf": [{"enum": list(ACTIONS)}, {"pattern": r"^[a-z-]*\*$"}]}
_TEXT = {"type": "string"}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]}

ActionWord = Annotated[str, BeforeValidator(_action), WithJsonSchema(_ACTION_PATTERN)]
Actions = Annotated[list[ActionWord], BeforeValidator(one_or_list), _or_one(_ACTION_PATTERN)]
Texts = Annotated[list[str], BeforeValidator(one_or_list), WithJsonSchema(_TEXTS)]
"""One text, or a list of which one is enough."""
Named = Annotated[
    dict[str, list[str]],
    BeforeValidator(one_or_list_in_each),
    WithJsonSchema({"type": "object", "minProperties": 1, "additionalProperties": _TEXTS}),
]
Systems = Annotated[
    list[Annotated[int, BeforeValidator(_system)]],
    BeforeValidator(one_or_list),
    _or_one({"type": ["integer", "string"], "minimum": 0, "pattern": r"^[Aa][Ss]\d+$"}),
]
Changes = Annotated[list[ChangeWord], BeforeValidator(one_or_list), _or_one({"enum": list(CHANGES)})]


class Time(Model):
    """Local time. Hours that end before they begin go over midnight, and belong to the day on which they began."""

    days: Texts = ["mon-sun"]
    """Days of the week: `mon`, `sat`, or from one to another, `mon-fri`; one or a list. Left out: every day."""
    from_: str = Field("00:00", alias="from")
    """When it begins, `08:00`; left out: with the day."""
    to: str = "24:00"
    """When it is over, `18:00`; left out: with the day."""
    zone: str
    """Whose clock counts: a name of the IANA time zone database, such as `Europe/Berlin`."""


class RiskBounds(Model):
    """How unusual a session may look, or has to."""

    at_most: RiskWord | None = None
    """This or less."""
    at_least: RiskWord | None = None
    """This or more."""


class SensitivityBounds(Model):
    """How much harm the object may do in wrong hands, or has to be able to do."""

    at_most: SensitivityWord | None = None
    """This or less."""
    at_least: SensitivityWord | None = None
    """This or more."""


class Age(Model):
    """How long ago the person proved who they are."""

    at_most: Duration | None = None
    """No longer ago."""
    at_least: Duration | None = None
    """At least so long ago."""


class When(Model):
    """Conditions. Several keys have to be met together; of several values of one key one is enough. What is not known
    is neither true nor false: then an `allow` does not apply and a `deny` does."""

    later: ClassVar[frozenset[str]] = frozenset({"device"})

    all_of: list["When"] | None = Field(None, alias="all")
    """Each of these."""
    any_of: list["When"] | None = Field(None, alias="any")
    """At least one of these."""
    not_: "When | None" = Field(None, alias="not")
    """The contrary."""
    access_level: Texts | None = None
    """Names under `access_levels`; of several one is enough."""
    user: Texts | None = None
    """Subjects or verified addresses; `*` stands for any run of characters, as in `*@example.com`."""
    group: Texts | None = None
    """Groups, as the provider spells them."""
    role: Texts | None = None
    """Names under `roles`, or roles of the provider."""
    claim: Named | None = None
    """Claims of the ID token and their values."""
    department: Texts | None = None
    """The person's department; `attributes` says which claim that is."""
    location: Texts | None = None
    """The person's place of work, by the same way. Not where the request comes from: that is `country`."""
    network: Texts | None = None
    """Names under `networks` that the client's address is in."""
    country: Texts | None = None
    """Country of the client's address, two letters of ISO 3166-1: `DE`."""
    asn: Systems | None = None
    """Autonomous system of the client's address, `3320` or `AS3320`; needs `geoip.asn`."""
    time: Time | None = None
    """Day of the week and time of day."""
    device_known: bool | None = None
    """Whether this person has used this browser before."""
    level: LevelWord | None = None
    """How strong the proof of the session is at least."""
    auth_age: Age | None = None
    """How long ago the person proved who they are."""
    provider: Texts | None = None
    """Names of the providers that vouch for the person."""
    risk: Annotated[RiskBounds, BeforeValidator(_bounds)] | None = None
    """How unusual the session looks, this request included."""
    sensitivity: Annotated[SensitivityBounds, BeforeValidator(_bounds)] | None = None
    """How much harm the object can do in wrong hands; the profile says so."""
    clearance: Literal["sufficient"] | None = None
    """The person's clearance (`attributes`) is at least the object's sensitivity."""
    owner: Literal["self"] | None = None
    """The object belongs to whoever asks."""
    method: Texts | None = None
    """Upper-case methods."""
    path: Texts | None = None
    """Path templates over the full path."""
    header: Named | None = None
    """Request headers and their values; `*` stands for any run of characters. Clients can send what they like."""
    action: Actions | None = None
    """What the request does, by the route's profile."""
    object: Texts | None = None
    """What it does it to, `KIND:NAME`; `*` stands for any run of characters."""
    changes: Changes | None = None
    """The kind of configuration that it changes."""
    cel: str | None = None
    """An expression of the Common Expression Language that gives true or false; needs the extra `cel`."""
