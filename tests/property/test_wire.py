"""Properties of the sans-IO parsers: whatever the input and however it is cut."""

import contextlib
import posixpath
from urllib.parse import unquote_to_bytes

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zt_proxy.core.errors import ClientError
from zt_proxy.worker.settings import PathSettings
from zt_proxy.worker.wire.cookies import set_cookie, take
from zt_proxy.worker.wire.host import normalise_host
from zt_proxy.worker.wire.proxy_protocol import ProxyHeaderParser, ProxyResult
from zt_proxy.worker.wire.target import parse, parse_target
from zt_proxy.worker.wire.ws import FrameFollower, WsViolation

EVERYTHING = PathSettings(encoded_slash=True, double_slash=True, parameters=True, encoded_delimiters=True)
OWN = frozenset((b"__Host-zt", b"__Host-zt-login"))

pieces = st.sampled_from(
    [b"/", b"//", b".", b"..", b"%2e", b"%2E", b"%2f", b"%2F", b"%5c", b"%25", b"%252e", b"%61", b"%c3%a9", b"%c0%ae",
     b"%3b", b";", b"%3f", b"%23", b"?", b"a", b"admin", b"~", b"%7E", b"[", b"|", b"%", b"2e", b"%32%65", b"=", b"&"]
)  # fmt: skip
targets = st.one_of(
    st.lists(pieces, max_size=10).map(lambda parts: b"/" + b"".join(parts)),
    st.binary(max_size=20).map(lambda tail: b"/" + tail),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(str.encode),
)


@settings(max_examples=500, deadline=None)
@given(targets)
@example(b"/%25%32%65")
@example(b"http://a/%2e%2e")
def test_a_canonical_target_stays_as_it_is_and_has_no_dot_segment_in_any_reading(raw: bytes) -> None:
    try:
        parsed = parse(raw)
    except ClientError:
        return
    target = parsed.target
    if target.path == b"*":
        return
    again = parse(target.wire())
    assert (again.target, again.needs, again.authority) == (target, parsed.needs, None)
    assert parse_target(raw, EVERYTHING) == target
    if parsed.needs == 0:
        assert parse_target(raw) == target
        assert b"//" not in unquote_to_bytes(target.path)
    reading = target.path
    for _ in range(3):  # however often somebody behind decodes it
        for text in (reading, reading.replace(b"\\", b"/")):
            names = [segment.partition(b";")[0].partition(b"?")[0] for segment in text.split(b"/")]
            assert not {b".", b".."} & set(names)
        reading = unquote_to_bytes(reading)
        assert b"\0" not in reading
    if not parsed.needs:
        path = unquote_to_bytes(target.path)
        assert posixpath.normpath(path) == (path.rstrip(b"/") or b"/")


names = st.sampled_from([b"a", b"b", b"__Host-zt", b"__Host-zt-login", b"__host-zt", b"__Host-zt2"])
values = st.text(alphabet="abcXYZ019=_-%!", max_size=8).map(str.encode)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(names, values), max_size=6))
def test_cookies_of_ours_are_taken_and_all_others_pass_in_order(pairs: list[tuple[bytes, bytes]]) -> None:
    found, rest, repeated = take(b"; ".join(name + b"=" + value for name, value in pairs), OWN)
    ours = [(name, value) for name, value in pairs if name.lower() in {own.lower() for own in OWN}]
    exact = [(name, value) for name, value in ours if name in OWN]
    assert found == dict(reversed(exact))
    assert rest == b"; ".join(name + b"=" + value for name, value in pairs if (name, value) not in ours)
    assert repeated is (len(ours) != len({name for name, _ in exact}))
    assert take(rest, OWN) == ({}, rest, False)


@given(st.binary(max_size=60))
def test_no_cookie_header_lets_ours_through(noise: bytes) -> None:
    _, rest, _ = take(noise + b"; __Host-zt=secret;" + noise, OWN)
    assert all(part.strip().partition(b"=")[0] not in OWN for part in rest.split(b";"))


@given(st.binary(min_size=48, max_size=48))
def test_a_cookie_that_was_set_comes_back(raw: bytes) -> None:
    value = raw.hex().encode()
    sent = set_cookie(b"__Host-zt", value).partition(b";")[0]
    assert take(b"a=1; " + sent, OWN) == ({b"__Host-zt": value}, b"a=1", False)


@given(st.binary(max_size=30))
def test_a_normalised_host_stays_as_it_is(raw: bytes) -> None:
    with contextlib.suppress(ClientError):
        host = normalise_host(raw)
        assert normalise_host(host.encode()) == host


def frames_of(data: bytes) -> tuple[list[int], bool]:
    """Ends of the whole unmasked frames of a stream, and whether it ends on one: read the slow way, all at once."""
    ends, at = [], 0
    while len(data) - at >= 2:
        size, header = data[at + 1] & 127, 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, header = int.from_bytes(data[at + 2 : at + 2 + width], "big"), 2 + width
        if at + header + size > len(data):
            break
        at += header + size
        ends.append(at)
    return ends, at == len(data)


frame = st.builds(
    lambda size, wide: (
        b"\x82" + (bytes((size,)) if size < 126 and not wide else b"\x7e" + size.to_bytes(2, "big")) + bytes(size)
    ),
    st.sampled_from([0, 1, 5, 125, 126, 300]),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(frame, max_size=6).map(b"".join), st.lists(st.integers(1, 200), max_size=40), st.integers(0, 20))
def test_frame_boundaries_are_the_same_however_the_stream_is_cut(stream: bytes, cuts: list[int], drop: int) -> None:
    stream = stream[: max(len(stream) - drop, 0)]
    follower = FrameFollower(1 << 20, masked=False)
    at, seen = 0, []
    for cut in [*cuts, len(stream) or 1]:
        chunk = stream[at : at + cut]
        boundary = follower.split_at_boundary(chunk)
        assert boundary <= len(chunk)
        if boundary:
            seen.append(at + boundary)
        at += len(chunk)
    ends, whole = frames_of(stream)
    assert set(seen) <= set(ends)
    assert seen[-1:] == ends[-1:]
    assert follower.at_boundary is whole


headers = st.builds(
    lambda first, size, mask: bytes((first, mask | size)) + bytes((4 if mask else 0) + size),
    st.sampled_from([0x81, 0x82, 0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8A, 0x88, 0xC1, 0x83]),
    st.sampled_from([0, 1, 20, 125]),
    st.sampled_from([0x80, 0x80, 0x80, 0]),
)


@given(
    st.one_of(st.binary(max_size=200), st.lists(headers, max_size=8).map(b"".join)), st.integers(1, 20), st.booleans()
)
def test_garbage_violates_at_the_same_code_however_it_is_cut(data: bytes, step: int, masked: bool) -> None:
    def verdict(size: int) -> int | bool:
        follower = FrameFollower(100, masked=masked)
        try:
            for index in range(0, len(data), size):
                follower.feed(data[index : index + size])
        except WsViolation as violation:
            return violation.code
        return follower.at_boundary

    assert verdict(step) == verdict(max(len(data), 1))


@given(st.binary(max_size=40), st.lists(st.integers(1, 30), max_size=40), st.booleans())
def test_a_proxy_header_is_the_same_however_it_is_cut(tail: bytes, cuts: list[int], binary: bool) -> None:
    header = (
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes((203, 0, 113, 9, 192, 0, 2, 1)) + b"\xdc\x04\x01\xbb"
        if binary
        else b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n"
    )
    data, at = header + tail, 0
    parser = ProxyHeaderParser()
    result = None
    for cut in [*cuts, len(data)]:
        result = parser.feed(data[at : at + cut])
        at = min(at + cut, len(data))
        if result is not None:
            break
        assert at < len(header)
    assert result == ProxyResult(("203.0.113.9", 0xDC04), data[len(header) : at])


@given(st.binary(max_size=700))
def test_garbage_for_a_proxy_header_ends_in_a_result_an_error_or_waiting_within_bounds(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        result = ProxyHeaderParser().feed(data)
        assert result is not None or len(data) < 16 + 536
