"""The request path, attacked from within: what is remembered, what waits, and what two sides do to each other."""

import itertools
import random

import pytest

from tests.lab.proxy import APP, ProxyLab
from zt_proxy.core.errors import ZtError
from zt_proxy.worker.wire.h1 import RequestParser
from zt_proxy.worker.wire.head import HeadMemory, RequestHead
from zt_proxy.worker.wire.hygiene import Kind

BARE = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n"


# ---- what is remembered of a head ----


class Noting:
    """Takes requests, answers each at once, and notes what it was told."""

    def __init__(self, memory: HeadMemory) -> None:
        self.told: list[object] = []
        self.parser = RequestParser(self, memory, header_count=100, header_bytes=32768, target_bytes=8192)

    def on_request(self, head: RequestHead) -> None:
        self.goes_on = head.keep_alive
        lines = b"".join(head.lines) if head.joined is None else head.joined
        self.told.append((head.method, head.target, head.minor, head.ordinary, lines, tuple(head.noted)))

    def on_body(self, data: bytes) -> None:
        self.told.append(data)

    def on_end(self) -> None:
        self.told.append("end")
        if self.goes_on:
            self.parser.resume()

    def on_error(self, error: ZtError) -> None:
        self.told.append(error.reason)


@pytest.mark.case("ZT-SMUG-18")
def test_nobody_teaches_the_proxy_a_false_meaning_of_other_peoples_headers() -> None:
    # The first read ends in the middle of a second head; its rest looks like a whole request that others will send.
    memory = HeadMemory()
    attacker, victim = Noting(memory), Noting(memory)
    attacker.parser.feed(BARE + b"GET /2 HTTP/1.1\r\nCookie: __Host-zt=theirs\r\nX-Swallow: ")
    attacker.parser.feed(b"GET / HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n\r\n")
    victim.parser.feed(b"GET /mine HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n\r\n")
    (head, _) = victim.told
    assert isinstance(head, tuple)
    assert head[5][Kind.COOKIE] is None
    assert head[4] == b"Accept: text/html\r\n"


@pytest.mark.case("ZT-SMUG-18")
async def test_a_head_in_two_reads_stays_one_head_whatever_its_rest_looks_like() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        assert (await lab.get("/", cookie)).status == 200  # its header block is remembered now
        client = await lab.connect()
        await client.write(BARE + b"GET /outer HTTP/1.1\r\nX-Swallow: ")
        assert (await client.reply()).status == 401
        await client.write(GET % cookie)
        assert (await client.reply()).status == 200
        assert lab.upstream.seen[-1].target == b"/outer"


def test_a_memory_changes_nothing_in_what_requests_are_understood_as() -> None:
    # The same bytes, cut at the same places, to a parser whose memory is shared with all before it, and to a fresh one.
    pick = random.Random(20)
    starts = [b"GET / HTTP/1.1", b"HEAD /a?b HTTP/1.1", b"GET /c HTTP/1.0", b"GET  /d HTTP/1.1", b"POST / HTTP/1.1"]
    starts += [b"GET /e#f HTTP/1.1", b"GET /\x80 HTTP/1.1", b"GET http://app.test/ HTTP/1.1", b"GET /\rx HTTP/1.1"]
    starts += [
        b'GET /"<>\\^`{|} HTTP/1.1',
        b"GET /g HTTP/1.2",
        b"\r\nGET / HTTP/1.1",
        b"GET /%zz HTTP/1.1",
        b"get / HTTP/1.1",
    ]
    lines = [b"Accept: a", b"Connection: keep-alive", b"Connection: x-b", b"X-B: c", b"X-C: ", b"A: \x80", b"X-D:e \t"]
    lines += [
        b"Content-Length: 0",
        b"Cookie: a=b",
        b"Cookie: c=d",
        b"Connection: close",
        b"Content-Length: 3",
        b"A : b",
    ]
    lines += [b"Expect: 100-continue", b"Upgrade: h2c", b"Connection: upgrade", b"Transfer-Encoding: chunked", b" fold"]
    ends = [b"\r\n\r\n"] * 6 + [b"\r\n\r\nabc", b"\r\n\r\n0\r\n\r\n", b"\n\n", b"\r\n\n", b"\r\n\r\n\r\n"]
    memory = HeadMemory()
    for _ in range(3000):
        stream = b""
        for _ in range(pick.choice((1, 1, 2, 3))):
            headers = pick.choices(lines, [30, 20, 8, 8, 8] + [4] * 5 + [1] * (len(lines) - 10), k=pick.randrange(3))
            start = pick.choices(starts, [40, 10] + [1] * (len(starts) - 2))[0]
            stream += b"\r\n".join([start, b"Host: app.test", *headers]) + pick.choice(ends)
        cuts = sorted({0, len(stream), *(pick.randrange(len(stream)) for _ in range(pick.choice((0, 0, 1, 2))))})
        if pick.random() < 0.3:  # the cut that fools: right behind a head
            cuts = sorted({*cuts, stream.find(b"\r\n\r\n") + 4})
        warm, fresh = Noting(memory), Noting(HeadMemory())
        for start_at, end_at in itertools.pairwise(cuts):
            piece = stream[start_at:end_at]
            for each in (warm, fresh):
                each.parser.feed(piece)
        assert warm.told == fresh.told, stream
    assert memory.blocks


# ---- what waits behind a request ----


@pytest.mark.case("ZT-DOS-16")
async def test_a_long_row_of_requests_behind_one_that_waits_is_answered_to_the_last() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        await client.write(GET % cookie + BARE * 1200)
        assert (await client.reply()).status == 200
        assert {(await client.reply()).status for _ in range(1200)} == {401}
        await client.write(GET % cookie)
        assert (await client.reply()).status == 200
        assert APP in {record["host"] for record in await lab.decisions()}
