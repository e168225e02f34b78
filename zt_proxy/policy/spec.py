"""What a route's rules say, in plain values: declared here by the consumer, made by `config.build`."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from zt_proxy.core.session import Level
from zt_proxy.core.types import Mode

Value = str | int | float | bool


class RuleEffect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Audience(StrEnum):
    """Whom a rule is for, before groups and claims narrow it."""

    PUBLIC = "public"
    """Anyone, signed in or not."""
    SIGNED_IN = "anyone-signed-in"
    MATCHING = "matching"
    """Signed in and within `users`, `groups` and `claims`."""


class Test(msgspec.Struct, frozen=True, tag="test"):
    """One comparison. True, False, or neither where the fact is not known.

    `fact` is one of `FACTS`, or `claim:NAME` or `header:NAME`. `op`: `in` (one of the values, or a list-valued fact has
    one of them), `at_least`, `at_most` (one value), `is` (one value), `like` (text with `*`), `fits` (path templates).
    """

    fact: str
    op: str
    values: tuple[Value, ...]


class Hours(msgspec.Struct, frozen=True, tag="hours"):
    """Local time in a zone: on one of `days` (0 is Monday), from `start` up to, not including, `end` (minutes of the
    day). `start` after `end` goes over midnight and belongs to the day it began."""

    days: tuple[int, ...]
    start: int
    end: int
    zone: str
    """IANA name, `Europe/Berlin`."""


class Cel(msgspec.Struct, frozen=True, tag="cel"):
    """An expression of the Common Expression Language, type-checked at load."""

    expression: str


class All(msgspec.Struct, frozen=True, tag="all"):
    items: tuple["Condition", ...]


class Any(msgspec.Struct, frozen=True, tag="any"):
    items: tuple["Condition", ...]


class Not(msgspec.Struct, frozen=True, tag="not"):
    item: "Condition"


class Named(msgspec.Struct, frozen=True, tag="named"):
    """An access level, resolved: its name is for traces alone."""

    name: str
    item: "Condition"


Condition = Test | Hours | Cel | All | Any | Not | Named

FACTS = (
    "user",  # subject, or verified address
    "group",
    "role",
    "department",  # the claim of the same name, or the one that `attributes` names
    "location",
    "network",  # zone names
    "country",
    "asn",
    "device_known",
    "level",  # of authentication: single, multi, phishing-resistant
    "auth_age",  # seconds since the sign-in's proof
    "provider",
    "risk",  # low, medium, high
    "sensitivity",  # of the object
    "clearance",  # `is` true: the person's clearance is at least the object's sensitivity
    "owner",  # `is` true: the object belongs to whoever asks
    "method",
    "path",
    "action",
    "object",  # KIND:NAME
    "changes",
)
"""Facts that conditions may name, besides `claim:NAME` and `header:NAME`."""


class RoleSpec(msgspec.Struct, frozen=True):
    """A role of the configuration: whoever is in one of the groups, is one of the users, or meets `when`."""

    name: str
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    when: Condition | None = None
    """About the person alone."""


class Approve(msgspec.Struct, frozen=True):
    """Another person has to agree."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    valid: float = 86_400.0
    """Seconds that an approval lasts; at most a day."""


class Limit(msgspec.Struct, frozen=True):
    """How much one person may do under one rule; 0: not bounded."""

    requests: float = 0.0
    """In `per` seconds."""
    bytes: float = 0.0
    """Of answers, in `per` seconds."""
    per: float = 60.0


class RequestMatch(msgspec.Struct, frozen=True):
    """Requests a rule is about. Empty means any.

    `methods` are upper case and exact (RFC 9110 §9.1: methods are case-sensitive). `paths` are templates over the
    canonical path: `*` is one segment or part of one, `**` any number of segments; both ends are anchored.
    """

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    """Actions, `*` and prefixes as `manage-*` included; a request without an action fits none."""
    objects: tuple[str, ...] = ()
    """`KIND:NAME` with `*` for any run of characters in either; a request without an object fits none."""


class RuleSpec(msgspec.Struct, frozen=True):
    """One rule. A rule applies when one of `matches` fits the request and the subject fits `audience` and the lists."""

    id: str
    effect: RuleEffect
    audience: Audience
    matches: tuple[RequestMatch, ...] = (RequestMatch(),)
    """Never empty: an empty tuple matches nothing."""
    users: tuple[str, ...] = ()
    """Subjects or verified e-mail addresses, exact; any one of `users` or `groups` is enough."""
    groups: tuple[str, ...] = ()
    claims: Mapping[str, tuple[str, ...]] = {}
    """Each named claim must be present and have one of the values (a list claim: contain one)."""
    providers: tuple[str, ...] = ()
    """Names of the providers whose people the rule is for; empty: any. It narrows, as `claims` does."""
    people: tuple[tuple[str, str], ...] = ()
    """Provider and subject, beside `users`: two providers may call different people by one subject."""
    emails: tuple[str, ...] = ()
    """Verified e-mail addresses, beside `users`, that are never compared with a subject."""
    integrations: tuple[str, ...] = ()
    """Names of integrations; beside `users` and `groups` any one is enough, and `claims` say nothing about them."""
    reauth: float | None = None
    """Seconds: the proof of identity may be no older."""
    once: bool = False
    """Every request needs a proof of its own."""
    level: Level = Level.SINGLE
    """How strong the proof has to be."""
    mode: Mode = Mode.ENFORCE
    roles: tuple[str, ...] = ()
    """Roles of the configuration or of the provider; beside `users` and `groups` any one is enough."""
    when: Condition | None = None
    """The rule applies only if this is so. Not known: an allow does not apply, a deny does."""
    justify: bool = False
    """The person says why, once a session."""
    approve: Approve | None = None
    masks: tuple[str, ...] = ()
    """Names of masks that answers go through."""
    limit: Limit | None = None
    notify: bool = False
    inherited: str = ""
    """Where the rule was written when not on the route: `organisation`, or the name of a group of routes."""

    @property
    def narrowed(self) -> bool:
        """It speaks of some people, not of everybody."""
        return bool(
            self.users or self.people or self.emails or self.groups or self.claims or self.providers or self.roles
        )

    @property
    def proves(self) -> bool:
        """It wants a proof of who the person is: fresh, strong, or of its own."""
        return self.once or self.reauth is not None or self.level > Level.SINGLE

    @property
    def asks_a_person(self) -> bool:
        """It wants what only a person can give: a proof, a reason, somebody's approval."""
        return self.proves or self.justify or self.approve is not None


class RouteRules(msgspec.Struct, frozen=True):
    """The rules of one route. `case_insensitive` folds ASCII case of the path, for platforms that do."""

    route: str
    rules: tuple[RuleSpec, ...]
    case_insensitive: bool = False
    mode: Mode = Mode.ENFORCE
    provider: str = ""
    """The one provider whose people are known here; others are strangers, and are told to sign in. Empty: any."""
    roles: tuple[RoleSpec, ...] = ()
    """All roles of the configuration."""
    attributes: Mapping[str, str] = {}
    """`department`, `location`, `clearance` → the claim that says so, where it is called otherwise."""
    break_glass: tuple[str, ...] = ()
    """Accounts (subjects or verified addresses) that may do here what rules deny, while their session says so."""
    several: bool = False
    """There are several providers: what one of them calls a subject may be somebody's address at another. A name with
    `@` in roles, conditions and `break_glass` is a verified address then, and no subject."""
