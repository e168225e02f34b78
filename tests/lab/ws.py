"""WebSocket by hand: frames, a strict echo platform, and a client that reports what it was told.

async with ProxyLab(upstream=EchoPlatform()) as lab:
    client = await open_websocket(lab, cookie)
    await client.write(frame(TEXT, b"hello"))
    assert await read_frame(client.reader) == Frame(TEXT, b"hello")
"""

import asyncio
import base64
import codecs
import hashlib
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.lab.proxy import APP, Client, ProxyLab
from tests.lab.upstream import RecordingUpstream, Seen

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"
HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
)
OWN_ORIGIN = b"Origin: https://app.test\r\n"


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A frame, by default as a client sends it."""
    return header(opcode, len(payload), fin=fin, rsv=rsv, masked=masked) + (unmask(payload) if masked else payload)


def header(opcode: int, size: int, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """The header of a frame whose payload has `size` bytes, its mask included."""
    bit = 0x80 if masked else 0
    if size < 126:
        length = bytes((bit | size,))
    elif size < 65536:
        length = bytes((bit | 126,)) + struct.pack(">H", size)
    else:
        length = bytes((bit | 127,)) + struct.pack(">Q", size)
    return bytes((fin << 7 | rsv << 4 | opcode,)) + length + (MASK if masked else b"")


def unmask(payload: bytes, mask: bytes = MASK) -> bytes:
    """Masking is its own inverse (RFC 6455 §5.3)."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame; payload is unmasked if it was masked. Raises IncompleteReadError at the end."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    mask = await reader.readexactly(4) if second & 0x80 else b""
    payload = await reader.readexactly(size)
    return Frame(first & 0x0F, unmask(payload, mask) if mask else payload, bool(first & 0x80), first >> 4 & 7)


async def remaining_frames(reader: asyncio.StreamReader) -> list[Frame]:
    """Every frame until the connection ends."""
    frames: list[Frame] = []
    async with asyncio.timeout(20):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frames.append(await read_frame(reader))
    return frames


def close_code(last: Frame) -> int:
    assert last.opcode == CLOSE, last
    return int.from_bytes(last.payload[:2], "big")


def accept(key: bytes) -> bytes:
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    return base64.b64encode(digest)


def handshake(cookie: bytes | None = None, extra: bytes = OWN_ORIGIN, path: str = "/ws") -> bytes:
    line = b"Cookie: %b\r\n" % cookie if cookie else b""
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n" % (path.encode(), APP.encode()) + HANDSHAKE + line + extra + b"\r\n"


async def open_websocket(lab: ProxyLab, cookie: bytes | None, extra: bytes = OWN_ORIGIN) -> Client:
    """A WebSocket through the proxy. Fails unless it is agreed to."""
    client = await lab.connect()
    await client.write(handshake(cookie, extra))
    reply = await client.reply()
    assert reply.status == 101, reply
    assert reply.header("sec-websocket-accept") == accept(KEY).decode()
    return client


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


@dataclass
class EchoPlatform(RecordingUpstream):
    """Sends every message back, and is as strict as RFC 6455 asks."""

    extensions: bytes = b""
    """Value of Sec-WebSocket-Extensions that it agrees to."""
    early: bytes = b""
    """Bytes sent in the same piece as the 101."""
    frames: list[Frame] = field(default_factory=list)
    ended: int = 0
    """Connections that are over."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            request = await self._read(reader, self.connections)
            async with self._arrived:
                self.seen.append(request)
                self._arrived.notify_all()
            writer.write(self._agree(request) + self.early)
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            self._writers.discard(writer)
            writer.close()

    def _agree(self, request: Seen) -> bytes:
        key = request.header(b"sec-websocket-key") or b""
        line = b"Sec-WebSocket-Extensions: %b\r\n" % self.extensions if self.extensions else b""
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept(key), line)
        )

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Echo until Close or a violation, which is answered with its code."""
        message: list[bytes] = []
        opcode = 0
        decoder = codecs.getincrementaldecoder("utf-8")("strict")
        while True:
            try:
                got = await self._checked(reader, opcode)
                self.frames.append(got)
                if got.opcode == CLOSE:
                    writer.write(frame(CLOSE, _close_answer(got.payload), masked=False))
                    await writer.drain()
                    return
                if got.opcode == PING:
                    writer.write(frame(PONG, got.payload, masked=False))
                elif got.opcode < 8:
                    opcode = got.opcode or opcode
                    message.append(got.payload)
                    if opcode == TEXT and not self.extensions:
                        _decode(decoder, got.payload, got.fin)
                    if got.fin:
                        rsv = got.rsv if len(message) == 1 else 0
                        writer.write(frame(opcode, b"".join(message), rsv=rsv, masked=False))
                        message, opcode = [], 0
                        decoder.reset()
                await writer.drain()
            except _Refused as refused:
                writer.write(frame(CLOSE, refused.code.to_bytes(2, "big"), masked=False))
                await writer.drain()
                return

    async def _checked(self, reader: asyncio.StreamReader, opcode: int) -> Frame:
        got = await self._peeked(reader)
        fragmented = bool(opcode)
        if got.rsv and not self.extensions:
            raise _Refused(1002)
        if got.opcode in {TEXT, BINARY} and fragmented:
            raise _Refused(1002)
        if got.opcode == CONTINUATION and not fragmented:
            raise _Refused(1002)
        return got

    async def _peeked(self, reader: asyncio.StreamReader) -> Frame:
        first, second = await reader.readexactly(2)
        opcode, size = first & 15, second & 127
        if opcode not in {0, 1, 2, 8, 9, 10} or not second & 0x80:
            raise _Refused(1002)
        if opcode >= 8 and (size > 125 or not first & 0x80):
            raise _Refused(1002)
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await reader.readexactly(8), "big")
        if size >> 63:
            raise _Refused(1002)
        mask = await reader.readexactly(4)
        payload = unmask(await reader.readexactly(size), mask)
        return Frame(opcode, payload, bool(first & 0x80), first >> 4 & 7)


def _decode(decoder: codecs.IncrementalDecoder, payload: bytes, final: bool) -> None:
    try:
        decoder.decode(payload, final)
    except UnicodeDecodeError:
        raise _Refused(1007) from None


def _close_answer(payload: bytes) -> bytes:
    """RFC 6455 §7.4: which codes may be sent."""
    if not payload:
        return b""
    code = int.from_bytes(payload[:2], "big")
    usable = 1000 <= code <= 1014 and code not in {1004, 1005, 1006}
    if len(payload) == 1 or not (usable or 3000 <= code <= 4999):
        raise _Refused(1002)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise _Refused(1007) from None
    return payload[:2]


def lab_with_echo(**more: Any) -> ProxyLab:
    """A proxy before an echo platform."""
    return ProxyLab(upstream=EchoPlatform(), **more)
