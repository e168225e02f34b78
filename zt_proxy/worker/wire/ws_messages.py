"""Whole messages out of a client's WebSocket frames, for routes whose profile reads messages.

What is handed on is what was read: a message in several frames goes on as one frame, so that nobody behind can put it
together in another way. Nothing of a message goes on before all of it is here; control frames overtake it. No extension
may have been agreed on: the gateway takes Sec-WebSocket-Extensions out of such a handshake (RFC 6455 §5.4, §9).
"""

from typing import NamedTuple

from zt_proxy.worker.wire.ws import FrameFollower, WsViolation

TEXT = 1
CLOSE = 8
BAD_TEXT = 1007


class Message(NamedTuple):
    """One message of a client."""

    text: bool
    payload: bytes
    raw: bytes
    """The one frame in which it goes on: masked, whole."""


class MessageAssembler:
    """Collects the frames of a client. Give it every byte that came, in order, in pieces of any size.

    It holds at most one message and the beginning of a control frame, besides the piece that it is given.
    """

    __slots__ = ("_begun", "_follower", "_held", "_mask", "_whole", "closed", "violation")

    def __init__(self, max_message: int) -> None:
        """`max_message` in bytes, over all fragments."""
        self._follower = FrameFollower(max_message, masked=True)
        self._held = bytearray()
        self._whole = bytearray()
        self._begun = 0
        self._mask = b""
        self.closed = False
        """A Close frame was given out; nothing comes behind it (RFC 6455 §5.5.1)."""
        self.violation: WsViolation | None = None
        """Why the stream is over, after `feed` gave out what stood before: close with its code and detail."""

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their message."""
        return len(self._held) + len(self._whole)

    def feed(self, data: bytes) -> list[Message | bytes]:
        """Messages that are complete now, and control frames as they came, in the order to send them.

        After a violation it gives nothing more.
        """
        if self.violation is not None:
            return []
        try:
            self._follower.feed(data)
        except WsViolation as violation:
            self.violation = violation
            if not violation.boundary:
                return []
            data = data[: violation.boundary]
        self._held += data
        given: list[Message | bytes] = []
        try:
            self._take(given)
        except WsViolation as violation:
            self.violation = violation
        return given

    def _take(self, given: list[Message | bytes]) -> None:
        """Take every whole frame off the front of what is held. The follower has found each of them well-formed."""
        held = self._held
        start = 0
        while len(held) - start >= 2:
            size = held[start + 1] & 0x7F
            header = start + (2, 4, 10)[max(size - 125, 0)]
            if size > 125:
                if len(held) < header:
                    break
                size = int.from_bytes(held[start + 2 : header], "big")
            end = header + 4 + size
            if len(held) < end:
                break
            frame = bytes(held[start:end])
            start = end
            self._frame(frame, header + 4 - (end - len(frame)), given)
        del held[:start]

    def _frame(self, frame: bytes, payload_at: int, given: list[Message | bytes]) -> None:
        opcode = frame[0] & 0x0F
        if opcode >= CLOSE:
            self.closed = self.closed or opcode == CLOSE
            given.append(frame)
            return
        mask = frame[payload_at - 4 : payload_at]
        payload = masked(frame[payload_at:], mask)
        final = frame[0] & 0x80
        if opcode:
            if final:
                given.append(_message(opcode == TEXT, payload, frame))
                return
            self._begun, self._mask = opcode, mask
        self._whole += payload
        if final:
            whole = bytes(self._whole)
            self._whole = bytearray()
            given.append(_message(self._begun == TEXT, whole, _one_frame(self._begun, whole, self._mask)))


def _message(text: bool, payload: bytes, raw: bytes) -> Message:
    if text:
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise WsViolation(BAD_TEXT, "a text message that is not UTF-8") from None
    return Message(text, payload, raw)


def masked(payload: bytes, mask: bytes) -> bytes:
    """Mask or unmask a payload (RFC 6455 §5.3)."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def _one_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 1 << 16:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes((0x80 | opcode,)) + length + mask + masked(payload, mask)
