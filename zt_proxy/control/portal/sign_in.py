"""Signing in and stepping up: to the provider, back, and on to the app's host.

app host ──hand-off──► /.zt/sign-in ──► provider ──► /.zt/callback ──code──► app host's /.zt/resume ──► target
                          └── a live portal session ────────────────┘
"""

from urllib.parse import quote, urlencode

import structlog
from aiohttp import web

from zt_proxy.control.identity.types import IdentityProvider, VerifiedLogin
from zt_proxy.control.portal.answers import check_target, page, redirect
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.cookies import browser_of, is_login_cookie, new_login_cookie, read_cookie, set_cookie
from zt_proxy.control.session.logins import Passage, Transaction, new_transaction
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.handoff import Handoff, Purpose, open_handoff
from zt_proxy.core.session import Proof, Session

log = structlog.get_logger(__name__)


async def sign_in(call: Call) -> web.StreamResponse:
    """GET /.zt/sign-in at the portal. Changes nothing that counts before the provider has answered."""
    navigation_only(call)
    query = call.query()
    handoff = _handoff(call, query["to"]) if "to" in query else None
    session = await call.session()
    force = session is not None and handoff is not None and _must_prove(call, handoff, session)
    if session is not None and not force:
        call.portal.sessions.activity(session.sid, call.portal.clock.now())
        if handoff is None:
            return redirect(call, "/")
        browser = _ensure_browser(call)
        arrived = call.portal.clock.now()
        return await _hand_over(call, handoff, session.sid, browser=browser, arrived=arrived)
    force = force or (handoff is not None and handoff.purpose is Purpose.REAUTH)
    provider = _choose(call, query.get("with"), handoff, session)
    if provider is None:
        return choice(call, query.get("to"), handoff)
    return await _to_provider(call, provider, handoff, session, force=force)


def navigation_only(call: Call) -> None:
    """A background request never starts a login (FIELD 9). Raises ClientError(LOGIN_REQUIRED, 401)."""
    if not call.navigation:
        raise ClientError(Reason.LOGIN_REQUIRED, "a background request never starts a login", status=401)


async def callback(call: Call) -> web.StreamResponse:
    """GET /.zt/callback at the portal: the provider's redirect URI (response_mode=query)."""
    parameters = call.query()
    session = await call.session()
    try:
        transaction = await call.portal.logins.take(parameters.get("state", ""), call.browser())
    except ClientError as error:
        # Another tab was faster, or the person pressed "back": they are signed in, so nothing has failed (FIELD 8).
        if session is not None and error.reason is not Reason.LOGIN_OTHER_BROWSER:
            return redirect(call, "/")
        call.retry = ("Start again", "/.zt/sign-in")
        raise
    handoff = transaction.handoff
    call.retry = ("Try again", _address(call, handoff)) if handoff is not None else ("Try again", "/.zt/sign-in")
    provider = call.portal.providers.get(transaction.provider)
    if provider is None:
        raise ClientError(Reason.LOGIN_STATE_UNKNOWN, "the provider is no longer configured")
    try:
        login = await provider.finish(
            parameters=parameters,
            nonce=transaction.nonce,
            verifier=transaction.verifier,
            max_age=None if transaction.force else _tighter(handoff),
            forced_after=transaction.started if transaction.force else None,
        )
    except UnavailableError as error:
        if error.reason is Reason.LOGIN_BUSY:
            await _put_back(call, parameters["state"], transaction)
        raise
    if not login.mfa:
        raise ClientError(Reason.LOGIN_MFA_MISSING, "no second factor was attested", status=403)
    sid = await _adopt(call, transaction, login, session)
    browser = _ensure_browser(call)
    handle = await call.portal.sessions.issue_handle(sid, call.host)
    call.cookies.append(set_cookie(call.portal.settings.session_cookie, handle))
    if handoff is None:
        return redirect(call, "/")
    return await _hand_over(call, handoff, sid, browser=browser, arrived=transaction.started)


async def _put_back(call: Call, state: str, transaction: Transaction) -> None:
    """Nothing was sent to the provider yet: the same address, asked once more, finishes this login."""
    browser = call.browser()
    if browser is not None:
        await call.portal.logins.begin(state, transaction, browser=browser, client=call.client)
        call.retry = ("Try again", call.request.raw_path)


async def resume(call: Call) -> web.StreamResponse:
    """GET /.zt/resume at an app's host: the code becomes this host's cookie, once, in the browser that asked."""
    portal = call.portal
    call.retry = ("Go to the start page", "/")
    before = await call.session()
    try:
        passage = await portal.logins.redeem(call.query().get("code", ""), host=call.host, binder=call.browser())
    except ClientError as error:
        if before is not None and error.reason is Reason.LOGIN_EXPIRED:
            return redirect(call, "/")
        raise
    handle = await portal.sessions.issue_handle(passage.sid, call.host)
    call.cookies.append(set_cookie(portal.settings.session_cookie, handle))
    portal.loops.completed(passage.browser, call.host, arrived=passage.arrived, handoff_expires=passage.handoff_expires)
    if before is not None and before.sid != passage.sid:
        await portal.sessions.end(before.sid, "replaced")
    return redirect(call, check_target(passage.target))


def _handoff(call: Call, text: str) -> Handoff:
    """Raises ClientError(HANDOFF_INVALID): only what a worker sealed says where to return."""
    call.retry = ("Go to your applications", "/")
    handoff = open_handoff(call.portal.ring, text, call.portal.clock.now())
    if handoff.purpose not in {Purpose.LOGIN, Purpose.REAUTH} or len(handoff.binder) != 32:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is for something else")
    call.portal.app(handoff.host)
    check_target(handoff.target)
    call.retry = ("Try again", _address(call, handoff))
    return handoff


def _must_prove(call: Call, handoff: Handoff, session: Session) -> bool:
    """Whether a live portal session is not enough: for a step-up, or for a route with tighter time-outs."""
    now = call.portal.clock.now()
    return (
        handoff.purpose is Purpose.REAUTH
        or 0 < handoff.idle <= now - session.last_activity
        or 0 < handoff.absolute <= now - session.created
    )


def _tighter(handoff: Handoff | None) -> float | None:
    """How old the provider's own session may be, for a route with tighter time-outs than the general ones."""
    bounds = [bound for bound in (handoff.idle, handoff.absolute) if bound > 0] if handoff is not None else []
    return min(bounds, default=None)


def _address(call: Call, handoff: Handoff) -> str:
    """Where the person wanted to go; asking there again makes a fresh hand-off."""
    return call.portal.app(handoff.host).origin + check_target(handoff.target)


def _choose(call: Call, named: str | None, handoff: Handoff | None, session: Session | None) -> IdentityProvider | None:
    """The provider to go to; None if the person has to choose first.

    A step-up goes to the provider of the session it is for (FIELD 13), whatever the link says.
    """
    providers = call.portal.providers
    if handoff is not None and session is not None and (named is None or handoff.purpose is Purpose.REAUTH):
        named = session.principal.provider
    if named is not None:
        if named not in providers:
            raise ClientError(Reason.PROVIDER_INVALID, "no such provider is configured", status=400)
        return providers[named]
    if handoff is not None and len(providers) == 1:
        return next(iter(providers.values()))
    return None


def choice(call: Call, to: str | None = None, handoff: Handoff | None = None) -> web.Response:
    """The sign-in page: the hand-off travels on unopened, still sealed."""

    def link(name: str) -> str:
        return "/.zt/sign-in?" + urlencode({"with": name} | ({} if to is None else {"to": to}), quote_via=quote)

    choices = [(provider.display_name, link(name)) for name, provider in call.portal.providers.items()]
    return page(call, "sign_in.html", choices=choices, destination=handoff.host if handoff is not None else None)


async def _to_provider(
    call: Call, provider: IdentityProvider, handoff: Handoff | None, session: Session | None, *, force: bool
) -> web.Response:
    """Remember the login, then send the browser away. A provider that is down leaves nothing behind."""
    transaction = new_transaction(provider.name, handoff, force=force, now=call.portal.clock.now())
    state = new_login_cookie()
    url = await provider.authorization_url(
        state=state,
        nonce=transaction.nonce,
        verifier=transaction.verifier,
        max_age=0.0 if force else _tighter(handoff),
        force=force,
        login_hint=session.principal.email if session is not None else None,
    )
    browser = _ensure_browser(call)
    await call.portal.logins.begin(state, transaction, browser=browser, client=call.client)
    return redirect(call, url)


async def _adopt(call: Call, transaction: Transaction, login: VerifiedLogin, session: Session | None) -> str:
    """The session that this login makes, or proves again; gives its sid.

    Raises ClientError(LOGIN_OTHER_SUBJECT, 403) if somebody else answered a step-up; the session is then untouched.
    """
    sessions, handoff = call.portal.sessions, transaction.handoff
    same = session is not None and (session.principal.issuer, session.principal.subject) == (
        login.principal.issuer,
        login.principal.subject,
    )
    if handoff is not None and handoff.purpose is Purpose.REAUTH:
        if session is None:
            sid = (await sessions.create(login)).sid
        elif same:
            sid = session.sid
        else:
            raise ClientError(Reason.LOGIN_OTHER_SUBJECT, "another person answered the step-up", status=403)
        await sessions.unlock(sid, handoff.route, handoff.rule, Proof(login.auth_time, login.level), handoff.request)
        return sid
    # Two tabs signed in at once (FIELD 8): ending the first tab's new session would undo its login on its way.
    if session is not None and same and session.created >= transaction.started:
        return session.sid
    sid = (await sessions.create(login)).sid
    log.info("signed in", sid=sid, provider=login.provider, request_id=call.request_id)
    if session is not None:
        await sessions.end(session.sid, "replaced")
    return sid


async def _hand_over(call: Call, handoff: Handoff, sid: str, *, browser: bytes, arrived: float) -> web.Response:
    """Send the browser to the app's host with a one-time code. Raises ClientError(LOGIN_LOOP) at the third turn."""
    portal = call.portal
    app = portal.app(handoff.host)
    if portal.loops.looping(browser, handoff.host, handoff_expires=handoff.expires):
        portal.loops.forget(browser)
        raise ClientError(Reason.LOGIN_LOOP, f"third turn within a minute for {handoff.host}")
    code = await portal.logins.issue_code(
        Passage(
            sid=sid,
            host=handoff.host,
            binder=handoff.binder,
            target=check_target(handoff.target),
            browser=browser,
            arrived=arrived,
            handoff_expires=handoff.expires,
        )
    )
    return redirect(call, f"{app.origin}/.zt/resume?code={code}")


def _ensure_browser(call: Call) -> bytes:
    """The browser by its login cookie at the portal, which is set, or its life renewed, with this answer.

    All tabs share one cookie, so that logins under way at the same time do not shut each other out, and headers never
    grow (FIELD 9).
    """
    settings = call.portal.settings
    cookie = read_cookie(call.request, settings.login_cookie)
    if cookie is None or not is_login_cookie(cookie):
        cookie = new_login_cookie()
    call.cookies.append(set_cookie(settings.login_cookie, cookie, settings.login_lifetime))
    return browser_of(cookie)
