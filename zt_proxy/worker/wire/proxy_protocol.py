"""PROXY protocol v1 and v2, as the balancer sends it before the TLS ClientHello (ZT-NET-01).

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (§2.1 v1, §2.2 v2). Whether the peer may send one at
all is the listener's to decide, before anything is fed here.
"""

from ipaddress import IPv4Address, IPv6Address

import msgspec

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_LONGEST = 107
_V2_LONGEST = 536
"""Of what follows the 16 fixed bytes: two unix addresses (216) and room for TLVs, which are skipped."""
_V2_ADDRESSES = {1: 4, 2: 16}


class ProxyResult(msgspec.Struct, frozen=True):
    """Who connected to the balancer. `source` is None for LOCAL and UNKNOWN: then the socket's peer counts."""

    source: tuple[str, int] | None
    rest: bytes
    """Bytes behind the header: the beginning of the TLS handshake."""


class ProxyHeaderParser:
    """Fed with the first bytes of a connection until it gives a result; holds at most 552 bytes of its own."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> ProxyResult | None:
        """None while more is needed. Raises ValueError as soon as the bytes cannot become a header any more."""
        buffer = self._buffer = self._buffer + data
        if buffer.startswith(_V2):
            return _parse_v2(buffer)
        if buffer.startswith(_V1):
            return _parse_v1(buffer)
        if not _V2.startswith(buffer) and not _V1.startswith(buffer):
            raise ValueError("no PROXY protocol header")
        return None


def _parse_v1(buffer: bytes) -> ProxyResult | None:
    end = buffer.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(buffer) >= _V1_LONGEST:
            raise ValueError("PROXY v1 header too long")
        return None
    words = buffer[:end].split(b" ")
    rest = buffer[end + 2 :]
    if words[1:2] == [b"UNKNOWN"]:
        return ProxyResult(None, rest)
    if len(words) != 6 or words[1] not in {b"TCP4", b"TCP6"}:
        raise ValueError("malformed PROXY v1 header")
    make = IPv4Address if words[1] == b"TCP4" else IPv6Address
    source, destination = make(words[2].decode("ascii")), make(words[3].decode("ascii"))
    if "%" in str(source) or "%" in str(destination):
        raise ValueError("an address with a zone in a PROXY v1 header")
    port = _port(words[4])
    _port(words[5])
    return ProxyResult((_text(source), port), rest)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (len(word) > 1 and word.startswith(b"0")) or int(word) > 65535:
        raise ValueError("malformed port in a PROXY v1 header")
    return int(word)


def _parse_v2(buffer: bytes) -> ProxyResult | None:
    if len(buffer) < 16:
        return None
    version, command = buffer[12] >> 4, buffer[12] & 15
    family, transport = buffer[13] >> 4, buffer[13] & 15
    length = int.from_bytes(buffer[14:16], "big")
    if version != 2 or command > 1 or family > 3 or transport > 2:
        raise ValueError("malformed PROXY v2 header")
    if length > _V2_LONGEST:
        raise ValueError("PROXY v2 header too long")
    width = _V2_ADDRESSES.get(family, 0)
    if command == 1 and length < (216 if family == 3 else 2 * width + 4 * bool(width)):
        raise ValueError("PROXY v2 header too short for its addresses")
    if len(buffer) < 16 + length:
        return None
    rest = buffer[16 + length :]
    if command == 0 or not width or transport != 1:
        return ProxyResult(None, rest)
    raw = buffer[16 : 16 + width]
    port = int.from_bytes(buffer[16 + 2 * width : 18 + 2 * width], "big")
    return ProxyResult((_text(IPv4Address(raw) if width == 4 else IPv6Address(raw)), port), rest)


def _text(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
