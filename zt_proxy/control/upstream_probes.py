"""Assertions as they should be, and as an attacker would make them: what `zt-proxy verify-upstream` sends.

Every forgery differs from the good one in exactly one thing, so that what an app accepts says what it does not check.
"""

import hashlib
import hmac
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from zt_proxy.control.assertion_keys import public_jwk
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.keys import b64decode, b64encode
from zt_proxy.link.messages import SigningKey

LIFE = 120
HOUR = 3_600


class Visitor(msgspec.Struct, frozen=True):
    """For whom the probes speak, and as which audience. `groups` only where the app needs one to answer."""

    issuer: str
    audience: str
    subject: str = "zt-proxy:verify-upstream"
    email: str | None = None
    groups: tuple[str, ...] = ()


class Probe(msgspec.Struct, frozen=True):
    """One request: the values of `X-ZT-Assertion` it carries, and what an app that accepts it fails to check."""

    name: str
    values: tuple[str, ...]
    unchecked: str
    """In the words of a report; empty for the good one."""


class _Forger:
    """Makes compact tokens by hand: a library rightly refuses to make most of these."""

    def __init__(self, key: SigningKey, visitor: Visitor, now: int) -> None:
        private = load_der_private_key(key.private_der, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ConfigurationError("the assertion key is not on the curve P-256")
        self.private = private
        self.stranger = ec.generate_private_key(ec.SECP256R1())
        self.kid = key.kid
        self.claims: dict[str, Any] = {
            "iss": visitor.issuer,
            "aud": visitor.audience,
            "sub": visitor.subject,
            "groups": sorted(visitor.groups),
            "roles": [],
            "amr": ["mfa"],
            "auth_time": now,
            "sid": "verify-upstream",
            "iat": now,
            "nbf": now,
            "exp": now + LIFE,
        }
        if visitor.email:
            self.claims["email"] = visitor.email

    def signed(self, **changes: object) -> str:
        """Rightly signed; a change to None removes the claim."""
        claims = {name: value for name, value in {**self.claims, **changes}.items() if value is not None}
        return jwt.encode(claims, self.private, algorithm="ES256", headers={"kid": self.kid})

    def by_stranger(self, **header: object) -> str:
        return jwt.encode(self.claims, self.stranger, algorithm="ES256", headers={"kid": self.kid, **header})

    def unsigned(self, algorithm: str) -> str:
        return f"{_segment({'alg': algorithm, 'kid': self.kid, 'typ': 'JWT'})}.{_segment(self.claims)}."

    def by_hmac(self, secret: bytes) -> str:
        """The public key as a shared secret (CVE-2015-9235 and its many successors)."""
        text = f"{_segment({'alg': 'HS256', 'kid': self.kid, 'typ': 'JWT'})}.{_segment(self.claims)}"
        return f"{text}.{b64encode(hmac.digest(secret, text.encode(), hashlib.sha256))}"

    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _segment(value: object) -> str:
    return b64encode(msgspec.json.encode(value))


def probes(key: SigningKey, visitor: Visitor, now: float) -> tuple[Probe, ...]:
    """The good request first, then every forgery. `now` is seconds since the epoch; all are meant for this minute.

    `key` is the current assertion key, from the proxy's own state.
    """
    moment = int(now)
    forger = _Forger(key, visitor, moment)
    good = forger.signed()
    head, body, signature = good.split(".")
    raw = b64decode(signature)
    flipped = b64encode(raw[:-1] + bytes((raw[-1] ^ 1,)))
    somebody = _segment({**forger.claims, "sub": "someone-else"})
    stranger = forger.by_stranger()
    early = {"iat": moment + HOUR, "nbf": moment + HOUR, "exp": moment + HOUR + LIFE}
    late = {"iat": moment - HOUR, "nbf": moment - HOUR, "exp": moment - HOUR + LIFE}
    made = (
        ("good assertion", (good,), ""),
        ("no assertion", (), "that there is an assertion at all"),
        ("empty assertion", ("",), "that the assertion is not empty"),
        ("wrong signature", (f"{head}.{body}.{flipped}",), "the signature"),
        ("changed claims", (f"{head}.{somebody}.{signature}",), "the signature over the claims"),
        ("no signature", (f"{head}.{body}.",), "that there is a signature"),
        ("signature of zeros", (f"{head}.{body}.{b64encode(bytes(64))}",), "r and s (CVE-2022-21449)"),
        ("other key, same kid", (stranger,), "the signature, beyond the name of the key"),
        (
            "key in its own header",
            (forger.by_stranger(jwk=public_jwk(forger.stranger.public_key())),),
            "whose key it is",
        ),
        ("unknown kid", (forger.by_stranger(kid="unknown"),), "that the key is in the JWKS"),
        ("wrong audience", (forger.signed(aud=f"{visitor.audience}-other"),), "`aud`: whom it was meant for"),
        ("no audience", (forger.signed(aud=None),), "that there is an `aud`"),
        ("wrong issuer", (forger.signed(iss="https://issuer.invalid"),), "`iss`: who made it"),
        ("expired", (forger.signed(**late),), "`exp`: when it ends"),
        ("no expiry", (forger.signed(exp=None),), "that there is an `exp`"),
        ("not yet valid", (forger.signed(**early),), "`nbf`: when it begins"),
        ("alg: none", (forger.unsigned("none"),), "the algorithm (`none` needs no key)"),
        ("alg: NoNe", (forger.unsigned("NoNe"),), "the algorithm (`none` in another case)"),
        ("HS256 with the public key", (forger.by_hmac(forger.public_pem()),), "the algorithm (public key as a secret)"),
        ("truncated", (good[: len(good) * 2 // 3],), "that the assertion is whole"),
        ("two headers, forged first", (stranger, good), "that there is only one header"),
        ("two headers, forged last", (good, stranger), "that there is only one header"),
    )
    return tuple(Probe(name, values, unchecked) for name, values, unchecked in made)
