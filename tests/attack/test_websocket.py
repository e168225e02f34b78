"""Who may open a WebSocket through the proxy, and who ends it (RFC 6455)."""

import asyncio
from typing import Self

import pytest

from tests.lab.proxy import APP, ProxyLab, Reply, allow
from tests.lab.waiting import until
from tests.lab.ws import (
    HANDSHAKE,
    OWN_ORIGIN,
    TEXT,
    EchoPlatform,
    Frame,
    close_code,
    closing,
    frame,
    handshake,
    header,
    lab_with_echo,
    open_websocket,
    read_frame,
    remaining_frames,
)
from zt_proxy.core.clock import ManualClock
from zt_proxy.link.messages import Invalidation


async def refused(lab: ProxyLab, request: bytes) -> Reply:
    """The answer to a handshake that must not become a tunnel; the connection ends behind it if it says so."""
    client = await lab.connect()
    await client.write(request)
    reply = await client.reply()
    assert reply.status != 101
    if reply.header("connection") == "close":
        await client.ended()
    return reply


# ---- who may open one ----


@pytest.mark.case("ZT-WS-01")
async def test_a_page_of_another_origin_opens_no_websocket_with_a_cookie() -> None:
    origins = (
        b"Origin: https://evil.test\r\n",
        b"Origin: null\r\n",
        b"",
        b"Origin: https://app.test.evil.test\r\n",
        b"Origin: http://app.test\r\n",
        b"Origin: https://app.test:8443\r\n",
        b"Origin: https://other.app.test\r\n",
        b"Origin: https://auth.test\r\n",
        b"Origin: https://APP.test\r\n",
        OWN_ORIGIN + b"Sec-Fetch-Site: cross-site\r\n",
        OWN_ORIGIN + b"Sec-Fetch-Site: same-site\r\n",
    )
    async with lab_with_echo() as lab:
        cookie = await lab.sign_in()
        for origin in origins:
            reply = await refused(lab, handshake(cookie, origin))
            assert (reply.status, reply.problem["reason"]) == (403, "cross-origin"), origin
        assert lab.upstream.connections == 0
        twice = await refused(lab, handshake(cookie, OWN_ORIGIN + b"Origin: https://evil.test\r\n"))
        assert twice.status == 400
        await open_websocket(lab, cookie, OWN_ORIGIN + b"Sec-Fetch-Site: same-origin\r\n")


@pytest.mark.case("ZT-WS-01")
async def test_an_origin_that_the_route_names_may_open_one() -> None:
    async with lab_with_echo(route={"cors_origins": ("https://partner.test",)}) as lab:
        cookie = await lab.sign_in()
        partner = b"Origin: https://partner.test\r\nSec-Fetch-Site: cross-site\r\n"
        client = await open_websocket(lab, cookie, partner)
        await client.write(frame(TEXT, b"hello"))
        assert await read_frame(client.reader) == Frame(TEXT, b"hello")
        assert (await refused(lab, handshake(cookie, b"Origin: https://evil.test\r\n"))).status == 403


@pytest.mark.case("ZT-WS-02")
async def test_without_a_session_there_is_no_redirect_and_no_upstream() -> None:
    async with lab_with_echo() as lab:
        for cookie in (None, b"__Host-zt=made-up", b"__Host-zt="):
            reply = await refused(lab, handshake(cookie, OWN_ORIGIN + b"Accept: text/html\r\n"))
            assert reply.status == 401
            assert reply.header("location") is None
            assert reply.header("www-authenticate") is not None
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-WS-02")
async def test_a_websocket_needs_a_rule_like_any_request() -> None:
    async with lab_with_echo(rules=(allow(paths=("/ws",)),)) as lab:
        cookie = await lab.sign_in()
        await open_websocket(lab, cookie)
        reply = await refused(lab, handshake(cookie, path="/other"))
        assert (reply.status, reply.problem["reason"]) == (403, "no-rule-matched")
        stranger = await lab.sign_in("mallory", groups=("guests",))
        assert (await refused(lab, handshake(stranger))).status == 403


@pytest.mark.case("ZT-WS-08")
async def test_a_bad_handshake_makes_no_tunnel() -> None:
    good = b"GET /ws HTTP/1.1\r\nHost: app.test\r\n" + HANDSHAKE + OWN_ORIGIN
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    version = b"Sec-WebSocket-Version: 13"
    cases: tuple[tuple[str, bytes, set[int]], ...] = (
        ("no key", good.replace(key + b"\r\n", b""), {400}),
        ("short key", good.replace(key, b"Sec-WebSocket-Key: c2hvcnQ="), {400}),
        ("two keys", good.replace(key, key + b"\r\n" + key), {400}),
        ("version 12", good.replace(version, b"Sec-WebSocket-Version: 12"), {426}),
        ("version 1777", good.replace(version, b"Sec-WebSocket-Version: 1777"), {426}),
        ("no version", good.replace(version + b"\r\n", b""), {426, 400}),
        ("no connection", good.replace(b"Connection: Upgrade\r\n", b""), {400}),
        ("keep-alive only", good.replace(b"Connection: Upgrade", b"Connection: keep-alive"), {400}),
        ("post", good.replace(b"GET", b"POST"), {400}),
        ("http/1.0", good.replace(b"HTTP/1.1", b"HTTP/1.0"), {400}),
        ("two protocols", good.replace(b"Upgrade: websocket", b"Upgrade: websocket, h2c"), {400}),
        ("a body", good + b"Content-Length: 5\r\n", {400}),
        ("a chunked body", good + b"Transfer-Encoding: chunked\r\n", {400}),
    )
    async with lab_with_echo() as lab:
        cookie = b"Cookie: %b\r\n\r\n" % await lab.sign_in()
        for name, request, statuses in cases:
            reply = await refused(lab, request + cookie)
            assert reply.status in statuses, name
            if reply.status == 426:
                assert reply.header("sec-websocket-version") == "13"
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-WS-08")
async def test_only_a_proper_agreement_of_the_platform_opens_the_tunnel() -> None:
    answers = {
        "refusal": (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno", 426),
        "a plain page": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        "wrong accept": (
            b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", 502),
        "no accept": (b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 502),
        "h2c": (b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 502),
    }  # fmt: skip
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for name, (answer, status) in answers.items():
            lab.upstream.answer = answer
            client = await lab.connect()
            follow_up = b"GET /admin HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie
            await client.write(handshake(cookie) + follow_up)
            reply = await client.reply()
            assert reply.status == status, name
            await client.ended()
        assert [seen.target for seen in lab.upstream.seen] == [b"/ws"] * len(answers)


# ---- the end of the session is the end of the socket ----


@pytest.mark.case("ZT-WS-05")
@pytest.mark.case("ZT-SESS-10")
async def test_the_end_of_a_session_closes_its_sockets_and_no_others() -> None:
    async with lab_with_echo() as lab:
        platform = lab.upstream
        assert isinstance(platform, EchoPlatform)
        sid, cookie = await lab.new_session()
        _, other = await lab.new_session("bob")
        mine = [await open_websocket(lab, cookie) for _ in range(3)]
        theirs = await open_websocket(lab, other)
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.end(sid, "revoked")
        async with asyncio.timeout(1):
            for client in mine:
                (last,) = await remaining_frames(client.reader)
                assert close_code(last) == 4401
        await until(lambda: platform.ended == 3)
        assert [close_code(one) for one in platform.frames] == [1001] * 3
        await theirs.write(frame(TEXT, b"still here"))
        assert await read_frame(theirs.reader) == Frame(TEXT, b"still here")


@pytest.mark.case("ZT-WS-05")
async def test_a_close_waits_for_the_end_of_the_frame_that_is_under_way() -> None:
    class Slow(EchoPlatform):
        async def __aenter__(self) -> Self:
            self.finish = asyncio.Event()
            return await super().__aenter__()

        async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            whole = frame(TEXT, b"half a message, and the rest", masked=False)
            writer.write(whole[:8])
            await self.finish.wait()
            writer.write(whole[8:] + frame(TEXT, b"too late", masked=False))
            await reader.read()

    platform = Slow()
    async with ProxyLab(upstream=platform) as lab:
        client = await open_websocket(lab, await lab.sign_in())
        start = await client.reader.readexactly(8)
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.end(lab.sid, "revoked")
        platform.finish.set()
        client.reader._buffer[:0] = start  # type: ignore[attr-defined]
        message, last = await remaining_frames(client.reader)
        assert message == Frame(TEXT, b"half a message, and the rest")
        assert close_code(last) == 4401


@pytest.mark.case("ZT-WS-05")
async def test_a_frame_that_never_ends_does_not_keep_a_dead_sessions_socket() -> None:
    class Stuck(EchoPlatform):
        async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(header(TEXT, 100, masked=False) + b"x")
            await reader.read()

    clock = ManualClock()
    async with ProxyLab(upstream=Stuck(), clock=clock) as lab:
        client = await open_websocket(lab, await lab.sign_in())
        await client.reader.readexactly(3)
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.end(lab.sid, "revoked")
        await lab.advance(60)
        assert await client.ended() == b""


@pytest.mark.case("ZT-SESS-08")
async def test_the_absolute_limit_closes_a_busy_socket() -> None:
    clock = ManualClock()
    async with lab_with_echo(clock=clock) as lab:
        client = await open_websocket(lab, await lab.sign_in())
        await lab.advance(11 * 3600 + 59 * 60 - 1800)
        assert lab.proxy.control is not None
        lab.proxy.control.sessions.activity(lab.sid, clock.now())
        await client.write(frame(TEXT, b"a"))
        assert await read_frame(client.reader) == Frame(TEXT, b"a")
        await lab.advance(1800 + 120)
        assert close_code((await remaining_frames(client.reader))[-1]) == 4401


async def test_lost_contact_with_control_cuts_every_socket() -> None:
    async with lab_with_echo() as lab:
        client = await open_websocket(lab, await lab.sign_in())
        assert lab.proxy.control is not None
        lab.proxy.control.link.close()
        assert close_code((await remaining_frames(client.reader))[-1]) == 1001


async def test_a_resynchronisation_alone_cuts_no_socket() -> None:
    async with lab_with_echo() as lab:
        client = await open_websocket(lab, await lab.sign_in())
        assert lab.proxy.worker is not None
        lab.proxy.worker.invalidate(Invalidation(1, lab.sid, "unlocked"))
        await client.write(frame(TEXT, b"a"))
        assert await read_frame(client.reader) == Frame(TEXT, b"a")


async def test_a_stopping_proxy_says_that_it_goes_away() -> None:
    async with lab_with_echo() as lab:
        client = await open_websocket(lab, await lab.sign_in())
        await lab.stop()
        assert close_code((await remaining_frames(client.reader))[-1]) == 1001


async def test_each_socket_leaves_a_decision_and_an_end() -> None:
    async with lab_with_echo() as lab:
        client = await open_websocket(lab, await lab.sign_in())
        await client.write(closing(1000))
        await remaining_frames(client.reader)
        assert lab.upstream.seen[0].header(b"host") == APP.encode()
        lines = await lab.log()
        decision = next(line for line in lines if line["type"] == "decision")
        assert (decision["effect"], decision["protocol"]) == ("allow", "websocket")
        assert [line["id"] for line in lines if line["type"] == "end"] == [decision["id"]]
