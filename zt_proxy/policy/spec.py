"""What a route's rules say, in plain values: declared here by the consumer, made by `config.build`."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from zt_proxy.core.session import Level
from zt_proxy.core.types import Mode


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


class RequestMatch(msgspec.Struct, frozen=True):
    """Requests a rule is about. Empty means any.

    `methods` are upper case and exact (RFC 9110 §9.1: methods are case-sensitive). `paths` are templates over the
    canonical path: `*` is one segment or part of one, `**` any number of segments; both ends are anchored.
    """

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


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

    @property
    def narrowed(self) -> bool:
        """It speaks of some people, not of everybody."""
        return bool(self.users or self.people or self.emails or self.groups or self.claims or self.providers)


class RouteRules(msgspec.Struct, frozen=True):
    """The rules of one route. `case_insensitive` folds ASCII case of the path, for platforms that do."""

    route: str
    rules: tuple[RuleSpec, ...]
    case_insensitive: bool = False
    mode: Mode = Mode.ENFORCE
    provider: str = ""
    """The one provider whose people are known here; others are strangers, and are told to sign in. Empty: any."""
