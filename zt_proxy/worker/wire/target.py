"""The request target, parsed once into the one form that policy, record and upstream share (ZT-PATH-*).

Two steps, because which platform needs which leniency is known only after host and path have chosen the route:
`parse` refuses what nobody may send and notes which opt-in features occurred; `refuse_unless` holds them against what
the route allows. Sources: RFC 9112 §3.2, RFC 3986 §2 and §6.2.2, and the bypasses of CVE-2021-29492, CVE-2019-9900
and GHSA-7rh7-c77v-6434.
"""

import re
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote_to_bytes

import msgspec

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.http import Target

_CACHED_LENGTH = 256
ENCODED_SLASH = 1
DOUBLE_SLASH = 2
PARAMETERS = 4
ENCODED_DELIMITERS = 8

_FLAG_NAMES = {
    ENCODED_SLASH: "an encoded slash",
    DOUBLE_SLASH: "two slashes in a row",
    PARAMETERS: "a path parameter",
    ENCODED_DELIMITERS: "an encoded delimiter",
}


class PathAllowances(Protocol):
    """What a route allows beyond the strict default; `worker.settings.PathSettings` is one."""

    @property
    def encoded_slash(self) -> bool: ...
    @property
    def double_slash(self) -> bool: ...
    @property
    def parameters(self) -> bool: ...
    @property
    def encoded_delimiters(self) -> bool: ...


class ParsedTarget(msgspec.Struct, frozen=True, gc=False):
    """A target that nobody has to refuse, and what its route must allow for it to go on."""

    target: Target
    authority: bytes | None
    """Of an absolute-form target, raw and without userinfo; the caller holds it against Host (ZT-PATH-16)."""
    needs: int
    """Bit flags: ENCODED_SLASH, DOUBLE_SLASH, PARAMETERS, ENCODED_DELIMITERS."""


# What nearly every request looks like: only bytes that are canonical as they stand, no escape, no `;`.
_CLEAN = re.compile(rb"(/[A-Za-z0-9\-_~!$&'()*+,=:@/.]*)(?:\?([!-\"$-~]*))?")
_RAW_PATH = re.compile(rb"/[!-\"$->@-\[\]-~]*")  # visible ASCII without # ? and backslash
_RAW_QUERY = re.compile(rb"[!-\"$-~]*")
_ABSOLUTE = re.compile(rb"https?://([A-Za-z0-9\-._~%:\[\]]+)((?:[/?].*)?)", re.IGNORECASE | re.DOTALL)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_REWRITE = re.compile(rb"%[0-9A-Fa-f]{2}|[\"<>^`{|}\[\]]")
# The rest is asked of the fully decoded path, so that no spelling of an escape can hide from it.
_FORBIDDEN_DECODED = re.compile(rb"[\x00-\x1f\x7f\\]")
_DOUBLE_ENCODED = re.compile(rb"%(?:[0-9A-Fa-f]{2}|[uU][0-9A-Fa-f]{4})")
_DOT_SEGMENT = re.compile(rb"/\.{1,2}(?:[/;?#]|\Z)")  # `/..;/` is a parent to several Java containers

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _canonical_escapes() -> dict[bytes, bytes]:
    table = {bytes((byte,)): b"%%%02X" % byte for byte in b'"<>^`{|}[]'}
    for byte in range(256):
        canonical = bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte
        high, low = f"{byte >> 4:x}", f"{byte & 15:x}"
        for spelling in {high + low, high.upper() + low, high + low.upper(), high.upper() + low.upper()}:
            table[b"%" + spelling.encode()] = canonical
    return table


_ESCAPES = _canonical_escapes()


def parse(raw: bytes) -> ParsedTarget:
    """Canonical form of a request target in origin-, absolute- or asterisk-form.

    `*` comes back as the path `*`; that it belongs to OPTIONS alone is the caller's to check. The query passes byte for
    byte; only control bytes, spaces, raw non-ASCII and `#` are refused in it. Raises ClientError(TARGET_REFUSED) with
    status 400.
    """
    # Pages ask for the same targets over and over; what is refused is never kept.
    return _parse_cached(raw) if len(raw) <= _CACHED_LENGTH else _parse(raw)


def _parse(raw: bytes) -> ParsedTarget:
    clean = _CLEAN.fullmatch(raw)
    if clean is not None:
        path, query = clean.groups()
        if b"//" not in path and b"/." not in path:
            return ParsedTarget(Target(path, query), None, 0)
    if raw == b"*":
        return ParsedTarget(Target(b"*", None), None, 0)
    authority = None
    if not raw.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(raw)
        if absolute is None:
            raise _refused("neither origin-form nor http(s) absolute-form")
        authority, raw = absolute.groups()
        if not raw.startswith(b"/"):
            raw = b"/" + raw
    path, mark, query = raw.partition(b"?")
    if not _RAW_QUERY.fullmatch(query):
        raise _refused("a byte that may not stand in a query")
    path, needs = _canonical_path(path)
    return ParsedTarget(Target(path, query if mark else None), authority, needs)


_parse_cached = lru_cache(maxsize=4096)(_parse)


def _canonical_path(raw: bytes) -> tuple[bytes, int]:
    if not _RAW_PATH.fullmatch(raw):
        raise _refused("a byte that may not stand in a path")
    if _BAD_ESCAPE.search(raw):
        raise _refused("an incomplete percent escape")
    path = _REWRITE.sub(lambda found: _ESCAPES[found[0]], raw)
    decoded = unquote_to_bytes(path)
    if _FORBIDDEN_DECODED.search(decoded):
        raise _refused("an encoded control byte or backslash")
    if _DOUBLE_ENCODED.search(decoded):
        raise _refused("double encoding")
    if _DOT_SEGMENT.search(decoded):
        raise _refused("a dot segment")
    try:
        decoded.decode("utf-8")  # strict: overlong forms and surrogates are errors
    except UnicodeDecodeError:
        raise _refused("escapes that are not UTF-8") from None
    needs = DOUBLE_SLASH if b"//" in path else 0
    if b";" in decoded:
        needs |= PARAMETERS
    if b"%2F" in path:
        needs |= ENCODED_SLASH
    if b"?" in decoded or b"#" in decoded or b"%" in decoded:
        needs |= ENCODED_DELIMITERS
    return path, needs


def allowed_flags(paths: PathAllowances) -> int:
    """The opt-in features of a route as bit flags; worked out once, at load."""
    return (
        ENCODED_SLASH * paths.encoded_slash
        | DOUBLE_SLASH * paths.double_slash
        | PARAMETERS * paths.parameters
        | ENCODED_DELIMITERS * paths.encoded_delimiters
    )


def refuse_unless(needs: int, allowed: int) -> None:
    """Raise ClientError(TARGET_REFUSED) with status 400 if the target has a feature the route does not allow."""
    missing = needs & ~allowed
    if missing:
        names = ", ".join(name for flag, name in _FLAG_NAMES.items() if missing & flag)
        raise _refused(f"{names}, which the route does not allow")


def parse_target(raw: bytes, paths: PathAllowances | None = None) -> Target:
    """Both steps at once, for targets whose route is known; None allows nothing beyond the strict default."""
    parsed = parse(raw)
    refuse_unless(parsed.needs, 0 if paths is None else allowed_flags(paths))
    return parsed.target


def _refused(detail: str) -> ClientError:
    return ClientError(Reason.TARGET_REFUSED, detail, status=400)
