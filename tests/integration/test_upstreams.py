"""Platforms behind TLS, client certificates and unix sockets: the same request, answer, stream and tunnel over each."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.attack.test_proxy_protocol import dial, v2
from tests.lab.proxy import APP, ORIGIN, ProxyLab, allow, lab_route
from tests.lab.upstream import RecordingUpstream, Seen
from tests.lab.ws import (
    BINARY,
    CLOSE,
    TEXT,
    EchoPlatform,
    Frame,
    close_code,
    closing,
    frame,
    open_websocket,
    read_frame,
)
from zt_proxy.worker.settings import UpstreamSettings

PLATFORM_CA = trustme.CA()
"""Of the platforms alone: no client of the proxy and no system trusts it."""
NAME = "platform.internal"


def server_context(*names: str, client_ca: trustme.CA | None = None) -> ssl.SSLContext:
    """A platform with a certificate for `names`, which asks for a client certificate of `client_ca` if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    PLATFORM_CA.issue_cert(*names).configure_cert(context)
    if client_ca is not None:
        client_ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass
class Files:
    """What the operator was given, as PEM files."""

    ca: Path
    other_ca: Path
    certificate: Path
    key: Path
    client_ca: trustme.CA


@pytest.fixture
def files(tmp_path: Path) -> Files:
    client_ca = trustme.CA()
    mine = client_ca.issue_cert("proxy.internal")
    given = Files(*(tmp_path / name for name in ("ca.pem", "other.pem", "proxy.pem", "proxy.key")), client_ca)
    PLATFORM_CA.cert_pem.write_to_path(given.ca)
    trustme.CA().cert_pem.write_to_path(given.other_ca)
    mine.cert_chain_pems[0].write_to_path(given.certificate)
    mine.private_key_pem.write_to_path(given.key)
    return given


Behind = Callable[..., ProxyLab]


@pytest.fixture(params=["http", "https", "mutual", "unix"])
def behind(request: pytest.FixtureRequest, files: Files, tmp_path: Path) -> Behind:
    """`behind(platform, **lab)`: the proxy before this platform, reached in each of the ways there are."""

    def lab(platform: RecordingUpstream, route: dict[str, Any] | None = None, **more: Any) -> ProxyLab:
        settings = UpstreamSettings("http", "127.0.0.1", 0)
        if request.param == "unix":
            platform.socket = tmp_path / "s"
            settings = UpstreamSettings("unix", path=str(platform.socket))
        elif request.param == "https":
            platform.tls = server_context("127.0.0.1")
            settings = UpstreamSettings("https", "127.0.0.1", 0, ca=files.ca)
        elif request.param == "mutual":
            platform.tls = server_context("127.0.0.1", client_ca=files.client_ca)
            settings = UpstreamSettings(
                "https", "127.0.0.1", 0, ca=files.ca, certificate=files.certificate, key=files.key
            )
        return ProxyLab(upstream=platform, route={"upstream": settings, **(route or {})}, **more)

    return lab


def over_tls(platform: RecordingUpstream, **settings: Any) -> ProxyLab:
    return ProxyLab(upstream=platform, route={"upstream": UpstreamSettings("https", "127.0.0.1", 0, **settings)})


# ---- the same over each ----


async def test_requests_and_answers_of_any_length_go_over_one_connection(behind: Behind) -> None:
    def echo(request: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.body), request.body)

    async with behind(RecordingUpstream(answer=echo)) as lab:
        cookie = await lab.sign_in()
        body = bytes(range(256)) * 8000
        head = b"POST /up HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%b" % (cookie, ORIGIN)
        for size in (0, 1, len(body)):
            reply = await lab.send(head + b"Content-Length: %d\r\n\r\n%b" % (size, body[:size]))
            assert (reply.status, reply.body) == (200, body[:size])
        assert lab.upstream.connections == 1
        assert {record["reason"] for record in await lab.decisions()} == {"rule-allowed"}


async def test_a_websocket_goes_both_ways_until_it_is_closed(behind: Behind) -> None:
    async with behind(EchoPlatform()) as lab:
        client = await open_websocket(lab, await lab.sign_in())
        for opcode, payload in ((TEXT, b"hello"), (BINARY, bytes(range(256)) * 1000), (TEXT, b"")):
            await client.write(frame(opcode, payload))
            assert await read_frame(client.reader) == Frame(opcode, payload)
        await client.write(closing(1000))
        last = await read_frame(client.reader)
        assert (last.opcode, close_code(last)) == (CLOSE, 1000)
        assert await client.ended() == b""


class Ticking(RecordingUpstream):
    """Server-sent events, the next only when the test has seen the one before."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._read(reader, 1)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(3):
                writer.write(b"9\r\ndata: %d\n\n\r\n" % number)
                await self.tick.acquire()
            writer.write(b"0\r\n\r\n")
            await reader.read()
        writer.close()

    async def __aenter__(self) -> "Ticking":
        self.tick = asyncio.Semaphore(0)
        return await super().__aenter__()


async def test_server_sent_events_arrive_one_by_one_as_they_are_sent(behind: Behind) -> None:
    platform = Ticking()
    async with behind(platform) as lab:
        client = await lab.connect()
        await client.write(b"GET /events HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % await lab.sign_in())
        async with asyncio.timeout(20):
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            for number in range(3):
                assert b"data: %d\n\n" % number in await client.reader.readuntil(b"\n\n\r\n")
                platform.tick.release()
            assert (await client.reader.readuntil(b"0\r\n\r\n")) == b"0\r\n\r\n"


async def test_the_platform_sees_the_public_host_or_its_own(behind: Behind) -> None:
    for preserved in (True, False):
        async with behind(RecordingUpstream(), {"preserve_host": preserved}) as lab:
            assert (await lab.get("/", await lab.sign_in())).status == 200
            (seen,) = lab.upstream.seen
            own = f"127.0.0.1:{lab.upstream.port}" if lab.upstream.socket is None else "localhost"
            assert seen.header(b"host") == (APP if preserved else own).encode()
            assert seen.header(b"x-forwarded-host") == APP.encode()


async def test_a_client_behind_a_balancer_and_a_trusted_proxy_is_told_to_the_platform(behind: Behind) -> None:
    listener = {"proxy_protocol_from": ("127.0.0.1/32",)}
    async with behind(RecordingUpstream(), listener=listener, worker={"trusted_proxies": ("192.0.2.0/24",)}) as lab:
        cookie = await lab.sign_in()
        for source, expected in (("192.0.2.8", b"203.0.113.9"), ("198.51.100.8", b"198.51.100.8")):
            client = await dial(lab, v2(source))
            await client.write(
                b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n" % cookie
            )
            assert (await client.reply()).status == 200
            assert lab.upstream.seen[-1].header(b"x-forwarded-for") == expected


# ---- who the platform is ----


async def test_a_platform_of_another_ca_gets_nothing(files: Files) -> None:
    for authority in (files.other_ca, None):
        async with over_tls(RecordingUpstream(tls=server_context("127.0.0.1")), ca=authority) as lab:
            reply = await lab.get("/", await lab.sign_in())
            assert (reply.status, reply.problem["reason"]) == (502, "upstream-tls")
            assert PLATFORM_CA.cert_pem.bytes() not in reply.body
            assert b"certificate" not in reply.body
            assert lab.upstream.seen == []


async def test_a_platform_under_another_name_gets_nothing_unless_the_name_is_configured(files: Files) -> None:
    context = server_context(NAME)
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    async with over_tls(RecordingUpstream(tls=context), ca=files.ca) as lab:
        reply = await lab.get("/", await lab.sign_in())
        assert (reply.status, reply.problem["reason"]) == (502, "upstream-tls")
        assert lab.upstream.seen == []
    asked.clear()
    async with over_tls(RecordingUpstream(tls=context), ca=files.ca, server_name=NAME) as lab:
        assert (await lab.get("/", await lab.sign_in())).status == 200
        assert asked == [NAME]


async def test_a_platform_that_speaks_no_tls_is_told_apart(files: Files) -> None:
    async with over_tls(Deaf(), ca=files.ca) as lab:
        reply = await lab.get("/", await lab.sign_in())
        assert (reply.status, reply.problem["reason"]) == (502, "upstream-tls")


class Deaf(RecordingUpstream):
    """Speaks HTTP whatever it hears."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()


class Explaining(RecordingUpstream):
    """Sends the alert that says why it refuses a handshake; asyncio's servers hang up without it."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        assert self.refusing is not None
        engine = self.refusing.wrap_bio(incoming, outgoing, server_side=True)
        refused = False
        while not refused:
            incoming.write(await reader.read(65536))
            try:
                engine.do_handshake()
            except ssl.SSLWantReadError:
                refused = False
            except ssl.SSLError:
                refused = True
            writer.write(outgoing.read())
        await reader.read()  # a close with something unread would reset the connection, and overtake the alert
        writer.close()

    refusing: ssl.SSLContext | None = None


async def test_a_platform_that_asks_for_a_certificate_is_not_reached_without_it(files: Files) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = server_context("127.0.0.1", client_ca=files.client_ca)
        context.minimum_version = context.maximum_version = version
        platform = Explaining()
        platform.refusing = context
        async with over_tls(platform, ca=files.ca) as lab:
            reply = await lab.get("/", await lab.sign_in())
            assert (reply.status, reply.problem["reason"]) == (502, "upstream-tls"), version
            reply = await lab.send(
                b"POST / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%bContent-Length: 1\r\n\r\nx"
                % (await lab.sign_in(), ORIGIN)
            )
            assert (reply.status, reply.problem["reason"]) == (502, "upstream-tls"), version


async def test_a_platform_that_hangs_up_on_a_handshake_is_told_from_one_that_is_not_there(files: Files) -> None:
    context = server_context("127.0.0.1", client_ca=files.client_ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with over_tls(RecordingUpstream(tls=context), ca=files.ca) as lab:
        reply = await lab.get("/", await lab.sign_in())
        assert (reply.status, reply.problem["reason"]) == (502, "upstream-tls")
        assert lab.upstream.seen == []
        await lab.upstream.__aexit__()
        reply = await lab.get("/", await lab.sign_in())
        assert (reply.status, reply.problem["reason"]) == (502, "upstream-unreachable")


# ---- pools ----


async def test_routes_with_the_same_upstream_share_its_connections_and_others_do_not(files: Files) -> None:
    platform = RecordingUpstream(tls=server_context("127.0.0.1", NAME))
    same = UpstreamSettings("https", "127.0.0.1", 0, ca=files.ca)
    other = UpstreamSettings("https", "127.0.0.1", 0, ca=files.ca, server_name=NAME)
    routes = [
        lab_route("a", APP, (allow(),), upstream=same),
        lab_route("b", APP, (allow(),), upstream=same, prefix=b"/b"),
        lab_route("c", APP, (allow(),), upstream=other, prefix=b"/c"),
    ]
    async with ProxyLab(upstream=platform, routes=routes) as lab:
        cookie = await lab.sign_in()
        for path in ("/", "/b/1", "/c/1", "/b/2", "/", "/c/2"):
            assert (await lab.get(path, cookie)).status == 200
        assert [seen.connection for seen in platform.seen] == [1, 1, 2, 1, 1, 2]
        assert [record["route"] for record in await lab.decisions()] == ["a", "b", "c", "b", "a", "c"]
