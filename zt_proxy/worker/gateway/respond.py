"""The only author of denials: from a decision or an error to the bytes of an answer.

Who gets which "no": a navigation gets a redirect to the sign-in or a page, everything else 401 or 403 with
problem+json (RFC 9457) and WWW-Authenticate (RFC 6750, RFC 9470). Background requests never start a login.
"""

import hashlib
import math
import secrets
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import Reason, ZtError
from zt_proxy.core.handoff import Handoff, Purpose, seal_handoff
from zt_proxy.core.http import SAFE_METHODS
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Level, request_of, unlock_key
from zt_proxy.core.types import ASKED_OF_PEOPLE, NO_ACT, Act, ChallengeKind, Decision
from zt_proxy.pages.denial import PAGE_HEADERS, denial_page
from zt_proxy.pages.texts import text_of
from zt_proxy.worker.gateway import browser, places
from zt_proxy.worker.gateway.asking import WAYS, ask_of, described, not_kept
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.routes import Route
from zt_proxy.worker.gateway.streams import SESSION_OVER
from zt_proxy.worker.identify.session import binder_of
from zt_proxy.worker.settings import WorkerSettings
from zt_proxy.worker.wire import cookies
from zt_proxy.worker.wire.h1_response import status_line
from zt_proxy.worker.wire.hygiene import Kind
from zt_proxy.worker.wire.ws import accept_key, close_frame

COOKIE = int(Kind.COOKIE)
WS_KEY = int(Kind.WS_KEY)
LOGIN_LIFETIME = 600.0
"""Seconds in which a person has to come back from the sign-in."""
LONGEST_TARGET = 2048
"""Longer return addresses come back to the route's prefix: a hand-off has to fit a URL."""
ANEW = 1.0
"""Seconds that the portal's session may have lasted where a new one is wanted."""
DRAINED = 64 * 1024
"""Bytes of an unread body that are read and thrown away, so that the connection can be kept."""
ENDED = frozenset((Reason.SESSION_UNKNOWN, Reason.SESSION_EXPIRED, Reason.SESSION_IDLE, Reason.SESSION_DISPLACED))
"""Why a session that was there is not there any more."""
PROBLEM_TYPE = "https://zt-proxy.dev/reasons#"

_PAGE_LINES = b"".join(b"%b: %b\r\n" % header for header in PAGE_HEADERS)
_PROBLEM_LINES = (
    b"content-type: application/problem+json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'; sandbox\r\n"
    b"referrer-policy: no-referrer\r\ncross-origin-opener-policy: same-origin\r\n"
)
"""A refusal may stand at an address with a one-time code in it, on the app's own origin: neither an opener nor the
Navigation API of a page of the app may learn that address."""
_REDIRECT_LINES = b"cache-control: no-store\r\nreferrer-policy: no-referrer\r\n"

Header = tuple[bytes, bytes]


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457, with our reason code, the request id and where to sign in, or to prove what is missing."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    request_id: str
    rule: str = ""
    login_url: str = ""
    step_up_url: str = ""
    level: str = ""
    """Of the proof that is missing."""
    max_age: int | None = None
    """Seconds that it may be old."""


class About(NamedTuple):
    """The request that was decided: the exchange's own, or the one that a preflight asks about."""

    route: Route
    method: bytes
    path: bytes
    act: Act = NO_ACT


class Missing(NamedTuple):
    """Where to prove what is missing, and what that is; fields of `Problem`."""

    login_url: str
    step_up_url: str
    level: str
    max_age: int | None


class Responder:
    """Answers what does not go upstream. Sets `status` of the exchange; the caller then finishes it."""

    def __init__(self, settings: WorkerSettings, ring: KeyRing, clock: Clock) -> None:
        self._portal = settings.portal
        self._session_cookie = settings.session_cookie.encode()
        self._login_cookie = settings.login_cookie.encode()
        self._login_cookies = frozenset((self._login_cookie,))
        self._ring = ring
        self._clock = clock

    def decline(self, x: Exchange, decision: Decision, about: About | None = None) -> None:
        """Answer a decision that is not an allow. `about`: it was about another request than the exchange's own."""
        challenge = decision.challenge
        if about is None and x.route is not None and x.target is not None:
            about = About(x.route, x.head.method, x.target.path, x.act)
        navigation = browser.is_navigation(x.head)
        if challenge is None:
            self._no(x, 403, decision.reason, decision.rule, [])
        elif challenge is ChallengeKind.MFA:
            self._no(x, 403, decision.reason, decision.rule, [self._bearer("insufficient_user_authentication")])
        elif navigation and x.head.method in SAFE_METHODS:
            self._redirect(x, decision)
        elif challenge in ASKED_OF_PEOPLE:
            self._step_up(x, decision, about)
        elif x.head.websocket and decision.reason in ENDED and not is_machine(x):
            self._close_socket(x, decision.reason)
        else:
            extra = [self._bearer("invalid_token" if decision.reason is not Reason.LOGIN_REQUIRED else "")]
            if decision.reason is Reason.COOKIE_REPEATED:
                extra.append((b"set-cookie", cookies.clear_cookie(self._session_cookie)))
            self._no(x, 401, decision.reason, "", extra, login_url=self._portal.origin + "/.zt/sign-in")

    def error(self, x: Exchange, error: ZtError) -> None:
        """Answer an error; its detail stays inside."""
        status = error.status
        headers: list[Header] = []
        if status == 405:
            headers.append((b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
        elif status == 503:
            headers.append((b"retry-after", b"5"))
        elif status == 429:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(x.retry_after))))
        elif status == 426:
            headers += [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")]
        self._no(x, status, error.reason, "", headers)

    def preflight(self, x: Exchange, route: Route, origin: bytes) -> None:
        """Answer a CORS preflight of an origin that the route names (Fetch §4.8); never forwarded (FIELD 11)."""
        asked = x.head.noted[browser.PREFLIGHT_METHOD] or b"GET"
        headers = [
            *_cors(route, origin),
            (b"access-control-allow-methods", asked if asked.isalpha() else b"GET"),
            (b"access-control-allow-headers", b"authorization, content-type, x-requested-with, accept"),
            (b"access-control-max-age", b"600"),
        ]
        self._send(x, 204, headers, b"", b"")

    def place(self, x: Exchange, answer: places.Answer) -> None:
        """Hand out what a worker answers by itself."""
        self._send(x, answer.status, list(answer.headers), b"", answer.body)

    def response_lines(self, x: Exchange, route: Route | None) -> bytes:
        """The header lines that every relayed answer gets, with the blank line that ends its head."""
        lines = b"X-Request-Id: %b\r\n" % x.id
        if route is not None and route.cors_origins:
            origin = x.head.noted[browser.ORIGIN]
            lines += b"Vary: Origin\r\n"
            if origin is not None and origin in route.cors_origins:
                lines += b"".join(b"%b: %b\r\n" % header for header in _cors(route, origin))
        return lines + b"\r\n"

    def nothing(self, x: Exchange) -> None:
        """204 No Content, and not to be kept."""
        self._send(x, 204, [], _REDIRECT_LINES, b"")

    def sign_in(self, x: Exchange, decision: Decision, about: About, *, anew: bool) -> None:
        """401 to the script of a page that asked ahead: nobody is signed in, or (`anew`) a new session is wanted.

        A small window does it, and the page stays. Who only tried the request itself is told no such place.
        """
        cookie, headers = self._login_cookie_of(x)
        sealed = self.handoff(x, decision, about, about.route.prefix, cookie, anew=anew)
        value = f'login; url="/.zt/step-up?to={quote(sealed)}"'.encode()
        headers += [self._bearer("invalid_token"), (b"zt-challenge", value)]
        self._no(x, 401, decision.reason, "", headers, login_url=self._portal.origin + "/.zt/sign-in")

    def handoff(
        self, x: Exchange, decision: Decision, about: About, target: bytes, cookie: bytes, *, anew: bool = False
    ) -> str:
        """A sealed note for the portal: what this browser has to prove, and where it comes back to.

        `cookie` stands for the browser. For a step-up it is the session's own: whatever else this browser is asked at
        the same time neither changes that nor is changed by it (FIELD 8).
        """
        reauth = decision.challenge in ASKED_OF_PEOPLE
        settings = about.route.settings
        handoff = Handoff(
            purpose=Purpose.REAUTH if reauth else Purpose.LOGIN,
            host=x.host,
            target=target.decode("ascii"),
            binder=binder_of(cookie),
            expires=self._clock.now() + LOGIN_LIFETIME,
            route=about.route.name,
            rule=decision.rule,
            max_age=decision.max_age,
            reason=decision.reason.value,
            idle=settings.idle_timeout or 0.0,
            absolute=ANEW if anew else settings.absolute_timeout or 0.0,
            sid=x.session.session.sid if reauth and x.session is not None else "",
            level=decision.level,
            request=request_of(about.method, about.path) if decision.once else "",
        )
        handoff = described(handoff, decision, about.method, about.path, about.act)
        return seal_handoff(self._ring, handoff)

    # ---- ways to say no ----

    def _step_up(self, x: Exchange, decision: Decision, about: About | None) -> None:
        """401: the session is there, and something is still to be proved (RFC 9470 §3).

        A script that can hold its request finds in ZT-Challenge where. Who waits for an upgrade or for events cannot.
        """
        age = 0 if decision.once else int(decision.max_age) if decision.max_age else None
        asked = f', acr_values="{decision.level.word}"' if decision.level > Level.SINGLE else ""
        asked += f', max_age="{age}"' if age is not None else ""
        headers = [self._bearer("insufficient_user_authentication", asked)]
        if about is None or is_machine(x):
            self._no(x, 401, decision.reason, decision.rule, headers)
            return
        sealed = quote(self.handoff(x, decision, about, about.route.prefix, x.cookie))
        path = f"/.zt/step-up?to={sealed}"
        if browser.may_prompt(x.head):
            fresh = f"; max-age={age}" if age is not None else ""
            once = "?1" if decision.once else "?0"
            ask = ask_of(decision)
            key = unlock_key(about.route.name, decision.rule, ask)  # one rule may ask for several things in a row
            scope = hashlib.sha256(key.encode()).hexdigest()[:16]
            about_what = f'method="{about.method.decode("ascii")}"; scope="{scope}"'
            asking = f'; ask="{ask}"' if ask else ""
            value = f'step-up; url="{path}"; level="{decision.level.word}"{fresh}; once={once}; {about_what}{asking}'
            headers.append((b"zt-challenge", value.encode()))
        missing = Missing(
            f"{self._portal.origin}/.zt/sign-in?to={sealed}", f"https://{x.host}{path}", decision.level.word, age
        )
        note = not_kept(decision.reason) if x.head.method == b"POST" and x.head.has_body else ""
        self._no(x, 401, decision.reason, decision.rule, headers, missing=missing, note=note)

    def _close_socket(self, x: Exchange, reason: Reason) -> None:
        """Accept a socket whose session has ended and close it at once: a page learns the status of a refused upgrade
        from nobody, but the code of a close (DESIGN §7). The platform hears nothing of it."""
        key = x.head.noted[WS_KEY]
        assert key is not None
        x.status = 101
        x.close = True
        protocol = _first_protocol(x.head.lines)
        x.connection.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%bX-Request-Id: %b\r\n\r\n%b"
            % (accept_key(key), protocol, x.id, close_frame(SESSION_OVER, reason.value))
        )

    def _no(
        self,
        x: Exchange,
        status: int,
        reason: Reason,
        rule: str,
        headers: list[Header],
        *,
        login_url: str = "",
        missing: Missing | None = None,
        note: str = "",
    ) -> None:
        """`note`: what a page says besides."""
        if missing is not None:
            login_url = missing.login_url
        text = text_of(reason)
        if browser.is_navigation(x.head) and not is_machine(x):
            session = x.session.session if x.session is not None else None
            who = (session.principal.email or session.principal.name) if session is not None else None
            action = None
            if login_url:
                action = self._way_in(x, reason, login_url)
            elif session is not None and status == 403:
                action = ("Sign out", "/.zt/sign-out")  # the way to become somebody who may
            page = denial_page(
                status=status,
                reason=reason,
                request_id=x.request_id,
                host=x.host,
                who=who,
                rule=rule,
                action=action,
                quiet=not login_url,
                note=note,
            )
            self._send(x, status, headers, _PAGE_LINES, page)
            return
        problem = Problem(
            type=PROBLEM_TYPE + reason.value,
            title=text.title,
            status=status,
            detail=text.sentence,
            reason=reason.value,
            request_id=x.request_id,
            rule=rule,
            login_url=login_url,
        )
        if missing is not None:
            problem.step_up_url, problem.level, problem.max_age = missing[1:]
        self._send(x, status, headers, _PROBLEM_LINES, msgspec.json.encode(problem))

    def _way_in(self, x: Exchange, reason: Reason, login_url: str) -> tuple[str, str]:
        """For a navigation that cannot be repeated by a redirect: a link that begins again with a GET."""
        if x.session is not None:
            return (WAYS.get(reason, "Confirm that it is you"), login_url)
        path = x.route.prefix.decode("ascii") if x.route is not None else "/"
        return ("Sign in", path)

    def _redirect(self, x: Exchange, decision: Decision) -> None:
        """Send the browser to the portal, with a signed note of where it was going, bound to this browser."""
        if is_machine(x):
            self._no(x, 401, decision.reason, decision.rule, [self._bearer("")])
            return
        assert x.target is not None
        assert x.route is not None
        wire = x.target.wire()
        if len(wire) > LONGEST_TARGET:
            wire = x.route.prefix
        headers: list[Header] = []
        cookie = x.cookie
        if decision.challenge not in ASKED_OF_PEOPLE:
            cookie, headers = self._login_cookie_of(x)
        about = About(x.route, x.head.method, x.target.path, x.act)
        sealed = self.handoff(x, decision, about, wire, cookie)
        location = f"{self._portal.origin}/.zt/sign-in?to={quote(sealed)}"
        self._send(x, 302, [(b"location", location.encode()), *headers], _REDIRECT_LINES, b"")

    def _login_cookie_of(self, x: Exchange) -> tuple[bytes, list[Header]]:
        """This browser's login cookie, reused while it is there: one, not one per tab (FIELD 9)."""
        header = x.head.noted[COOKIE]
        if header is not None:
            found, _, repeated = cookies.take(header, self._login_cookies)
            value = found.get(self._login_cookie)
            if value and not repeated and 32 <= len(value) <= 64:
                return value, []
        value = secrets.token_urlsafe(32).encode()
        made = cookies.set_cookie(self._login_cookie, value, max_age=int(LOGIN_LIFETIME) * 6)
        return value, [(b"set-cookie", made)]

    def _bearer(self, error: str, more: str = "") -> Header:
        what = f', error="{error}"' if error else ""
        return b"www-authenticate", f'Bearer realm="zt-proxy"{what}{more}'.encode()

    def _send(self, x: Exchange, status: int, headers: list[Header], lines: bytes, body: bytes) -> None:
        head = x.head
        x.status = status
        if head.has_body and not x.request_ended and (head.chunked or head.content_length > DRAINED):
            x.close = True
        if head.noted[int(Kind.EXPECT)] is not None or head.websocket:
            x.close = True  # what follows may be a body, or a protocol that was refused
        parts = [status_line(status)]
        parts += [b"%b: %b\r\n" % header for header in headers]
        parts.append(lines)
        parts.append(b"x-request-id: %b\r\n" % x.id)
        if status not in (204, 304):
            parts.append(b"content-length: %d\r\n" % len(body))
        if x.close:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        if head.method != b"HEAD":
            parts.append(body)
        x.connection.write(b"".join(parts))


def is_machine(x: Exchange) -> bool:
    """Nobody looks at pages here: the route is for machines, or the connection is one's, or should be."""
    if x.route is not None and x.route.settings.machines_only:
        return True
    shown = x.connection.shown
    return shown is not None and shown.speaks_for_machine


def _first_protocol(lines: list[bytes]) -> bytes:
    """The header line that agrees to the first protocol a client offers; it would fail without one (RFC 6455 §4.1)."""
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-protocol":
            return b"Sec-WebSocket-Protocol: %b\r\n" % value.split(b",")[0].strip()
    return b""


def _cors(route: Route, origin: bytes) -> list[Header]:
    headers = [(b"access-control-allow-origin", origin)]
    if route.settings.cors_credentials:
        headers.append((b"access-control-allow-credentials", b"true"))
    return headers
