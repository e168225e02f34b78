"""WebSocket handshakes by table, frames whole and byte by byte."""

from typing import Any

import pytest

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.worker.wire.ws import FrameFollower, WsViolation, accept_key, check_handshake, close_frame

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
GOOD: dict[str, Any] = {
    "method": b"GET", "version_minor": 1, "upgrade": b"websocket", "connection": b"Upgrade", "key": KEY,
    "ws_version": b"13",
}  # fmt: skip


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = False, rsv: int = 0) -> bytes:
    size = len(payload)
    first = bytes((0x80 * fin | rsv | opcode,))
    bit = 0x80 * mask
    if size < 126:
        head = first + bytes((bit | size,))
    elif size < 65536:
        head = first + bytes((bit | 126,)) + size.to_bytes(2, "big")
    else:
        head = first + bytes((bit | 127,)) + size.to_bytes(8, "big")
    return head + (b"\0\0\0\0" if mask else b"") + payload


def feed_in_pieces(follower: FrameFollower, data: bytes, step: int) -> None:
    for index in range(0, len(data), step):
        follower.feed(data[index : index + step])


def test_the_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("changes", [{}, {"upgrade": b" WebSocket"}, {"connection": b"keep-alive, uPgrade "}])
def test_a_good_handshake_passes(changes: dict[str, Any]) -> None:
    check_handshake(**(GOOD | changes))


@pytest.mark.case("ZT-WS-08")
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"key": None}, 400),
        ({"key": b"short=="}, 400),
        ({"key": KEY + b"\n"}, 400),
        ({"key": b"dGhlIHNhbXBsZSBub25jZR=="}, 400),
        ({"ws_version": b"12"}, 426),
        ({"ws_version": None}, 426),
        ({"connection": None}, 400),
        ({"connection": b"keep-alive"}, 400),
        ({"upgrade": b"h2c"}, 400),
        ({"upgrade": b"websocket, h2c"}, 400),
        ({"method": b"POST"}, 400),
        ({"version_minor": 0}, 400),
        ({"has_body": True}, 400),
    ],
)
def test_a_bad_handshake_is_refused(changes: dict[str, Any], status: int) -> None:
    with pytest.raises(ClientError) as refusal:
        check_handshake(**(GOOD | changes))
    assert (refusal.value.reason, refusal.value.status) == (Reason.UPGRADE_REFUSED, status)


STREAM = [
    frame(1, b"hello"),
    frame(2, b"x" * 126),
    frame(1, b"a", fin=False),
    frame(9, b"ping"),
    frame(0, b"", fin=False),
    frame(0, b"b"),
    frame(2, b"y" * 70_000),
    frame(1, b""),
    frame(8, b"\x03\xe8"),
]


def test_boundaries_are_where_frames_end_whole_and_byte_by_byte() -> None:
    follower = FrameFollower(100_000, masked=False)
    for one in STREAM:
        assert follower.split_at_boundary(one) == len(one)
        assert follower.at_boundary
        assert follower.bytes_until_boundary == 0
    assert follower.closed
    follower = FrameFollower(100_000, masked=False)
    for one in STREAM:
        for index in range(len(one)):
            assert follower.split_at_boundary(one[index : index + 1]) == (1 if index == len(one) - 1 else 0)
            assert follower.at_boundary is (index == len(one) - 1)


def test_the_cut_is_behind_the_last_whole_frame() -> None:
    follower = FrameFollower(1000, masked=False)
    whole = frame(1, b"one") + frame(1, b"two")
    assert follower.split_at_boundary(whole + frame(1, b"three")[:4]) == len(whole)
    assert not follower.at_boundary
    assert follower.bytes_until_boundary == 3
    assert follower.split_at_boundary(b"re") == 0
    assert follower.split_at_boundary(memoryview(b"e" + frame(1, b"")[:1])) == 1
    assert follower.bytes_until_boundary == 1


def test_masked_frames_go_from_client_to_server_only() -> None:
    FrameFollower(10, masked=True).feed(frame(1, b"x", mask=True))
    for masked in (True, False):
        with pytest.raises(WsViolation) as violation:
            FrameFollower(10, masked=masked).feed(frame(1, b"x", mask=not masked))
        assert violation.value.code == 1002


def test_reserved_bits_need_an_extension() -> None:
    FrameFollower(10, masked=False, extensions=True).feed(frame(1, b"x", rsv=0x40))
    with pytest.raises(WsViolation) as violation:
        FrameFollower(10, masked=False).feed(frame(1, b"x", rsv=0x40))
    assert violation.value.code == 1002


@pytest.mark.case("ZT-WS-06")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x7f" + b"\x80" + bytes(7), 1002),
        (b"\x82\x7f" + b"\x40" + bytes(7), 1009),
        (b"\x82\x7f" + (2**30).to_bytes(8, "big"), 1009),
        (frame(1, b"x" * 600, fin=False) + frame(0, b"x" * 600), 1009),
        (frame(1, fin=False) + frame(0, fin=False) * 10_000, 1008),
        (frame(1) * 10_001, 1008),
        (b"\x89\x7e\x00\x7e", 1002),
        (frame(9, fin=False), 1002),
        (frame(3), 1002),
        (frame(11), 1002),
        (frame(0), 1002),
        (frame(1, fin=False) + frame(1), 1002),
        (frame(8) + frame(1), 1002),
    ],
)
def test_a_violation_has_its_close_code_in_any_pieces(data: bytes, code: int) -> None:
    for step in (len(data), 1, 7):
        follower = FrameFollower(1024, masked=False)
        with pytest.raises(WsViolation) as violation:
            feed_in_pieces(follower, data, step)
        assert violation.value.code == code


@pytest.mark.case("ZT-WS-06")
def test_control_frames_do_not_count_as_message_or_as_empty() -> None:
    follower = FrameFollower(3, masked=False)
    follower.feed(frame(1, b"ab", fin=False) + frame(9, b"x" * 125) * 100 + frame(10) * 20_000 + frame(0, b"c"))
    assert follower.at_boundary


def test_a_close_frame_fits_and_is_masked_towards_servers() -> None:
    assert close_frame(1008, "no") == b"\x88\x04\x03\xf0no"
    assert close_frame(4401, "x", mask=b"\x01\x02\x03\x04") == b"\x88\x83\x01\x02\x03\x04" + bytes(
        (0x11 ^ 1, 0x31 ^ 2, 0x78 ^ 3)
    )
    long = close_frame(1000, "é" * 100)
    assert len(long) <= 127
    long[4:].decode()
    for data, masked in ((long, False), (close_frame(1000, "", mask=bytes(4)), True)):
        follower = FrameFollower(0, masked=masked)
        follower.feed(data)
        assert follower.closed
        assert follower.at_boundary
    with pytest.raises(ValueError):
        close_frame(1000, "", mask=b"x")
