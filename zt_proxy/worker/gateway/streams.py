"""Open streams: the WebSocket tunnel, and who ends what is still running when an answer changes.

A tunnel passes bytes on as they come and follows the frames among them, so that limits hold and so that a Close frame
of the proxy's own (1008, 4401, 4403) can be put in between two frames of the platform's.
"""

import os
from collections.abc import Collection, Iterable
from typing import Protocol

from zt_proxy.core.errors import Reason
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.upstream.relay import Relay
from zt_proxy.worker.wire.ws import FrameFollower, WsViolation, close_frame

GOING_AWAY = 1001
SESSION_OVER = 4401
FORBIDDEN = 4403

CLOSE_GRACE = 0.5
"""Seconds that a frame which had begun has to end in, before a closing tunnel is cut (ZT-WS-05: within 1 s)."""

CLOSE_CODES = {
    Reason.NO_RULE_MATCHED: FORBIDDEN,
    Reason.RULE_DENIED: FORBIDDEN,
    Reason.ANSWER_NOT_INSPECTABLE: FORBIDDEN,
    Reason.FACT_MISSING: FORBIDDEN,
    Reason.RISK_TOO_HIGH: FORBIDDEN,
    Reason.ACTION_UNKNOWN: FORBIDDEN,
    Reason.JUSTIFICATION_REQUIRED: FORBIDDEN,
    Reason.APPROVAL_REQUIRED: FORBIDDEN,
    Reason.LOCKED: FORBIDDEN,
    Reason.LOCKED_STEP_UP: FORBIDDEN,
    Reason.LOCKED_READ_ONLY: FORBIDDEN,
    Reason.LOCKED_NO_EXPORT: FORBIDDEN,
    Reason.SHUTTING_DOWN: GOING_AWAY,
    Reason.CONTROL_UNAVAILABLE: GOING_AWAY,
}
"""Close code per reason (RFC 6455 §7.4.2, private range); everything else is SESSION_OVER: sign in again."""


class WebSocketTunnel:
    """The two directions of one WebSocket."""

    __slots__ = ("_closing", "_exchange", "_from_client", "_from_upstream", "_relay")
    reads = False

    def __init__(self, exchange: Exchange, relay: Relay, max_message: int, extensions: bool) -> None:
        self._exchange = exchange
        self._relay = relay
        self._from_client = FrameFollower(max_message, masked=True, extensions=extensions)
        self._from_upstream = FrameFollower(max_message, masked=False, extensions=extensions)
        self._closing: bytes | None = None
        relay.raw = self

    def from_client(self, data: bytes) -> None:
        """Bytes of the client; a frame that may not go on ends the tunnel."""
        relay = self._relay
        if self._closing is not None or relay.connection is None:
            return
        relay.bytes_in += len(data)
        try:
            self._from_client.feed(data)
        except WsViolation as violation:
            if violation.boundary:
                relay.connection.transport.write(data[: violation.boundary])
            if not self._from_client.closed:  # behind Close nothing counts any more (RFC 6455 §5.5.1)
                self.close(violation.code, violation.detail)
            return
        relay.connection.transport.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Bytes of the platform. While closing, only the rest of the frame that had begun goes on."""
        relay = self._relay
        relay.bytes_out += len(data)
        connection = self._exchange.connection
        if self._closing is not None:
            self._finish_frame(data, self._closing)
            return
        try:
            self._from_upstream.feed(data)
        except WsViolation as violation:
            if violation.boundary:
                connection.write(data[: violation.boundary])
            if not self._from_upstream.closed:
                self.close(violation.code, violation.detail)
            return
        connection.write(data)
        if connection.congested and relay.connection is not None:
            relay.connection.transport.pause_reading()

    def _finish_frame(self, data: bytes, closing: bytes) -> None:
        """The rest of the frame that had begun, then our Close; frames behind it are dropped."""
        follower = self._from_upstream
        position = 0
        try:
            while position < len(data) and not follower.at_boundary:
                step = follower.bytes_until_boundary
                follower.feed(data[position : position + step])
                position += step
        except WsViolation:
            self._exchange.connection.abort()
            return
        if follower.at_boundary:
            self._exchange.connection.write(data[:position] + closing)
            self._end()
        else:
            self._exchange.connection.write(data)

    def client_writable(self, writable: bool) -> None:
        self._relay.client_writable(writable)

    def client_gone(self) -> None:
        """The client's connection ended: end the platform's."""
        self._relay.cancel()

    def close(self, code: int, reason: str) -> None:
        """End both sides with a Close frame. In the middle of a platform's frame, the rest of it goes first."""
        if self._closing is not None or self._exchange.done:
            return
        upstream = self._relay.connection
        if upstream is not None and self._may_be_told():
            upstream.transport.write(close_frame(GOING_AWAY, "", mask=os.urandom(4)))
        frame = close_frame(code, reason)
        if self._from_upstream.at_boundary:
            if not self._from_upstream.closed:
                self._exchange.connection.write(frame)
            self._end()
        else:
            self._closing = frame
            self._exchange.connection.end_within(CLOSE_GRACE)

    def _may_be_told(self) -> bool:
        """A Close frame to the platform would stand between two frames, and be the first."""
        return self._from_client.at_boundary and not self._from_client.closed

    @property
    def closing(self) -> bool:
        """A Close frame waits for the end of a frame of the platform's."""
        return self._closing is not None

    def _end(self) -> None:
        self._relay.end_tunnel()


class StillAllowed(Protocol):
    """Decides an open stream again."""

    def still_allowed(self, exchange: Exchange) -> Reason | None: ...


def cut(exchange: Exchange, reason: Reason) -> None:
    """End what is still running of an exchange: a WebSocket with a Close frame, anything else by closing its bytes."""
    if exchange.done:
        return
    if exchange.tunnel is not None:
        exchange.tunnel.close(CLOSE_CODES.get(reason, SESSION_OVER), reason.value)
    elif exchange.relay is not None:
        exchange.connection.abort()  # first, or a request that came behind this one would get its turn
        exchange.relay.cancel(reason)


def recheck(exchanges: Iterable[Exchange], gateway: StillAllowed) -> None:
    """Cut every stream whose answer turned."""
    for exchange in list(exchanges):
        reason = gateway.still_allowed(exchange)
        if reason is not None:
            cut(exchange, reason)


def cut_sessions(exchanges: Iterable[Exchange], sids: Collection[str], reason: Reason) -> None:
    """Cut every stream of these sessions; none given means of every session.

    What goes to the portal is not cut: a sign-out or a new sign-in ends the session that asked for it.
    """
    for exchange in list(exchanges):
        entry = exchange.session
        if entry is not None and exchange.route is not None and (not sids or entry.session.sid in sids):
            cut(exchange, reason)


def cut_machines(exchanges: Iterable[Exchange], reason: Reason) -> None:
    """Cut every stream of an integration."""
    for exchange in list(exchanges):
        if exchange.machine is not None:
            cut(exchange, reason)
