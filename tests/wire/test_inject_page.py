"""Which answers are pages that take the script, and what their requests may ask for."""

import pytest

from zt_proxy.worker.protect.inject import csp, page
from zt_proxy.worker.protect.inject.page import Outcome, Page
from zt_proxy.worker.wire.h1_response import ResponseHead

OWN = csp.Own(b"https://app.test")


def head(*lines: bytes, status: int = 200) -> ResponseHead:
    made = ResponseHead()
    made.status = status
    made.content_length = 10
    made.lines = [line + b"\r\n" for line in lines]
    return made


def considered(*lines: bytes, status: int = 200) -> Page | Outcome | None:
    return page.consider(head(*lines, status=status), OWN, b"/.zt/session.js?v=1", b"nonce")


@pytest.mark.parametrize(
    "charset",
    ["utf-8", "UTF8", "us-ascii", "iso-8859-1", "ISO-8859-15", "latin1", "windows-1252", "cp1250", "koi8-r", "Shift_JIS",
     "gb18030", "big5", "euc-kr", '"utf-8"', ""],
)  # fmt: skip
def test_charsets_that_extend_ascii(charset: str) -> None:
    assert isinstance(considered(f"Content-Type: text/html; charset={charset}".encode()), Page)


@pytest.mark.parametrize(
    "charset", ["utf-16", "UTF-16LE", "utf-16be", '"utf-16"', "utf-32", "utf-7", "ebcdic", "made-up"]
)
def test_charsets_that_are_left_alone(charset: str) -> None:
    assert considered(f"Content-Type: text/html; a=b;charset={charset}".encode()) is Outcome.CHARSET


@pytest.mark.parametrize(
    ("types", "html"),
    [
        ([b"text/html"], True),
        ([b"Text/HTML ; charset=utf-8"], True),
        ([b"text/htmlx"], False),
        ([b"application/xhtml+xml"], False),
        ([b"text/html", b"text/html"], False),
        ([], False),
    ],
)
def test_html_is_what_says_so_once(types: list[bytes], html: bool) -> None:
    assert page.is_html(head(*(b"Content-Type: " + each for each in types))) is html


@pytest.mark.parametrize("status", [204, 205, 206, 304])
def test_statuses_without_a_page(status: int) -> None:
    assert considered(b"Content-Type: text/html", status=status) is None


def test_what_is_to_be_saved_is_not_shown() -> None:
    assert considered(b"Content-Type: text/html", b"Content-Disposition: ATTACHMENT; filename=x") is None
    assert isinstance(considered(b"Content-Type: text/html", b"Content-Disposition: Inline"), Page)


def test_the_head_of_the_platform_is_not_changed() -> None:
    """It is shared by all answers whose heads have the same bytes."""
    shared = head(b"Content-Type: text/html", b'ETag: "1"', b"Content-Security-Policy: script-src 'none'")
    before = list(shared.lines)
    found = page.consider(shared, OWN, b"/.zt/session.js?v=1", b"nonce")
    assert isinstance(found, Page)
    assert (shared.lines, shared.content_length, shared.chunked) == (before, 10, False)
    assert (found.head.content_length, found.head.chunked) == (None, True)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ([b"gzip, deflate, br, zstd"], b"gzip, identity"),
        ([b"br", b"GZIP"], b"gzip, identity"),
        ([b"*"], b"gzip, identity"),
        ([b"x-gzip"], b"gzip, identity"),
        ([b"gzip ; q=0.5"], b"gzip, identity"),
        ([b"gzip;q=0, *"], b"identity"),
        ([b"gzip;q=0.000"], b"identity"),
        ([b"br, zstd"], b"identity"),
        ([b""], b"identity"),
        ([], b"identity"),
    ],
)
def test_a_platform_is_asked_for_what_can_be_undone(asked: list[bytes], sent: bytes) -> None:
    lines = page.request_lines([b"Accept: */*\r\n", *(b"accept-encoding: %b\r\n" % each for each in asked)])
    assert lines == [b"Accept: */*\r\n", b"Accept-Encoding: %b\r\n" % sent]
