"""JSON without leniency: what two parsers could read differently is refused (RFC 8259 §4, ZT-JWT-13)."""

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 32
MAX_DIGITS = 32

# Possessive throughout: one pass over any input, terminated or not; hostile text costs no more than its size.
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object from UTF-8 bytes whose size the caller has limited.

    Raises ValueError for anything else: other top-level values, duplicate members at any depth, nesting beyond
    MAX_DEPTH, NaN and Infinity, numbers that overflow a double or run to more than MAX_DIGITS digits, lone surrogates.
    The messages never quote the input.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
    except json.JSONDecodeError:
        raise ValueError("not JSON") from None  # the decoder's own message carries the document
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if _SURROGATE.search(text):
        _check_surrogates(value)
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for match in _STRUCTURE.finditer(text):
        first = match[0][0]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError("nested too deeply")
        elif first in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate members")
    return made


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("number too long")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits) if len(digits) <= MAX_DIGITS else math.inf
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _check_surrogates(value: dict[str, Any]) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("lone surrogate") from None


def printable(value: object, limit: int) -> str | None:
    """`value` if it is a non-empty string of at most `limit` printable characters, else None."""
    if isinstance(value, str) and 0 < len(value) <= limit and value.isprintable():
        return value
    return None


def string_list(value: object) -> list[str] | None:
    """`value` if it is a list of strings only, else None. A string is never taken for a list (ZT-OIDC-12)."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None
