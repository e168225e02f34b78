"""One client connection, from the accept to its end.

    PROXY header ─► ClientHello ─► handshake ─► requests, one at a time ─► (tunnel) ─► closing

The connection owns time-outs (one deadline, looked at by the listener's sweep), back-pressure towards both sides, and
the promise that nothing of one request is ever taken for a part of the next. It is one file, past the usual length,
because it is one state machine: its transitions want to be seen together.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from zt_proxy.core.errors import ClientError, Reason, UpstreamError, ZtError
from zt_proxy.worker.edge.tls import Terms, TlsEngine
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.identify.integrations import ClientTerms, Shown
from zt_proxy.worker.settings import LimitSettings
from zt_proxy.worker.upstream.relay import Pause
from zt_proxy.worker.wire.h1 import RequestParser
from zt_proxy.worker.wire.head import NOTHING_NOTED, RequestHead
from zt_proxy.worker.wire.host import host_name
from zt_proxy.worker.wire.proxy_protocol import ProxyHeaderParser

if TYPE_CHECKING:
    from zt_proxy.worker.edge.listener import Listener

READ = 16384
"""Bytes of plaintext asked for at once: a TLS record holds no more (RFC 8446 §5.1)."""
LINGER = 2.0
"""Seconds in which a client may still read a last answer while its unread body is thrown away."""
LINGER_BYTES = 4 * 1024 * 1024
"""Most of it that is read: a reset any earlier could overtake the answer (RFC 9112 §9.6)."""


class State:
    """Plain ints: enum members hash and compare in Python code, and this is asked for every packet."""

    PROXY = 0
    HELLO = 1
    HANDSHAKE = 2
    HTTP = 3
    TUNNEL = 4
    LINGER = 5
    CLOSED = 6


LIVE = (State.HTTP, State.TUNNEL)
NEVER = float("inf")


class Connection(asyncio.Protocol):
    """See the module. `deadline` is monotonic seconds; past it `expired` is called."""

    __slots__ = (
        "_engine",
        "_feed",
        "_held",
        "_hello",
        "_listener",
        "_outgoing",
        "_parser",
        "_paused",
        "_proxy",
        "_read",
        "_sni",
        "_terms",
        "_write",
        "congested",
        "counted_as",
        "deadline",
        "drained",
        "exchange",
        "host_memo",
        "outdated",
        "peer",
        "rate_bytes",
        "rate_since",
        "received",
        "sent",
        "shown",
        "state",
        "transport",
    )

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self.state = State.HELLO
        self.congested = False
        self.host_memo = (b"", "")
        self.shown: Shown | None = None
        self.outdated = False
        """The terms of its server name ask something else by now: it has to be made anew."""
        self.exchange: Exchange | None = None
        self.peer = ""
        self.counted_as = ""
        """Address under which the listener counts this connection: the socket's own peer."""
        self.received = 0
        self.sent = 0
        self.rate_since = 0.0
        self.rate_bytes = 0
        self.drained = 0
        self._hello = b""
        self._held = False
        self._paused = 0
        self._sni: str | None = None
        self._proxy: ProxyHeaderParser | None = None
        self._parser: RequestParser | None = None

    # ---- asyncio ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from asyncio's
        peer = self.transport.get_extra_info("peername")
        self.peer = peer[0] if peer else "unix"
        self.deadline = self._listener.now() + self._listener.limits.handshake_timeout
        self.transport.set_write_buffer_limits(high=self._listener.limits.buffer)
        if not self._listener.opened(self):
            self.state = State.CLOSED
            self.transport.abort()
            return
        if self._listener.proxied(self.peer):
            self.state = State.PROXY
            self._proxy = ProxyHeaderParser()

    def data_received(self, data: bytes) -> None:
        if self.state in LIVE:
            self._feed(data)
            self._decrypt()
        elif self.state == State.LINGER:
            self.drained += len(data)
            if self.drained > LINGER_BYTES:
                self.abort()
        elif self.state == State.HANDSHAKE:
            self._shake(data)
        elif self.state == State.HELLO:
            self._hello += data
            self._greet()
        elif self.state == State.PROXY:
            self._unwrap_proxy(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state == State.HANDSHAKE or (self.state == State.HELLO and self._hello):
            self._listener.metrics.tls_handshake(False, "closed")
        self.state = State.CLOSED
        self._listener.closed(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()
        parser, self._parser = self._parser, None
        if parser is not None:
            parser.close()

    def pause_writing(self) -> None:
        self.congested = True
        self.rate_since = 0.0
        exchange = self.exchange
        if exchange is not None and exchange.relay is not None:
            exchange.relay.client_writable(False)

    def resume_writing(self) -> None:
        self.congested = False
        if self._held:
            self._held = False
            if self.state == State.HTTP:
                self._go_on()
            return
        exchange = self.exchange
        if exchange is not None and exchange.relay is not None:
            exchange.relay.client_writable(True)

    # ---- before HTTP ----

    def _unwrap_proxy(self, data: bytes) -> None:
        assert self._proxy is not None
        try:
            result = self._proxy.feed(data)
        except ValueError:
            self.abort()
            return
        if result is None:
            return
        self._proxy = None
        self.state = State.HELLO
        if result.source is not None:
            self.peer = result.source[0]
        if result.rest:
            self._hello = result.rest
            self._greet()

    def _greet(self) -> None:
        """Choose the terms from the ClientHello, before a byte of it counts."""
        try:
            complete, name = self._listener.terms.server_name(self._hello)
        except ValueError:
            self._listener.metrics.tls_handshake(False, "not-tls")
            self.abort()
            return
        if not complete:
            return
        self._sni = name
        self._terms: Terms = self._listener.terms.choose(name)
        hello, self._hello = self._hello, b""
        self._engine = TlsEngine(self._terms.context_for(hello))
        self.state = State.HANDSHAKE
        self._shake(hello)

    def _shake(self, data: bytes) -> None:
        engine = self._engine
        engine.feed(data)
        try:
            done = engine.handshake()
            if done and self._terms.client is not None:
                self._take_certificate(self._terms.client)
        except ssl.SSLError as error:
            self._listener.handshake_refused(error)
            alert = engine.outgoing()
            if alert:
                self.transport.write(alert)
            self.state = State.CLOSED
            self.transport.close()
            return
        outgoing = engine.outgoing()
        if outgoing:
            self.transport.write(outgoing)
        if done:
            self.state = State.HTTP
            self._feed = engine.feed
            self._read = engine.read
            self._write = engine.write
            self._outgoing = engine.outgoing
            limits = self._listener.limits
            self._listener.metrics.tls_handshake(True, engine.version())
            self.deadline = self._listener.now() + limits.header_timeout
            self._parser = RequestParser(
                self,
                self._listener.heads,
                header_count=limits.header_count,
                header_bytes=limits.header_bytes,
                target_bytes=limits.target_bytes,
            )
            if engine.incoming.pending:
                self._decrypt()

    def _take_certificate(self, asked: ClientTerms) -> None:
        """What the client showed, for as long as the connection lives. Raises ssl.SSLError if nothing was proven."""
        self.shown = self._listener.gateway.machines.integrations.show(asked, self._engine.chain())
        self.settle()

    def settle(self) -> None:
        """Hold what the handshake settled against the terms in force: a reload may have changed them."""
        if self.state < State.HANDSHAKE or self.state == State.CLOSED:
            return
        asked = self._listener.terms.choose(self._sni).client
        if (asked is None) != (self._terms.client is None):
            self.outdated = True
        elif self.shown is not None and asked is not None:
            self.shown.terms = asked
            self.shown.epoch = -1  # the world before may still have something to say, and says it by these terms

    def limit(self, limits: LimitSettings) -> None:
        """Other limits are in force from now on."""
        if self._parser is not None:
            self._parser.limit(limits.header_count, limits.header_bytes, limits.target_bytes)

    # ---- bytes ----

    def _decrypt(self) -> None:
        incoming = self._engine.incoming
        read = self._read
        try:
            while self.state < State.LINGER:
                plain = read(READ)
                if not plain:
                    self._peer_closed()
                    return
                self.received += len(plain)
                if self.state == State.HTTP:
                    self._request_bytes(plain)
                elif self.exchange is not None and self.exchange.tunnel is not None:
                    self.exchange.tunnel.from_client(plain)
                if not incoming.pending:
                    return
        except ssl.SSLWantReadError:
            outgoing = self._outgoing()  # a key update asks for an answer
            if outgoing:
                self.transport.write(outgoing)
        except ssl.SSLError:
            self.abort()

    def _request_bytes(self, data: bytes) -> None:
        parser = self._parser
        assert parser is not None
        fresh = self.exchange is None and not parser.fed
        parser.feed(data)
        if self.exchange is not None or self._held:
            if parser.backlog or parser.tail:
                self.pause_reading(Pause.BACKLOG)
        elif fresh and parser.fed:  # a head has begun: the rest of it must follow in time
            self.deadline = self._listener.now() + self._listener.limits.header_timeout

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self.state == State.CLOSED:
            return
        self.sent += len(data)
        self._write(data)
        self.transport.write(self._outgoing())

    def pause_reading(self, who: int) -> None:
        """Each of several may want silence; reading goes on when none does any more."""
        if not self._paused and not self.transport.is_closing():
            self.transport.pause_reading()
        self._paused |= who

    def resume_reading(self, who: int) -> None:
        if self._paused:
            self._paused &= ~who
            if not self._paused and not self.transport.is_closing():
                self.transport.resume_reading()

    # ---- requests ----

    def on_request(self, head: RequestHead) -> None:
        self.deadline = NEVER
        if not head.ordinary and head.has_body:
            now = self._listener.now()
            self.deadline = now + self._listener.limits.body_idle_timeout
            self.rate_since, self.rate_bytes = now, self.received
        gateway = self._listener.gateway
        exchange = self.exchange = gateway.begin(self, head)
        gateway.handle(exchange)

    def on_ordinary(self, head: RequestHead) -> None:
        self.deadline = NEVER
        gateway = self._listener.gateway
        exchange = self.exchange = gateway.begin(self, head)
        exchange.request_ended = True
        gateway.handle(exchange)

    def on_body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        self.deadline = self._listener.now() + self._listener.limits.body_idle_timeout
        if not exchange.done:
            exchange.body(data)

    def on_end(self) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.head.ordinary:
            exchange.request_ended = True
            if exchange.relay is not None:
                exchange.relay.request_ended = True
        else:
            self.deadline = NEVER
            exchange.upstream_since = self._listener.now()
            exchange.body_end()
        if exchange.done:
            self._next()

    def on_error(self, error: ZtError) -> None:
        """What came is not HTTP: answer it as what it is, then close."""
        if self.state != State.HTTP:
            return  # the last answer is out: what comes behind it is nobody's request
        exchange = self.exchange
        if exchange is not None and not exchange.request_ended:
            # in the middle of a body: the request under way can have no proper end
            if exchange.done:
                self._linger()
            elif exchange.relay is not None:
                exchange.close = True
                exchange.relay.fail(error)
            else:  # control is still being asked who sends it
                self._listener.gateway.malformed(exchange, error)
            return
        gateway = self._listener.gateway
        head = RequestHead([], NOTHING_NOTED.copy())
        head.keep_alive = False
        self.exchange = gateway.begin(self, head)
        gateway.malformed(self.exchange, error)

    def answered(self, exchange: Exchange, *, close: bool) -> None:
        """The response is complete."""
        if self.state == State.CLOSED or exchange is not self.exchange:
            return
        if close:
            self._linger()
        elif exchange.request_ended:
            self._next()
        else:
            self.deadline = self._listener.now() + self._listener.limits.body_idle_timeout
            self.resume_reading(Pause.ALL)  # the rest of the body goes nowhere, but it has to go

    def _next(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None and (exchange.close or self.state != State.HTTP):
            self._linger()
            return
        self.deadline = self._listener.tick + self._listener.limits.keepalive_timeout
        if self.congested:  # answers that nobody reads are not piled up (ZT-DOS-07)
            self._held = True
        else:
            self._go_on()

    def _go_on(self) -> None:
        """The next request, if it came already; reading, once nothing waits any more."""
        parser = self._parser
        assert parser is not None
        if self._paused:
            self.resume_reading(Pause.EARLY | Pause.UPSTREAM)
        parser.resume()
        if self.exchange is None and parser.fed and self.state == State.HTTP:
            # the beginning of a head came behind the request before it: the rest must follow in time
            self.deadline = self._listener.now() + self._listener.limits.header_timeout
        if self._paused and not parser.backlog:
            self.resume_reading(Pause.BACKLOG)

    def begin_tunnel(self) -> bytes:
        assert self._parser is not None
        self.state = State.TUNNEL
        self.deadline = NEVER
        early, self._parser.tail = self._parser.tail, b""
        self.resume_reading(Pause.ALL)
        return early

    def serves(self, host: str) -> bool:
        """Host and server name are the same; without a server name the default certificate has to cover the host, and
        the host's terms have to be the default ones (ZT-TLS-01)."""
        if self.outdated or host in self._listener.elsewhere:
            return False
        name = host_name(host)
        if self._sni is None:
            terms = self._listener.terms
            return self._terms.covers(name) and terms.choose(name).client is terms.default.client
        return self._sni == name

    # ---- ends ----

    @property
    def silenced(self) -> bool:
        """Somebody of ours stopped the reading: the client cannot be blamed for sending nothing."""
        return bool(self._paused)

    def shut(self) -> None:
        """Close an idle connection, whatever state it is in."""
        if self.state == State.HTTP:
            self.close()
        else:
            self.abort()

    def expired(self, now: float) -> None:
        """The deadline passed: say so if a request had begun, then close."""
        self.deadline = NEVER
        exchange = self.exchange
        parser = self._parser
        if self._held:  # it asks, and does not read
            self.abort()
        elif self.state == State.HTTP and parser is not None and not parser.idle and (exchange is None):
            self.on_error(ClientError(Reason.REQUEST_TIMEOUT, "the head took too long", status=408))
        elif self.state == State.HTTP and exchange is not None and not exchange.done and exchange.relay is not None:
            exchange.close = True
            if self.silenced:  # it is the platform that takes no more
                detail = "the platform stopped taking the body"
                exchange.relay.fail(UpstreamError(Reason.UPSTREAM_FIRST_BYTE_TIMEOUT, detail, status=504))
            else:
                exchange.relay.fail(ClientError(Reason.REQUEST_TIMEOUT, "the body stopped coming", status=408))
        elif self.state == State.HTTP and exchange is None:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Close after what was written is out, or after the time that the slowest allowed reader takes for it."""
        if self.state == State.CLOSED:
            return
        self.state = State.CLOSED
        limits = self._listener.limits
        unread = self.transport.get_write_buffer_size()
        self.deadline = self._listener.now() + limits.rate_grace + unread / max(limits.minimum_rate, 1)
        if not self.transport.is_closing():
            notify = self._engine.close()
            if notify:
                self.transport.write(notify)
            self.transport.close()

    def end_within(self, seconds: float) -> None:
        """Cut the connection if it has not ended by then."""
        self.deadline = self._listener.now() + seconds

    def abort(self) -> None:
        """Close at once: what is still unwritten is thrown away, and the client sees that the answer is cut."""
        self.state = State.CLOSED
        self.transport.abort()

    def _linger(self) -> None:
        """The last answer is out. A client that is still sending gets a moment to read it before the close."""
        exchange, self.exchange = self.exchange, None
        if exchange is None or exchange.request_ended or exchange.tunnel is not None:
            self.close()
            return
        self.state = State.LINGER
        self.resume_reading(Pause.ALL)
        self.deadline = self._listener.now() + LINGER
        notify = self._engine.close()
        if notify:
            self.transport.write(notify)

    def _peer_closed(self) -> None:
        """close_notify: an answer under way is still finished, nothing else."""
        if self.exchange is None or self.state != State.HTTP or not self.exchange.request_ended:
            self.close()
        elif self.exchange is not None:
            self.exchange.close = True
