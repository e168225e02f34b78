"""Facts in, decision out: the two values around which policy, gateway and record agree."""

from enum import StrEnum

import msgspec

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level, Principal, Session


class Effect(StrEnum):
    ALLOW = "allow"
    CHALLENGE = "challenge"
    DENY = "deny"


class Mode(StrEnum):
    """`report` evaluates and records, and never has an effect on the user."""

    ENFORCE = "enforce"
    REPORT = "report"
    OFF = "off"


class ChallengeKind(StrEnum):
    LOGIN = "login"
    MFA = "mfa"
    REAUTH = "reauth"


class Facts(msgspec.Struct, frozen=True, gc=False):
    """Everything a decision may depend on. `path` is canonical: the bytes that go upstream, without the query."""

    now: float
    route: str
    method: bytes
    path: bytes
    client: str
    """Address of the client, after trusted proxies."""
    principal: Principal | None
    session: Session | None


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What the policy says, as a value; the gateway chooses the response from it."""

    effect: Effect
    reason: Reason
    rule: str = ""
    """Id of the rule that decided; empty when none did."""
    challenge: ChallengeKind | None = None
    max_age: float = 0.0
    """With a REAUTH challenge: how old, in seconds, a proof may be; 0: any that was made in this session."""
    reported: tuple[str, ...] = ()
    """`rule:effect` of rules in report mode that would have decided otherwise."""
    level: Level = Level.SINGLE
    """With a REAUTH challenge, and with an ALLOW that spends a proof: how strong the proof has to be."""
    once: bool = False
    """With the same: the proof is good for this one request."""
    spend: str = ""
    """With an ALLOW: the key in `Session.proofs` of a proof that is good once. It is no permission before control says
    that nobody else has spent it: `Permitted` refuses it."""
