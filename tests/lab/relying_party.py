"""A relying party in front of a MockIdp, and a browser that plays one sign-in through both."""

import secrets
from contextlib import AsyncExitStack
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from tests.lab.idp import CLIENT_ID, CLIENT_SECRET, MockIdp
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import Reason, ZtError
from zt_proxy.core.keys import Secret

REDIRECT_URI = "https://portal.example.test/.zt/callback"


class SignInLab:
    """`async with SignInLab() as lab: login = await lab.sign_in()`. Settings given are ProviderSettings' fields."""

    def __init__(self, idp: MockIdp | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        self.idp = idp or MockIdp()
        self.idp.clock = self.clock
        self._settings = settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.idp)
        self._browser = await self._stack.enter_async_context(aiohttp.ClientSession())
        self.provider = self.configure(**self._settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def configure(self, **settings: Any) -> OidcProvider:
        """Another relying party of the same provider; also the one used from now on."""
        values = {
            "name": "lab",
            "display_name": "Lab",
            "issuer": self.idp.issuer,
            "client_id": CLIENT_ID,
            "client_secret": Secret(CLIENT_SECRET),
            "timeout": 5.0,
        }
        self.provider = OidcProvider(
            ProviderSettings(**{**values, **settings}), redirect_uri=REDIRECT_URI, clock=self.clock
        )
        self._stack.push_async_callback(self.provider.close)
        return self.provider

    async def visit(self, url: str) -> dict[str, str]:
        """Follow the authorization URL as a browser would; gives the call-back's parameters."""
        async with self._browser.get(url, allow_redirects=False) as response:
            assert response.status == 302
            return dict(parse_qsl(urlsplit(response.headers["Location"]).query, keep_blank_values=True))

    async def sign_in(
        self,
        *,
        max_age: float | None = None,
        force: bool = False,
        nonce: str | None = None,
        verifier: str | None = None,
        parameters: dict[str, str] | None = None,
        **wrong: str,
    ) -> VerifiedLogin:
        """One whole sign-in. `parameters` replaces the call-back's; `wrong` replaces finish's nonce or verifier."""
        nonce = nonce or secrets.token_urlsafe(32)
        verifier = verifier or secrets.token_urlsafe(48)
        asked_at = self.clock.now()
        if parameters is None:
            url = await self.provider.authorization_url(
                state="state-1", nonce=nonce, verifier=verifier, max_age=max_age, force=force
            )
            parameters = await self.visit(url)
        return await self.provider.finish(
            parameters=parameters,
            nonce=wrong.get("wrong_nonce", nonce),
            verifier=wrong.get("wrong_verifier", verifier),
            max_age=max_age,
            forced_after=asked_at if force else None,
        )

    async def refusal(self, **options: Any) -> ZtError:
        """The error a sign-in ends in; fails the test if it succeeds."""
        with pytest.raises(ZtError) as caught:
            await self.sign_in(**options)
        return caught.value

    async def refused(self, **options: Any) -> Reason:
        return (await self.refusal(**options)).reason
