"""HTTP/1.1 from clients: bytes in, calls on a sink out. No IO.

llhttp (through httptools) finds the tokens; this file adds what it lacks. A request is refused when its framing could
be read in two ways (RFC 9112 §6.3, §11.2): a transfer coding in HTTP/1.0, a coding other than `chunked`, an upgrade
with a body, a repeated single-valued header, a version that is not 1.0 or 1.1. Trailers are counted and dropped.

One request is in flight per connection. Requests that a client pipelines behind it are kept as events (bounded by one
read, because reading pauses) and delivered by `resume()`, in order, after the response before them.
"""

import re
from collections import deque
from typing import Protocol

import httptools

from zt_proxy.core.errors import ClientError, MalformedRequest, Reason, ZtError
from zt_proxy.worker.wire import hygiene
from zt_proxy.worker.wire.head import NOTHING_NOTED, HeadMemory, RequestHead
from zt_proxy.worker.wire.hygiene import Kind

MAX_TRAILERS = 64
ONE_READ = 16384
"""Most bytes that are fed at once: a TLS record holds no more."""
END_OF_HEAD = b"\r\n\r\n"
ORDINARY_METHODS = frozenset((b"GET", b"HEAD"))
REQUEST_LINE = re.compile(rb"(GET|HEAD) (/[!-~]*) HTTP/1\.1\r\n")
CHUNK_OVERHEAD = 64 * 1024
"""Bytes of chunk framing allowed beyond 16 per byte of body: bounds extensions and 1-byte chunks (CVE-2025-69229)."""

known = hygiene.KNOWN.get
classify = hygiene.classify
SINGLE = hygiene.SINGLE
FIRST_FORWARDED = hygiene.FIRST_NOTED_AND_FORWARDED
COOKIE = int(Kind.COOKIE)
CONTENT_LENGTH = int(Kind.CONTENT_LENGTH)
TRANSFER_ENCODING = int(Kind.TRANSFER_ENCODING)
CONNECTION = int(Kind.CONNECTION)
UPGRADE = int(Kind.UPGRADE)
EXPECT = int(Kind.EXPECT)


class RequestSink(Protocol):
    """Receives requests, one at a time."""

    def on_request(self, head: RequestHead) -> None: ...

    def on_ordinary(self, head: RequestHead) -> None:
        """A whole request: in place of `on_request` and `on_end`."""

    def on_body(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_error(self, error: ZtError) -> None:
        """The bytes from here on are not HTTP: answer, then close."""


class RequestParser:
    """Parses the requests of one connection and hands them to `sink`, the next one only after `resume()`."""

    __slots__ = (
        "_body",
        "_busy",
        "_dead",
        "_delivering",
        "_dropped",
        "_few",
        "_head",
        "_in_head",
        "_limit_bytes",
        "_limit_count",
        "_limit_target",
        "_lines",
        "_memory",
        "_noted",
        "_parser",
        "_sink",
        "_small",
        "_tunnel",
        "backlog",
        "fed",
        "tail",
    )

    def __init__(
        self, sink: RequestSink, memory: HeadMemory, *, header_count: int, header_bytes: int, target_bytes: int
    ) -> None:
        """`memory` is shared by all connections under the same limits."""
        self._sink = sink
        self._memory = memory
        self.limit(header_count, header_bytes, target_bytes)
        self._parser = httptools.HttpRequestParser(self)
        self.backlog: deque[tuple[str, RequestHead | bytes | ZtError | None]] = deque()
        """What waits behind the request in flight. While there is something, the caller should stop reading."""
        self._busy = False
        self._dead = False
        self._delivering = False
        self._tunnel = False
        self._head = RequestHead([], NOTHING_NOTED.copy())
        self._in_head = False
        self._lines = self._head.lines
        self._noted = self._head.noted
        self._dropped = 0
        self.fed = 0
        """Bytes of the message being parsed; 0 between messages."""
        self._body = 0
        self.tail = b""
        """Bytes behind an upgrade request: the tunnel's, never parsed as HTTP."""

    def limit(self, header_count: int, header_bytes: int, target_bytes: int) -> None:
        """What a head may hold from now on; the memory must hold none that does not fit."""
        self._limit_count = header_count
        self._limit_bytes = header_bytes
        self._limit_target = target_bytes
        self._small = min(header_bytes, 8192)
        # `fed` leaves out what one read brought of a head behind another message: where that matters, always count.
        self._few = header_count - hygiene.SLOTS if header_bytes >= self._small + ONE_READ else -1

    @property
    def idle(self) -> bool:
        """Between requests, with no byte of the next one seen."""
        return not (self._busy or self.fed or self.backlog)

    def feed(self, data: bytes) -> None:
        """Parse. Calls the sink; never raises for what a client sent."""
        if not (self.fed or self._busy or self._dead) and data.endswith(END_OF_HEAD):
            cut = data.find(b"\r\n") + 2
            known = self._memory.blocks.get(data[cut:])
            if known is None:
                self._parse(data)
                self._consider(data, cut)
                return
            line = self._memory.lines.get(data[:cut]) or self._request_line(data, cut)
            if line is not None and cut < self._limit_target:
                head = self._head = RequestHead(known.lines, known.noted)
                head.method, head.target = line
                head.ordinary = True
                head.kind = known
                self._busy = True
                self._sink.on_ordinary(head)
                return
        self._parse(data)

    def _request_line(self, data: bytes, cut: int) -> tuple[bytes, bytes] | None:
        """Method and target of an ordinary request's first line, whose line break ends at `cut`."""
        line = REQUEST_LINE.fullmatch(data, 0, cut)
        if line is None:
            return None
        method, target = line.groups()
        self._memory.keep_line(data[:cut], method, target)
        return method, target

    def _consider(self, data: bytes, cut: int) -> None:
        """Remember the header block of what was just parsed, if `data` was one ordinary request and nothing else."""
        head = self._head
        if (
            not (self.fed or self._dead or self.backlog)
            and head.ordinary
            and head.kind is None
            and data.count(END_OF_HEAD) == 1
            and REQUEST_LINE.fullmatch(data, 0, cut) is not None
        ):
            self._memory.keep(data[cut:], head)

    def _parse(self, data: bytes) -> None:
        # A loop, not a recursion from within a handler: what is raised there forgets its own cause.
        while data and not self._dead:
            if self._tunnel:
                self.tail += data
                return
            data = self._parse_some(data)

    def _parse_some(self, data: bytes) -> bytes:
        """Feed llhttp; gives what stands behind an upgrade that is ignored."""
        self.fed += len(data)
        try:
            self._parser.feed_data(data)
            if self.fed > self._limit_bytes:
                self._check_unfinished()
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._head.websocket:
                self.tail = rest
                return b""
            if self._head.method == b"CONNECT":  # refused, and no request begins where its tunnel would
                self._dead = True
                return b""
            # an upgrade we do not offer is ignored (RFC 9110 §7.8): what follows is the next request
            self._parser = httptools.HttpRequestParser(self)
            return rest
        except httptools.HttpParserError as error:
            self._fail(_request_error(error))
        except ZtError as error:
            self._fail(error)
        return b""

    def _check_unfinished(self) -> None:
        """A head, chunk framing or a trailer section that is already longer than any may be (ZT-DOS-10, ZT-DOS-11)."""
        if self._in_head:
            if self.fed > self._limit_bytes + self._limit_target:
                raise ClientError(Reason.HEADERS_TOO_LARGE, "head without an end", status=431)
        elif self._lines is not self._head.lines and len(self._lines) + self._dropped > MAX_TRAILERS:
            raise MalformedRequest(Reason.MALFORMED, "too many trailers")
        elif self.fed > CHUNK_OVERHEAD + self._limit_bytes + 16 * self._body:
            raise MalformedRequest(Reason.MALFORMED, "chunk framing far larger than the body")

    def resume(self) -> None:
        """The response is out: deliver what was pipelined, up to the end of the next request."""
        self._busy = self._tunnel = False
        if self.backlog and not self._delivering:  # an answer given at once asks for the next from within this loop
            self._delivering = True
            try:
                while self.backlog and not self._busy:
                    self._deliver(*self.backlog.popleft())
            finally:
                self._delivering = False

    def _deliver(self, event: str, value: RequestHead | bytes | ZtError | None) -> None:
        if isinstance(value, RequestHead):
            self._sink.on_request(value)
        elif isinstance(value, bytes):
            self._sink.on_body(value)
        elif isinstance(value, ZtError):
            self._sink.on_error(value)
        else:
            self._busy = True
            self._sink.on_end()

    def close(self) -> None:
        """The connection is gone: let go of everything. What llhttp holds of this parser would keep all of it alive
        until the garbage collector comes by, TLS buffers included."""
        self._dead = True
        self.backlog.clear()
        del self._parser, self._sink

    def _fail(self, error: ZtError) -> None:
        self._dead = True
        if self._busy:
            self.backlog.append(("error", error))
        else:
            self._sink.on_error(error)

    # ---- called by httptools ----

    def on_message_begin(self) -> None:
        if not self.fed:  # behind another message in the same read: what comes next is never taken for a beginning
            self.fed = 1
        head = self._head = RequestHead([], NOTHING_NOTED.copy())
        self._lines = head.lines
        self._noted = head.noted
        self._in_head = True
        self._dropped = 0
        self._body = 0

    def on_url(self, url: bytes) -> None:
        head = self._head
        head.target = head.target + url if head.target else url
        if len(head.target) > self._limit_target:
            raise ClientError(Reason.URI_TOO_LONG, f"target beyond {self._limit_target} bytes", status=414)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Runs for every header: counts and sizes are checked once, when the head is complete; until then what one head
        # may hold is bounded by what `feed` lets in.
        kind = known(name)
        if kind is None:
            kind = classify(name)
        if kind == 0:
            self._lines.append(name + b": " + value + b"\r\n")
            return
        if kind == 1:
            self._dropped += 1
            return
        noted = self._noted
        if noted[kind] is None:
            noted[kind] = value.rstrip(b" \t")
        elif not self._in_head:
            pass
        elif kind in SINGLE:
            raise MalformedRequest(Reason.MALFORMED, f"{name.decode('latin-1')} appears twice")
        else:
            joint = b"; " if kind == COOKIE else b", "
            noted[kind] = noted[kind] + joint + value.rstrip(b" \t")  # type: ignore[operator]
        if kind >= FIRST_FORWARDED:
            self._lines.append(name + b": " + value + b"\r\n")

    def on_headers_complete(self) -> None:
        head = self._head
        parser = self._parser
        self._in_head = False
        lines = head.lines
        noted = head.noted
        if len(lines) + self._dropped > self._few or self.fed > self._small:
            self._check_size(head)
        head.method = parser.get_method()
        head.keep_alive = parser.should_keep_alive()
        if parser.get_http_version() != "1.1":
            head.minor = 0
        head.ordinary = (
            head.keep_alive and head.method in ORDINARY_METHODS and noted[EXPECT] is None and noted[UPGRADE] is None
        )
        if head.minor == 0 or noted[TRANSFER_ENCODING] or noted[CONNECTION] or noted[CONTENT_LENGTH]:
            _frame(head, parser.get_http_version())
            head.ordinary = head.ordinary and head.minor == 1 and not head.has_body
            if noted[UPGRADE] is not None:
                _consider_upgrade(head, parser.should_upgrade())
                self._tunnel = head.websocket and not self._busy
        if self._busy:
            if head.websocket:
                raise MalformedRequest(Reason.MALFORMED, "an upgrade behind another request")
            self.backlog.append(("request", head))
        else:
            self._sink.on_request(head)

    def _check_size(self, head: RequestHead) -> None:
        """Count what a head holds, once it looks as if it could be too much."""
        present = [value for value in head.noted if value is not None]
        count = len(head.lines) + self._dropped + len(present)
        size = sum(map(len, head.lines)) + sum(map(len, present))
        if count > self._limit_count or size > self._limit_bytes:
            raise ClientError(Reason.HEADERS_TOO_LARGE, "too many or too large headers", status=431)

    def on_body(self, data: bytes) -> None:
        self._body += len(data)
        if self._busy:
            self.backlog.append(("body", data))
        else:
            self._sink.on_body(data)

    def on_chunk_header(self) -> None:
        if (
            self._lines is self._head.lines
        ):  # what comes as a header from now on is a trailer (RFC 9110 §6.5.1): dropped
            self._lines = []
            self._noted = NOTHING_NOTED.copy()

    def on_message_complete(self) -> None:
        if len(self._lines) > MAX_TRAILERS and self._lines is not self._head.lines:
            raise MalformedRequest(Reason.MALFORMED, "too many trailers")
        self.fed = 0
        if self._busy:
            self.backlog.append(("end", None))
        else:
            self._busy = True
            self._sink.on_end()


def _request_error(error: httptools.HttpParserError) -> ZtError:
    cause = error.__context__
    if isinstance(cause, ZtError):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        raise error  # our own mistake, not the client's
    return MalformedRequest(Reason.MALFORMED, str(error))


def _frame(head: RequestHead, version: str) -> None:
    """Settle where the body ends; refuse what could be read in two ways."""
    if version not in ("1.0", "1.1"):
        raise ClientError(Reason.VERSION_REFUSED, f"HTTP/{version}", status=505)
    noted = head.noted
    coding = noted[TRANSFER_ENCODING]
    if coding is not None:
        if head.minor == 0:  # CVE-2026-2835
            raise MalformedRequest(Reason.MALFORMED, "a transfer coding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise MalformedRequest(Reason.MALFORMED, "a transfer coding other than chunked")
        head.chunked = True
    length = noted[CONTENT_LENGTH]
    if length is not None:
        if not length.isdigit() or len(length) > 18:
            raise MalformedRequest(Reason.MALFORMED, "Content-Length is not a number")
        head.content_length = int(length)
    connection = noted[CONNECTION]
    if connection is not None and connection.lower() not in (b"keep-alive", b"close", b"upgrade"):
        head.lines = hygiene.without_named(head.lines, connection)


def _consider_upgrade(head: RequestHead, upgrading: bool) -> None:
    """Only a WebSocket upgrade counts; any other is ignored. llhttp ends an upgrade's message at its head."""
    if not upgrading:
        return
    if head.has_body or head.chunked:
        raise MalformedRequest(Reason.MALFORMED, "an upgrade with a body")
    upgrade = head.noted[UPGRADE] or b""
    head.websocket = upgrade.lower() == b"websocket"
    head.keep_alive = head.minor == 1
