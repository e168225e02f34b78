"""What `require` asks in the end: organisation, group of routes, route and the rule's own, each only tightening."""

from typing import NamedTuple

from zt_proxy.config import session_presets, units
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Require, Rule
from zt_proxy.core.session import Level

LEVELS = {level.word: level for level in Level}
Floors = tuple[tuple[str, Require], ...]
"""Where each `require` above a rule was written, and it; from the top."""


class Approvers(NamedTuple):
    """Who may agree, and for how many seconds that lasts."""

    users: frozenset[str]
    groups: frozenset[str]
    valid: float

    def within(self, other: "Approvers") -> bool:
        """It asks for what the other asks for, or more."""
        return self.users <= other.users and self.groups <= other.groups and self.valid <= other.valid

    def tightened(self, by: "Approvers") -> "Approvers":
        """Those whom both name, for the shorter time. Nobody, if they name different people: then nobody can agree."""
        return Approvers(self.users & by.users, self.groups & by.groups, min(self.valid, by.valid))


class Needs(NamedTuple):
    """A proof of identity: how strong, how old in seconds (None: any age in this session), good for one request.
    Whether the person says why. Who has to agree (None: nobody)."""

    level: Level = Level.SINGLE
    reauth: float | None = None
    once: bool = False
    justify: bool = False
    approve: Approvers | None = None

    @property
    def asks(self) -> bool:
        """Something beyond having signed in."""
        return self != Needs()

    @property
    def proof(self) -> "Needs":
        """What is asked of the proof alone."""
        return Needs(self.level, self.reauth, self.once)

    def covers(self, other: "Needs") -> bool:
        """Whoever meets this has met the other as well."""
        return self.tightened(other) == self

    def tightened(self, by: "Needs") -> "Needs":
        """Both at once: the higher level, the shorter time, once if either says so."""
        times = [each for each in (self.reauth, by.reauth) if each is not None]
        approve = self.approve or by.approve
        if self.approve is not None and by.approve is not None:
            approve = self.approve.tightened(by.approve)
        return Needs(
            max(self.level, by.level),
            min(times, default=None),
            self.once or by.once,
            self.justify or by.justify,
            approve,
        )


def needs(require: Require) -> Needs:
    """What one `require` says by itself."""
    level = LEVELS[require.mfa] if require.mfa is not None else Level.SINGLE
    chosen = require.approve
    approve = Approvers(frozenset(chosen.users), frozenset(chosen.groups), chosen.for_) if chosen else None
    once = isinstance(require.reauth, str)
    reauth = None if isinstance(require.reauth, str) else require.reauth
    return Needs(level, reauth, once, bool(require.justify), approve)


def floors_of(schema: Schema, route: Route) -> Floors:
    """What stands above the rules of a route."""
    group = schema.route_groups.get(route.group) if route.group is not None else None
    above = (("group of routes", group.require),) if group is not None else ()
    return (*above_routes(schema), *above, ("route", route.require))


def above_routes(schema: Schema) -> Floors:
    """What stands above everything, the preset of sessions included."""
    return (("top level", session_presets.floor(schema)),)


def applies(rule: Rule) -> bool:
    """Whether a floor has a meaning here: a rule that lets people through who have proven something."""
    if rule.allow is None or rule.deny is not None:
        return False
    to = rule.to
    if to is None or to.word == "anyone-signed-in":
        return True
    return bool(to.users or to.groups or to.roles or to.claims or to.providers)


def needs_of(rule: Rule, floors: Floors) -> Needs:
    """What a rule asks in the end."""
    own = needs(rule.require)
    if not applies(rule):
        return own
    merged = Needs()
    for _, floor in floors:
        merged = merged.tightened(needs(floor))
    return merged.tightened(own)


def spelled(age: float | None, once: bool) -> str:
    """A `reauth`, as it is written."""
    return "once" if once or age is None else units.show_duration(age)
