"""What a proof opens: a new session, a rule of a session that is there, or the portal's own pages.

login ─admit─┬─ strong enough ─────────────────────────────► complete ─► code ─► app host
             └─ own factors accepted ─► half a login ─(confirm, enrol)─► go_on ─┘
"""

from urllib.parse import quote

import msgspec
import structlog

from zt_proxy.control.factors.types import FactorKind, Person
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.portal.answers import check_target
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.cookies import browser_of, is_login_cookie, new_login_cookie, read_cookie, set_cookie
from zt_proxy.control.portal.devices import begin_session
from zt_proxy.control.portal.sign_out import who
from zt_proxy.control.session.logins import HalfLogin, Passage, Transaction, Unlock
from zt_proxy.control.session.record import SessionRecord
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff, Purpose
from zt_proxy.core.session import Level, Principal, Proof, Session, unlock_key

log = structlog.get_logger(__name__)

PORTAL = "portal"
"""The rule, of no route, under which the portal keeps what was proved for its own pages."""
OWN_PAGES = {
    "me": "/.zt/me",
    "enrol": "/.zt/enrol",
    "approvals": "/.zt/approvals",
    "break-glass": "/.zt/break-glass",
}
"""Pages of the portal that ask for a proof, by the name under which it is asked."""
ASKING = {"justify": "/.zt/why", "approve": "/.zt/approval"}
"""Pages of the portal that ask for something else than a proof, by `Handoff.ask`."""
_METHODS = {FactorKind.PASSKEY: ("mfa", "pop"), FactorKind.TOTP: ("mfa", "otp"), FactorKind.RECOVERY: ("mfa",)}
"""What an own factor adds to the methods of a sign-in, in the words of RFC 8176."""


def portal_proof(call: Call, session: Session) -> Proof | None:
    """The newest proof that counts at the portal: of the sign-in, or made for the portal since.

    None if this request is not at the portal's host: a proof for the portal is nobody else's.
    """
    if call.host != call.portal.settings.portal_host:
        return None
    proof = session.proofs.get(unlock_key("", PORTAL))
    return session.proved() if proof is None or proof.at < session.auth_time else proof


def own_level(call: Call) -> Level:
    """The most that the proxy's own factors prove here; SINGLE when none is accepted."""
    accept = call.portal.settings.factors.accept
    return Level.PHISHING_RESISTANT if "passkey" in accept else Level.MULTI if "totp" in accept else Level.SINGLE


async def stepped_up(call: Call, handoff: Handoff | None) -> SessionRecord | None:
    """The live session that a hand-off asks a proof for; None when it asks for a sign-in, or the session is over."""
    if handoff is None or handoff.purpose is not Purpose.REAUTH:
        return None
    return await call.portal.sessions.record(handoff.sid)


async def needed_level(call: Call, transaction: Transaction) -> Level:
    """How strong a proof has to be that completes this login."""
    handoff = transaction.handoff
    if handoff is not None and await stepped_up(call, handoff) is not None:
        return handoff.level
    return call.portal.settings.factors.level


async def admit(call: Call, transaction: Transaction, login: VerifiedLogin) -> str:
    """Where the browser goes next: on to where it came from, or to show a factor of its own first.

    Raises ClientError: LOGIN_OTHER_SUBJECT, or LOGIN_MFA_MISSING if nothing that is accepted can be strong enough.
    """
    step_up = await stepped_up(call, transaction.handoff)
    _check_subject(call, step_up, login.principal)
    needed = await needed_level(call, transaction)
    unasked = login.mfa and login.level is Level.SINGLE  # `insecure_no_mfa`: the operator wants no second factor here
    if "provider" not in call.portal.settings.factors.accept:
        login = msgspec.structs.replace(login, level=Level.SINGLE, mfa=unasked)
    # A step-up that did not ask the provider for a fresh proof asked it only who this is.
    fresh = step_up is None or transaction.force
    if (login.level >= needed and fresh) or (unasked and step_up is None):
        return await complete(call, transaction, login)
    if own_level(call) < needed:
        await call.portal.judge.failed(Person.of(login.principal), call.client)
        raise ClientError(Reason.LOGIN_MFA_MISSING, "neither the provider nor an own factor is enough", status=403)
    expires = call.portal.clock.now() + call.portal.settings.login_lifetime
    half = HalfLogin(login=login, transaction=transaction, expires=expires)
    name = await call.portal.logins.keep(half, browser=ensure_browser(call), client=call.client)
    return await next_page(call, name, half)


async def next_page(call: Call, name: str, half: HalfLogin) -> str:
    """Where half a login goes on: at the factors the person has, else at their first."""
    has = any(factor.usable for factor in await call.portal.factors.of(Person.of(half.login.principal)))
    return f"/.zt/{'confirm' if has and half.proof is None else 'enrol'}?login={name}"


def raised(login: VerifiedLogin, proof: Proof, kind: FactorKind) -> VerifiedLogin:
    """The login as an own factor proved it anew: no older and stronger word of the provider mixes with its time."""
    return msgspec.structs.replace(
        login,
        level=proof.level,
        mfa=True,
        auth_time=proof.at,
        amr=tuple(dict.fromkeys((*login.amr, *_METHODS[kind]))),
    )


async def complete(call: Call, transaction: Transaction, login: VerifiedLogin) -> str:
    """A login that is strong enough counts. Gives the address to go to; cookies are in `call.cookies`.

    Raises ClientError(LOGIN_OTHER_SUBJECT, 403) if somebody else answered; nothing has changed then.
    """
    handoff = transaction.handoff
    browser = ensure_browser(call)
    step_up = await stepped_up(call, handoff)
    proof = Proof(login.auth_time, login.level)
    if handoff is not None and step_up is not None:
        _check_subject(call, step_up, login.principal)
        await call.portal.sessions.at_provider.proved_again(step_up.sid, login)
        if handoff.ask:
            return await _asking(call, transaction, login)
        return await unlock_at_app(call, handoff, proof, browser=browser, arrived=transaction.started)
    session = await call.session()
    if transaction.own and session is not None:
        _check_subject(call, session, login.principal)
        await call.portal.sessions.at_provider.proved_again(session.sid, login)
        return await unlock_portal(call, session, proof, transaction.own)
    sid = await _adopt(call, transaction, login, session)
    await _new_cookie(call, sid)
    if handoff is None:
        return OWN_PAGES.get(transaction.own, "/")
    return await hand_over(call, handoff, sid, browser=browser, arrived=transaction.started)


async def _asking(call: Call, transaction: Transaction, login: VerifiedLogin) -> str:
    """Who asks is known again, in this browser: on to the page that asks what the hand-off is about."""
    handoff = transaction.handoff
    assert handoff is not None
    if handoff.ask not in ASKING:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is for something else")
    half = HalfLogin(login, transaction, expires=call.portal.clock.now() + call.portal.settings.login_lifetime)
    name = await call.portal.logins.keep(half, browser=ensure_browser(call), client=call.client)
    return f"{ASKING[handoff.ask]}?login={quote(name)}"


async def refuse_asking(call: Call, half: HalfLogin) -> None:
    """What only lets somebody answer a question is no sign-in that an own factor completes, or that adds one.
    Raises ClientError(HANDOFF_INVALID)."""
    handoff = half.transaction.handoff
    if handoff is not None and handoff.ask and await stepped_up(call, handoff) is not None:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is for something else")


async def _adopt(call: Call, transaction: Transaction, login: VerifiedLogin, session: Session | None) -> str:
    """The session that this sign-in makes; gives its sid."""
    sessions = call.portal.sessions
    # Two tabs signed in at once (FIELD 8): ending the first tab's new session would undo its login on its way.
    known = session is not None and _same(session, login.principal) and session.principal.provider == login.provider
    if session is not None and known and session.created >= transaction.started:
        return session.sid
    sid = (await begin_session(call, login, replaces="" if session is None else session.sid)).sid
    log.info("signed in", sid=sid, provider=login.provider, level=login.level.word, request_id=call.request_id)
    if session is not None:
        await sessions.end(session.sid, "replaced")
    return sid


async def unlock_portal(call: Call, session: Session, proof: Proof, page: str) -> str:
    """A proof for the portal's own pages; the cookie is a new one (ZT-OIDC-01). Gives the page to go back to."""
    await _new_cookie(call, session.sid)  # first: what is proved now is nothing for a copy of the old one
    await call.portal.sessions.unlock(session.sid, "", PORTAL, proof)
    return OWN_PAGES[page]


async def _new_cookie(call: Call, sid: str) -> None:
    """The one of before is dead (ZT-OIDC-01)."""
    handle = await call.portal.sessions.issue_handle(sid, call.host)
    call.cookies.append(set_cookie(call.portal.settings.session_cookie, handle))


async def unlock_at_app(
    call: Call, handoff: Handoff, proof: Proof | None, *, browser: bytes, arrived: float, said: str = ""
) -> str:
    """A code that carries a proof, or what the person said, to the app's host; it counts there, in the browser of that
    session alone."""
    session = await call.session()
    if proof is not None and session is not None and session.sid == handoff.sid:
        await _new_cookie(call, session.sid)
    unlock = Unlock(handoff.route, handoff.rule, handoff.request, proof, said)
    return await _issue(call, handoff, handoff.sid, browser=browser, arrived=arrived, unlock=unlock)


async def hand_over(call: Call, handoff: Handoff, sid: str, *, browser: bytes, arrived: float) -> str:
    """A one-time code that carries a session to the app's host. Raises ClientError(LOGIN_LOOP) at the third turn."""
    loops = call.portal.loops
    if loops.looping(browser, handoff.host, handoff_expires=handoff.expires):
        loops.forget(browser)
        raise ClientError(Reason.LOGIN_LOOP, f"third turn within a minute for {handoff.host}")
    return await _issue(call, handoff, sid, browser=browser, arrived=arrived, unlock=None)


async def _issue(
    call: Call, handoff: Handoff, sid: str, *, browser: bytes, arrived: float, unlock: Unlock | None
) -> str:
    app = call.portal.app(handoff.host)
    code = await call.portal.logins.issue_code(
        Passage(
            sid=sid,
            host=handoff.host,
            binder=handoff.binder,
            target=check_target(handoff.target),
            browser=browser,
            arrived=arrived,
            handoff_expires=handoff.expires,
            unlock=unlock,
            kept=handoff.kept if unlock is not None else "",
        )
    )
    return f"{app.origin}/.zt/resume?code={quote(code)}"


def ensure_browser(call: Call) -> bytes:
    """The browser by its login cookie at the portal, which is set, or its life renewed, with this answer.

    All tabs share one cookie, so that logins under way at the same time do not shut each other out, and headers never
    grow (FIELD 9).
    """
    settings = call.portal.settings
    cookie = read_cookie(call.request, settings.login_cookie)
    if cookie is None or not is_login_cookie(cookie):
        cookie = new_login_cookie()
    line = set_cookie(settings.login_cookie, cookie, settings.login_lifetime)
    if line not in call.cookies:
        call.cookies.append(line)
    return browser_of(cookie)


def _same(session: Session | SessionRecord, principal: Principal) -> bool:
    own = session.principal
    return (own.issuer, own.subject) == (principal.issuer, principal.subject)


def _check_subject(call: Call, session: Session | SessionRecord | None, principal: Principal) -> None:
    """Raises ClientError(LOGIN_OTHER_SUBJECT, 403), and has the page say whose session it is."""
    if session is None or _same(session, principal):
        return
    call.note = (
        f"The session belongs to {who(session)}, but {principal.name or principal.email or principal.subject} "
        "answered. It goes on unchanged. To continue as somebody else, sign out first."
    )
    call.retry = ("Sign out and switch", "/.zt/sign-out")
    raise ClientError(Reason.LOGIN_OTHER_SUBJECT, "another person answered the step-up", status=403)
