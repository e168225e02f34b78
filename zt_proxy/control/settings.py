"""What control needs to know, in plain values: declared here by the consumer, made by `config.build`.

Durations are seconds. Secrets are `core.keys.Secret`, which never prints.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from zt_proxy.core.keys import Secret


class ProviderSettings(msgspec.Struct, frozen=True):
    """One OpenID provider, as the operator registered the proxy there."""

    name: str
    display_name: str
    issuer: str
    """Exact string; the discovery document and every token must carry it unchanged."""
    client_id: str
    client_secret: Secret | None
    client_auth: str = "client_secret_basic"
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    acr_values: tuple[str, ...] = ()
    """Sent, and any one of them accepted as proof of a second factor."""
    amr_values: tuple[str, ...] = (
        "mfa",
        "otp",
        "hwk",
        "swk",
        "sms",
        "pop",
        "fpt",
        "face",
        "iris",
        "retina",
        "vbm",
        "sc",
    )
    """Authentication methods (RFC 8176), any one of which counts as a second factor."""
    insecure_no_mfa: bool = False
    groups_claim: str = "groups"
    claims: tuple[str, ...] = ()
    """Further ID-token claims that rules may use."""
    ca: Path | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256", "PS256", "EdDSA")
    timeout: float = 10.0
    max_age: float | None = None
    """Sent as max_age at each sign-in: how old the provider's own session may be."""


class SessionSettings(msgspec.Struct, frozen=True):
    idle: float = 1800.0
    absolute: float = 43_200.0


class AppHost(msgspec.Struct, frozen=True):
    """A protected host, as the portal must know it to hand a sign-in over."""

    host: str
    origin: str
    route_names: tuple[str, ...]


class AuditSettings(msgspec.Struct, frozen=True):
    directory: Path
    rotate_bytes: int = 256 * 1024 * 1024


class RevocationSource(msgspec.Struct, frozen=True):
    """The revocation lists of one file of certificate authorities, as a listener names them."""

    ca: Path
    """PEM, one or more authorities; every list must be signed by one of them, and each of them needs a list."""
    crls: tuple[Path, ...]
    """Base CRLs, PEM or DER, one or several to a file. Control watches them."""


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
    session_cookie: str = "__Host-zt"
    login_cookie: str = "__Host-zt-login"
    pending_logins: int = 10_000
    pending_logins_per_address: int = 50
    logins_at_once: int = 32
    """Sign-ins in exchange with one provider at once."""
    logins_waiting: int = 64
    """Sign-ins that wait for their turn, over all providers."""
    login_lifetime: float = 600.0
    code_lifetime: float = 60.0
    assertion_rotation: float = 30 * 86_400.0
    """Age at which a new assertion key takes over; the old one stays published for `assertion_overlap`."""
    assertion_overlap: float = 3_600.0
    revocation: tuple[RevocationSource, ...] = ()
    """One for each listener that asks for client certificates and names revocation lists."""
    insecure: tuple[str, ...] = ()
    """Names of the insecure_ switches that are on, logged at start."""
