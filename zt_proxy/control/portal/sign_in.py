"""Signing in and stepping up: to the provider, back, and on to the app's host.

app host ──hand-off──► /.zt/sign-in ──► provider ──► /.zt/callback ──code──► app host's /.zt/resume ──► target
                          ├── a live portal session ──────────┼─────┘
                          └── a step-up ──► /.zt/confirm ◄────┘ too weak: an own factor (`adopt`, `confirm`)
"""

from urllib.parse import urlencode

from aiohttp import web

from zt_proxy.control.factors.types import Person
from zt_proxy.control.identity.types import IdentityProvider, LoginRefused
from zt_proxy.control.portal.adopt import ASKING, admit, ensure_browser, hand_over, own_level, stepped_up
from zt_proxy.control.portal.answers import check_target, redirect
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.choose import address_in, choice, choose, displaced, of_the_right_provider
from zt_proxy.control.portal.cookies import new_login_cookie
from zt_proxy.control.session.logins import Transaction, new_transaction
from zt_proxy.control.session.record import SessionRecord
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.handoff import Handoff, Purpose, open_handoff
from zt_proxy.core.session import Level, Session


async def sign_in(call: Call) -> web.StreamResponse:
    """GET /.zt/sign-in at the portal. Changes nothing that counts before the provider has answered."""
    navigation_only(call)
    query = call.query()
    handoff = _handoff(call, query["to"]) if "to" in query else None
    session = await call.session()
    step_up = await stepped_up(call, handoff)
    if handoff is not None and step_up is not None:
        return await _step_up(call, query, handoff, step_up, session)
    session = of_the_right_provider(call, handoff, session)
    force = session is not None and handoff is not None and _must_prove(call, handoff, session)
    if session is not None and not force:
        call.portal.sessions.activity(session.sid, call.portal.clock.now())
        if handoff is None:
            return redirect(call, "/")
        browser, arrived = ensure_browser(call), call.portal.clock.now()
        return redirect(call, await hand_over(call, handoff, session.sid, browser=browser, arrived=arrived))
    force = force or (handoff is not None and handoff.purpose is Purpose.REAUTH)
    provider = choose(call, query.get("with"), handoff, session)
    # Two browsers that sign each other out must not do so by themselves: the provider would let both through at once.
    if provider is None or ("with" not in query and displaced(call)):
        return choice(call, query, handoff)
    hint = session.principal.email if session is not None else address_in(query)
    level = call.portal.settings.factors.level
    return await to_provider(call, provider, handoff, force=force, login_hint=hint, level=level)


async def _step_up(
    call: Call, query: dict[str, str], handoff: Handoff, record: SessionRecord, session: Session | None
) -> web.StreamResponse:
    """To the factors of who is signed in here, else to the provider of the session that it is for, whatever the link
    says (FIELD 13). A provider that is to say only who this is, is not asked for a fresh proof: some cannot."""
    here = session is not None and session.sid == record.sid
    if handoff.ask in ASKING and here:
        return redirect(call, f"{ASKING[handoff.ask]}?{urlencode({'to': query['to']})}")
    factors = await call.portal.factors.of(Person.of(record.principal))
    own = any(factor.usable and factor.level >= handoff.level for factor in factors)
    asked = "with" in query or bool(handoff.ask)  # who is to be asked something proves here who they are first
    if own and not asked and here:
        return redirect(call, "/.zt/confirm?" + urlencode({"to": query["to"]}))
    provider = call.portal.providers.get(record.principal.provider)
    if provider is None:
        raise ClientError(Reason.PROVIDER_INVALID, "the provider of the session is no longer configured", status=400)
    hint = record.principal.email
    return await to_provider(
        call,
        provider,
        handoff,
        force=asked or not own,
        login_hint=hint,
        level=handoff.level,
    )


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
    except LoginRefused:
        await call.portal.judge.failed(None, call.client)
        raise
    return redirect(call, await admit(call, transaction, login))


async def _put_back(call: Call, state: str, transaction: Transaction) -> None:
    """Nothing was sent to the provider yet: the same address, asked once more, finishes this login."""
    browser = call.browser()
    if browser is not None:
        await call.portal.logins.begin(state, transaction, browser=browser, client=call.client)
        call.retry = ("Try again", call.request.raw_path)


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


async def to_provider(
    call: Call,
    provider: IdentityProvider,
    handoff: Handoff | None,
    *,
    force: bool,
    login_hint: str | None,
    level: Level,
    own: str = "",
) -> web.Response:
    """Remember the login, then send the browser away. A provider that is down leaves nothing behind.

    `level`: see IdentityProvider; `own`: see Transaction. Where an own factor will do as well, it is a wish.
    """
    transaction = new_transaction(provider.name, handoff, force=force, now=call.portal.clock.now(), own=own)
    state = new_login_cookie()
    url = await provider.authorization_url(
        state=state,
        nonce=transaction.nonce,
        verifier=transaction.verifier,
        max_age=0.0 if force else _tighter(handoff),
        force=force,
        login_hint=login_hint,
        level=level,
        essential=own_level(call) < level,
    )
    browser = ensure_browser(call)
    await call.portal.logins.begin(state, transaction, browser=browser, client=call.client)
    return redirect(call, url)
