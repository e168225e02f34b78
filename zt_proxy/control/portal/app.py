"""The portal as an aiohttp application on a private socket, behind the workers.

It verifies who calls like any upstream, and has two closed tables: what exists at the portal's host, and what little
exists at an app's (ZT-APP-01). Run it with `access_log=None`: targets carry one-time codes and states (ZT-LOG-02).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web

from zt_proxy.control.approvals.manager import Approvals
from zt_proxy.control.devices.mail import Outbox
from zt_proxy.control.devices.store import KnownDevices
from zt_proxy.control.factors.manager import Factors
from zt_proxy.control.identity.turns import InTurn, Turns, WaitingRoom
from zt_proxy.control.identity.types import IdentityProvider
from zt_proxy.control.portal import (
    approval,
    break_glass,
    confirm,
    enrol,
    home,
    kept,
    me,
    provider_logout,
    sign_in,
    sign_out,
    state,
    step_up,
    why,
)
from zt_proxy.control.portal import approvals as approvals_
from zt_proxy.control.portal import devices as devices_
from zt_proxy.control.portal.answers import failure, problem
from zt_proxy.control.portal.call import Call, Locked, Portal, PortalVerifier
from zt_proxy.control.risk.judge import Judge
from zt_proxy.control.session.manager import SessionManager
from zt_proxy.control.settings import ControlSettings
from zt_proxy.control.watch.findings import Finding
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason, ZtError
from zt_proxy.core.keys import KeyRing

ASSERTION = "X-ZT-Assertion"
BODY_LIMIT = 16 * 1024

Endpoint = Callable[[Call], Awaitable[web.StreamResponse]]

PORTAL_HOST: Mapping[str, Mapping[str, Endpoint]] = {
    "/": {"GET": home.home, "HEAD": home.home},
    "/.zt/": {"GET": home.home, "HEAD": home.home},
    "/.zt/sign-in": {"GET": sign_in.sign_in},
    "/.zt/callback": {"GET": sign_in.callback},
    "/.zt/sign-out": {"GET": sign_out.ask, "POST": sign_out.sign_out},
    "/.zt/signed-out": {"GET": sign_out.signed_out},
    "/.zt/back-channel-logout": {"POST": provider_logout.back_channel},
    "/.zt/front-channel-logout": {"GET": provider_logout.front_channel},
    "/.zt/session": {"GET": state.session_state},
    "/.zt/me": {"GET": me.me},
    "/.zt/me/end": {"POST": me.end},
    "/.zt/me/end-all": {"POST": me.end_all},
    "/.zt/me/device": {"POST": me.forget_device},
    "/.zt/me/rename": {"POST": me.rename},
    "/.zt/me/remove": {"POST": me.remove},
    "/.zt/me/codes": {"POST": me.codes},
    "/.zt/not-me": {"GET": devices_.ask, "POST": devices_.not_me},
    "/.zt/jwks.json": {"GET": home.keys, "HEAD": home.keys},
    "/.zt/confirm": {"GET": confirm.confirm},
    "/.zt/confirm/options": {"POST": confirm.options},
    "/.zt/confirm/passkey": {"POST": confirm.passkey},
    "/.zt/confirm/code": {"POST": confirm.code},
    "/.zt/enrol": {"GET": enrol.enrol},
    "/.zt/enrol/options": {"POST": enrol.options},
    "/.zt/enrol/passkey": {"POST": enrol.passkey},
    "/.zt/enrol/totp": {"POST": enrol.totp},
    "/.zt/enrol/codes": {"POST": enrol.codes},
    "/.zt/enrol/done": {"POST": enrol.done},
    "/.zt/portal.js": {"GET": confirm.script},
    "/.zt/why": {"GET": why.ask, "POST": why.say},
    "/.zt/approval": {"GET": approval.wait, "POST": approval.ask},
    "/.zt/approvals": {"GET": approvals_.approvals, "POST": approvals_.decide},
    "/.zt/break-glass": {"GET": break_glass.ask, "POST": break_glass.change},
}
APP_HOST: Mapping[str, Mapping[str, Endpoint]] = {
    "/.zt/resume": {"GET": step_up.resume},
    "/.zt/step-up": {"GET": step_up.step_up},
    "/.zt/keep": {"POST": kept.keep},
    "/.zt/sign-out": {"GET": sign_out.start},
    "/.zt/session": {"GET": state.session_state},
    "/.zt/activity": {"POST": state.activity},
    "/.zt/jwks.json": {"GET": home.keys, "HEAD": home.keys},
}

log = structlog.get_logger(__name__)


def build_portal(
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
) -> web.Application:
    """The application; whoever calls this runs it on `settings.socket`."""
    room = WaitingRoom(settings.logins_waiting)
    portal = Portal(
        settings=settings,
        sessions=sessions,
        providers={name: InTurn(one, Turns(settings.logins_at_once, room)) for name, one in providers.items()},
        worker_ring=worker_ring,
        clock=clock,
        jwks=jwks,
        verify=verify,
        factors=factors,
        devices=devices,
        outbox=outbox,
        judge=judge,
        approvals=approvals,
        locks=locks,
        alarm=alarm,
    )

    async def entry(request: web.Request) -> web.StreamResponse:
        return await serve(portal, request)

    application = web.Application(client_max_size=BODY_LIMIT)
    application.router.add_route("*", "/{tail:.*}", entry)
    return application


async def serve(portal: Portal, request: web.BaseRequest) -> web.StreamResponse:
    """Verify, find the endpoint, answer; every failure has a reason and shows nothing internal (ZT-ERR-01)."""
    tokens = request.headers.getall(ASSERTION, [])
    try:
        if len(tokens) != 1:
            raise ClientError(Reason.ASSERTION_INVALID, "the signed header must come exactly once", status=403)
        call = Call(portal, request, portal.verify.verify(tokens[0]))
    except ZtError as error:
        log.warning("portal call refused", reason=error.reason.value, detail=error.detail)
        return problem(403, Reason.ASSERTION_INVALID, "")
    try:
        return await _endpoint(call)(call)
    except ZtError as error:
        log.info(
            "portal refused",
            reason=error.reason.value,
            detail=error.detail,
            status=error.status,
            host=call.host,
            path=call.path,
            client=call.client,
            request_id=call.request_id,
        )
        return failure(call, error)
    except Exception:
        log.exception("portal failed", host=call.host, path=call.path, request_id=call.request_id)
        return failure(call, ZtError(Reason.INTERNAL_ERROR))


def _endpoint(call: Call) -> Endpoint:
    """Raises ClientError(HOST_UNKNOWN, PATH_UNKNOWN or METHOD_REFUSED)."""
    settings = call.portal.settings
    if call.host == settings.portal_host:
        table = PORTAL_HOST
        call.retry = ("Go to your applications", "/")
    elif call.host in settings.apps:
        table = APP_HOST
    else:
        raise ClientError(Reason.HOST_UNKNOWN, "neither the portal nor an application", status=404)
    methods = table.get(call.path)
    if methods is None:
        raise ClientError(Reason.PATH_UNKNOWN, "not in the closed list", status=404)
    endpoint = methods.get(call.request.method)
    if endpoint is None:
        call.allow = ", ".join(methods)
        raise ClientError(Reason.METHOD_REFUSED, "not a method of this endpoint", status=405)
    return endpoint
