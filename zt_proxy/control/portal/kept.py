"""Forms that are sent before enough was proven: kept here, and sent on when the proof is there (DESIGN §7).

A worker hands a form over at `/.zt/keep`, a place that no client can ask for. The browser goes on to the portal with a
hand-off that names it, comes back with a proof, and gets a page that posts a one-use token to where the form was meant
to go; the worker there puts the form in its place, and decides anew.
"""

from urllib.parse import quote

import msgspec
from aiohttp import web

from zt_proxy.control.portal.answers import check_target
from zt_proxy.control.portal.call import Call
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Purpose, open_handoff, seal_handoff
from zt_proxy.link.proofs import KeptForm
from zt_proxy.pages.resume import onward_headers, onward_page, resume_headers, resume_page

HANDOFF = "ZT-Handoff"


async def keep(call: Call) -> web.StreamResponse:
    """POST /.zt/keep at an app's host, from a worker: keep the body, and send the browser to where it can prove what is
    missing.

    Raises ClientError: HANDOFF_INVALID, SESSION_UNKNOWN, BODY_TOO_LARGE; UnavailableError(FORM_NOT_KEPT).
    """
    portal = call.portal
    texts = call.request.headers.getall(HANDOFF, [])
    handoff = open_handoff(portal.ring, texts[0] if len(texts) == 1 else "", portal.clock.now())
    if handoff.purpose is not Purpose.REAUTH or handoff.host != call.host:
        raise ClientError(Reason.HANDOFF_INVALID, "the hand-off is for something else")
    check_target(handoff.target)
    call.retry = ("Start again", "/")
    session = await call.session()
    if session is None or session.sid != handoff.sid:
        raise ClientError(Reason.SESSION_UNKNOWN, "the session of the form is over", status=401)
    headers, forms = call.request.headers, portal.sessions.forms
    form = KeptForm(
        content_type=headers.get("Content-Type", ""),
        origin=headers.get("Origin", ""),
        referer=headers.get("Referer", ""),
        body=await forms.read(session.sid, call.request.content.iter_any(), portal.settings.form_limit),
    )
    name = await forms.keep(session.sid, handoff.host, handoff.target, form)
    sealed = seal_handoff(portal.ring, msgspec.structs.replace(handoff, kept=name))
    url = f"{portal.settings.portal_origin}/.zt/sign-in?to={quote(sealed)}"
    return _html(call, onward_page(call.host, url), onward_headers(url))


async def page(call: Call, kept: str, sid: str, target: str) -> web.StreamResponse:
    """At the app's host, after the proof: the page that sends the form on.

    `kept` and `target` are those of the hand-off, `sid` is this browser's session here.
    Raises ClientError(FORM_ALREADY_SENT, 409) if nothing is kept there any more.
    """
    target = check_target(target)
    call.retry = ("Go back", target)
    token = await call.portal.sessions.forms.release(sid, kept, call.host, target)
    if token is None:
        raise ClientError(Reason.FORM_ALREADY_SENT, "no form is kept under this name here", status=409)
    return _html(call, resume_page(call.host, target, token), resume_headers())


def _html(call: Call, body: bytes, headers: dict[str, str]) -> web.Response:
    headers = headers | {"X-Request-Id": call.request_id}
    response = web.Response(body=body, headers=headers, content_type="text/html", charset="utf-8")
    for line in call.cookies:
        response.headers.add("Set-Cookie", line)
    return response
