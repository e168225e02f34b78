"""JSON as one line of printable ASCII: one line is one event, and a terminal shows it as text (ZT-LOG-01)."""

import json
from collections.abc import Callable, Mapping, Sequence

import msgspec

from zt_proxy.core.session import ClaimValue

Value = str | int | float | bool | Sequence[str] | Mapping[str, ClaimValue]
"""What a field of an event may be."""

_encode = msgspec.json.Encoder().encode
encode_float: Callable[[float], bytes] = _encode
"""A finite float in the fewest decimal digits that give it back."""
_PRINTABLE = bytes(range(0x20, 0x7F))


def encode_line(value: object) -> bytes:
    """JSON of a Struct, mapping or list, without a line break.

    Whatever is not printable ASCII (line breaks, ANSI sequences, U+2028, bidirectional marks, lone surrogates) is
    written as a JSON escape: no log reader splits or interprets it, and every JSON parser gets the value back.
    """
    try:
        raw = _encode(value)
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot carry but a JSON escape can
        return _escape(msgspec.to_builtins(value))
    if not raw.isascii():
        return _escape(json.loads(raw))
    return raw.replace(b"\x7f", b"\\u007f") if 0x7F in raw else raw


def _escape(value: object) -> bytes:
    raw = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return raw.replace(b"\x7f", b"\\u007f")


def printable(line: bytes) -> bool:
    """True if the bytes are nothing but printable ASCII."""
    return not line.translate(None, _PRINTABLE)
