"""HTTP/1.1 from platforms: bytes in, calls on a sink out. No IO.

A platform's answer must be exactly one response to one request. Ambiguous framing, a second response, a body where
none can be: each raises UpstreamError, and the connection must be thrown away, so that no byte reaches the next user.
"""

from http import HTTPStatus
from typing import Protocol

import httptools

from zt_proxy.core.errors import Reason, UpstreamError, ZtError
from zt_proxy.worker.wire import hygiene
from zt_proxy.worker.wire.hygiene import ResponseKind

END_OF_HEAD = b"\r\n\r\n"
STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
MAX_INTERIM = 16
MAX_HEAD = 256 * 1024

known_response = hygiene.KNOWN_RESPONSE.get
classify_response = hygiene.classify_response
SET_COOKIE = int(ResponseKind.SET_COOKIE)
RESPONSE_LENGTH = int(ResponseKind.CONTENT_LENGTH)
RESPONSE_CODING = int(ResponseKind.TRANSFER_ENCODING)
RESPONSE_CONNECTION = int(ResponseKind.CONNECTION)
SERVICE_WORKER_ALLOWED = int(ResponseKind.SERVICE_WORKER_ALLOWED)


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK\\r\\n`"""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status


class ResponseHead:
    """A platform's response head. `lines` may go to the client; `set_cookies` still have to be looked at."""

    status = 0
    content_length: int | None = None
    chunked = False
    keep_alive = True
    start = b""
    """Status line, `lines` and Content-Length in one piece, when these very bytes were parsed before."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.set_cookies: list[bytes] = []
        self.noted: dict[int, bytes] = {}


class ResponseMemory:
    """Heads that llhttp has accepted, byte for byte, in front of a whole body of the length they state.

    A platform repeats the heads of its small answers until their Date changes; what they mean depends on nothing else.
    Shared by the connections of one pool, never changed; bounded, and a full memory starts anew.
    """

    HEADS = 256
    HEAD_BYTES = 2048

    __slots__ = ("heads",)

    def __init__(self) -> None:
        self.heads: dict[bytes, ResponseHead] = {}

    def keep(self, raw: bytes, head: ResponseHead) -> None:
        if len(raw) <= self.HEAD_BYTES:
            if len(self.heads) >= self.HEADS:
                self.heads.clear()
            head.start = b"".join(
                (status_line(head.status), *head.lines, b"Content-Length: %d\r\n" % (head.content_length or 0))
            )
            self.heads[raw] = head


def _ordinary(head: ResponseHead) -> bool:
    """An answer with a body of stated length, on a connection that stays, with nothing in it to look at twice."""
    bodiless = head.status < 200 or head.status in {204, 304}
    particular = head.set_cookies or SERVICE_WORKER_ALLOWED in head.noted
    return head.keep_alive and head.content_length is not None and not (particular or head.chunked or bodiless)


class ResponseSink(Protocol):
    """Receives the one response of one request."""

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """An ordinary response, all of it: in place of `on_response`, `on_response_body` and `on_response_end`."""

    def on_interim(self, head: ResponseHead) -> None: ...

    def on_response(self, head: ResponseHead) -> None: ...

    def on_response_body(self, data: bytes) -> None: ...

    def on_response_end(self) -> None: ...


class ResponseParser:
    """Parses the responses of one upstream connection.

    `expect(method)` before each request; a byte that arrives without a request expected, or behind the end of its
    response, is an error: the connection must be thrown away (response splitting, ZT-SMUG-17).
    """

    __slots__ = (
        "_done",
        "_expecting",
        "_fed",
        "_head",
        "_head_only",
        "_in_head",
        "_interim",
        "_lines",
        "_memory",
        "_noted",
        "_parser",
        "_sink",
        "_useful",
    )

    def __init__(self, memory: ResponseMemory) -> None:
        self._sink: ResponseSink | None = None
        self._memory = memory
        self._parser = httptools.HttpResponseParser(self)
        self._expecting = False
        self._done = True
        self._head = ResponseHead()
        self._head_only = False
        self._in_head = False
        self._lines: list[bytes] = []
        self._noted: dict[int, bytes] = {}
        self._interim = 0
        self._fed = 0

    def expect(self, method: bytes, sink: ResponseSink) -> None:
        """A request with this method goes out now; `sink` receives the answer."""
        self._sink = sink
        if self._head_only:  # llhttp still waits for the body that HEAD does not have
            self._parser = httptools.HttpResponseParser(self)
        self._head_only = method == b"HEAD"
        self._expecting = True
        self._done = False
        self._interim = 0
        self._fed = 0
        self._useful = 0

    def feed(self, data: bytes) -> bytes:
        """Parse. Gives the bytes behind a 101 (else none).

        Raises UpstreamError(UPSTREAM_INVALID) for what is not exactly one response.
        """
        if not self._expecting or (self._done and self._head_only):
            raise UpstreamError(Reason.UPSTREAM_INVALID, "bytes without a request")
        if self._fed or self._done or self._head_only:
            return self._parse(data)
        cut = data.find(END_OF_HEAD) + 4
        known = self._memory.heads.get(data[:cut])
        if known is not None and len(data) - cut == known.content_length:
            self._done = True
            sink, self._sink = self._sink, None
            sink.on_whole(known, data[cut:])  # type: ignore[union-attr]
            return b""
        rest = self._parse(data)
        head = self._head
        whole = self._finished() and cut > 4 and len(data) - cut == head.content_length
        if whole and known is None and _ordinary(head):
            self._memory.keep(data[:cut], head)
        return rest

    def _parse(self, data: bytes) -> bytes:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, ZtError):
                raise cause from None
            if isinstance(error, httptools.HttpParserCallbackError):
                raise
            raise UpstreamError(Reason.UPSTREAM_INVALID, str(error)) from None
        self._fed += len(data)
        if self._fed - self._useful > MAX_HEAD:
            what = "headers too large" if self._in_head else "trailers or chunk framing too large"
            raise UpstreamError(Reason.UPSTREAM_INVALID, f"response {what}")
        return b""

    def at_eof(self) -> bool:
        """The platform closed: True if that was the proper end of a close-delimited response, which is then ended."""
        head = self._head
        if not self._fed:  # nothing came: that head is the one of the answer before
            return False
        if self._done or self._in_head or not self._expecting or head.status < 200:
            return False
        if head.chunked or head.content_length is not None:
            return False
        self._finish()
        return True

    def close(self) -> None:
        """The connection is gone: let go of what holds this parser."""
        self._sink = None
        del self._parser

    def _finished(self) -> bool:
        return self._done

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            sink, self._sink = self._sink, None  # an idle connection keeps nobody's request alive
            sink.on_response_end()  # type: ignore[union-attr]

    # ---- called by httptools ----

    def on_message_begin(self) -> None:
        if self._done:
            raise UpstreamError(Reason.UPSTREAM_INVALID, "a second response to one request")
        head = self._head = ResponseHead()
        self._lines = head.lines
        self._noted = head.noted
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        kind = known_response(name)
        if kind is None:
            kind = classify_response(name)
        if kind == 0:
            self._lines.append(name + b": " + value + b"\r\n")
        elif kind == SET_COOKIE:
            self._head.set_cookies.append(value)
        elif kind != 1:
            noted = self._noted
            if kind == RESPONSE_LENGTH and kind in noted:
                raise UpstreamError(Reason.UPSTREAM_INVALID, "Content-Length appears twice")
            noted[kind] = value.strip(b" \t")

    def on_headers_complete(self) -> None:
        head = self._head
        self._in_head = False
        self._lines = []  # trailers, which go nowhere
        self._noted = {}
        parser = self._parser
        status = head.status = parser.get_status_code()
        if not 100 <= status <= 599:
            raise UpstreamError(Reason.UPSTREAM_INVALID, f"status {status}")
        if parser.get_http_version() not in ("1.0", "1.1"):
            raise UpstreamError(Reason.UPSTREAM_INVALID, "not HTTP/1")
        if status < 200 and status != 101:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise UpstreamError(Reason.UPSTREAM_INVALID, "a flood of interim responses")
            self._sink.on_interim(head)  # type: ignore[union-attr]
            return
        noted = head.noted
        head.keep_alive = parser.should_keep_alive()
        coding = noted.get(RESPONSE_CODING)
        if coding is not None:
            if coding.lower() != b"chunked":
                raise UpstreamError(Reason.UPSTREAM_INVALID, "a transfer coding other than chunked")
            head.chunked = True
        length = noted.get(RESPONSE_LENGTH)
        if length is not None:
            if head.chunked or not length.isdigit() or len(length) > 18:
                raise UpstreamError(Reason.UPSTREAM_INVALID, "ambiguous framing")
            head.content_length = int(length)
        connection = noted.get(RESPONSE_CONNECTION)
        if connection is not None and connection.lower() not in (b"keep-alive", b"close", b"upgrade"):
            head.lines = hygiene.without_named(head.lines, connection)
        self._sink.on_response(head)  # type: ignore[union-attr]
        if self._head_only:
            self._finish()

    def on_body(self, data: bytes) -> None:
        self._useful = self._fed
        if self._done:
            raise UpstreamError(Reason.UPSTREAM_INVALID, "a body where none can be")
        self._sink.on_response_body(data)  # type: ignore[union-attr]

    def on_message_complete(self) -> None:
        if self._head.status >= 200 or self._head.status == 101:
            self._finish()
