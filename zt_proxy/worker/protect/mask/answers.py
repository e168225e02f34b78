"""Which answers can be looked into, and what their heads say once their bodies were (RFC 9110, RFC 9111). No IO."""

import re
from collections.abc import Iterable
from enum import Enum, auto

from zt_proxy.worker.protect.inject.page import VALIDATORS, field, takes_gzip
from zt_proxy.worker.protect.mask.coding import CODINGS
from zt_proxy.worker.protect.mask.document import Unreadable
from zt_proxy.worker.settings import AnswerSettings
from zt_proxy.worker.wire.h1_response import ResponseHead

BODILESS = frozenset((204, 205, 304))

CONDITIONS = frozenset(
    (b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range", b"range")
)
"""What asks for less than the whole answer, or whether it is a certain one. A range of a value would be the value, and
the validators of a platform tell whether one guessed it (ZT-MASK-03, ZT-MASK-05)."""
WRITE_CONDITIONS = frozenset((b"if-match", b"if-unmodified-since"))
SAFE = frozenset((b"GET", b"HEAD"))

STALE = VALIDATORS | {
    b"content-encoding",
    b"content-range",
    b"signature",
    b"signature-input",
    b"cache-control",
    b"cdn-cache-control",
    b"surrogate-control",
    b"expires",
    b"pragma",
    b"age",
}
"""What a platform says of the bytes of its answer, and of who may keep them: no longer true."""
CACHING = frozenset((b"cache-control", b"cdn-cache-control", b"surrogate-control", b"expires", b"pragma"))
NOT_KEPT = b"Cache-Control: private, no-store\r\nVary: Cookie, Authorization\r\n"
"""No two readers share an answer that depends on the reader, and none finds it again after losing a right."""
ASKED_AGAIN = b"Cache-Control: private, no-cache\r\nVary: Cookie, Authorization\r\n"

LINES = frozenset(
    (
        b"application/x-ndjson",
        b"application/ndjson",
        b"application/jsonl",
        b"application/jsonlines",
        b"application/x-jsonlines",
        b"application/stream+json",
    )
)
UTF8 = frozenset((b"", b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin1", b"windows-1252"))
"""Charsets in which the structure of JSON is the one of UTF-8."""
_CHARSET = re.compile(rb";[ \t]*charset[ \t]*=[ \t]*(\"[^\"]*\"|[^;\"]*)", re.IGNORECASE)


class Kind(Enum):
    """What an answer seems to be."""

    JSON = auto()
    LINES = auto()
    """A document on each line."""
    PASSED = auto()
    """No data by its type: it passes if it does not begin like JSON."""
    UNKNOWN = auto()
    """JSON if it begins like it; else nobody knows."""


class Answer:
    """An answer with a body: what it seems to be, and how it is coded."""

    __slots__ = ("coding", "head", "kind", "script")

    def __init__(self, head: ResponseHead, kind: Kind, coding: bytes, *, script: bool) -> None:
        self.head = head
        self.kind = kind
        self.coding = coding
        self.script = script


class Types:
    """The media types that are no data, ready."""

    def __init__(self, settings: AnswerSettings) -> None:
        types = [each.lower().encode() for each in settings.pass_types]
        self._whole = frozenset(types)
        self._families = tuple(each[:-1] for each in types if each.endswith(b"/*"))

    def kind(self, media: bytes) -> Kind:
        if media in LINES:
            return Kind.LINES
        if media in (b"application/json", b"text/json") or media.endswith(b"+json"):
            return Kind.JSON
        passed = media in self._whole or (self._families and media.startswith(self._families))
        return Kind.PASSED if passed else Kind.UNKNOWN


def consider(head: ResponseHead, types: Types) -> Answer:
    """What an answer with a body is. Raises Unreadable for what cannot be looked into."""
    if head.status == 206:
        raise Unreadable("a part of an answer, unasked")
    media, said, coding = b"", 0, b""
    for name, value in map(field, head.lines):
        if name == b"content-type":
            said += 1
            media = value
        elif name == b"content-encoding" and value.lower() != b"identity":
            coding = coding + b"," + value.lower() if coding else value.lower()
    if coding and coding not in CODINGS:
        raise Unreadable("a content coding that is not undone here")
    kind = types.kind(media.partition(b";")[0].strip(b" \t").lower()) if said == 1 else Kind.UNKNOWN
    charsets = {each.strip(b'" \t').lower() for each in _CHARSET.findall(media)}
    if kind is not Kind.PASSED and not charsets <= UTF8:
        raise Unreadable("a charset other than UTF-8")
    return Answer(head, kind, coding, script=b"javascript" in media.lower())


def copied(head: ResponseHead, lines: list[bytes]) -> ResponseHead:
    """A head like another, which is not changed, with other lines."""
    copy = ResponseHead()
    copy.status = head.status
    copy.content_length = head.content_length
    copy.chunked = head.chunked
    copy.keep_alive = head.keep_alive
    copy.lines = lines
    copy.set_cookies = head.set_cookies
    copy.noted = head.noted
    return copy


def without(lines: Iterable[bytes], names: frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if field(line)[0] not in names]


def masked(head: ResponseHead, hidden: frozenset[bytes], length: int | None) -> ResponseHead:
    """The head of an answer that was looked into, or that has no body. `length`: bytes of its new body."""
    copy = copied(head, [*without(head.lines, STALE | hidden), NOT_KEPT])
    copy.content_length = length
    copy.chunked = False
    return copy


def emptied(head: ResponseHead, hidden: frozenset[bytes]) -> ResponseHead:
    """The head of an error whose body nobody may see."""
    copy = masked(head, hidden, 0)
    copy.lines = without(copy.lines, frozenset((b"content-type", b"content-disposition")))
    return copy


def passed(head: ResponseHead, hidden: frozenset[bytes]) -> ResponseHead:
    """The head of an answer that goes on as it is: no parts of it are to be had."""
    return copied(head, without(head.lines, hidden | {b"accept-ranges"}))


def spared(head: ResponseHead, types: Types) -> ResponseHead:
    """The head of an answer that is masked for others, but not for this reader: they never share a copy."""
    media = next((value for name, value in map(field, head.lines) if name == b"content-type"), b"")
    if types.kind(media.partition(b";")[0].strip(b" \t").lower()) is Kind.PASSED:
        return head
    said = b",".join(value for name, value in map(field, head.lines) if name == b"cache-control").lower()
    lines = without(head.lines, CACHING)
    lines.append(NOT_KEPT if b"no-store" in said else ASKED_AGAIN)
    return copied(head, lines)


def whole_request(request: bytes, method: bytes) -> bytes:
    """The head of a request so that its answer is whole, and in a coding that is undone here.

    Conditions on what is about to be changed (`If-Match` of a PUT) stay: without them an edit would be lost.
    """
    dropped = CONDITIONS if method in SAFE else CONDITIONS - WRITE_CONDITIONS
    kept: list[bytes] = []
    gzip = False
    for line in request[:-4].split(b"\r\n"):
        name, value = field(line)
        if name == b"accept-encoding":
            gzip = gzip or takes_gzip(value)
        elif name not in dropped:
            kept.append(line)
    kept.append(b"Accept-Encoding: gzip, identity" if gzip else b"Accept-Encoding: identity")
    return b"\r\n".join(kept) + b"\r\n\r\n"
