"""Locks where a profile says what a request means: looking and exporting are told from the rest."""

import asyncio

from tests.integration.test_meaning import FULL, PART, RULES, may, post
from tests.integration.test_meaning import PLATFORM as PROFILE
from tests.lab.proxy import ORIGIN, ProxyLab
from tests.lab.ws import TEXT, Frame, close_code, frame, lab_with_echo, open_websocket, read_frame, remaining_frames
from zt_proxy.link.locks import Lock, LockEffect, LockKind

EVERYTHING = (*RULES, may("all", "view", "use", "build", "deploy", "export"))


async def begun(proxy: ProxyLab, effect: LockEffect) -> bytes:
    """Somebody who may do everything, and is locked."""
    cookie = await proxy.sign_in("alice", ("staff", "makers", "releasers"))
    lock(proxy, effect)
    return cookie


def lock(proxy: ProxyLab, effect: LockEffect) -> None:
    control = proxy.proxy.control
    assert control is not None
    control.link.lock(Lock("00000001", LockKind.USER, "alice", effect, "c", "root", proxy.clock.now()))


async def test_read_only_stops_building_and_deploying_and_exports_but_not_looking_and_using() -> None:
    async with ProxyLab(rules=EVERYTHING, route={"profile": PROFILE}) as proxy:
        cookie = await begun(proxy, LockEffect.READ_ONLY)
        assert (await proxy.get("/anything", cookie)).status == 200
        for body in (FULL, PART):
            reply = await proxy.send(post(cookie, body))
            assert (reply.status, reply.problem["reason"]) == (403, "locked-read-only")
        assert (await proxy.get("/export/all", cookie)).problem["reason"] == "locked-read-only"
        assert [seen.target for seen in proxy.upstream.seen] == [b"/anything"]


async def test_no_export_stops_exports_alone() -> None:
    async with ProxyLab(rules=EVERYTHING, route={"profile": PROFILE}) as proxy:
        cookie = await begun(proxy, LockEffect.NO_EXPORT)
        assert (await proxy.get("/anything", cookie)).status == 200
        assert (await proxy.send(post(cookie, PART))).status == 200
        assert (await proxy.get("/export/all", cookie)).problem["reason"] == "locked-no-export"
        records = [(line["reason"], line.get("lock")) for line in await proxy.decisions()]
        assert records[-1] == ("locked-no-export", "00000001")


async def test_an_export_under_way_is_cut_and_a_page_is_not() -> None:
    async with ProxyLab(rules=EVERYTHING, route={"profile": PROFILE}) as proxy:
        cookie = await proxy.sign_in("alice", ("staff",))
        proxy.upstream.hold = asyncio.Event()
        head = b"GET %b HTTP/1.1\r\nHost: app.test\r\n" + ORIGIN + b"Cookie: " + cookie + b"\r\n\r\n"
        export, page = await proxy.connect(), await proxy.connect()
        await export.write(head % b"/export/all")
        await page.write(head % b"/anything")
        await proxy.upstream.arrived(2)
        lock(proxy, LockEffect.NO_EXPORT)
        await export.ended()
        proxy.upstream.hold.set()
        assert (await page.reply()).status == 200


async def test_under_read_only_a_socket_for_looking_stays_and_a_message_that_builds_ends_it() -> None:
    async with lab_with_echo(rules=EVERYTHING, route={"profile": PROFILE}) as proxy:
        cookie = await proxy.sign_in("alice", ("staff", "makers"))
        client = await open_websocket(proxy, cookie)
        await client.write(frame(TEXT, b'{"do": "run"}'))
        assert await read_frame(client.reader) == Frame(TEXT, b'{"do": "run"}')
        lock(proxy, LockEffect.READ_ONLY)
        await client.write(frame(TEXT, b'{"do": "look"}'))
        assert await read_frame(client.reader) == Frame(TEXT, b'{"do": "look"}')
        await client.write(frame(TEXT, b'{"do": "run"}'))
        last = (await remaining_frames(client.reader))[-1]
        assert (close_code(last), last.payload[2:]) == (4403, b"locked-read-only")


async def test_a_script_that_asks_ahead_hears_of_the_action_that_is_locked() -> None:
    async with ProxyLab(rules=EVERYTHING, route={"profile": PROFILE}) as proxy:
        cookie = await begun(proxy, LockEffect.NO_EXPORT)
        for path, status in (("/export/all", 403), ("/anything", 204)):
            asked = b'{"method": "GET", "path": "%b"}' % path.encode()
            assert (await proxy.send(post(cookie, asked, "/.zt/preflight"))).status == status
