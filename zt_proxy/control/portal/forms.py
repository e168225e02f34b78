"""Forms of the portal: sent by our own pages alone, small, and bound to the session they were shown in."""

import hmac
from collections.abc import Mapping

from zt_proxy.control.portal.call import Call, unique
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import b64encode

FORM_BYTES = 4096


def form_token(call: Call) -> str:
    """Bound to this browser's cookie, so that it is worth nothing in another session or after a new login."""
    key = call.portal.ring.key(call.portal.ring.current, "portal-form")
    return b64encode(hmac.digest(key, call.handle_hash() or b"", "sha256"))


def check_token(call: Call, form: Mapping[str, str], back: str) -> None:
    """`back`: where to start over. Raises ClientError(CROSS_ORIGIN, 403) unless the form has this session's token."""
    if not hmac.compare_digest(form.get("token", "").encode("utf-8", "replace"), form_token(call).encode()):
        call.retry = ("Back", back)
        raise ClientError(Reason.CROSS_ORIGIN, "the form's token is not this session's", status=403)


def refuse_foreign(call: Call, back: str) -> None:
    """A form of another origin, or of nobody knows which. Raises ClientError(CROSS_ORIGIN, 403)."""
    headers = call.request.headers
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site not in {None, "same-origin"} or origin not in {None, call.origin} or (site is None and origin is None):
        call.retry = ("Back", back)
        raise ClientError(Reason.CROSS_ORIGIN, "the form was not sent by this host's own page", status=403)


async def read_form(call: Call, limit: int = FORM_BYTES) -> dict[str, str]:
    """Raises ClientError(MALFORMED or BODY_TOO_LARGE) for anything but a small urlencoded form (ZT-DOS-14)."""
    if call.request.content_type != "application/x-www-form-urlencoded":
        raise ClientError(Reason.MALFORMED, "not a urlencoded form")
    body = bytearray()
    async for chunk in call.request.content.iter_chunked(FORM_BYTES):
        body += chunk
        if len(body) > limit:
            raise ClientError(Reason.BODY_TOO_LARGE, "the form is too large", status=413)
    try:
        return unique(body.decode("ascii"))
    except UnicodeDecodeError as error:
        raise ClientError(Reason.MALFORMED, "the form is not ASCII") from error
