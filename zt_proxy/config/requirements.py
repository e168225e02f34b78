"""What `require` asks in the end: the organisation's floor, the route's and the rule's own, each only tightening."""

from typing import NamedTuple

from zt_proxy.config import units
from zt_proxy.config.schema_routes import Require, Route, Rule
from zt_proxy.core.session import Level

LEVELS = {level.word: level for level in Level}


class Needs(NamedTuple):
    """A proof of identity: how strong, how old in seconds (None: any age in this session), good for one request."""

    level: Level = Level.SINGLE
    reauth: float | None = None
    once: bool = False

    @property
    def asks(self) -> bool:
        """Something beyond having signed in."""
        return self != Needs()

    def covers(self, other: "Needs") -> bool:
        """Whoever meets this has met the other as well."""
        return self.tightened(other) == self

    def tightened(self, by: "Needs") -> "Needs":
        """Both at once: the higher level, the shorter time, once if either says so."""
        times = [each for each in (self.reauth, by.reauth) if each is not None]
        return Needs(max(self.level, by.level), min(times, default=None), self.once or by.once)


def needs(require: Require) -> Needs:
    """What one `require` says by itself."""
    level = LEVELS[require.mfa] if require.mfa is not None else Level.SINGLE
    if isinstance(require.reauth, str):
        return Needs(level, once=True)
    return Needs(level, require.reauth)


def applies(rule: Rule) -> bool:
    """Whether a floor has a meaning here: a rule that lets people through who have proven something."""
    if rule.allow is None or rule.deny is not None:
        return False
    to = rule.to
    if to is None or to.word == "anyone-signed-in":
        return True
    return bool(to.users or to.groups or to.claims or to.providers)


def needs_of(rule: Rule, route: Route, floor: Require) -> Needs:
    """What a rule asks in the end."""
    own = needs(rule.require)
    return needs(floor).tightened(needs(route.require)).tightened(own) if applies(rule) else own


def spelled(age: float | None, once: bool) -> str:
    """A `reauth`, as it is written."""
    return "once" if once or age is None else units.show_duration(age)
