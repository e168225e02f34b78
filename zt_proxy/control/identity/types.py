"""What the rest of control sees of an identity provider."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from zt_proxy.core.errors import ProviderError, Reason
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level, Principal


class VerifiedLogin(msgspec.Struct, frozen=True):
    """A sign-in whose ID token verified in every respect; nothing else makes one. Times: seconds since the epoch."""

    principal: Principal
    acr: str
    """Empty when the provider sent none."""
    amr: tuple[str, ...]
    auth_time: float
    """When the person last proved who they are; 0 when the provider does not say."""
    mfa: bool
    """A second factor was attested in the signed token, or the operator chose `insecure_no_mfa`. Without it nobody may
    get in before a factor of their own was shown."""
    id_token: Secret
    """As received: the hint for RP-initiated logout."""
    provider_sid: str | None
    """The provider's own session id (`sid`), by which it will later name the session to end."""
    provider: str
    issued: float = 0.0
    """`iat` of the ID token, by the provider's clock: a logout that it announced later concerns this login."""
    refresh_token: Secret | None = None
    """Only if the provider gave one and is configured to be asked again."""
    renew_in: float = 0.0
    """Seconds after which `refresh_token` is to be used."""
    level: Level = Level.SINGLE
    """How strong a proof the signed token attests, and what own factors added to it."""


class LogoutNotice(msgspec.Struct, frozen=True):
    """A provider's word, verified, that a session is over. Times: seconds since the epoch, by the provider's clock."""

    issuer: str
    sid: str | None
    """The provider's session; what belongs to it ends."""
    subject: str | None
    """The person; without `sid` all their sessions of this provider end."""
    issued: float
    """What a provider attested later than this goes on."""
    token_id: str
    expires: float


class Renewed(msgspec.Struct, frozen=True):
    """What a provider gave for a refresh token."""

    used: Secret
    token: Secret
    """The one to use next: a new one, or the same."""
    principal: Principal | None
    """Who the person is now; None: the provider said nothing, or nothing that verifies."""
    id_token: Secret | None
    again_in: float
    """Seconds until the next refresh."""
    fault: ProviderError | None = None
    """Why what was said is not believed. `token` counts all the same."""


class LoginRefused(ProviderError):
    """The provider answered the sign-in with an error (RFC 6749 §4.1.2.1).

    `error` is a short code of safe characters. `description` is the provider's text: cut, without control
    characters, and still foreign text that a page must escape (ZT-OIDC-24).
    """

    status = 403

    def __init__(self, error: str, description: str = "") -> None:
        super().__init__(Reason.LOGIN_REFUSED_BY_PROVIDER, error)
        self.error = error
        self.description = description


class NotAdmitted(ProviderError):
    """A refresh gave the provider's own word on this very person, by which they would not be let in."""


class IdentityProvider(Protocol):
    """One place where people can sign in."""

    name: str
    display_name: str
    issuer: str

    async def authorization_url(
        self,
        *,
        state: str,
        nonce: str,
        verifier: str,
        max_age: float | None,
        force: bool,
        login_hint: str | None = None,
        level: Level | None = None,
        essential: bool = False,
    ) -> str:
        """Where to send the browser. `verifier` is PKCE's (RFC 7636, 43 to 128 characters); only its hash leaves.

        `max_age` (seconds) tightens the provider's configured one. `force` asks for a fresh proof (`prompt=login`).
        `level` asks for a proof that strong (None: two factors, as a wish), where the configuration names values of
        `acr` for it; `essential`: rather refuse than answer with less. Whoever asks compares `VerifiedLogin.level`.
        Raises ProviderError(PROVIDER_UNREACHABLE or PROVIDER_INVALID).
        """
        ...

    async def finish(
        self,
        *,
        parameters: Mapping[str, str],
        nonce: str,
        verifier: str,
        max_age: float | None,
        forced_after: float | None,
    ) -> VerifiedLogin:
        """Turn the call-back's query into a verified sign-in. The caller has already matched `state`.

        `forced_after`: the time at which a fresh proof was asked for with `force`; an older one is refused.
        Raises LoginRefused, ProviderError or ClientError with a Reason.LOGIN_… or Reason.PROVIDER_….
        """
        ...

    async def logout_url(self, *, id_token: Secret | None, post_logout_redirect_uri: str, state: str) -> str | None:
        """RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0); None if the provider has none or is down."""
        ...

    async def logout_notice(self, token: str) -> LogoutNotice:
        """Verify a logout token (OpenID Connect Back-Channel Logout 1.0 §2.6). Whether it was used before is not asked.

        Raises ClientError(LOGOUT_TOKEN_INVALID), ProviderError(LOGIN_TOKEN_INVALID or PROVIDER_…).
        """
        ...

    def frame_origins(self) -> tuple[str, ...]:
        """Whose pages may show the front-channel logout in a frame. Never asks: strangers can call for it."""
        ...

    async def close(self) -> None:
        """Release connections this provider opened itself."""
        ...
