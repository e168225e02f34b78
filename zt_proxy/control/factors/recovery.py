"""Recovery codes: ten look-up secrets (NIST SP 800-63B-4 §3.1.2), each good once, shown once, kept as keyed hashes.

A code has 120 random bits, so nobody finds one by trying, here or against a stolen store: HMAC-SHA-256 with a key that
is not in the store is enough. A slow hash is for passwords, which people choose; NIST asks for one below 112 bits only.
"""

import hmac
import secrets

from zt_proxy.core.keys import KeyRing

COUNT = 10
LETTERS = 24
"""Of five bits each."""
GROUP = 4
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: nothing that is taken for something else."""
_READ_AS = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None, "‐": None, "–": None})


def new_codes() -> tuple[str, ...]:
    """Such as `7k2m-9xqp-4tw0-hn6d-r8vb-3cyz`."""
    return tuple(_new_code() for _ in range(COUNT))


def _new_code() -> str:
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(LETTERS))
    return "-".join(letters[first : first + GROUP] for first in range(0, LETTERS, GROUP))


def code_in(text: str) -> str | None:
    """The letters in what was typed, without hyphens and spaces, misread ones put right; None if it is no such code."""
    letters = "".join(text.split()).casefold().translate(_READ_AS)
    return letters if len(letters) == LETTERS and set(letters) <= set(_ALPHABET) else None


def code_hash(ring: KeyRing, person: bytes, code: str) -> bytes:
    """By which the store knows the code of `code_in` of this person. Keyed with the first key: rotation keeps it."""
    return hmac.digest(ring.key(1, "recovery-code"), person + code.encode("ascii"), "sha256")
