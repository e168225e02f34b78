"""Who asks, and what they have proven: values that control makes and workers read."""

from collections.abc import Mapping
from enum import IntEnum

import msgspec

ClaimValue = str | int | float | bool | tuple[str, ...]


class Level(IntEnum):
    """How strongly somebody proved who they are. Compared as numbers: a higher level is also every lower one."""

    SINGLE = 1
    MULTI = 2
    """Two factors, or one that is two (NIST SP 800-63B §4.2)."""
    PHISHING_RESISTANT = 3
    """Bound to the origin it was made for: a passkey, a smart card (NIST SP 800-63B §5.2.5)."""

    @property
    def word(self) -> str:
        """As it is written in the configuration: `single`, `multi`, `phishing-resistant`."""
        return self.name.lower().replace("_", "-")


class Proof(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Somebody proved who they are: when (epoch seconds), and how strongly."""

    at: float
    level: Level


class RiskLevel(IntEnum):
    """How unusual a session looks. Compared as numbers."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Risk(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A score of 0 to 100, the level it stands for, and each signal's reason, such as `new-device+25`."""

    score: int
    level: RiskLevel
    reasons: tuple[str, ...] = ()


class Approval(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Another person agreed: who, and until when (epoch seconds)."""

    by: str
    until: float
    scope: str = ""
    """`Decision.scope` of what they agreed to. Empty: whatever the rule says; no worker asks for that."""


class Principal(msgspec.Struct, frozen=True, gc=False):
    """A person as the identity provider vouches for them, or an integration as its certificate does."""

    subject: str
    """`sub` of the provider; `integration:NAME` of an integration, which no provider can vouch for."""
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
    integration: str = ""
    """Name in the configuration; empty for a person. What is for people is never for an integration (ZT-SESS-12)."""
    owner: str = ""
    """Who answers for the integration."""


class Machine(msgspec.Struct, frozen=True, gc=False):
    """An integration that has proven itself with one certificate. It has no session: every request is judged anew."""

    principal: Principal
    fingerprint: str
    """SHA-256 of the certificate, lower-case hexadecimal."""
    until: float
    """Epoch seconds of the last moment for which this was proven: the end of the certificate, of its chain, of the
    revocation lists that were asked, or of the integration, whichever comes first."""


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
    """A second factor was shown at the sign-in, or the operator chose `insecure_no_mfa`."""
    auth_time: float
    """When the person last proved who they are at sign-in (not at a step-up)."""
    created: float
    last_activity: float
    idle_timeout: float
    absolute_deadline: float
    level: Level = Level.SINGLE
    """What the sign-in at `auth_time` proved."""
    proofs: Mapping[str, Proof] = {}
    """`unlock_key` → what was proved for it in a step-up."""
    device_known: bool | None = None
    """The sign-in came from a device on which this person had signed in before; None: nobody looked."""
    address: str = ""
    """Client address of the sign-in; empty: not known."""
    agent: str = ""
    """First 16 hexadecimal digits of the SHA-256 of the sign-in's User-Agent; empty: not known."""
    risk: Risk | None = None
    """As control assessed it last; None: nobody did."""
    device: str = ""
    """Id of the known device that signed in; empty: nobody looked."""
    justified: Mapping[str, str] = {}
    """`unlock_key` → what the person said when asked why."""
    approved: Mapping[str, Approval] = {}
    """`unlock_key` → who agreed."""
    break_glass: float = 0.0
    """Until when (epoch seconds) the person may do what rules deny; 0: they may not."""

    def proved(self) -> Proof:
        """The proof of the sign-in itself."""
        return Proof(self.auth_time, self.level)


def unlock_key(route: str, rule: str, request: str = "") -> str:
    """The scope of a step-up: one rule of one route, inside one session (ZT-APP-02, ZT-SESS-18).

    With `request` (see `request_of`) it is one request under that rule, once: `reauth: once`.
    """
    return f"{route}\x1f{rule}\x1f{request}" if request else f"{route}\x1f{rule}"


def request_of(method: bytes, path: bytes) -> str:
    """The name of a request in `unlock_key`: method and canonical path without the query."""
    return f"{method.decode('ascii')} {path.decode('ascii')}"
