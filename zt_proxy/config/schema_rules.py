"""Rules: who may do what, under which circumstances, and what comes with it."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema

from zt_proxy.config import units
from zt_proxy.config.schema_base import Duration, Model, Reauth, Size
from zt_proxy.config.schema_when import ACTIONS, Actions, Texts, When, expand
from zt_proxy.config.tree import Mapping, Sequence

Day = Annotated[float, BeforeValidator(units.end_of), WithJsonSchema({"type": "string", "examples": ["2026-10-01"]})]
"""Epoch seconds of the end of a day, or of a moment."""
_WORDS = {"public": "public", "anyone-signed-in": "anyone-signed-in"}


class Match(Model):
    """Requests. A key left out means any. An action may stand alone, instead of a mapping."""

    later: ClassVar[frozenset[str]] = frozenset({"query", "headers", "body", "fields"})

    actions: Actions | None = None
    """What a request does, by the route's profile: `view`, `use`, `build`, `deploy`, `manage-access`,
    `manage-integrations`, `export`; `*` for all, `manage-*` for both."""
    action: Actions | None = None
    """The same."""
    objects: Texts | None = None
    """What it does it to: `KIND:NAME`, such as `flow:*` or `table:salar*`; `*` stands for any run of characters."""
    methods: list[str] | None = None
    """Upper-case methods."""
    paths: list[str] | None = None
    """Path templates over the full path, as the client sees it, also with `strip_prefix`."""

    @property
    def acts(self) -> tuple[str, ...]:
        """The actions, without wild cards; empty: any request."""
        words = [*(self.action or ()), *(self.actions or ())]
        return tuple(dict.fromkeys(action for word in words for action in expand(word)))

    @property
    def speaks_of_actions(self) -> bool:
        """It needs a profile."""
        return any(self.written(key) for key in ("action", "actions", "objects"))


class To(Model):
    """Whom a rule is for. Any one of `users`, `groups`, `roles` or `integrations` is enough; every claim named must fit
    as well, for people."""

    later: ClassVar[frozenset[str]] = frozenset({"devices", "services", "access_level"})

    groups: list[str] = []
    """Groups, exactly as the provider spells them."""
    users: list[str] = []
    """Verified e-mail addresses, or subjects (`sub`); with several providers a subject is written `PROVIDER:SUBJECT`,
    unless `providers` or the route's `provider` says whose it is."""
    roles: list[str] = []
    """Names under `roles`, or roles that the provider names."""
    providers: list[str] = []
    """Whose people the rule is for; left out: every provider's. It narrows the rest, and alone means all of them."""
    claims: dict[str, list[str]] = {}
    """ID-token claims and the values of which one is needed; name them in the provider's `claims` too."""
    integrations: list[str] = []
    """Names of integrations: to `deny` them what their own `allow` gives, or to allow them more."""
    _word: str = PrivateAttr("")

    @property
    def word(self) -> str:
        """`public` or `anyone-signed-in` when the rule says so instead of a mapping."""
        return self._word


class Approve(Model):
    """Another person has to agree, on the portal. Nobody agrees to a request of their own."""

    users: list[str] = []
    """Verified e-mail addresses, or subjects, of those who may."""
    groups: list[str] = []
    """Groups whose people may."""
    for_: Duration = Field(86_400.0, alias="for")
    """How long it lasts; at most `24h`."""


class Require(Model):
    """What must be shown on top of the sign-in. At the top level it is a floor for every rule, in a group of routes and
    on a route for theirs: what is below may ask for more, never for less. People alone are asked: integrations have no
    session, and rules for `public` and those that deny ask nothing."""

    later: ClassVar[frozenset[str]] = frozenset({"device", "access_level"})

    mfa: Literal["single", "multi", "phishing-resistant"] | None = None
    """How strong the proof has to be: the sign-in's own, or one made for this rule since."""
    reauth: Reauth | None = None
    """The proof may be no older; the person is asked anew. `once`: a proof for each request, good for nothing else."""
    justify: bool | None = None
    """The person says why, once a session; it is recorded and signed into the assertion."""
    approve: Approve | None = None
    """Another person has to agree."""


class RuleLimit(Model):
    """How much one person may do under one rule."""

    requests: int | None = Field(None, ge=1)
    """Requests in `per`."""
    bytes: Size | None = None
    """Bytes of answers in `per`."""
    per: Duration
    """The time in which they are counted."""


def _matches(value: Any) -> Any:
    if value == "all":
        return [Match()]
    if isinstance(value, str):
        one = f"`[{value}]`, " if expand(value) else ""
        raise ValueError(f"`{value}` is not a list of matches; expected {one}`all`, or a list of actions and mappings")
    if isinstance(value, Sequence):
        return [_written_out(item, value.items_at[index]) for index, item in enumerate(value)]
    return value


def _written_out(item: Any, at: Any) -> Any:
    """`view` is short for `{actions: [view]}`, and stands where it was written."""
    if not isinstance(item, str):
        return item
    mapping, words = Mapping(at), Sequence(at)
    words.append(item)
    words.items_at.append(at)
    mapping["actions"] = words
    mapping.keys_at["actions"] = mapping.values_at["actions"] = at
    return mapping


def _match(value: Any) -> Any:
    if isinstance(value, Mapping) and not value and not value.damaged:
        raise ValueError("an empty match; write `all` instead of the list to mean every request")
    return value


def _to(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in _WORDS:
        raise ValueError(
            f"`{value}` is nobody known; expected `public`, `anyone-signed-in` or a mapping of groups, users, claims"
        )
    to = To()
    to._word = value
    return to


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_ONE_OR_MORE = {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]}
_MATCH_SCHEMA = {
    "oneOf": [
        {"const": "all"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    {"enum": [*ACTIONS, "*", "manage-*"]},
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "minProperties": 1,
                        "properties": {
                            "action": _ONE_OR_MORE,
                            "actions": _ONE_OR_MORE,
                            "objects": _ONE_OR_MORE,
                            "methods": _TEXTS,
                            "paths": _TEXTS,
                        },
                    },
                ]
            },
        },
    ]
}
Matches = Annotated[
    list[Annotated[Match, BeforeValidator(_match)]], BeforeValidator(_matches), WithJsonSchema(_MATCH_SCHEMA)
]
_TO_SCHEMA = {
    "oneOf": [
        {"enum": sorted(_WORDS)},
        {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": {
                **dict.fromkeys(("groups", "users", "roles", "providers", "integrations"), _TEXTS),
                "claims": {"type": "object", "additionalProperties": _TEXTS},
            },
        },
    ]
}


class Rule(Model):
    """One rule: `allow` or `deny`, never both. Deny beats allow; what no rule allows is denied."""

    later: ClassVar[frozenset[str]] = frozenset({"risk", "limits", "obligations"})

    id: str
    """Name of the rule in decisions and on the denied page; unique on the route, inherited rules included."""
    allow: Matches | None = None
    """`all`, or a list of actions and matches."""
    deny: Matches | None = None
    """`all`, or a list of actions and matches."""
    to: Annotated[To, BeforeValidator(_to), WithJsonSchema(_TO_SCHEMA)] | None = None
    """`public`, `anyone-signed-in`, or `{groups, users, roles, claims, integrations}`. A `deny` without it is for
    everyone, integrations included, and one for `anyone-signed-in` too; an `allow` for that word is for people
    alone."""
    when: When | None = None
    """The circumstances in which the rule applies."""
    require: Require = Require()
    """What must be shown on top of the sign-in."""
    mask: list[str] = []
    """Names of the route's masks that answers go through."""
    limit: RuleLimit | None = None
    """How much one person may do under this rule."""
    notify: bool = False
    """Tell those who watch of every request that the rule lets through."""
    mode: Literal["enforce", "report", "off"] = "enforce"
    """`report`: evaluated and recorded, without an effect."""
    since: Day | None = None
    """The day on which a trial with `mode: report` began; after 30 days it is called to mind."""
    insecure_allow_everyone: bool = False
    """Needed on a rule that lets anyone do anything."""
