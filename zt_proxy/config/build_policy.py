"""Rules, roles and what they share: from the checked schema to what the policy reads."""

from collections.abc import Iterable, Sequence

import msgspec

from zt_proxy.config import names, stages
from zt_proxy.config.build_when import attributes, condition
from zt_proxy.config.people import people_of
from zt_proxy.config.requirements import Approvers, floors_of, needs_of
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Match, Rule, RuleLimit, To
from zt_proxy.control.settings import ApprovalSettings, BreakGlassSettings
from zt_proxy.core.session import Level
from zt_proxy.core.types import Mode
from zt_proxy.policy.geo import OriginSettings
from zt_proxy.policy.spec import (
    Approve,
    Audience,
    Limit,
    RequestMatch,
    RoleSpec,
    RouteRules,
    RuleEffect,
    RuleSpec,
)
from zt_proxy.worker.settings import RouteSettings

ORGANISATION = "organisation"
"""Where a rule of the top level was written."""


def route_rules(route: Route, schema: Schema, scopes: tuple[RuleSpec, ...] = ()) -> RouteRules:
    """The rules of one route, inherited ones first. `scopes`: what integrations' own `allow` gives there."""
    rules = tuple(spec for place, rule in rules_on(route, schema) for spec in _rule(rule, route, schema, place))
    return RouteRules(
        route.name,
        (*rules, *scopes),
        route.paths.case == "insensitive",
        mode_of(route, schema),
        route.provider or "",
        roles(schema),
        attributes(schema),
        tuple(schema.break_glass.accounts) if schema.break_glass else (),
        len(schema.identity.providers) > 1,
    )


def rules_on(route: Route, schema: Schema) -> list[tuple[str, Rule]]:
    """Every rule that counts on a route, with where it was written when not there: organisation, group, route."""
    group = schema.route_groups.get(route.group) if route.group is not None else None
    return [
        *((ORGANISATION, rule) for rule in schema.rules),
        *((str(route.group), rule) for rule in (group.rules if group else ())),
        *(("", rule) for rule in route.rules),
    ]


def mode_of(route: Route, schema: Schema) -> Mode:
    """Of all rules of a route: `off` where it says so, `report` where it, the file or the stage does."""
    mode = Mode(route.mode)
    return stages.rules(schema) if mode is Mode.ENFORCE else mode


def roles(schema: Schema) -> tuple[RoleSpec, ...]:
    """The roles of the file."""
    return tuple(
        RoleSpec(
            name,
            tuple(role.users),
            tuple(role.groups),
            condition(role.when, schema.access_levels) if role.when is not None else None,
        )
        for name, role in schema.roles.items()
    )


def origins(schema: Schema, base: names.Folder) -> OriginSettings:
    """Where addresses are looked up."""
    geoip = schema.geoip
    return OriginSettings(
        tuple((name, tuple(str(one) for one in names.networks(items))) for name, items in schema.networks.items()),
        base(geoip.country) if geoip.country is not None else None,
        base(geoip.asn) if geoip.asn is not None else None,
        (geoip.insecure_origin_header or "").lower(),
    )


def break_glass(schema: Schema) -> BreakGlassSettings:
    """Who may do what rules deny, and for how long."""
    chosen = schema.break_glass
    return BreakGlassSettings(tuple(chosen.accounts), chosen.for_) if chosen is not None else BreakGlassSettings()


def approvals(routes: Iterable[RouteSettings]) -> tuple[ApprovalSettings, ...]:
    """Every rule that asks for somebody else's word."""
    return tuple(
        ApprovalSettings(route.name, rule.id, rule.approve)
        for route in routes
        for rule in route.rules.rules
        if rule.approve is not None
    )


def request_matches(matches: Sequence[Match]) -> tuple[RequestMatch, ...]:
    """What the matches of a rule mean; those that name nothing but actions are one."""
    read = [request_match(match) for match in matches]
    acts = dict.fromkeys(act for one in read if one == RequestMatch(actions=one.actions) for act in one.actions)
    rest = [one for one in read if not one.actions or one != RequestMatch(actions=one.actions)]
    return (*((RequestMatch(actions=tuple(acts)),) if acts else ()), *rest)


def request_match(match: Match) -> RequestMatch:
    """What one match of a rule means."""
    return RequestMatch(tuple(match.methods or ()), tuple(match.paths or ()), match.acts, tuple(match.objects or ()))


def _rule(rule: Rule, route: Route, schema: Schema, inherited: str) -> tuple[RuleSpec, ...]:
    """One rule; two, when it is for people and integrations and asks people for something: machines prove nothing."""
    denies = rule.deny is not None
    to = rule.to or To()
    needs = needs_of(rule, floors_of(schema, route))
    people = people_of(to, route, schema)
    spec = RuleSpec(
        id=rule.id,
        effect=RuleEffect.DENY if denies else RuleEffect.ALLOW,
        audience=Audience.PUBLIC if rule.to is None and denies else Audience(to.word or "matching"),
        matches=request_matches((rule.deny if denies else rule.allow) or ()),
        users=people.either,
        people=people.subjects,
        emails=people.emails,
        providers=tuple(to.providers),
        groups=tuple(to.groups),
        claims={name: tuple(values) for name, values in to.claims.items()},
        integrations=tuple(to.integrations),
        reauth=needs.reauth,
        once=needs.once,
        level=needs.level,
        mode=Mode(rule.mode),
        roles=tuple(to.roles),
        when=condition(rule.when, schema.access_levels) if rule.when is not None else None,
        justify=needs.justify,
        approve=_approve(needs.approve),
        masks=tuple(rule.mask),
        limit=_limit(rule.limit),
        notify=rule.notify,
        inherited=inherited,
    )
    if not (needs.asks and to.integrations):
        return (spec,)
    machines = msgspec.structs.replace(
        spec,
        users=(),
        people=(),
        emails=(),
        providers=(),
        groups=(),
        claims={},
        roles=(),
        reauth=None,
        once=False,
        level=Level.SINGLE,
        justify=False,
        approve=None,
    )
    return (msgspec.structs.replace(spec, integrations=()), machines)


def _approve(who: Approvers | None) -> Approve | None:
    if who is None:
        return None
    return Approve(tuple(sorted(who.users)), tuple(sorted(who.groups)), who.valid)


def _limit(limit: RuleLimit | None) -> Limit | None:
    if limit is None:
        return None
    return Limit(float(limit.requests or 0), float(limit.bytes or 0), limit.per)
