"""What a worker needs to know, in plain values: declared here by the consumer, made by `config.build`.

Durations are seconds, sizes are bytes, hosts are lower case without a trailing dot and without a default port.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from zt_proxy.core.session import Level
from zt_proxy.policy.geo import OriginSettings
from zt_proxy.policy.profile_spec import ProfileSpec
from zt_proxy.policy.risk import RiskSettings
from zt_proxy.policy.spec import Condition, RouteRules


class CertificateSettings(msgspec.Struct, frozen=True):
    """A chain and its key, and the DNS names (also `*.example.com`) of the leaf's SAN for which SNI chooses it."""

    chain: Path
    key: Path
    names: tuple[str, ...]


class ClientCertificateSettings(msgspec.Struct, frozen=True):
    """Terms under which connections are asked for a client certificate."""

    ca: Path
    """PEM: the authorities that may vouch for clients, and no others."""
    required: bool = False
    """Whoever shows none is refused; else they may still be a person."""
    hosts: tuple[str, ...] = ()
    """Server names (also `*.example.com`) for which these terms hold; empty: every one of the listener."""
    revocation: bool = False
    """Each issuer in the chain must have a revocation list in force; without one its certificates are refused."""


class CertificateMatch(msgspec.Struct, frozen=True):
    """How an integration's certificate is known. All that is given must fit; everything is compared exactly."""

    sha256: str = ""
    """Of the whole certificate, lower-case hexadecimal."""
    san_uri: str = ""
    """The one URI in the subject alternative names."""
    san_dns: str = ""
    """A DNS name there, lower case."""
    issuer: tuple[tuple[str, ...], ...] = ()
    """Distinguished names as `identify.certificate.name_key` gives them."""
    subject: tuple[tuple[str, ...], ...] = ()


class IntegrationSettings(msgspec.Struct, frozen=True):
    """A machine that comes in by certificate. What it may do is in the rules of the routes."""

    name: str
    owner: str
    certificates: tuple[CertificateMatch, ...]
    """Any one is enough: while certificates are changed, there are two."""
    expires: float | None = None
    """Epoch seconds of its end."""
    rate: float | None = None
    """Requests a second, over all workers."""


class ListenerSettings(msgspec.Struct, frozen=True):
    name: str
    host: str
    port: int
    """0 asks the kernel for a free port."""
    certificates: tuple[CertificateSettings, ...]
    """The first is the default for an unknown or missing SNI."""
    minimum_tls: str = "1.2"
    proxy_protocol_from: tuple[str, ...] = ()
    """Networks whose connections must begin with a PROXY protocol header; empty: none may."""
    client_certificates: tuple[ClientCertificateSettings, ...] = ()
    """At most one without `hosts`; empty: nobody is asked for a certificate."""


class LimitSettings(msgspec.Struct, frozen=True):
    """Bounds that hold for every connection."""

    connections: int = 10_000
    connections_per_address: int = 1_000
    handshake_timeout: float = 10.0
    header_timeout: float = 10.0
    """From the first byte of a request (or the accept) to the end of its head."""
    body_idle_timeout: float = 30.0
    keepalive_timeout: float = 75.0
    request_timeout: float = 0.0
    """Total time of a request that is neither a stream nor an upgrade; 0: none."""
    minimum_rate: int = 500
    """Bytes per second, both ways, after `rate_grace`."""
    rate_grace: float = 10.0
    header_count: int = 100
    header_bytes: int = 32 * 1024
    target_bytes: int = 8 * 1024
    websocket_message: int = 64 * 1024 * 1024
    buffer: int = 256 * 1024
    """Bytes held for a slow reader before its source is paused."""


class UpstreamSettings(msgspec.Struct, frozen=True):
    """Where a route's requests go."""

    scheme: str
    """http, https or unix"""
    host: str = ""
    port: int = 0
    path: str = ""
    """Socket path, with scheme unix."""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    connect_timeout: float = 5.0
    first_byte_timeout: float = 60.0
    idle_timeout: float = 55.0
    """How long an unused connection is kept."""
    max_connections: int = 256


class PathSettings(msgspec.Struct, frozen=True):
    """What a platform needs of the target beyond the strict default."""

    encoded_slash: bool = False
    double_slash: bool = False
    parameters: bool = False
    """`;` in a path"""
    encoded_delimiters: bool = False
    """%3F, %23 and %25 in a path"""
    case_insensitive: bool = False


class MaskSpec(msgspec.Struct, frozen=True):
    """Values in answers of JSON that not everybody may see."""

    name: str
    fields: tuple[str, ...]
    """Paths, as `protect.mask.paths` reads them."""
    way: str = "fixed"
    """What becomes of them: `remove`, `fixed`, `last4` or `hash`."""
    value: str = ""
    """With `fixed`: the JSON that takes their place; empty: something of the same kind that says nothing."""
    applies: Condition | None = None
    """Who is masked, and when: everybody for whom this is not known to be false. None: everybody."""
    named_only: bool = False
    """Only for requests whose rule names the mask. One that a rule names counts there whatever `applies` says."""
    case_insensitive: bool = False
    """ASCII letters of names match in either case."""
    headers: tuple[str, ...] = ()
    """Lower-case names of response headers that are left out as well."""


class AnswerSettings(msgspec.Struct, frozen=True):
    """What is done with answers of a route that has masks, for those whom they concern."""

    limit: int = 1024 * 1024
    """Bytes of an answer, decoded, that are held and looked into."""
    pass_types: tuple[str, ...] = (
        "image/*",
        "font/*",
        "text/css",
        "text/javascript",
        "application/javascript",
        "text/html",
        "application/wasm",
    )
    """Media types that are no data: passed on, unless the body begins like JSON."""
    insecure_pass: bool = False
    """Pass on what cannot be looked into; else it is refused."""
    websocket: bool = False
    """Let WebSockets through, into which nobody looks."""


class RouteSettings(msgspec.Struct, frozen=True):
    name: str
    host: str
    """As in the Host header, with the port unless 443."""
    prefix: bytes
    """Canonical path prefix, `/` for all; matches whole segments."""
    upstream: UpstreamSettings
    rules: RouteRules
    audience: str
    """`aud` of the assertion."""
    strip_prefix: bool = False
    preserve_host: bool = True
    """Send the client's Host upstream (else the upstream's own authority)."""
    paths: PathSettings = PathSettings()
    body_limit: int = 1024**3
    idle_timeout: float | None = None
    absolute_timeout: float | None = None
    idle_ignore: tuple[str, ...] = ()
    """Path templates of requests that are never activity."""
    cors_origins: tuple[str, ...] = ()
    cors_credentials: bool = True
    identity_headers: str = "assertion"
    """`assertion` alone, or with it a plain preset: `remote-user`, `x-forwarded-user`, `x-auth-request`."""
    shared_secret_header: tuple[str, str] | None = None
    """Name and value of a header that proves to the platform that plain identity headers come from the proxy."""
    forward_authorization: bool = False
    """Let the client's Authorization header through (off: the platform never sees a bearer credential)."""
    machines_only: bool = False
    """Never answer with a redirect or a page."""
    helper: bool = False
    """Put `/.zt/session.js` into the app's pages."""
    profile: ProfileSpec | None = None
    """What the platform's requests mean; None: rules name methods and paths alone."""
    insecure_root_service_worker: bool = False
    """Let the app install a service worker over its whole origin, the way back from the sign-in included."""

    masks: tuple[MaskSpec, ...] = ()
    answers: AnswerSettings = AnswerSettings()

    def __repr__(self) -> str:
        """Without the shared secret: settings end up in logs and tracebacks."""
        return f"RouteSettings(name={self.name!r}, host={self.host!r}, prefix={self.prefix!r})"


class PortalSettings(msgspec.Struct, frozen=True):
    """Where people sign in: the public origin, and the private socket of the control process behind it."""

    origin: str
    host: str
    socket: Path


class WorkerSettings(msgspec.Struct, frozen=True):
    listeners: tuple[ListenerSettings, ...]
    routes: tuple[RouteSettings, ...]
    portal: PortalSettings
    issuer: str
    """`iss` of the assertion: the portal's origin."""
    runtime_dir: Path
    limits: LimitSettings = LimitSettings()
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose X-Forwarded-For is believed, right to left."""
    session_cookie: str = "__Host-zt"
    login_cookie: str = "__Host-zt-login"
    device_cookie: str = "__Host-zt-device"
    session_recheck: float = 30.0
    form_limit: int = 4 * 1024 * 1024
    """Bytes of a form that control keeps until its sender has proven who they are; 0: none is."""
    drain: float = 30.0
    metrics: tuple[str, int] | None = None
    """Host and port of the private metrics and health listener."""
    ring_bytes: int = 16 * 1024 * 1024
    integrations: tuple[IntegrationSettings, ...] = ()
    origins: OriginSettings = OriginSettings()
    risk: RiskSettings = RiskSettings()
    strongest: Mapping[str, Level] = {}
    """Provider → the best proof that its people can give here: a lock asks for it. One that is not here: the best."""
    rate_shares: int = 1
    """Workers that share what is counted per worker: each gets its part, rounded up."""
