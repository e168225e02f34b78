"""What a ClientHello offers, read from its bytes before any TLS library judges them (RFC 8446 §4.1.2)."""

HANDSHAKE = 22
CLIENT_HELLO = 1
SUPPORTED_VERSIONS = 43
TLS_1_3 = b"\x03\x04"


def offers_tls13(hello: bytes) -> bool:
    """Whether the client offers TLS 1.3. False in any doubt: bytes that are no ClientHello offer nothing."""
    try:
        return _offers(_handshake(hello))
    except (IndexError, ValueError):
        return False


class _Reader:
    """Takes lengths and bytes from the front. Raises ValueError when there are too few."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError("too short")
        self._at += count
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def left(self) -> bool:
        return self._at < len(self._data)


def _handshake(records: bytes) -> bytes:
    """The first handshake message, put together from as many records as it came in (RFC 8446 §5.1)."""
    reader = _Reader(records)
    message = b""
    while True:
        if reader.number(1) != HANDSHAKE:
            raise ValueError("not a handshake")
        reader.take(2)
        message += reader.take(reader.number(2))
        if len(message) >= 4 and len(message) - 4 >= int.from_bytes(message[1:4], "big"):
            return message


def _offers(message: bytes) -> bool:
    reader = _Reader(message)
    if reader.number(1) != CLIENT_HELLO:
        return False
    reader = _Reader(reader.take(reader.number(3)))
    reader.take(2 + 32)  # the frozen version, the random
    reader.take(reader.number(1))  # session id
    reader.take(reader.number(2))  # cipher suites
    reader.take(reader.number(1))  # compression methods
    if not reader.left():
        return False
    extensions = _Reader(reader.take(reader.number(2)))
    while extensions.left():
        kind = extensions.number(2)
        body = extensions.take(extensions.number(2))
        if kind == SUPPORTED_VERSIONS:
            versions = body[1 : 1 + body[0]]
            return TLS_1_3 in (versions[at : at + 2] for at in range(0, len(versions), 2))
    return False
