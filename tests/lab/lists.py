"""Revocation lists of every kind, good and bad, from an authority made for the test."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

NOW = 1_800_000_000.0
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Extra = tuple[x509.ExtensionType, bool]


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class ListAuthority:
    """An authority that signs what it is told to."""

    def __init__(self, name: str = "Test clients", key: Key | None = None, *, crl_sign: bool = True) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.digest = None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        usage = x509.KeyUsage(False, False, False, False, False, True, crl_sign, False, False)
        self.certificate = (
            x509.CertificateBuilder(
                issuer_name=self.subject,
                subject_name=self.subject,
                public_key=self.key.public_key(),
                serial_number=x509.random_serial_number(),
                not_valid_before=moment(NOW) - timedelta(days=1),
                not_valid_after=moment(NOW) + timedelta(days=3650),
            )
            .add_extension(x509.BasicConstraints(True, 0), True)
            .add_extension(usage, True)
            .sign(self.key, self.digest)
        )
        self.pem = self.certificate.public_bytes(Encoding.PEM)
        self.issuer = self.certificate.subject.public_bytes()

    def crl(
        self,
        serials: Sequence[int] = (),
        *,
        number: int | None = 1,
        at: float = NOW,
        until: float | None = NOW + 7 * 86_400,
        extra: Sequence[Extra] = (),
        entry: Sequence[Extra] = (),
    ) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder(self.subject, moment(at), moment(until or at))
        if number is not None:
            builder = builder.add_extension(x509.CRLNumber(number), False)
        for value, critical in extra:
            builder = builder.add_extension(value, critical)
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder(serial, moment(at))
            for value, critical in entry:
                revoked = revoked.add_extension(value, critical)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, self.digest)

    def pem_list(self, serials: Sequence[int] = (), **options: object) -> bytes:
        return self.crl(serials, **options).public_bytes(Encoding.PEM)  # type: ignore[arg-type]

    def der_list(self, serials: Sequence[int] = (), **options: object) -> bytes:
        return self.crl(serials, **options).public_bytes(Encoding.DER)  # type: ignore[arg-type]
