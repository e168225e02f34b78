"""What a relay owes both sides: streams unbuffered, memory flat, answers whole, repeats only where safe."""

import asyncio
import gzip
from contextlib import suppress

import pytest

from tests.lab.proxy import ORIGIN, Client, ProxyLab
from tests.lab.upstream import OK, RecordingUpstream, Seen
from tests.lab.waiting import rss, until

MIB = 1024 * 1024
GET = b"GET %b HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n"
POST = b"POST /up HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n" + ORIGIN


class Scripted(RecordingUpstream):
    """Each connection runs `play`."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.play(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def next(self, reader: asyncio.StreamReader) -> Seen:
        request = await self._read(reader, self.connections)
        async with self._arrived:
            self.seen.append(request)
            self._arrived.notify_all()
        return request


# ---- repeats ----


class OneEach(Scripted):
    """Answers once on each connection, and hangs up when it is used again."""

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.next(reader)
        writer.write(OK)
        await self.next(reader)
        writer.transport.abort()


async def test_a_stale_connection_is_replaced_for_what_may_be_repeated() -> None:
    async with ProxyLab(upstream=OneEach()) as lab:
        cookie = await lab.sign_in()
        for count in (1, 2, 3):
            assert (await lab.get(f"/{count}", cookie)).status == 200
        assert lab.upstream.connections == 3
        assert [seen.target for seen in lab.upstream.seen] == [b"/1", b"/2", b"/2", b"/3", b"/3"]


async def test_a_post_is_never_sent_twice() -> None:
    async with ProxyLab(upstream=OneEach()) as lab:
        cookie = await lab.sign_in()
        assert (await lab.get("/", cookie)).status == 200
        reply = await lab.send(POST % cookie + b"Content-Length: 4\r\n\r\npaid")
        assert (reply.status, reply.problem["reason"]) == (502, "upstream-closed")
        assert [seen.method for seen in lab.upstream.seen].count(b"POST") == 1


# ---- answers of every kind ----


async def test_answers_without_a_body_stay_without_one_and_the_connection_goes_on() -> None:
    answers = {
        b"/204": b"HTTP/1.1 204 No Content\r\n\r\n",
        b"/304": b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 500\r\n\r\n',
        b"/head": b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
        b"/chunked-head": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"/empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"/ok": OK,
    }
    async with ProxyLab() as lab:
        lab.upstream.answer = lambda request: answers[request.target]
        cookie = await lab.sign_in()
        client = await lab.connect()
        for path, method, status, length in (
            (b"/204", "GET", 204, None), (b"/ok", "GET", 200, "2"), (b"/304", "GET", 304, "500"), (b"/ok", "GET", 200, "2"),
            (b"/head", "HEAD", 200, "12345"), (b"/ok", "GET", 200, "2"), (b"/chunked-head", "HEAD", 200, None),
            (b"/ok", "GET", 200, "2"), (b"/empty", "GET", 200, "0"), (b"/204", "HEAD", 204, None), (b"/ok", "GET", 200, "2"),
        ):  # fmt: skip
            await client.write((GET % (path, cookie)).replace(b"GET", method.encode(), 1))
            reply = await client.reply(method)
            assert (reply.status, reply.header("content-length")) == (status, length), (path, method)
        assert len(lab.upstream.seen) == 11


async def test_interim_answers_and_trailers() -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-ZT-Assertion: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"3;ext=1\r\nabc\r\n0\r\nX-Sum: 1\r\nSet-Cookie: __Host-zt=x\r\n\r\n"
    )
    async with ProxyLab() as lab:
        lab.upstream.answer = answer
        cookie = await lab.sign_in()
        client = await lab.connect()
        await client.write(GET % (b"/", cookie))
        hints = (await client.reader.readuntil(b"\r\n\r\n")).lower()
        assert hints == b"http/1.1 103 early hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
        head = (await client.reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200 ")
        assert b"trailer" not in head
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\nabc\r\n0\r\n\r\n"
        lab.upstream.answer = OK
        await client.write(GET % (b"/", cookie))
        assert (await client.reply()).status == 200


async def test_an_answer_that_ends_with_its_connection_is_whole_or_known_to_be_cut() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\n\r\neverything until the end"
        lab.upstream.close_after = True
        reply = await lab.get("/", cookie)
        assert (reply.header("transfer-encoding"), reply.body) == ("chunked", b"everything until the end")
        old = await lab.send(b"GET / HTTP/1.0\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie)
        assert old.header("transfer-encoding") is None
        assert (old.header("connection"), old.body) == ("close", b"everything until the end")
        for cut in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all of it",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ):
            lab.upstream.answer = cut
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await lab.get("/", cookie)


async def test_bodies_are_passed_on_as_they_are_encoded() -> None:
    packed = gzip.compress(b"text" * 1000)
    async with ProxyLab() as lab:
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: \"a\"\r\nContent-Length: %d\r\n\r\n%b" % (
            len(packed), packed)  # fmt: skip
        reply = await lab.get(
            "/", await lab.sign_in(), b"Accept-Encoding: gzip\r\nRange: bytes=0-10\r\nIf-None-Match: x\r\n"
        )
        assert (reply.body, reply.header("etag")) == (packed, '"a"')
        seen = lab.upstream.seen[0]
        assert (seen.header(b"range"), seen.header(b"accept-encoding")) == (b"bytes=0-10", b"gzip")


# ---- 100-continue ----


async def test_a_client_is_told_to_continue_only_after_the_decision() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        ask = POST % cookie + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        client = await lab.connect()
        await client.write(ask)
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert lab.upstream.seen == []
        await client.write(b"hello")
        assert (await client.reply()).status == 200
        assert lab.upstream.seen[0].body == b"hello"
        assert lab.upstream.seen[0].header(b"expect") is None
        for refused, status in (
            (ask.replace(b"Cookie: " + cookie + b"\r\n", b""), 401),
            (ask.replace(ORIGIN, b"Origin: https://evil.test\r\n"), 403),
            (ask.replace(b"Expect: 100-continue", b"Expect: y"), 417),
            (ask.replace(b"Expect: 100-continue", b"Expect: y 100-continue"), 417),
            (ask.replace(b"Expect: 100-continue", b"Expect: 100-continue, x"), 417),
            (ask.replace(b"Expect: 100-continue\r\n", b"Expect: 100-continue\r\nExpect: 100-continue\r\n"), 400),
        ):
            other = await lab.connect()
            await other.write(refused)
            line = await other.reader.readuntil(b"\r\n")
            assert line.startswith(b"HTTP/1.1 %d " % status), "no 100 before a refusal"
            await other.ended()
        assert len(lab.upstream.seen) == 1


# ---- streams ----


class Events(Scripted):
    """Sends one event, and the next when told."""

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.next(reader)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"d\r\ndata: first\n\n\r\n")
        assert self.hold is not None
        await self.hold.wait()
        writer.write(b"e\r\ndata: second\n\n\r\n0\r\n\r\n")
        await reader.read()


async def test_events_arrive_one_by_one_and_not_in_a_heap() -> None:
    async with ProxyLab(upstream=Events(hold=asyncio.Event())) as lab:
        client = await lab.connect()
        await client.write(GET % (b"/events", await lab.sign_in()))
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readuntil(b"\n\n\r\n") == b"d\r\ndata: first\n\n\r\n"
        assert lab.upstream.hold is not None
        lab.upstream.hold.set()
        assert b"data: second" in await client.reader.readuntil(b"0\r\n\r\n")


class Answering(Scripted):
    """Sends the head, then each piece of the request's body back as it comes."""

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readuntil(b"\r\n"), 16):
            data = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n" % size + data)
        writer.write(b"0\r\n\r\n")
        await reader.read()


async def test_a_request_is_streamed_before_it_is_whole() -> None:
    async with ProxyLab(upstream=Answering()) as lab:
        client = await lab.connect()
        await client.write(POST % await lab.sign_in() + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readuntil(b"one\r\n") == b"3\r\none\r\n"
        await client.write(b"3\r\ntwo\r\n0\r\n\r\n")
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"


class Counting(Scripted):
    """Takes a body of any size and answers with its length; sends `size` bytes on GET."""

    size = 64 * MIB
    got = 0

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
                piece = bytes(65536)
                for _ in range(self.size // len(piece)):
                    writer.write(piece)
                    await writer.drain()
            else:
                while self.got < self.size:
                    self.got += len(await reader.read(65536))
                writer.write(OK)


async def test_uploads_and_downloads_of_any_size_need_no_more_memory_than_a_buffer() -> None:
    upstream = Counting()
    async with ProxyLab(upstream=upstream) as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        before = rss()
        highest = before
        await client.write(POST % cookie + b"Content-Length: %d\r\n\r\n" % upstream.size)
        piece = bytes(256 * 1024)
        for _ in range(upstream.size // len(piece)):
            await client.write(piece)
            highest = max(highest, rss_now())
        assert (await client.reply()).status == 200
        assert upstream.got == upstream.size
        await client.write(GET % (b"/", cookie))
        await client.reader.readuntil(b"\r\n\r\n")
        left = upstream.size
        while left:
            left -= len(await client.reader.read(min(left, 1 << 18)))
            highest = max(highest, rss_now())
        assert highest - before < 24 * MIB


def rss_now() -> int:
    """As `rss`, without the collection."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


async def test_an_upload_waits_for_a_platform_that_does_not_read() -> None:
    class Deaf(Scripted):
        async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            assert self.hold is not None
            await self.hold.wait()

    upstream = Deaf(hold=asyncio.Event())
    async with ProxyLab(upstream=upstream) as lab:
        client = await lab.connect()
        before = rss()
        await client.write(POST % await lab.sign_in() + b"Content-Length: %d\r\n\r\n" % (64 * MIB))
        sending = asyncio.ensure_future(_send(client, 64 * MIB))
        assert lab.proxy.worker is not None
        connections = lab.proxy.worker.listeners[0].connections
        await until(lambda: any(each.silenced for each in connections))
        assert not sending.done()
        assert rss() - before < 32 * MIB
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        assert upstream.hold is not None
        upstream.hold.set()
        await until(lambda: not upstream._writers)


async def _send(client: Client, size: int) -> None:
    for _ in range(size // 65536):
        await client.write(bytes(65536))
