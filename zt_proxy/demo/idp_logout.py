"""The demo provider tells its clients when a session ends: OpenID Connect Back-Channel and Front-Channel Logout 1.0."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlencode

import aiohttp
from joserfc import jwt
from yarl import URL

from zt_proxy.core.clock import Clock
from zt_proxy.demo.idp_oauth import SigningKeys
from zt_proxy.demo.idp_state import BrowserSession, Client
from zt_proxy.demo.web import LoopbackResolver

EVENT = "http://schemas.openid.net/event/backchannel-logout"
LIFETIME = 120
PATIENCE = 3.0
"""Seconds that a client has to answer: a person waits for their sign-out meanwhile."""


def logout_token(
    issuer: str, keys: SigningKeys, clock: Clock, client: Client, *, sid: str | None, subject: str | None
) -> str:
    """A signed logout token (Back-Channel Logout §2.4) that names the session, the person, or both."""
    now = int(clock.now())
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": client.client_id,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": secrets.token_urlsafe(16),
        "events": {EVENT: {}},
    }
    claims |= {name: value for name, value in (("sid", sid), ("sub", subject)) if value is not None}
    header = {"alg": keys.algorithm, "kid": str(keys.private.kid), "typ": "logout+jwt"}
    return jwt.encode(header, claims, keys.private, [keys.algorithm])


class Announcer:
    """Sends logout tokens. `trust` verifies the clients' certificates; None: as the system does."""

    def __init__(self, issuer: str, keys: SigningKeys, clock: Clock, trust: ssl.SSLContext | None) -> None:
        self._issuer, self._keys, self._clock, self._trust = issuer, keys, clock, trust
        self.answers: list[tuple[str, int]] = []
        """Client and status of each announcement; 0: it did not answer."""

    async def announce(self, ended: Iterable[BrowserSession], clients: dict[str, Client]) -> None:
        """Tell every client that a session of these had anything to do with. Returns when all have answered."""
        told = [
            (client, session)
            for session in ended
            for client in _concerned(session, clients)
            if client.backchannel_logout_uri
        ]
        if not told:
            return
        connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), ssl=self._trust or True)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            await asyncio.gather(*(self._tell(http, client, session) for client, session in told))

    async def _tell(self, http: aiohttp.ClientSession, client: Client, session: BrowserSession) -> None:
        token = logout_token(
            self._issuer, self._keys, self._clock, client, sid=session.sid, subject=session.person.subject
        )
        status = 0
        try:
            form = {"logout_token": token}
            async with http.post(client.backchannel_logout_uri, data=form, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            pass  # recorded as 0: a client that is down cannot keep a person signed in here
        self.answers.append((client.client_id, status))


def frames(issuer: str, ended: Sequence[BrowserSession], clients: dict[str, Client]) -> list[str]:
    """Addresses that a page has to show in frames (Front-Channel Logout §3)."""
    return [
        f"{client.frontchannel_logout_uri}?{urlencode({'iss': issuer, 'sid': session.sid})}"
        for session in ended
        for client in _concerned(session, clients)
        if client.frontchannel_logout_uri
    ]


def origins(addresses: Iterable[str]) -> str:
    """Their origins, for the policy of the page that frames them."""
    return " ".join(sorted({str(URL(address).origin()) for address in addresses}))


def _concerned(session: BrowserSession, clients: dict[str, Client]) -> Iterator[Client]:
    return (clients[name] for name in sorted(session.clients) if name in clients)
