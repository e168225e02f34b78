"""The provider's signing keys: strict when loaded (RFC 7517, 7518, 8037; ZT-JWT-15), fetched rarely."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from zt_proxy.control.identity.fetch import SingleFlight, invalid
from zt_proxy.control.identity.strict import parse_object, string_list
from zt_proxy.core.clock import Clock
from zt_proxy.core.keys import b64decode

LIFETIME = 3_600.0
"""Seconds after which keys are fetched anew: how long a withdrawn key may still count."""
UNKNOWN_KID_INTERVAL = 60.0
"""Seconds between fetches that an unknown `kid` may cause."""
MAX_KEYS = 64
MAX_KID = 256

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: dict[str, tuple[str, ec.EllipticCurve, int]] = {
    "P-256": ("ES256", ec.SECP256R1(), 32),
    "P-384": ("ES384", ec.SECP384R1(), 48),
    "P-521": ("ES512", ec.SECP521R1(), 66),
}
SUPPORTED = frozenset((*_RSA_ALGORITHMS, *(name for name, _, _ in _CURVES.values()), "EdDSA"))
"""All algorithms a key can be fixed to: asymmetric ones only."""
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

log = structlog.get_logger(__name__)


class VerificationKey(msgspec.Struct, frozen=True):
    """A public key and the algorithms its type allows; the token's header only chooses among those (RFC 8725 §3.1)."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: PublicKey


def load_key(jwk: object) -> VerificationKey:
    """Make a key from one JWK. Raises ValueError for any that is weak, contradictory, secret or not for signatures."""
    if not isinstance(jwk, dict):
        raise ValueError("not an object")
    if _PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("has private or symmetric members")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("use is not sig")
    if "key_ops" in jwk and "verify" not in (string_list(jwk["key_ops"]) or ()):
        raise ValueError("key_ops has no verify")
    kid = jwk.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise ValueError("kid is not a short string")
    algorithms, key = _load_public(jwk)
    if "alg" in jwk:
        if jwk["alg"] not in algorithms:
            raise ValueError("alg does not fit the key")
        algorithms = (jwk["alg"],)
    return VerificationKey(kid=kid, algorithms=algorithms, key=key)


def _load_public(jwk: dict[str, Any]) -> tuple[tuple[str, ...], PublicKey]:
    match jwk.get("kty"):
        case "RSA":
            return _RSA_ALGORITHMS, _load_rsa(jwk)
        case "EC":
            crv = jwk.get("crv")
            if not isinstance(crv, str) or crv not in _CURVES:
                raise ValueError("crv is not supported")
            algorithm, curve, size = _CURVES[crv]
            x, y = _octets(jwk, "x"), _octets(jwk, "y")
            if len(x) != size or len(y) != size:
                raise ValueError("coordinates have the wrong length")
            numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)
            return (algorithm,), numbers.public_key()  # ValueError when the point is not on the curve
        case "OKP":
            if jwk.get("crv") != "Ed25519":
                raise ValueError("crv is not supported")
            return ("EdDSA",), Ed25519PublicKey.from_public_bytes(_octets(jwk, "x"))
        case _:
            raise ValueError("kty is not supported")


def _load_rsa(jwk: dict[str, Any]) -> rsa.RSAPublicKey:
    n = int.from_bytes(_octets(jwk, "n"), "big")
    e = int.from_bytes(_octets(jwk, "e"), "big")
    if not 2_048 <= n.bit_length() <= 8_192 or n % 2 == 0:
        raise ValueError("modulus is not of 2048 to 8192 bits")
    if e < 3 or e % 2 == 0 or e.bit_length() > 64:
        raise ValueError("exponent is not an odd number from 3")
    return rsa.RSAPublicNumbers(e, n).public_key()


def _octets(jwk: dict[str, Any], name: str) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str) or not text or len(text) > 2_048:
        raise ValueError(f"{name} is not a short string")
    return b64decode(text)


def read_jwks(raw: bytes, provider: str) -> tuple[VerificationKey, ...]:
    """The usable keys of a JWK set; each other one is logged and left out.

    Raises ProviderError(PROVIDER_INVALID) when the document is malformed or has no usable key.
    """
    try:
        jwks = parse_object(raw).get("keys")
    except ValueError as error:
        raise invalid(f"JWKS: {error}") from None
    if not isinstance(jwks, list) or len(jwks) > MAX_KEYS:
        raise invalid(f"JWKS: keys is not a list of at most {MAX_KEYS}")
    usable: list[VerificationKey] = []
    for index, jwk in enumerate(jwks):
        try:
            usable.append(load_key(jwk))
        except ValueError as error:
            log.info("provider key left out", provider=provider, index=index, problem=str(error))
    if not usable:
        raise invalid("JWKS: no usable key")
    return tuple(usable)


class JwksCache:
    """Holds one provider's keys. `fetch` gives the raw document or raises ProviderError."""

    __slots__ = ("_clock", "_fetch", "_fetched", "_flight", "_keys", "_last_extra", "_provider")

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], *, provider: str, clock: Clock) -> None:
        self._fetch = fetch
        self._provider = provider
        self._clock = clock
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched = 0.0
        self._last_extra: float | None = None
        self._flight: SingleFlight[tuple[VerificationKey, ...]] = SingleFlight()

    async def find(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """The keys a token with this header may be verified by: none, one, or (same `kid` twice) a few.

        A token without `kid` is accepted only while one key alone fits (OpenID Connect Core §10.1).
        Raises ProviderError when keys are needed and cannot be had.
        """
        if not self._keys or self._clock.monotonic() - self._fetched >= LIFETIME:
            return _choose(await self._flight.run(self._refresh), kid, algorithm)
        found = _choose(self._keys, kid, algorithm)
        if found or not self._may_refresh():
            return found
        return _choose(await self._flight.run(self._refresh), kid, algorithm)

    def cancel(self) -> None:
        self._flight.cancel()

    def _may_refresh(self) -> bool:
        """Once a minute, counted from the attempt: made-up key ids must not become load on the provider."""
        if self._flight.running:
            return True  # joins the attempt under way, which costs nothing
        now = self._clock.monotonic()
        if self._last_extra is not None and now - self._last_extra < UNKNOWN_KID_INTERVAL:
            return False
        self._last_extra = now
        return True

    async def _refresh(self) -> tuple[VerificationKey, ...]:
        self._keys = read_jwks(await self._fetch(), self._provider)
        self._fetched = self._clock.monotonic()
        return self._keys


def _choose(keys: tuple[VerificationKey, ...], kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
    fitting = tuple(key for key in keys if algorithm in key.algorithms)
    if kid is None:
        return fitting if len(fitting) == 1 else ()
    return tuple(key for key in fitting if key.kid == kid)[:4]
