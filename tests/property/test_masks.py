"""Masks against a reference that parses, walks and compares: whatever the document, and wherever it is cut."""

import gzip
import itertools
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.proxy import lab_route
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.errors import UpstreamError, ZtError
from zt_proxy.core.types import Facts
from zt_proxy.worker.protect.mask import Masking, paths, ways
from zt_proxy.worker.protect.mask.document import Editor
from zt_proxy.worker.settings import MaskSpec, UpstreamSettings
from zt_proxy.worker.upstream.permit import keeping
from zt_proxy.worker.upstream.pool import UpstreamPool
from zt_proxy.worker.upstream.relay import Phase, Relay
from zt_proxy.worker.wire.h1_response import ResponseParser
from zt_proxy.worker.wire.head import NOTHING_NOTED, RequestHead

IBAN = b"DE89370400440532013000"
NOBODY = Facts(0.0, "app", b"GET", b"/", "192.0.2.1", None, None)
TYPES = [
    b"Content-Type: %b\r\n" % each for each in (b"application/json", b"image/png", b"text/html", b"text/plain")
] + [b""]
NAMES = ["iban", "salary", "a", "b", "items", "IBAN", 'q"uote', "sl/ash", "comma,", "grün", "", "true", "1", "ib"]
PATHS = [
    "$..iban",
    "$..salary",
    "$.a.b",
    "$.items[*].salary",
    "$..a.b",
    "$.*",
    "$..items[*]",
    '$..["comma,"]',
    '$..["sl/ash"]',
    "$..grün",
    '$..["q\\"uote"]',
    '$..[""]',
    "$.a..iban",
    "$.*.*",
    "$..a..b",
]
texts = st.one_of(st.text(max_size=12), st.sampled_from([*NAMES, '"iban":"x"', "\\", '\\"', "DE89370400440532013000"]))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts)


class Pairs(list[tuple[str, Any]]):
    """An object, with its members as they stand: a name may be there twice."""


names = st.one_of(st.sampled_from(NAMES), texts)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.lists(st.tuples(names, inner), max_size=6).map(Pairs)),
    max_leaves=30,
)


def escaped(text: str, draw: Callable[[], int]) -> str:
    """A text as JSON, some of its characters as escapes that nobody needs."""
    out = []
    for letter in text:
        plain = json.dumps(letter, ensure_ascii=False)[1:-1]
        out.append("".join(f"\\u{unit:04x}" for unit in units(letter)) if draw() == 0 else plain)
    return f'"{"".join(out)}"'


def units(letter: str) -> list[int]:
    raw = letter.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


def written(value: Any, draw: Callable[[], int]) -> str:
    """The document as text, with blanks and escapes here and there."""
    blank = [" ", "", "\n", "\t "][draw() % 4] if draw() < 3 else ""
    if isinstance(value, Pairs):
        body = f"{blank},{blank}".join(
            f"{escaped(name, draw)}{blank}:{blank}{written(inner, draw)}" for name, inner in value
        )
        return f"{{{blank}{body}{blank}}}"
    if isinstance(value, list):
        return f"[{blank}{f'{blank},{blank}'.join(written(inner, draw) for inner in value)}{blank}]"
    return escaped(value, draw) if isinstance(value, str) else json.dumps(value)


def ends(path: paths.Path, done: set[int], name: str | None) -> set[int]:
    after = set()
    for count in done:
        if count < len(path):
            after |= {count} if path[count].deep else set()
            after |= {count + 1} if path[count].name in (None, name) else set()
    return after


GONE = object()


def reference(value: Any, path: paths.Path, way: Callable[[bytes], bytes] | None, done: set[int]) -> Any:
    """What a walk over the parsed document makes of it."""
    if len(path) in done:
        return GONE if way is None else ("raw", value)
    if isinstance(value, Pairs):
        inner = [(name, reference(each, path, way, ends(path, done, name))) for name, each in value]
        return Pairs([(name, each) for name, each in inner if each is not GONE])
    if isinstance(value, list):
        return [
            each for each in (reference(each, path, way, ends(path, done, None)) for each in value) if each is not GONE
        ]
    return value


def parsed(body: bytes) -> Any:
    return json.loads(
        body,
        object_pairs_hook=Pairs,
        parse_float=lambda text: ("number", text),
        parse_int=lambda text: ("number", text),
    )


def same(masked: Any, expected: Any) -> bool:
    """Equal, but for what a way put in place: any value may stand there."""
    if isinstance(expected, tuple) and expected and expected[0] == "raw":
        return masked in ("****", [], Pairs(), False, None, ("number", "0"))
    if isinstance(expected, list) and isinstance(masked, list) and type(expected) is type(masked):
        return len(expected) == len(masked) and all(map(same, masked, expected))
    if (
        isinstance(expected, tuple)
        and isinstance(masked, tuple)
        and isinstance(expected[0], str)
        and expected[0] != "number"
    ):
        return masked[0] == expected[0] and same(masked[1], expected[1])
    return masked == expected and type(masked) is type(expected)


@settings(max_examples=400, deadline=None)
@given(documents, st.sampled_from(PATHS), st.booleans(), st.data())
def test_a_mask_hides_what_a_walk_over_the_parsed_document_finds_and_nothing_else(
    document: Any, path: str, removes: bool, data: st.DataObject
) -> None:
    spice = data.draw(st.lists(st.integers(0, 9), min_size=40, max_size=40))
    turn = iter(spice * 1000)
    body = written(document, lambda: next(turn)).encode()
    target, way = paths.parse(path), None if removes else ways.fixed(b"")
    masked, count = Editor([(target, way)]).edit(body)
    expected = reference(parsed(body), target, None if way is None else way.call, {0})
    assert same(parsed(masked), expected), (body, masked)
    assert count or masked == body


class Reader:
    """The client's side of a relay, and its owner: keeps what it is sent."""

    congested = False

    def __init__(self) -> None:
        self.got = b""
        self.done: list[ZtError | None] = []

    def write(self, data: bytes) -> None:
        self.got += data

    def pause_reading(self, who: int) -> None: ...

    def resume_reading(self, who: int) -> None: ...

    def abort(self) -> None: ...

    def relay_done(self, error: ZtError | None) -> None:
        self.done.append(error)

    def relay_switched(self, relay: Relay, extensions: bool) -> None: ...


def carried(sent: bytes, cuts: list[int], *masks: MaskSpec) -> Reader:
    """What a reader gets of an answer that arrives in these pieces."""
    reader, pool = Reader(), UpstreamPool(UpstreamSettings("http", "127.0.0.1", 9), SystemClock())
    masking = Masking(lab_route("app", "app.test", (), masks=masks), bytes(32))
    head = RequestHead([], list(NOTHING_NOTED))
    head.method, head.target = b"GET", b"/"
    request = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
    relay = masking.relay(
        masking.masks_for(NOBODY, None), keeping(), reader, reader, pool, head, request, b"\r\n", 0, frozenset()
    )
    relay.request_ended = True
    relay.phase = Phase.WAITING
    parser = ResponseParser(pool.heads)
    parser.expect(b"GET", relay)
    edges = sorted({0, len(sent), *(cut % (len(sent) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        assert IBAN not in reader.got
        try:
            parser.feed(sent[start:end])
        except UpstreamError as error:
            relay.upstream_failed(error)
            break
        relay.upstream_fed()
    return reader


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=40),
    st.sampled_from(TYPES),
    st.booleans(),
    st.integers(1, 60),
    st.lists(st.integers(0, 2000), max_size=8),
    st.sampled_from(["last4", "fixed", "remove", "hash"]),
)
def test_a_masked_value_never_leaves_at_any_border_of_pieces_by_any_type(
    filler: bytes, media: bytes, zipped: bool, size: int, cuts: list[int], way: str
) -> None:
    text = filler.decode("latin-1")
    value = {
        "a": [{"x": text, "iban": IBAN.decode()}, text],
        "iban": IBAN.decode(),
        "k" + text: {"iban": [IBAN.decode()]},
    }
    body = json.dumps(value).encode()
    body = gzip.compress(body) if zipped else body
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + size]), body[at : at + size]) for at in range(0, len(body), size)
    )
    coding = b"Content-Encoding: gzip\r\n" if zipped else b""
    sent = b"HTTP/1.1 200 OK\r\n" + media + coding + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    reader = carried(sent, cuts, MaskSpec("secrets", ("$..iban",), way))
    assert IBAN not in reader.got
    assert IBAN[-12:] not in reader.got
    head, _, got = reader.got.partition(b"\r\n\r\n")
    assert reader.done == [None]
    masked = json.loads(got)
    assert b"Content-Length: %d" % len(got) in head
    assert masked["a"][0]["x"] == text
    assert masked["a"][1] == text


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*TYPES, b"Content-Type: text/event-stream\r\n"]),
    st.binary(max_size=30),
    st.binary(max_size=30),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_with_anything_before_or_behind_json_it_is_masked_or_refused(
    media: bytes, before: bytes, behind: bytes, cuts: list[int]
) -> None:
    body = before + b'{"iban":"' + IBAN + b'"}' + behind
    if b"json" not in media and before.strip(b" \t\r\n\0\xef\xbb\xbf\xfe\xff") != b"":
        return  # a page or a picture with something in it
    sent = b"HTTP/1.1 200 OK\r\n" + media + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert IBAN not in carried(sent, cuts, MaskSpec("secrets", ("$..iban",), "fixed")).got
