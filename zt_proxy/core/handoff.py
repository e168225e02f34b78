"""What one host of the proxy tells another through the browser: signed, short-lived, good for one purpose.

A worker that needs a sign-in sends the browser to the portal with a hand-off; the portal believes nothing else about
where to return, so that there is no open redirect to forge (ZT-REDIR-*).
"""

import hmac
from enum import StrEnum

import msgspec

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import KeyRing, b64decode, b64encode
from zt_proxy.core.session import Level


class Purpose(StrEnum):
    LOGIN = "login"
    REAUTH = "reauth"
    LOGOUT = "logout"


class Handoff(msgspec.Struct, frozen=True, array_like=True):
    """Where to come back to, and why the browser was sent."""

    purpose: Purpose
    host: str
    """Host of the app as in its Host header."""
    target: str
    """Canonical origin-form target (path and query) to return to; begins with exactly one `/`."""
    binder: bytes
    """SHA-256 of the login cookie on the app's host: the browser that asked."""
    expires: float
    route: str = ""
    rule: str = ""
    max_age: float = 0.0
    """REAUTH: seconds a proof may be old; 0: any that is made now."""
    reason: str = ""
    idle: float = 0.0
    """LOGIN, when not 0: a portal session last active longer ago than this many seconds must prove itself anew."""
    absolute: float = 0.0
    """LOGIN, when not 0: likewise for a portal session created longer ago than this."""
    sid: str = ""
    """REAUTH: the session at the app's host that the proof is for."""
    level: Level = Level.SINGLE
    """REAUTH: how strong the proof has to be."""
    request: str = ""
    """REAUTH, when the proof is good once: the request that it is for, see `core.session.request_of`."""
    window: bool = False
    """REAUTH: asked in a small window, which closes itself afterwards."""
    kept: str = ""
    """REAUTH: the form that is kept until the proof is there."""
    ask: str = ""
    """REAUTH, when it is no proof that is missing: `justify`, the person says why, or `approve`, somebody else agrees.
    What follows is what the person, and who agrees, has to see; long values are cut."""
    method: str = ""
    path: str = ""
    action: str = ""
    object: str = ""
    """`KIND:NAME`; empty: none is named."""
    scope: str = ""
    """`approve`: see `Decision.scope`."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Handoff)


def seal_handoff(ring: KeyRing, handoff: Handoff) -> str:
    """Text for a query parameter."""
    body = ring.current.to_bytes(4, "big") + _encoder.encode(handoff)
    return b64encode(body + hmac.digest(ring.key(ring.current, "handoff"), body, "sha256"))


def open_handoff(ring: KeyRing, text: str, now: float) -> Handoff:
    """Raises ClientError(HANDOFF_INVALID) if it is forged, changed, of another key or too old."""
    try:
        raw = b64decode(text)
        body, mac = raw[:-32], raw[-32:]
        key = ring.key(int.from_bytes(body[:4], "big"), "handoff")
        if not hmac.compare_digest(hmac.digest(key, body, "sha256"), mac):
            raise ValueError("forged")
        handoff = _decoder.decode(body[4:])
    except (ValueError, KeyError, msgspec.MsgspecError) as error:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is damaged or was not made here") from error
    if handoff.expires < now:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is too old")
    return handoff
