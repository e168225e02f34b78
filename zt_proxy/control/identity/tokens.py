"""Compact JWS → claims whose signature verified (RFC 7515, 7519, 8725). What the claims say is judged in `claims`."""

from collections.abc import Mapping
from typing import Any

import msgspec
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from zt_proxy.control.identity.jwks import MAX_KID, SUPPORTED, JwksCache
from zt_proxy.control.identity.strict import parse_object
from zt_proxy.core.errors import ConfigurationError, ProviderError, Reason
from zt_proxy.core.keys import b64decode

MAX_TOKEN = 384 * 1024
"""Characters: 5,000 groups named by UUID fit, and parsing stays at a few milliseconds."""
MAX_HEADER = 4 * 1024
ID_TOKEN = frozenset({"jwt", "application/jwt"})
LOGOUT_TOKEN = frozenset({"logout+jwt", "application/logout+jwt", *ID_TOKEN})
"""OpenID Connect Back-Channel Logout 1.0 §2.4 recommends a type of its own; older providers send `JWT`."""
# Ways for a token to bring or name its own key. None is ever followed; a token that tries is refused (ZT-JWT-03, 06).
_OWN_KEY = frozenset({"jwk", "jku", "x5u", "x5c"})


def token_error(detail: str) -> ProviderError:
    """The token does not verify: the sign-in is refused with 401. `detail` must not quote the token."""
    return ProviderError(Reason.LOGIN_TOKEN_INVALID, detail, status=401)


class Header(msgspec.Struct, frozen=True):
    """What is used of a JOSE header."""

    alg: str
    kid: str | None


class VerifiedToken(msgspec.Struct, frozen=True):
    """Claims under a good signature by the provider's key. Only `TokenVerifier` makes one."""

    header: Header
    claims: Mapping[str, Any]


class TokenVerifier:
    """Verifies tokens of one provider under the operator's list of algorithms."""

    __slots__ = ("_algorithms", "_jws", "_keys")

    def __init__(self, algorithms: tuple[str, ...], keys: JwksCache) -> None:
        if not algorithms or not SUPPORTED.issuperset(algorithms):
            raise ConfigurationError(f"ID-token algorithms must be some of {', '.join(sorted(SUPPORTED))}")
        self._algorithms = frozenset(algorithms)
        self._jws = PyJWS(algorithms=list(algorithms))
        self._keys = keys

    async def verify(self, token: str, types: frozenset[str] = ID_TOKEN) -> VerifiedToken:
        """`types` are the values of `typ` that are meant; a token without one passes for any of them.

        Raises ProviderError: LOGIN_TOKEN_INVALID, or PROVIDER_… when the keys cannot be had.
        """
        header, payload = read_compact(token, self._algorithms, types)
        for candidate in await self._keys.find(header.kid, header.alg):
            try:
                verified = self._jws.decode_complete(token, candidate.key, algorithms=[header.alg])
            except (PyJWTError, ValueError, TypeError):
                continue
            # Two parsers read the token; the claims used must be the bytes that were verified.
            if verified["payload"] == payload:
                return VerifiedToken(header=header, claims=_parse(payload, "payload"))
        raise token_error("ID token: no key of the provider verifies the signature")


def read_compact(token: object, algorithms: frozenset[str], types: frozenset[str] = ID_TOKEN) -> tuple[Header, bytes]:
    """Split and check a token before any cryptography. Raises ProviderError(LOGIN_TOKEN_INVALID)."""
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN:
        raise token_error("ID token: not a string of acceptable size")
    parts = token.split(".", 5)
    if len(parts) != 3:  # five would be a JWE, which this relying party never asked for (ZT-JWT-09, 10)
        raise token_error("ID token: not a compact JWS of three parts")
    if len(parts[0]) > MAX_HEADER or not parts[2]:
        raise token_error("ID token: header too large or signature empty")
    try:
        raw_header, payload, _ = (b64decode(part) for part in parts)
    except ValueError:
        raise token_error("ID token: not canonical base64url") from None
    return _check_header(_parse(raw_header, "header"), algorithms, types), payload


def _check_header(header: Mapping[str, Any], algorithms: frozenset[str], types: frozenset[str]) -> Header:
    if "crit" in header or "b64" in header:
        raise token_error("ID token: header has extensions that are not understood (RFC 7515 §4.1.11)")
    if _OWN_KEY & header.keys():
        raise token_error("ID token: header brings its own key")
    alg = header.get("alg")
    if not isinstance(alg, str) or alg not in algorithms:
        raise token_error("ID token: alg is not in the allow-list")
    kid = header.get("kid")
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise token_error("ID token: kid is not a short string")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower() not in types:  # RFC 8725 §3.11: an access or logout token is no ID token
        raise token_error("ID token: typ is of another kind of token")
    return Header(alg=alg, kid=kid)


def _parse(raw: bytes, part: str) -> dict[str, Any]:
    try:
        return parse_object(raw)
    except ValueError as error:
        raise token_error(f"ID token: {part}: {error}") from None
