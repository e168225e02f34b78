"""What stands in the place of a masked value. Each takes a value as JSON text and gives JSON text.

Nothing of what a way gives depends on the value, but for `last4`, which shows its last four characters, and `hash`.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec


class Way(NamedTuple):
    """`call`: value → what replaces it, both as complete JSON values.

    `shows`: of a text without escapes it keeps that many characters behind four stars, if there are `LEAST`; None:
    nothing is known of it.
    """

    call: Callable[[bytes], bytes]
    shows: int | None = None


STARS = b'"****"'
SHOWN = 4
LEAST = 8
"""A text shorter than this shows nothing: four of seven characters are most of it."""
TAG = 12
"""Bytes of a hash, 24 hexadecimal digits."""

_NEUTRAL = {
    ord('"'): STARS,
    ord("{"): b"{}",
    ord("["): b"[]",
    ord("t"): b"false",
    ord("f"): b"false",
    ord("n"): b"null",
}


def neutral(value: bytes) -> bytes:
    """Something of the same kind that says nothing, so that a program that reads it goes on: null stays null."""
    return _NEUTRAL.get(value[0], b"0")


def fixed(text: bytes) -> Way:
    """Always the same: `text`, which is JSON; empty: what `neutral` gives."""
    return Way(lambda value: text) if text else Way(neutral, 0)


def last_four(value: bytes) -> bytes:
    """The last four characters of a text or an integer, behind four stars whatever its length."""
    first = value[0]
    if first == 34:  # a quotation mark
        if 92 in value or not value.isascii():
            text: str = msgspec.json.decode(value, type=str)
            return STARS if len(text) < LEAST else msgspec.json.encode("****" + text[-SHOWN:])
        return STARS if len(value) < LEAST + 2 else b'"****' + value[-SHOWN - 1 :]
    digits = value[1:] if first == 45 else value
    if digits.isdigit():
        return STARS if len(digits) < LEAST else b'"****%b"' % digits[-SHOWN:]
    return neutral(value)


LAST4 = Way(last_four, SHOWN)


def hashed(key: bytes) -> Way:
    """The same for the same text under one key, so that answers can still be joined, and nothing else (keyed
    BLAKE2b, RFC 7693 §2.9: a third of the time of an HMAC).

    A number counts as the text it is written with; what is neither text nor number has too few values to be hidden by
    a hash, and is replaced as `neutral` does.
    """

    def way(value: bytes) -> bytes:
        first = value[0]
        if first == 34:
            plain = value[1:-1] if 92 not in value else msgspec.json.decode(value, type=str).encode()
        elif first in b"-0123456789":
            plain = value
        else:
            return neutral(value)
        return b'"#%b"' % hashlib.blake2b(plain, key=key, digest_size=TAG).hexdigest().encode()

    return Way(way)
