"""Pages and policies of any make: the script is put in at the same place however they are cut, and opens nothing else."""

import gzip
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.csp import CHAINS, Use, allows
from zt_proxy.core.errors import UpstreamError
from zt_proxy.worker.protect.inject import csp
from zt_proxy.worker.protect.inject.html import HELD, Inserter
from zt_proxy.worker.protect.inject.stream import GzipRewriter

TAG = b"<script src=/.zt/session.js></script>"

# ---- pages ----

PARTS = st.sampled_from(
    [
        *b"<>!-/?=\"' \n\f\t\0\xefx&",
        b"<!--",
        b"-->",
        b"--!>",
        b"<!-->",
        b"<!doctype html>",
        b'<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN" \'x>',
        b"<html>",
        b"<HTML lang='>' a=\">\" b = > c",
        b"<head>",
        b"<head a=/",
        b'<HEAD\n data-x="<head>">',
        b"<header>",
        b"</head>",
        b"</p a='>'>",
        b"<![CDATA[",
        b"]]>",
        b"<?xml version='1.0'?>",
        b"<script>",
        b"<title>",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"<![if !IE]>",
        b"<!--[if IE]>",
        b"<![endif]-->",
    ]
).map(lambda part: bytes([part]) if isinstance(part, int) else part)
PAGES = st.lists(PARTS, max_size=24).map(b"".join)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` cut into pieces of these sizes, over and over."""
    out, at, number = [], 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)] if sizes else len(data)
        out.append(data[at : at + size])
        at, number = at + size, number + 1
    return out


def inserted(parts: list[bytes]) -> tuple[bytes, bool]:
    inserter = Inserter(TAG)
    out = b"".join([*map(inserter.feed, parts), inserter.end()])
    return out, inserter.placed


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(PAGES, SIZES)
@settings(max_examples=400)
def test_however_a_page_is_cut_the_tag_is_at_the_same_place_and_all_else_as_it_was(
    page: bytes, sizes: list[int]
) -> None:
    whole = inserted([page])
    assert inserted(pieces(page, sizes)) == whole == inserted(pieces(page, [1]))
    out, placed = whole
    assert out.count(TAG) == placed
    assert out.replace(TAG, b"") == page


@given(
    st.integers(HELD - 70, HELD + 70), st.sampled_from([1000, 4096, HELD, 100_000]), st.sampled_from([b"", b"<html>"])
)
@settings(max_examples=40, deadline=None)
def test_the_end_of_the_search_does_not_depend_on_the_pieces(size: int, piece: int, before: bytes) -> None:
    page = before + b"<!--" + b"-" * size + b"--><!doctype html><head>" + b"x" * 200
    out, placed = inserted(pieces(page, [piece]))
    assert (out, placed) == inserted([page])
    assert out.replace(TAG, b"") == page
    assert placed or not before


@given(PAGES, SIZES)
def test_a_page_in_which_text_comes_first_has_the_tag_in_front_of_it(page: bytes, sizes: list[int]) -> None:
    out, placed = inserted(pieces(b"<!doctype html>hello" + page, sizes))
    assert placed
    assert out == b"<!doctype html>" + TAG + b"hello" + page


# ---- gzip ----


def rewritten(parts: list[bytes], *, flush: bool) -> bytes:
    rewriter = GzipRewriter(TAG)
    out = b""
    for part in parts:
        out += rewriter.feed(part)
        if flush:
            out += rewriter.flush()
    return out + rewriter.end()


@given(
    st.lists(PAGES, min_size=1, max_size=3), SIZES, st.booleans(), st.sampled_from([b"", b"\0", b"\x1f", b"garbage"])
)
@settings(deadline=None)
def test_a_compressed_page_is_the_same_page_however_it_is_cut(
    members: list[bytes], sizes: list[int], flush: bool, garbage: bytes
) -> None:
    packed = b"".join(map(gzip.compress, members)) + garbage
    expected, _ = inserted([b"".join(members)])
    for cut in (pieces(packed, sizes), [packed], pieces(packed, [1])):
        assert gzip.decompress(rewritten(cut, flush=flush)) == expected


@given(PAGES, SIZES, st.data())
@settings(deadline=None)
def test_a_damaged_page_is_never_taken_for_a_whole_one(page: bytes, sizes: list[int], data: st.DataObject) -> None:
    packed = gzip.compress(page)
    end = data.draw(st.integers(1, len(packed) - 1))
    try:
        rewritten(pieces(packed[:end], sizes), flush=True)
    except UpstreamError:
        return
    raise AssertionError("a page that was cut short was ended properly")


@given(st.binary(min_size=1, max_size=200), SIZES)
@settings(deadline=None)
def test_what_is_no_gzip_is_an_error_or_gzip_after_all(body: bytes, sizes: list[int]) -> None:
    try:
        out = rewritten(pieces(body, sizes), flush=True)
    except UpstreamError:
        return
    assert zlib.decompressobj(31).decompress(body) == gzip.decompress(out).replace(TAG, b"")


# ---- policies ----

ORIGIN = "https://app.test"
OWN = csp.Own(ORIGIN.encode())
NONCE = "b3VyLW93bi1ub25jZS0x"
OURS = "https://app.test/.zt/session.js"

NAMES = [
    "default-src", "script-src", "script-src-elem", "script-src-attr", "connect-src", "worker-src", "child-src",
    "frame-src", "img-src", "style-src", "object-src", "upgrade-insecure-requests", "require-trusted-types-for",
    "report-uri", "base-uri", "made-up",
]  # fmt: skip
SOURCES = [
    "'none'", "'self'", "*", "https:", "http:", "data:", "wss:", "https://app.test", "app.test", "https://app.test/",
    "app.test:443", "app.test:8443", "*.test", "https://cdn.test", "https://cdn.test/lib/", "https://app.test/static/",
    "https://app.test/.zt/", "https://app.test/.ztx/", "http://app.test", "'unsafe-inline'", "'unsafe-eval'",
    "'unsafe-hashes'", "'strict-dynamic'", "'nonce-dGhlaXJz'", "'sha256-dGhlaXJoYXNo'", "'report-sample'",
    "'script'", "/some/report", "'wasm-unsafe-eval'",
]  # fmt: skip


def _cased(word: str, upper: bool) -> str:
    return word.upper() if upper and "-dG" not in word and "/" not in word else word


WORDS = st.tuples(st.sampled_from(SOURCES), st.booleans()).map(lambda pair: _cased(*pair))
SPACE = st.sampled_from([" ", "  ", "\t"])
DIRECTIVE = st.builds(
    lambda name, upper, space, words, before: before + _cased(name, upper) + "".join(space + word for word in words),
    st.sampled_from(NAMES), st.booleans(), SPACE, st.lists(WORDS, max_size=4), st.sampled_from(["", " ", "  "]),
)  # fmt: skip
POLICY = st.builds(
    lambda directives, end: ";".join(directives) + end,
    st.lists(DIRECTIVE, max_size=5), st.sampled_from(["", ";", "; ", " ;;"]),
)  # fmt: skip
HEADER = st.lists(POLICY, min_size=1, max_size=3).map(",".join)
ODD = st.text(st.sampled_from("abcdefg-src; ,'\t\x7fé\x0c=/:*"), max_size=40)

URLS = [
    "https://app.test/a.js", "https://app.test/static/a.js", "https://app.test/", "https://app.test/.zt",
    "https://app.test/.ztx/session.js", "https://app.test:8443/.zt/session.js", "http://app.test/.zt/session.js",
    "https://sub.app.test/.zt/session.js", "https://cdn.test/lib/a.js", "https://evil.test/.zt/session.js",
]  # fmt: skip
FOREIGN = [
    *(Use(kind, url) for kind in CHAINS if kind not in {"eval", "script-attr"} for url in URLS),
    *(Use("script-elem", url, parser_inserted=False) for url in URLS),
    *(Use("script-elem", url, nonce=nonce) for url in ("", URLS[0]) for nonce in ("dGhlaXJz", "d3Jvbmc")),
    *(Use(kind, hash=digest) for kind in ("script-elem", "script-attr", "style")
      for digest in ("", "sha256-dGhlaXJoYXNo", "sha256-b3RoZXI")),
    *(Use(kind, OURS) for kind in ("frame", "style", "img", "font", "object", "manifest")),
    Use("eval"),
]  # fmt: skip
"""What a page may want that is not the proxy's script, nor what that talks to."""


def edited(header: str) -> tuple[bytes, str]:
    """As a page's head is changed: with the nonce on the tag, if a policy wants one."""
    value = header.encode("latin-1")
    nonce = NONCE if csp.wants_nonce(value) else ""
    return csp.edited(value, OWN, nonce.encode()), nonce


@given(st.one_of(HEADER, ODD, st.tuples(HEADER, ODD).map("".join)))
@settings(max_examples=600, deadline=None)
def test_an_edited_policy_allows_nothing_else_and_forbids_nothing_more(header: str) -> None:
    before, (after, _) = header.encode("latin-1"), edited(header)
    changed = [use for use in FOREIGN if allows(before, use, ORIGIN) != allows(after, use, ORIGIN)]
    assert not changed, (before, after)


@given(HEADER)
@settings(max_examples=600, deadline=None)
def test_an_edited_policy_lets_the_script_in_unless_that_takes_inline_scripts_away(header: str) -> None:
    after, nonce = edited(header)
    assert allows(after, Use("connect", "https://app.test/.zt/session"), ORIGIN), after
    if not allows(after, Use("script-elem", OURS, nonce=nonce), ORIGIN):
        assert b"'strict-dynamic'" in after.lower()
        assert b"'unsafe-inline'" in after.lower()


@given(HEADER)
@settings(deadline=None)
def test_an_edit_is_made_once(header: str) -> None:
    after, nonce = edited(header)
    assert csp.edited(after, OWN, b"") == after
    if csp.edited(header.encode(), OWN, nonce.encode()) == header.encode():
        assert after == header.encode()
