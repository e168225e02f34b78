"""A person signs out at a certified OpenID provider (npm oidc-provider), and the proxy ends what it knows of them."""

import asyncio
import re
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.lab.browser import SESSION, Browser
from tests.lab.logout import announce
from tests.lab.proxy import APP, PORTAL, ProxyLab
from tests.lab.ws import EchoPlatform, close_code, open_websocket, read_frame
from tests.real.test_sign_in_provider import Person
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level

HOME, AUTH = f"https://{APP}/", f"https://{PORTAL}"
LET_THROUGH = 502
"""The platform speaks WebSocket alone: who is let through to it sees that."""

pytestmark = pytest.mark.real


class Relay:
    """Takes the provider's logout tokens where it can send them, for the portal, whose name only tests can resolve."""

    def __init__(self):
        self.tokens = asyncio.Queue()
        self.server = None

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/back", self._take)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/back"
        return self

    async def __aexit__(self, *_):
        await self.runner.cleanup()

    async def _take(self, request):
        await self.tokens.put((await request.post())["logout_token"])
        return web.Response()


async def sign_out_at(idp, http, id_token):
    """At the provider's own end-session page, as its form sends it."""
    query = {"id_token_hint": id_token.reveal()}
    answer = await http.get(URL(idp.issuer + "/session/end").with_query(query))
    form = dict(re.findall(r'name="(xsrf|logout)"[^>]*value="([^"]+)"', await answer.text()))
    answer = await http.post(idp.issuer + "/session/end/confirm", data={**form, "logout": "yes"})
    assert answer.status == 200, await answer.text()


@pytest.mark.parametrize("with_sid", [True, False], ids=["by session", "by person"])
async def test_signing_out_at_the_provider_closes_the_stream_and_ends_the_session(oidc_provider, with_sid):
    async with Relay() as relay, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        registration = {"backchannel_logout_uri": relay.url, "backchannel_logout_session_required": with_sid}
        idp = oidc_provider([AUTH + "/.zt/callback"], registration=registration)
        settings = ProviderSettings(
            "corp", "Corp", idp.issuer, "zt", Secret("zt-secret"), acr={"urn:zt:mfa": Level.MULTI}, amr={}
        )
        async with ProxyLab(providers=(settings,), upstream=EchoPlatform()) as lab:
            person, at_provider = Browser(lab), Person(idp, http)
            page = await person.visit(HOME, until=idp.issuer)
            back = await at_provider.follow(URL(page.location, encoded=True), "rita")
            assert urlsplit(str(back)).netloc == PORTAL
            assert (await person.visit(str(back))).status == LET_THROUGH
            socket = await open_websocket(lab, f"{SESSION}={person.cookies(APP)[SESSION]}".encode())

            (listed,) = (await lab.proxy.control.sessions.directory().page()).sessions
            record = await lab.proxy.control.sessions.record(listed.sid)
            assert (record.provider_sid is not None) == with_sid
            await sign_out_at(idp, http, record.id_token)
            token = await asyncio.wait_for(relay.tokens.get(), 10)

            assert (await announce(Browser(lab), AUTH, token)).status == 200
            assert close_code(await read_frame(socket.reader)) == 4401
            assert (await person.fetch(HOME)).status == 401
            assert (await announce(Browser(lab), AUTH, token)).status == 400
            await at_provider.party.close()
