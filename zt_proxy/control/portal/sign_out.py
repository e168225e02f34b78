"""Signing out: a GET only ever asks; the POST with a token bound to the session does it (ZT-OIDC-21).

A browser may hold an older session at an app than at the portal (its portal cookie was lost in between). Who signs out
from that app means that session, too: the app's host says which, sealed, in `from`.
"""

import hmac
from urllib.parse import quote, urlsplit

from aiohttp import web

from zt_proxy.control.portal.answers import page, redirect
from zt_proxy.control.portal.call import Call, unique
from zt_proxy.control.portal.cookies import clear_cookie, new_login_cookie
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff, Purpose, open_handoff, seal_handoff
from zt_proxy.core.keys import b64encode
from zt_proxy.core.session import Session

FORM_BYTES = 4096


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
    url = await _provider_logout(call, shown)
    # Chromium holds the redirects after a form's POST to form-action: the provider's logout must be in it.
    return page(
        call,
        "sign_out.html",
        form_action=() if url is None else (_origin(url),),
        has_form=True,
        who=who(shown),
        token=_token(call),
        sealed=sealed,
    )


async def sign_out(call: Call) -> web.StreamResponse:
    """POST /.zt/sign-out at the portal: ends the session everywhere, then at the provider."""
    _refuse_foreign(call)
    form = await _form(call)
    session, elsewhere = await call.session(), await _elsewhere(call, form.get("from", ""))
    shown = session or elsewhere
    url = None
    if shown is not None:
        if not hmac.compare_digest(form.get("token", "").encode("utf-8", "replace"), _token(call).encode()):
            call.retry = ("Back", "/.zt/sign-out")
            raise ClientError(Reason.CROSS_ORIGIN, "the form's token is not this session's", status=403)
        url = await _provider_logout(call, shown)
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


def who(session: Session) -> str:
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


async def _provider_logout(call: Call, session: Session) -> str | None:
    """Where the provider ends its own session; None if it cannot, which does not keep ours from ending."""
    record = await call.portal.sessions.record(session.sid)
    provider = call.portal.providers.get(session.principal.provider)
    if record is None or provider is None:
        return None
    return await provider.logout_url(
        id_token=record.id_token,
        post_logout_redirect_uri=call.portal.settings.portal_origin + "/.zt/signed-out",
        state=new_login_cookie(),
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _token(call: Call) -> str:
    """Bound to this browser's cookie, so that it is worth nothing in another session or after a new login."""
    key = call.portal.ring.key(call.portal.ring.current, "portal-form")
    return b64encode(hmac.digest(key, call.handle_hash() or b"", "sha256"))


def _refuse_foreign(call: Call) -> None:
    """A form of another origin, or of nobody knows which. Raises ClientError(CROSS_ORIGIN, 403)."""
    headers = call.request.headers
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    own = call.portal.settings.portal_origin
    if site not in {None, "same-origin"} or origin not in {None, own} or (site is None and origin is None):
        call.retry = ("Back", "/.zt/sign-out")
        raise ClientError(Reason.CROSS_ORIGIN, "the form was not sent by the portal's own page", status=403)


async def _form(call: Call) -> dict[str, str]:
    """Raises ClientError(MALFORMED or BODY_TOO_LARGE) for anything but a small urlencoded form (ZT-DOS-14)."""
    if call.request.content_type != "application/x-www-form-urlencoded":
        raise ClientError(Reason.MALFORMED, "not a urlencoded form")
    body = bytearray()
    async for chunk in call.request.content.iter_chunked(FORM_BYTES):
        body += chunk
        if len(body) > FORM_BYTES:
            raise ClientError(Reason.BODY_TOO_LARGE, "the form is too large", status=413)
    try:
        return unique(body.decode("ascii"))
    except UnicodeDecodeError as error:
        raise ClientError(Reason.MALFORMED, "the form is not ASCII") from error
