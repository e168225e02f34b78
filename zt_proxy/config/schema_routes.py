"""Routes: what is protected. Who may do what there is in `schema_rules`."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from zt_proxy.config.schema_base import Duration, Model, SecretText, Size
from zt_proxy.config.schema_mask import Answers, Mask
from zt_proxy.config.schema_rules import Require, Rule
from zt_proxy.config.tree import Mapping


class Upstream(Model):
    """The protected platform. `upstream: URL` is short for a mapping with `url` alone."""

    later: ClassVar[frozenset[str]] = frozenset({"health", "balance", "retries"})

    url: str
    """`http://host:port`, `https://host:port` or `unix:/path.sock`; no path."""
    ca: str | None = None
    """PEM file of the CA that signed the platform's certificate; left out: the system's."""
    certificate: str | None = None
    """PEM file of the client certificate the proxy shows to the platform."""
    key: str | None = None
    """PEM file of its key."""
    server_name: str | None = None
    """Name expected in the platform's certificate, and sent as SNI; left out: the host of `url`."""
    connect_timeout: Duration = 5.0
    """To connect, TLS included."""
    first_byte_timeout: Duration = 60.0
    """From the end of the request to the first byte of the answer."""
    idle_timeout: Duration = 55.0
    """How long an unused connection is kept."""
    max_connections: int = Field(256, ge=1)
    """Connections at once, from each worker."""


class Paths(Model):
    """What a platform needs of paths beyond the strict default. Each key loosens one check."""

    encoded_slash: Literal["allow", "refuse"] = "refuse"
    """`%2F` in a path."""
    double_slash: Literal["allow", "refuse"] = "refuse"
    """`//` in a path."""
    parameters: Literal["allow", "refuse"] = "refuse"
    """`;` in a path."""
    encoded_delimiters: Literal["allow", "refuse"] = "refuse"
    """`%3F`, `%23` and `%25` in a path."""
    case: Literal["sensitive", "insensitive"] = "sensitive"
    """`insensitive` for platforms that fold the case of paths, so that rules cannot be passed by it."""


class RouteSession(Model):
    """Shorter bounds than the general `session`."""

    idle: Duration | None = None
    """Ends after this long without activity of the person."""
    absolute: Duration | None = None
    """Ends this long after the sign-in."""
    ignore: list[str] = []
    """Path templates of requests that are never activity."""


class Cors(Model):
    """Foreign origins whose scripts may use the route."""

    origins: list[str]
    """Exact origins, such as `https://tools.example.com`."""
    credentials: bool = True
    """Whether they may use the person's session."""


class SharedSecret(Model):
    """A header that proves to the platform that plain identity headers come from the proxy."""

    header: str
    """Name of the header."""
    value: SecretText
    """`${env:NAME}` or `${file:PATH}`."""


def _upstream(value: Any) -> Any:
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, Mapping):
        raise ValueError("expected a URL such as `http://127.0.0.1:1880`, or a mapping with `url`")
    return value


class Route(Model):
    """A host, or a path of it, and the platform behind."""

    later: ClassVar[frozenset[str]] = frozenset(
        {
            "networks",
            "access_level",
            "client_certificates",
            "forward_auth",
            "tokens",
            "rate",
            "risk",
            "when",
        }
    )

    name: str
    """Name in logs, decisions and `verify-upstream`; unique."""
    host: str
    """Public host name, with the public port unless it is the portal's."""
    path: str = "/"
    """Path prefix; matches whole segments."""
    upstream: Annotated[Upstream, BeforeValidator(_upstream)]
    """The platform: a URL, or a mapping with more to say."""
    profile: str | None = None
    """What requests mean on this platform: the name of a profile that comes along, or a YAML file (it ends in `.yaml`).
    Rules that name actions or objects need it."""
    group: str | None = None
    """Name under `route_groups`, whose `require` and `rules` count here as well."""
    rules: list[Rule] = []
    """Who may do what; nothing matched is denied."""
    provider: str | None = None
    """The provider whose people are known here. Others are strangers: they are sent to sign in there."""
    require: Require = Require()
    """What every rule of the route asks of people at least."""
    audience: str | None = None
    """`aud` of the assertion; left out: `https://` and the host."""
    strip_prefix: bool = False
    """Take `path` off before the request goes to the platform."""
    preserve_host: bool = True
    """Send the public host upstream; `false`: the upstream's own."""
    paths: Paths = Paths()
    """What the platform needs of paths beyond the strict default."""
    session: RouteSession = RouteSession()
    """Shorter bounds than the general `session`."""
    cors: Cors | None = None
    """Foreign origins; left out: none."""
    identity_headers: Literal["assertion", "remote-user", "x-forwarded-user", "x-auth-request"] = "assertion"
    """The signed assertion alone, or with it plain headers for platforms that know nothing better."""
    shared_secret: SharedSecret | None = None
    """Proves to the platform that plain identity headers come from the proxy."""
    forward_authorization: bool = False
    """Let the client's `Authorization` header through to the platform."""
    machines_only: bool = False
    """Never answer with a redirect or a page."""
    helper: Literal["off", "inject"] = "off"
    """`inject`: put `/.zt/session.js` into the app's pages, past their Content-Security-Policy; with it scripts wait
    while a person confirms, instead of failing. An app may also include the script by itself."""
    mask: list[Mask] = []
    """What not everybody may see in answers."""
    answers: Answers = Answers()
    """What is done with answers, for those for whom something is masked."""
    insecure_root_service_worker: bool = False
    """Let the app install a service worker over its whole origin; it could then read the codes of a sign-in."""
    body_limit: Size | None = None
    """Largest request body; left out: `limits.body`."""
    mode: Literal["enforce", "report", "off"] = "enforce"
    """`report`: decisions of all rules are recorded, without an effect on whoever signed in. `off`: no rule counts, so
    everything is denied."""
