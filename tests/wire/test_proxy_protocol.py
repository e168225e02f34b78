"""PROXY protocol headers: whole, byte by byte, with garbage (ZT-NET-01)."""

import socket

import pytest

from zt_proxy.worker.wire.proxy_protocol import ProxyHeaderParser, ProxyResult

HELLO = b"\x16\x03\x01\x02"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = socket.inet_aton("203.0.113.9") + socket.inet_aton("192.0.2.1") + b"\xdc\x04\x01\xbb"
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::9") + socket.inet_pton(socket.AF_INET6, "::1") + b"\xdc\x04\x01\xbb"


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((0x20 | command, family)) + len(body).to_bytes(2, "big") + body


GOOD = [
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n", ("203.0.113.9", 56324)),
    (b"PROXY TCP6 2001:db8::9 ::1 56324 443\r\n", ("2001:db8::9", 56324)),
    (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 443\r\n", ("203.0.113.9", 1)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (v2(1, 0x11, V4), ("203.0.113.9", 0xDC04)),
    (v2(1, 0x21, V6), ("2001:db8::9", 0xDC04)),
    (v2(1, 0x11, V4 + b"\x04\x00\x03abc"), ("203.0.113.9", 0xDC04)),
    (v2(0, 0x00, b""), None),
    (v2(0, 0x11, V4), None),
    (v2(1, 0x00, b"\x04\x00\x00"), None),
    (v2(1, 0x31, bytes(216)), None),
    (v2(1, 0x12, V4), None),
]


@pytest.mark.case("ZT-NET-01")
@pytest.mark.parametrize(("header", "source"), GOOD)
def test_a_header_is_read_whole_and_byte_by_byte(header: bytes, source: tuple[str, int] | None) -> None:
    assert ProxyHeaderParser().feed(header + HELLO) == ProxyResult(source, HELLO)
    parser = ProxyHeaderParser()
    for byte in header[:-1]:
        assert parser.feed(bytes((byte,))) is None
    assert parser.feed(header[-1:]) == ProxyResult(source, b"")


@pytest.mark.case("ZT-NET-01")
@pytest.mark.parametrize(
    "data",
    [
        HELLO,
        b"GET / HTTP/1.1\r\n",
        b"PROXY\t",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 56324\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443 \r\n",
        b"PROXY TCP4  203.0.113.9 192.0.2.1 56324 443\r\n",
        b"PROXY TCP4 ::1 ::1 56324 443\r\n",
        b"PROXY TCP6 203.0.113.9 192.0.2.1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 443\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 01 443\r\n",
        b"PROXY TCP4 203.0.113.\xff 192.0.2.1 1 443\r\n",
        b"PROXY UDP4 203.0.113.9 192.0.2.1 1 443\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY " + b"x" * 101,
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        SIGNATURE + b"\x11\x11\x00\x0c" + V4,
        SIGNATURE + b"\x22\x11\x00\x0c" + V4,
        SIGNATURE + b"\x21\x41\x00\x0c" + V4,
        SIGNATURE + b"\x21\x13\x00\x0c" + V4,
        v2(1, 0x11, V4[:-1]),
        v2(1, 0x21, V4),
        v2(1, 0x31, bytes(215)),
        v2(1, 0x11, bytes(537)),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_anything_else_is_an_error_at_once(data: bytes) -> None:
    with pytest.raises(ValueError):
        ProxyHeaderParser().feed(data)


@pytest.mark.case("ZT-NET-01")
def test_a_truncated_header_gives_nothing() -> None:
    for header, _ in GOOD:
        assert ProxyHeaderParser().feed(header[:-1]) is None
