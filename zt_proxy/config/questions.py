"""A question about a policy in the words of its files and of command lines: from these to the facts of a decision.

What is left out is not known, as far as that can be: a condition about it is neither met nor unmet, and the trace names
it. A proxy always knows how somebody signed in; left out, that is with two factors, just now.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from zt_proxy.config import logic, names, units
from zt_proxy.config.countries import CODES, right
from zt_proxy.config.problems import choice, nearest
from zt_proxy.config.worlds import Estate, RouteWorld
from zt_proxy.core.errors import ClientError
from zt_proxy.core.http import Target
from zt_proxy.core.session import Approval, ClaimValue, Level, Principal, Risk, RiskLevel, Session, unlock_key
from zt_proxy.core.types import NO_ACT, Act, Facts, Origin
from zt_proxy.policy.engine import BREAK_GLASS
from zt_proxy.policy.geo import parse_address
from zt_proxy.policy.spec import Test
from zt_proxy.worker.wire.target import parse_target

LEVELS = {level.word: level for level in Level}
RISKS = {level.word: level for level in RiskLevel}
DEVICES = {"known": True, "new": False}
OUTSIDE = "outside"
"""As a network: none of those that have a name."""
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}", re.ASCII)
_EVER = 100 * 365 * 86_400.0


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request, and who makes it from where. Empty or None: not said."""

    route: str
    method: str = "GET"
    path: str = ""
    """As it would be sent, with or without its query; empty: the route's own path."""
    query: str | None = None
    headers: Mapping[str, str] = {}
    body: str | None = None
    websocket: bool = False
    user: str = ""
    """Address or subject; with nothing that is said of a person and no integration: a stranger."""
    name: str = ""
    subject: str = ""
    """Where it is known beside an address."""
    provider: str = ""
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    """That the provider gives; those of the file follow from the rest."""
    claims: Mapping[str, ClaimValue] = {}
    integration: str = ""
    network: tuple[str, ...] = ()
    address: str = ""
    country: str = ""
    asn: int | None = None
    device: str = ""
    level: str = ""
    proved_ago: float = 0.0
    """Seconds since the sign-in."""
    risk: str = ""
    at: float | None = None
    """Epoch seconds; None: now."""
    justified: str = ""
    """What the person said when asked why."""
    approved_by: str = ""
    break_glass: bool = False

    @property
    def is_person(self) -> bool:
        return not self.integration and bool(self.user or self.groups or self.roles or self.claims or self.subject)


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one word of a question. `item`: which of a list, or the name in a mapping."""

    key: str
    message: str
    expected: str = ""
    hint: str = ""
    item: int | str | None = None
    fatal: bool = True
    """Else it may be meant."""

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{self.message}{expected}" + (f" ({self.hint})" if self.hint else "")


class Posed(msgspec.Struct, frozen=True):
    """A question whose words are right, ready to be decided."""

    world: RouteWorld
    target: Target
    facts: Facts
    needs_body: bool = False
    """What the request means stands in a body that was not given."""


def faults(question: Question, estate: Estate) -> list[Fault]:
    """Everything that is wrong with a question."""
    found = list(_faults(question, estate))
    world = estate.routes.get(question.route)
    if world is not None:
        found += _path_faults(question, world, estate)
    return found


def _faults(question: Question, estate: Estate) -> Iterator[Fault]:
    schema = estate.schema
    yield from _one(question, "route", "route", estate.routes)
    yield from _one(question, "provider", "provider", schema.identity.providers)
    yield from _one(question, "integration", "integration", schema.integrations)
    yield from _one(question, "device", "device", DEVICES)
    yield from _one(question, "level", "level", LEVELS)
    yield from _one(question, "risk", "level of risk", RISKS)
    for index, zone in enumerate(question.network):
        if zone not in schema.networks and zone != OUTSIDE:
            known = (*schema.networks, OUTSIDE)
            yield Fault("network", f"`{zone}` is no network", choice(known), nearest(zone, known), index)
    if OUTSIDE in question.network and len(question.network) > 1:
        yield Fault("network", f"`{OUTSIDE}` is in no network, and so in no other one")
    if not _METHOD.fullmatch(question.method):
        yield Fault("method", f"`{question.method}` is no method", "upper case, such as `POST`")
    if question.address and parse_address(question.address) is None:
        yield Fault("address", f"`{question.address}` is no IP address")
    if question.country and question.country.upper() not in CODES:
        meant = right(question.country)
        hint = f"did you mean `{meant}`?" if meant else ""
        yield Fault("country", f"`{question.country}` is no country", "two letters of ISO 3166-1, such as `DE`", hint)
    if question.integration and (question.user or question.groups or question.roles or question.claims):
        yield Fault("integration", "an integration is no person: it has no user, groups, roles or claims")
    named = {
        "groups": group_names(estate),
        "roles": role_names(estate),
        "claims": {claim for each in schema.identity.providers.values() for claim in each.claims},
    }
    for key, words in named.items():
        for index, word in enumerate(getattr(question, key)):
            if word not in words:
                what = {"groups": "no rule names the group", "roles": "no rule names the role"}.get(
                    key, "no provider hands on the claim"
                )
                item = word if key == "claims" else index
                yield Fault(key, f"{what} `{word}`", hint=nearest(word, words), item=item, fatal=False)


def _one(question: Question, key: str, kind: str, known: Mapping[str, object]) -> Iterator[Fault]:
    word = getattr(question, key)
    if word and word not in known:
        hint = nearest(word, known)
        yield Fault(key, f"`{word}` is no {kind}", choice(known) if len(known) <= 12 or not hint else "", hint)


def _path_faults(question: Question, world: RouteWorld, estate: Estate) -> Iterator[Fault]:
    try:
        path = target_of(question, world).path
    except ClientError as error:
        yield Fault("path", f"the proxy refuses `{question.path}`: {error.detail}")
        return
    except ValueError:
        yield Fault("path", f"`{question.path}` is not ASCII", "percent-encoded bytes")
        return
    if not below(path, world.prefix):
        yield Fault("path", f"`{question.path}` is not on the route `{world.name}`", f"below `{world.prefix.decode()}`")
        return
    other = max(
        (each for each in estate.routes.values() if each.host == world.host and below(path, each.prefix)),
        key=lambda each: len(each.prefix),
    )
    if other is not world:
        yield Fault("path", f"`{question.path}` is on the route `{other.name}`, which is nearer than `{world.name}`")


def below(path: bytes, prefix: bytes) -> bool:
    """Whole segments."""
    return prefix in {b"/", path} or path.startswith(prefix + b"/")


def target_of(question: Question, world: RouteWorld) -> Target:
    """Canonical, as the worker reads it. Raises ClientError(TARGET_REFUSED), and ValueError for what is not ASCII."""
    raw = question.path or world.prefix.decode()
    if question.query is not None:
        raw += ("&" if "?" in raw else "?") + question.query.removeprefix("?")
    return parse_target(raw.encode("ascii"), world.paths)


def pose(question: Question, estate: Estate, now: float, act: Act | None = None) -> Posed:
    """The facts of a question without (fatal) faults. `act`: what the request means, if that is known already.

    Raises ClientError for a body that cannot be looked into.
    """
    world = estate.routes[question.route]
    target = target_of(question, world)
    headers = {name.lower(): value for name, value in question.headers.items()}
    body = question.body.encode() if question.body is not None else None
    if body is not None:
        headers.setdefault("content-type", "application/json")
    sent = {name.encode(): value.encode("latin-1", "replace") for name, value in headers.items()}
    method = question.method.encode("ascii")
    asked = (method, target.path, target.query, sent.get, question.websocket)
    known = question.is_person or bool(question.integration)
    needs = body is None and act is None and world.needs_body(*asked)
    if act is None:
        # nobody reads a stranger's body: it means nothing that a rule could name
        act = world.classify(*asked, body if known else None) if world.profile is not None else NO_ACT
    at = now if question.at is None else question.at
    principal = principal_of(question, estate)
    session = _session(question, estate, world, principal, at) if question.is_person and principal else None
    origin = _origin(question, estate)
    facts = Facts(
        now=at,
        route=world.name,
        method=method,
        path=target.path,
        client=origin.address if origin is not None else "",
        principal=principal,
        session=session,
        act=act,
        origin=origin,
        risk=session.risk if session is not None else None,
        headers={name: headers.get(name) for name in world.policy.headers_wanted},
    )
    return Posed(world, target, facts, needs)


def principal_of(question: Question, estate: Estate) -> Principal | None:
    """Who asks; None: a stranger."""
    if question.integration:
        one = question.integration
        owner = estate.schema.integrations[one].owner if one in estate.schema.integrations else ""
        return Principal(f"integration:{one}", "", "", name=one, integration=one, owner=owner)
    if not question.is_person:
        return None
    providers = estate.schema.identity.providers
    route = estate.routes.get(question.route)
    provider = question.provider or (route.rules.provider if route else "") or next(iter(providers), "")
    return Principal(
        subject=question.subject or question.user or "somebody",
        issuer=str(providers[provider].issuer or "") if provider in providers else "",
        provider=provider,
        email=question.user if "@" in question.user else None,
        name=question.name or None,
        groups=frozenset(question.groups),
        roles=frozenset(question.roles),
        claims=question.claims,
    )


def _session(question: Question, estate: Estate, world: RouteWorld, who: Principal, at: float) -> Session:
    level = LEVELS[question.level] if question.level else Level.MULTI
    lenient = who.provider in estate.schema.identity.providers and (
        estate.schema.identity.providers[who.provider].insecure_no_mfa
    )
    keys = [unlock_key(world.name, rule.id) for rule in world.rules.rules]
    justified = dict.fromkeys((*keys, BREAK_GLASS), question.justified) if question.justified else {}
    if question.break_glass:
        justified.setdefault(BREAK_GLASS, "an emergency")
    return Session(
        sid="",
        host=world.host,
        principal=who,
        acr="",
        amr=(),
        mfa=level >= Level.MULTI or bool(lenient),
        auth_time=at - question.proved_ago,
        created=at - question.proved_ago,
        last_activity=at,
        idle_timeout=_EVER,
        absolute_deadline=at + _EVER,
        level=level,
        device_known=DEVICES.get(question.device),
        risk=_risk(question.risk, estate),
        justified=justified,
        approved=dict.fromkeys(keys, Approval(question.approved_by, at + _EVER)) if question.approved_by else {},
        break_glass=at + 3600.0 if question.break_glass else 0.0,
    )


def _risk(word: str, estate: Estate) -> Risk | None:
    if not word:
        return None
    level = RISKS[word]
    score = {RiskLevel.LOW: 0, RiskLevel.MEDIUM: estate.risk.medium, RiskLevel.HIGH: estate.risk.high}[level]
    return Risk(score, level)


def _origin(question: Question, estate: Estate) -> Origin | None:
    """Where the request comes from; an address says what is not said otherwise."""
    zones = frozenset(question.network) - {OUTSIDE}
    address = question.address
    if not address and zones:
        ranges = names.networks(estate.schema.networks[question.network[0]])
        address = str(next(ranges[0].hosts(), ranges[0].network_address)) if ranges else ""
    if not (address or question.network or question.country or question.asn):
        return None
    found = estate.origins.of(address) if address else Origin("")
    if question.network:
        found = msgspec.structs.replace(found, zones=found.zones | zones if zones else frozenset())
    if question.country:
        found = msgspec.structs.replace(found, country=question.country.upper())
    return found if question.asn is None else msgspec.structs.replace(found, asn=question.asn)


def group_names(estate: Estate) -> set[str]:
    """Every group that the file names."""
    found: set[str] = set()
    for world in estate.routes.values():
        for rule in world.rules.rules:
            found.update(rule.groups, rule.approve.groups if rule.approve else ())
        found.update(group for role in world.rules.roles for group in role.groups)
        found.update(str(value) for test in tests_of(world) if test.fact == "group" for value in test.values)
    return found


def role_names(estate: Estate) -> set[str]:
    """Every role that the file names."""
    found = set(estate.schema.roles)
    for world in estate.routes.values():
        found.update(role for rule in world.rules.rules for role in rule.roles)
        found.update(str(value) for test in tests_of(world) if test.fact == "role" for value in test.values)
    return found


def tests_of(world: RouteWorld) -> Iterator[Test]:
    """Every comparison in the conditions of a route."""
    conditions: list[Any] = [rule.when for rule in world.rules.rules]
    conditions += [role.when for role in world.rules.roles]
    conditions += [mask.applies for mask in world.masks]
    for condition in conditions:
        yield from (atom for atom in logic.atoms(condition) if isinstance(atom, Test))


def moment(text: str, now: float) -> float:
    """Epoch seconds of `now`, or of a moment with its zone, `2026-11-24T10:00+01:00`. Raises ValueError."""
    if text == "now":
        return now
    expected = "expected `now`, or a moment with its zone such as `2026-11-24T10:00+01:00`"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{text}` is no moment; {expected}") from None
    if found.tzinfo is None:
        raise ValueError(f"`{text}` has no zone; {expected}")
    return found.timestamp()


def since(text: str) -> float:
    """Seconds of `10m`. Raises ValueError."""
    return units.duration(text)
