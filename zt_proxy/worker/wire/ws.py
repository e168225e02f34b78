"""WebSocket: the handshake's terms, and frame boundaries in a relayed stream (RFC 6455; ZT-WS-06, ZT-WS-08).

The relay passes bytes on as they come. A follower per direction reads the frame headers among them, so that limits hold
and a Close frame of the proxy's own can be put in between two frames; payload is skipped by count, never unmasked.
"""

import hashlib
import re
from base64 import b64encode

from zt_proxy.core.errors import ClientError, Reason

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in base64, RFC 6455 §4.1
_EMPTY_FRAMES = 10_000
"""Data frames without payload in a row before a stream is a flood: they cost the reader and carry nothing."""

_WHOLE_MESSAGES = frozenset((0x81, 0x82))
PROTOCOL_ERROR = 1002
POLICY_VIOLATION = 1008
TOO_BIG = 1009


class WsViolation(Exception):
    """A frame that breaks RFC 6455 or a limit; `code` is the close code to answer with.

    `boundary` is where the last good frame in the piece ends: what stands before it may still go on.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.boundary = 0


def check_handshake(
    method: bytes, version_minor: int, upgrade: bytes | None, connection: bytes | None,
    key: bytes | None, ws_version: bytes | None, *, has_body: bool = False,
) -> None:  # fmt: skip
    """Hold an opening handshake against RFC 6455 §4.2.1; field values are raw, None where missing or repeated.

    `connection` is the whole list. Raises ClientError(UPGRADE_REFUSED): 426 for another version of the protocol (answer
    with Sec-WebSocket-Version: 13), 400 for the rest.
    """
    if upgrade is None or upgrade.strip(b" \t").lower() != b"websocket":
        raise _refused("Upgrade does not name websocket alone")
    if connection is None or b"upgrade" not in {word.strip(b" \t") for word in connection.lower().split(b",")}:
        raise _refused("Connection does not name upgrade")
    if method != b"GET" or version_minor != 1 or has_body:
        raise _refused("not a GET of HTTP/1.1 without a body")
    if key is None or not _KEY.fullmatch(key):
        raise _refused("Sec-WebSocket-Key is not sixteen bytes in base64")
    if ws_version != b"13":
        raise _refused("Sec-WebSocket-Version is not 13", 426)


def _refused(detail: str, status: int = 400) -> ClientError:
    return ClientError(Reason.UPGRADE_REFUSED, detail, status=status)


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 §4.2.2)."""
    return b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


class FrameFollower:
    """Follows the frames of one direction. Give it every byte that passes, in order, in pieces of any size."""

    __slots__ = (
        "_empty_frames", "_extensions", "_final", "_fragmented", "_header", "_left", "_masked", "_max", "_message",
        "closed",
    )  # fmt: skip

    def __init__(self, max_message: int, *, masked: bool, extensions: bool = False) -> None:
        """`max_message` bytes over all fragments (as sent: compressed if so); `masked` is True from client to server.

        `extensions`: the handshake agreed on one, so RSV bits may be set (RFC 6455 §5.2).
        """
        self._max = max_message
        self._masked = 0x80 if masked else 0
        self._extensions = extensions
        self._header = b""
        self._left = 0
        self._message = 0
        self._fragmented = False
        self._final = True
        self._empty_frames = 0
        self.closed = False
        """A Close frame went by; no frame may follow it (RFC 6455 §5.5.1)."""

    @property
    def at_boundary(self) -> bool:
        """Between two frames: a control frame may be put in here, also inside a fragmented message."""
        return not self._left and not self._header

    @property
    def bytes_until_boundary(self) -> int:
        """How many bytes the current frame still has, at least; 0 at a boundary."""
        return self._left + (max(2 - len(self._header), 1) if self._header else 0)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Raises WsViolation at the first frame that must not go on; then the stream is over."""
        self.split_at_boundary(data)

    def split_at_boundary(self, data: bytes | bytearray | memoryview) -> int:
        """Like `feed`; gives the index behind the last frame that ends in `data` (0 if none does).

        What stands before it completes a frame, so a Close may be put in there; the rest is the beginning of one.
        """
        end = len(data)
        position = boundary = 0
        try:
            while position < end:
                if self._left:
                    step = min(self._left, end - position)
                    self._left -= step
                    position += step
                elif self._short_frame(data, position, end):
                    position += 6 if self._masked else 2
                else:
                    position = self._read_header(data, position, end)
                    if self._header:
                        break
                if not self._left:
                    boundary = position
        except WsViolation as violation:
            violation.boundary = boundary
            raise
        return boundary

    def _short_frame(self, data: bytes | bytearray | memoryview, position: int, end: int) -> bool:
        """The commonest header, a whole text or binary message of 1 to 125 bytes, without the careful reading."""
        if self._header or position + 6 > end or self._fragmented or self.closed:
            return False
        size = data[position + 1] ^ self._masked
        if data[position] not in _WHOLE_MESSAGES or not 0 < size < 126 or size > self._max:
            return False
        self._left = size
        self._empty_frames = 0
        return True

    def _read_header(self, data: bytes | bytearray | memoryview, position: int, end: int) -> int:
        """Take in a frame header, which may come in pieces; sets `_left` and gives the position behind it."""
        held = len(self._header)
        head = self._header + bytes(data[position : min(end, position + 14 - held)])
        need = 2
        if len(head) >= 2:
            self._check_opening(head[0], head[1])
            size = head[1] & 0x7F
            need += (0, 2, 8)[max(size - 125, 0)] + (4 if self._masked else 0)
        if len(head) < need:
            self._header = head
            return end
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(head[2:4], "big")
        elif size == 127:
            size = int.from_bytes(head[2:10], "big")
        self._header = b""
        self._begin_frame(head[0], size)
        return position + need - held

    def _check_opening(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if second & 0x80 != self._masked:
            raise WsViolation(PROTOCOL_ERROR, "a frame without mask" if self._masked else "a masked frame")
        if first & 0x70 and not self._extensions:
            raise WsViolation(PROTOCOL_ERROR, "a reserved bit without an extension")
        if self.closed:
            raise WsViolation(PROTOCOL_ERROR, "a frame behind Close")
        if opcode >= 8:
            if opcode > 10:
                raise WsViolation(PROTOCOL_ERROR, "a reserved opcode")
            if not first & 0x80 or second & 0x7F > 125:
                raise WsViolation(PROTOCOL_ERROR, "a control frame in fragments or longer than 125 bytes")
        elif opcode > 2:
            raise WsViolation(PROTOCOL_ERROR, "a reserved opcode")
        elif (opcode == 0) != self._fragmented:
            raise WsViolation(PROTOCOL_ERROR, "a fragment out of turn")

    def _begin_frame(self, first: int, size: int) -> None:
        if size >> 63:
            raise WsViolation(PROTOCOL_ERROR, "a length with its highest bit set")
        opcode = first & 0x0F
        if opcode >= 8:
            self.closed = opcode == 8
        else:
            self._message = size if opcode else self._message + size
            if self._message > self._max:
                raise WsViolation(TOO_BIG, "a message above the limit")
            self._fragmented = not first & 0x80
            self._empty_frames = 0 if size else self._empty_frames + 1
            if self._empty_frames > _EMPTY_FRAMES:
                raise WsViolation(POLICY_VIOLATION, "a flood of empty frames")
        self._left = size


def close_frame(code: int, reason: str, *, mask: bytes | None = None) -> bytes:
    """A Close frame; `mask` is four random bytes towards a server, None towards a client.

    The reason is cut at a character so that it fits 123 bytes of UTF-8. Raises ValueError for a mask of another length.
    """
    payload = code.to_bytes(2, "big") + reason.encode()[:123].decode(errors="ignore").encode()
    if mask is None:
        return bytes((0x88, len(payload))) + payload
    if len(mask) != 4:
        raise ValueError("a mask has four bytes")
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((0x88, 0x80 | len(payload))) + mask + masked
