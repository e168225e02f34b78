"""What the script in an app's page asks and reports: how long this session lasts, and that a person is there.

The page that asks may be hostile (ZT-APP-01): it learns nothing here that the signed header would not tell its server,
and what it reports keeps a session awake exactly as far as one of its own requests would.
"""

import msgspec
from aiohttp import web

from zt_proxy.control.portal.answers import empty, json_answer
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.forms import refuse_foreign
from zt_proxy.control.portal.sign_out import who
from zt_proxy.core.errors import ClientError, Reason

_SIGNED_OUT = msgspec.json.encode({"signed_in": False})
_OWN = frozenset((None, "none", "same-origin"))
"""Values of `Sec-Fetch-Site`: an older browser, the address bar, our own page."""


async def session_state(call: Call) -> web.StreamResponse:
    """GET /.zt/session: whose session this is, how it was proved and until when; times are seconds since the epoch.

    Asking is never activity. Raises ClientError(CROSS_ORIGIN, 403) for another site's page, which could not read the
    answer, but could measure it.
    """
    if call.request.headers.get("Sec-Fetch-Site") not in _OWN:
        raise ClientError(Reason.CROSS_ORIGIN, "another site asked for the state of a session", status=403)
    session = await call.session()
    if session is None:
        return json_answer(call, _SIGNED_OUT)
    idle = session.last_activity + session.idle_timeout
    state = {
        "signed_in": True,
        "who": who(session),
        "level": session.level.word,
        "proved_at": session.auth_time,
        "now": call.portal.clock.now(),
        "idle_deadline": min(idle, session.absolute_deadline),
        "absolute_deadline": session.absolute_deadline,
    }
    return json_answer(call, msgspec.json.encode(state))


async def activity(call: Call) -> web.StreamResponse:
    """POST /.zt/activity at an app's host: the person typed or clicked. 204.

    A session that was idle by then is over and stays so. Raises ClientError(CROSS_ORIGIN, 403) or
    ClientError(LOGIN_REQUIRED, 401).
    """
    refuse_foreign(call, "/")
    session = await call.session()
    if session is None:
        raise ClientError(Reason.LOGIN_REQUIRED, "activity without a session", status=401)
    call.portal.sessions.activity(session.sid, call.portal.clock.now())
    return empty(call)
