"""Rules: whether each can decide anything, and whether any decides too much."""

from collections.abc import Sequence
from typing import NamedTuple

from zt_proxy.config import check_circumstances, check_reach
from zt_proxy.config.check import Checking
from zt_proxy.config.check_identity import NAME
from zt_proxy.config.check_require import alone, check_require, meaningless, names, role
from zt_proxy.config.check_when import IN_PRINCIPAL, known_claims, method_fault, object_fault
from zt_proxy.config.people import people_of
from zt_proxy.config.problems import nearest
from zt_proxy.config.requirements import above_routes, applies, floors_of, needs_of
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Match, Rule, To
from zt_proxy.config.schema_when import ACTIONS
from zt_proxy.config.templates import template_fault
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.policy.templates import compile_paths

_EVERYWHERE = (b"/", b"/zt-any", b"/zt-any/", b"/zt-any/zt-any", b"/zt-any/zt-any/zt-any.zt")
"""Paths that only a template for all of them fits all of."""


class Place(NamedTuple):
    """Where a rule stands."""

    name: str
    """`organisation`, `group of routes`, or empty on a route."""
    routes: Sequence[Route]
    """Where it counts."""

    @property
    def route(self) -> Route | None:
        """The one route it was written on."""
        return None if self.name else self.routes[0]


def check(checking: Checking) -> None:
    schema = checking.schema
    floor = above_routes(schema)
    check_require(checking, schema.require, ())
    organisation = _rules(checking, schema.rules, Place("organisation", schema.routes), {})
    groups: dict[str, dict[str, Rule]] = {}
    for name, group in schema.route_groups.items():
        check_require(checking, group.require, floor)
        members = [route for route in schema.routes if route.group == name]
        groups[name] = _rules(checking, group.rules, Place("group of routes", members), organisation)
    for_machines = {scope.route for one in schema.integrations.values() for scope in one.allow}
    for route in schema.routes:
        if not route.rules and not route.damaged and route.name not in for_machines:
            checking.problems.warning(route.at("rules"), f"route `{route.name}` has no rules: it denies everything")
        check_require(checking, route.require, floors_of(schema, route)[:-1])
        _rules(checking, route.rules, Place("", [route]), groups.get(route.group or "", organisation))
        check_reach.check(checking, route)


def _rules(checking: Checking, rules: Sequence[Rule], place: Place, above: dict[str, Rule]) -> dict[str, Rule]:
    """Each rule of one place. `above`: those that are inherited there; what is given has these as well."""
    seen = dict(above)
    for rule in rules:
        first = seen.setdefault(rule.id, rule)
        if first is not rule:
            at = first.at("id")
            checking.problems.error(
                rule.at("id"),
                f"the rule id `{rule.id}` is used twice",
                hint=f"first at line {at.line}" if at else "",
            )
        elif not NAME.fullmatch(rule.id):
            checking.problems.error(rule.at("id"), f"`{rule.id}` is no name", "lower-case letters, digits, `-` and `_`")
        _rule(checking, place, rule)
    return seen


def _rule(checking: Checking, place: Place, rule: Rule) -> None:
    problems, route = checking.problems, place.route
    if rule.allow is not None and rule.deny is not None:
        problems.error(rule.at("deny"), f"rule `{rule.id}` both allows and denies", "one of them")
    elif rule.allow is not None and place.name:
        problems.error(
            rule.at("allow"),
            f"rule `{rule.id}` of the {place.name} allows: only routes do",
            "`deny`, or the rule on a route",
        )
    if rule.allow is None and rule.deny is None and not rule.damaged:
        problems.error(rule.start, f"rule `{rule.id}` neither allows nor denies", "`allow` or `deny`")
    for key, matches in (("allow", rule.allow), ("deny", rule.deny)):
        if matches == [] and rule.complete(key):
            problems.error(rule.at(key), f"`{key}` is empty and would match nothing", "a list of matches, or `all`")
        for match in matches or ():
            check_match(checking, route, match)
    _subject(checking, route, rule)
    check_circumstances.check(checking, rule, place.routes, inherited=bool(place.name))
    meaningless(checking, rule)
    floors = floors_of(checking.schema, route) if route is not None and applies(rule) else ()
    check_require(checking, rule.require, floors)
    if route is not None:
        if applies(rule) and not rule.damaged:
            alone(checking, rule, needs_of(rule, floors))
        _too_much(checking, route, rule)


def check_match(checking: Checking, route: Route | None, match: Match) -> None:
    """Methods, paths, actions and objects of one match, as they have to be on this route, or on any (None)."""
    problems = checking.problems
    for key in ("methods", "paths", "objects", "action", "actions"):
        if getattr(match, key) == [] and match.complete(key):
            problems.error(match.at(key), f"`{key}` is empty and would match nothing", hint="leave it out to mean any")
    if match.action is not None and match.actions is not None:
        problems.error(match.at("actions"), "`action` and `actions` are the same", "one of them")
    for index, method in enumerate(match.methods or ()):
        method_fault(checking, match.at("methods", index), method, "methods")
    for index, name in enumerate(match.objects or ()):
        if said := object_fault(name):
            problems.error(match.at("objects", index), said)
    if route is not None and route.profile is None and match.speaks_of_actions and not match.damaged:
        key = next(key for key in ("action", "actions", "objects") if match.written(key))
        problems.error(
            match.at(key),
            f"route `{route.name}` has no profile: nobody knows what its requests do",
            "`profile: NAME` on the route",
        )
    for index, template in enumerate(match.paths or ()):
        said = template_fault(
            template,
            parameters=route is None or route.paths.parameters == "allow" or not route.complete("paths"),
            double_slash=route is None or route.paths.double_slash == "allow" or not route.complete("paths"),
        )
        if said:
            problems.error(match.at("paths", index), said)
        elif (
            route is not None
            and route.path.startswith("/")
            and route.path != "/"
            and not _may_lie_below(template, route.path)
        ):
            problems.warning(
                match.at("paths", index), f"`{template}` is outside the route's `path: {route.path}`", "the full path"
            )


def _may_lie_below(template: str, prefix: str) -> bool:
    """Whether a template can match a path below a prefix; True when in doubt."""
    for part, wanted in zip(template.split("/")[1:], prefix.strip("/").split("/"), strict=False):
        if "*" in part:
            return True
        if part.lower() != wanted.lower():
            return False
    return len(template.split("/")) > prefix.rstrip("/").count("/")


def _subject(checking: Checking, route: Route | None, rule: Rule) -> None:
    problems, to = checking.problems, rule.to
    if to is None:
        if rule.allow is not None and not rule.damaged:
            problems.error(rule.start, f"rule `{rule.id}` does not say for whom", "`to`")
        return
    if to.word or to.damaged:
        return
    for key in ("claims", "providers", "integrations"):
        if not getattr(to, key) and to.written(key):
            problems.error(to.at(key), f"`{key}` is empty and would match nobody", hint="leave it out")
    if not any(to.written(key) for key in ("groups", "users", "roles", "claims", "providers", "integrations")):
        problems.error(
            rule.at("to"), "`to` names nobody", "`groups`, `users`, `claims`, `integrations`, or `anyone-signed-in`"
        )
    for index, name in enumerate(to.integrations):
        machines = checking.schema.integrations
        if name not in machines and checking.schema.complete("integrations"):
            problems.error(to.at("integrations", index), f"`{name}` is no integration", hint=nearest(name, machines))
    for key, listed in (("groups", to.groups), ("users", to.users), ("roles", to.roles)):
        names(checking, to, key, listed)
    for index, name in enumerate(to.roles):
        role(checking, to.at("roles", index), name)
    _whose(checking, route, to)
    known = known_claims(checking)
    for claim, values in to.claims.items():
        if not values:
            problems.error(to.at("claims", claim), f"`{claim}` has no values and would match nobody")
        if claim in IN_PRINCIPAL:
            problems.error(to.at("claims", claim), f"`{claim}` is no further claim", "`users` or `groups`")
        elif known is not None and claim not in known:
            problems.error(
                to.at("claims", claim),
                f"no provider hands on the claim `{claim}`",
                f"`claims: [{claim}]` at a provider",
            )


def _whose(checking: Checking, route: Route | None, to: To) -> None:
    """With several providers, whose people are meant has to be said: subjects and groups are names within one."""
    problems, providers = checking.problems, checking.schema.identity.providers
    for index, name in enumerate(to.providers):
        if name not in providers and checking.schema.identity.complete("providers"):
            problems.error(to.at("providers", index), f"`{name}` is no provider", hint=nearest(name, providers))
        elif route is not None and route.provider is not None and name != route.provider:
            problems.error(to.at("providers", index), f"the route knows people of `{route.provider}` alone")
    for index in people_of(to, route, checking.schema).unclear:
        problems.error(
            to.at("users", index),
            f"`{to.users[index]}`: two providers can call different people so",
            "`PROVIDER:SUBJECT`, a verified address, or `providers` beside it",
        )
    if to.groups and len(providers) > 1 and not to.providers and (route is None or route.provider is None):
        problems.warning(to.at("groups"), "groups of every provider count here", "`providers` beside it")


def _is_all(matches: list[Match]) -> bool:
    """Whether reading and changing are allowed at every kind of path, however that is spelled."""
    try:
        fits = [
            (match.methods, compile_paths(match.paths or ["/**"]).fullmatch)
            for match in matches
            if match.objects is None and (not match.acts or len(match.acts) == len(ACTIONS))
        ]
    except ConfigurationError:
        return False  # a template that cannot be read has been told
    return all(
        any((methods is None or method in methods) and on_path(path) for methods, on_path in fits)
        for method in ("GET", "POST")
        for path in _EVERYWHERE
    )


def _too_much(checking: Checking, route: Route, rule: Rule) -> None:
    if rule.allow is None or rule.to is None or rule.mode == "off" or not rule.complete("allow"):
        return
    everything = rule.when is None and _is_all(rule.allow)
    if everything and rule.to.word == "public":
        if not rule.insecure_allow_everyone:
            checking.problems.error(
                rule.at("allow"),
                f"rule `{rule.id}` allows everyone everything, without a sign-in",
                "narrower matches, or `insecure_allow_everyone: true`",
            )
        else:
            checking.problems.warning(
                rule.at("insecure_allow_everyone"), f"rule `{rule.id}` allows everyone everything, without a sign-in"
            )
    elif rule.insecure_allow_everyone:
        checking.problems.warning(
            rule.at("insecure_allow_everyone"), "`insecure_allow_everyone` is not needed on this rule"
        )
    elif everything and rule.to.word == "anyone-signed-in" and not _asks(checking, route, rule):
        checking.problems.warning(rule.at("allow"), f"rule `{rule.id}` allows whoever can sign in everything")


def _asks(checking: Checking, route: Route, rule: Rule) -> bool:
    return needs_of(rule, floors_of(checking.schema, route)).asks
