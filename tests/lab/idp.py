"""An OpenID provider on loopback that signs people in at once and misbehaves on demand.

async with MockIdp() as idp:
    idp.user = "bob"                     # whom the next visit to the authorization endpoint signs in
    idp.claims["aud"] = "someone-else"   # replaces a claim of every ID token; ABSENT removes it
    idp.discovery["issuer"] = "https://x"
    idp.replies["token"] = lambda: web.Response(status=500)
    assert idp.requests["token"] == 1
"""

import hashlib
import hmac
import secrets
import ssl
from base64 import b64decode as plain_b64decode
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote_plus, urlencode

import jwt
from aiohttp import web

from tests.lab.jose import SigningKey, rsa_key
from zt_proxy.core.clock import Clock, SystemClock
from zt_proxy.core.keys import b64encode

ABSENT: Any = object()
"""As an override's value: leave the member out."""

CLIENT_ID = "zt-proxy"
CLIENT_SECRET = "lab secret/with:odd+characters%"


@dataclass
class Authorization:
    """One visit to the authorization endpoint."""

    query: dict[str, str]
    user: str
    auth_time: int


@dataclass
class MockIdp:
    """Strict where a real provider is (PKCE, client authentication, single-use codes), until told otherwise."""

    clock: Clock = field(default_factory=SystemClock)
    path: str = ""
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.issuer = ""
        self.keys: list[SigningKey] = [rsa_key()]
        self.users: dict[str, dict[str, Any]] = {
            "alice": {"groups": ["staff", "admins"], "name": "Alice Example", "email": "alice@example.test"},
            "bob": {"groups": ["staff"], "name": "Bob Example", "email": "bob@example.test"},
        }
        self.user = "alice"
        self.auth_time: int | None = None
        """When the person last signed in at the provider; None: just now. `prompt=login` makes it now."""
        self.deny: dict[str, str] | None = None
        """Error parameters that the authorization endpoint answers with, instead of a code."""
        self.check_pkce = True
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.discovery: dict[str, Any] = {}
        self.response: dict[str, Any] = {}
        """Overrides of the authorization response's parameters."""
        self.token_response: dict[str, Any] = {}
        self.jwks: dict[str, Any] | None = None
        self.id_token: Callable[[dict[str, Any]], str] | None = None
        """Makes the ID token from its claims, in place of signing with the first key."""
        self.replies: dict[str, Callable[[], web.StreamResponse | Awaitable[web.StreamResponse]]] = {}
        """Endpoint name (discovery, jwks, authorize, token, logout) → a reply in place of the right one."""
        self.client_keys: dict[str, Any] = {}
        """`kid` → public key with which a client may sign for itself (RFC 7523); ES256, RS256 and PS256."""
        self.assertions: list[tuple[dict[str, Any], dict[str, Any]]] = []
        """Header and claims of each client assertion that was accepted."""
        self.pushed: dict[str, dict[str, str]] = {}
        """`request_uri` → form, until it is used once."""
        self.push_requests: list[dict[str, str]] = []
        self.elsewhere: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._nothing
        """Answers what is no part of OpenID Connect."""
        self.requests: Counter[str] = Counter()
        self.authorizations: list[Authorization] = []
        self.token_requests: list[tuple[dict[str, str], dict[str, str]]] = []
        """Form and headers of each."""
        self.last_id_token = ""
        self.rotates = False
        """Refresh tokens are given, each good once; who uses one twice loses them all (RFC 9700 §4.14.2)."""
        self._families: dict[str, list[str]] = {}
        """Every refresh token → all of its family, the current one last."""
        self._codes: dict[str, Authorization] = {}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get(self.path + "/.well-known/openid-configuration", self._endpoint("discovery", self._discover))
        app.router.add_get(self.path + "/jwks", self._endpoint("jwks", self._jwks))
        app.router.add_get(self.path + "/authorize", self._endpoint("authorize", self._authorize))
        app.router.add_post(self.path + "/token", self._endpoint("token", self._token))
        app.router.add_post(self.path + "/par", self._endpoint("par", self._par))
        app.router.add_get(self.path + "/logout", self._endpoint("logout", self._logout))
        app.router.add_route("*", "/{other:.*}", self._endpoint("other", lambda request: self.elsewhere(request)))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0, ssl_context=self.tls).start()
        scheme = "https" if self.tls else "http"
        self.origin = f"{scheme}://{self.host}:{self._runner.addresses[0][1]}"
        self.issuer = self.origin + self.path
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def id_token_claims(self, nonce: str | None, user: str = "alice", auth_time: int | None = None) -> dict[str, Any]:
        """The claims of a right ID token, with the overrides of `claims` and of the user."""
        now = int(self.clock.now())
        claims = {
            "iss": self.issuer,
            "sub": f"sub-{user}",
            "aud": CLIENT_ID,
            "exp": now + 300,
            "iat": now,
            "auth_time": now if auth_time is None else auth_time,
            "nonce": nonce,
            "acr": "urn:lab:two-factor",
            "amr": ["pwd", "otp"],
            "email_verified": True,
            "sid": f"idp-session-{user}",
            **self.users.get(user, {}),
            **self.claims,
        }
        return {name: value for name, value in claims.items() if value is not ABSENT and value is not None}

    def _endpoint(self, name: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests[name] += 1
            if name in self.replies:
                reply = self.replies[name]()
                return await reply if isinstance(reply, Awaitable) else reply
            return await handler(request)

        return handle

    async def _nothing(self, _: web.Request) -> web.Response:
        return web.Response(status=404)

    async def _discover(self, _: web.Request) -> web.Response:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": self.issuer + "/authorize",
            "token_endpoint": self.issuer + "/token",
            "jwks_uri": self.issuer + "/jwks",
            "end_session_endpoint": self.issuer + "/logout",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "id_token_signing_alg_values_supported": sorted({key.alg for key in self.keys}),
            "authorization_response_iss_parameter_supported": True,
            **self.discovery,
        }
        return web.json_response({name: value for name, value in document.items() if value is not ABSENT})

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response(self.jwks if self.jwks is not None else {"keys": [key.jwk for key in self.keys]})

    async def _authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        if "request_uri" in query:
            pushed = self.pushed.pop(query["request_uri"], None)
            if pushed is None or query.keys() != {"client_id", "request_uri"}:
                return web.Response(status=400, text="invalid_request_uri")
            query = pushed
        now = int(self.clock.now())
        kept = self.auth_time if self.auth_time is not None and query.get("prompt") != "login" else now
        visit = Authorization(query, self.user, kept)
        self.authorizations.append(visit)
        answer: dict[str, Any] = {"state": query.get("state", ""), "iss": self.issuer}
        if self.deny is not None:
            answer |= self.deny
        else:
            code = secrets.token_urlsafe(16)
            self._codes[code] = visit
            answer["code"] = code
        answer = {name: value for name, value in {**answer, **self.response}.items() if value is not ABSENT}
        joined = "&" if "?" in query["redirect_uri"] else "?"
        return web.Response(status=302, headers={"Location": query["redirect_uri"] + joined + urlencode(answer)})

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.token_requests.append((form, dict(request.headers)))
        if not self._client_is_known(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        if form.get("grant_type") == "refresh_token":
            return self._refresh(form.get("refresh_token", ""))
        visit = self._codes.pop(form.get("code", ""), None)
        if visit is None or form.get("redirect_uri") != visit.query["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        challenge = b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if self.check_pkce and not hmac.compare_digest(challenge, visit.query.get("code_challenge", "")):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = self.id_token_claims(visit.query.get("nonce"), visit.user, visit.auth_time)
        make = self.id_token or (lambda claims: self.keys[0].sign(claims, **self.header))
        self.last_id_token = make(claims)
        answer = {
            "access_token": secrets.token_urlsafe(24),
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": self.last_id_token,
            **({"refresh_token": self._rotated([visit.user])} if self.rotates else {}),
            **self.token_response,
        }
        return web.json_response({name: value for name, value in answer.items() if value is not ABSENT})

    def _rotated(self, family: list[str]) -> str:
        """`family` begins with the user's name."""
        token = secrets.token_urlsafe(24)
        family.append(token)
        self._families[token] = family
        return token

    def _refresh(self, token: str) -> web.Response:
        self.requests["refresh"] += 1
        family = self._families.get(token)
        if family is None or family[-1] != token:
            if family is not None:
                family.append("")  # stolen, as it seems: nobody has a good one any more
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = self.id_token_claims(None, family[0])
        make = self.id_token or (lambda claims: self.keys[0].sign(claims, **self.header))
        answer = {
            "access_token": secrets.token_urlsafe(24),
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": make(claims),
            "refresh_token": self._rotated(family),
            **self.token_response,
        }
        return web.json_response({name: value for name, value in answer.items() if value is not ABSENT})

    async def _logout(self, request: web.Request) -> web.Response:
        back = request.query.get("post_logout_redirect_uri")
        if back is None:
            return web.Response(text="signed out")
        state = request.query.get("state")
        return web.Response(
            status=302, headers={"Location": back + ("?" + urlencode({"state": state}) if state else "")}
        )

    async def _par(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.push_requests.append(form)
        if not self._client_is_known(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        uri = f"urn:ietf:params:oauth:request_uri:{secrets.token_urlsafe(16)}"
        self.pushed[uri] = form
        return web.json_response({"request_uri": uri, "expires_in": 60}, status=201)

    def _client_is_known(self, request: web.Request, form: dict[str, str]) -> bool:
        if "client_assertion" in form:
            return self._assertion_is_right(form)
        header = request.headers.get("Authorization", "")
        if header.startswith("Basic "):
            name, _, secret = plain_b64decode(header.removeprefix("Basic ")).decode().partition(":")
            return (unquote_plus(name), unquote_plus(secret)) == (CLIENT_ID, CLIENT_SECRET)
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)

    def _assertion_is_right(self, form: dict[str, str]) -> bool:
        """RFC 7523 §3, each used once. The audience is left to the test."""
        token = form["client_assertion"]
        header = jwt.get_unverified_header(token)
        try:
            claims = jwt.decode(
                token,
                self.client_keys[header.get("kid", "")],
                algorithms=["ES256", "RS256", "PS256"],
                options={"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except (KeyError, jwt.InvalidTokenError):
            return False
        now, seen = self.clock.now(), {used["jti"] for _, used in self.assertions}
        if not (claims["iss"] == claims["sub"] == form.get("client_id") == CLIENT_ID) or claims["jti"] in seen:
            return False
        if not claims["iat"] - 5 <= now < claims["exp"] or "client_secret" in form:
            return False
        self.assertions.append((header, claims))
        return form.get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
