"""The whole file, as a strict schema. Docstrings under the keys are the reference manual's text."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from zt_proxy.config.schema_base import Duration, Model, Rate, Size, TlsVersion
from zt_proxy.config.schema_guard import Guard
from zt_proxy.config.schema_identity import Identity
from zt_proxy.config.schema_machines import ClientCertificates, Integration, also_alone, one_or_many
from zt_proxy.config.schema_mail import Mail
from zt_proxy.config.schema_policy import Attributes, BreakGlass, GeoIp, Role, RouteGroup
from zt_proxy.config.schema_risk import Risk
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Require, Rule
from zt_proxy.config.schema_watch import Alerts, Watch
from zt_proxy.config.schema_when import Named, When


class Certificate(Model):
    """One certificate chain and its key. Relative paths start at the folder of the YAML file."""

    certificate: str
    """PEM file: the leaf certificate first, then the intermediates."""
    key: str
    """PEM file of the private key, without a passphrase."""


class Tls(Model):
    """Write either `certificate` and `key`, or `certificates` for several chosen by SNI."""

    certificate: str | None = None
    """PEM file: the leaf certificate first, then the intermediates."""
    key: str | None = None
    """PEM file of the private key, without a passphrase."""
    certificates: list[Certificate] = []
    """Several chains; SNI chooses by the names in the leaf, the first serves an unknown name."""
    minimum: TlsVersion = "1.2"
    """Oldest TLS version that is spoken."""


class ProxyProtocol(Model):
    """A balancer in front that tells the client's address by the PROXY protocol (v1 or v2)."""

    from_: list[str] = Field(alias="from")
    """Networks of the balancers. Their connections must begin with the header; nobody else's may."""


class Listener(Model):
    """A TCP port on which HTTPS is served."""

    name: str
    """Name in logs and metrics."""
    address: str
    """`host:port`, such as `0.0.0.0:8443` or `[::]:8443`."""
    tls: Tls
    """Certificates; a listener without TLS does not exist."""
    proxy_protocol: ProxyProtocol | None = None
    """Left out: no connection may carry a PROXY protocol header."""
    client_certificates: Annotated[
        list[ClientCertificates], BeforeValidator(one_or_many), Field(json_schema_extra=also_alone)
    ] = []
    """Left out: nobody is asked for a client certificate."""


class Portal(Model):
    """Where people sign in. The provider's redirect URI is `url` + `/.zt/callback`."""

    url: str
    """Public origin, such as `https://auth.example.com`, with the port unless it is 443."""


class Session(Model):
    """How long a sign-in lasts. Routes may shorten it."""

    later: ClassVar[frozenset[str]] = frozenset({"binding", "store"})

    preset: Literal["aal2", "aal3"] | None = None
    """Lengths of NIST SP 800-63B: `aal2` is `idle: 30m` and `absolute: 12h`; `aal3` is `idle: 15m` and `absolute: 12h`,
    and every sign-in and every rule then asks for `phishing-resistant` proof at least. Other keys may only tighten
    it."""
    idle: Duration = 1_800.0
    """Ends after this long without activity of the person."""
    absolute: Duration = 43_200.0
    """Ends this long after the sign-in, whatever happens."""
    limit: int | None = Field(None, ge=1)
    """Sessions that one person may have at once; left out: any number."""
    limit_policy: Literal["end-oldest", "refuse"] = "end-oldest"
    """What a sign-in beyond `limit` does: the session that began first ends, or the sign-in is refused."""
    recheck: Duration = 30.0
    """How often open streams and WebSockets are decided again."""
    form_limit: Size = 4 * 1024 * 1024
    """Largest form that is kept while a person proves who they are, to be sent on afterwards; at most 8 MiB, `0B`: none
    is kept."""


class Assertion(Model):
    """The key that signs the identity header `X-ZT-Assertion`."""

    rotation: Duration = 30 * 86_400.0
    """Age at which a new key takes over."""
    overlap: Duration = 3_600.0
    """How long the old key stays published."""


class Limits(Model):
    """Bounds that hold for every connection."""

    connections: int = Field(10_000, ge=1)
    """Connections at once, in each worker."""
    connections_per_address: int = Field(1_000, ge=1)
    """The same from one client address."""
    handshake_timeout: Duration = 10.0
    """To finish the TLS handshake."""
    header_timeout: Duration = 10.0
    """From the first byte of a request to the end of its head."""
    body_idle_timeout: Duration = 30.0
    """Longest pause within a request body."""
    keepalive_timeout: Duration = 75.0
    """Longest pause between requests of a connection."""
    request_timeout: Duration = 0.0
    """Total time of a request that is neither a stream nor an upgrade; `0s`: no bound."""
    minimum_rate: Rate = 500
    """Slower peers are cut, after `rate_grace`."""
    rate_grace: Duration = 10.0
    """How long a peer may be slower than `minimum_rate`."""
    header_count: int = Field(100, ge=1)
    """Header fields of a request."""
    header_bytes: Size = 32 * 1024
    """Size of a request's head."""
    target_bytes: Size = 8 * 1024
    """Size of a request's target."""
    websocket_message: Size = 64 * 1024 * 1024
    """Largest WebSocket message."""
    buffer: Size = 256 * 1024
    """Held for a slow reader before its source is paused."""
    body: Size = 1024**3
    """Largest request body; a route's `body_limit` overrides it."""
    drain: Duration = 30.0
    """How long requests under way may finish after a stop signal."""


class Metrics(Model):
    """Prometheus metrics, `/healthz` and `/readyz` on a private port, without TLS and without sign-in."""

    address: str
    """`host:port`; keep it on a loopback or private address."""


class Audit(Model):
    """The hash-chained record of decisions."""

    later: ClassVar[frozenset[str]] = frozenset({"sinks", "evidence", "retention"})

    directory: str | None = None
    """Folder of the JSON Lines files; left out: `audit` in the state folder."""
    rotate: Size = 256 * 1024 * 1024
    """A new file begins at this size."""
    ring: Size = 16 * 1024 * 1024
    """Shared memory between request path and record writer; when it is full, requests are denied."""


class Log(Model):
    """The program's own log, on standard error."""

    format: Literal["json", "console"] = "json"
    """One JSON object a line, or coloured text for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written."""


class Schema(Model):
    """The top level of the file."""

    later: ClassVar[frozenset[str]] = frozenset({"admin", "egress", "forward_auth", "redis"})

    version: Literal[1]
    """Version of this format."""
    listen: list[Listener]
    """Ports on which HTTPS is served."""
    portal: Portal
    """Where people sign in."""
    identity: Identity
    """Who vouches for people."""
    routes: list[Route]
    """What is protected. Of the routes of a host the one with the longest matching `path` serves a request."""
    require: Require = Require()
    """What every rule of every route asks of people at least."""
    mode: Literal["enforce", "report"] = "enforce"
    """`report`: what rules decide is recorded, on every route, without an effect on whoever signed in."""
    stage: Literal["identity", "least-privilege", "monitor"] | None = None
    """How far the roll-out is. `identity`: people sign in with a second factor, rules report. `least-privilege`: rules
    are enforced, what watches over use reports. `monitor`, or left out: everything as it is written."""
    networks: Named = {}
    """Networks by name, for conditions and for what is usual: `office`, `home` and `hosting` are known to the reckoning
    of risk."""
    geoip: GeoIp = GeoIp()
    """Where addresses are."""
    risk: Risk = Risk()
    """How unusual sign-ins and requests look."""
    attributes: Attributes = Attributes()
    """Which claims say what about a person."""
    roles: dict[str, Role] = {}
    """Roles by name, beside those that providers name."""
    access_levels: dict[str, When] = {}
    """Conditions by name, for `when: {access_level: NAME}`."""
    rules: list[Rule] = []
    """Rules of the organisation, on every route and for integrations too. They deny; only routes allow."""
    route_groups: dict[str, RouteGroup] = {}
    """What several routes have in common, by name."""
    break_glass: BreakGlass | None = None
    """Left out: nobody may do what rules deny."""
    integrations: dict[str, Integration] = {}
    """Machines that come in by client certificate, by name."""
    state_dir: str = "state"
    """Folder of the session store and the keys, made with mode 0700."""
    runtime_dir: str | None = None
    """Folder of sockets and the record ring; left out: `run` in the state folder."""
    session: Session = Session()
    """How long a sign-in lasts."""
    mail: Mail | None = None
    """Left out: no mail is sent, and everything else works."""
    watch: Watch = Watch()
    """What people do, against what they usually do."""
    alerts: Alerts = Alerts()
    """Where alerts go."""
    assertion: Assertion = Assertion()
    """The key that signs the identity header."""
    trusted_proxies: list[str] = []
    """Networks whose `X-Forwarded-For` is believed, right to left."""
    limits: Limits = Limits()
    """Bounds that hold for every connection."""
    metrics: Metrics | None = None
    """Left out: no metrics listener."""
    audit: Audit = Audit()
    """The record of decisions."""
    guard: Guard | None = None
    """Left out: every file without an error is taken over."""
    log: Log = Log()
    """The program's own log."""
    workers: int | None = Field(None, ge=0, le=256)
    """Processes that serve requests, each on one core; left out: one for each core. `0`: one process for everything."""
