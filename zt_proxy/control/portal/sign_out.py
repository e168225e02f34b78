"""Signing out: a GET only ever asks; the POST with a token bound to the session does it (ZT-OIDC-21).

A browser may hold an older session at an app than at the portal (its portal cookie was lost in between). Who signs out
from that app means that session, too: the app's host says which, sealed, in `from`.
"""

from urllib.parse import quote, urlsplit

from aiohttp import web

from zt_proxy.control.portal.answers import page, redirect
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.cookies import clear_cookie, new_login_cookie
from zt_proxy.control.portal.forms import check_token, form_token, read_form, refuse_foreign
from zt_proxy.control.session.record import SessionRecord
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff, Purpose, open_handoff, seal_handoff
from zt_proxy.core.session import Session


async def start(call: Call) -> web.StreamResponse:
    """GET /.zt/sign-out at an app's host: on to the portal's question, unless another site sent the browser."""
    if call.request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin", "same-site"}:
        call.retry = ("Go to the start page", "/")
        raise ClientError(Reason.CROSS_ORIGIN, "another site started a sign-out", status=403)
    address = call.portal.settings.portal_origin + "/.zt/sign-out"
    handle = call.handle_hash()
    if handle is None or await call.session() is None:
        return redirect(call, address)
    expires = call.portal.clock.now() + call.portal.settings.login_lifetime
    here = Handoff(purpose=Purpose.LOGOUT, host=call.host, target="/", binder=handle, expires=expires)
    return redirect(call, f"{address}?from={quote(seal_handoff(call.portal.ring, here))}")


async def ask(call: Call) -> web.StreamResponse:
    """GET /.zt/sign-out at the portal: the question. Changes nothing."""
    sealed = call.query().get("from", "")
    session, elsewhere = await call.session(), await _elsewhere(call, sealed)
    if session is not None and elsewhere is not None and elsewhere.sid == session.sid:
        return redirect(call, "/.zt/sign-out")
    shown = session or elsewhere
    if shown is None:
        return redirect(call, "/.zt/signed-out")
    url = await provider_logout(call, shown)
    # Chromium holds the redirects after a form's POST to form-action: the provider's logout must be in it.
    return page(
        call,
        "sign_out.html",
        form_action=() if url is None else (origin_of(url),),
        has_form=True,
        who=who(shown),
        token=form_token(call),
        sealed=sealed,
    )


async def sign_out(call: Call) -> web.StreamResponse:
    """POST /.zt/sign-out at the portal: ends the session everywhere, then at the provider."""
    refuse_foreign(call, "/.zt/sign-out")
    form = await read_form(call)
    session, elsewhere = await call.session(), await _elsewhere(call, form.get("from", ""))
    shown = session or elsewhere
    url = None
    if shown is not None:
        check_token(call, form, "/.zt/sign-out")
        url = await provider_logout(call, shown)
        for sid in {each.sid for each in (session, elsewhere) if each is not None}:
            await call.portal.sessions.end(sid, "signed-out")
    browser = call.browser()
    if browser is not None:
        call.portal.loops.forget(browser)
    call.cookies.append(clear_cookie(call.portal.settings.session_cookie))
    return redirect(call, url or "/.zt/signed-out")


async def signed_out(call: Call) -> web.StreamResponse:
    """GET /.zt/signed-out at the portal: where the provider sends the browser back to."""
    if await call.session() is not None:
        return redirect(call, "/")
    return page(call, "signed_out.html")


def who(session: Session | SessionRecord) -> str:
    """How a person is named to themselves."""
    return session.principal.name or session.principal.email or session.principal.subject


async def _elsewhere(call: Call, sealed: str) -> Session | None:
    """The session of the app that the sign-out began at; None if it is over. Raises ClientError(HANDOFF_INVALID)."""
    if not sealed:
        return None
    call.retry = ("Back", "/.zt/sign-out")
    handoff = open_handoff(call.portal.ring, sealed, call.portal.clock.now())
    if handoff.purpose is not Purpose.LOGOUT:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is for something else")
    return await call.portal.sessions.session(handoff.binder, handoff.host)


async def provider_logout(call: Call, session: Session) -> str | None:
    """Where the provider ends its own session; None if it cannot, which does not keep ours from ending."""
    record = await call.portal.sessions.record(session.sid)
    provider = call.portal.providers.get(session.principal.provider)
    if record is None or provider is None or provider.issuer != record.principal.issuer:
        return None  # the name is another provider's by now, who is not to see the ID token
    return await provider.logout_url(
        id_token=record.id_token,
        post_logout_redirect_uri=call.portal.settings.portal_origin + "/.zt/signed-out",
        state=new_login_cookie(),
    )


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
