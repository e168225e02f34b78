"""What control needs to know, in plain values: declared here by the consumer, made by `config.build`.

Durations are seconds. Secrets are `core.keys.Secret`, which never prints.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level
from zt_proxy.link.locks import LockEffect
from zt_proxy.policy.geo import OriginSettings
from zt_proxy.policy.risk import RiskSettings
from zt_proxy.policy.spec import Approve


class ClientKeySettings(msgspec.Struct, frozen=True):
    """The key of `private_key_jwt` (RFC 7523)."""

    key: Path
    """PEM: RSA of 2048 bits or more, or P-256."""
    key_id: str = ""
    """`kid` in the header."""
    certificate: Path | None = None
    """Its thumbprint goes into the header (`x5t#S256`)."""
    algorithm: str = ""
    """RS256, PS256 or ES256; empty: RS256 or ES256, as the key is."""
    audience: str = "issuer"
    """`issuer` or `token-endpoint`."""


class ServiceAccountSettings(msgspec.Struct, frozen=True):
    """With what the Directory API of Google Workspace is asked for groups."""

    key: Path
    """The JSON file that Google makes."""
    administrator: str
    """In whose name (domain-wide delegation): an address that may read groups."""


class ProviderSettings(msgspec.Struct, frozen=True):
    """One OpenID provider, as the operator registered the proxy there."""

    name: str
    display_name: str
    issuer: str
    """Exact string; the discovery document and every token must carry it unchanged."""
    client_id: str
    client_secret: Secret | None
    client_auth: str = "client_secret_basic"
    client_key: ClientKeySettings | None = None
    par: str = "auto"
    """Pushed authorization requests (RFC 9126): `auto` where the provider offers them, `require`, `off`."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    acr: Mapping[str, Level] = {}
    """What each value of `acr` attests, in the order in which they are asked for; any other attests nothing."""
    amr: Mapping[str, Level] | None = None
    """What each value of `amr` attests, alone; None: as RFC 8176 describes them, see `identity.levels`."""
    insecure_no_mfa: bool = False
    groups_claim: str = "groups"
    claims: tuple[str, ...] = ()
    """Further ID-token claims that rules may use."""
    ca: Path | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256", "PS256", "EdDSA")
    timeout: float = 10.0
    max_age: float | None = None
    """Sent as max_age at each sign-in: how old the provider's own session may be."""
    refresh: bool = True
    """A refresh token, where the provider gives one, is used to ask it again who the person is."""
    refresh_every: float = 300.0
    """Seconds between two refreshes of a session at most; sooner where access tokens live shorter."""
    preset: str = "generic"
    """See `identity.presets`."""
    tenant: str = ""
    """What a token must belong to, where the preset checks it: Entra's tenant ID, Google's domain."""
    directory: str = ""
    """Origin of the interface that is asked for groups; empty: the token alone says them."""
    service_account: ServiceAccountSettings | None = None
    domains: tuple[str, ...] = ()
    """Lower-case domains of e-mail addresses; who gives one of them is sent here."""
    foreign_domains: tuple[str, ...] = ()
    """Those of the other providers: an address there counts from nobody else."""
    own_callback: bool = False
    """Its redirect URI is no other provider's: `/.zt/callback?provider=NAME`."""
    one_of_several: bool = False
    """Its answers must be told from another's: by `iss` (RFC 9207), or by a redirect URI of its own."""


class SessionSettings(msgspec.Struct, frozen=True):
    idle: float = 1800.0
    absolute: float = 43_200.0
    limit: int = 0
    """Sessions of one person at once; 0: any number."""
    refuse_beyond: bool = False
    """At the limit the new sign-in is refused; otherwise the oldest session ends."""


class MailTls(StrEnum):
    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    INSECURE_NONE = "insecure_none"


class MailSettings(msgspec.Struct, frozen=True):
    """The server that takes the proxy's mail (RFC 6409)."""

    host: str
    port: int
    sender: str
    """`name@example.com`, without a display name."""
    tls: MailTls = MailTls.STARTTLS
    username: str = ""
    password: Secret | None = None
    ca: Path | None = None
    """PEM file of the CA that signed the server's certificate; None: the system's."""
    timeout: float = 20.0


class FactorSettings(msgspec.Struct, frozen=True):
    """`identity.mfa`: how strongly everybody proves who they are, and the proxy's own second factors."""

    rp_id: str = ""
    """Relying party id of passkeys: the portal's host without the port (WebAuthn §4). A passkey works there alone."""
    origin: str = ""
    """The portal's origin, exactly as a browser spells it."""
    rp_name: str = "zt-proxy"
    """What people see in their authenticator."""
    accept: frozenset[str] = frozenset({"provider", "passkey", "totp"})
    """Whose word counts for a second factor."""
    level: Level = Level.MULTI
    """What every sign-in has to prove."""
    enrolment: Literal["open", "grant"] = "open"
    """`grant`: a factor is added only with the permission of an administrator."""
    aaguids: frozenset[str] = frozenset()
    """Makes of authenticators (lower-case UUIDs) whose passkeys may be added; empty: all."""
    attestation_ca: Path | None = None
    """PEM: who has to have vouched for the make. None: an authenticator is believed what it says it is."""


class AppHost(msgspec.Struct, frozen=True):
    """A protected host, as the portal must know it to hand a sign-in over."""

    host: str
    origin: str
    route_names: tuple[str, ...]
    providers: Mapping[str, str] = {}
    """Route → the one provider whose people it takes; a route that is not here takes those of any."""


class AuditSettings(msgspec.Struct, frozen=True):
    directory: Path
    rotate_bytes: int = 256 * 1024 * 1024


class RevocationSource(msgspec.Struct, frozen=True):
    """The revocation lists of one file of certificate authorities, as a listener names them."""

    ca: Path
    """PEM, one or more authorities; every list must be signed by one of them, and each of them needs a list."""
    crls: tuple[Path, ...]
    """Base CRLs, PEM or DER, one or several to a file. Control watches them."""


class Respond(StrEnum):
    """What a detector does about what it finds."""

    REPORT = "report"
    """It tells, and says what it would have locked."""
    ENFORCE = "enforce"
    """It tells, and locks."""
    OFF = "off"


class Response(msgspec.Struct, frozen=True):
    respond: Respond = Respond.REPORT
    effect: LockEffect = LockEffect.NO_EXPORT
    lasts: float | None = None
    """Seconds; None: until somebody has reviewed it."""


class VolumeSettings(msgspec.Struct, frozen=True):
    """More than a person usually takes out of a route."""

    factor: float = 10.0
    """Times the usual."""
    floor: int = 20_000_000
    """Bytes of a window that are never too many."""
    requests_floor: int = 500
    """Requests of a window that are never too many."""
    learn: float = 3 * 86_400.0
    """How long the history has to be; 0: none is needed."""
    windows: tuple[float, ...] = (60.0, 600.0)
    """Lengths, the shortest first."""
    response: Response = Response()


class FirstUseSettings(msgspec.Struct, frozen=True):
    """An application or action outside the habit of a person and of their groups."""

    learn: float = 14 * 86_400.0
    response: Response = Response(effect=LockEffect.STEP_UP, lasts=3_600.0)


class WebhookSettings(msgspec.Struct, frozen=True):
    """Who is told of alerts."""

    url: str
    secret: Secret
    """Signs every message: HMAC-SHA256."""
    ca: Path | None = None
    """PEM: the only authorities that are trusted there; None: the system's."""
    timeout: float = 10.0


class WatchSettings(msgspec.Struct, frozen=True):
    """What is watched, and who is told."""

    volume: VolumeSettings = VolumeSettings()
    first_use: FirstUseSettings = FirstUseSettings()
    changes: frozenset[str] = frozenset({"access-control", "integration", "data-handling"})
    """Kinds of configuration whose change is told each time."""
    webhooks: tuple[WebhookSettings, ...] = ()
    quiet: float = 600.0
    """Seconds in which the same thing of the same person is counted, not told again."""


class BreakGlassSettings(msgspec.Struct, frozen=True):
    """Who may do what rules deny, in an emergency."""

    accounts: tuple[str, ...] = ()
    """Subjects or verified addresses; empty: nobody."""
    lasts: float = 3_600.0
    """Seconds from its beginning to its end; at most four hours."""


class ApprovalSettings(msgspec.Struct, frozen=True):
    """A rule that asks for somebody else's word."""

    route: str
    rule: str
    approve: Approve


class ControlSettings(msgspec.Struct, frozen=True):
    portal_origin: str
    portal_host: str
    socket: Path
    state_dir: Path
    """Store, key ring and assertion keys live here, mode 0700."""
    runtime_dir: Path
    providers: tuple[ProviderSettings, ...]
    apps: Mapping[str, AppHost]
    audit: AuditSettings
    session: SessionSettings = SessionSettings()
    factors: FactorSettings = FactorSettings()
    session_cookie: str = "__Host-zt"
    login_cookie: str = "__Host-zt-login"
    device_cookie: str = "__Host-zt-device"
    """At the portal's host: a browser that a person has signed in with before. It lets nobody in."""
    mail: MailSettings | None = None
    """None: no mail is sent."""
    pending_logins: int = 10_000
    pending_logins_per_address: int = 50
    logins_at_once: int = 32
    """Sign-ins in exchange with one provider at once."""
    logins_waiting: int = 64
    """Sign-ins that wait for their turn, over all providers."""
    login_lifetime: float = 600.0
    code_lifetime: float = 60.0
    form_limit: int = 4 * 1024 * 1024
    """Bytes of a form that is kept until its sender has proven who they are; 0: none is."""
    assertion_rotation: float = 30 * 86_400.0
    """Age at which a new assertion key takes over; the old one stays published for `assertion_overlap`."""
    assertion_overlap: float = 3_600.0
    revocation: tuple[RevocationSource, ...] = ()
    """One for each listener that asks for client certificates and names revocation lists."""
    origins: OriginSettings = OriginSettings()
    risk: RiskSettings = RiskSettings()
    watch: WatchSettings = WatchSettings()
    break_glass: BreakGlassSettings = BreakGlassSettings()
    approvals: tuple[ApprovalSettings, ...] = ()
    """Of every rule of every route that asks for one, the floors above it included."""
    integrations: tuple[str, ...] = ()
    """Names of those that the configuration knows."""
    insecure: tuple[str, ...] = ()
    """Names of the insecure_ switches that are on, logged at start."""
