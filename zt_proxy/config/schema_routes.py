"""Routes and rules: what is protected, and who may do what."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema

from zt_proxy.config.schema_base import Duration, Model, Reauth, SecretText, Size
from zt_proxy.config.tree import Mapping

NO_ACTIONS = "actions need a profile, which is not built yet"
_WORDS = {"public": "public", "anyone-signed-in": "anyone-signed-in"}


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


class Match(Model):
    """Requests by method and path. A key left out means any."""

    later: ClassVar[frozenset[str]] = frozenset({"action", "actions", "query", "headers", "body", "fields"})

    methods: list[str] | None = None
    """Upper-case methods."""
    paths: list[str] | None = None
    """Path templates over the full path, as the client sees it, also with `strip_prefix`."""


class To(Model):
    """Whom a rule is for. Any one of `users`, `groups` or `integrations` is enough; every claim named must fit as well,
    for people."""

    later: ClassVar[frozenset[str]] = frozenset({"roles", "devices", "services", "access_level"})

    groups: list[str] = []
    """Groups, exactly as the provider spells them."""
    users: list[str] = []
    """Verified e-mail addresses, or subjects (`sub`); with several providers a subject is written `PROVIDER:SUBJECT`,
    unless `providers` or the route's `provider` says whose it is."""
    providers: list[str] = []
    """Whose people the rule is for; left out: every provider's. It narrows the rest, and alone means all of them."""
    claims: dict[str, list[str]] = {}
    """ID-token claims and the values of which one is needed; name them in the provider's `claims` too."""
    integrations: list[str] = []
    """Names of integrations: to `deny` them what their own `allow` gives, or to allow them more."""
    _word: str = PrivateAttr("")

    @property
    def word(self) -> str:
        """`public` or `anyone-signed-in` when the rule says so instead of a mapping."""
        return self._word


class Require(Model):
    """What must be shown on top of the sign-in. At the top level it is a floor for every rule, on a route for the
    route's: what is below may ask for more, never for less. People alone are asked: integrations have no session, and
    rules for `public` and those that deny ask nothing."""

    later: ClassVar[frozenset[str]] = frozenset({"justify", "approve", "device", "access_level"})

    mfa: Literal["single", "multi", "phishing-resistant"] | None = None
    """How strong the proof has to be: the sign-in's own, or one made for this rule since."""
    reauth: Reauth | None = None
    """The proof may be no older; the person is asked anew. `once`: a proof for each request, good for nothing else."""


def _upstream(value: Any) -> Any:
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, Mapping):
        raise ValueError("expected a URL such as `http://127.0.0.1:1880`, or a mapping with `url`")
    return value


def _matches(value: Any) -> Any:
    if value == "all":
        return [Match()]
    if isinstance(value, str):
        raise ValueError(
            f"`{value}` is not a list of matches; {NO_ACTIONS}; write `all` or a list of {{methods, paths}}"
        )
    return value


def _match(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"`{value}`: {NO_ACTIONS}; expected {{methods: […], paths: […]}}")
    if isinstance(value, Mapping) and not value and not value.damaged:
        raise ValueError("an empty match; write `all` instead of the list to mean every request")
    return value


def _to(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in _WORDS:
        raise ValueError(
            f"`{value}` is nobody known; expected `public`, `anyone-signed-in` or a mapping of groups, users, claims"
        )
    to = To()
    to._word = value
    return to


_MATCH_SCHEMA = {
    "oneOf": [
        {"const": "all"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": {
                    "methods": {"type": "array", "items": {"type": "string"}},
                    "paths": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    ]
}
Matches = Annotated[
    list[Annotated[Match, BeforeValidator(_match)]], BeforeValidator(_matches), WithJsonSchema(_MATCH_SCHEMA)
]
_TO_SCHEMA = {
    "oneOf": [
        {"enum": sorted(_WORDS)},
        {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": {
                "groups": {"type": "array", "items": {"type": "string"}},
                "users": {"type": "array", "items": {"type": "string"}},
                "providers": {"type": "array", "items": {"type": "string"}},
                "integrations": {"type": "array", "items": {"type": "string"}},
                "claims": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    ]
}


class Rule(Model):
    """One rule: `allow` or `deny`, never both. Deny beats allow; what no rule allows is denied."""

    later: ClassVar[frozenset[str]] = frozenset({"when", "risk", "mask", "limits", "obligations"})

    id: str
    """Name of the rule in decisions and on the denied page; unique within the route."""
    allow: Matches | None = None
    """`all`, or a list of matches."""
    deny: Matches | None = None
    """`all`, or a list of matches."""
    to: Annotated[To, BeforeValidator(_to), WithJsonSchema(_TO_SCHEMA)] | None = None
    """`public`, `anyone-signed-in`, or `{groups, users, claims, integrations}`. A `deny` without it is for everyone,
    integrations included, and one for `anyone-signed-in` too; an `allow` for that word is for people alone."""
    require: Require = Require()
    """What must be shown on top of the sign-in."""
    mode: Literal["enforce", "report", "off"] = "enforce"
    """`report`: evaluated and recorded, without an effect."""
    insecure_allow_everyone: bool = False
    """Needed on a rule that lets anyone do anything."""


class Route(Model):
    """A host, or a path of it, and the platform behind."""

    later: ClassVar[frozenset[str]] = frozenset(
        {
            "profile",
            "mask",
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
    insecure_root_service_worker: bool = False
    """Let the app install a service worker over its whole origin; it could then read the codes of a sign-in."""
    body_limit: Size | None = None
    """Largest request body; left out: `limits.body`."""
    mode: Literal["enforce", "report"] = "enforce"
    """`report`: decisions of all rules are recorded, without an effect."""
