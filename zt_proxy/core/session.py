"""Who asks, and what they have proven: values that control makes and workers read."""

from collections.abc import Mapping

import msgspec

ClaimValue = str | int | float | bool | tuple[str, ...]


class Principal(msgspec.Struct, frozen=True, gc=False):
    """A person (later: an integration) as the identity provider vouches for them."""

    subject: str
    issuer: str
    provider: str
    """Name of the provider in the configuration; a session remembers its own."""
    email: str | None = None
    """Only if the provider says it verified it."""
    name: str | None = None
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, ClaimValue] = {}
    """Other claims of the ID token that rules may ask for."""


class Session(msgspec.Struct, frozen=True, gc=False):
    """A signed-in person at one host, as a worker caches it. All times are seconds since the epoch.

    Control owns the truth. `last_activity` is what control knew when it sent this; only control declares a
    session idle, because it alone has heard from every worker.
    """

    sid: str
    """Opaque public id, the same for all hosts of this sign-in; safe to log and to put in the assertion."""
    host: str
    """The one host (lower case, with port unless 443) at which the handle counts."""
    principal: Principal
    acr: str
    amr: tuple[str, ...]
    mfa: bool
    """The provider attested a second factor, or the operator chose `insecure_no_mfa`."""
    auth_time: float
    """When the person last proved who they are at sign-in (not at a step-up)."""
    created: float
    last_activity: float
    idle_timeout: float
    absolute_deadline: float
    unlocks: Mapping[str, float] = {}
    """`unlock_key(route, rule)` → time of the proof made for it."""


def unlock_key(route: str, rule: str) -> str:
    """The scope of a step-up: one rule of one route, inside one session (ZT-APP-02, ZT-SESS-18)."""
    return f"{route}\x1f{rule}"
