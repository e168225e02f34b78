"""A parser that remembers heads says what one without a memory says, whatever the platform sends."""

import random

import pytest

from zt_proxy.core.errors import UpstreamError
from zt_proxy.worker.wire.h1_response import ResponseHead, ResponseMemory, ResponseParser

HEADS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nSet-Cookie: a=%d\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n",
)


class Heard:
    """Everything a parser said, in order."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def on_interim(self, head: ResponseHead) -> None:
        self.events.append(("interim", head.status, tuple(head.lines)))

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        lines = b"HTTP/1.1 200 OK\r\n" if head.status == 200 else b"HTTP/1.1 404 Not Found\r\n"
        assert head.start == lines + b"".join(head.lines) + b"Content-Length: %d\r\n" % len(body)
        self.on_response(head)
        if body:
            self.on_response_body(body)
        self.on_response_end()

    def on_response(self, head: ResponseHead) -> None:
        self.events.append(
            (head.status, tuple(head.lines), tuple(head.set_cookies), dict(head.noted), head.content_length,
             head.chunked, head.keep_alive)
        )  # fmt: skip

    def on_response_body(self, data: bytes) -> None:
        self.events.append(data)

    def on_response_end(self) -> None:
        self.events.append("end")


def said(parser: ResponseParser, method: bytes, pieces: list[bytes]) -> list[object]:
    heard = Heard()
    parser.expect(method, heard)
    try:
        for piece in pieces:
            parser.feed(piece)
    except UpstreamError as error:
        heard.events.append(error.reason)
    merged: list[object] = []
    for event in heard.events:
        if isinstance(event, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += event
        else:
            merged.append(event)
    return merged


@pytest.mark.parametrize("seed", range(20))
def test_a_memory_changes_nothing_of_what_is_understood(seed: int) -> None:
    choose = random.Random(seed)
    memory = ResponseMemory()
    warm = ResponseParser(memory)
    for _ in range(400):
        head = choose.choice(HEADS)
        length = choose.choice((0, 1, 5))
        body = b"x" * choose.choice((length, length, length, length + 1, max(length - 1, 0)))
        if head.startswith(b"HTTP/1.1 304"):
            body = b""
        raw = (head % ((length,) * head.count(b"%d"))) + body
        cut = choose.randrange(len(raw) + 1) if choose.random() < 0.3 else len(raw)
        pieces = [piece for piece in (raw[:cut], raw[cut:]) if piece]
        method = choose.choice((b"GET", b"GET", b"GET", b"HEAD"))
        expected = said(ResponseParser(ResponseMemory()), method, pieces)
        assert said(warm, method, pieces) == expected, raw
        if expected[-1] != "end" or method == b"HEAD" or b"close" in raw or raw.startswith(b"HTTP/1.0"):
            warm = ResponseParser(memory)  # such a connection is never used again
    assert memory.heads


def test_bytes_behind_a_remembered_answer_are_an_error() -> None:
    parser = ResponseParser(ResponseMemory())
    raw = HEADS[0] % 2 + b"ok"
    for _ in range(3):
        assert said(parser, b"GET", [raw])[-1] == "end"
    with pytest.raises(UpstreamError):
        parser.feed(raw)


def test_a_full_memory_starts_anew_and_a_cookie_is_never_in_it() -> None:
    memory = ResponseMemory()
    parser = ResponseParser(memory)
    for number in range(3 * ResponseMemory.HEADS):
        said(parser, b"GET", [b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 0\r\n\r\n" % number])
        said(parser, b"GET", [b"HTTP/1.1 200 OK\r\nSet-Cookie: a=%d\r\nContent-Length: 0\r\n\r\n" % number])
    assert 0 < len(memory.heads) <= ResponseMemory.HEADS
    assert not any(b"Set-Cookie" in raw for raw in memory.heads)
