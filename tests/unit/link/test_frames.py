import asyncio
import contextlib
import socket

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zt_proxy.link.frames import NO_MESSAGE, BadFrame, FrameReader, Wire, frame
from zt_proxy.link.messages import (
    UP_BYTES,
    Activity,
    Applied,
    Beat,
    Down,
    Hello,
    IdleNote,
    Invalidation,
    Lookup,
    Reply,
    SigningKey,
    Up,
)

_UP = msgspec.msgpack.Decoder(Up)
_MESSAGES = st.one_of(
    st.builds(Beat, st.floats(allow_nan=False)),
    st.builds(Applied, st.integers(0, 2**63 - 1)),
    st.builds(Lookup, st.integers(0, 2**63 - 1), st.binary(max_size=64), st.text(max_size=30)),
    st.builds(Activity, st.dictionaries(st.text(max_size=10), st.floats(allow_nan=False), max_size=20)),
    st.builds(IdleNote, st.text(max_size=10), st.text(max_size=10), st.floats(allow_nan=False)),
    st.builds(Reply, st.integers(0, 1000), st.binary(max_size=2000), st.text(max_size=10)),
    st.builds(Hello, st.just(1), st.integers(0, 99), st.text(max_size=10), st.floats(allow_nan=False)),
)


@given(st.lists(_MESSAGES, max_size=12), st.lists(st.integers(1, 700), min_size=1, max_size=50))
def test_frames_come_out_whole_and_in_order_however_they_are_split_and_glued(
    messages: list[Up], cuts: list[int]
) -> None:
    stream = b"".join(map(frame, messages))
    reader = FrameReader(UP_BYTES)
    found, place, turn = [], 0, 0
    while place < len(stream):
        step = cuts[turn % len(cuts)]
        found += [_UP.decode(body) for body in reader.feed(stream[place : place + step])]
        place += step
        turn += 1
    assert found == messages


@given(st.binary(max_size=300), st.integers(1, 64))
def test_whatever_comes_the_reader_holds_no_more_than_one_frame(data: bytes, limit: int) -> None:
    reader = FrameReader(limit)
    try:
        for byte in data:
            for body in reader.feed(bytes((byte,))):
                assert 0 < len(body) <= limit
            assert len(reader._buffer) <= limit + 4
    except BadFrame:
        pass


@pytest.mark.parametrize("length", [0, 11, 2**31, 2**32 - 1])
def test_a_frame_without_or_beyond_the_agreed_length_is_refused_before_its_body_comes(length: int) -> None:
    with pytest.raises(BadFrame):
        list(FrameReader(10).feed(length.to_bytes(4, "big")))


@given(st.binary(max_size=200))
@example(b"\x92\xa6Beat\xff\xff\x01")
@example(b"\x91" * 100_000)
@example(msgspec.msgpack.encode(["Lookup", 1, b"", 5]))
def test_bytes_that_are_no_message_raise_what_a_wire_expects(data: bytes) -> None:
    for decoder in (_UP, msgspec.msgpack.Decoder(Down)):
        with contextlib.suppress(*NO_MESSAGE):
            decoder.decode(data)


def test_a_key_is_not_shown_by_any_message() -> None:
    assert "secret" not in repr(SigningKey("k", b"secret"))


async def test_what_has_no_place_on_the_wire_ends_the_connection() -> None:
    class Heard(Wire):
        def __init__(self) -> None:
            super().__init__(_UP, UP_BYTES)
            self.messages: list[Up] = []
            self.gone = asyncio.Event()

        def received(self, message: Up) -> None:
            self.messages.append(message)

        def lost(self) -> None:
            self.gone.set()

    here, there = socket.socketpair()
    there.setblocking(False)
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(Heard, sock=here)
    good = frame(Beat(1.0))
    wrong = frame(Invalidation(1, "s", "a message of the other direction"))
    await loop.sock_sendall(there, good + good[:3])
    await loop.sock_sendall(there, good[3:] + wrong + good)
    await asyncio.wait_for(wire.gone.wait(), 5)
    assert wire.messages == [Beat(1.0), Beat(1.0)]
    there.close()
