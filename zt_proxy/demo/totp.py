"""Time-based one-time passwords (RFC 6238) as the demo provider's second factor."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct

STEP = 30
DIGITS = 6


def code_at(secret: bytes, when: float) -> str:
    """The six digits that an authenticator shows at `when` (Unix seconds): SHA-1, steps of 30 s (RFC 6238 §4)."""
    counter = struct.pack(">Q", int(when) // STEP)
    digest = hmac.new(secret, counter, hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def matches(secret: bytes, typed: str, when: float) -> bool:
    """Whether `typed` is the code of `when` or of the step before or after it (RFC 6238 §5.2); blanks are ignored.

    A code is good for its whole step, even twice: the demo asks again within seconds when a rule wants a fresh
    sign-in, and nobody should have to wait half a minute for that. A real provider accepts a code once.
    """
    digits = "".join(typed.split())
    if not (digits.isascii() and digits.isdigit()):
        return False
    good = [hmac.compare_digest(code_at(secret, when + drift), digits) for drift in (-STEP, 0, STEP)]
    return any(good)


def seconds_left(when: float) -> int:
    """Seconds until the code of `when` gives way to the next one."""
    return STEP - int(when) % STEP


def base32(secret: bytes) -> str:
    """The secret as an authenticator app takes it."""
    return base64.b32encode(secret).decode().rstrip("=")


def from_base32(text: str) -> bytes:
    """The secret that `base32`, or a set-up page, shows; blanks and case do not matter. Raises ValueError."""
    letters = "".join(text.split()).upper().rstrip("=")
    if not letters:
        raise ValueError("no secret")
    return base64.b32decode(letters + "=" * (-len(letters) % 8))
