"""One sign-in with one OpenID provider: authorization code flow with PKCE (OpenID Connect Core §3.1, RFC 9700)."""

import hashlib
import re
from base64 import b64encode as plain_b64encode
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp
import msgspec
import structlog

from zt_proxy.control.identity.claims import Expectation, login_from_token
from zt_proxy.control.identity.discovery import Discovery, Metadata
from zt_proxy.control.identity.fetch import Fetcher, Reply, invalid, json_body
from zt_proxy.control.identity.jwks import JwksCache
from zt_proxy.control.identity.levels import wanted
from zt_proxy.control.identity.logout import read_logout
from zt_proxy.control.identity.strict import parse_object
from zt_proxy.control.identity.tokens import LOGOUT_TOKEN, TokenVerifier
from zt_proxy.control.identity.types import IdentityProvider, LoginRefused, LogoutNotice, VerifiedLogin
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, ConfigurationError, ProviderError, Reason
from zt_proxy.core.keys import Secret, b64encode
from zt_proxy.core.session import Level

CLIENT_AUTH = ("client_secret_basic", "client_secret_post", "none")
MAX_CODE = 4_096
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
MAX_DESCRIPTION = 200

log = structlog.get_logger(__name__)


class _Tokens(msgspec.Struct, frozen=True):
    id_token: Secret
    access_token: Secret


class OidcProvider(IdentityProvider):
    """Relying party of one provider. Nothing is fetched before the first sign-in.

    `redirect_uri` comes from the configuration, never from a request (ZT-OIDC-28). `http`, if given, stays the
    caller's to close. Raises ConfigurationError for settings that cannot work.
    """

    def __init__(
        self, settings: ProviderSettings, *, redirect_uri: str, clock: Clock, http: aiohttp.ClientSession | None = None
    ) -> None:
        if settings.client_auth not in CLIENT_AUTH:
            raise ConfigurationError(f"provider {settings.name}: client_auth must be one of {', '.join(CLIENT_AUTH)}")
        if settings.client_auth != "none" and settings.client_secret is None:
            raise ConfigurationError(f"provider {settings.name}: {settings.client_auth} needs a client_secret")
        self.name = settings.name
        self.display_name = settings.display_name
        self.issuer = settings.issuer
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._clock = clock
        self._fetcher = Fetcher(ca=settings.ca, timeout=settings.timeout, http=http)
        self._discovery = Discovery(settings, self._fetcher, clock)
        self._jwks = JwksCache(self._fetch_jwks, provider=settings.name, clock=clock)
        self._verifier = TokenVerifier(settings.algorithms, self._jwks)

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
        essential: bool = True,
    ) -> str:
        """See IdentityProvider. Raises ValueError for a verifier that RFC 7636 §4.1 does not allow."""
        if not _VERIFIER.fullmatch(verifier):
            raise ValueError("PKCE verifier must be 43 to 128 unreserved characters")
        metadata = await self._discovery.get()
        # No refresh token is wanted, so none is asked for.
        scopes = dict.fromkeys(("openid", *(s for s in self._settings.scopes if s != "offline_access")))
        query = {
            "response_type": "code",
            "response_mode": "query",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": b64encode(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        limit = self._max_age(max_age)
        if force:
            query["prompt"] = "login"
            limit = 0.0 if limit is None else limit  # only a max_age obliges the provider to send auth_time (§2)
        if limit is not None:
            query["max_age"] = str(int(limit))
        query |= self._demand(metadata, level, essential=essential)
        if login_hint is not None:
            query["login_hint"] = login_hint
        return _with_query(metadata.authorization_endpoint, query)

    async def finish(
        self,
        *,
        parameters: Mapping[str, str],
        nonce: str,
        verifier: str,
        max_age: float | None,
        forced_after: float | None,
    ) -> VerifiedLogin:
        """See IdentityProvider."""
        metadata = await self._discovery.get()
        code = self._read_response(parameters, metadata)
        tokens = await self._exchange(metadata, code, verifier)
        verified = await self._verifier.verify(tokens.id_token.reveal())
        expected = Expectation(
            nonce=nonce,
            access_token=tokens.access_token,
            now=self._clock.now(),
            max_age=self._max_age(max_age),
            forced_after=forced_after,
        )
        return login_from_token(verified, tokens.id_token, self._settings, expected)

    async def logout_url(self, *, id_token: Secret | None, post_logout_redirect_uri: str, state: str) -> str | None:
        """See IdentityProvider. Signing out here must not fail because the provider is down."""
        try:
            metadata = await self._discovery.get()
        except ProviderError as error:
            log.warning("provider logout skipped", provider=self.name, detail=error.detail)
            return None
        if metadata.end_session_endpoint is None:
            return None
        query = {
            "client_id": self._settings.client_id,
            "post_logout_redirect_uri": post_logout_redirect_uri,
            "state": state,
        }
        if id_token is not None:
            query["id_token_hint"] = id_token.reveal()
        return _with_query(metadata.end_session_endpoint, query)

    async def logout_notice(self, token: str) -> LogoutNotice:
        """See IdentityProvider."""
        verified = await self._verifier.verify(token, LOGOUT_TOKEN)
        return read_logout(verified.claims, self._settings, self._clock.now())

    async def frame_origins(self) -> tuple[str, ...]:
        """See IdentityProvider."""
        urls = [self.issuer]
        try:
            metadata = await self._discovery.get()
        except ProviderError as error:
            log.warning("provider origins unknown", provider=self.name, detail=error.detail)
        else:
            urls += [metadata.authorization_endpoint, metadata.end_session_endpoint or self.issuer]
        parts = (urlsplit(url) for url in urls)
        return tuple(dict.fromkeys(f"{part.scheme}://{part.netloc}" for part in parts))

    async def close(self) -> None:
        """See IdentityProvider."""
        self._discovery.cancel()
        self._jwks.cancel()
        await self._fetcher.close()

    def _demand(self, metadata: Metadata, level: Level | None, *, essential: bool) -> dict[str, str]:
        """How strong the proof shall be: `acr_values` is a wish (OpenID Connect Core §3.1.2.1), an essential claim is a
        demand (§5.5.1.1) that some providers answer with an error, and others by asking for what is missing."""
        values = wanted(self._settings, Level.MULTI if level is None else level)
        if not values:
            return {}
        asked = {"acr_values": " ".join(values)}
        if level is not None and metadata.claims_parameter:
            claim = {"essential": essential, "values": list(values)}
            asked["claims"] = msgspec.json.encode({"id_token": {"acr": claim}}).decode()
        return asked

    def _max_age(self, asked: float | None) -> float | None:
        """The stricter of what the caller and the operator ask for."""
        limits = [limit for limit in (asked, self._settings.max_age) if limit is not None]
        return min(limits, default=None)

    def _read_response(self, parameters: Mapping[str, str], metadata: Metadata) -> Secret:
        """The code of an authorization response that is this provider's (RFC 9207 §2.4, before all else)."""
        sender = parameters.get("iss")
        if sender is None and metadata.sends_iss:
            raise ClientError(Reason.LOGIN_TOKEN_INVALID, "call-back without iss although the provider sends it")
        if sender is not None and sender != self._settings.issuer:
            raise ClientError(Reason.LOGIN_TOKEN_INVALID, "call-back with the iss of another provider")
        if "error" in parameters:
            raise LoginRefused(_error_code(parameters["error"]), _description(parameters.get("error_description", "")))
        code = parameters.get("code", "")
        if not 0 < len(code) <= MAX_CODE:
            raise ClientError(Reason.LOGIN_TOKEN_INVALID, "call-back without a usable code")
        return Secret(code)

    async def _exchange(self, metadata: Metadata, code: Secret, verifier: str) -> _Tokens:
        form = {
            "grant_type": "authorization_code",
            "code": code.reveal(),
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {}
        client_id, secret = self._settings.client_id, self._settings.client_secret
        if self._settings.client_auth == "client_secret_basic" and secret is not None:
            # RFC 6749 §2.3.1: each form-encoded on its own before they are joined.
            pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}"
            headers["Authorization"] = "Basic " + plain_b64encode(pair.encode()).decode()
        else:
            form["client_id"] = client_id
            if secret is not None and self._settings.client_auth == "client_secret_post":
                form["client_secret"] = secret.reveal()
        reply = await self._fetcher.post_form(metadata.token_endpoint, "token endpoint", form, headers)
        return _read_tokens(reply)

    async def _fetch_jwks(self) -> bytes:
        metadata = await self._discovery.get()
        return json_body(await self._fetcher.get(metadata.jwks_uri, "JWKS"), "JWKS")


def _read_tokens(reply: Reply) -> _Tokens:
    """RFC 6749 §5.1 and §5.2. Nothing of the body shows in an error but a checked error code."""
    if reply.status in {400, 401, 403}:
        raise _token_refusal(reply)
    body = json_body(reply, "token endpoint")
    try:
        answer = parse_object(body)
    except ValueError as error:
        raise invalid(f"token endpoint: {error}") from None
    kind, access_token, id_token = (answer.get(name) for name in ("token_type", "access_token", "id_token"))
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise invalid("token endpoint: token_type is not Bearer")
    if not isinstance(access_token, str) or not access_token:
        raise invalid("token endpoint: no access_token")
    if not isinstance(id_token, str) or not id_token:
        raise invalid("token endpoint: no id_token; is the scope openid granted?")
    return _Tokens(id_token=Secret(id_token), access_token=Secret(access_token))


def _token_refusal(reply: Reply) -> ProviderError:
    try:
        code = _error_code(parse_object(reply.body).get("error"))
    except ValueError:
        return invalid(f"token endpoint: status {reply.status} without an OAuth error")
    if code == "invalid_grant":  # used, expired or foreign code, or wrong verifier: this sign-in, not the set-up
        return LoginRefused(code)
    return invalid(f"token endpoint: refused with {code}")


def _error_code(value: object) -> str:
    return value if isinstance(value, str) and _ERROR_CODE.fullmatch(value) else "unreadable_error"


def _description(text: str) -> str:
    """Foreign text for a page: one line, cut. The page escapes it."""
    return "".join(char if char.isprintable() else " " for char in text[:MAX_DESCRIPTION]).strip()


def _with_query(endpoint: str, query: Mapping[str, str]) -> str:
    return endpoint + ("&" if "?" in endpoint else "?") + urlencode(query)
