"""What rules of all routes share: networks, databases, roles, access levels, groups, break-glass, stages."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from zt_proxy.config import names as reading
from zt_proxy.config import stages
from zt_proxy.config.check import Checking
from zt_proxy.config.check_identity import NAME
from zt_proxy.config.check_require import accounts, names
from zt_proxy.config.check_when import OF_THE_PERSON, sense, uses, words
from zt_proxy.config.geodata import check_database
from zt_proxy.config.problems import Mark, choice, nearest
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_base import Model
from zt_proxy.config.schema_policy import GeoIp, RouteGroup
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Rule
from zt_proxy.config.schema_when import When
from zt_proxy.config.tree import Mapping as Tree
from zt_proxy.config.tree import Sequence as Items
from zt_proxy.core.types import Mode

LONGEST_EMERGENCY = 4 * 3_600.0
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


def check(checking: Checking) -> None:
    _networks(checking)
    _geoip(checking, checking.schema.geoip)
    _access_levels(checking)
    _roles(checking)
    _groups_of_routes(checking)
    _break_glass(checking)
    _modes(checking)
    _tried(checking)
    _alike(checking)


def _named(checking: Checking, key: str) -> Iterator[tuple[str, Mark | None]]:
    """The names under a key, those that are none told."""
    schema = checking.schema
    for name in getattr(schema, key):
        at = schema.at(key, name)
        if not NAME.fullmatch(name):
            checking.problems.error(at, f"`{name}` is no name", "lower-case letters, digits, `-` and `_`")
        yield name, at


def _networks(checking: Checking) -> None:
    schema = checking.schema
    for name, at in _named(checking, "networks"):
        items = schema.networks[name]
        if not items:
            checking.problems.error(at, f"network `{name}` is empty")
        read = [
            checking.attempt(_item(schema, "networks", name, index), reading.network, text)
            for index, text in enumerate(items)
        ]
        version = reading.everyone([network for network in read if network is not None])
        if version:
            checking.problems.warning(at, f"network `{name}` has every {version} address")


def _item(model: Model, key: str, name: str, index: int) -> Mark | None:
    """Where an item of a list in a mapping of lists stands."""
    below = model._source.get(key) if model._source is not None else None
    if not isinstance(below, Tree) or name not in below:
        return model.at(key, name)
    value = below[name]
    return value.items_at[index] if isinstance(value, Items) and index < len(value.items_at) else below.values_at[name]


def _geoip(checking: Checking, geoip: GeoIp) -> None:
    problems = checking.problems
    for key in ("country", "asn"):
        file = getattr(geoip, key)
        if file is not None:
            checking.attempt(geoip.at(key), check_database, checking.path(file), key)
    header = geoip.insecure_origin_header
    if header is not None:
        if not _TOKEN.fullmatch(header):
            problems.error(geoip.at("insecure_origin_header"), f"`{header}` is no header name")
        problems.warning(geoip.at("insecure_origin_header"), f"anyone can say by `{header}` which country they are in")


# ---- access levels and roles ----


def _access_levels(checking: Checking) -> None:
    """Those that can be built end up in `checking.levels`."""
    schema = checking.schema
    fine = {name: words(checking, schema.access_levels[name]) for name, _ in _named(checking, "access_levels")}
    for name, readable in list(fine.items()):
        circle = _circle(schema.access_levels, name)
        if circle and name == min(circle):
            checking.problems.error(
                schema.at("access_levels", name), f"`{name}` is defined by itself: {' → '.join([*circle, name])}"
            )
        fine[name] = readable and not circle
    while True:
        broken = [
            name
            for name in fine
            if fine[name] and not all(fine.get(one) for one in _levels_of(schema.access_levels[name]))
        ]
        if not broken:
            break
        fine |= dict.fromkeys(broken, False)
    checking.levels.update({name: schema.access_levels[name] for name in fine if fine[name]})
    for when in list(checking.levels.values()):
        sense(checking, when, checking.levels)


def _levels_of(when: When) -> list[str]:
    return [name for each in _within(when) for name in each.access_level or ()]


def _circle(levels: Mapping[str, When], start: str) -> list[str]:
    """A way from an access level back to itself, or nothing."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for name in _levels_of(levels[way[-1]]):
            if name == start:
                return way
            if name in levels and name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


def _roles(checking: Checking) -> None:
    schema, problems = checking.schema, checking.problems
    for name, at in _named(checking, "roles"):
        role = schema.roles[name]
        if not (role.groups or role.users or role.when) and not role.damaged:
            problems.error(at, f"role `{name}` is nobody's", "`groups`, `users` or `when`")
        names(checking, role, "groups", role.groups)
        accounts(checking, role, "users", role.users)
        if role.when is None or not words(checking, role.when):
            continue
        for where, key, fact in uses(role.when, checking.levels):
            if fact not in OF_THE_PERSON:
                problems.error(
                    where.at(key),
                    f"`{fact}` in a role: a role is about the person alone",
                    choice(sorted(OF_THE_PERSON)),
                )
        if all(one in checking.levels for one in _levels_of(role.when)):
            sense(checking, role.when, checking.levels)


# ---- groups of routes, emergencies, modes ----


def _groups_of_routes(checking: Checking) -> None:
    schema = checking.schema
    used = {route.group for route in schema.routes}
    for name, at in _named(checking, "route_groups"):
        if name == "organisation":
            checking.problems.error(at, "`organisation` is what stands above all groups", "another name")
        if name not in used and schema.complete("routes"):
            checking.problems.warning(at, f"no route is in the group `{name}`", hint=f"`group: {name}` on a route")
    for route in schema.routes:
        if route.group is not None and route.group not in schema.route_groups and schema.complete("route_groups"):
            checking.problems.error(
                route.at("group"),
                f"`{route.group}` is no group of routes",
                hint=nearest(route.group, schema.route_groups),
            )


def _break_glass(checking: Checking) -> None:
    chosen, problems = checking.schema.break_glass, checking.problems
    if chosen is None:
        return
    if not chosen.accounts and chosen.complete("accounts"):
        problems.error(chosen.at("accounts"), "`accounts` is empty", "accounts, or no `break_glass`")
    elif chosen.accounts:
        accounts(checking, chosen, "accounts", chosen.accounts)
        problems.warning(
            checking.schema.at("break_glass"),
            f"{len(chosen.accounts)} {'account' if len(chosen.accounts) == 1 else 'accounts'} may do what rules deny",
            hint="in an emergency, with a reason, and everybody who watches is told",
        )
    if chosen.for_ > LONGEST_EMERGENCY:
        problems.error(chosen.at("for"), "an emergency lasts four hours at most", "`4h` or shorter")
    elif chosen.for_ == 0:
        problems.error(chosen.at("for"), "`for` is zero", "more than zero")


def _modes(checking: Checking) -> None:
    schema, problems = checking.schema, checking.problems
    if schema.stage is not None and schema.mode == "report" and schema.stage != "identity":
        problems.error(
            schema.at("stage"), f"`stage: {schema.stage}` enforces rules and `mode: report` does not", "one of them"
        )
    if stages.rules(schema) is Mode.REPORT:
        key = "mode" if schema.mode == "report" else "stage"
        problems.warning(schema.at(key), f"`{key}: {getattr(schema, key)}`: no rule stops anybody who signed in")
        written: list[Route | Rule] = [*schema.routes, *(rule for route in schema.routes for rule in route.rules)]
        for each in written:
            if each.mode == "enforce" and each.written("mode"):
                said = f"`mode: enforce` has no effect while the whole file has `{key}: {getattr(schema, key)}`"
                problems.warning(each.at("mode"), said)


def _tried(checking: Checking) -> None:
    """Routes that report, though what stands above them is in force elsewhere."""
    schema = checking.schema
    for route in schema.routes:
        if route.mode != "report" or stages.rules(schema) is Mode.REPORT:
            continue
        group = schema.route_groups.get(route.group) if route.group is not None else None
        above = [*schema.rules, *(group.rules if group else ())]
        if any(rule.mode == "enforce" for rule in above):
            checking.problems.warning(
                route.at("mode"),
                f"`mode: report`: on `{route.name}` rules from above stop nobody who signed in, either",
                hint="`mode: report` on the route's own rules",
            )


def _alike(checking: Checking) -> None:
    """A group that differs from another by one slip, and is named less often."""
    named = list(_groups(checking.schema))
    times = Counter(name for name, _ in named)
    for name, at in dict(reversed(named)).items():  # where each stands first
        for other in times:
            cased = name != other and name.casefold() == other.casefold() and times[name] <= times[other]
            if cased or (times[name] < times[other] and _one_slip(name, other)):
                checking.problems.warning(
                    at, f"the group `{name}` is nearly spelled as `{other}`", hint=f"did you mean `{other}`?"
                )
                break


def _groups(schema: Schema) -> Iterator[tuple[str, Mark | None]]:
    def listed(model: Model, key: str, items: list[str]) -> Iterator[tuple[str, Mark | None]]:
        return ((name, model.at(key, index)) for index, name in enumerate(items))

    rules: list[Rule] = [*schema.rules]
    for group in schema.route_groups.values():
        rules += group.rules
    for route in schema.routes:
        rules += route.rules
    for rule in rules:
        if rule.to is not None:
            yield from listed(rule.to, "groups", rule.to.groups)
        for when in _within(rule.when):
            yield from listed(when, "group", when.group or [])
        if rule.require.approve is not None:
            yield from listed(rule.require.approve, "groups", rule.require.approve.groups)
    for role in schema.roles.values():
        yield from listed(role, "groups", role.groups)
    for level in schema.access_levels.values():
        for when in _within(level):
            yield from listed(when, "group", when.group or [])
    owners: list[RouteGroup | Route] = [*schema.route_groups.values(), *schema.routes]
    for owner in owners:
        for readers in (who for mask in owner.mask for who in (mask.unless, mask.only) if who is not None):
            yield from listed(readers, "groups", readers.groups)


def _within(when: When | None) -> Iterator[When]:
    """A condition and all below it."""
    if when is not None:
        yield when
        for below in (*(when.all_of or ()), *(when.any_of or ()), when.not_):
            yield from _within(below)


def _one_slip(one: str, other: str) -> bool:
    """One letter more, less or other, or two swapped, after the first, in names of five letters or more. Digits tell
    names apart."""
    if min(len(one), len(other)) < 5 or abs(len(one) - len(other)) > 1:
        return False
    start = next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    if start == 0:
        return False
    rest, more = one[start:], other[start:]
    if (rest[:1] + more[:1]).isdigit() or not (rest[:1] + more[:1]).replace("-", "").isalpha():
        return False
    swapped = rest[1:2] + rest[:1] + rest[2:] == more
    return rest[1:] == more[1:] or rest[1:] == more or rest == more[1:] or swapped
