"""Connections to one upstream: the newest idle one first, bounded in number, opened on demand.

A connection goes back into the pool only after exactly one whole response to its one request (ZT-SMUG-18).
"""

import asyncio
import errno
import socket
import ssl
from typing import Protocol, cast

import structlog

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import Reason, UnavailableError, UpstreamError, ZtError
from zt_proxy.worker.settings import UpstreamSettings
from zt_proxy.worker.wire.h1_response import ResponseMemory, ResponseParser, ResponseSink

WAITING = 1024
"""Requests that may wait for a connection to one platform; for `connect_timeout` at most."""

SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""What `connect` fails of when this machine has run out of something."""

log = structlog.get_logger("zt_proxy.upstream")


class Borrower(ResponseSink, Protocol):
    """What uses a connection for one request."""

    @property
    def uploading(self) -> bool:
        """A part of its body is still to come."""

    def upstream_ready(self, connection: "UpstreamConnection") -> None: ...

    def upstream_failed(self, error: ZtError) -> None: ...

    def upstream_lost(self, stale: bool) -> None:
        """The connection ended in the middle. `stale`: it was reused and nothing had come back on it."""

    def upstream_fed(self) -> None:
        """All that one read brought was delivered."""

    def upstream_raw(self, data: bytes) -> None:
        """Bytes of a tunnel."""

    def upstream_writable(self, writable: bool) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection. `borrower` is None while it is idle."""

    __slots__ = ("_answered", "_parser", "_pool", "borrower", "idle_since", "lost", "reused", "transport", "tunnel")

    transport: asyncio.Transport

    def __init__(self, pool: "UpstreamPool") -> None:
        self._pool = pool
        self._answered = False
        self.borrower: Borrower | None = None
        self.idle_since = 0.0
        self.lost = False
        self.reused = False
        self.tunnel = False
        self._parser = ResponseParser(pool.heads)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from asyncio's

    def send(self, borrower: Borrower, method: bytes, head: bytes) -> None:
        """Begin a request: its head, with as much of its body as is at hand."""
        self.borrower = borrower
        self._answered = False
        self._parser.expect(method, borrower)
        self.transport.write(head)

    def data_received(self, data: bytes) -> None:
        borrower = self.borrower
        if borrower is None:
            self.discard()  # bytes without a request: nobody's answer
            return
        if self.tunnel:
            borrower.upstream_raw(data)
            return
        self._answered = True
        try:
            rest = self._parser.feed(data)
        except UpstreamError as error:
            self.discard()
            borrower.upstream_failed(error)
            return
        borrower.upstream_fed()
        if rest and self._switched():
            borrower.upstream_raw(rest)

    def _switched(self) -> bool:
        """The response just parsed was a 101 that the borrower took."""
        return self.tunnel

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._pool.forget(self)
        borrower = self.borrower
        ended = borrower is not None and exc is None and not self.tunnel and self._parser.at_eof()
        self.borrower = None
        self._parser.close()
        if borrower is None:
            return
        if ended:
            borrower.upstream_fed()
        elif isinstance(exc, ssl.SSLError) and not self._answered and not self.reused:
            # With TLS 1.3 a platform that refuses our certificate says so only now (RFC 8446 §4.4.2.4).
            borrower.upstream_failed(_why(exc))
        else:
            borrower.upstream_lost(self.reused and not self._answered)

    def pause_writing(self) -> None:
        if self.borrower is not None:
            self.borrower.upstream_writable(False)

    def resume_writing(self) -> None:
        if self.borrower is not None:
            self.borrower.upstream_writable(True)

    def release(self) -> None:
        """One whole response to one whole request: anyone may use it next."""
        self.borrower = None
        self.reused = True
        self._pool.give_back(self)

    def discard(self) -> None:
        """Never to be used again."""
        self.borrower = None
        self._pool.forget(self)
        self.transport.abort()

    def finish(self) -> None:
        """Close after what was written is out."""
        self.borrower = None
        self._pool.forget(self)
        self.transport.close()


class UpstreamPool:
    """The connections of one upstream."""

    def __init__(self, settings: UpstreamSettings, clock: Clock) -> None:
        self.settings = settings
        self._monotonic = clock.monotonic
        self.heads = ResponseMemory()
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._connecting = 0
        self._waiting: dict[Borrower, float] = {}
        """Who waits for a connection, in the order of coming, and until when (monotonic seconds)."""
        self._uploads: dict[Borrower, float] = {}
        """The same, of those whose body is still coming while the pool is crowded."""
        self._crowd = settings.max_connections - settings.max_connections // 4
        """Connections in use from which on none is lent to an upload: bodies that trickle must not take the last one
        from requests that are complete (ZT-DOS-07)."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls = _client_context(settings)

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        return len(self._idle)

    def take(self, borrower: Borrower, *, fresh: bool = False) -> None:
        """Give `borrower` a connection, at once if one is idle; `fresh` opens a new one."""
        idle = self._idle
        taken = len(self._open) + self._connecting
        if taken >= self._crowd and taken - len(idle) >= self._crowd and borrower.uploading:
            self._wait(self._uploads, borrower)
            return
        while idle and not fresh:
            connection = idle.pop()
            if not connection.transport.is_closing():
                self._lend(connection, borrower)
                return
        if len(self._open) + self._connecting >= self.settings.max_connections and not self._make_room():
            self._wait(self._waiting, borrower)
            return
        self._start_connecting(borrower)

    def _wait(self, queue: dict[Borrower, float], borrower: Borrower) -> None:
        if len(queue) >= WAITING:
            borrower.upstream_failed(UnavailableError(Reason.UPSTREAM_BUSY, "too many wait for a connection"))
        else:
            queue[borrower] = self._monotonic() + self.settings.connect_timeout

    def uploaded(self, borrower: Borrower) -> None:
        """The body is complete: if it kept its request waiting, that is over."""
        if self._uploads.pop(borrower, None) is not None:
            self.take(borrower)

    def _lend(self, connection: UpstreamConnection, borrower: Borrower) -> None:
        """Hand a connection over; one on which the request could not even begin is nobody's any more."""
        try:
            borrower.upstream_ready(connection)
        except BaseException:
            connection.discard()
            raise

    def _make_room(self) -> bool:
        if not self._idle:
            return False
        self._idle.pop(0).discard()
        return True

    def _start_connecting(self, borrower: Borrower) -> None:
        self._connecting += 1
        task = asyncio.get_running_loop().create_task(self._connect(borrower))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Called by a connection whose request is done."""
        if connection.transport.is_closing():
            self.forget(connection)
            return
        connection.idle_since = self._monotonic()
        self._idle.append(connection)
        if self._waiting or self._uploads:
            borrower = self._next()
            if borrower is not None:
                self._lend_safely(self._idle.pop(), borrower)

    def forget(self, connection: UpstreamConnection) -> None:
        """Called by a connection that is closing."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._fill()

    def _fill(self) -> None:
        """There may be room for one who waits."""
        if (self._waiting or self._uploads) and len(self._open) + self._connecting < self.settings.max_connections:
            borrower = self._next()
            if borrower is not None:
                self._start_connecting(borrower)

    def _next(self) -> Borrower | None:
        """Who has waited longest of those that may have a connection now, and waits no more."""
        queue = self._waiting
        if not queue and len(self._open) + self._connecting - len(self._idle) < self._crowd:
            queue = self._uploads
        if not queue:
            return None
        borrower = next(iter(queue))
        del queue[borrower]
        return borrower

    def _lend_safely(self, connection: UpstreamConnection, borrower: Borrower) -> None:
        """As `_lend`, where the borrower is not the one who called: its fault is its own."""
        try:
            self._lend(connection, borrower)
        except Exception:
            log.exception("a request could not begin")
            borrower.upstream_failed(ZtError(Reason.INTERNAL_ERROR))

    def abandon(self, borrower: Borrower) -> None:
        """A borrower that was still waiting went away."""
        self._waiting.pop(borrower, None)
        self._uploads.pop(borrower, None)

    def sweep(self, now: float) -> None:
        """Close what was idle too long; give up on who waited too long. `now` is monotonic seconds."""
        limit = now - self.settings.idle_timeout
        while self._idle and self._idle[0].idle_since < limit:
            self._idle[0].discard()
        for queue in (self._waiting, self._uploads):
            while queue and next(iter(queue.values())) < now:
                borrower = next(iter(queue))
                del queue[borrower]
                busy = UnavailableError(Reason.UPSTREAM_BUSY, "all connections to the platform in use")
                borrower.upstream_failed(busy)

    async def close(self) -> None:
        """Drop everything, and wait until no connection attempt is left."""
        for connection in list(self._open):
            connection.discard()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, borrower: Borrower) -> None:
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                connection = await self._dial()
        except Exception as error:
            self._connecting -= 1
            self._fill()
            borrower.upstream_failed(_why(error))
        except BaseException:  # cancelled: the pool closes, or somebody ended the attempt from within
            self._connecting -= 1
            borrower.upstream_failed(UpstreamError(Reason.UPSTREAM_UNREACHABLE, "the attempt was given up"))
            raise
        else:
            self._connecting -= 1
            if connection.lost:  # before anybody heard of it
                self._fill()
                borrower.upstream_failed(UpstreamError(Reason.UPSTREAM_CLOSED, "the platform hung up at once"))
                return
            self._open.add(connection)
            self._lend_safely(connection, borrower)

    async def _dial(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        settings = self.settings
        if settings.scheme == "unix":
            _, connection = await loop.create_unix_connection(lambda: UpstreamConnection(self), settings.path)
            return connection
        transport, connection = await loop.create_connection(
            lambda: UpstreamConnection(self),
            settings.host,
            settings.port,
            ssl=self._tls,
            server_hostname=(settings.server_name or settings.host) if self._tls else None,
        )
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def _client_context(settings: UpstreamSettings) -> ssl.SSLContext | None:
    if settings.scheme != "https":
        return None
    context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate is not None:
        context.load_cert_chain(settings.certificate, settings.key)
    return context


def _why(error: BaseException) -> ZtError:
    if isinstance(error, TimeoutError):
        return UpstreamError(Reason.UPSTREAM_CONNECT_TIMEOUT, "no connection in time", status=504)
    if isinstance(error, ssl.SSLError):
        return UpstreamError(Reason.UPSTREAM_TLS, str(error))
    if isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
        # The connection stood, else it had been refused: some platforms hang up on a handshake without an alert.
        return UpstreamError(Reason.UPSTREAM_TLS, "the platform ended the TLS handshake")
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        return UnavailableError(Reason.UPSTREAM_BUSY, str(error))  # ours, not the platform's
    return UpstreamError(Reason.UPSTREAM_UNREACHABLE, str(error))
