"""Messages on a stream of bytes: each a length (4 bytes, big-endian) and one msgpack value.

A stream may be split and glued anywhere. What is longer than agreed, or is not a message, ends the connection: there is
no way to find the next frame, and a peer that sends garbage is not one of ours.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import structlog

_LENGTH = 4
_CREDENTIALS = struct.Struct("3i")
_ENCODER = msgspec.msgpack.Encoder()

SOCKET = "link.sock"
"""Name of the link's socket in the runtime directory."""
OUTBOX = 20 * 1024 * 1024
"""Bytes that may wait for a peer that reads nothing, before it is cut: the largest revocation list and the largest kept
form, or the largest frame, and answers beside them."""

NO_MESSAGE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that are none of the messages it knows."""

log = structlog.get_logger("zt_proxy.link")


class BadFrame(Exception):
    """The peer sent something that is no message."""


def frame(message: msgspec.Struct) -> bytes:
    """A message with its length before it."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(_LENGTH, "big") + body


class FrameReader:
    """Bytes in, bodies of frames out. Holds at most one frame of `limit` bytes, and what came glued to it."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are whole now, in order; iterate to the end. Raises BadFrame for one that is too long."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _LENGTH:
                length = int.from_bytes(buffer[start : start + _LENGTH], "big")
                if not 0 < length <= self._limit:
                    raise BadFrame(f"a frame of {length} bytes")
                end = start + _LENGTH + length
                if len(buffer) < end:
                    break
                body = bytes(buffer[start + _LENGTH : end])
                start = end
                yield body
        finally:
            del buffer[:start]


class Wire(asyncio.Protocol):
    """One connection of the link. A subclass says what a message means in `received` and what a loss in `lost`."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any], limit: int) -> None:
        self._decoder = decoder
        self._reader = FrameReader(limit)
        self.transport: asyncio.Transport | None = None
        self.pid = 0
        self.paused = False

    # what a subclass says

    def opened(self) -> None:
        """The peer is of this user; messages will come."""

    def received(self, message: Any) -> None:
        """Raises BadFrame for a message that has no place here."""
        raise NotImplementedError

    def batch_ended(self) -> None:
        """What came in one piece has been received."""

    def lost(self) -> None:
        """The connection is gone."""

    # what it uses

    def send(self, message: msgspec.Struct) -> None:
        """Never waits. A peer that lets too much pile up is cut."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > OUTBOX:
            self.cut("it reads nothing")
            return
        transport.write(frame(message))

    def cut(self, why: str) -> None:
        """End the connection now, without sending what waits."""
        if self.transport is not None and not self.transport.is_closing():
            log.warning("link cut", pid=self.pid, why=why)
            self.transport.abort()

    def close(self) -> None:
        """End the connection after what waits has been sent."""
        if self.transport is not None:
            self.transport.close()

    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.pid, uid = _credentials(self.transport)
        if uid != os.geteuid():
            self.cut(f"the user {uid} has no business here")
            return
        self.opened()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                if not self.open():
                    return
                self.received(self._decoder.decode(body))
        except BadFrame as error:
            self.cut(str(error))
        except NO_MESSAGE as error:
            self.cut(f"not a message: {type(error).__name__}")  # without the text: it may quote a key
        except Exception:
            log.exception("a message cannot be handled", pid=self.pid)
            self.cut("a message cannot be handled")
        else:
            self.batch_ended()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost()


def _credentials(transport: asyncio.Transport) -> tuple[int, int]:
    """Process and user at the other end, as the kernel knows them (SO_PEERCRED, unix(7))."""
    peer = transport.get_extra_info("socket")
    pid, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid
