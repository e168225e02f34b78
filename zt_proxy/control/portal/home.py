"""The portal's own page, and the public keys."""

import msgspec
from aiohttp import web

from zt_proxy.control.portal.answers import json_answer, page
from zt_proxy.control.portal.approvals import counts
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.choose import choice
from zt_proxy.control.portal.sign_in import navigation_only
from zt_proxy.control.portal.sign_out import who

JWKS_MAX_AGE = 60
"""Seconds; far below the overlap of two keys."""


async def home(call: Call) -> web.StreamResponse:
    """GET / at the portal: who is signed in and where they can go. Signed out: the sign-in page."""
    session = await call.session()
    if session is None:
        navigation_only(call)
        return choice(call)
    portal = call.portal
    now = portal.clock.now()
    portal.sessions.activity(session.sid, now)
    provider = portal.providers.get(session.principal.provider)
    waiting, asked = counts(call, session)
    return page(
        call,
        "home.html",
        waiting=waiting,
        asked=asked,
        who=who(session),
        email=session.principal.email,
        apps=[(", ".join(app.route_names), app.host, app.origin + "/") for app in portal.settings.apps.values()],
        provider=provider.display_name if provider is not None else session.principal.provider,
        remaining=_duration(session.absolute_deadline - now),
    )


async def keys(call: Call) -> web.StreamResponse:
    """GET /.zt/jwks.json on every host (RFC 7517)."""
    return json_answer(call, msgspec.json.encode(call.portal.jwks()), max_age=JWKS_MAX_AGE)


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    hours, rest = divmod(minutes, 60)
    parts = [f"{hours} h"] * (hours > 0) + [f"{rest} min"] * (rest > 0)
    return " ".join(parts)
