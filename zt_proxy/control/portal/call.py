"""A request to the portal, and what the endpoints need of the world."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl

from aiohttp import web

from zt_proxy.control.approvals.manager import Approvals
from zt_proxy.control.approvals.types import Rules
from zt_proxy.control.devices.mail import Outbox
from zt_proxy.control.devices.store import KnownDevices
from zt_proxy.control.factors.manager import Factors
from zt_proxy.control.identity.types import IdentityProvider
from zt_proxy.control.portal.cookies import browser_of, read_cookie
from zt_proxy.control.portal.guard import LogoutGuard
from zt_proxy.control.portal.loops import LoopGuard
from zt_proxy.control.portal_verifier import PortalCall
from zt_proxy.control.risk.judge import Judge
from zt_proxy.control.session.logins import PendingLogins
from zt_proxy.control.session.manager import SessionManager
from zt_proxy.control.settings import AppHost, ControlSettings
from zt_proxy.control.watch.findings import Finding
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import CookieMac, KeyRing
from zt_proxy.core.session import Session


class PortalVerifier(Protocol):
    """Tells what a worker vouched for."""

    def verify(self, token: str) -> PortalCall:
        """Raises ClientError(ASSERTION_INVALID) unless a worker signed it for the portal, just now."""
        ...


class Locked(Protocol):
    """Tells of locks on people."""

    def on_session(self, session: Session) -> bool:
        """Whether a lock on this person, session or device is in force."""
        ...


class Portal:
    """Everything an endpoint may use."""

    def __init__(
        self,
        *,
        settings: ControlSettings,
        sessions: SessionManager,
        providers: Mapping[str, IdentityProvider],
        worker_ring: KeyRing,
        clock: Clock,
        jwks: Callable[[], dict[str, Any]],
        verify: PortalVerifier,
        factors: Factors,
        devices: KnownDevices,
        outbox: Outbox,
        judge: Judge,
        approvals: Approvals,
        locks: Locked,
        alarm: Callable[[Finding], None],
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.logins: PendingLogins = sessions.logins(settings)
        self.providers = providers
        self.ring = worker_ring
        self.mac = CookieMac(worker_ring)
        self.clock = clock
        self.jwks = jwks
        self.verify = verify
        self.factors = factors
        self.devices = devices
        self.outbox = outbox
        self.judge = judge
        self.approvals = approvals
        self.locks = locks
        self.alarm = alarm
        self.approvers: Rules = {(each.route, each.rule): each.approve for each in settings.approvals}
        self.loops = LoopGuard(clock)
        self.logout_guard = LogoutGuard()

    def app(self, host: str) -> AppHost:
        """Raises ClientError(HANDOFF_INVALID) for a host that is not configured: nothing ever leads there."""
        app = self.settings.apps.get(host)
        if app is None:
            raise ClientError(Reason.HANDOFF_INVALID, "the link leads to a host that is not configured")
        return app


class Call:
    """One request, with what the worker vouches for and what the browser brought."""

    def __init__(self, portal: Portal, request: web.BaseRequest, vouched: PortalCall) -> None:
        self.portal = portal
        self.request = request
        self.host = vouched.host
        self.client = vouched.client
        self.request_id = vouched.request_id
        self.navigation = is_navigation(request)
        self.retry: tuple[str, str] | None = None
        """Text and address of the one thing to do when this call fails, as soon as an endpoint knows it."""
        self.note = ""
        """A sentence for the page when this call fails: what the reason alone cannot say, like whose session it is."""
        self.allow = ""
        """Methods of the endpoint, for a 405."""
        self.cookies: list[str] = []
        """Set-Cookie lines for the answer, also for an error's."""

    def handle_hash(self) -> bytes | None:
        """Of the session cookie, if one came that was made here."""
        cookie = read_cookie(self.request, self.portal.settings.session_cookie)
        if cookie is None:
            return None
        try:
            return self.portal.mac.handle_hash(cookie)
        except ValueError:
            return None

    async def session(self) -> Session | None:
        """The live session of this browser at this host. Raises UnavailableError."""
        handle = self.handle_hash()
        return None if handle is None else await self.portal.sessions.session(handle, self.host)

    def browser(self) -> bytes | None:
        """SHA-256 of this host's login cookie; None if it did not come, or came twice."""
        cookie = read_cookie(self.request, self.portal.settings.login_cookie)
        return browser_of(cookie) if cookie else None

    def session_cookie(self) -> bytes | None:
        """SHA-256 of this host's session cookie, live or not: the browser, as hand-offs of a step-up know it."""
        cookie = read_cookie(self.request, self.portal.settings.session_cookie)
        return browser_of(cookie) if cookie else None

    def query(self) -> dict[str, str]:
        """The query's parameters. Raises ClientError(MALFORMED) if a name comes twice (RFC 6749 §3.1)."""
        return unique(self.request.raw_path.partition("?")[2])

    @property
    def origin(self) -> str:
        """Of the host that was asked: the portal's, or the app's."""
        settings = self.portal.settings
        return settings.portal_origin if self.host == settings.portal_host else settings.apps[self.host].origin

    @property
    def path(self) -> str:
        """As it came, without the query: nothing is decoded before the closed list was asked."""
        return self.request.raw_path.partition("?")[0]


def unique(form: str) -> dict[str, str]:
    """Parameters of `application/x-www-form-urlencoded` text. Raises ClientError(MALFORMED)."""
    try:
        pairs = parse_qsl(form, keep_blank_values=True, max_num_fields=32)
    except ValueError as error:
        raise ClientError(Reason.MALFORMED, "too many parameters") from error
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise ClientError(Reason.MALFORMED, "a parameter is repeated")
    return parameters


def is_navigation(request: web.BaseRequest) -> bool:
    """Whether a person will look at the answer: Sec-Fetch-Mode, else X-Requested-With and Accept (FIELD 2).

    What is shown in a frame of somebody else's page is not looked at: a hidden frame must not sign anybody in.
    """
    if "Sec-Purpose" in request.headers or "Purpose" in request.headers:
        return False  # fetched ahead of a navigation that may never come
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate" and request.headers.get("Sec-Fetch-Dest", "document") == "document"
    if "X-Requested-With" in request.headers:
        return False
    return "text/html" in request.headers.get("Accept", "")
