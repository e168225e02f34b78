"""What a refresh learns of a person holds for the next request, and for streams that are already open."""

from tests.lab.browser import SESSION, Browser, provider_of
from tests.lab.idp import MockIdp
from tests.lab.proxy import APP, ProxyLab, allow
from tests.lab.ws import EchoPlatform, close_code, open_websocket, read_frame
from zt_proxy.processes.control import Control

HOME = f"https://{APP}/"
LET_THROUGH = 502
"""The platform speaks WebSocket alone: who is let through to it sees that."""
RULES = (allow("read", groups=["staff"], paths=("/",)), allow("talk", groups=["admins"], paths=("/**",)))


async def refreshed(control: Control) -> None:  # type: ignore[type-arg]
    """Every session is due now, and its provider is asked."""
    for listed in (await control.sessions.directory().page()).sessions:
        await control.sessions.at_provider.postpone(listed.sid, "corp", 0)
    await control.refresher.tick()
    await control.refresher.settled()


async def test_a_group_that_is_gone_closes_the_stream_that_needed_it_and_leaves_the_session() -> None:
    async with (
        MockIdp() as idp,
        ProxyLab(rules=RULES, providers=(provider_of(idp),), upstream=EchoPlatform()) as lab,
    ):
        idp.rotates = True
        control = lab.proxy.control
        assert control is not None
        person = Browser(lab)
        assert (await person.visit(HOME)).status == LET_THROUGH
        cookie = f"{SESSION}={person.cookies(APP)[SESSION]}".encode()
        socket = await open_websocket(lab, cookie)
        await refreshed(control)
        assert (await person.fetch(HOME + "editor")).status == LET_THROUGH
        idp.users["alice"]["groups"] = ["staff"]
        await refreshed(control)
        assert close_code(await read_frame(socket.reader)) in {1008, 4401, 4403}
        assert (await person.fetch(HOME + "editor")).status == 403
        assert (await person.fetch(HOME)).status == LET_THROUGH
        assert idp.requests["refresh"] == 2


async def test_a_refusal_closes_the_stream_and_ends_the_session() -> None:
    async with (
        MockIdp() as idp,
        ProxyLab(rules=RULES, providers=(provider_of(idp),), upstream=EchoPlatform()) as lab,
    ):
        idp.rotates = True
        control = lab.proxy.control
        assert control is not None
        person = Browser(lab)
        assert (await person.visit(HOME)).status == LET_THROUGH
        socket = await open_websocket(lab, f"{SESSION}={person.cookies(APP)[SESSION]}".encode())
        idp._families.clear()
        await refreshed(control)
        assert close_code(await read_frame(socket.reader)) == 4401
        assert (await person.fetch(HOME)).status == 401
