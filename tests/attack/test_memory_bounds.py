"""What is remembered and what is waited for has an end, whatever clients and platforms send."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.lab.proxy import ProxyLab
from tests.lab.upstream import RecordingUpstream
from tests.lab.waiting import rss, until
from zt_proxy.core.errors import Reason, UpstreamError
from zt_proxy.worker.wire import hygiene
from zt_proxy.worker.wire.h1_response import MAX_HEAD, ResponseHead, ResponseMemory, ResponseParser

MIB = 1024 * 1024


@pytest.fixture
def names() -> Iterator[dict[bytes, int]]:
    """The memory of header names, left as it was found."""
    before = dict(hygiene.KNOWN)
    yield hygiene.KNOWN
    hygiene.KNOWN.clear()
    hygiene.KNOWN.update(before)


def test_made_up_header_names_fill_no_memory_and_keep_no_real_one_out(names: dict[bytes, int]) -> None:
    for number in range(2 * hygiene.REMEMBERED):
        hygiene.classify(b"x-%d-" % number + b"a" * 16_000)
        hygiene.classify(b"x-made-up-%d" % number)
    assert len(names) <= hygiene.REMEMBERED
    assert max(map(len, names)) <= hygiene.REMEMBERED_NAME
    hygiene.classify(b"Accept-Language")
    assert b"Accept-Language" in names


class Taker:
    """Takes an answer and keeps nothing."""

    def on_interim(self, head: ResponseHead) -> None: ...

    def on_response(self, head: ResponseHead) -> None: ...

    def on_response_body(self, data: bytes) -> None: ...

    def on_response_end(self) -> None: ...


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


@pytest.mark.case("ZT-DOS-10")
@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"0\r\n", b"T: y\r\n" * 10_000),
        (b"0\r\nT: ", b"y" * 60_000),
        (b"0\r\nT", b"T" * 60_000),
        (b"1;", b"e" * 60_000),
    ],
    ids=["trailers", "the value of one", "the name of one", "a chunk extension"],
)
def test_a_platform_that_never_ends_its_framing_is_cut_off(start: bytes, more: bytes) -> None:
    parser = ResponseParser(ResponseMemory())
    parser.expect(b"GET", Taker())
    parser.feed(CHUNKED + start)

    def go_on() -> None:
        for _ in range(2 * MAX_HEAD // len(more) + 2):
            parser.feed(more)

    with pytest.raises(UpstreamError) as refused:
        go_on()
    assert refused.value.reason is Reason.UPSTREAM_INVALID


def test_a_long_body_is_no_framing() -> None:
    parser = ResponseParser(ResponseMemory())
    parser.expect(b"GET", Taker())
    parser.feed(CHUNKED)
    for _ in range(40):
        parser.feed(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
    parser.feed(b"1000000\r\n")
    for _ in range(0x1000000 // 0x8000):
        parser.feed(b"x" * 0x8000)
    assert parser.feed(b"\r\n0\r\n\r\n") == b""


class Trailing(RecordingUpstream):
    """Answers, and never stops with the trailers."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._read(reader, self.connections)
            writer.write(CHUNKED + b"0\r\n")
            while True:
                writer.write(b"X-Trailer: y\r\n" * 5000)
                await writer.drain()
        writer.close()


@pytest.mark.case("ZT-DOS-10")
async def test_a_flood_of_trailers_of_a_platform_costs_its_own_answer_and_nothing_else() -> None:
    async with ProxyLab(upstream=Trailing()) as lab:
        cookie = await lab.sign_in()
        before = rss()
        client = await lab.connect()
        await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie)
        await client.ended()
        worker = lab.proxy.worker
        assert worker is not None
        await until(lambda: not any(pool.open for pool in worker._pools.values()))
        assert rss() - before < 10 * MIB
