"""A provider's server that tells the portal of a logout: tokens right and wrong, and the request that carries them."""

import secrets
from typing import Any
from urllib.parse import urlencode

from tests.lab.browser import Browser, Page
from tests.lab.idp import ABSENT, CLIENT_ID, MockIdp
from zt_proxy.control.identity.logout import EVENT

FORM = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "provider"}


def logout_claims(idp: MockIdp, user: str = "alice", **changes: Any) -> dict[str, Any]:
    """Of a right logout token for what `MockIdp` calls this user's session; ABSENT removes a claim."""
    now = int(idp.clock.now())
    claims = {
        "iss": idp.issuer,
        "aud": CLIENT_ID,
        "iat": now,
        "exp": now + 120,
        "jti": secrets.token_urlsafe(16),
        "events": {EVENT: {}},
        "sub": f"sub-{user}",
        "sid": f"idp-session-{user}",
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not ABSENT}


def logout_token(idp: MockIdp, user: str = "alice", header: dict[str, Any] | None = None, **changes: Any) -> str:
    return idp.keys[0].sign(logout_claims(idp, user, **changes), **{"typ": "logout+jwt", **(header or {})})


async def announce(server: Browser, portal: str, token: str) -> Page:
    """POST it to the portal at this origin, as a provider's server does: no Origin, no cookie."""
    body = urlencode({"logout_token": token}).encode()
    return await server.request(portal + "/.zt/back-channel-logout", "POST", FORM, body)
