"""A hand-off that asks a person for something else than a proof, and the session that it is for.

It is answered in the browser of that very session alone: the portal's session here is the same one, or, where the
portal's cookie is lost, the person has just come back from the provider and what they answer counts at the app's host,
where the session's own cookie is.
"""

import contextlib
from typing import NamedTuple
from urllib.parse import quote, urlencode

from zt_proxy.control.approvals.types import Request
from zt_proxy.control.portal import adopt
from zt_proxy.control.portal.answers import check_target
from zt_proxy.control.portal.call import Call
from zt_proxy.control.session.record import SessionRecord
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff, Purpose, open_handoff
from zt_proxy.core.session import unlock_key


class Asked(NamedTuple):
    """Who is asked, and about what."""

    handoff: Handoff
    record: SessionRecord
    """Of the live session."""
    query: str
    """Names this in every address that belongs to it."""
    login: str
    """The name of the half login that stands for the browser; empty: the portal's session does."""
    origin: str
    """Of the app, where an answer leads."""
    request: Request | None = None
    """The request for approval that the query names."""

    @property
    def bound(self) -> bool:
        """A form needs the session's token: the query is not a secret of this browser."""
        return not self.login

    @property
    def key(self) -> str:
        return unlock_key(self.handoff.route, self.handoff.rule)


async def open_asked(call: Call, ask: str) -> Asked:
    """What this request's query names. `ask`: see `Handoff.ask`.

    Raises ClientError: HANDOFF_INVALID, LOGIN_REQUIRED, LOGIN_STATE_UNKNOWN, LOGIN_OTHER_BROWSER, LOGIN_EXPIRED,
    APPROVAL_UNKNOWN.
    """
    call.retry = ("Go to your applications", "/")
    query = call.query()
    if "login" in query:
        return await _after_login(call, ask, query["login"])
    session = await call.session()
    request = None
    if "id" in query:
        if session is None:
            call.retry = ("Sign in", "/.zt/sign-in")
            raise ClientError(Reason.LOGIN_REQUIRED, "no session at the portal", status=401)
        request = call.portal.approvals.find(query["id"])
        if request is None or session.sid != request.sid or ask != request.handoff.ask:
            raise ClientError(Reason.APPROVAL_UNKNOWN, "no such request of this session", status=404)
        handoff, named = _newest(call, request, query.get("to", "")), {"id": request.id}
        if "to" in query:
            named["to"] = query["to"]
    else:
        named = {"to": query.get("to", "")}
        handoff = open_handoff(call.portal.ring, named["to"], call.portal.clock.now())
        _check(call, handoff, ask)
        if session is None or session.sid != handoff.sid:
            call.retry = ("Start again", "/.zt/sign-in?to=" + quote(named["to"]))
            raise ClientError(Reason.LOGIN_REQUIRED, "what is asked is for another session", status=401)
    return await _asked(call, handoff, urlencode(named), "", request)


def _newest(call: Call, request: Request, text: str) -> Handoff:
    """Where to come back to: as the person came last, while that hand-off is good, else as they came first."""
    with contextlib.suppress(ClientError):
        handoff = open_handoff(call.portal.ring, text, call.portal.clock.now())
        _check(call, handoff, request.handoff.ask)
        about = (handoff.sid, handoff.route, handoff.rule, handoff.scope)
        if about == (request.sid, *request.rule, request.handoff.scope):
            return handoff
    return request.handoff


async def back(call: Call, asked: Asked, said: str = "") -> str:
    """Where the app goes on, as after a step-up; what was said travels along."""
    if asked.login:
        await call.portal.logins.take_half(asked.login, call.browser())
    now = call.portal.clock.now()
    return await adopt.unlock_at_app(
        call, asked.handoff, None, browser=adopt.ensure_browser(call), arrived=now, said=said
    )


async def _after_login(call: Call, ask: str, name: str) -> Asked:
    half = await call.portal.logins.half(name, call.browser())
    handoff = half.transaction.handoff
    if handoff is None or not half.transaction.force or half.login.level < handoff.level:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is for something else")
    _check(call, handoff, ask)
    return await _asked(call, handoff, urlencode({"login": name}), name, None)


async def _asked(call: Call, handoff: Handoff, query: str, login: str, request: Request | None) -> Asked:
    origin = call.portal.app(handoff.host).origin
    record = await call.portal.sessions.record(handoff.sid)
    if record is None:
        call.retry = ("Start again", origin + check_target(handoff.target))
        raise ClientError(Reason.LOGIN_EXPIRED, "the session is over")
    return Asked(handoff, record, query, login, origin, request)


def _check(call: Call, handoff: Handoff, ask: str) -> None:
    """Raises ClientError(HANDOFF_INVALID)."""
    if handoff.purpose is not Purpose.REAUTH or handoff.ask != ask:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is for something else")
    call.portal.app(handoff.host)
    check_target(handoff.target)
