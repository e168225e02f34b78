"""What a person sees of themselves, and what they can change: sessions, devices, factors.

Everything is a plain form with a token bound to this browser's session. What is named in a form is looked up among the
person's own; what is somebody else's does not exist. What weakens the account needs a fresh proof.
"""

from typing import NamedTuple

import structlog
from aiohttp import web

from zt_proxy.control.devices.store import Device
from zt_proxy.control.devices.times import When, ahead, before
from zt_proxy.control.factors.types import Factor, FactorKind, Person
from zt_proxy.control.portal import adopt
from zt_proxy.control.portal.acting import acting, is_fresh
from zt_proxy.control.portal.answers import page, redirect
from zt_proxy.control.portal.approvals import counts
from zt_proxy.control.portal.break_glass import may_break
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.choose import choice
from zt_proxy.control.portal.confirm import SCRIPT_URL
from zt_proxy.control.portal.cookies import clear_cookie
from zt_proxy.control.portal.forms import form_token
from zt_proxy.control.portal.sign_in import navigation_only
from zt_proxy.control.portal.sign_out import origin_of, provider_logout, who
from zt_proxy.control.session.directory import Listed
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.session import Level, Session

ME = "/.zt/me"
CONFIRM = "/.zt/confirm?for=me"

DONE = {
    "ended": "That session has ended.",
    "forgotten": "That device is forgotten. The next sign-in with it counts as one with a new device.",
    "renamed": "The new name is saved.",
    "removed": "The factor is removed.",
}
_LEVELS = {
    Level.SINGLE: "with one factor",
    Level.MULTI: "with two factors",
    Level.PHISHING_RESISTANT: "with a factor that cannot be phished",
}
_METHODS = {
    "pwd": "password",
    "pin": "PIN",
    "otp": "one-time code",
    "sms": "text message",
    "tel": "phone call",
    "hwk": "security key",
    "swk": "software key",
    "pop": "passkey",
    "fpt": "fingerprint",
    "face": "face",
    "iris": "iris",
    "sc": "smart card",
    "kba": "security question",
}
"""Words for methods of RFC 8176 §2; others say nothing to a person."""
_KINDS = {
    FactorKind.PASSKEY: "Passkey",
    FactorKind.TOTP: "Authenticator app",
    FactorKind.RECOVERY: "Recovery codes",
}
log = structlog.get_logger(__name__)

_LASTING = (FactorKind.PASSKEY, FactorKind.TOTP)


class SessionRow(NamedTuple):
    sid: str
    here: bool
    device: str
    address: str
    started: When
    seen: When
    hosts: tuple[str, ...]


class DeviceRow(NamedTuple):
    id: str
    label: str
    address: str
    first: When
    last: When


class FactorRow(NamedTuple):
    id: str
    kind: str
    name: str
    added: When
    used: When | None
    remaining: int | None
    """Of recovery codes."""
    usable: bool
    disabled: bool
    last: bool
    """Without it, the person has no second factor here."""


async def me(call: Call) -> web.StreamResponse:
    """GET /.zt/me at the portal: who am I, how strongly proven, until when, and what is mine. Signed out: sign in."""
    session = await call.session()
    if session is None:
        navigation_only(call)
        return choice(call)
    portal, now = call.portal, call.portal.clock.now()
    if call.navigation:
        portal.sessions.activity(session.sid, now)
    person = Person.of(session.principal)
    factors = await portal.factors.of(person)
    provider = portal.providers.get(session.principal.provider)
    waiting, asked = counts(call, session)
    proof = adopt.portal_proof(call, session) or session.proved()
    idle_end = min(now + session.idle_timeout, session.absolute_deadline)
    url = await provider_logout(call, session)
    return page(
        call,
        "me.html",
        # Chromium holds the redirects after a form's POST to form-action: the provider's logout must be in it.
        form_action=() if url is None else (origin_of(url),),
        has_form=True,
        who=who(session),
        email=session.principal.email,
        provider=provider.display_name if provider is not None else session.principal.provider,
        groups=sorted(session.principal.groups),
        level=_LEVELS[proof.level],
        proved=before(proof.at, now) if proof.at else None,
        methods=[_METHODS[each] for each in session.amr if each in _METHODS],
        idle=ahead(idle_end, now),
        end=ahead(session.absolute_deadline, now),
        sessions=await _sessions(call, session, now),
        devices=await _devices(call, person, now),
        factors=[_factor(each, factors, now) for each in factors],
        own_factors=bool(factors) or not portal.settings.factors.accept.isdisjoint({"passkey", "totp"}),
        fresh=await is_fresh(call, session),
        waiting=waiting,
        asked=asked,
        broken=ahead(session.break_glass, now) if session.break_glass > now else None,
        may_break=may_break(call, session),
        confirm=CONFIRM,
        token=form_token(call),
        done=DONE.get(call.query().get("done", ""), ""),
    )


async def end(call: Call) -> web.StreamResponse:
    """POST /.zt/me/end: one session of the person's own. Raises ClientError(SESSION_UNKNOWN, 404) for any other."""
    session, form = await acting(call, ME)
    sid = form.get("sid", "")
    if sid == session.sid:
        return redirect(call, "/.zt/sign-out")
    if sid not in {each.sid for each in await _listed(call, session)}:
        raise ClientError(Reason.SESSION_UNKNOWN, "no such session of this person", status=404)
    await call.portal.sessions.end(sid, "signed-out")
    return redirect(call, f"{ME}?done=ended")


async def end_all(call: Call) -> web.StreamResponse:
    """POST /.zt/me/end-all: every session of the person, this one last seen at the provider's own logout."""
    session, _ = await acting(call, ME)
    url = await provider_logout(call, session)
    await call.portal.sessions.end_subject(session.principal.issuer, session.principal.subject, "signed-out")
    browser = call.browser()
    if browser is not None:
        call.portal.loops.forget(browser)
    call.cookies.append(clear_cookie(call.portal.settings.session_cookie))
    return redirect(call, url or "/.zt/signed-out")


async def forget_device(call: Call) -> web.StreamResponse:
    """POST /.zt/me/device: the person gets mail when it comes again. One that is gone already is fine."""
    session, form = await acting(call, ME)
    await call.portal.devices.forget(Person.of(session.principal), form.get("id", ""))
    return redirect(call, f"{ME}?done=forgotten")


async def rename(call: Call) -> web.StreamResponse:
    """POST /.zt/me/rename: another name for a factor. Raises ClientError(FACTOR_UNKNOWN, 404)."""
    session, form = await acting(call, ME)
    await call.portal.factors.rename(Person.of(session.principal), form.get("id", ""), form.get("name", ""))
    return redirect(call, f"{ME}?done=renamed")


async def remove(call: Call) -> web.StreamResponse:
    """POST /.zt/me/remove: a factor goes, on record, after a proof just now; the last one only if the form says so.

    Raises ClientError(FACTOR_UNKNOWN, 404 or FACTOR_LAST, 409), UnavailableError(RECORD_UNAVAILABLE).
    """
    session, form = await acting(call, ME)
    if not await is_fresh(call, session):
        return redirect(call, CONFIRM)
    person, factor = Person.of(session.principal), form.get("id", "")
    if factor not in {each.id for each in await call.portal.factors.of(person)}:
        raise ClientError(Reason.FACTOR_UNKNOWN, "no such factor of this person", status=404)
    await _note(call, session, "remove", factor)
    await call.portal.factors.remove(person, factor, last=form.get("last") == "yes")
    return redirect(call, f"{ME}?done=removed")


async def codes(call: Call) -> web.StreamResponse:
    """POST /.zt/me/codes: ten new recovery codes, shown once, on record, after a proof just now.

    Raises ClientError(FACTOR_NOT_ACCEPTED or FACTOR_UNKNOWN), UnavailableError(RECORD_UNAVAILABLE).
    """
    session, _ = await acting(call, ME)
    if not await is_fresh(call, session):
        return redirect(call, CONFIRM)
    await _note(call, session, "new-recovery-codes", "")
    made = await call.portal.factors.new_recovery_codes(Person.of(session.principal))
    return page(
        call,
        "codes.html",
        has_form=True,
        script=True,
        script_url=SCRIPT_URL,
        codes=made,
        action="/.zt/enrol/done",
        who=who(session),
        host="",
    )


async def _note(call: Call, session: Session, action: str, factor: str) -> None:
    await call.portal.sessions.note(
        "factor",
        action=action,
        factor=factor,
        user=session.principal.subject,
        issuer=session.principal.issuer,
        sid=session.sid,
        client=call.client,
    )


async def _listed(call: Call, session: Session) -> tuple[Listed, ...]:
    return await call.portal.sessions.of_person(session.principal.issuer, session.principal.subject)


async def _sessions(call: Call, session: Session, now: float) -> list[SessionRow]:
    """This one first, then the one seen last."""
    settings = call.portal.settings
    rows = []
    for each in await _listed(call, session):
        names = [", ".join(settings.apps[host].route_names) for host in each.hosts if host in settings.apps]
        rows.append(
            SessionRow(
                sid=each.sid,
                here=each.sid == session.sid,
                device=each.device or "A browser",
                address=each.address,
                started=before(each.created, now),
                seen=before(each.last_activity, now),
                hosts=tuple(sorted(names)),
            )
        )
    return sorted(rows, key=lambda row: (row.here, row.seen.machine), reverse=True)


async def _devices(call: Call, person: Person, now: float) -> list[DeviceRow] | None:
    """None: nobody can say now, which keeps nobody from ending a session."""
    try:
        return [_device(each, now) for each in await call.portal.devices.of(person)]
    except UnavailableError as error:
        log.error("known devices unavailable", detail=error.detail)
        return None


def _device(device: Device, now: float) -> DeviceRow:
    first, last = before(device.first_seen, now), before(device.last_seen, now)
    return DeviceRow(device.id, device.label, device.address, first, last)


def _factor(factor: Factor, every: tuple[Factor, ...], now: float) -> FactorRow:
    lasting = [each.id for each in every if each.kind in _LASTING and each.usable]
    return FactorRow(
        id=factor.id,
        kind=_KINDS[factor.kind],
        name=factor.name,
        added=before(factor.created, now),
        used=before(factor.last_used, now) if factor.last_used is not None else None,
        remaining=factor.remaining if factor.kind is FactorKind.RECOVERY else None,
        usable=factor.usable,
        disabled=factor.disabled,
        last=lasting == [factor.id],
    )
