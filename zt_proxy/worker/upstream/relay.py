"""Carries one permitted request to its platform and the answer back, byte by byte, holding no more than a buffer.

    client ──on_body──► Relay.request_body ──► UpstreamConnection ──► platform
    client ◄───write─── Relay.upstream_fed ◄── on_response… ◄──────── platform

Whoever cannot take more pauses the reading of the other side. Nothing here decides anything: the constructor takes a
`Permitted` or an `Internal`, and without one there is no relay.
"""

import re
from typing import Protocol

from zt_proxy.core.errors import ClientError, Reason, UpstreamError, ZtError
from zt_proxy.worker.upstream.permit import Internal, Permitted
from zt_proxy.worker.upstream.pool import UpstreamConnection, UpstreamPool
from zt_proxy.worker.wire import cookies
from zt_proxy.worker.wire.h1_response import ResponseHead, status_line
from zt_proxy.worker.wire.head import RequestHead
from zt_proxy.worker.wire.hygiene import Kind, ResponseKind
from zt_proxy.worker.wire.ws import accept_key

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
WS_KEY = int(Kind.WS_KEY)
WS_ACCEPT = int(ResponseKind.WS_ACCEPT)
WS_EXTENSIONS = int(ResponseKind.WS_EXTENSIONS)
RESPONSE_UPGRADE = int(ResponseKind.UPGRADE)
SERVICE_WORKER_ALLOWED = int(ResponseKind.SERVICE_WORKER_ALLOWED)

WORKER_SCOPE = re.compile(rb"(?:/[A-Za-z0-9_~\-][A-Za-z0-9_.~\-]*)+/?")
"""Service-Worker-Allowed that is passed on: plain segments. A browser reads it as a URL beside the script's, so that
`//app/`, `./`, `/a/..` and `/%2e` may all mean `/`, which covers `/.zt/` (ZT-APP-03)."""

LAST_CHUNK = b"0\r\n\r\n"


class Pause:
    """Who asked a client's connection to stop reading. Bits, as plain ints for the same reason as Phase."""

    BACKLOG = 1
    EARLY = 2
    UPSTREAM = 4
    ALL = 7


def _without_server(lines: list[bytes]) -> list[bytes]:
    """The portal's own header lines, without what it runs on."""
    return [line for line in lines if not line.lower().startswith(b"server:")]


class Client(Protocol):
    """The client's connection, as the relay sees it."""

    congested: bool
    """The client takes no more for the moment."""

    def write(self, data: bytes) -> None: ...

    def pause_reading(self, who: int) -> None: ...

    def resume_reading(self, who: int) -> None: ...

    def abort(self) -> None: ...


class Phase:
    """Where a relay stands; the sweep looks at it. Plain ints: enum members hash and compare in Python code."""

    CONNECTING = 0
    WAITING = 1
    """The request is (being) sent; no byte of the response yet."""
    STREAMING = 2
    TUNNEL = 3
    DONE = 4


class Owner(Protocol):
    """Whose request it is. `relay_done` is called exactly once, after everything else."""

    def relay_done(self, error: ZtError | None) -> None: ...

    def relay_switched(self, relay: "Relay", extensions: bool) -> None:
        """The 101 is out: the owner takes over the bytes of both sides."""


class Raw(Protocol):
    """What takes the bytes of a tunnel from the platform."""

    def from_upstream(self, data: bytes) -> None: ...


class Relay:
    """One request under way."""

    # Defaults live in the class, as in Exchange: a store per field and request adds up.
    _pending: list[bytes] | None = None
    _pending_size = 0
    _retried = False
    _unusable = False
    _response_ended = False
    answered = False
    """The client has seen the head of an answer, and nothing else can be said any more."""
    raw: Raw | None = None
    connection: UpstreamConnection | None = None
    chunk_out = False
    request_ended = False
    phase = Phase.CONNECTING
    status = 0
    bytes_in = 0
    bytes_out = 0
    masked = 0
    """Values that were masked in the answer."""
    must_switch = False
    """It was let through as a WebSocket, and means something else where the platform takes it for a plain GET."""

    def __init__(
        self,
        permit: Permitted | Internal,
        owner: Owner,
        client: Client,
        pool: UpstreamPool,
        head: RequestHead,
        request: bytes,
        extra: bytes,
        body_limit: int,
        own_cookies: frozenset[bytes],
    ) -> None:
        """`request` is the complete head for the platform; `extra` ends the head of its answer, blank line included.

        `pool.take(relay)` sets it going.
        """
        self._permit = permit
        self._owner = owner
        self._pool = pool
        self._body_limit = body_limit
        self.client = client
        self.head = head
        self.request = request
        self.extra = extra
        self.own_cookies = own_cookies
        self.out: list[bytes] = []
        self.must_close = head.minor == 0 or not head.keep_alive

    @property
    def first_byte_timeout(self) -> float:
        """Seconds the platform has from the end of the request to the first byte of its answer."""
        return self._pool.settings.first_byte_timeout

    # ---- from the client ----

    def request_body(self, data: bytes) -> None:
        """A piece of the request's body. Past the route's limit the request fails with 413."""
        if self.phase == Phase.DONE:
            return
        self.bytes_in += len(data)
        if self.bytes_in > self._body_limit:
            self.fail(ClientError(Reason.BODY_TOO_LARGE, "body beyond the route's limit", status=413))
            return
        piece = b"%x\r\n%b\r\n" % (len(data), data) if self.head.chunked else data
        if self.connection is not None:
            self.connection.transport.write(piece)
            return
        self._keep(piece)
        self._pending_size += len(piece)
        if self._pending_size > 65536:
            self.client.pause_reading(Pause.UPSTREAM)

    def request_end(self) -> None:
        """The request's body is complete."""
        self.request_ended = True
        if self.head.chunked and self.phase != Phase.DONE:
            if self.connection is not None:
                self.connection.transport.write(LAST_CHUNK)
            else:
                self._keep(LAST_CHUNK)
        if self.phase == Phase.CONNECTING:
            self._pool.uploaded(self)

    @property
    def uploading(self) -> bool:
        return self.head.has_body and not self.request_ended

    def _keep(self, piece: bytes) -> None:
        """There is no connection yet."""
        if self._pending is None:
            self._pending = []
        self._pending.append(piece)

    def client_writable(self, writable: bool) -> None:
        """The client's side fell behind, or caught up."""
        if self.connection is not None:
            if writable:
                self.connection.transport.resume_reading()
            else:
                self.connection.transport.pause_reading()

    def cancel(self, reason: Reason = Reason.UPSTREAM_CLOSED) -> None:
        """The client is gone: give up the request, and the connection, which may still carry its answer."""
        if self.phase != Phase.DONE:
            self._give_up()
            self._finish(ClientError(reason, "given up before its end", status=499))

    def end_tunnel(self) -> None:
        """The tunnel is over on both sides; what was written to the platform still goes out."""
        if self.phase != Phase.DONE:
            connection, self.connection = self.connection, None
            if connection is not None:
                connection.finish()
            self._finish(None)

    def fail(self, error: ZtError) -> None:
        """End in an error that the gateway will answer, if nothing was answered yet."""
        if self.phase != Phase.DONE:
            self.out.clear()
            self._give_up()
            self._finish(error)

    # ---- from the pool and the connection ----

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        if self.phase != Phase.CONNECTING:  # given up while connecting
            connection.release()
            return
        self.connection = connection
        self.phase = Phase.WAITING
        pending, self._pending = self._pending, None
        connection.send(self, self.head.method, b"".join((self.request, *pending)) if pending else self.request)
        if self._pending_size > 65536:
            self.client.resume_reading(Pause.UPSTREAM)
        self._pending_size = 0

    def upstream_failed(self, error: ZtError) -> None:
        self.connection = None
        self.fail(error)

    def upstream_lost(self, stale: bool) -> None:
        self.connection = None
        if self.phase == Phase.DONE:
            return
        repeatable = self.head.method in IDEMPOTENT and not self.head.has_body and not self.head.websocket
        if stale and repeatable and not self._retried and self.phase == Phase.WAITING:
            self._retried = True
            self.phase = Phase.CONNECTING
            self._pool.take(self, fresh=True)
            return
        self.fail(UpstreamError(Reason.UPSTREAM_CLOSED, "the platform closed the connection"))

    def upstream_writable(self, writable: bool) -> None:
        if writable:
            self.client.resume_reading(Pause.UPSTREAM)
        else:
            self.client.pause_reading(Pause.UPSTREAM)

    def upstream_fed(self) -> None:
        """Write what one read brought, in one piece; finish if that was all."""
        out = self.out
        if out:
            self.out = []
            self.answered = True
            self.client.write(out[0] if len(out) == 1 else b"".join(out))
        if self._response_ended and self.phase == Phase.STREAMING:
            self._complete()
        elif self.client.congested and self.connection is not None:
            self.connection.transport.pause_reading()

    def upstream_raw(self, data: bytes) -> None:
        if self.raw is not None:
            self.raw.from_upstream(data)

    # ---- the response ----

    def on_interim(self, head: ResponseHead) -> None:
        """Early hints go on; 100 is answered by the proxy itself, 102 is for nobody (RFC 8297, RFC 9110 §15.2)."""
        if head.status == 103 and self.head.minor == 1:
            self.out.append(b"HTTP/1.1 103 Early Hints\r\n" + b"".join(head.lines) + b"\r\n")

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """An ordinary answer in one piece: its length stated, nobody's cookie in it, on a connection that is kept."""
        if self.must_close or self._permit.internal or self.head.websocket:
            self.on_response(head)
            if body:
                self.on_response_body(body)
            self.on_response_end()
            return
        self.status = head.status
        self.bytes_out = len(body)
        self.out.append(b"%b%b%b" % (head.start, self.extra, body))
        self.phase = Phase.STREAMING
        self._response_ended = True

    def on_response(self, head: ResponseHead) -> None:
        self.refuse_page(head.status)
        status = self.status = head.status
        if status == 101:
            self._switch(head)
            return
        out = self.out
        out.append(status_line(status))
        if self._permit.internal:
            out.extend(_without_server(head.lines))
        else:
            out.extend(head.lines)
        if head.set_cookies or SERVICE_WORKER_ALLOWED in head.noted:
            self._particular_headers(head, out)
        length = head.content_length
        if status in {204, 304} or self.head.method == b"HEAD":
            if length is not None and status != 204:
                out.append(b"Content-Length: %d\r\n" % length)
        elif length is not None:
            out.append(b"Content-Length: %d\r\n" % length)
        elif self.head.minor == 1:
            self.chunk_out = True
            out.append(b"Transfer-Encoding: chunked\r\n")
        else:
            self.must_close = True
        if self.head.websocket:
            self.must_close = True
        if self.must_close:
            out.append(b"Connection: close\r\n")
        out.append(self.extra)
        self.phase = Phase.STREAMING
        bodiless = status in {204, 304} or self.head.method == b"HEAD"
        if not head.keep_alive or (length is None and not head.chunked and not bodiless):
            self._unusable = True

    def refuse_page(self, status: int) -> None:
        """Raises UpstreamError for what a plain GET gets, if nobody was let through for one (Node serves an upgrade
        that nothing listens for as if it were none)."""
        if self.must_switch and 200 <= status < 300:
            raise UpstreamError(Reason.UPSTREAM_INVALID, "a page in answer to an upgrade")

    def _particular_headers(self, head: ResponseHead, out: list[bytes]) -> None:
        if self._permit.internal:
            out.extend(b"Set-Cookie: %b\r\n" % value for value in head.set_cookies)
            return
        for value in head.set_cookies:
            if not cookies.is_own_set_cookie(value, self.own_cookies):
                out.append(b"Set-Cookie: %b\r\n" % value)
        scope = head.noted.get(SERVICE_WORKER_ALLOWED)
        if scope is not None and WORKER_SCOPE.fullmatch(scope):
            out.append(b"Service-Worker-Allowed: %b\r\n" % scope)

    def on_response_body(self, data: bytes) -> None:
        self.bytes_out += len(data)
        if self.chunk_out:
            self.out.append(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self.out.append(data)

    def on_response_end(self) -> None:
        if self.status == 101:
            return
        self._response_ended = True
        if self.chunk_out:
            self.out.append(LAST_CHUNK)

    def _switch(self, head: ResponseHead) -> None:
        """The platform agreed to a WebSocket, if it did so properly (RFC 6455 §4.1, §4.2.2)."""
        key = self.head.noted[WS_KEY]
        if not self.head.websocket or key is None:
            raise UpstreamError(Reason.UPSTREAM_INVALID, "switched protocols unasked")
        if head.noted.get(RESPONSE_UPGRADE, b"").lower() != b"websocket":
            raise UpstreamError(Reason.UPSTREAM_INVALID, "switched to another protocol")
        if head.noted.get(WS_ACCEPT) != accept_key(key):
            raise UpstreamError(Reason.UPSTREAM_INVALID, "Sec-WebSocket-Accept does not fit the key")
        extensions = head.noted.get(WS_EXTENSIONS)
        out = [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"]
        out.append(b"Sec-WebSocket-Accept: %b\r\n" % head.noted[WS_ACCEPT])
        if extensions:
            out.append(b"Sec-WebSocket-Extensions: %b\r\n" % extensions)
        out.extend(head.lines)
        if head.set_cookies:
            self._particular_headers(head, out)
        out.append(self.extra)
        self.client.write(b"".join(out))
        self.phase = Phase.TUNNEL
        self.answered = True
        assert self.connection is not None
        self.connection.tunnel = True
        self._owner.relay_switched(self, bool(extensions))

    # ---- ends ----

    def _complete(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            if self.request_ended and not self._unusable and not self._unsent(connection):
                if self.client.congested:
                    connection.transport.resume_reading()  # it was silenced for this client's sake alone
                connection.release()
            else:
                connection.discard()
        self.phase = Phase.DONE
        self._owner.relay_done(None)

    def _unsent(self, connection: UpstreamConnection) -> bool:
        """The answer came before the platform had taken the whole request (ZT-SMUG-18)."""
        return self.head.has_body and connection.transport.get_write_buffer_size() > 0

    def _give_up(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.discard()
        elif self.phase == Phase.CONNECTING:
            self._pool.abandon(self)

    def _finish(self, error: ZtError | None) -> None:
        self.phase = Phase.DONE
        self._owner.relay_done(error)
