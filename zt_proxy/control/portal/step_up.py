"""Step-up at an app's host: on the way out to the portal, and on the way back with a proof.

Nobody can confirm for a session in another browser: the hand-off is bound to the browser that asked, and the proof
counts only where the cookie at this host belongs to the very session it was made for (ZT-SESS-18, ZT-APP-02).
"""

import hmac
from urllib.parse import quote

import msgspec
from aiohttp import web

from zt_proxy.control.portal import kept
from zt_proxy.control.portal.answers import check_target, redirect
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.cookies import set_cookie
from zt_proxy.control.risk.judge import person_line
from zt_proxy.control.session.logins import Passage, Unlock
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff, Purpose, open_handoff, seal_handoff
from zt_proxy.core.session import Session, unlock_key

CONFIRMED = "/.zt/confirmed"
"""Last page of the small window: tells the page that opened it, and closes."""


async def step_up(call: Call) -> web.StreamResponse:
    """GET /.zt/step-up?to=HAND-OFF[&window=1] at an app's host: on to the portal. With `window=1` it comes back to the
    page that closes a small window.

    Raises ClientError(HANDOFF_INVALID, LOGIN_OTHER_BROWSER or LOGIN_REQUIRED).
    """
    call.retry = ("Go to the start page", "/")
    if not call.navigation:
        raise ClientError(Reason.LOGIN_REQUIRED, "a background request never steps up", status=401)
    query = call.query()
    handoff = await _opened(call, query.get("to", ""))
    if query.get("window") == "1":
        handoff = msgspec.structs.replace(handoff, window=True, target=CONFIRMED, kept="")
    return redirect(
        call, f"{call.portal.settings.portal_origin}/.zt/sign-in?to={quote(seal_handoff(call.portal.ring, handoff))}"
    )


async def _opened(call: Call, text: str) -> Handoff:
    handoff = open_handoff(call.portal.ring, text, call.portal.clock.now())
    if handoff.host != call.host or handoff.purpose is Purpose.LOGOUT:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is for something else")
    session = await call.session() if handoff.purpose is Purpose.REAUTH else None
    if session is not None:
        if session.sid != handoff.sid:
            raise ClientError(Reason.LOGIN_OTHER_BROWSER, "the hand-off is for another session")
        return handoff
    shown = (call.browser(), call.session_cookie())
    if not any(each is not None and hmac.compare_digest(each, handoff.binder) for each in shown):
        raise ClientError(Reason.LOGIN_OTHER_BROWSER, "the hand-off is of another browser")
    return handoff


async def resume(call: Call) -> web.StreamResponse:
    """GET /.zt/resume at an app's host: the code becomes this host's cookie, or a proof for the session that has one;
    once, in the browser that asked."""
    portal = call.portal
    call.retry = ("Go to the start page", "/")
    before = await call.session()
    try:
        passage = await portal.logins.redeem(
            call.query().get("code", ""), host=call.host, binder=call.browser(), also=call.session_cookie()
        )
    except ClientError as error:
        if before is not None and error.reason is Reason.LOGIN_EXPIRED:
            return redirect(call, "/")
        raise
    if passage.unlock is not None:
        return await _unlock(call, passage, before)
    await _new_cookie(call, passage.sid)
    portal.loops.completed(passage.browser, call.host, arrived=passage.arrived, handoff_expires=passage.handoff_expires)
    if before is not None and before.sid != passage.sid:
        await portal.sessions.end(before.sid, "replaced")
    return redirect(call, check_target(passage.target))


async def _unlock(call: Call, passage: Passage, session: Session | None) -> web.StreamResponse:
    """Raises ClientError(LOGIN_OTHER_BROWSER, 403) for the cookie of another session."""
    target, unlock = check_target(passage.target), passage.unlock
    if session is None or unlock is None:
        return redirect(call, target)  # it ended on the way; whoever still wants to go there is asked to sign in
    if session.sid != passage.sid:
        raise ClientError(Reason.LOGIN_OTHER_BROWSER, "the proof is for another session", status=403)
    await _new_cookie(call, session.sid)  # first: what is proved now is nothing for a copy of the old one
    if unlock.proof is not None:
        await call.portal.sessions.unlock(session.sid, unlock.route, unlock.rule, unlock.proof, unlock.request)
    elif unlock.said:
        await _justify(call, session, unlock)
    if passage.kept:
        return await kept.page(call, passage.kept, session.sid, target)
    return redirect(call, target)


async def _justify(call: Call, session: Session, unlock: Unlock) -> None:
    """What the person said counts from here on, and is on record before. Raises UnavailableError."""
    await call.portal.sessions.note(
        "justified",
        sid=session.sid,
        request_id=call.request_id,
        **person_line(session.principal),
        client=call.client,
        host=call.host,
        route=unlock.route,
        rule=unlock.rule,
        justification=unlock.said,
    )
    await call.portal.sessions.grants.justify(session.sid, unlock_key(unlock.route, unlock.rule), unlock.said)


async def _new_cookie(call: Call, sid: str) -> None:
    """The handle of before is dead, also after a step-up (ZT-OIDC-01)."""
    handle = await call.portal.sessions.issue_handle(sid, call.host)
    call.cookies.append(set_cookie(call.portal.settings.session_cookie, handle))
