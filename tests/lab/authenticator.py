"""A passkey authenticator in software: answers what `navigator.credentials` would, and lies where a test wants it to.

phone = Authenticator()
credential = phone.create(options_json, origin)        # what `credential.toJSON()` gives
credential = phone.get(options_json, origin)
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from zt_proxy.core.keys import b64decode, b64encode

UP, UV, BE, BS, AT = 1 << 0, 1 << 2, 1 << 3, 1 << 4, 1 << 6
"""Flags of authenticator data (WebAuthn §6.1): user present, user verified, backup eligible, backed up, new key."""
ZERO = bytes(16)

Json = dict[str, Any]


@dataclass
class Credential:
    id: bytes
    key: ec.EllipticCurvePrivateKey
    rp_id: str
    user: bytes
    counter: int


@dataclass
class Maker:
    """Who vouches for an authenticator's make: the key and certificate it attests with, and the authority's."""

    key: ec.EllipticCurvePrivateKey
    chain: list[x509.Certificate]

    def x5c(self) -> list[bytes]:
        return [each.public_bytes(serialization.Encoding.DER) for each in self.chain]


@dataclass
class Authenticator:
    """`step`: by how much the counter rises each time; 0 for one that has none, as passkeys of phones."""

    aaguid: bytes = ZERO
    step: int = 1
    flags: int = UP | UV
    maker: Maker | None = None
    credentials: list[Credential] = field(default_factory=list)

    def create(self, options: str | Json, origin: str, *, rp_id: str | None = None, **client_data: Any) -> Json:
        """A new credential. `rp_id` in place of the one asked for; `client_data` on top of what a browser says.

        Raises LookupError where it holds one of `excludeCredentials`, as a browser's InvalidStateError.
        """
        asked = json.loads(options) if isinstance(options, str) else options
        held = {credential.id for credential in self.credentials}
        if any(b64decode(each["id"]) in held for each in asked.get("excludeCredentials", [])):
            raise LookupError("this authenticator is registered already")
        new = Credential(
            os.urandom(32),
            ec.generate_private_key(ec.SECP256R1()),
            rp_id or asked["rp"]["id"],
            b64decode(asked["user"]["id"]),
            self.step,
        )
        self.credentials.append(new)
        told = _client_data("webauthn.create", asked["challenge"], origin, client_data)
        key = len(new.id).to_bytes(2, "big") + new.id + cbor2.dumps(_cose(new.key))
        data = self._data(new, self.flags | AT) + self.aaguid + key
        statement = self._statement(asked.get("attestation"), data + hashlib.sha256(told).digest())
        attestation = cbor2.dumps({"fmt": "packed" if statement else "none", "attStmt": statement, "authData": data})
        return _json(new, clientDataJSON=told, attestationObject=attestation, transports=["internal", "hybrid"])

    def get(self, options: str | Json, origin: str, *, rp_id: str | None = None, **client_data: Any) -> Json:
        """An answer with the credential that is asked for.

        Raises LookupError without one, as a browser's NotAllowedError.
        """
        asked = json.loads(options) if isinstance(options, str) else options
        wanted = [b64decode(each["id"]) for each in asked.get("allowCredentials", [])]
        found = [each for each in self.credentials if not wanted or each.id in wanted]
        if not found:
            raise LookupError("no such credential")
        credential = found[-1]
        credential.counter += self.step
        told = _client_data("webauthn.get", asked["challenge"], origin, client_data)
        data = self._data(credential, self.flags, rp_id)
        signature = credential.key.sign(data + hashlib.sha256(told).digest(), ec.ECDSA(hashes.SHA256()))
        return _json(
            credential,
            clientDataJSON=told,
            authenticatorData=data,
            signature=signature,
            userHandle=credential.user,
        )

    def _data(self, credential: Credential, flags: int, rp_id: str | None = None) -> bytes:
        rp = hashlib.sha256((rp_id or credential.rp_id).encode()).digest()
        return rp + bytes([flags]) + credential.counter.to_bytes(4, "big")

    def _statement(self, conveyance: str | None, signed: bytes) -> Json:
        if self.maker is None or conveyance != "direct":
            return {}
        signature = self.maker.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return {"alg": -7, "sig": signature, "x5c": self.maker.x5c()}


def _client_data(kind: str, challenge: str, origin: str, more: Json) -> bytes:
    return json.dumps({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False, **more}).encode()


def _cose(key: ec.EllipticCurvePrivateKey) -> dict[int, Any]:
    numbers = key.public_key().public_numbers()
    return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}


def _json(credential: Credential, **response: Any) -> Json:
    encoded = {name: b64encode(value) if isinstance(value, bytes) else value for name, value in response.items()}
    return {
        "id": b64encode(credential.id),
        "rawId": b64encode(credential.id),
        "type": "public-key",
        "authenticatorAttachment": "platform",
        "clientExtensionResults": {},
        "response": encoded,
    }
