"""Adding an own factor: the first one in the middle of a sign-in, further ones from a session proved just now.

    half a login ─┐
                  ├─► /.zt/enrol ─► passkey or code shown ─► recovery codes, once ─► on
    session ──────┘

Half a login whose person has a factor already proves nothing but the provider's word: it has to show that factor
first, else whoever has the account at the provider could give themselves a second one.
"""

import hashlib
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from markupsafe import Markup

from zt_proxy.control.devices.agent import agent_label
from zt_proxy.control.factors.enrolment import FRESH
from zt_proxy.control.factors.types import LEVELS, Factor, FactorKind, FactorRefused, NewTotp, Person
from zt_proxy.control.portal import adopt
from zt_proxy.control.portal.answers import empty, page, redirect
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.confirm import SCRIPT_URL, challenge_answer, read_json
from zt_proxy.control.portal.forms import check_token, form_token, read_form, refuse_foreign
from zt_proxy.control.portal.questions import keep
from zt_proxy.control.portal.sign_in import navigation_only
from zt_proxy.control.session.logins import HalfLogin
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff, Purpose
from zt_proxy.core.session import Level, Principal, Proof, unlock_key

ADDED = "added"
"""The rule, of no route, under which a session remembers that it added a factor. It opens nothing but their codes."""


class Enrolment:
    """Who enrols, with which proof, and from where. Made by `open_enrolment`."""

    def __init__(
        self, principal: Principal, level: Level, proof: Proof, name: str, half: HalfLogin | None, sid: str = ""
    ) -> None:
        self.principal = principal
        self.person = Person.of(principal)
        self.level = level
        """What the factor has to prove, to be of use here."""
        self.proof = proof
        self.name = name
        self.half = half
        self.query = urlencode({"login": name}) if half is not None else ""
        self.purpose = hashlib.sha256(f"enrol?{sid}?{self.query}".encode()).digest()

    @property
    def enrolled(self) -> bool:
        """Half a login that an own factor has completed: it goes on, and adds nothing more."""
        return self.half is not None and self.half.proof is not None and self.proof.level >= self.level

    def address(self, path: str, **more: str) -> str:
        query = "&".join(part for part in (self.query, urlencode(more)) if part)
        return f"{path}?{query}" if query else path


async def open_enrolment(call: Call) -> Enrolment:
    """The enrolment that this request belongs to.

    Raises ClientError: ENROLMENT_NOT_FRESH or LOGIN_REQUIRED, with the way there in `call.retry`; or as
    `PendingLogins.half`.
    """
    name = call.query().get("login")
    if name is not None:
        call.retry = ("Start again", "/.zt/sign-in")
        half = await call.portal.logins.half(name, call.browser())
        await adopt.refuse_asking(call, half)
        login = half.login
        level = await adopt.needed_level(call, half.transaction)
        factors = await call.portal.factors.of(Person.of(login.principal))
        if half.proof is not None and half.factor not in {each.id for each in factors}:
            raise ClientError(Reason.ENROLMENT_NOT_FRESH, "the factor that was shown is gone", status=401)
        if half.proof is None and any(each.usable for each in factors):
            call.retry = ("Continue", "/.zt/confirm?" + urlencode({"login": name}))
            raise ClientError(Reason.ENROLMENT_NOT_FRESH, "an own factor has to be shown first", status=401)
        return Enrolment(login.principal, level, half.proof or Proof(login.auth_time, login.level), name, half)
    session = await call.session()
    if session is None:
        call.retry = ("Sign in", "/.zt/sign-in")
        raise ClientError(Reason.LOGIN_REQUIRED, "no session at the portal", status=401)
    proof = adopt.portal_proof(call, session) or session.proved()
    return Enrolment(session.principal, Level.MULTI, proof, "", None, session.sid)


async def _check_permission(call: Call, enrolment: Enrolment) -> None:
    """Raises ClientError(ENROLMENT_NOT_FRESH, ENROLMENT_NOT_GRANTED or MFA_REQUIRED)."""
    refused = await call.portal.factors.may_enrol(
        enrolment.person, enrolment.proof, this_login=enrolment.half is not None
    )
    if refused is None:
        return
    if enrolment.half is None and refused is not Reason.ENROLMENT_NOT_GRANTED:
        call.retry = ("Continue", "/.zt/confirm?for=enrol")
        raise ClientError(Reason.ENROLMENT_NOT_FRESH, f"no new factor by this proof: {refused.value}", status=401)
    call.retry = ("Start again", "/.zt/sign-in") if enrolment.half is not None else ("Back", "/.zt/me")
    raise ClientError(refused, "no new factor by this proof", status=403)


async def enrol(call: Call) -> web.StreamResponse:
    """GET /.zt/enrol[?login=…] at the portal: what can be added. Changes nothing that counts."""
    navigation_only(call)
    try:
        enrolment = await open_enrolment(call)
        if enrolment.enrolled:
            return _codes_page(call, enrolment, ())
        await _check_permission(call, enrolment)
    except ClientError as error:
        if error.reason is Reason.ENROLMENT_NOT_FRESH and call.retry is not None:
            return redirect(call, call.retry[1])
        if error.reason in {Reason.LOGIN_STATE_UNKNOWN, Reason.LOGIN_EXPIRED} and await call.session() is not None:
            return redirect(call, "/")
        raise
    if _offers(call, enrolment, FactorKind.TOTP) and (
        call.query().get("kind") == "totp" or not _offers(call, enrolment, FactorKind.PASSKEY)
    ):
        return _page(call, enrolment, await _new_totp(call, enrolment))
    return _page(call, enrolment, None)


def _offers(call: Call, enrolment: Enrolment, kind: FactorKind) -> bool:
    return kind.value in call.portal.settings.factors.accept and LEVELS[kind] >= enrolment.level


async def _new_totp(call: Call, enrolment: Enrolment) -> NewTotp:
    return await call.portal.factors.begin_totp(
        enrolment.person,
        enrolment.principal.email or enrolment.principal.name or enrolment.principal.subject,
        enrolment.proof,
        this_login=enrolment.half is not None,
        purpose=enrolment.purpose,
    )


def _page(call: Call, enrolment: Enrolment, totp: NewTotp | None, *, wrong: str = "") -> web.Response:
    handoff = _handoff(enrolment)
    return page(
        call,
        "enrol.html",
        status=401 if wrong else 200,
        form_action=_origins(call, enrolment),
        has_form=True,
        script=True,
        script_url=SCRIPT_URL,
        who=enrolment.principal.name or enrolment.principal.email or enrolment.principal.subject,
        signing_in=enrolment.half is not None,
        step_up=handoff is not None and handoff.purpose is Purpose.REAUTH,
        proved=enrolment.proof.level >= Level.MULTI,
        host=handoff.host if handoff is not None else "",
        level=enrolment.level.word,
        query=enrolment.query,
        token=form_token(call),
        passkey=_offers(call, enrolment, FactorKind.PASSKEY),
        other=enrolment.address("/.zt/enrol", kind="totp") if _offers(call, enrolment, FactorKind.TOTP) else "",
        back=enrolment.address("/.zt/enrol"),
        cancel="/" if enrolment.half is None else "/.zt/sign-in",
        totp=totp,
        qr=Markup(totp.qr_svg) if totp is not None else "",  # noqa: S704 - drawn by us, of our own text
        device=agent_label(call.request.headers.get("User-Agent", "")),
        wrong=wrong,
    )


def _handoff(enrolment: Enrolment) -> Handoff | None:
    return enrolment.half.transaction.handoff if enrolment.half is not None else None


def _origins(call: Call, enrolment: Enrolment) -> tuple[str, ...]:
    handoff = _handoff(enrolment)
    return () if handoff is None else (call.portal.app(handoff.host).origin,)


async def options(call: Call) -> web.StreamResponse:
    """POST /.zt/enrol/options: what to hand to `navigator.credentials.create`."""
    refuse_foreign(call, "/")
    enrolment = await _adding(call, FactorKind.PASSKEY)
    challenge = await call.portal.factors.begin_passkey(
        enrolment.person,
        enrolment.principal.email or enrolment.principal.name or enrolment.principal.subject,
        enrolment.proof,
        this_login=enrolment.half is not None,
        purpose=enrolment.purpose,
    )
    return challenge_answer(call, challenge)


async def passkey(call: Call) -> web.StreamResponse:
    """POST /.zt/enrol/passkey: what the authenticator made. The script then sends the page's form for what follows."""
    sent = await read_json(call, "/")
    enrolment = await _adding(call, FactorKind.PASSKEY)
    factor = await call.portal.factors.add_passkey(
        enrolment.person, sent.token, sent.credential, sent.name, purpose=enrolment.purpose
    )
    await _added(call, enrolment, factor)
    return empty(call)


async def totp(call: Call) -> web.StreamResponse:
    """POST /.zt/enrol/totp: the first code of a new authenticator app. A wrong one asks again, with the same secret."""
    refuse_foreign(call, "/")
    form = await read_form(call)
    enrolment = await _adding(call, FactorKind.TOTP)
    _check_form(call, enrolment, form)
    pending, who = form.get("pending", ""), enrolment.person
    factors = call.portal.factors
    try:
        factor = await factors.add_totp(
            who, pending, form.get("code", ""), form.get("name", ""), purpose=enrolment.purpose
        )
    except FactorRefused:
        shown = await factors.pending_totp(who, pending, purpose=enrolment.purpose)
        return _page(call, enrolment, shown, wrong="This is not the code that the app shows now. Try the next one.")
    return await _codes(call, await _added(call, enrolment, factor))


async def codes(call: Call) -> web.StreamResponse:
    """POST /.zt/enrol/codes: what follows a new passkey: recovery codes for whoever has none, shown once."""
    refuse_foreign(call, "/")
    form = await read_form(call)
    enrolment = await open_enrolment(call)
    _check_form(call, enrolment, form)
    if enrolment.half is not None and not enrolment.enrolled:
        raise ClientError(Reason.ENROLMENT_NOT_FRESH, "no factor was added in this sign-in", status=401)
    if enrolment.half is None and not await _may_have_codes(call, enrolment):
        call.retry = ("Continue", "/.zt/confirm?for=me")
        raise ClientError(Reason.ENROLMENT_NOT_FRESH, "no proof for new codes", status=401)
    return await _codes(call, enrolment)


async def _may_have_codes(call: Call, enrolment: Enrolment) -> bool:
    """They are a factor, too: with a proof that adds one, or with the factor that this very session has just added."""
    session = await call.session()
    added = session.proofs.get(unlock_key("", ADDED)) if session is not None else None
    needed = max(Level.MULTI, await call.portal.factors.enrolment_level(enrolment.person))
    oldest = call.portal.clock.now() - FRESH
    return any(proof is not None and proof.level >= needed and proof.at >= oldest for proof in (enrolment.proof, added))


async def done(call: Call) -> web.StreamResponse:
    """POST /.zt/enrol/done?login=…: the sign-in goes on; the enrolment was its second factor."""
    refuse_foreign(call, "/")
    enrolment = await open_enrolment(call)
    if enrolment.half is None:
        return redirect(call, "/.zt/me")
    return redirect(call, await _finish(call, enrolment))


async def _adding(call: Call, kind: FactorKind) -> Enrolment:
    """Raises ClientError as `open_enrolment`, and FACTOR_NOT_ACCEPTED for a kind that is not offered here."""
    enrolment = await open_enrolment(call)
    if enrolment.enrolled or not _offers(call, enrolment, kind):
        raise ClientError(Reason.FACTOR_NOT_ACCEPTED, f"no {kind.value} is wanted here", status=403)
    await _check_permission(call, enrolment)
    return enrolment


def _check_form(call: Call, enrolment: Enrolment, form: Mapping[str, str]) -> None:
    """The name of half a login is a secret of this browser; a session has the form's token."""
    if enrolment.half is None:
        check_token(call, form, "/.zt/enrol")


async def _added(call: Call, enrolment: Enrolment, factor: Factor) -> Enrolment:
    """Half a login remembers that its person has just shown the new factor."""
    session = await call.session() if enrolment.half is None else None
    await call.portal.sessions.note(
        "factor",
        action="add",
        factor=factor.id,
        factor_kind=factor.kind.value,
        user=enrolment.principal.subject,
        issuer=enrolment.principal.issuer,
        sid=session.sid if session is not None else "",
        client=call.client,
    )
    now = call.portal.clock.now()
    if enrolment.half is None:
        if session is not None:
            await call.portal.sessions.unlock(session.sid, "", ADDED, Proof(now, factor.level))
        return enrolment
    half = await call.portal.logins.take_half(enrolment.name, call.browser())
    half = msgspec.structs.replace(
        half,
        proof=Proof(now, factor.level),
        shown=factor.kind.value,
        factor=factor.id,
        expires=now + call.portal.settings.login_lifetime,
    )
    await keep(call, enrolment.name, half)
    return Enrolment(enrolment.principal, enrolment.level, Proof(now, factor.level), enrolment.name, half)


async def _codes(call: Call, enrolment: Enrolment) -> web.StreamResponse:
    factors = await call.portal.factors.of(enrolment.person)
    if any(factor.kind is FactorKind.RECOVERY and factor.remaining for factor in factors):
        return redirect(call, "/.zt/me" if enrolment.half is None else await _finish(call, enrolment))
    return _codes_page(call, enrolment, await call.portal.factors.new_recovery_codes(enrolment.person))


def _codes_page(call: Call, enrolment: Enrolment, made: tuple[str, ...]) -> web.Response:
    handoff = _handoff(enrolment)
    return page(
        call,
        "codes.html",
        form_action=_origins(call, enrolment),
        has_form=True,
        script=True,
        script_url=SCRIPT_URL,
        codes=made,
        who=enrolment.principal.email or enrolment.principal.name or enrolment.principal.subject,
        action=enrolment.address("/.zt/enrol/done"),
        host=handoff.host if handoff is not None else "",
    )


async def _finish(call: Call, enrolment: Enrolment) -> str:
    """Raises ClientError(ENROLMENT_NOT_FRESH, 401) if nothing was proved yet, or as `take_half`."""
    if not enrolment.enrolled:
        raise ClientError(Reason.ENROLMENT_NOT_FRESH, "no factor was added in this sign-in", status=401)
    half = await call.portal.logins.take_half(enrolment.name, call.browser())
    if half.proof is None:
        raise ClientError(Reason.ENROLMENT_NOT_FRESH, "no factor was added in this sign-in", status=401)
    login = adopt.raised(half.login, half.proof, FactorKind(half.shown))
    return await adopt.complete(call, half.transaction, login)
