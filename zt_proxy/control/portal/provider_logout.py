"""Signing out at the provider signs out here: OpenID Connect Back-Channel and Front-Channel Logout 1.0.

Neither has a cookie's authority. The back channel is the provider's server, believed for its signature alone. The front
channel is a frame in a page of the provider's: our cookie (SameSite=Lax) does not come with it, so that `iss` and `sid`
together say which session is meant. Who knows both can sign that person out, and nothing else; no answer tells whether
there was a session.
"""

import msgspec
import structlog
from aiohttp import web

from zt_proxy.control.identity.logout import MAX_TOKEN, claimed_issuer, logout_error
from zt_proxy.control.identity.strict import printable
from zt_proxy.control.identity.types import IdentityProvider, LogoutNotice
from zt_proxy.control.portal.answers import json_answer, page
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.forms import read_form
from zt_proxy.core.errors import ClientError, ProviderError, Reason, UnavailableError, ZtError

FORM_BYTES = MAX_TOKEN + 1_024

log = structlog.get_logger(__name__)


async def back_channel(call: Call) -> web.StreamResponse:
    """POST /.zt/back-channel-logout at the portal, from the provider's server: ends what the logout token names.

    200 also when there was no such session (§2.8); 400 for a token that does not verify, or that came before.
    """
    guard, now = call.portal.logout_guard, call.portal.clock.monotonic()
    waits = guard.waits(call.client, now)
    seats = guard.doubtful if waits else guard.busy
    try:
        # Before a seat is taken: who sends slowly keeps nobody else from being heard.
        token = (await read_form(call, FORM_BYTES)).get("logout_token", "")
        if seats.locked():
            raise UnavailableError(Reason.LOGIN_BUSY, "too many logout tokens at once")
        async with seats:
            notice = await _verified(call, token)
            ended = await call.portal.sessions.at_provider.announced(notice)
    except (ClientError, ProviderError) as error:
        if error.status >= 500:  # the keys could not be had: the provider may try again
            raise
        guard.refused(call.client, now)
        if waits:
            raise ClientError(
                Reason.TOO_MANY_REQUESTS, "too many logout tokens that do not verify", status=429
            ) from None
        return _refusal(call, error)
    log.info("signed out by the provider", issuer=notice.issuer, sessions=ended, request_id=call.request_id)
    return json_answer(call, b"{}")


async def front_channel(call: Call) -> web.StreamResponse:
    """GET /.zt/front-channel-logout at the portal, in a frame of the provider's: ends the session of `iss` and `sid`.

    Anything but both, of a provider that is configured, is ignored and answered alike (ZT-OIDC-23).
    """
    if call.request.headers.get("Sec-Fetch-Dest", "iframe") not in {"iframe", "frame", "document"}:
        raise ClientError(Reason.MALFORMED, "neither a frame nor a page")  # an image in somebody's mail
    query = call.query()
    issuer, sid = query.get("iss", ""), printable(query.get("sid"), 255)
    providers = _of_issuer(call, issuer)
    if not providers or sid is None:
        raise ClientError(Reason.MALFORMED, "iss and sid of a configured provider are needed")
    ended = await call.portal.sessions.at_provider.end(issuer, sid)
    log.info("signed out in the front channel", issuer=issuer, sessions=ended, request_id=call.request_id)
    response = page(call, "signed_out.html")
    origins = " ".join(providers[0].frame_origins())
    policy = response.headers["Content-Security-Policy"]
    response.headers["Content-Security-Policy"] = policy.replace("frame-ancestors 'none'", f"frame-ancestors {origins}")
    del response.headers["X-Frame-Options"]  # knows no list of origins; frame-ancestors overrides it anyway
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


async def _verified(call: Call, token: str) -> LogoutNotice:
    refusal: ZtError = logout_error("iss is no configured provider")
    for provider in _of_issuer(call, claimed_issuer(token)):  # one issuer may know the proxy as several clients
        try:
            return await provider.logout_notice(token)
        except (ClientError, ProviderError) as error:
            refusal = error
    raise refusal


def _of_issuer(call: Call, issuer: str) -> list[IdentityProvider]:
    return [one for one in call.portal.providers.values() if one.issuer == issuer]


def _refusal(call: Call, error: ZtError) -> web.Response:
    """§2.8: 400 with an OAuth error. What exactly was wrong is in the log."""
    log.warning("logout token refused", reason=error.reason.value, detail=error.detail, client=call.client)
    code = Reason.LOGOUT_TOKEN_INVALID.value
    response = json_answer(call, msgspec.json.encode({"error": "invalid_request", "error_description": code}))
    response.set_status(400)
    return response
