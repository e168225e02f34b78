"""Who vouches for people: providers, and the bounds of sign-ins under way."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import ClassVar, Literal

from pydantic import Field

from zt_proxy.config.schema_base import Duration, Model, SecretText
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


class Provider(Model):
    """An OpenID provider, as the proxy is registered there."""

    later: ClassVar[frozenset[str]] = frozenset({"preset", "tenant", "private_key", "userinfo", "scim"})

    issuer: str
    """Issuer URL, exactly as the provider's discovery document spells it."""
    client_id: str
    """Client id of the registration."""
    client_secret: SecretText | None = None
    """Client secret, as `${env:NAME}` or `${file:PATH}`; left out only with `client_auth: none`."""
    display_name: str | None = None
    """Name on the sign-in page; the key of the provider if left out."""
    scopes: list[str] = ["openid", "profile", "email"]
    """Requested scopes; must contain `openid`."""
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
    claims: list[str] = []
    """Further ID-token claims that rules may use."""
    ca: str | None = None
    """PEM file of the CA that signed the provider's certificate; left out: the system's."""
    client_auth: Literal["client_secret_basic", "client_secret_post", "none"] = "client_secret_basic"
    """How the proxy authenticates to the token endpoint (`none`: public client with PKCE)."""
    algorithms: list[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
    ] = ["RS256", "ES256", "PS256", "EdDSA"]
    """Signature algorithms accepted in ID tokens."""
    max_age: Duration | None = None
    """How old the provider's own session may be at a sign-in; left out: as the provider decides."""
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

    later: ClassVar[frozenset[str]] = frozenset({"mfa", "passkeys", "totp", "directory", "scim"})

    providers: dict[str, Provider]
    """OpenID providers by name; with several the sign-in page asks."""
    login: Login = Login()
    """Bounds of unfinished sign-ins."""
