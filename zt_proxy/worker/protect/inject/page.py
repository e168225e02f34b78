"""Which answers are pages that take the script, and what becomes of their heads (RFC 9110, RFC 9111). No IO."""

import re
from enum import StrEnum

from zt_proxy.worker.protect.inject import csp
from zt_proxy.worker.wire.h1_response import ResponseHead

DOCUMENTS = frozenset((b"document", b"iframe", b"frame"))
"""Sec-Fetch-Dest of what becomes a document of its own; everything else may be a fragment."""

BODILESS = frozenset((204, 205, 206, 304))
"""Statuses without a body, or with only a part of one."""

ASCII_COMPATIBLE = re.compile(
    rb"utf-?8|unicode-1-1-utf-8|(?:us-)?ascii|latin-?[1-9]|l[1-9]|iso-?8859-?\d{1,2}|(?:windows|cp|x-cp)-?(?:125\d|874)"
    rb"|koi8(?:-r|-u|-ru)?|gbk|gb2312|gb18030|big5(?:-hkscs)?|euc-(?:kr|jp)|shift[_-]jis|sjis|macintosh|ibm866|tis-620",
    re.IGNORECASE,
)
"""Labels of charsets in which markup is ASCII and no byte of `<`, `>` or a quote is part of another character."""

_CHARSET = re.compile(rb";[ \t]*charset[ \t]*=[ \t]*(\"[^\"]*\"|[^;\"]*)", re.IGNORECASE)

VALIDATORS = frozenset(
    (
        b"etag",
        b"last-modified",
        b"content-md5",
        b"digest",
        b"repr-digest",
        b"content-digest",
        b"accept-ranges",
    )
)
"""What a platform says of the exact bytes of its page: no longer true of ours (RFC 9110 §8.8, RFC 9530)."""

CONDITIONS = frozenset((b"if-none-match", b"if-modified-since", b"if-range", b"range"))
"""What asks for less than the page. The platform's validators never reach a browser, but one may have older ones."""

VARY = b"Vary: Sec-Fetch-Dest\r\n"
"""A script that fetches the page gets it as it is; a cache must not give the one for the other."""

GZIP = frozenset((b"gzip", b"x-gzip"))


class Outcome(StrEnum):
    """What came of a page, for the metric."""

    INJECTED = "injected"
    CODING = "coding"
    """A content coding that is not undone here."""
    CHARSET = "charset"
    """UTF-16, or one that nobody knows."""
    SANDBOX = "sandbox"
    """Its policy denies it scripts, or an origin."""
    NO_PLACE = "no-place"
    """Nothing but a comment for 64 KiB, or nothing at all."""


class Page:
    """An answer that takes the script: its head as the client gets it, and how its body is coded."""

    __slots__ = ("gzip", "head", "tag")

    def __init__(self, head: ResponseHead, tag: bytes, *, gzip: bool) -> None:
        self.head = head
        self.tag = tag
        self.gzip = gzip


def field(line: bytes) -> tuple[bytes, bytes]:
    """Name in lower case and value of a header line."""
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t\r\n")


def is_html(head: ResponseHead) -> bool:
    """The answer says `text/html`, once."""
    types = [value for name, value in map(field, head.lines) if name == b"content-type"]
    return len(types) == 1 and types[0].partition(b";")[0].strip(b" \t").lower() == b"text/html"


def consider(head: ResponseHead, own: csp.Own, script: bytes, nonce: bytes) -> Page | Outcome | None:
    """What becomes of an answer of HTML to a request for a document. `head` itself is not changed.

    `script` is the path of the script, `nonce` one that was never used before. None: not a page to be shown at all.
    """
    if head.status < 200 or head.status in BODILESS or head.content_length == 0:
        return None
    fields = [(*field(line), line) for line in head.lines]
    coding = b""
    for name, value, _ in fields:
        if name == b"content-disposition" and not value.lower().startswith(b"inline"):
            return None
        if name == b"content-encoding":
            coding = (coding + b"," + value if coding else value).lower()
        elif name == b"content-type" and not _readable(value):
            return Outcome.CHARSET
        elif name == csp.POLICY and csp.forbids(value):
            return Outcome.SANDBOX
    if coding not in GZIP and coding not in (b"", b"identity"):
        return Outcome.CODING
    policies = [value for name, value, _ in fields if name in (csp.POLICY, csp.REPORT_ONLY)]
    used = nonce if any(map(csp.wants_nonce, policies)) else b""
    lines = [VARY]
    for name, value, line in fields:
        if name in VALIDATORS:
            continue
        if name in (csp.POLICY, csp.REPORT_ONLY):
            changed = csp.edited(value, own, used)
            lines.append(line if changed == value else line.partition(b":")[0] + b": " + changed + b"\r\n")
        else:
            lines.append(line)
    attribute = b' nonce="%b"' % used if used else b""
    tag = b'<script src="%b"%b></script>' % (script, attribute)
    return Page(_without_length(head, lines), tag, gzip=coding in GZIP)


def _readable(content_type: bytes) -> bool:
    """Markup can be found in it: a charset that extends ASCII, or none said (a byte order mark is looked at later)."""
    charsets = [value.strip(b'" \t') for value in _CHARSET.findall(content_type)]
    return all(ASCII_COMPATIBLE.fullmatch(each) for each in charsets if each)


def _without_length(head: ResponseHead, lines: list[bytes]) -> ResponseHead:
    changed = varied(head)
    changed.lines = lines
    changed.chunked = head.chunked or head.content_length is not None  # its end was told, one way or the other
    changed.content_length = None
    return changed


def varied(head: ResponseHead) -> ResponseHead:
    """A copy of a head that says that it depends on what asks for it."""
    copy = ResponseHead()
    copy.status = head.status
    copy.content_length = head.content_length
    copy.chunked = head.chunked
    copy.keep_alive = head.keep_alive
    copy.lines = [VARY, *head.lines]
    copy.set_cookies = head.set_cookies
    copy.noted = head.noted
    return copy


def request_lines(lines: list[bytes]) -> list[bytes]:
    """The header lines of a request for a document, so that its answer is a whole page in a coding known here."""
    kept: list[bytes] = []
    gzip = False
    for line in lines:
        name, value = field(line)
        if name == b"accept-encoding":
            gzip = gzip or takes_gzip(value)
        elif name not in CONDITIONS:
            kept.append(line)
    kept.append(b"Accept-Encoding: gzip, identity\r\n" if gzip else b"Accept-Encoding: identity\r\n")
    return kept


def takes_gzip(value: bytes) -> bool:
    """RFC 9110 §12.5.3: named, or meant by `*`, and not with a weight of nothing."""
    weights: dict[bytes, bool] = {}
    for each in value.lower().split(b","):
        coding, _, weight = each.replace(b" ", b"").replace(b"\t", b"").partition(b";q=")
        weights[coding] = weight.strip(b"0.") != b"" or not weight
    return weights.get(b"gzip", weights.get(b"x-gzip", weights.get(b"*", False)))
