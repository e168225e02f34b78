"""Slow, silent, greedy and vanishing clients: each is bounded, and nobody else notices.

Time is the test's own: the sweep looks at a clock that stands still until it is moved.
"""

import asyncio
import gc
import ssl
from contextlib import suppress

import pytest

from tests.lab.proxy import ORIGIN, Client, ProxyLab
from tests.lab.upstream import OK, RecordingUpstream, Seen
from tests.lab.waiting import descriptors, rss, until
from zt_proxy.core.clock import ManualClock
from zt_proxy.worker.edge.connection import Connection, State
from zt_proxy.worker.settings import UpstreamSettings

MIB = 1024 * 1024
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n"
POST = b"POST /up HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n" + ORIGIN


def connections(lab: ProxyLab) -> set[Connection]:
    assert lab.proxy.worker is not None
    return lab.proxy.worker.listeners[0].connections


async def plain(lab: ProxyLab) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection without TLS."""
    client = Client(*await asyncio.open_connection("127.0.0.1", lab.port))
    lab._clients.append(client)
    return client.reader, client.writer


class Pouring(RecordingUpstream):
    """Answers with `size` bytes, a piece at a time, as fast as they are taken."""

    size = 48 * MIB

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                self.seen.append(await self._read(reader, self.connections))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
                for _ in range(self.size // 65536):
                    writer.write(bytes(65536))
                    await writer.drain()
        writer.close()


async def gone(reader: asyncio.StreamReader) -> bytes:
    """What came until the end of a connection without TLS."""
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            return await reader.read()
    return b""


# ---- silence and slowness before a request ----


@pytest.mark.case("ZT-DOS-08")
@pytest.mark.case("ZT-TLS-14")
async def test_connections_that_do_not_become_tls_are_closed_in_time() -> None:
    async with ProxyLab(clock=ManualClock(), limits={"handshake_timeout": 10.0}) as lab:
        honest = await lab.sign_in()
        silent = [await plain(lab) for _ in range(50)]
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        slow = [await plain(lab) for _ in range(20)]
        for number, (_, writer) in enumerate(slow):
            writer.write(hello[: 1 + number % len(hello)])
        await until(lambda: len(connections(lab)) == 70)
        assert (await lab.get("/", honest)).status == 200
        await lab.advance(9.5)
        for _, writer in slow:
            writer.write(b"\x00")
        assert len(connections(lab)) >= 70, "not before their time"
        await lab.advance(1.0)
        assert [await gone(reader) for reader, _ in (*silent, *slow)] == [b""] * 70
        await until(lambda: not connections(lab))
        assert (await lab.get("/", honest)).status == 200


@pytest.mark.case("ZT-TLS-14")
async def test_bytes_that_are_not_tls_are_refused_at_once_and_held_in_no_buffer() -> None:
    async with ProxyLab() as lab:
        garbage = (
            b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
            b"\x00" * 65536,
            b"\xff" * 65536,
            b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc\x03\x03" + b"\x00" * 65536,
            b"SSH-2.0-x\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + b"\x00" * 64,
        )
        for data in garbage:
            reader, writer = await plain(lab)
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
            answer = await gone(reader)
            assert len(answer) <= 7, data[:16]
        await until(lambda: not connections(lab))
        assert (await lab.get("/", await lab.sign_in())).status == 200


@pytest.mark.case("ZT-DOS-06")
async def test_a_head_that_does_not_end_in_time_gets_408_however_it_trickles() -> None:
    async with ProxyLab(clock=ManualClock(), limits={"header_timeout": 10.0}) as lab:
        honest = await lab.sign_in()
        clients = [await lab.connect() for _ in range(10)]
        for client in clients:
            await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\n")
        await until(lambda: sum(each.received > 0 for each in connections(lab)) == 10)
        for second in range(9):
            await lab.advance(1.0)
            for client in clients:
                await client.write(b"X-%d: y\r\n" % second)
        assert (await lab.get("/", honest)).status == 200
        await lab.advance(1.5)
        for client in clients:
            assert (await client.reply()).status == 408
            await client.ended()
        mute = await lab.connect()
        await until(lambda: len(connections(lab)) > 0)
        await lab.advance(10.5)
        assert await mute.ended() == b"", "who has said nothing is told nothing"


@pytest.mark.case("ZT-DOS-06")
async def test_an_idle_connection_is_closed_after_its_time_and_not_before() -> None:
    async with ProxyLab(clock=ManualClock(), limits={"keepalive_timeout": 75.0}) as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        for _ in range(3):
            await client.write(GET % cookie)
            assert (await client.reply()).status == 200
            await lab.advance(70)
        await lab.advance(6)
        assert await client.ended() == b""


# ---- slow bodies ----


@pytest.mark.case("ZT-DOS-07")
async def test_a_body_that_stops_coming_gets_408() -> None:
    async with ProxyLab(clock=ManualClock(), limits={"body_idle_timeout": 30.0}) as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        await client.write(POST % cookie + b"Content-Length: 100\r\n\r\nbegun")
        await until(lambda: lab.upstream.connections == 1)
        await lab.advance(30.5)
        reply = await client.reply()
        assert (reply.status, reply.problem["reason"]) == (408, "request-timeout")
        await client.ended()
        assert lab.upstream.seen == [], "the platform never saw a whole request"


@pytest.mark.case("ZT-DOS-07")
async def test_a_body_that_trickles_below_the_least_rate_is_cut() -> None:
    limits = {"body_idle_timeout": 30.0, "minimum_rate": 500, "rate_grace": 10.0}
    async with ProxyLab(clock=ManualClock(), limits=limits) as lab:
        cookie = await lab.sign_in()
        slow, fast = await lab.connect(), await lab.connect()
        for client in (slow, fast):
            await client.write(POST % cookie + b"Content-Length: 100000\r\n\r\n")
        await until(lambda: lab.upstream.connections == 2)
        for _ in range(3):
            before = {each: each.received for each in connections(lab) if each.exchange is not None}
            await slow.write(b"x" * 100)
            await fast.write(b"x" * 20_000)
            for each, count in before.items():
                await until(lambda each=each, count=count: each.received > count)  # type: ignore[misc]
            await lab.advance(5)
        with suppress(ConnectionError, ssl.SSLError):
            assert await slow.ended() == b""
        await fast.write(b"x" * 40_000)
        assert (await fast.reply()).status == 200


@pytest.mark.case("ZT-DOS-07")
async def test_a_client_that_does_not_read_is_cut_and_its_answer_is_not_piled_up() -> None:
    limits = {"minimum_rate": 500, "rate_grace": 10.0}
    async with ProxyLab(clock=ManualClock(), limits=limits, upstream=Pouring()) as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        before = rss()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(GET % cookie)
        await until(lambda: any(each.congested for each in connections(lab)))
        (connection,) = connections(lab)
        assert connection.transport.get_write_buffer_size() < MIB
        assert rss() - before < 32 * MIB
        await until(lambda: connection.rate_since > 0)
        await lab.advance(10.5)
        await until(lambda: not connections(lab))
        assert lab.proxy.worker is not None
        assert sum(pool.open for pool in lab.proxy.worker._pools.values()) == 0


@pytest.mark.case("ZT-DOS-07")
async def test_a_last_answer_that_nobody_reads_does_not_keep_its_connection() -> None:
    upstream = Pouring()
    upstream.size = 12 * MIB
    async with ProxyLab(clock=ManualClock(), limits={"buffer": 16 * MIB}, upstream=upstream) as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % cookie)
        await until(lambda: any(each.state == State.CLOSED for each in connections(lab)))
        (connection,) = connections(lab)
        assert connection.transport.get_write_buffer_size() > 0, (
            "all of it is with the connection, none with the reader"
        )
        await lab.advance(12 * MIB / 500 + 60)
        await until(lambda: not connections(lab))


# ---- framing that costs ----


@pytest.mark.case("ZT-DOS-10")
async def test_a_flood_of_trailers_is_refused_and_held_in_no_memory() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        before = rss()
        client = await lab.connect()
        await client.write(POST % cookie + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        sent = asyncio.ensure_future(_pour(client, b"X-T: y\r\n" * 1000, 1000))
        assert (await client.reply()).status == 400
        await client.ended()
        await sent
        assert rss() - before < 10 * MIB
        assert lab.upstream.seen == []


@pytest.mark.case("ZT-DOS-11")
async def test_one_byte_chunks_and_chunk_extensions_are_bounded() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        before = rss()
        tiny = await lab.connect()
        await tiny.write(POST % cookie + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(6):
            await tiny.write(b"1\r\nx\r\n" * 1000)
        await tiny.write(b"0\r\n\r\n")
        assert (await tiny.reply()).status == 200
        assert lab.upstream.seen[0].body == b"x" * 6_000
        padded = await lab.connect()
        await padded.write(POST % cookie + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = asyncio.ensure_future(_pour(padded, b"1;" + b"e" * 1000 + b"\r\nx\r\n", 500))
        assert (await padded.reply()).status == 400
        await sent
        endless = await lab.connect()
        await endless.write(POST % cookie + b"Transfer-Encoding: chunked\r\n\r\n1;")
        sent = asyncio.ensure_future(_pour(endless, b"e" * 65536, 30))
        assert (await endless.reply()).status == 400
        await sent
        assert rss() - before < 10 * MIB


async def _pour(client: Client, data: bytes, times: int) -> None:
    """Write until done, or until the other side has had enough."""
    with suppress(ConnectionError, ssl.SSLError):
        for _ in range(times):
            await client.write(data)


@pytest.mark.case("ZT-DOS-14")
async def test_malformed_forms_to_the_portal_are_refused_quickly() -> None:
    async with ProxyLab() as lab:
        assert lab.proxy.control is not None
        await lab.sign_in()
        handle = await lab.proxy.control.sessions.issue_handle(lab.sid, "auth.test")
        head = (
            b"POST /.zt/sign-out HTTP/1.1\r\nHost: auth.test\r\nOrigin: https://auth.test\r\nCookie: __Host-zt=%b\r\n"
        )
        multipart = b"Content-Type: multipart/form-data; boundary=x\r\n"
        urlencoded = b"Content-Type: application/x-www-form-urlencoded\r\n"
        for kind, body in (
            (multipart, b"--x\r\nContent-Disposition: form-data; name=token\r\n\r\n"),
            (multipart, b"--x" * 5000),
            (multipart, b"--x\r\n" * 3000 + b"--x--"),
            (urlencoded, b"&" * 4000),
            (urlencoded, b"token=a&token=b"),
            (urlencoded, b"a=" + b"x" * 10_000),
            (urlencoded, b"token=\xff\xfe"),
            (urlencoded, b"=".join([b"%"] * 100)),
            (b"", b"token=x"),
        ):
            reply = await lab.send(
                head % handle.encode() + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body, "auth.test"
            )
            assert reply.status in {400, 403, 413}, (kind, body[:20])
        assert await lab.proxy.control.sessions.record(lab.sid) is not None


async def test_limits_of_head_and_target_have_their_own_answers() -> None:
    limits = {"header_count": 50, "header_bytes": 16 * 1024, "target_bytes": 8 * 1024}
    async with ProxyLab(limits=limits) as lab:
        cookie = await lab.sign_in()
        cases = (
            ("/" + "a" * 8191, b"", 200),
            ("/" + "a" * 8192, b"", 414),
            ("/?" + "a" * 65536, b"", 414),
            ("/", b"".join(b"X-%d: y\r\n" % n for n in range(48)), 200),
            ("/", b"".join(b"X-%d: y\r\n" % n for n in range(60)), 431),
            ("/", b"X: " + b"y" * 17_000 + b"\r\n", 431),
            ("/", b"X" * 17_000 + b": y\r\n", 431),
        )
        for path, headers, status in cases:
            assert (await lab.get(path, cookie, headers)).status == status, (path[:10], headers[:10])
        before = rss()
        for start in (b"GET /", b"GET / HTTP/1.1\r\nHost: app.test\r\nX: ", b"GET / HTTP/1.1\r\nHost: app.test\r\nX"):
            client = await lab.connect()
            sent = asyncio.ensure_future(_pour(client, b"a" * 65536, 160))
            client.writer.write(start)
            assert (await client.reply()).status in {400, 414, 431}, start
            await client.ended()
            await sent
        assert rss() - before < 10 * MIB


async def test_bodies_beyond_the_routes_limit_get_413_announced_or_not() -> None:
    async with ProxyLab(route={"body_limit": 100_000}) as lab:
        cookie = await lab.sign_in()
        announced = await lab.send(POST % cookie + b"Content-Length: 100001\r\n\r\n")
        assert (announced.status, announced.problem["reason"]) == (413, "body-too-large")
        assert lab.upstream.connections == 0
        client = await lab.connect()
        await client.write(POST % cookie + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = asyncio.ensure_future(_pour(client, b"10000\r\n" + b"x" * 65536 + b"\r\n", 100))
        assert (await client.reply()).status == 413
        await sent
        assert lab.upstream.seen == []


# ---- limits on connections ----


async def test_one_address_gets_no_more_than_its_share_of_connections() -> None:
    async with ProxyLab(limits={"connections_per_address": 5}) as lab:
        cookie = await lab.sign_in()
        clients = [await lab.connect() for _ in range(5)]
        for _ in range(3):
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await lab.connect()
        await clients[0].write(GET % cookie)
        assert (await clients[0].reply()).status == 200, "those that are in stay in"
        await clients[1].close()
        await until(lambda: len(connections(lab)) == 4)
        assert (await lab.get("/", cookie)).status == 200
        assert lab.proxy.worker is not None
        assert lab.proxy.worker.listeners[0].refused == 3


async def test_there_is_a_limit_for_all_together() -> None:
    async with ProxyLab(limits={"connections": 4}) as lab:
        for _ in range(4):
            await lab.connect()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await lab.connect()


# ---- vanishing clients ----


@pytest.mark.case("ZT-DOS-16")
async def test_a_thousand_aborts_in_uploads_and_downloads_leave_nothing_behind() -> None:
    big = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + bytes(MIB)
    lab = ProxyLab(route={"upstream": UpstreamSettings("http", "127.0.0.1", 0, idle_timeout=0.1)})
    lab.upstream.answer = big
    async with lab:
        cookie = await lab.sign_in()
        await lab.get("/", cookie)
        assert lab.proxy.worker is not None
        pools = list(lab.proxy.worker._pools.values())
        await until(lambda: not connections(lab) and not any(pool.open for pool in pools))
        gc.collect()
        files, tasks = descriptors(), len(asyncio.all_tasks())
        upload = POST % cookie + b"Content-Length: 1000000\r\n\r\n" + bytes(5000)

        async def abort(number: int) -> None:
            client = await lab.connect()
            if number % 2:
                await client.write(upload)
            else:
                await client.write(GET % cookie)
                await client.reader.readexactly(1000)
            client.writer.transport.abort()

        for _ in range(20):
            await asyncio.gather(*(abort(number) for number in range(50)))
        lab._clients.clear()
        await until(lambda: not connections(lab))
        await until(lambda: not any(pool.open for pool in pools))
        await until(lambda: descriptors() <= files + 3)
        await until(lambda: len(asyncio.all_tasks()) <= tasks + 1)
        lab.upstream.answer = OK
        assert (await lab.get("/", cookie)).status == 200


async def test_an_abort_while_control_is_asked_leaves_nothing_behind() -> None:
    async with ProxyLab() as lab:
        cookies = [await lab.sign_in() for _ in range(20)]
        for cookie in cookies:
            client = await lab.connect()
            client.writer.write(GET % cookie)
            client.writer.transport.abort()
        await until(lambda: not connections(lab))
        assert lab.proxy.worker is not None
        await until(lambda: not lab.proxy.worker.gateway._tasks)  # type: ignore[union-attr]
        assert (await lab.get("/", cookies[0])).status == 200


@pytest.mark.case("ZT-DOS-18")
async def test_other_requests_go_on_while_one_client_pours_and_one_sips() -> None:
    def answer(request: Seen) -> bytes:
        return (
            OK
            if request.target == b"/quick"
            else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 * MIB) + bytes(8 * MIB)
        )

    lab = ProxyLab()
    lab.upstream.answer = answer
    async with lab:
        cookie = await lab.sign_in()
        sipping = await lab.connect()
        await sipping.write(GET.replace(b"/ ", b"/big ") % cookie)
        pouring = await lab.connect()
        await pouring.write(POST % cookie + b"Transfer-Encoding: chunked\r\n\r\n")
        poured = asyncio.ensure_future(_pour(pouring, b"1\r\nx\r\n" * 2000, 20))
        quick = [await lab.get("/quick", cookie) for _ in range(10)]
        assert {reply.status for reply in quick} == {200}
        await poured
        assert len((await sipping.reply()).body) == 8 * MIB
