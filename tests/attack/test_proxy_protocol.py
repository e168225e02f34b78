"""Whose word about a client's address is believed, and that made-up cookies cost nobody anything."""

import asyncio
import secrets
import ssl
import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest

from tests.lab.proxy import APP, TRUSTING, Client, ProxyLab
from tests.lab.waiting import until
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import b64encode

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def balanced(**more: object) -> ProxyLab:
    return ProxyLab(listener={"proxy_protocol_from": ("127.0.0.1/32",)}, **more)  # type: ignore[arg-type]


def v2(source: str, command: int = 1, tail: bytes = b"") -> bytes:
    raw = ip_address(source).packed
    family = 0x11 if len(raw) == 4 else 0x21
    body = raw + raw + struct.pack(">HH", 40000, 443) + tail
    return SIGNATURE + bytes((0x20 | command, family)) + len(body).to_bytes(2, "big") + body


async def dial(lab: ProxyLab, before: bytes, source: str = "127.0.0.1") -> Client:
    """Connect from `source`, send these bytes, then speak TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.port, local_addr=(source, 0))
    client = Client(reader, writer)
    lab._clients.append(client)
    writer.write(before)
    await writer.start_tls(TRUSTING, server_hostname=APP)
    return client


async def forwarded_for(lab: ProxyLab, client: Client, cookie: bytes) -> str:
    await client.write(GET % cookie)
    assert (await client.reply()).status == 200
    return (lab.upstream.seen[-1].header(b"x-forwarded-for") or b"").decode()


@pytest.mark.case("ZT-NET-01")
async def test_the_named_peer_says_where_a_client_comes_from() -> None:
    cases = (
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (v2("192.0.2.8"), "192.0.2.8"),
        (v2("2001:db8::8"), "2001:db8::8"),
        (v2("192.0.2.9", tail=b"\x03\x00\x04\x00\x00\x00\x00"), "192.0.2.9"),
        (v2("192.0.2.9", command=0), "127.0.0.1"),
    )
    async with balanced() as lab:
        cookie = await lab.sign_in()
        for header, address in cases:
            client = await dial(lab, header)
            assert await forwarded_for(lab, client, cookie) == address, header
        assert [record["client"] for record in await lab.decisions()] == [address for _, address in cases]


@pytest.mark.case("ZT-NET-01")
async def test_a_header_that_comes_byte_by_byte_or_together_with_the_hello_is_the_same() -> None:
    async with balanced() as lab:
        cookie = await lab.sign_in()
        header = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        assert lab.proxy.worker is not None
        for byte in header:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        client = Client(reader, writer)
        lab._clients.append(client)
        await writer.start_tls(TRUSTING, server_hostname=APP)
        assert await forwarded_for(lab, client, cookie) == "192.0.2.7"


@pytest.mark.case("ZT-NET-01")
async def test_anything_malformed_closes_the_connection_before_tls() -> None:
    cases = (
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40000\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 99999\r\n",
        b"PROXY TCP4 2001:db8::7 192.0.2.1 40000 443\r\n",
        b"PROXY TCP4 app.test 192.0.2.1 40000 443\r\n",
        b"PROXY TCP4 192.0.2.07 192.0.2.1 40000 443\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        b"PROXY tcp4 192.0.2.7 192.0.2.1 40000 443\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        SIGNATURE + b"\x11\x11\x00\x0c" + b"\x00" * 12,
        SIGNATURE + b"\x21\x11\x00\x04" + b"\x00" * 4,
        SIGNATURE + b"\x21\x11\xff\xff" + b"\x00" * 100,
        SIGNATURE + b"\x2f\x11\x00\x0c" + b"\x00" * 12,
    )
    async with balanced() as lab:
        for data in cases:
            reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
            writer.write(data)
            async with asyncio.timeout(10):
                with suppress(ConnectionError):
                    assert await reader.read() == b"", data
            writer.close()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await lab.connect()


@pytest.mark.case("ZT-NET-01")
async def test_a_header_that_comes_late_closes_the_connection() -> None:
    async with balanced(clock=ManualClock()) as lab:
        beginnings = (b"", b"PROXY TCP4 192.0.2.7", SIGNATURE[:5], SIGNATURE + b"\x21\x11\x00\x0c")
        opened = [await asyncio.open_connection("127.0.0.1", lab.port) for _ in beginnings]
        for (_, writer), data in zip(opened, beginnings, strict=True):
            writer.write(data)
        assert lab.proxy.worker is not None
        connections = lab.proxy.worker.listeners[0].connections
        await until(lambda: len(connections) == len(beginnings))
        await lab.advance(10.5)
        for reader, writer in opened:
            async with asyncio.timeout(10):
                with suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()


@pytest.mark.case("ZT-NET-01")
async def test_nobody_else_is_believed() -> None:
    async with balanced() as lab:
        cookie = await lab.sign_in()
        stranger = await dial(lab, b"", source="127.0.0.2")
        assert await forwarded_for(lab, stranger, cookie) == "127.0.0.2"
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await dial(lab, b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\n", source="127.0.0.2")
    async with ProxyLab() as lab:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await dial(lab, b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\n")


@pytest.mark.case("ZT-NET-04")
async def test_made_up_cookies_cost_no_look_up() -> None:
    async with ProxyLab() as lab:
        honest = await lab.sign_in()
        assert lab.proxy.control is not None
        sessions = lab.proxy.control.sessions
        asked = 0
        real = sessions.session

        async def counted(handle_hash: bytes, host: str) -> object:
            nonlocal asked
            asked += 1
            return await real(handle_hash, host)

        sessions.session = counted  # type: ignore[method-assign, assignment]
        assert (await lab.get("/", honest)).status == 200
        assert asked == 1
        client = await lab.connect()
        made_up = [b64encode(secrets.token_bytes(48)).encode() for _ in range(300)]
        flipped = honest[:-2] + (b"AA" if honest[-2:] != b"AA" else b"BB")
        for value in (
            *(b"__Host-zt=" + each for each in made_up),
            flipped,
            honest[:-1],
            honest + b"A",
            b"__Host-zt=" + b"A" * 4000,
        ):
            await client.write(GET % value)
            reply = await client.reply()
            assert (reply.status, reply.problem["reason"]) == (401, "cookie-invalid")
        assert asked == 1, "the MAC alone refused them"
        assert (await lab.get("/", honest)).status == 200
        assert asked == 1, "and the honest session is still cached"
        assert lab.upstream.connections == 1


@pytest.mark.case("ZT-NET-04")
async def test_a_dead_cookie_is_asked_about_once_and_not_for_every_request() -> None:
    async with ProxyLab(clock=ManualClock()) as lab:
        sid, cookie = await lab.new_session()
        assert lab.proxy.control is not None
        sessions = lab.proxy.control.sessions
        await sessions.end(sid, "signed-out")
        asked = 0
        real = sessions.session

        async def counted(handle_hash: bytes, host: str) -> object:
            nonlocal asked
            asked += 1
            return await real(handle_hash, host)

        sessions.session = counted  # type: ignore[method-assign, assignment]
        client = await lab.connect()
        for _ in range(50):
            await client.write(GET % cookie)
            assert (await client.reply()).problem["reason"] == "session-unknown"
        assert asked == 1
