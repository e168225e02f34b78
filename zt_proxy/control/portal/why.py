"""`/.zt/why`: a rule lets somebody through who says why. It is asked once in a session, and put on record."""

from aiohttp import web

from zt_proxy.control.portal import words
from zt_proxy.control.portal.answers import page, redirect
from zt_proxy.control.portal.asked import Asked, back, open_asked
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.confirm import SCRIPT_URL
from zt_proxy.control.portal.forms import check_token, form_token, read_form, refuse_foreign
from zt_proxy.control.portal.sign_in import navigation_only
from zt_proxy.control.portal.sign_out import who

ASK = "justify"


async def ask(call: Call) -> web.StreamResponse:
    """GET /.zt/why?to=…|login=… at the portal: asks. Changes nothing."""
    navigation_only(call)
    return _page(call, await open_asked(call, ASK))


async def say(call: Call) -> web.StreamResponse:
    """POST /.zt/why: what the person says goes to the app's host, where it is recorded, and counts, in the browser of
    the session that was asked. What is not acceptable is asked again."""
    refuse_foreign(call, "/")
    form = await read_form(call, words.FORM_BYTES)
    asked = await open_asked(call, ASK)
    if asked.bound:
        check_token(call, form, "/.zt/why?" + asked.query)
    try:
        text = words.said(form.get("said", ""))
    except words.Unacceptable as wrong:
        return _page(call, asked, form.get("said", ""), str(wrong))
    return redirect(call, await back(call, asked, text))


def _page(call: Call, asked: Asked, said: str = "", wrong: str = "") -> web.Response:
    return page(
        call,
        "why.html",
        status=400 if wrong else 200,
        form_action=(asked.origin,),
        has_form=True,
        script=True,
        script_url=SCRIPT_URL,
        handoff=asked.handoff,
        who=who(asked.record),
        query=asked.query,
        token=form_token(call) if asked.bound else "",
        least=words.SHORTEST,
        most=words.LONGEST,
        said=said[: words.LONGEST * 2],
        wrong=wrong,
        back=asked.origin + "/",
    )
