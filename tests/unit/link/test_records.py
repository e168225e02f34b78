"""Records in their packed form, and what damaged ones do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.core.lines import encode_line
from zt_proxy.link.records import (
    DECISION,
    END,
    Noted,
    RecordReader,
    Unreadable,
    pack_circumstances,
    pack_decision,
    pack_end,
    pack_json,
)

ID = b"0123456789abcdef0001"
TEXT = b'"route":"app","effect":"allow"}'
PLACES = {64: pack_circumstances(TEXT), 128: b'C"unfinished', 192: b"D" * 60}


def reader() -> RecordReader:
    return RecordReader(3, "boot", PLACES.get)


def decision(n: int = 1, path: bytes = b"/flows", place: int = 64) -> bytes:
    return pack_decision(DECISION, n, 1.5, ID, place, len(path)) + path


def test_packed_records_become_the_json_that_the_log_documents() -> None:
    payload = pack_end(END, 6, 2.5, 0.25, ID, 7, 1024, 200) + decision(7) + pack_json(b'{"n":8}')
    (one, first), (two, second), (zero, third) = reader().lines(payload)
    assert (one, two, zero) == (6, 7, 0)
    whose = {"v": 1, "worker": 3, "boot": "boot", "id": ID.decode()}
    assert json.loads(first) == whose | {
        "type": "end", "at": 2.5, "n": 6, "status": 200, "bytes_in": 7, "bytes_out": 1024, "duration": 0.25,
    }  # fmt: skip
    assert json.loads(second) == whose | {
        "type": "decision", "at": 1.5, "n": 7, "path": "/flows", "route": "app", "effect": "allow",
    }  # fmt: skip
    assert third == b'{"n":8}'


@pytest.mark.parametrize("place", [0, 128, 192, 1 << 40])
def test_a_decision_whose_circumstances_are_not_there_is_unreadable(place: int) -> None:
    with pytest.raises(Unreadable, match=str(place)):
        list(reader().lines(decision(place=place)))


def test_a_lone_surrogate_in_a_name_is_kept() -> None:
    text = encode_line({"sub": "a\ud800b"})[1:]
    ((_, line),) = RecordReader(3, "boot", {64: pack_circumstances(text)}.get).lines(decision())
    assert json.loads(line)["sub"] == "a\ud800b"


@pytest.mark.parametrize("cut", range(1, len(decision())))
def test_a_record_that_is_cut_off_is_unreadable(cut: int) -> None:
    with pytest.raises(Unreadable):
        list(reader().lines(decision()[:cut]))


HOSTILE = [b'","seq" :1,"a":"xxxxx', b"\\" * 20, b"line\nline\nline\nline\n", b"\xff" * 20]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_that_would_break_out_of_its_field_is_unreadable(text: bytes) -> None:
    """A worker writes such a record in full: whoever wrote this one is not to be believed (ZT-LOG-01)."""
    assert len(text) in {20, 21}
    for payload in (
        decision(path=text),
        pack_decision(DECISION, 1, 1.5, text[:20], 64, 0),
        pack_end(END, 1, 2.5, 0.25, text[:20], 7, 1024, 200),
    ):
        with pytest.raises(Unreadable):
            list(reader().lines(payload))


@pytest.mark.parametrize(
    "text",
    [
        b'"seq":9}', b'"a":1,"hash" :"x"}', b'"\\u0070rev":""}', b'"a":}', b'"a":"b","c"}', b'"a":1}{"b":2}',
        b'"a":"\xc3\xa9"}', b'"n":7}', b'"worker":9}', b'"boot":"c"}',
        b'"a":"\\ud800","seq":1}', b'"a":"\\ud800","b":NaN}', b'"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    ],
)  # fmt: skip
def test_circumstances_that_are_no_part_of_an_object_are_unreadable(text: bytes) -> None:
    with pytest.raises(Unreadable):
        list(RecordReader(3, "boot", {64: pack_circumstances(text)}.get).lines(decision()))


@given(st.binary(max_size=400))
def test_any_bytes_are_lines_or_unreadable(payload: bytes) -> None:
    try:
        for n, line in reader().lines(payload):
            assert n >= 0
            assert isinstance(line, bytes)
    except Unreadable:
        pass


def test_what_is_written_out_is_noted_for_whoever_watches() -> None:
    noted, out = Noted(), []
    payload = decision(7) + pack_end(END, 8, 2.5, 0.25, ID, 7, 1024, 200)
    assert reader().write_out(payload, 6, out, noted) == 8
    assert noted.decisions == [ID, b"/flows", TEXT[:-1], 1.5]
    assert noted.ends == [ID, 1024, 2.5]
    assert len(noted) == 2


@pytest.mark.parametrize("rest", [pack_json(b'{"n":8}'), decision(9), b"X", decision(8)[:-1]])
def test_of_a_payload_that_is_looked_at_otherwise_nothing_is_noted(rest: bytes) -> None:
    noted, out = Noted(), [b"before"]
    assert reader().write_out(decision(7) + rest, 6, out, noted) is None
    assert (len(noted), out) == (0, [b"before"])
