"""One listening address: accepts within bounds, and looks at every connection's deadline four times a second.

One sweep for all connections instead of a timer for each: a timer costs more than all the rest of an idle connection.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Collection, Iterator

import structlog

from zt_proxy.core import descriptors
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason, UpstreamError
from zt_proxy.worker.edge.connection import LIVE, Connection
from zt_proxy.worker.edge.sockets import BACKLOG, bind
from zt_proxy.worker.edge.tls import TermsTable, asked_at
from zt_proxy.worker.gateway import streams
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.pipeline import Gateway
from zt_proxy.worker.settings import LimitSettings, ListenerSettings, WorkerSettings
from zt_proxy.worker.upstream.relay import Phase
from zt_proxy.worker.wire.forwarded import TrustedNetworks
from zt_proxy.worker.wire.head import HeadMemory
from zt_proxy.worker.wire.host import host_name, host_port

log = structlog.get_logger("zt_proxy.edge")

SWEEP = 0.25
COMPLAIN_EVERY = 10.0
"""Seconds between two lines of the log about the same shortage."""
FIRST_REQUEST = 1.0
"""Seconds that a new connection has for its first request when its worker begins to drain."""
OWN = -1
"""The listener's own socket, among those of other slots that it serves for a while."""

PROGRESS = 4 * 1024 * 1024
"""Bytes of an answer that goes on, after which it is on record how much there was so far."""
PROGRESS_EVERY = 1.0
"""Seconds at least between two such records."""


class Listener:
    """See the module."""

    def __init__(self, settings: ListenerSettings, limits: LimitSettings, gateway: Gateway, clock: Clock) -> None:
        self.settings = settings
        self.limits = limits
        self.gateway = gateway
        self.metrics = gateway.metrics
        self.clock = clock
        self.now = clock.monotonic
        self.tick = clock.monotonic()
        """Monotonic seconds of the last sweep: near enough for what lasts minutes, and free."""
        self.terms = TermsTable(settings)
        self.elsewhere = _elsewhere(settings, gateway.settings)
        """Hosts that belong to a port where certificates are asked for, which this is not."""
        self.heads = HeadMemory()
        self.connections: set[Connection] = set()
        self.refused = 0
        """Connections closed at the accept, because there were too many."""
        self._proxies = TrustedNetworks(settings.proxy_protocol_from)
        self._descriptors = descriptors.for_clients()
        self._next_complaint = 0.0
        self._next_certificate = 0.0
        self._addresses: dict[str, int] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._next_recheck = 0.0
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, listening: socket.socket | None = None) -> int:
        """Listen, on a socket of somebody else's making if one is given; gives the port.

        Raises OSError if the address is taken.
        """
        listening = listening or bind(self.settings.host, self.settings.port)
        port: int = listening.getsockname()[1]
        await self.serve(OWN, listening)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        return port

    async def serve(self, slot: int, listening: socket.socket) -> None:
        """Accept from one more socket: that of a slot whose worker is gone."""
        self.leave(slot)
        loop = asyncio.get_running_loop()
        self._servers[slot] = await loop.create_server(lambda: Connection(self), sock=listening, backlog=BACKLOG)

    def leave(self, slot: int) -> None:
        """Accept nothing more from a slot's socket. What was accepted stays."""
        server = self._servers.pop(slot, None)
        if server is not None:
            server.close()

    def adopt(self, settings: ListenerSettings, limits: LimitSettings, gateway: Gateway, terms: TermsTable) -> None:
        """New rules for what comes from now on. Connections stay, and with them what their handshake settled."""
        self.settings = settings
        if limits != self.limits:
            self.heads.blocks.clear()
            for connection in self.connections:
                connection.limit(limits)
        self.limits = limits
        self.gateway = gateway
        self.terms = terms
        self.elsewhere = _elsewhere(settings, gateway.settings)
        self._proxies = TrustedNetworks(settings.proxy_protocol_from)
        for connection in list(self.connections):
            connection.host_memo = (b"", "")
            connection.settle()
            if connection.outdated:
                self._end(connection, Reason.MISDIRECTED)

    def judge_certificates(self) -> None:
        """Revocation lists changed: end what any certificate does not carry any more (ZT-TLS-08)."""
        now = self.clock.now()
        for connection in list(self.connections):
            shown = connection.shown
            if shown is not None and shown.chain:
                try:
                    found = self.gateway.machines.integrations.identify(shown, now)
                except Exception:  # the others are to be judged all the same
                    log.exception("a certificate could not be judged")
                    found = Reason.INTERNAL_ERROR
                if isinstance(found, Reason):
                    self._end(connection, found)

    def _end(self, connection: Connection, reason: Reason) -> None:
        """An open connection may not go on as it is."""
        exchange = connection.exchange
        if exchange is None:
            connection.shut()
        else:
            exchange.close = True
            streams.cut(exchange, reason)

    def handshake_refused(self, error: ssl.SSLError) -> None:
        """Count it; of certificates that TLS refuses, say why, since the client only hears an alert."""
        if not isinstance(error, ssl.SSLCertVerificationError):
            self.metrics.tls_handshake(False, "refused")
            return
        self.metrics.tls_handshake(False, "client-certificate")
        now = self.now()
        if now >= self._next_certificate:
            self._next_certificate = now + COMPLAIN_EVERY
            log.warning("client certificate refused", listener=self.settings.name, detail=error.verify_message)

    def opened(self, connection: Connection) -> bool:
        """Count a new connection; False if it is one too many."""
        count = self._addresses.get(connection.peer, 0)
        if len(self.connections) >= self.limits.connections or count >= self.limits.connections_per_address:
            self.refused += 1
            return False
        if connection.transport.get_extra_info("socket").fileno() >= self._descriptors:
            self.refused += 1
            self._complain()
            return False
        self._addresses[connection.peer] = count + 1
        connection.counted_as = connection.peer
        self.connections.add(connection)
        self._empty.clear()
        return True

    def _complain(self) -> None:
        """Say that descriptors run out, but not for every connection."""
        now = self.now()
        if now >= self._next_complaint:
            self._next_complaint = now + COMPLAIN_EVERY
            log.error(
                "too few descriptors: connections are closed at the accept",
                listener=self.settings.name,
                connections=len(self.connections),
                limit=descriptors.limit(),
            )

    def closed(self, connection: Connection) -> None:
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()
        count = self._addresses[connection.counted_as] - 1
        if count:
            self._addresses[connection.counted_as] = count
        else:
            del self._addresses[connection.counted_as]

    def proxied(self, peer: str) -> bool:
        """This peer has to begin with a PROXY header."""
        return bool(self._proxies) and self._proxies.contains(peer)

    def exchanges(self) -> Iterator[Exchange]:
        """Every request under way."""
        for connection in self.connections:
            if connection.exchange is not None:
                yield connection.exchange

    def cut_sessions(self, sids: Collection[str], reason: Reason) -> None:
        """End what these sessions still have running; none given means every session. One pass, however many."""
        streams.cut_sessions(self.exchanges(), sids, reason)

    def stop_accepting(self) -> None:
        """Accept nothing more, from any socket."""
        for slot in list(self._servers):
            self.leave(slot)

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let requests under way end within `seconds`, tell WebSockets to go, close the rest."""
        self.stop_accepting()
        for connection in list(self.connections):
            exchange = connection.exchange
            if exchange is None and not connection.received and seconds:
                connection.end_within(FIRST_REQUEST)  # accepted a moment ago: what it came for is still on its way
            elif exchange is None:
                connection.shut()
            elif exchange.tunnel is not None:
                streams.cut(exchange, Reason.SHUTTING_DOWN)
            else:
                exchange.close = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    # ---- the sweep ----

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)  # first: nothing may stop the clock
        now = self.tick = self.now()
        epoch = self.clock.now()
        for connection in list(self.connections):
            try:
                if connection.deadline < now:
                    connection.expired(now)
                elif connection.state in LIVE:
                    exchange = connection.exchange
                    if exchange is not None:
                        self._watch(connection, exchange, now, epoch)
            except Exception:
                log.exception("a connection could not be looked after")
                connection.abort()
        self.gateway.recorder.flush()
        for route in self.gateway.routes.routes:
            route.pool.sweep(now)
        self.gateway.portal_pool.sweep(now)
        self.gateway.sweep(now)
        if now >= self._next_recheck:
            self._next_recheck = now + self.gateway.settings.session_recheck
            streams.recheck(self.exchanges(), self.gateway)
        if not self.gateway.link.alive():
            streams.cut_sessions(self.exchanges(), (), Reason.CONTROL_UNAVAILABLE)
            streams.cut_machines(self.exchanges(), Reason.CONTROL_UNAVAILABLE)

    def _watch(self, connection: Connection, exchange: Exchange, now: float, epoch: float) -> None:
        """The time-outs of a request under way."""
        machine = exchange.machine
        if machine is not None and epoch > machine.machine.until and exchange.relay is not None:
            reason = self.gateway.still_allowed(exchange)
            if reason is not None:
                streams.cut(exchange, reason)
                return
        entry = exchange.session
        if entry is not None and epoch >= entry.session.absolute_deadline and exchange.relay is not None:
            streams.cut(exchange, Reason.SESSION_EXPIRED)
            return
        relay = exchange.relay
        if relay is not None and relay.phase == Phase.WAITING and exchange.request_ended:
            waited = now - exchange.upstream_since
            if waited > relay.first_byte_timeout:
                detail = "the platform did not begin to answer"
                relay.fail(UpstreamError(Reason.UPSTREAM_FIRST_BYTE_TIMEOUT, detail, status=504))
                return
        if (
            relay is not None
            and relay.bytes_out - exchange.told >= PROGRESS
            and now - exchange.told_at >= PROGRESS_EVERY
        ):
            exchange.told, exchange.told_at = relay.bytes_out, now
            self.gateway.recorder.progress(exchange.id, epoch, relay.bytes_out)
        total = self.limits.request_timeout
        if total and relay is not None and relay.phase < Phase.STREAMING and now - exchange.started > total:
            relay.fail(ClientError(Reason.REQUEST_TIMEOUT, "the request took too long", status=408))
        else:
            self._watch_rate(connection, exchange, now)

    def _watch_rate(self, connection: Connection, exchange: Exchange, now: float) -> None:
        """A client that reads or sends too slowly is cut, once it had its grace (ZT-DOS-07)."""
        limits = self.limits
        if connection.congested:
            moved = connection.sent - connection.transport.get_write_buffer_size()
        elif not exchange.request_ended and not connection.silenced:
            moved = connection.received
        else:
            connection.rate_since = 0.0
            return
        if not connection.rate_since:
            connection.rate_since, connection.rate_bytes = now, moved
        elif now - connection.rate_since >= limits.rate_grace:
            if moved - connection.rate_bytes < limits.minimum_rate * (now - connection.rate_since):
                connection.abort()
            connection.rate_since, connection.rate_bytes = now, moved


def _elsewhere(own: ListenerSettings, settings: WorkerSettings) -> frozenset[str]:
    """Hosts for which another listener, whose port theirs is, asks for certificates: here nobody would have been asked.

    Where ports are mapped on the way this cannot be known; rules for integrations ask for the certificate all the same.
    """
    return frozenset(
        route.host
        for route in settings.routes
        if (port := host_port(route.host)) != own.port
        and any(one.port == port and asked_at(one, host_name(route.host)) for one in settings.listeners)
    )
