"""`/.zt/approval`: a rule lets somebody through when another person agrees. Here they are asked, and waited for."""

from urllib.parse import urlencode

from aiohttp import web

from zt_proxy.control.approvals.notice import letters
from zt_proxy.control.approvals.types import Request, State
from zt_proxy.control.devices.times import When, ahead
from zt_proxy.control.portal import words
from zt_proxy.control.portal.answers import page, redirect
from zt_proxy.control.portal.asked import Asked, back, open_asked
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.forms import check_token, form_token, read_form, refuse_foreign
from zt_proxy.control.portal.sign_in import navigation_only
from zt_proxy.control.portal.sign_out import who
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.policy.spec import Approve

ASK = "approve"
POLL = 5
"""Seconds after which the page looks again whether somebody has decided."""


async def wait(call: Call) -> web.StreamResponse:
    """GET /.zt/approval?to=…|login=…|id=… at the portal: asks, or waits; goes on when somebody has agreed.

    It is not activity: a window that waits keeps no session alive.
    """
    navigation_only(call)
    asked = await open_asked(call, ASK)
    named, request = _named(call, asked), _request(call, asked)
    approval = asked.record.approved.get(asked.key)
    now = call.portal.clock.now()
    if approval is not None and approval.until > now and approval.scope == asked.handoff.scope:
        if asked.request is not None or asked.login:
            return redirect(call, await back(call, asked))
        # A worker asked though somebody has agreed. To send the browser on by itself might go in circles.
        return _page(call, asked, named, request, state="approved")
    if asked.bound and asked.request is None and request is not None and request.state is State.WAITING:
        return redirect(call, _waiting_at(call, request))
    return _page(call, asked, named, request, state=request.state.value if request is not None else "new")


async def ask(call: Call) -> web.StreamResponse:
    """POST /.zt/approval: makes the request, or (`answer=on`) goes on to the app when somebody has agreed."""
    refuse_foreign(call, "/")
    form = await read_form(call, words.FORM_BYTES)
    asked = await open_asked(call, ASK)
    if asked.bound:
        check_token(call, form, "/.zt/approval?" + asked.query)
    named, request = _named(call, asked), _request(call, asked)
    if form.get("answer") == "on":
        return redirect(call, await back(call, asked))
    try:
        reason = words.said(form.get("said", ""), optional=True)
    except words.Unacceptable as wrong:
        return _page(call, asked, named, request, state="new", said=form.get("said", ""), wrong=str(wrong))
    known, request = request, await call.portal.approvals.ask(asked.record, asked.handoff, reason)
    if known is None or known.id != request.id:
        _tell(call, request, named)
    return redirect(call, _waiting_at(call, request) if asked.bound else f"/.zt/approval?{asked.query}")


def _waiting_at(call: Call, request: Request) -> str:
    """The page that waits for this request, good for as long as it is; and where to come back to."""
    to = call.query().get("to")
    return "/.zt/approval?" + urlencode({"id": request.id, **({"to": to} if to else {})})


def _tell(call: Call, request: Request, named: Approve) -> None:
    """By mail, where it is configured: those who may agree, as far as the rule says their addresses."""
    settings = call.portal.settings
    if call.portal.outbox.active:
        found = letters(request, named, portal_host=settings.portal_host, portal_origin=settings.portal_origin)
        for letter in found:
            call.portal.outbox.put(letter)


def _named(call: Call, asked: Asked) -> Approve:
    """Who may agree. Raises ClientError(HANDOFF_INVALID) if the rule asks nobody any more."""
    named = call.portal.approvers.get((asked.handoff.route, asked.handoff.rule))
    if named is None:
        call.retry = ("Go back", asked.origin + "/")
        raise ClientError(Reason.HANDOFF_INVALID, "no such rule asks for an approval any more")
    return named


def _request(call: Call, asked: Asked) -> Request | None:
    """The latest of this session under this rule, unless its approval is over."""
    handoff = asked.handoff
    request = asked.request or call.portal.approvals.latest(asked.record.sid, handoff)
    if request is not None and request.state is State.APPROVED and request.until <= call.portal.clock.now():
        return None
    return request


def _page(
    call: Call,
    asked: Asked,
    named: Approve,
    request: Request | None,
    *,
    state: str,
    said: str = "",
    wrong: str = "",
) -> web.Response:
    """`state`: of the request, or `new`."""
    waits = state == State.WAITING.value
    return page(
        call,
        "approval.html",
        status=400 if wrong else 200,
        form_action=(asked.origin,),
        has_form=True,
        handoff=asked.handoff,
        who=who(asked.record),
        users=named.users,
        groups=named.groups,
        request=request,
        expires=_ahead(call, request.expires) if request is not None else None,
        state=state,
        poll=POLL if waits else 0,
        query=asked.query,
        token=form_token(call) if asked.bound else "",
        most=words.LONGEST,
        said=said[: words.LONGEST * 2],
        wrong=wrong,
        portal=call.portal.settings.portal_origin,
        back=asked.origin + "/",
    )


def _ahead(call: Call, at: float) -> When:
    return ahead(at, call.portal.clock.now())
