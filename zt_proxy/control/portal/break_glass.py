"""`/.zt/break-glass`: a named account does what rules deny, for a short time, says why, and is seen doing it.

It is for this one session. Whatever is done under it carries `break_glass` in its record, and is told to those who
watch. Locks hold all the same.
"""

import structlog
from aiohttp import web
from msgspec.structs import replace

from zt_proxy.control.approvals.types import is_named
from zt_proxy.control.devices.times import ahead, length
from zt_proxy.control.portal import words
from zt_proxy.control.portal.acting import acting, is_fresh
from zt_proxy.control.portal.answers import page, redirect
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.choose import choice
from zt_proxy.control.portal.forms import form_token
from zt_proxy.control.portal.sign_in import navigation_only
from zt_proxy.control.portal.sign_out import who
from zt_proxy.control.risk.judge import person_line
from zt_proxy.control.watch import findings
from zt_proxy.control.watch.findings import Facts
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.session import Session

BREAK_GLASS = "/.zt/break-glass"
CONFIRM = "/.zt/confirm?for=break-glass"
LONGEST = 4 * 3_600.0
"""Seconds, whatever the configuration says."""

log = structlog.get_logger(__name__)


def may_break(call: Call, session: Session) -> bool:
    """Whether the configuration names this account."""
    accounts, several = call.portal.settings.break_glass.accounts, len(call.portal.providers) > 1
    return session.mfa and is_named(session.principal, accounts, several=several)


async def ask(call: Call) -> web.StreamResponse:
    """GET /.zt/break-glass at the portal. Changes nothing. Raises ClientError(PATH_UNKNOWN, 404) for everybody whom the
    configuration does not name."""
    session = await call.session()
    if session is None:
        navigation_only(call)
        return choice(call)
    _refuse_others(call, session)
    return await _page(call, session)


async def change(call: Call) -> web.StreamResponse:
    """POST /.zt/break-glass: begin (after a proof just now, as strong as the person has) or, with `answer=end`, end it.

    On record before it counts. Raises ClientError: PATH_UNKNOWN (404), LOCKED (403); UnavailableError.
    """
    session, form = await acting(call, BREAK_GLASS, words.FORM_BYTES)
    _refuse_others(call, session)
    if form.get("answer") == "end":
        await _note(call, session, "ended")
        await call.portal.sessions.grants.mend_glass(session.sid)
        return redirect(call, "/.zt/me")
    if call.portal.locks.on_session(session):
        raise ClientError(Reason.LOCKED, "who is locked breaks no glass", status=403)
    if not await is_fresh(call, session):
        return redirect(call, CONFIRM)
    try:
        text = words.said(form.get("said", ""))
    except words.Unacceptable as wrong:
        return await _page(call, session, form.get("said", ""), str(wrong))
    until = min(call.portal.clock.now() + _lasts(call), session.absolute_deadline)
    await _note(call, session, "begun", until=until, justification=text)
    await call.portal.sessions.grants.break_glass(session.sid, until, text)
    _alarm(call, session, text)
    log.warning("glass broken", user=session.principal.subject, sid=session.sid, request_id=call.request_id)
    return redirect(call, "/.zt/me")


def _refuse_others(call: Call, session: Session) -> None:
    if not may_break(call, session):
        raise ClientError(Reason.PATH_UNKNOWN, "not an account for emergencies", status=404)


def _lasts(call: Call) -> float:
    return min(call.portal.settings.break_glass.lasts, LONGEST)


async def _page(call: Call, session: Session, said: str = "", wrong: str = "") -> web.Response:
    now = call.portal.clock.now()
    return page(
        call,
        "break_glass.html",
        status=400 if wrong else 200,
        has_form=True,
        who=who(session),
        broken=ahead(session.break_glass, now) if session.break_glass > now else None,
        lasts=length(_lasts(call)),
        locked=call.portal.locks.on_session(session),
        fresh=await is_fresh(call, session),
        confirm=CONFIRM,
        token=form_token(call),
        least=words.SHORTEST,
        most=words.LONGEST,
        said=said[: words.LONGEST * 2],
        wrong=wrong,
    )


def _alarm(call: Call, session: Session, text: str) -> None:
    """Tell those who watch already now, and not only when something is done by it."""
    who = session.principal
    facts = Facts(
        host=call.host,
        method="POST",
        client=call.client,
        sub=who.subject,
        email=who.email or "",
        provider=who.provider,
        sid=session.sid,
        justification=text,
        break_glass=True,
    )
    found = findings.break_glass(facts, call.request_id, BREAK_GLASS, call.portal.clock.now())
    call.portal.alarm(replace(found, summary=f"{facts.who} broke the glass: {findings.shown(text)}"))


async def _note(call: Call, session: Session, action: str, **more: str | float) -> None:
    await call.portal.sessions.note(
        "break-glass",
        action=action,
        sid=session.sid,
        request_id=call.request_id,
        **person_line(session.principal),
        client=call.client,
        **more,
    )
