"""One sign-in with one OpenID provider: authorization code flow with PKCE (OpenID Connect Core §3.1, RFC 9700)."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec
import structlog

from zt_proxy.control.identity import par
from zt_proxy.control.identity.claims import Expectation, is_overage, login_from_token, renewed_principal
from zt_proxy.control.identity.client_auth import client_authentication
from zt_proxy.control.identity.directory import directory_of
from zt_proxy.control.identity.discovery import Discovery, Metadata
from zt_proxy.control.identity.fetch import Fetcher, invalid, json_body
from zt_proxy.control.identity.jwks import JwksCache
from zt_proxy.control.identity.levels import wanted
from zt_proxy.control.identity.logout import read_logout
from zt_proxy.control.identity.presets import PRESETS
from zt_proxy.control.identity.refresh import renew_in
from zt_proxy.control.identity.replies import Tokens, read_renewal, read_tokens, safe_code
from zt_proxy.control.identity.tokens import LOGOUT_TOKEN, TokenVerifier
from zt_proxy.control.identity.types import IdentityProvider, LoginRefused, LogoutNotice, Renewed, VerifiedLogin
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, ConfigurationError, ProviderError, Reason
from zt_proxy.core.keys import Secret, b64encode
from zt_proxy.core.session import Level, Principal

MAX_CODE = 4_096
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
MAX_DESCRIPTION = 200

log = structlog.get_logger(__name__)


class OidcProvider(IdentityProvider):
    """Relying party of one provider. Nothing is fetched before the first sign-in.

    `redirect_uri` comes from the configuration, never from a request (ZT-OIDC-28); a provider with one of its own gets
    its name added. `http`, if given, stays the caller's to close. Raises ConfigurationError for settings that cannot
    work.
    """

    def __init__(
        self, settings: ProviderSettings, *, redirect_uri: str, clock: Clock, http: aiohttp.ClientSession | None = None
    ) -> None:
        self._client = client_authentication(settings, clock)
        if settings.par not in par.MODES:
            raise ConfigurationError(f"provider {settings.name}: par must be one of {', '.join(par.MODES)}")
        self.name = settings.name
        self.display_name = settings.display_name
        self.issuer = settings.issuer
        self._settings = settings
        own = "?" + urlencode({"provider": settings.name}) if settings.own_callback else ""
        self._redirect_uri = redirect_uri + own
        self._clock = clock
        self._fetcher = Fetcher(ca=settings.ca, timeout=settings.timeout, http=http)
        self._preset = PRESETS[settings.preset]
        self._directory = directory_of(settings, self._fetcher, clock)
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
        essential: bool = False,
    ) -> str:
        """See IdentityProvider. Raises ValueError for a verifier that RFC 7636 §4.1 does not allow."""
        if not _VERIFIER.fullmatch(verifier):
            raise ValueError("PKCE verifier must be 43 to 128 unreserved characters")
        metadata = await self._discovery.get()
        if self._settings.one_of_several and not (metadata.sends_iss or self._settings.own_callback):
            # Another provider could have this one's codes sent to itself, and use them here (RFC 9700 §4.4).
            raise invalid("one of several providers, and its answers carry no iss (RFC 9207): set `callback: own`")
        wanted_scopes = (s for s in self._settings.scopes if s != "offline_access" or self._settings.refresh)
        scopes = dict.fromkeys(("openid", *wanted_scopes))
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
        query |= self._preset.request(self._settings.tenant)
        query |= self._demand(metadata, level, essential=essential)
        if login_hint is not None:
            query["login_hint"] = login_hint
        if par.pushes(self._settings.par, metadata):
            query = await par.push(self._fetcher, self._client, metadata, query)
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
        login = login_from_token(verified, tokens.id_token, self._settings, expected)
        login = await self._with_groups(login, verified.claims, tokens.access_token)
        if not self._settings.refresh or tokens.refresh_token is None:
            return login
        again = renew_in(self._settings, tokens.lifetime)
        return msgspec.structs.replace(login, refresh_token=tokens.refresh_token, renew_in=again)

    async def renew(self, token: Secret, who: Principal) -> Renewed:
        """Ask again who somebody is (RFC 6749 §6, OpenID Connect Core §12). Whatever the answer says of the person, the
        token in it is the one that counts from now on.

        Raises LoginRefused when the provider takes the token no more; ProviderError(PROVIDER_…) when it cannot say.
        """
        if who.issuer != self.issuer:  # the configuration changed: what one provider gave is not for another
            raise invalid("the session is another issuer's")
        metadata = await self._discovery.get()
        form, headers = {"grant_type": "refresh_token", "refresh_token": token.reveal()}, dict[str, str]()
        self._client.add(form, headers, token_endpoint=metadata.token_endpoint)
        reply = await self._fetcher.post_form(metadata.token_endpoint, "token endpoint", form, headers)
        answer = read_renewal(reply)
        principal, fault = None, None
        if answer.id_token is not None:
            try:
                verified = await self._verifier.verify(answer.id_token.reveal())
                principal = renewed_principal(verified, answer.access_token, self._settings, who, self._clock.now())
                principal = await self._groups_of(principal, verified.claims, answer.access_token)
            except ProviderError as error:
                principal, fault = None, error
        return Renewed(
            used=token,
            token=answer.refresh_token or token,
            principal=principal,
            id_token=None if principal is None else answer.id_token,
            again_in=renew_in(self._settings, answer.lifetime),
            fault=fault,
        )

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

    def frame_origins(self) -> tuple[str, ...]:
        """See IdentityProvider."""
        urls, metadata = [self.issuer], self._discovery.known
        if metadata is not None:
            urls += [metadata.authorization_endpoint, metadata.end_session_endpoint or self.issuer]
        parts = (urlsplit(url) for url in urls)
        return tuple(dict.fromkeys(f"{part.scheme}://{part.netloc}" for part in parts))

    async def close(self) -> None:
        """See IdentityProvider."""
        self._discovery.cancel()
        self._jwks.cancel()
        await self._fetcher.close()

    async def _with_groups(
        self, login: VerifiedLogin, claims: Mapping[str, Any], access_token: Secret
    ) -> VerifiedLogin:
        principal = await self._groups_of(login.principal, claims, access_token)
        return msgspec.structs.replace(login, principal=principal)

    async def _groups_of(self, principal: Principal, claims: Mapping[str, Any], access_token: Secret) -> Principal:
        """With the groups that the provider's directory knows, where the token does not carry them."""
        left_out = not principal.groups and is_overage(claims, self._settings.groups_claim)
        if self._directory is None:
            if left_out:  # there is an address to ask at, and nothing to ask with
                raise ProviderError(Reason.LOGIN_GROUPS_OVERAGE, "groups are not in the token", status=403)
            return principal
        if not (left_out or self._directory.always):
            return principal
        groups = await self._directory.groups(principal.subject, access_token)
        return msgspec.structs.replace(principal, groups=groups)

    def _demand(self, metadata: Metadata, level: Level | None, *, essential: bool) -> dict[str, str]:
        """How strong the proof shall be: `acr_values` is a wish (OpenID Connect Core §3.1.2.1), an essential claim is a
        demand (§5.5.1.1) that some providers answer with an error, and others by asking for what is missing."""
        values = wanted(self._settings, Level.MULTI if level is None else level)
        if not values:
            return {}
        asked = {"acr_values": " ".join(values)}
        if level is not None and (metadata.claims_parameter or self._preset.claims_parameter):
            claim: dict[str, object] = {"essential": essential or self._preset.always_essential}
            claim |= {"value": values[0]} if len(values) == 1 else {"values": values}
            asked["claims"] = msgspec.json.encode({"id_token": {self._preset.acr_claim: claim}}).decode()
        return asked

    def _max_age(self, asked: float | None) -> float | None:
        """The stricter of what the caller and the operator ask for."""
        limits = [limit for limit in (asked, self._settings.max_age) if limit is not None]
        return min(limits, default=None)

    def _read_response(self, parameters: Mapping[str, str], metadata: Metadata) -> Secret:
        """The code of an authorization response that is this provider's (RFC 9207 §2.4, before all else)."""
        if parameters.get("provider") != (self.name if self._settings.own_callback else None):
            raise ClientError(Reason.LOGIN_TOKEN_INVALID, "call-back at the redirect URI of another provider")
        sender = parameters.get("iss")
        if sender is None and metadata.sends_iss:
            raise ClientError(Reason.LOGIN_TOKEN_INVALID, "call-back without iss although the provider sends it")
        if sender is not None and sender != self._settings.issuer:
            raise ClientError(Reason.LOGIN_TOKEN_INVALID, "call-back with the iss of another provider")
        if "error" in parameters:
            raise LoginRefused(safe_code(parameters["error"]), _description(parameters.get("error_description", "")))
        code = parameters.get("code", "")
        if not 0 < len(code) <= MAX_CODE:
            raise ClientError(Reason.LOGIN_TOKEN_INVALID, "call-back without a usable code")
        return Secret(code)

    async def _exchange(self, metadata: Metadata, code: Secret, verifier: str) -> Tokens:
        form = {
            "grant_type": "authorization_code",
            "code": code.reveal(),
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {}
        self._client.add(form, headers, token_endpoint=metadata.token_endpoint)
        return read_tokens(await self._fetcher.post_form(metadata.token_endpoint, "token endpoint", form, headers))

    async def _fetch_jwks(self) -> bytes:
        metadata = await self._discovery.get()
        return json_body(await self._fetcher.get(metadata.jwks_uri, "JWKS"), "JWKS")


def _description(text: str) -> str:
    """Foreign text for a page: one line, cut. The page escapes it."""
    return "".join(char if char.isprintable() else " " for char in text[:MAX_DESCRIPTION]).strip()


def _with_query(endpoint: str, query: Mapping[str, str]) -> str:
    return endpoint + ("&" if "?" in endpoint else "?") + urlencode(query)
