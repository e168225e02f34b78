"""The keys that sign assertions: on disk, published at `/.zt/jwks.json`, exchanged without an app noticing.

    time ──►  published   signs      published
    next      ██████████
    current               ██████████
    previous                         ██████████ overlap

A key is published for a whole rotation before it signs, so that every app that caches the JWKS has seen it, and stays
published after it signed for the last time until the last assertion and the last cached JWKS have ended (ZT-JWT-16).
"""

import hashlib
import os
import secrets
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from zt_proxy.core.clock import SKEW, Clock
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.keys import b64decode, b64encode
from zt_proxy.link.messages import SigningKey

FILE = "assertion.keys"

JWKS_MAX_AGE = 300
"""Seconds an app may cache the JWKS: the `max-age` of its Cache-Control."""

MINIMUM_OVERLAP = 120 + JWKS_MAX_AGE + 2 * SKEW
"""Longest life of an assertion, plus the cache, plus skew on both sides."""


class _Stored(msgspec.Struct, frozen=True):
    """One key in the file; times are seconds since the epoch, 0: not yet."""

    private: str
    published: float
    signs_since: float = 0.0
    retired: float = 0.0

    def __repr__(self) -> str:
        return f"_Stored(published={self.published!r})"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    current: _Stored
    next: _Stored
    previous: tuple[_Stored, ...] = ()


class _Key:
    """A stored key, opened: its public JWK and its thumbprint."""

    __slots__ = ("jwk", "private", "private_der", "stored")

    def __init__(self, stored: _Stored) -> None:
        self.stored = stored
        self.private_der = b64decode(stored.private)
        private = load_der_private_key(self.private_der, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise ValueError("not a P-256 key")
        self.private = private
        self.jwk = public_jwk(private.public_key())

    def changed(self, *, signs_since: float | None = None, retired: float | None = None) -> "_Key":
        stored = self.stored
        return _Key(
            _Stored(
                stored.private,
                stored.published,
                stored.signs_since if signs_since is None else signs_since,
                stored.retired if retired is None else retired,
            )
        )


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The public half of a P-256 key as a JWK (RFC 7518 §6.2.1); `kid` is its RFC 7638 thumbprint."""
    numbers = key.public_numbers()
    x, y = b64encode(numbers.x.to_bytes(32, "big")), b64encode(numbers.y.to_bytes(32, "big"))
    # RFC 7638 §3.3: the required members alone, in lexicographic order, without white space.
    digest = hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest()
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": b64encode(digest), "use": "sig", "alg": "ES256"}


def _generate(now: float) -> _Key:
    der = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return _Key(_Stored(b64encode(der), published=now))


class AssertionKeys:
    """Current, next and previous keys of one installation. Control alone holds and writes them.

    Made by `load_or_create` or `load`. Every change is on disk before it counts.
    """

    def __init__(
        self, path: Path, clock: Clock, rotation: float, overlap: float, keys: tuple[_Key, _Key, tuple[_Key, ...]]
    ) -> None:
        self._path = path
        self._clock = clock
        self._rotation = rotation
        self._overlap = max(overlap, MINIMUM_OVERLAP)
        self._current, self._next, self._previous = keys

    @classmethod
    def load_or_create(cls, state_dir: Path, clock: Clock, rotation: float, overlap: float) -> "AssertionKeys":
        """Read the keys of `state_dir`, or make some (mode 0600) if there are none.

        `rotation` and `overlap` are seconds; an overlap below `MINIMUM_OVERLAP` is raised to it.
        Raises ConfigurationError for a file that is damaged or that others may read; it is never replaced.
        """
        path = state_dir / FILE
        if not path.exists():
            now = clock.now()
            keys = (_generate(now).changed(signs_since=now), _generate(now), ())
            _write(path, _encode(*keys), replace=False)
        return cls.load(state_dir, clock, rotation, overlap)

    @classmethod
    def load(
        cls, state_dir: Path, clock: Clock, rotation: float = 30 * 86_400.0, overlap: float = 3_600.0
    ) -> "AssertionKeys":
        """As `load_or_create`, but a missing file is a ConfigurationError too."""
        path = state_dir / FILE
        return cls(path, clock, rotation, overlap, _read(path))

    def schedule(self, rotation: float, overlap: float) -> None:
        """Rotate at another age from now on, and keep what is retired published for another time; both in seconds."""
        self._rotation = rotation
        self._overlap = max(overlap, MINIMUM_OVERLAP)

    def current(self) -> SigningKey:
        """The key that signs now, for the workers."""
        return SigningKey(self._current.jwk["kid"], self._current.private_der)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """What apps may see (RFC 7517 §5): the public halves of current, next, and all that may still be in use."""
        now = self._clock.now()
        keys = (self._current, self._next, *self._in_use(self._previous, now))
        return {"keys": [dict(key.jwk) for key in keys]}

    def verification_keys(self) -> dict[str, ec.EllipticCurvePublicKey]:
        """The same as `jwks`, by `kid`, for control's own verifying."""
        keys = (self._current, self._next, *self._in_use(self._previous, self._clock.now()))
        return {key.jwk["kid"]: key.private.public_key() for key in keys}

    def due(self, now: float) -> bool:
        """Whether `rotate` should be called: the current key is old enough and apps have had time to see the next."""
        return now - self._current.stored.signs_since >= self._rotation and self._next_is_known(now)

    def rotate(self, *, compromised: bool = False) -> None:
        """Let the next key sign, publish one more, keep the old one published for the overlap.

        With `compromised` all that was made before is withdrawn at once, the next key too, since it lay in the same
        file: apps refuse assertions until they have fetched the JWKS again. Raises ConfigurationError without it if
        the next key was published less than `JWKS_MAX_AGE` ago. The caller sends `current()` to the workers.
        """
        now = self._clock.now()
        previous: tuple[_Key, ...] = ()
        if compromised:
            current = _generate(now).changed(signs_since=now)
        elif not self._next_is_known(now):
            raise ConfigurationError(f"the next assertion key was published less than {JWKS_MAX_AGE} s ago")
        else:
            current = self._next.changed(signs_since=now)
            previous = (self._current.changed(retired=now), *self._in_use(self._previous, now))
        keys = (current, _generate(now), previous)
        _write(self._path, _encode(*keys), replace=True)
        self._current, self._next, self._previous = keys

    def _next_is_known(self, now: float) -> bool:
        return now - self._next.stored.published >= JWKS_MAX_AGE

    def _in_use(self, keys: tuple[_Key, ...], now: float) -> tuple[_Key, ...]:
        return tuple(key for key in keys if now < key.stored.retired + self._overlap)


def _encode(current: _Key, following: _Key, previous: tuple[_Key, ...]) -> bytes:
    return msgspec.json.encode(_File(1, current.stored, following.stored, tuple(key.stored for key in previous)))


def _read(path: Path) -> tuple[_Key, _Key, tuple[_Key, ...]]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read()
    except OSError as error:
        raise ConfigurationError(f"{path}: the assertion keys cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigurationError(f"{path}: others may read the assertion keys; chmod it to 600")
    try:
        stored = msgspec.json.decode(raw, type=_File)
        if stored.version != 1:
            raise ValueError(f"version {stored.version} is not known")
        return _Key(stored.current), _Key(stored.next), tuple(_Key(key) for key in stored.previous)
    except (ValueError, TypeError) as error:
        # Without the cause in the text: a decoder may quote what it read, and what it read is a private key.
        raise ConfigurationError(f"{path}: not a file of assertion keys ({type(error).__name__})") from None


def _write(path: Path, body: bytes, *, replace: bool) -> None:
    """All or nothing, mode 0600, on disk when it returns. Without `replace`, a file that appeared meanwhile wins."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"{path}: the assertion keys cannot be written: {error.strerror}") from error
