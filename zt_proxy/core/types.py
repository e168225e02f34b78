"""Facts in, decision out: the two values around which policy, gateway and record agree."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level, Principal, Risk, Session


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
    JUSTIFY = "justify"
    """The person has to say why, once in this session."""
    APPROVE = "approve"
    """Another named person has to agree."""


ASKED_OF_PEOPLE = frozenset({ChallengeKind.REAUTH, ChallengeKind.JUSTIFY, ChallengeKind.APPROVE})
"""What somebody who is signed in can still give, at the portal: then the same request goes through."""


class Action(StrEnum):
    """What a request does on a low-code platform; a profile says which request does what."""

    VIEW = "view"
    """Look at something somebody built: a flow, a workflow, an app in its editor."""
    USE = "use"
    """Run or use what somebody built."""
    BUILD = "build"
    """Change something that is not live by that."""
    DEPLOY = "deploy"
    """Make it live."""
    MANAGE_ACCESS = "manage-access"
    MANAGE_INTEGRATIONS = "manage-integrations"
    EXPORT = "export"


class Change(StrEnum):
    """The kind of configuration that a request changes."""

    ACCESS_CONTROL = "access-control"
    INTEGRATION = "integration"
    DATA_HANDLING = "data-handling"
    DEPLOYMENT = "deployment"


class Sensitivity(StrEnum):
    """How much harm the named object can do in wrong hands, from the least."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"


class Act(msgspec.Struct, frozen=True, gc=False):
    """What a request means to its platform, as the route's profile reads it."""

    action: Action | None = None
    """None: no profile, or the profile's `otherwise: deny`; no rule that names actions fits."""
    kind: str = ""
    """Of the object: `flow`, `workflow`, `table`, `app`, `page`, ...; empty: no object is named."""
    object: str = ""
    """Its name, as the platform spells it; rules write `KIND:NAME`."""
    sensitivity: Sensitivity | None = None
    changes: Change | None = None
    matcher: str = ""
    """Id of the profile's matcher; empty: none matched."""
    refused: bool = False
    """The profile does not know this request and refuses what it does not know."""
    owner: str = ""
    """Whose the object is, as the platform spells it; empty: not known."""


NO_ACT = Act()
SEVERAL = "*"
"""In place of an object's name: the request is about several of its kind, or about nobody knows which."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a request comes from; worked out once for each client address."""

    address: str
    """Of the client, after trusted proxies."""
    zones: frozenset[str] = frozenset()
    """Names under `networks` whose networks contain the address."""
    country: str | None = None
    """ISO 3166-1 alpha-2; None: nobody knows."""
    asn: int | None = None
    """Number of the autonomous system; None: nobody knows."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """Everything a decision may depend on. `path` is canonical: the bytes that go upstream, without the query.

    What is None is not known, and a condition about it is neither met nor unmet.
    """

    now: float
    route: str
    method: bytes
    path: bytes
    client: str
    """Address of the client, after trusted proxies."""
    principal: Principal | None
    session: Session | None
    act: Act = NO_ACT
    origin: Origin | None = None
    risk: Risk | None = None
    """Of this request: the session's, with what this very request adds."""
    headers: Mapping[str, str | None] = {}
    """Lower-case name → value of those headers that the route's rules ask for; None: it was not sent. A name that is
    not here is not known."""


class Obligations(msgspec.Struct, frozen=True, gc=False):
    """What comes with an ALLOW."""

    masks: tuple[str, ...] = ()
    """Names of masks that the answer goes through."""
    justification: str = ""
    """What the person said when asked why; signed into the assertion."""
    approved_by: str = ""
    """Who agreed."""
    notify: bool = False
    """Tell those who watch."""
    limit: str = ""
    """Key of the rule's limit: `ROUTE` US `RULE`; the gateway counts."""
    break_glass: bool = False


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
    obligations: Obligations | None = None
    """With an ALLOW; None: none."""
    missing: tuple[str, ...] = ()
    """Facts that a rule asked for and that nobody knows."""
    lock: str = ""
    """Id of the lock that this comes from, whatever the policy said."""
    scope: str = ""
    """With an APPROVE challenge: what stands for all that the rule says now. Nobody has agreed to what it says next."""
