"""Keys and what is done with them: cookie MACs, sealed hand-offs, encryption at rest with rotation.

A key ring is a file outside the store (mode 0600) with numbered keys; the highest number seals, all open. Two rings
exist: `worker.keys` (cookie MACs, hand-offs), which workers hold, and `store.keys` (encryption at rest), which never
leaves control.
"""

import hashlib
import hmac
import json
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.private import check_private, replace_privately

_LAST = 2**32 - 1
HANDLE_BYTES = 32
MAC_BYTES = 16


class Secret:
    """A string that never prints. `reveal()` is the only way to the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('…')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._value))


def b64encode(raw: bytes) -> str:
    """base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def new_id(size: int) -> str:
    """`size` random bytes as `b64encode` writes them. Never begins with `-`: people give ids to commands."""
    while (text := b64encode(os.urandom(size))).startswith("-"):
        pass
    return text


def b64decode(text: str) -> bytes:
    """The inverse of `b64encode`; strict: raises ValueError on padding, foreign characters or non-canonical tails."""
    if "=" in text or len(text) % 4 == 1:
        raise ValueError("not canonical base64url")
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64encode(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def subkey(key: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose, so that no MAC can be used for another (HKDF-Expand's first block, RFC 5869)."""
    return hmac.digest(key, purpose.encode() + b"\x01", "sha256")


class KeyRing:
    """Numbered 32-byte keys. Raises ConfigurationError when empty or malformed."""

    __slots__ = ("_keys", "current")

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        if not keys or any(len(key) != 32 for key in keys.values()):
            raise ConfigurationError("the key ring needs at least one key, each of 32 bytes")
        if min(keys) < 0 or max(keys) > _LAST:
            raise ConfigurationError("a key's number has to fit four bytes")
        self._keys = dict(keys)
        self.current = max(keys)

    @classmethod
    def load_or_create(cls, path: Path) -> "KeyRing":
        """Read the ring, or make one (mode 0600) if there is none.

        Raises ConfigurationError for one that is damaged or that others may read; it is never replaced.
        """
        try:
            with path.open("rb") as file:
                check_private(path, os.fstat(file.fileno()))
                text = file.read()
        except FileNotFoundError:
            ring = cls({1: secrets.token_bytes(32)})
            ring.save(path)
            return ring
        try:
            return cls({int(number): b64decode(key) for number, key in json.loads(text)["keys"].items()})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            # Without the cause: it may quote what was read, and what was read are keys.
            raise ConfigurationError(f"{path}: not a key ring ({type(error).__name__})") from None

    def save(self, path: Path) -> None:
        """Write the ring in the place of the one before, mode 0600. Raises OSError."""
        body = json.dumps({"keys": {str(number): b64encode(key) for number, key in self._keys.items()}})
        replace_privately(path, body.encode("ascii"))

    def rotated(self) -> "KeyRing":
        """A ring with one more key; everything sealed before still opens."""
        return KeyRing({**self._keys, self.current + 1: secrets.token_bytes(32)})

    def export(self) -> dict[int, bytes]:
        """Every key by its number, for the link to workers; `KeyRing(exported)` is the same ring."""
        return dict(self._keys)

    def key(self, number: int, purpose: str) -> bytes:
        """Raises KeyError for a number that is not in the ring."""
        return subkey(self._keys[number], purpose)

    def seal(self, purpose: str, plain: bytes, associated: bytes) -> bytes:
        """AES-256-GCM: key number (4 bytes), nonce (12), ciphertext and tag. `associated` is bound, not stored."""
        nonce = os.urandom(12)
        number = self.current.to_bytes(4, "big")
        return number + nonce + AESGCM(self.key(self.current, purpose)).encrypt(nonce, plain, number + associated)

    def open(self, purpose: str, sealed: bytes, associated: bytes) -> bytes:
        """Raises ValueError if the bytes, the purpose or `associated` are not those that were sealed."""
        try:
            key = self.key(int.from_bytes(sealed[:4], "big"), purpose)
            return AESGCM(key).decrypt(sealed[4:16], sealed[16:], sealed[:4] + associated)
        except (KeyError, InvalidTag, ValueError) as error:
            raise ValueError("sealed record does not open") from error


class CookieMac:
    """Makes and checks session handles: 32 random bytes and a MAC that workers can check without asking control.

    A made-up cookie therefore never costs a look-up (ZT-NET-04).
    """

    __slots__ = ("_key",)

    def __init__(self, ring: KeyRing, number: int | None = None) -> None:
        self._key = ring.key(ring.current if number is None else number, "session-cookie")

    def issue(self) -> str:
        """A new cookie value: base64url of handle and MAC, 64 characters."""
        handle = secrets.token_bytes(HANDLE_BYTES)
        return b64encode(handle + self._mac(handle))

    def handle_hash(self, cookie: str) -> bytes:
        """SHA-256 of the handle, by which the store knows it. Raises ValueError if this key did not make the cookie."""
        raw = b64decode(cookie)
        if len(raw) != HANDLE_BYTES + MAC_BYTES:
            raise ValueError("session cookie has the wrong length")
        handle, mac = raw[:HANDLE_BYTES], raw[HANDLE_BYTES:]
        if not hmac.compare_digest(self._mac(handle), mac):
            raise ValueError("session cookie was not issued here")
        return hashlib.sha256(handle).digest()

    def _mac(self, handle: bytes) -> bytes:
        return hmac.digest(self._key, handle, "sha256")[:MAC_BYTES]
