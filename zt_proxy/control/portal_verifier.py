"""What a worker vouches for towards the portal, believed only if an assertion key signed it.

The portal verifies like any upstream: its socket is private, but what reaches it still has to say for which host, from
which address and in which session, and only a worker can.
"""

from typing import Any

import jwt
import msgspec

from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.core.clock import SKEW, Clock
from zt_proxy.core.errors import ClientError, Reason

AUDIENCE = "zt-portal"
TYPE = "zt-portal+jwt"
MAX_BYTES = 4096


class PortalCall(msgspec.Struct, frozen=True):
    """A request to the portal, as the worker that relays it saw it."""

    host: str
    """Host of the request, in the proxy's canonical form."""
    client: str
    """Address of the client, after trusted proxies."""
    sid: str | None
    request_id: str


class AssertionPortalVerifier:
    """Verifies `AssertionSigner.portal_header`. `issuer` is the portal's origin."""

    def __init__(self, keys: AssertionKeys, issuer: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    def verify(self, token: str) -> PortalCall:
        """Raises ClientError(ASSERTION_INVALID, status 403) unless the token is ours, for the portal and fresh."""
        try:
            return self._call(self._claims(token))
        except (jwt.InvalidTokenError, ValueError) as error:
            raise ClientError(Reason.ASSERTION_INVALID, str(error), status=403) from error

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_BYTES:
            raise ValueError("too long")
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        key = self._keys.verification_keys().get(kid) if isinstance(kid, str) else None
        if key is None:
            raise ValueError("signed by no key of ours")
        # Explicit typing (RFC 8725 §3.11): the assertion of a person must not pass for a worker's word.
        if header.get("typ") != TYPE:
            raise ValueError("another kind of token")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["ES256"],
            audience=AUDIENCE,
            issuer=self._issuer,
            # The library reads the machine's clock; time is checked below, by the injected one.
            options={
                "require": ["iss", "aud", "iat", "nbf", "exp"],
                "strict_aud": True,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        now = self._clock.now()
        if not all(type(claims[name]) is int for name in ("iat", "nbf", "exp")):
            raise ValueError("times must be integers")
        if claims["exp"] <= now - SKEW or claims["nbf"] > now + SKEW:
            raise ValueError("not good at this time")
        return claims

    def _call(self, claims: dict[str, Any]) -> PortalCall:
        host, client, request_id, sid = (claims.get(name) for name in ("host", "client", "rid", "sid"))
        if not (isinstance(host, str) and isinstance(client, str) and isinstance(request_id, str)):
            raise ValueError("host, client or request id is missing")
        if sid is not None and not isinstance(sid, str):
            raise ValueError("the session id is not a string")
        return PortalCall(host, client, sid, request_id)
