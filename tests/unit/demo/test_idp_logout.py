"""The demo provider's refresh tokens, and what it tells its clients of the end of a session, read by our relying party."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.unit.demo.conftest import AFTER_LOGOUT, CALLBACK, Visitor
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.identity.types import LogoutNotice
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import Secret
from zt_proxy.demo.idp import Client, IdpConfig, build_idp
from zt_proxy.demo.web import serve


class Portal:
    """Where the provider's logout tokens arrive."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.app = web.Application()
        self.app.router.add_post("/back", self._take)

    async def _take(self, request: web.Request) -> web.Response:
        self.tokens.append(str((await request.post())["logout_token"]))
        return web.Response()


class Lab:
    def __init__(self, visitor: Visitor, portal: Portal, party: OidcProvider) -> None:
        self.visitor = visitor
        self.portal = portal
        self.party = party

    async def tokens(self, who: str = "rita") -> dict[str, Any]:
        back = await self.visitor.sign_in(who)
        status, tokens = await self.visitor.redeem(back.query["code"])
        assert status == 200, tokens
        return tokens

    async def refresh(self, token: str, **change: str) -> tuple[int, dict[str, Any]]:
        form = {"code": "", "code_verifier": "", "redirect_uri": ""} | change
        return await self.visitor.redeem(grant_type="refresh_token", refresh_token=token, **form)

    async def sign_out(self, tokens: dict[str, Any]) -> aiohttp.ClientResponse:
        query = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": AFTER_LOGOUT}
        return await self.visitor.http.get(f"{self.visitor.base}/logout", params=query, allow_redirects=False)

    async def notices(self) -> list[LogoutNotice]:
        return [await self.party.logout_notice(token) for token in self.portal.tokens]


@pytest.fixture
async def lab(clock: ManualClock, unused_tcp_port: int, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    base, portal = f"http://127.0.0.1:{unused_tcp_port}", Portal()
    settings = ProviderSettings("demo", "Demo", base, "zt", Secret("zt-secret"))
    party = OidcProvider(settings, redirect_uri=CALLBACK, clock=clock)
    async with serve(portal.app) as listening, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        client = Client(
            "zt",
            "zt-secret",
            (CALLBACK,),
            (AFTER_LOGOUT,),
            refresh=True,
            backchannel_logout_uri=f"{listening.url}/back",
        )
        client = replace(client, **getattr(request, "param", {}))
        async with serve(build_idp(IdpConfig(base, [client], clock=clock)), port=unused_tcp_port):
            yield Lab(Visitor(http, base, clock), portal, party)
    await party.close()


async def test_a_refresh_gives_the_next_token_and_an_id_token_of_the_old_proof(lab: Lab) -> None:
    tokens = await lab.tokens()
    lab.visitor.clock.advance(600)
    status, fresh = await lab.refresh(tokens["refresh_token"])
    assert status == 200, fresh
    assert fresh["refresh_token"] not in (tokens["refresh_token"], None)
    before, after = await lab.visitor.claims(tokens["id_token"]), await lab.visitor.claims(fresh["id_token"])
    same = ("sub", "sid", "auth_time", "acr", "amr", "groups", "aud", "iss")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["iat"] == before["iat"] + 600
    assert "nonce" not in after


async def test_a_refresh_token_that_is_used_twice_ends_its_family(lab: Lab) -> None:
    tokens = await lab.tokens()
    _, second = await lab.refresh(tokens["refresh_token"])
    assert (await lab.refresh(tokens["refresh_token"]))[1]["error"] == "invalid_grant"
    assert (await lab.refresh(second["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_a_refresh_ends_with_the_session(lab: Lab) -> None:
    tokens = await lab.tokens()
    await lab.sign_out(tokens)
    assert (await lab.refresh(tokens["refresh_token"]))[0] == 400


@pytest.mark.parametrize("lab", [{"refresh": False}], indirect=True)
async def test_a_client_that_is_not_registered_for_it_gets_none(lab: Lab) -> None:
    assert "refresh_token" not in await lab.tokens()


async def test_the_end_of_a_session_is_announced_to_its_client_before_the_browser_is_sent_back(lab: Lab) -> None:
    tokens = await lab.tokens()
    claims = await lab.visitor.claims(tokens["id_token"])
    answer = await lab.sign_out(tokens)
    assert (answer.status, answer.headers["Location"]) == (302, AFTER_LOGOUT)
    (notice,) = await lab.notices()
    assert (notice.sid, notice.subject) == (claims["sid"], claims["sub"])
    await lab.sign_out(tokens)
    assert len(lab.portal.tokens) == 1


@pytest.mark.parametrize("lab", [{"backchannel_logout_uri": "http://127.0.0.1:1/nobody"}], indirect=True)
async def test_a_client_that_is_down_keeps_nobody_signed_in(lab: Lab) -> None:
    tokens = await lab.tokens()
    async with asyncio.timeout(10):
        assert (await lab.sign_out(tokens)).status == 302
    assert (await lab.refresh(tokens["refresh_token"]))[0] == 400


@pytest.mark.parametrize("lab", [{"frontchannel_logout_uri": "https://auth.zt.test/front"}], indirect=True)
async def test_a_client_of_the_front_channel_is_shown_in_a_frame(lab: Lab) -> None:
    tokens = await lab.tokens()
    sid = (await lab.visitor.claims(tokens["id_token"]))["sid"]
    answer = await lab.sign_out(tokens)
    text = await answer.text()
    assert answer.status == 200
    assert "https://auth.zt.test/front?iss=http" in text
    assert f"sid={sid}" in text
    assert f'href="{AFTER_LOGOUT}"' in text
    assert "frame-src https://auth.zt.test" in answer.headers["Content-Security-Policy"]
