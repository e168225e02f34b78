"""A client's messages put together from its frames, in whatever pieces the bytes come."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.worker.wire.ws_messages import Message, MessageAssembler, masked

MASK = b"\x01\xfe\x7f\x20"


def frame(opcode, payload=b"", *, fin=True, mask=MASK):
    size = len(payload)
    first = bytes((opcode | (0x80 if fin else 0),))
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return first + length + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def fed(data, limit=1 << 20):
    assembler = MessageAssembler(limit)
    return assembler, assembler.feed(data)


@st.composite
def conversations(draw):
    """What a client says, and the frames it says it in: [(is text, payload) or control frame], bytes."""
    said, sent = [], b""
    for _ in range(draw(st.integers(0, 5))):
        text = draw(st.booleans())
        payload = draw(st.text(max_size=40).map(str.encode) if text else st.binary(max_size=300))
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for index, part in enumerate(parts):
            opcode = 0 if index else (1 if text else 2)
            sent += frame(opcode, part, fin=index == len(parts) - 1, mask=draw(st.binary(min_size=4, max_size=4)))
            if draw(st.booleans()):
                control = frame(draw(st.sampled_from((9, 10))), draw(st.binary(max_size=125)))
                sent += control
                said.append(control)
        said.append((text, payload))
    return said, sent


def pieces(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(conversations(), st.lists(st.integers(0, 5000), max_size=8))
def test_every_message_comes_out_whole_in_order_and_goes_on_as_what_was_read(conversation, cuts):
    said, sent = conversation
    assembler = MessageAssembler(4096)
    given_out = [item for piece in pieces(sent, cuts) for item in assembler.feed(piece)]
    assert assembler.violation is None
    messages = [item for item in given_out if isinstance(item, Message)]
    assert [(message.text, message.payload) for message in messages] == [
        item for item in said if isinstance(item, tuple)
    ]
    assert [item for item in given_out if isinstance(item, bytes)] == [item for item in said if isinstance(item, bytes)]
    for message in messages:
        assert fed(message.raw)[1] == [message]


@given(st.binary(max_size=4000), st.lists(st.integers(0, 4000), max_size=6))
def test_any_bytes_in_any_pieces_give_the_same_and_never_more_than_was_sent(data, cuts):
    at_once, whole = fed(data, 512)
    assembler = MessageAssembler(512)
    given_out = [item for piece in pieces(data, cuts) for item in assembler.feed(piece)]
    assert given_out == whole
    assert (assembler.violation is None) == (at_once.violation is None)
    assert sum(len(item.raw) if isinstance(item, Message) else len(item) for item in whole) <= len(data)


def test_nothing_of_a_message_goes_on_before_its_end_and_control_frames_overtake_it():
    assembler = MessageAssembler(100)
    assert assembler.feed(frame(1, b"del", fin=False)) == []
    ping = frame(9, b"?")
    assert assembler.feed(ping + frame(0, b"ete", fin=False)) == [ping]
    (message,) = assembler.feed(frame(0, b"!"))
    assert message == (True, b"delete!", frame(1, b"delete!"))


def test_a_message_in_one_frame_goes_on_byte_for_byte():
    for payload in (b"", b"x", b"x" * 125, b"x" * 126, b"x" * 65535, b"x" * 65536):
        sent = frame(2, payload)
        assert fed(sent)[1] == [(False, payload, sent)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(2, b"x" * 101), 1009),
        (frame(2, b"x" * 60, fin=False) + frame(0, b"x" * 60), 1009),
        (frame(1, b"\xff"), 1007),
        (frame(1, "ä".encode()[:1], fin=False) + frame(0), 1007),
        (b"\x81\x01x", 1002),
        (b"\xc1" + frame(1, b"x")[1:], 1002),
        (frame(0, b"x"), 1002),
        (frame(3, b"x"), 1002),
        (frame(9, fin=False), 1002),
        (frame(8) + frame(1, b"x"), 1002),
    ],
)
def test_what_stood_before_a_violation_is_given_out_and_nothing_behind_it(data, code):
    good = frame(2, b"before")
    assembler, given_out = fed(good + data + frame(2, b"behind"), 100)
    assert given_out[0] == (False, b"before", good)
    assert assembler.violation is not None
    assert assembler.violation.code == code
    assert not any(isinstance(item, Message) for item in given_out[1:])
    assert assembler.feed(good) == []


def test_a_character_may_be_cut_by_fragments():
    cut = "ä".encode()
    assert fed(frame(1, cut[:1], fin=False) + frame(0, cut[1:]))[1][0].payload == cut


def test_close_is_noticed_when_it_is_given_out():
    assembler = MessageAssembler(100)
    close = frame(8, (1000).to_bytes(2, "big"))
    assert assembler.feed(close[:3]) == []
    assert not assembler.closed
    assert assembler.feed(close[3:]) == [close]
    assert assembler.closed


@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
def test_masking_twice_is_no_masking(payload, mask):
    assert masked(masked(payload, mask), mask) == payload
