"""What rules of all routes share: places, attributes, roles, access levels, groups of routes, break-glass."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import ClassVar

from pydantic import Field

from zt_proxy.config.schema_base import Duration, Model
from zt_proxy.config.schema_mask import Mask
from zt_proxy.config.schema_rules import Require, Rule
from zt_proxy.config.schema_when import When


class GeoIp(Model):
    """Where addresses are. Databases are read again when they change."""

    country: str | None = None
    """MaxMind database file with countries, such as `GeoLite2-Country.mmdb`; left out: the table that comes along."""
    asn: str | None = None
    """MaxMind database file with autonomous systems, such as `GeoLite2-ASN.mmdb`; left out: they are not known."""
    insecure_origin_header: str | None = None
    """Name of a request header that is believed when it names a country. For demonstrations: anyone can send it."""


class Attributes(Model):
    """Which claims of the ID token say what about a person. Each must be among the provider's `claims` too."""

    department: str = "department"
    """Claim with the department."""
    location: str = "location"
    """Claim with the place of work."""
    clearance: str = "clearance"
    """Claim with the clearance: `public`, `internal`, `confidential` or `restricted`."""


class Role(Model):
    """Who has a role: whoever is in one of the groups, is one of the users, or meets `when`."""

    groups: list[str] = []
    """Groups, exactly as the provider spells them."""
    users: list[str] = []
    """Verified e-mail addresses, or subjects where there is one provider."""
    when: When | None = None
    """Conditions about the person alone: `user`, `group`, `claim`, `department`, `location`, `provider`."""


class BreakGlass(Model):
    """Accounts that may do what rules deny, in an emergency: they say why, everybody who watches is told, and it ends.
    What no route allows to anybody stays closed to strangers and to everyone else."""

    accounts: list[str]
    """Verified e-mail addresses, or subjects where there is one provider."""
    for_: Duration = Field(3_600.0, alias="for")
    """How long it lasts, once begun; at most `4h`."""


class RouteGroup(Model):
    """What several routes have in common. Routes name it as `group`; they may tighten it, never loosen it."""

    later: ClassVar[frozenset[str]] = frozenset({"profile", "session"})

    require: Require = Require()
    """What every rule of these routes asks of people at least."""
    rules: list[Rule] = []
    """Rules that deny, on each of these routes."""
    mask: list[Mask] = []
    """What not everybody may see in answers of these routes; rules may name them as the route's own."""
