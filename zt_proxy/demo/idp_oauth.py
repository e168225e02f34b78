"""authlib's authorization server, given the demo provider's memory and put onto aiohttp.

authlib decides what is a valid request and writes the tokens; this module only answers its questions (which client,
which code, which key) and carries requests and responses over. Only the code flow is registered, always with PKCE S256.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer, InvalidRequestError, OAuth2Payload, OAuth2Request
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc6749.resource_protector import ResourceProtector
from authlib.oauth2.rfc6750 import BearerTokenGenerator, BearerTokenValidator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants import OpenIDCode, OpenIDToken
from authlib.oidc.rpinitiated import EndSessionEndpoint
from joserfc.jwk import ECKey, KeyParameters, KeySet, RSAKey

from zt_proxy.demo.idp_state import (
    TOKEN_LIFETIME,
    AccessToken,
    BrowserSession,
    Client,
    Code,
    ProviderState,
    RefreshToken,
)
from zt_proxy.demo.people import Person

Pairs = Iterable[tuple[str, str]]


class Payload(OAuth2Payload):  # type: ignore[misc]  # authlib carries no types
    """The parameters of one request, as authlib reads them."""

    def __init__(self, pairs: Pairs) -> None:
        self._lists: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in pairs:
            self._lists[name].append(value)

    @property
    def data(self) -> dict[str, str]:
        """The first value of each parameter."""
        return {name: values[0] for name, values in self._lists.items()}

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        """All values of each parameter: authlib refuses what is sent twice."""
        return self._lists


class Request(OAuth2Request):  # type: ignore[misc]
    """One request on its way into authlib. `session` is the browser's session that a code will speak of."""

    def __init__(
        self, method: str, path: str, headers: Mapping[str, str], pairs: Pairs, session: BrowserSession | None = None
    ) -> None:
        # authlib refuses plain http; `web.serve` already refused it everywhere but on loopback.
        super().__init__(method, f"https://provider.invalid{path}", headers=headers)
        self.payload = Payload(pairs)
        self.session = session

    @property
    def form(self) -> dict[str, str]:
        """The body's parameters, where there is a body."""
        return self.payload.data if self.method == "POST" else {}

    @property
    def args(self) -> dict[str, str]:
        """The query's parameters, where there is no body."""
        return {} if self.method == "POST" else self.payload.data


async def incoming(request: web.Request, session: BrowserSession | None = None) -> Request:
    """What authlib needs of an aiohttp request: the body's parameters of a POST, else the query's."""
    if request.method == "POST":
        form = await request.post()
        pairs = [(name, value) for name, value in form.items() if isinstance(value, str)]
    else:
        pairs = list(request.query.items())
    return Request(request.method, request.path, request.headers, pairs, session)


@dataclass(slots=True)
class Answer:
    """A response out of authlib. Its RFC 9207 and other hooks read and write `location`."""

    status: int
    body: str
    headers: dict[str, str]

    @property
    def location(self) -> str | None:
        """Where the browser is sent, if anywhere."""
        return self.headers.get("Location")

    def to_response(self) -> web.Response:
        """The same for aiohttp."""
        return web.Response(status=self.status, text=self.body, headers=self.headers)


class SigningKeys:
    """The provider's key pair, made at start, and what the world may see of it."""

    def __init__(self, algorithm: str) -> None:
        if algorithm not in ("ES256", "RS256"):
            raise ValueError(f"the demo provider signs with ES256 or RS256, not {algorithm}")
        parameters: KeyParameters = {"use": "sig", "alg": algorithm}
        key: ECKey | RSAKey
        if algorithm == "ES256":
            key = ECKey.generate_key("P-256", parameters, private=True, auto_kid=True)
        else:
            key = RSAKey.generate_key(2048, parameters, private=True, auto_kid=True)
        self.algorithm = algorithm
        self.private = key
        self.public = KeySet([type(key).import_key(key.as_dict(private=False))])


class StrictChallenge(CodeChallenge):  # type: ignore[misc]
    """PKCE as a duty, S256 only (RFC 9700 §2.1.1): authlib alone lets a client with a secret go without."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse an authorization request without an S256 challenge."""
        data = grant.request.payload.data
        if not data.get("code_challenge") or data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE with S256 is required")
        super().validate_code_challenge(grant, redirect_uri)


class CodeFlow(AuthorizationCodeGrant):  # type: ignore[misc]
    """The code flow over the provider's memory."""

    def save_authorization_code(self, code: str, request: Request) -> None:
        """Keep what the token request will need."""
        data = request.payload.data
        assert request.session is not None
        item = Code(
            value=code,
            client_id=request.client.client_id,
            redirect_uri=request.payload.redirect_uri,
            scope=request.scope,
            nonce=data.get("nonce"),
            code_challenge=data["code_challenge"],
            code_challenge_method=data["code_challenge_method"],
            session=request.session,
        )
        self.server.state.codes.put(item, code)
        request.session.clients.add(item.client_id)

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """The code, if it is this client's. It is spent by the first look, also when that attempt fails later."""
        item: Code | None = self.server.state.codes.pop(code)
        return item if item is not None and item.client_id == client.client_id else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """Nothing left to do: a code is gone when it is looked up."""

    def authenticate_user(self, authorization_code: Code) -> Person:
        """The person who signed in."""
        return authorization_code.session.person


class Refresh(RefreshTokenGrant):  # type: ignore[misc]
    """Refresh tokens over the provider's memory, each good once."""

    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        """The token, if it counts."""
        token: RefreshToken | None = self.server.state.refresh_token(refresh_token)
        return token

    def authenticate_user(self, refresh_token: RefreshToken) -> Person:
        """The person as they are now; their ID token speaks of the sign-in of then."""
        self.request.authorization_code = refresh_token
        person = refresh_token.session.person
        now: Person = self.server.state.people.get(person.username, person)
        return now

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        """Nothing left to do: the new one has taken its place."""


class IdTokens(OpenIDCode):  # type: ignore[misc]
    """What goes into an ID token."""

    def __init__(self, state: ProviderState, issuer: str, keys: SigningKeys) -> None:
        super().__init__(require_nonce=False)
        self._state, self._issuer, self._keys = state, issuer, keys

    def resolve_client_private_key(self, client: Client) -> ECKey | RSAKey:
        """The one signing key."""
        return self._keys.private

    def get_client_claims(self, client: Client) -> dict[str, Any]:
        """Issuer, audience and times, by the provider's own clock."""
        now = int(self._state.clock.now())
        return {"iss": self._issuer, "aud": client.client_id, "iat": now, "exp": now + int(TOKEN_LIFETIME)}

    def get_encode_header(self, client: Client) -> dict[str, str]:
        """Names the key, as relying parties that keep several need it."""
        return {"alg": self._keys.algorithm, "kid": str(self._keys.private.kid), "typ": "JWT"}

    def get_authorization_code_claims(self, authorization_code: Code) -> dict[str, Any]:
        """nonce, auth_time, acr, amr as authlib has them, and the session id that a logout names."""
        claims: dict[str, Any] = super().get_authorization_code_claims(authorization_code)
        return {**claims, "sid": authorization_code.session.sid}

    def generate_user_info(self, user: Person, scope: str) -> dict[str, Any]:
        """Who the person is."""
        return person_claims(user, scope)

    def exists_nonce(self, nonce: str, request: Request) -> bool:
        """False: replays are stopped by one-use codes, and a nonce is the client's to check."""
        return False


class RefreshedIdTokens(IdTokens):
    """The same after a refresh."""

    def __call__(self, grant: Any) -> None:
        """There is no authorization request to check."""
        OpenIDToken.__call__(self, grant)


class Logout(EndSessionEndpoint):  # type: ignore[misc]
    """RP-initiated logout. The browser's cookie is the glue's; here the session itself ends."""

    def get_server_jwks(self) -> KeySet:
        """The keys that an `id_token_hint` must be signed with."""
        keys: KeySet = self.server.keys.public
        return keys

    def get_algorithms(self) -> list[str]:
        """The one algorithm in use."""
        return [self.server.keys.algorithm]

    def end_session(self, end_session_request: Any) -> None:
        """Forget the session of this browser and the one that the hint names."""
        claims = end_session_request.id_token_claims or {}
        for sid in {claims.get("sid"), getattr(end_session_request.request.session, "sid", None)}:
            self.server.state.end(sid)


class BearerTokens(BearerTokenValidator):  # type: ignore[misc]
    """Access tokens at the userinfo endpoint."""

    def __init__(self, state: ProviderState) -> None:
        super().__init__(realm="zt demo provider")
        self._state = state

    def authenticate_token(self, token_string: str) -> AccessToken | None:
        """The token's record, or None."""
        return self._state.tokens.get(token_string)


class Server(AuthorizationServer):  # type: ignore[misc]
    """authlib's authorization server over the provider's memory."""

    def __init__(self, state: ProviderState, issuer: str, keys: SigningKeys) -> None:
        super().__init__()  # unknown scopes are ignored (OpenID Connect Core §3.1.2.1), not refused
        self.state, self.issuer, self.keys = state, issuer, keys
        self.register_grant(CodeFlow, [IdTokens(state, issuer, keys), StrictChallenge(required=True)])
        self.register_grant(Refresh, [RefreshedIdTokens(state, issuer, keys)])
        self.register_endpoint(Logout)
        self.register_token_generator(
            "default", BearerTokenGenerator(_access_token, _access_token, expires_generator=int(TOKEN_LIFETIME))
        )
        self.userinfo = ResourceProtector()
        self.userinfo.register_token_validator(BearerTokens(state))

    def query_client(self, client_id: str) -> Client | None:
        """The registered client of that name."""
        return self.state.clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: Request) -> None:
        """Keep the access token for the userinfo endpoint, and the refresh token for the next time."""
        self.state.tokens.put(AccessToken(request.user, token.get("scope", "")), token["access_token"])
        before: Code | RefreshToken = request.authorization_code
        if "refresh_token" in token:
            family = before.family if isinstance(before, RefreshToken) else secrets.token_urlsafe(16)
            kept = RefreshToken(family, before.client_id, before.scope, before.session)
            self.state.keep_refresh_token(token["refresh_token"], kept)

    def create_oauth2_request(self, request: Request) -> Request:
        """Requests arrive here already carried over: reading a body needs `await`, which authlib has not."""
        return request

    def handle_response(self, status: int, body: Any, headers: Iterable[tuple[str, str]]) -> Answer:
        """Carry a response back."""
        fields = dict(headers)
        fields.setdefault("Cache-Control", "no-store")
        return Answer(status, body if isinstance(body, str) else json.dumps(body), fields)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def error_answer(self, request: Request, error: OAuth2Error) -> Answer:
        """An error of the authorization endpoint, with `iss` (RFC 9207) where it goes back to the client."""
        return self.named(self.handle_error_response(request, error))

    def named(self, answer: Answer) -> Answer:
        """The same answer with `iss` added to its redirect (RFC 9207 §2)."""
        if answer.location:
            answer.headers["Location"] = add_params_to_uri(answer.location, [("iss", self.issuer)])
        return answer


def person_claims(person: Person, scope: str) -> dict[str, Any]:
    """The claims about a person that `scope` asks for; `sub` and `groups` always, as company directories do."""
    words = scope.split()
    claims: dict[str, Any] = {"sub": person.subject, "groups": list(person.groups)}
    if "profile" in words:
        claims |= {"name": person.name, "preferred_username": person.username}
    if "email" in words:
        claims |= {"email": person.email, "email_verified": True}
    return claims


def _access_token(**_: Any) -> str:
    return secrets.token_urlsafe(32)
