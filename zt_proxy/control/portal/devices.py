"""A session begins, in a browser that its person knows, or in one they get mail about; and "this was not me".

The mail's link asks and does nothing by itself: scanners follow links. The form behind it is good once, needs no
session, and ends all that the person has.
"""

import structlog
from aiohttp import web

from zt_proxy.control.devices.agent import agent_label
from zt_proxy.control.devices.notice import new_device
from zt_proxy.control.devices.store import KEPT, NOTICE_LIFE, Notice, Seen, new_device_id
from zt_proxy.control.devices.times import DAY, machine, written
from zt_proxy.control.factors.types import Person
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.portal.answers import page
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.cookies import read_cookie, set_cookie
from zt_proxy.control.portal.forms import read_form, refuse_foreign
from zt_proxy.control.risk.judge import person_line, place_line, risk_line
from zt_proxy.control.session.record import Arrival, SessionRecord
from zt_proxy.core.errors import UnavailableError
from zt_proxy.policy.geo import Place
from zt_proxy.policy.risk import agent_mark

log = structlog.get_logger(__name__)


async def begin_session(call: Call, login: VerifiedLogin, *, replaces: str = "") -> SessionRecord:
    """The new session of a login that is strong enough, at the portal's host; the device's cookie is in `call.cookies`.

    Raises as `SessionManager.create`. Devices and mail can fail without anybody being shut out.
    """
    portal, who = call.portal, Person.of(login.principal)
    place = portal.judge.place(call.client, call.request.headers.get)
    arrival = await _arrival(call, who)
    risk = await portal.judge.judge(who, place, arrival.device_known)
    record = await portal.sessions.create(login, arrival, replaces=replaces, risk=risk)
    await _record(call, record, place)
    try:
        await _recognise(call, record, arrival)
        await portal.judge.admitted(record.principal, place)
    except UnavailableError as error:
        log.error("known devices or people unavailable", detail=error.detail, sid=record.sid)
    return record


async def _arrival(call: Call, who: Person) -> Arrival:
    """Before the session is made: what it is judged by, and keeps."""
    agent = call.request.headers.get("User-Agent", "")
    known, device = None, ""
    try:
        device = await call.portal.devices.id_of(who, read_cookie(call.request, call.portal.settings.device_cookie))
        known = bool(device)
    except UnavailableError as error:
        log.error("known devices unavailable", detail=error.detail)
    mark = agent_mark(agent.encode("utf-8", "surrogateescape"))
    if known is False:
        device = new_device_id()
    return Arrival(agent_label(agent), call.client, mark, known, device)


async def _record(call: Call, record: SessionRecord, place: Place) -> None:
    """The sign-in goes on record before anybody has its cookie. Raises UnavailableError: then there is no session."""
    sessions, arrival = call.portal.sessions, record.arrival
    known = {} if arrival.device_known is None else {"device_known": arrival.device_known}
    try:
        await sessions.note(
            "signed-in",
            sid=record.sid,
            request_id=call.request_id,
            **person_line(record.principal),
            **place_line(place),
            device=arrival.label,
            device_id=arrival.device,
            **known,
            acr=record.acr,
            amr=record.amr,
            auth_level=record.level.word,
            **risk_line(record.risk),
        )
    except UnavailableError:
        await sessions.end(record.sid, "unrecorded")
        raise


async def _recognise(call: Call, record: SessionRecord, arrival: Arrival) -> None:
    """After the session was made: a sign-in that was refused makes no device known."""
    portal, who = call.portal, Person.of(record.principal)
    cookie = read_cookie(call.request, portal.settings.device_cookie)
    seen = await portal.devices.seen(who, cookie, arrival.label, arrival.address, arrival.device)
    call.cookies.append(set_cookie(portal.settings.device_cookie, seen.cookie, KEPT))
    if seen.new and not seen.first:
        log.info("signed in with a new device", sid=record.sid, device=seen.device.id)
        await _tell(call, who, seen)


async def _tell(call: Call, who: Person, seen: Seen) -> None:
    portal = call.portal
    if who.email is None or not portal.outbox.active:
        return
    portal.outbox.put(
        new_device(
            to=who.email,
            device=seen.device,
            at=seen.device.last_seen,
            portal_host=portal.settings.portal_host,
            portal_origin=portal.settings.portal_origin,
            token=await portal.devices.notice(who, seen.device),
            days=round(NOTICE_LIFE / DAY),
        )
    )


async def ask(call: Call) -> web.StreamResponse:
    """GET /.zt/not-me?token=… at the portal: what the mail told of, and the question. Changes nothing."""
    token = call.query().get("token", "")
    notice = await call.portal.devices.asked(token)
    return _page(call, "ask" if notice is not None else "gone", notice, token)


async def not_me(call: Call) -> web.StreamResponse:
    """POST /.zt/not-me: every session of the person ends and the device is forgotten; the link is then used up.

    Raises UnavailableError; the link then still works.
    """
    refuse_foreign(call, "/")
    token = (await read_form(call)).get("token", "")
    portal = call.portal
    notice = await portal.devices.asked(token)
    if notice is None:
        return _page(call, "gone", None, "")
    who = notice.person
    await portal.sessions.note(
        "not-me", user=who.subject, issuer=who.issuer, device=notice.label, address=notice.address, client=call.client
    )
    ended = await portal.sessions.end_subject(who.issuer, who.subject, "not-me")
    await portal.devices.forget(who, notice.device)
    await portal.judge.not_theirs(who, notice.address)
    await portal.devices.take(token)
    log.warning("a person says a sign-in was not theirs", sessions=ended, request_id=call.request_id)
    return _page(call, "done", notice, "")


def _page(call: Call, state: str, notice: Notice | None, token: str) -> web.Response:
    return page(
        call,
        "not_me.html",
        status=404 if state == "gone" else 200,
        has_form=state == "ask",
        state=state,
        token=token,
        label=notice.label if notice is not None else "",
        address=notice.address if notice is not None else "",
        at=(machine(notice.at), written(notice.at)) if notice is not None else ("", ""),
    )
