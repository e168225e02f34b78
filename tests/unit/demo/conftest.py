"""A provider that runs, and a relying party and a browser in one to try it with."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
import pytest
from yarl import URL

from zt_proxy.core.clock import ManualClock
from zt_proxy.demo import totp
from zt_proxy.demo.idp import Client, IdpConfig, build_idp
from zt_proxy.demo.people import DEMO_PEOPLE
from zt_proxy.demo.web import serve

PEOPLE = {person.username: person for person in DEMO_PEOPLE}
CALLBACK = "https://auth.zt.test/.zt/callback"
AFTER_LOGOUT = "https://auth.zt.test/.zt/signed-out"


@dataclass
class Visitor:
    """One browser with its cookies, and the client that it signs in to."""

    http: aiohttp.ClientSession
    base: str
    clock: ManualClock
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    callback: str = CALLBACK
    after_logout: str = AFTER_LOGOUT

    def parameters(self, **change: str | None) -> dict[str, str]:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")
        values: dict[str, str | None] = {
            "response_type": "code",
            "client_id": "zt",
            "redirect_uri": CALLBACK,
            "scope": "openid profile email",
            "state": "st-1",
            "nonce": "no-1",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        } | change
        return {name: value for name, value in values.items() if value is not None}

    async def ask(self, **change: str | None) -> aiohttp.ClientResponse:
        """Send the browser to the authorization endpoint; redirects are not followed."""
        return await self.http.get(f"{self.base}/authorize", params=self.parameters(**change), allow_redirects=False)

    async def post(self, path: str, **form: str) -> aiohttp.ClientResponse:
        return await self.http.post(f"{self.base}{path}", data=form, allow_redirects=False)

    async def sign_in(self, username: str, **change: str | None) -> URL:
        """Type password and code; gives the address of the client that the browser is sent to."""
        begun = await self.ask(**change)
        assert begun.status == 303, await begun.text()
        path = begun.headers["Location"]
        assert re.fullmatch(r"/sign-in/[\w-]{43}", path)
        person = PEOPLE[username]
        answer = await self.post(path, username=username, password=person.password)
        if person.otp_secret is not None:
            assert (answer.status, answer.headers["Location"]) == (303, path)
            answer = await self.post(path, code=totp.code_at(person.otp_secret, self.clock.now()))
        assert answer.status == 303, await answer.text()
        return URL(answer.headers["Location"])

    async def redeem(self, code: str, *, basic: bool = True, **change: str | None) -> tuple[int, dict[str, Any]]:
        """Present a code at the token endpoint."""
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        headers = {"Authorization": aiohttp.encode_basic_auth("zt", "zt-secret")} if basic else {}
        if not basic:
            form |= {"client_id": "zt", "client_secret": "zt-secret"}
        data = {name: value for name, value in (form | change).items() if value is not None}
        async with aiohttp.ClientSession() as backchannel:
            answer = await backchannel.post(f"{self.base}/token", data=data, headers=headers)
            return answer.status, await answer.json()

    async def claims(self, id_token: str) -> dict[str, Any]:
        """The claims of an ID token whose signature, audience and issuer hold."""
        keys = jwt.PyJWKSet.from_dict(await (await self.http.get(f"{self.base}/jwks")).json())
        header = jwt.get_unverified_header(id_token)
        options = {"verify_exp": False, "verify_iat": False}
        claims: dict[str, Any] = jwt.decode(
            id_token, keys[header["kid"]], algorithms=[header["alg"]], audience="zt", issuer=self.base, options=options
        )
        return claims


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000.0)  # in the past: authlib checks `iat` of a logout hint by the machine's clock


@pytest.fixture(params=["ES256"])
def algorithm(request) -> str:
    return request.param


@pytest.fixture
async def visitor(clock, algorithm, unused_tcp_port) -> AsyncIterator[Visitor]:
    """A browser in front of a provider on a free port."""
    base = f"http://127.0.0.1:{unused_tcp_port}"
    client = Client("zt", "zt-secret", (CALLBACK,), (AFTER_LOGOUT,), algorithm)
    app = build_idp(IdpConfig(base, [client], algorithm=algorithm, clock=clock))
    jar = aiohttp.CookieJar(unsafe=True)
    async with serve(app, port=unused_tcp_port), aiohttp.ClientSession(cookie_jar=jar) as http:
        yield Visitor(http, base, clock)
