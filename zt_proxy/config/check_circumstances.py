"""Circumstances of a rule: its condition, what that needs of the route and of whoever asks, how long it is tried."""

from collections.abc import Sequence
from datetime import UTC, datetime

from zt_proxy.config import build_mask
from zt_proxy.config.check import Checking
from zt_proxy.config.check_when import NOT_OF_INTEGRATIONS, OF_PEOPLE, OF_PROFILES, sense, uses, words
from zt_proxy.config.problems import choice, nearest
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Match, Rule
from zt_proxy.config.schema_when import When

TRIAL = 30 * 86_400.0
"""Seconds after which a rule in report mode is called to mind."""


def check(checking: Checking, rule: Rule, routes: Sequence[Route], *, inherited: bool) -> None:
    """Everything about `when`, `mask`, `mode` and `since` of one rule, which counts on these routes."""
    if rule.when is not None:
        _when(checking, rule, rule.when, routes)
    if inherited:
        _without_profile(checking, rule, routes)
    _masks(checking, rule, routes)
    _trial(checking, rule)


def _when(checking: Checking, rule: Rule, when: When, routes: Sequence[Route]) -> None:
    if not words(checking, when):
        checking.unclear.add(id(rule))
        return
    asked = list(uses(when, checking.levels))
    if not all(name in checking.levels for name in _levels_named(when)):
        checking.unclear.add(id(rule))
        return
    sense(checking, when, checking.levels)
    problems = checking.problems
    denies = rule.deny is not None
    bare = [route for route in routes if route.profile is None and not route.damaged]
    if denies:
        matches = [match for match in rule.deny or () if not match.speaks_of_actions]
        bare = bare if matches else []  # a rule about actions fits nothing where there are none
    for where, key, fact in asked:
        said = f"`{key}`" if key == fact else f"an access level that asks for `{fact}`"
        at = where.at(key)
        if fact in OF_PROFILES and bare:
            names = choice([route.name for route in bare]).replace(" or ", " and ")
            then = "denies everything" if denies else "never allows anything"
            problems.error(at, f"{said} is never known without a profile: on {names} the rule {then}")
        if fact not in OF_PEOPLE or rule.to is None:
            continue
        if rule.to.word == "public" and not denies:
            problems.error(at, f"{said} on a rule for `public`: of strangers it is never known")
        elif rule.to.integrations and not denies and fact in NOT_OF_INTEGRATIONS:
            problems.error(
                at, f"{said} on a rule for integrations: of them it is never known", "a rule of their own without it"
            )
    if denies and _for_integrations(checking, rule, routes):
        _machines_too(checking, asked)


def _machines_too(checking: Checking, asked: Sequence[tuple[When, str, str]]) -> None:
    for where, key, fact in asked:
        if fact in NOT_OF_INTEGRATIONS:
            checking.problems.warning(
                where.at(key),
                f"`{fact}` is never known of integrations: the rule denies them whatever it is about",
                hint="`to: {groups: […]}` for people alone",
            )
            return


def _for_integrations(checking: Checking, rule: Rule, routes: Sequence[Route]) -> bool:
    """A rule that denies everybody denies integrations too, where there are any."""
    if rule.to is not None and not rule.to.word:
        return False
    here = {route.name for route in routes}
    return any(scope.route in here for one in checking.schema.integrations.values() for scope in one.allow)


def _levels_named(when: When) -> set[str]:
    found = set(when.access_level or ())
    for below in (*(when.all_of or ()), *(when.any_of or ()), *((when.not_,) if when.not_ else ())):
        found |= _levels_named(below)
    return found


def _without_profile(checking: Checking, rule: Rule, routes: Sequence[Route]) -> None:
    """Actions in a rule from above: where there is no profile, it is about nothing."""
    bare = [route.name for route in routes if route.profile is None]
    about: list[Match] = [match for match in (rule.deny or rule.allow or ()) if match.speaks_of_actions]
    if not about or not bare or rule.damaged:
        return
    key = next(key for key in ("action", "actions", "objects") if about[0].written(key))
    names = choice(bare).replace(" or ", " and ")
    if len(bare) == len(routes):
        checking.problems.error(about[0].at(key), f"{names} have no profile: the rule never counts")
    else:
        checking.problems.warning(about[0].at(key), f"on {names} the rule never counts: there is no profile")


def _masks(checking: Checking, rule: Rule, routes: Sequence[Route]) -> None:
    for route in routes:
        known = [name for name, _ in build_mask.on_route(route, checking.schema)]
        for index, name in enumerate(rule.mask):
            if name not in known and route.complete("mask"):
                checking.problems.error(
                    rule.at("mask", index), f"`{name}` is no mask of the route", hint=nearest(name, known)
                )


def _trial(checking: Checking, rule: Rule) -> None:
    if rule.since is None:
        return
    if rule.mode != "report":
        checking.problems.warning(rule.at("since"), "`since` says nothing without `mode: report`")
        return
    began = datetime.fromtimestamp(rule.since - 1, UTC)
    age = checking.now.timestamp() - rule.since
    if age > TRIAL:
        checking.problems.warning(
            rule.at("since"),
            f"rule `{rule.id}` only reports since {began.date()}: {int(age // 86_400)} days",
            hint="enforce it, or take it out",
        )
    elif age < -86_400:
        checking.problems.warning(rule.at("since"), f"`{began.date()}` is yet to come")
