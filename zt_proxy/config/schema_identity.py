"""Who vouches for people: providers, and the bounds of sign-ins under way."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import ClassVar, Literal

from pydantic import Field

from zt_proxy.config.schema_base import Duration, Model, SecretText
from zt_proxy.config.schema_mfa import Mfa
from zt_proxy.core.session import Level


class Levels(Model):
    """Values that a provider sends, by the level that each attests."""

    single: list[str] = []
    """One factor."""
    multi: list[str] = []
    """Two factors, or one that is two."""
    phishing_resistant: list[str] = Field([], alias="phishing-resistant")
    """Bound to the origin it was made for: a passkey, a smart card."""

    def by_level(self) -> dict[str, tuple[Level, list[str]]]:
        """Key in the file → level, values."""
        values = {Level.SINGLE: self.single, Level.MULTI: self.multi, Level.PHISHING_RESISTANT: self.phishing_resistant}
        return {level.word: (level, values[level]) for level in Level}


class ClientKey(Model):
    """The key that signs the proxy's assertions (RFC 7523), each good for one minute and one provider."""

    key: str
    """PEM file without a passphrase: RSA of 2048 bits or more, or P-256."""
    id: str = ""
    """`kid`, where the provider needs it to find the public key."""
    certificate: str | None = None
    """PEM file, for providers that find the key by the thumbprint of its certificate (Entra ID)."""
    algorithm: Literal["RS256", "PS256", "ES256"] | None = None
    """Left out: RS256 or ES256, as the key is."""
    audience: Literal["issuer", "token-endpoint"] | None = None
    """Whom the assertion is for. Left out: the issuer, or what the preset's provider insists on."""


class GoogleGroups(Model):
    """How Google's Directory API is asked for a person's groups (by their addresses, five minutes old at most)."""

    service_account: str
    """JSON file of the service account's key. It needs domain-wide delegation for the scope
    `https://www.googleapis.com/auth/admin.directory.group.readonly` alone."""
    administrator: str
    """Address of an administrator that may read groups, in whose name the service account asks."""


class Provider(Model):
    """An OpenID provider, as the proxy is registered there."""

    later: ClassVar[frozenset[str]] = frozenset({"userinfo", "scim"})

    preset: Literal["generic", "keycloak", "entra", "okta", "google"] = "generic"
    """What is known of the provider already: issuer, scopes, levels, checks. What is written here comes first."""
    issuer: str | None = None
    """Issuer URL, exactly as the provider's discovery document spells it; left out where the preset knows it."""
    url: str | None = None
    """Base URL of Keycloak, such as `https://sso.example.com`."""
    realm: str | None = None
    """Name of the realm in Keycloak."""
    tenant: str | None = None
    """Directory (tenant) ID in Entra ID. Tokens of any other are refused."""
    domain: str | None = None
    """With `okta` its domain, such as `acme.okta.com`; with `google` the Workspace's: others' accounts are refused."""
    client_id: str
    """Client id of the registration."""
    client_secret: SecretText | None = None
    """Client secret, as `${env:NAME}` or `${file:PATH}`; left out only with `client_auth: none`."""
    display_name: str | None = None
    """Name on the sign-in page; the key of the provider if left out."""
    domains: list[str] = []
    """Domains of e-mail addresses whose people sign in here: with it the sign-in page asks for the address. What other
    providers say of such addresses does not count."""
    scopes: list[str] | None = None
    """Requested scopes; must contain `openid`. Left out: `openid`, `profile`, `email`, and what the preset adds."""
    acr: Levels = Levels()
    """Values of the `acr` claim by what they attest: asked for at a sign-in (those of `multi` and above) and at a
    step-up (those of its level and above), and counted when they come back. Any other value attests nothing."""
    acr_values: list[str] = []
    """Short for `acr: {multi: […]}`."""
    amr: Levels | None = None
    """Values of the `amr` claim by what each attests, alone. Left out: two different kinds of factor of RFC 8176 (`pwd`
    and `otp`), or `mfa`, attest `multi`; nothing attests `phishing-resistant`."""
    amr_values: list[str] | None = None
    """Short for `amr: {multi: […]}`."""
    groups_claim: str = "groups"
    """ID-token claim that lists a person's groups."""
    groups_from: GoogleGroups | None = None
    """With `google`: ask the Directory API for groups, which no token of Google's carries."""
    claims: list[str] = []
    """Further ID-token claims that rules may use."""
    ca: str | None = None
    """PEM file of the CA that signed the provider's certificate; left out: the system's."""
    client_auth: Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "none"] | None = None
    """How the proxy authenticates to the provider (`none`: public client with PKCE); left out: `private_key_jwt` with a
    `private_key`, else `client_secret_basic`."""
    private_key: ClientKey | None = None
    """Key for `private_key_jwt`: nothing that the provider stores could be used in the proxy's name."""
    par: Literal["auto", "require", "off"] = "auto"
    """Pushed authorization requests (RFC 9126): `auto` where the provider offers them; `require`: sign-in fails
    otherwise."""
    callback: Literal["shared", "own"] = "shared"
    """Redirect URI to register: `shared`: the portal's `url` + `/.zt/callback`; `own`: the same with `?provider=NAME`.
    One of several providers needs its own, unless its answers carry `iss` (RFC 9207)."""
    algorithms: list[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
    ] = ["RS256", "ES256", "PS256", "EdDSA"]
    """Signature algorithms accepted in ID tokens."""
    max_age: Duration | None = None
    """How old the provider's own session may be at a sign-in; left out: as the provider decides."""
    refresh: bool = True
    """Where the provider gives a refresh token, use it to keep groups and claims of a session current, and to end the
    session when the provider refuses. Some give one only if `scopes` has `offline_access`."""
    refresh_every: Duration = 300.0
    """Longest time for which groups and claims are believed before the provider is asked again; 80 % of the access
    token's life if that is shorter."""
    timeout: Duration = 10.0
    """Longest wait for an answer of the provider."""
    insecure_no_mfa: bool = False
    """Accept sign-ins for which the provider attests no second factor."""
    insecure_http: bool = False
    """Accept an `http:` issuer; only on a loopback address."""


class Login(Model):
    """Bounds of sign-ins that have been started and not finished."""

    lifetime: Duration = 600.0
    """How long a started sign-in can be finished."""
    code_lifetime: Duration = 60.0
    """How long the one-time code that carries a sign-in from the portal to an app's host is good."""
    pending: int = Field(10_000, ge=1)
    """Sign-ins under way at once."""
    pending_per_address: int = Field(50, ge=1)
    """The same from one client address."""
    at_once: int = Field(32, ge=1)
    """Sign-ins in exchange with one provider at once."""
    waiting: int = Field(64, ge=1)
    """Sign-ins that wait for their turn, over all providers; beyond that, 503 with `Retry-After`."""


class Identity(Model):
    """Who vouches for people."""

    later: ClassVar[frozenset[str]] = frozenset({"directory", "scim"})

    providers: dict[str, Provider]
    """OpenID providers by name. With several the route's `provider` or the domain of the address decides, else the
    sign-in page asks."""
    mfa: Mfa = Mfa()
    """The second factor."""
    login: Login = Login()
    """Bounds of unfinished sign-ins."""
