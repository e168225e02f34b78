"""Authorities and client certificates of every kind, good and bad, made for the test.

ca = Authority("Clients"); leaf = ca.issue(uris=["spiffe://example.com/crm"]); leaf.write(folder) → (chain, key)
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

DAY = 86_400.0
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey
Extensions = dict[type[x509.ExtensionType], tuple[x509.ExtensionType, bool] | None]
"""Instead of the usual ones: an extension and whether it is critical; None leaves it out."""


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def distinguished(text: str) -> x509.Name:
    return x509.Name.from_rfc4514_string(text) if text else x509.Name([])


def key_usage(*, signs: bool = True, certifies: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(signs, False, False, False, False, certifies, certifies, False, False)


@lru_cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@lru_cache
def dsa_key() -> dsa.DSAPrivateKey:
    return dsa.generate_private_key(2048)


def _digest(key: Key, chosen: hashes.HashAlgorithm) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else chosen


@dataclass
class Leaf:
    """A client certificate with its key, and the intermediates that the client sends along."""

    certificate: x509.Certificate
    key: Key
    chain: Sequence[x509.Certificate] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, folder: Path) -> Path:
        """One PEM file with everything, as `load_cert_chain` and `curl --cert` take it."""
        path = folder / f"{self.certificate.serial_number:x}.pem"
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.chain)) + key)
        return path

    def show(self, context: ssl.SSLContext, folder: Path) -> ssl.SSLContext:
        """The context, with which a client now shows this certificate, however weak."""
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(self.write(folder))
        return context


class Authority:
    """Signs what it is told to. Without a parent it is a root."""

    def __init__(
        self,
        name: str = "Clients",
        parent: "Authority | None" = None,
        *,
        now: float = 1_800_000_000.0,
        key: Key | None = None,
        **options: Any,
    ) -> None:
        self.now = now
        self.parent = parent
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.subject = distinguished(f"CN={name},O=Example" if name else "")
        path_length = options.pop("path_length", None)
        usual: Extensions = {
            x509.BasicConstraints: (x509.BasicConstraints(True, path_length), True),
            x509.KeyUsage: (key_usage(signs=False, certifies=True), True),
        }
        usual.update(options.pop("extensions", {}))
        self.certificate = self._sign(self.subject, self.key, usual, parent or self, {"after": 3650 * DAY} | options)
        self.pem = self.certificate.public_bytes(Encoding.PEM)
        self.issuer = self.subject.public_bytes()

    def issue(
        self, *, uris: Sequence[str] = (), dns: Sequence[str] = (), subject: str = "CN=client", **options: Any
    ) -> Leaf:
        """A client certificate. `usages` are extended key usages, `extensions` replace the usual ones."""
        key = options.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
        usages = options.pop("usages", (Usage.CLIENT_AUTH,))
        names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
        usual: Extensions = {
            x509.KeyUsage: (key_usage(), True),
            x509.BasicConstraints: (x509.BasicConstraints(False, None), True),
            x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage(usages), False) if usages else None,
            x509.SubjectAlternativeName: (x509.SubjectAlternativeName(names), not subject) if names else None,
        }
        usual.update(options.pop("extensions", {}))
        certificate = self._sign(distinguished(subject), key, usual, self, options)
        return Leaf(certificate, key, self.above())

    def above(self) -> list[x509.Certificate]:
        """The intermediates from here up, without the root."""
        found, one = [], self
        while one.parent is not None:
            found.append(one.certificate)
            one = one.parent
        return found

    def _sign(
        self, subject: x509.Name, key: Key, extensions: Extensions, signer: "Authority", options: dict[str, Any]
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer_name=options.get("issuer", signer.subject),
            subject_name=subject,
            public_key=key.public_key(),  # type: ignore[arg-type]
            serial_number=options.get("serial", x509.random_serial_number()),
            not_valid_before=moment(self.now + options.get("before", -DAY)),
            not_valid_after=moment(self.now + options.get("after", 30 * DAY)),
        )
        public = key.public_key()
        usual: Extensions = {
            x509.SubjectKeyIdentifier: (x509.SubjectKeyIdentifier.from_public_key(public), False),  # type: ignore[arg-type]
            x509.AuthorityKeyIdentifier: (
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()),  # type: ignore[arg-type]
                False,
            ),
        }
        for found in {**usual, **extensions}.values():
            if found is not None:
                builder = builder.add_extension(*found)
        signing = options.get("signing_key", signer.key)
        return builder.sign(signing, _digest(signing, options.get("digest", hashes.SHA256())))

    def crl(self, serials: Sequence[int] = (), *, at: float = -DAY, until: float = 7 * DAY, number: int = 1) -> bytes:
        """A revocation list, PEM; times from the authority's now."""
        builder = x509.CertificateRevocationListBuilder(
            self.subject, moment(self.now + at), moment(self.now + until)
        ).add_extension(x509.CRLNumber(number), False)
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder(serial, moment(self.now + at))
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, _digest(self.key, hashes.SHA256())).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


def public_key_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def common_name(kind: Any, value: str) -> x509.Name:
    """A name with one CN of a chosen ASN.1 string type."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value, kind)])
