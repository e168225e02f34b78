"""A small OpenID provider for the demo and the tests: real protocol, invented people.

`authlib` is the authorization server (`idp_oauth`), aiohttp serves it, and everything it knows is in memory
(`idp_state`). It signs people in with a password and a time-based code, remembers them with a cookie of its own, and
honours `prompt`, `max_age` and `acr_values`, so that a relying party's demands for fresh or strong sign-ins are tried
against code that is not its own. Clients hear of the end of a session (`idp_logout`). The login pages
print the passwords and the codes: never use it for anything real.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import web
from authlib.oauth2 import OAuth2Error
from authlib.oidc.core.errors import LoginRequiredError
from yarl import URL

from zt_proxy.core.clock import Clock, SystemClock
from zt_proxy.demo import totp
from zt_proxy.demo.idp_logout import Announcer, frames, origins
from zt_proxy.demo.idp_oauth import Request, Server, SigningKeys, incoming, person_claims
from zt_proxy.demo.idp_state import SCOPES, BrowserSession, Client, ProviderState, SignIn
from zt_proxy.demo.people import ACR_MFA, ACR_ONE_FACTOR, DEMO_PEOPLE, Person
from zt_proxy.demo.web import CONTENT_SECURITY_POLICY, STATIC, page, safe_headers

SESSION_COOKIE = "demo_idp_session"
BROWSER_COOKIE = "demo_idp_browser"
MAX_FAILURES = 5

__all__ = ["Client", "IdpConfig", "build_idp"]


@dataclass(frozen=True, slots=True)
class IdpConfig:
    """What a provider is started with.

    `issuer` is the URL that browsers and relying parties reach it under, without a trailing slash; `algorithm` is ES256
    or RS256. `hints` prints the people, their passwords and codes on the login pages.
    """

    issuer: str
    clients: Sequence[Client]
    people: Sequence[Person] = DEMO_PEOPLE
    algorithm: str = "ES256"
    hints: bool = True
    clock: Clock = field(default_factory=SystemClock)
    trust: ssl.SSLContext | None = None
    """Verifies the clients that are told of a logout; None: as the system does."""


def build_idp(config: IdpConfig) -> web.Application:
    """The provider as an aiohttp application; serve it with `zt_proxy.demo.web.serve`."""
    provider = _Provider(config)
    app = web.Application(middlewares=[safe_headers], client_max_size=64 * 1024)
    app.add_routes(
        [
            web.get("/", provider.home),
            web.get("/.well-known/openid-configuration", provider.discovery),
            web.get("/jwks", provider.jwks),
            web.get("/authorize", provider.authorize),
            web.post("/authorize", provider.authorize),
            web.get("/sign-in/{name}", provider.sign_in_page),
            web.post("/sign-in/{name}", provider.sign_in_step),
            web.post("/token", provider.token),
            web.get("/userinfo", provider.userinfo),
            web.post("/userinfo", provider.userinfo),
            web.get("/logout", provider.logout),
            web.post("/logout", provider.logout),
            web.static("/static", STATIC),
        ]
    )
    return app


class _Provider:
    """The handlers, in the order in which a sign-in meets them."""

    def __init__(self, config: IdpConfig) -> None:
        self._config = config
        self._secure = URL(config.issuer).scheme == "https"
        self._state = ProviderState(config.people, config.clients, config.clock)
        keys = SigningKeys(config.algorithm)
        self._server = Server(self._state, config.issuer, keys)
        self._announcer = Announcer(config.issuer, keys, config.clock, config.trust)

    async def home(self, request: web.Request) -> web.Response:
        """Who is signed in here, and who could."""
        return page("idp_home.html", {"session": self._session(request), "people": self._hints()})

    async def discovery(self, request: web.Request) -> web.Response:
        """OpenID Connect Discovery 1.0 §3, with RFC 9207 and RP-Initiated Logout 1.0 §2.1."""
        issuer = self._config.issuer
        return web.json_response(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "userinfo_endpoint": f"{issuer}/userinfo",
                "jwks_uri": f"{issuer}/jwks",
                "end_session_endpoint": f"{issuer}/logout",
                "scopes_supported": list(SCOPES),
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "backchannel_logout_supported": True,
                "backchannel_logout_session_supported": True,
                "frontchannel_logout_supported": True,
                "frontchannel_logout_session_supported": True,
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [self._config.algorithm],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "code_challenge_methods_supported": ["S256"],
                "acr_values_supported": [ACR_ONE_FACTOR, ACR_MFA],
                "prompt_values_supported": ["none", "login"],
                "claims_supported": ["sub", "name", "email", "groups", "acr", "amr", "auth_time", "sid"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def jwks(self, request: web.Request) -> web.Response:
        """The public key."""
        return web.json_response(self._server.keys.public.as_dict(private=False))

    async def authorize(self, request: web.Request) -> web.Response:
        """Answer with a code where the browser's session is good enough, else begin a sign-in."""
        session = self._session(request)
        asked = await incoming(request, session)
        try:
            self._server.get_consent_grant(asked, end_user=session and session.person)
            if not self._must_sign_in(asked, session):
                return self._issue_code(asked)
            if "none" in asked.payload.data.get("prompt", "").split():
                raise LoginRequiredError(redirect_uri=asked.payload.redirect_uri, state=asked.payload.state)
        except OAuth2Error as error:
            return self._refuse(asked, error)
        except ValueError:
            # authlib quotes some parameters in its error text and stumbles when they hold a character that it may not
            # send back (RFC 6749 §4.1.2.1).
            return self._error_page("The request has parameters that cannot be valid.")
        browser = request.cookies.get(BROWSER_COOKIE) or secrets.token_urlsafe(32)
        pairs = tuple((name, value) for name, values in asked.payload.datalist.items() for value in values)
        sign_in = SignIn(pairs, browser)
        response = _see_other(f"/sign-in/{self._state.sign_ins.put(sign_in)}")
        self._set_cookie(response, BROWSER_COOKIE, browser)
        return response

    def _must_sign_in(self, asked: Request, session: BrowserSession | None) -> bool:
        """OpenID Connect Core §3.1.2.1: `prompt=login`, `max_age`, and `acr_values` above what the session has.

        A person who has no second factor is asked too: so a browser that is refused for that can sign in as another.
        """
        if session is None:
            return True
        data = asked.payload.data
        if "login" in data.get("prompt", "").split():
            return True
        max_age = data.get("max_age")
        if max_age is not None and (
            not max_age.isascii() or not max_age.isdigit() or self._now() - session.auth_time >= int(max_age)
        ):
            return True
        return ACR_MFA in data.get("acr_values", "").split() and session.acr != ACR_MFA

    def _issue_code(self, asked: Request) -> web.Response:
        grant = self._server.get_authorization_grant(asked)
        person = asked.session and asked.session.person
        answer = self._server.create_authorization_response(asked, grant_user=person, grant=grant)
        return self._server.named(answer).to_response()

    def _refuse(self, asked: Request, error: OAuth2Error) -> web.Response:
        """Back to the client with the error, or, where the client cannot be trusted, a page."""
        if error.redirect_uri:
            return self._server.error_answer(asked, error).to_response()
        return self._error_page(error.description or error.error)

    async def sign_in_page(self, request: web.Request) -> web.Response:
        """The password, or the code when the password was right."""
        name, sign_in = self._sign_in(request)
        if sign_in is None:
            return self._error_page("This sign-in is over. Go back to the application and start again.")
        return self._form(name, sign_in, suggested=self._state.people.get(request.query.get("as", "")))

    async def sign_in_step(self, request: web.Request) -> web.Response:
        """Check what was typed; after the last factor, open a session and answer the client's request."""
        name, sign_in = self._sign_in(request)
        if sign_in is None:
            return self._error_page("This sign-in is over. Go back to the application and start again.")
        form = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
        if "restart" in form:
            sign_in.person = None
            return _see_other(request.path)
        problem = self._password(sign_in, form) if sign_in.person is None else self._second_factor(sign_in, form)
        if problem:
            sign_in.failures += 1
            if sign_in.failures >= MAX_FAILURES:
                self._state.sign_ins.pop(name)
                return self._error_page("Too many attempts. Go back to the application and start again.")
            return self._form(name, sign_in, problem, typed=form.get("username", ""))
        person = sign_in.person
        assert person is not None
        if person.otp_secret is not None and "code" not in form:
            return _see_other(request.path)
        self._state.sign_ins.pop(name)
        return self._complete(request, sign_in, person)

    def _password(self, sign_in: SignIn, form: dict[str, str]) -> str | None:
        person = self._state.people.get(form.get("username", "").strip().lower())
        expected = person.password if person else secrets.token_urlsafe(8)
        if not _same(expected, form.get("password", "")) or person is None:
            return "The name or the password is not right."
        sign_in.person = person
        return None

    def _second_factor(self, sign_in: SignIn, form: dict[str, str]) -> str | None:
        assert sign_in.person is not None
        secret = sign_in.person.otp_secret
        if secret is None or not totp.matches(secret, form.get("code", ""), self._now()):
            return "That code is not right. It changes every 30 seconds."
        return None

    def _complete(self, request: web.Request, sign_in: SignIn, person: Person) -> web.Response:
        self._state.sessions.pop(_sid(request.cookies.get(SESSION_COOKIE, "")))
        handle = secrets.token_urlsafe(32)
        amr = ("pwd", "otp") if person.otp_secret is not None else ("pwd",)
        session = BrowserSession(_sid(handle), person, int(self._now()), amr)
        self._state.sessions.put(session, session.sid)
        asked = Request("GET", "/authorize", {}, sign_in.query, session)
        try:
            self._server.get_consent_grant(asked, end_user=person)
            response = self._issue_code(asked)
        except OAuth2Error as error:
            response = self._refuse(asked, error)
        if response.status == 302:
            response.set_status(303)
        self._set_cookie(response, SESSION_COOKIE, handle)
        return response

    async def token(self, request: web.Request) -> web.Response:
        """Code, or refresh token, against tokens (RFC 6749 §4.1.3, §6)."""
        answer: web.Response = self._server.create_token_response(await incoming(request)).to_response()
        return answer

    async def userinfo(self, request: web.Request) -> web.Response:
        """The claims about the bearer of an access token (OpenID Connect Core §5.3)."""
        asked = await incoming(request)
        try:
            token = self._server.userinfo.validate_request(["openid"], asked)
        except OAuth2Error as error:
            answer: web.Response = self._server.handle_error_response(asked, error).to_response()
            return answer
        return web.json_response(person_claims(token.person, token.scope), headers={"Cache-Control": "no-store"})

    async def logout(self, request: web.Request) -> web.Response:
        """RP-Initiated Logout 1.0: with a valid hint at once, else after a question. The session's clients are told."""
        session = self._session(request)
        asked = await incoming(request, session)
        try:
            wanted = self._server.validate_endpoint_request("end_session", asked)
        except OAuth2Error as error:
            return self._error_page(error.description or error.error)
        confirmed = request.method == "POST" and asked.payload.data.get("confirm") == "yes"
        if wanted.needs_confirmation and not confirmed and session is not None:
            return page("idp_logout.html", {"session": session, "fields": asked.payload.data})
        answer = self._server.create_endpoint_response("end_session", wanted)
        response: web.Response = answer.to_response() if answer else page("idp_logged_out.html", {})
        ended, self._state.ended = self._state.ended, []
        await self._announcer.announce(ended, self._state.clients)
        addresses = frames(self._config.issuer, ended, self._state.clients)
        if addresses:
            onward = response.headers.get("Location", "/")
            response = page("idp_signing_out.html", {"frames": addresses, "onward": onward})
            policy = f"{CONTENT_SECURITY_POLICY}; frame-src {origins(addresses)}"
            response.headers["Content-Security-Policy"] = policy
        response.del_cookie(SESSION_COOKIE, path="/")
        return response

    def _form(
        self, name: str, sign_in: SignIn, problem: str = "", typed: str = "", suggested: Person | None = None
    ) -> web.Response:
        values: dict[str, object] = {"action": f"/sign-in/{name}", "problem": problem, "client": self._client(sign_in)}
        status = 401 if problem else 200
        if sign_in.person is None:
            typed = suggested.username if suggested else typed
            password = suggested.password if suggested and self._config.hints else ""
            return page(
                "idp_password.html", values | {"typed": typed, "password": password, "people": self._hints()}, status
            )
        person, now = sign_in.person, self._now()
        code = totp.code_at(person.otp_secret, now) if person.otp_secret and self._config.hints else ""
        key = totp.base32(person.otp_secret) if code and person.otp_secret else ""
        extra = {"person": person, "code": code, "key": key, "left": totp.seconds_left(now)}
        return page("idp_code.html", values | extra, status)

    def _client(self, sign_in: SignIn) -> str:
        """Who asks, as a person may recognise it: the host that they will come back to."""
        return URL(dict(sign_in.query).get("redirect_uri", "")).host or "an application"

    def _sign_in(self, request: web.Request) -> tuple[str, SignIn | None]:
        """The sign-in of this address, if it was begun by this very browser (a link to it sent to others is dead)."""
        name = request.match_info["name"]
        sign_in = self._state.sign_ins.get(name)
        cookie = request.cookies.get(BROWSER_COOKIE, "")
        if sign_in is None or not _same(sign_in.browser, cookie):
            return name, None
        return name, sign_in

    def _session(self, request: web.Request) -> BrowserSession | None:
        return self._state.sessions.get(_sid(request.cookies.get(SESSION_COOKIE, "")))

    def _hints(self) -> Sequence[Person]:
        return self._config.people if self._config.hints else ()

    def _now(self) -> float:
        return self._config.clock.now()

    def _set_cookie(self, response: web.Response, name: str, value: str) -> None:
        response.set_cookie(name, value, path="/", secure=self._secure, httponly=True, samesite="Lax")

    def _error_page(self, text: str) -> web.Response:
        return page("idp_error.html", {"text": text}, status=400)


def _sid(handle: str) -> str:
    """The session id that clients are told: a hash, so that nobody can make the cookie from an ID token."""
    return hashlib.sha256(handle.encode(errors="replace")).hexdigest()[:32]


def _same(ours: str, theirs: str) -> bool:
    """In constant time, and for whatever bytes a browser sends."""
    return secrets.compare_digest(ours.encode(), theirs.encode(errors="replace"))


def _see_other(location: str) -> web.Response:
    return web.Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})
