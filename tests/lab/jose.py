"""Makes tokens, right ones and wrong ones: signing keys, and compact JWS from raw parts."""

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from zt_proxy.core.keys import b64encode

_ALGORITHMS = get_default_algorithms()


class SigningKey:
    """A private key, the algorithm it signs with, and its public JWK."""

    def __init__(self, alg: str, private: Any, kid: str | None) -> None:
        self.alg = alg
        self.private = private
        self.kid = kid
        self.jwk: dict[str, Any] = {
            **_ALGORITHMS[alg].to_jwk(private.public_key(), as_dict=True),
            "alg": alg,
            "use": "sig",
        }
        self.jwk.pop("key_ops", None)
        if kid is not None:
            self.jwk["kid"] = kid

    def signature(self, signing_input: bytes) -> bytes:
        return bytes(_ALGORITHMS[self.alg].sign(signing_input, self.private))

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A compact JWS; `header` adds to or replaces members, None removes."""
        return self.sign_raw(encode(self.header(**header)), encode(claims))

    def header(self, **changes: Any) -> dict[str, Any]:
        members = {"alg": self.alg, "typ": "JWT", "kid": self.kid, **changes}
        return {name: value for name, value in members.items() if value is not None}

    def sign_raw(self, header: bytes, payload: bytes) -> str:
        """A compact JWS over exactly these bytes."""
        signing_input = f"{b64encode(header)}.{b64encode(payload)}"
        return f"{signing_input}.{b64encode(self.signature(signing_input.encode()))}"


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


@cache
def rsa_private(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    """RSA keys are slow to make: one per size and number for the whole test run."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


def rsa_key(kid: str | None = "rsa-1", alg: str = "RS256", number: int = 0) -> SigningKey:
    return SigningKey(alg, rsa_private(number=number), kid)


def ec_key(kid: str | None = "ec-1", alg: str = "ES256") -> SigningKey:
    curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[alg]
    return SigningKey(alg, ec.generate_private_key(curve), kid)


def ed_key(kid: str | None = "ed-1") -> SigningKey:
    return SigningKey("EdDSA", ed25519.Ed25519PrivateKey.generate(), kid)
