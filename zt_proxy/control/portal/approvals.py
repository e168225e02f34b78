"""`/.zt/approvals`: what waits for this person's word, and what became of what they asked others for."""

from typing import NamedTuple

from aiohttp import web

from zt_proxy.control.approvals.types import Request, State, may_decide, name_of
from zt_proxy.control.devices.times import When, ahead, before, length
from zt_proxy.control.portal.acting import acting, is_fresh
from zt_proxy.control.portal.answers import page, redirect
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.choose import choice
from zt_proxy.control.portal.forms import form_token
from zt_proxy.control.portal.sign_in import navigation_only
from zt_proxy.control.portal.sign_out import who
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.session import Session
from zt_proxy.policy.spec import Approve

APPROVALS = "/.zt/approvals"
CONFIRM = "/.zt/confirm?for=approvals"
SHOWN = 50
"""Requests on the page, the oldest first."""

DONE = {
    "approved": "You agreed. It counts from now on.",
    "refused": "You refused. The person who asked will see that.",
}


class Row(NamedTuple):
    id: str
    name: str
    shown: str
    """How the person calls themselves; empty: no other way than `name`."""
    request: Request
    asked: When
    expires: When
    lasts: When | None
    """How long the approval lasts; None: there is none."""
    covers: str
    """How long one would last, in words; empty: the rule asks for none any more."""


async def approvals(call: Call) -> web.StreamResponse:
    """GET /.zt/approvals at the portal. Changes nothing. Signed out: sign in."""
    session = await call.session()
    if session is None:
        navigation_only(call)
        return choice(call)
    now = call.portal.clock.now()
    locked = call.portal.locks.on_session(session)
    waiting = () if locked else _waiting(call, session)
    return page(
        call,
        "approvals.html",
        has_form=True,
        who=who(session),
        rows=[_row(call, each, now) for each in waiting[:SHOWN]],
        more=max(0, len(waiting) - SHOWN),
        own=[_row(call, each, now) for each in call.portal.approvals.of_session(session.sid)],
        locked=locked,
        fresh=await is_fresh(call, session),
        confirm=CONFIRM,
        token=form_token(call),
        done=DONE.get(call.query().get("done", ""), ""),
    )


async def decide(call: Call) -> web.StreamResponse:
    """POST /.zt/approvals: agree to a request, or refuse it, after a proof just now; both persons go on record.

    Raises ClientError: LOCKED (403), MALFORMED, APPROVAL_UNKNOWN (404) for a request that does not wait for this
    person, theirs included; UnavailableError(RECORD_UNAVAILABLE).
    """
    session, form = await acting(call, APPROVALS)
    if call.portal.locks.on_session(session):
        raise ClientError(Reason.LOCKED, "who is locked decides for nobody", status=403)
    if not await is_fresh(call, session):
        return redirect(call, CONFIRM)
    request = call.portal.approvals.find(form.get("id", ""))
    named = _may(call, session, request) if request is not None else None
    if request is None or named is None:
        raise ClientError(Reason.APPROVAL_UNKNOWN, "no request that waits for this person", status=404)
    answer = form.get("answer")
    if answer == "approve":
        await call.portal.approvals.approve(request.id, session.principal, named)
        return redirect(call, f"{APPROVALS}?done=approved")
    if answer == "refuse":
        await call.portal.approvals.refuse(request.id, session.principal)
        return redirect(call, f"{APPROVALS}?done=refused")
    raise ClientError(Reason.MALFORMED, "neither approve nor refuse")


def counts(call: Call, session: Session) -> tuple[int, int]:
    """How many requests wait for this person's word, and how many of this session wait for others'."""
    now = call.portal.clock.now()
    own = [each for each in call.portal.approvals.of_session(session.sid) if each.waits(now)]
    return len(() if call.portal.locks.on_session(session) else _waiting(call, session)), len(own)


def _waiting(call: Call, session: Session) -> tuple[Request, ...]:
    return call.portal.approvals.waiting(call.portal.approvers, lambda each: _may(call, session, each) is not None)


def _may(call: Call, session: Session, request: Request) -> Approve | None:
    """The rule's word on who may agree, if that is this person, and they showed a second factor."""
    app = call.portal.settings.apps.get(request.handoff.host)
    if app is None or not session.mfa or request.sid == session.sid:
        return None
    provider = app.providers.get(request.handoff.route, "")
    several = len(call.portal.providers) > 1
    if not may_decide(request, session.principal, call.portal.approvers, provider, several=several):
        return None
    return call.portal.approvers[request.rule]


def _row(call: Call, request: Request, now: float) -> Row:
    asks, named = request.who, call.portal.approvers.get(request.rule)
    approved = request.state is State.APPROVED
    return Row(
        id=request.id,
        name=name_of(asks),
        shown=asks.name if asks.name and asks.name != name_of(asks) else "",
        request=request,
        asked=before(request.created, now),
        expires=ahead(request.expires, now),
        lasts=ahead(request.until, now) if approved else None,
        covers=length(named.valid) if named is not None else "",
    )
