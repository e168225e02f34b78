"""The only author of denials: from a decision or an error to the bytes of an answer.

Who gets which "no": a navigation gets a redirect to the sign-in or a page, everything else 401 or 403 with
problem+json (RFC 9457) and WWW-Authenticate (RFC 6750, RFC 9470). Background requests never start a login.
"""

import math
import secrets
from urllib.parse import quote

import msgspec

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import Reason, ZtError
from zt_proxy.core.handoff import Handoff, Purpose, seal_handoff
from zt_proxy.core.http import SAFE_METHODS
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.types import ChallengeKind, Decision
from zt_proxy.pages.denial import PAGE_HEADERS, denial_page
from zt_proxy.pages.texts import text_of
from zt_proxy.worker.gateway import browser, places
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.routes import Route
from zt_proxy.worker.identify.session import binder_of
from zt_proxy.worker.settings import WorkerSettings
from zt_proxy.worker.wire import cookies
from zt_proxy.worker.wire.h1_response import status_line
from zt_proxy.worker.wire.hygiene import Kind

COOKIE = int(Kind.COOKIE)
LOGIN_LIFETIME = 600.0
"""Seconds in which a person has to come back from the sign-in."""
LONGEST_TARGET = 2048
"""Longer return addresses come back to the route's prefix: a hand-off has to fit a URL."""
DRAINED = 64 * 1024
"""Bytes of an unread body that are read and thrown away, so that the connection can be kept."""
PROBLEM_TYPE = "https://zt-proxy.dev/reasons#"

_PAGE_LINES = b"".join(b"%b: %b\r\n" % header for header in PAGE_HEADERS)
_PROBLEM_LINES = (
    b"content-type: application/problem+json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
ENDED = frozenset(
    (Reason.SESSION_UNKNOWN, Reason.SESSION_EXPIRED, Reason.SESSION_IDLE, Reason.SESSION_DISPLACED)
)
"""Why a session that was there is not there any more."""
NOT_KEPT = "Your form was not sent. Confirm that it is you, then go back to it and send it again."
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'; sandbox\r\n"
    b"referrer-policy: no-referrer\r\ncross-origin-opener-policy: same-origin\r\n"
)
"""A refusal may stand at an address with a one-time code in it, on the app's own origin: neither an opener nor the
Navigation API of a page of the app may learn that address."""
_REDIRECT_LINES = b"cache-control: no-store\r\nreferrer-policy: no-referrer\r\n"

Header = tuple[bytes, bytes]


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457, with our reason code, the request id and where to sign in."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    request_id: str
    rule: str = ""
    login_url: str = ""


class Responder:
    """Answers what does not go upstream. Sets `status` of the exchange; the caller then finishes it."""

    def __init__(self, settings: WorkerSettings, ring: KeyRing, clock: Clock) -> None:
        self._portal = settings.portal
        self._session_cookie = settings.session_cookie.encode()
        self._login_cookie = settings.login_cookie.encode()
        self._login_cookies = frozenset((self._login_cookie,))
        self._ring = ring
        self._clock = clock

    def decline(self, x: Exchange, decision: Decision) -> None:
        """Answer a decision that is not an allow."""
        challenge = decision.challenge
        navigation = browser.is_navigation(x.head)
        if challenge is None:
            self._no(x, 403, decision.reason, decision.rule, [])
        elif challenge is ChallengeKind.MFA:
            self._no(x, 403, decision.reason, decision.rule, [self._bearer("insufficient_user_authentication")])
        elif navigation and x.head.method in SAFE_METHODS:
            self._redirect(x, decision)
        elif challenge is ChallengeKind.REAUTH:
            extra = [self._bearer("insufficient_user_authentication", f', max_age="{int(decision.max_age)}"')]
            url = ""
            if x.route is not None and not _is_machine(x):
                value, made = self._login_cookie_of(x)
                url = self._sign_in_url(x, decision, x.route.prefix, value)
                extra += made
            self._no(x, 401, decision.reason, decision.rule, extra, login_url=url)
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

    # ---- ways to say no ----

    def _no(
        self, x: Exchange, status: int, reason: Reason, rule: str, headers: list[Header], *, login_url: str = ""
    ) -> None:
        text = text_of(reason)
        if browser.is_navigation(x.head) and not _is_machine(x):
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
        self._send(x, status, headers, _PROBLEM_LINES, msgspec.json.encode(problem))

    def _way_in(self, x: Exchange, reason: Reason, login_url: str) -> tuple[str, str]:
        """For a navigation that cannot be repeated by a redirect: a link that begins again with a GET."""
        if reason is Reason.REAUTH_REQUIRED:
            return ("Sign in again", login_url)
        path = x.route.prefix.decode("ascii") if x.route is not None else "/"
        return ("Sign in", path)

    def _redirect(self, x: Exchange, decision: Decision) -> None:
        """Send the browser to the portal, with a signed note of where it was going, bound to this browser."""
        if _is_machine(x):
            self._no(x, 401, decision.reason, decision.rule, [self._bearer("")])
            return
        value, headers = self._login_cookie_of(x)
        assert x.target is not None
        wire = x.target.wire()
        if len(wire) > LONGEST_TARGET and x.route is not None:
            wire = x.route.prefix
        location = self._sign_in_url(x, decision, wire, value)
        self._send(x, 302, [(b"location", location.encode()), *headers], _REDIRECT_LINES, b"")

    def _sign_in_url(self, x: Exchange, decision: Decision, target: bytes, login_cookie: bytes) -> str:
        """The portal's sign-in with a hand-off that comes back to `target`, in the browser of this login cookie."""
        reauth = decision.challenge is ChallengeKind.REAUTH
        settings = x.route.settings if x.route is not None else None
        handoff = Handoff(
            purpose=Purpose.REAUTH if reauth else Purpose.LOGIN,
            host=x.host,
            target=target.decode("ascii"),
            binder=binder_of(login_cookie),
            expires=self._clock.now() + LOGIN_LIFETIME,
            route=x.route.name if x.route is not None else "",
            rule=decision.rule,
            max_age=decision.max_age,
            reason=decision.reason.value,
            idle=(settings.idle_timeout or 0.0) if settings is not None else 0.0,
            absolute=(settings.absolute_timeout or 0.0) if settings is not None else 0.0,
        )
        return f"{self._portal.origin}/.zt/sign-in?to={quote(seal_handoff(self._ring, handoff))}"

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


def _is_machine(x: Exchange) -> bool:
    """Nobody looks at pages here: the route is for machines, or the connection is one's, or should be."""
    if x.route is not None and x.route.settings.machines_only:
        return True
    shown = x.connection.shown
    return shown is not None and shown.speaks_for_machine


def _cors(route: Route, origin: bytes) -> list[Header]:
    headers = [(b"access-control-allow-origin", origin)]
    if route.settings.cors_credentials:
        headers.append((b"access-control-allow-credentials", b"true"))
    return headers
