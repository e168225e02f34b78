"""Certificate revocation lists (RFC 5280 §5): bytes in, lists that an authority signed out, or the reason why not.

Base lists only. What covers a part, or builds on another list, or carries something critical that is not understood, is
refused: a list that says less than it seems to say would let revoked certificates in.
"""

import binascii
import hashlib
import re
from collections.abc import Iterable
from datetime import datetime

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from zt_proxy.core.clock import SKEW
from zt_proxy.link.messages import SERIAL_BYTES, pack_serials

LARGEST = 64 * 1024 * 1024
"""Bytes of a file; a list of a million entries has 50 MiB."""
_MARK = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]+)-----")
_LABELS = (b"X509 CRL", b"CRL")
_TORN = "holds neither DER nor whole PEM blocks; it may be cut off"
_WEAK = ("md5", "sha1")
_UNDERSTOOD = (x509.CRLNumber, x509.AuthorityKeyIdentifier)
_CRITICAL = b"\x01\x01\xff"
"""DER of BOOLEAN TRUE: without it, no entry of a list has a critical extension."""
_CRYPTOGRAPHY = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
)
"""What reading foreign DER raises; these share no parent of their own."""


class ListError(ValueError):
    """A list, or a file of lists, that says nothing that could be relied on. The text is for the operator."""


class DamagedError(ListError):
    """A file that is not whole just now, and may be at any moment."""


class NotYetError(DamagedError):
    """A list that will be good at `at`, seconds since the epoch."""

    def __init__(self, at: float) -> None:
        super().__init__("is of the future (thisUpdate): compare the clocks of this machine and of the authority")
        self.at = at


class SignedList(msgspec.Struct, frozen=True):
    """A base list whose signature an authority of the listener made. Times are seconds since the epoch."""

    issuer: bytes
    """The authority's subject, DER."""
    name: str
    """The same for people (RFC 4514)."""
    authority: bytes
    """SHA-256 of subject and public key: two authorities of one name are two."""
    number: int | None
    """CRLNumber, which rises with each list; absent in lists of version 1."""
    this_update: float
    next_update: float
    digest: bytes
    """SHA-256 of its bytes."""
    serials: bytes
    """As `link.messages.RevocationList.serials`."""

    def __len__(self) -> int:
        return len(self.serials) // SERIAL_BYTES

    @property
    def age(self) -> tuple[int, float]:
        """Compares as older < newer. A list without a number is older than any with one: authorities do not go back."""
        return (-1 if self.number is None else self.number, self.this_update)


class Signer(msgspec.Struct, frozen=True):
    """An authority, as far as its lists need it."""

    certificate: x509.Certificate
    issuer: bytes
    name: str
    identity: bytes
    """As `SignedList.authority`."""


def read_authorities(raw: bytes) -> tuple[Signer, ...]:
    """The authorities of a PEM file. Raises ListError for a file without any, or with one that cannot be read."""
    try:
        found = tuple(_signer(each) for each in x509.load_pem_x509_certificates(raw) if _is_authority(each))
    except _CRYPTOGRAPHY:
        raise ListError("holds no readable PEM certificates") from None
    if not found:
        raise ListError("holds no certificate of an authority")
    return found


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.version is x509.Version.v1  # roots of old know no extensions


def _signer(certificate: x509.Certificate) -> Signer:
    issuer = certificate.subject.public_bytes()
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Signer(certificate, issuer, certificate.subject.rfc4514_string(), hashlib.sha256(issuer + key).digest())


def split(raw: bytes) -> list[bytes]:
    """The lists of a file, DER each: one in DER, or any number in PEM. Raises ListError for anything else in it."""
    if not raw.strip():
        raise DamagedError("is empty")
    if len(raw) > LARGEST:
        raise DamagedError(f"is larger than {LARGEST // 2**20} MiB")
    if raw[:1] == b"\x30":
        return [raw]
    marks = list(_MARK.finditer(raw))
    found = []
    for begin, end in zip(marks[::2], marks[1::2], strict=False):
        label = begin[2]
        if begin[1] != b"BEGIN" or end[1] != b"END" or end[2] != label:
            raise DamagedError(_TORN)
        if label not in _LABELS:
            raise ListError(f"holds a {label.decode()} where revocation lists belong")
        try:
            body = raw[begin.end() : end.start()].translate(None, b" \t\r\n")
            found.append(binascii.a2b_base64(body, strict_mode=True))
        except binascii.Error:
            raise DamagedError("holds a PEM block that is not base64") from None
    if not found or 2 * raw.count(b"-----BEGIN ") != len(marks):
        raise DamagedError(_TORN)
    return found


def read(der: bytes, signers: Iterable[Signer], now: float) -> SignedList:
    """One list, checked except for its end: who judges it later asks `next_update`. Raises ListError.

    100,000 entries take 0.2 s; call it in a thread.
    """
    try:
        revoked = x509.load_der_x509_crl(der)
        signer = _signed_by(revoked, der, signers)
        number = _extensions(revoked)
        if _CRITICAL in der:
            _entries(revoked)
        serials = pack_serials(entry.serial_number for entry in revoked)
        this_update, next_update = _seconds(revoked.last_update_utc), _seconds(revoked.next_update_utc)
    except ListError:
        raise
    except _CRYPTOGRAPHY as error:
        raise DamagedError(f"is not a readable revocation list ({_first_line(error)})") from None
    if this_update is None or next_update is None:
        raise ListError("does not say until when it is valid (nextUpdate)")
    if this_update > now + SKEW:
        raise NotYetError(this_update - SKEW)
    if next_update < this_update:
        raise ListError("ends before it begins (nextUpdate, thisUpdate)")
    digest = hashlib.sha256(der).digest()
    return SignedList(signer.issuer, signer.name, signer.identity, number, this_update, next_update, digest, serials)


def merge_serials(several: Iterable[bytes]) -> bytes:
    """What any of several lists revokes, in the form of `SignedList.serials`."""
    found = {serials[at : at + SERIAL_BYTES] for serials in several for at in range(0, len(serials), SERIAL_BYTES)}
    return b"".join(sorted(found))


def _signed_by(revoked: x509.CertificateRevocationList, der: bytes, signers: Iterable[Signer]) -> Signer:
    """The authority that signed: by name first, so that the answer can tell a wrong name from a wrong signature."""
    issuer = revoked.issuer
    named = [signer for signer in signers if signer.certificate.subject == issuer]
    if not named:
        raise ListError(f"is of another authority ({issuer.rfc4514_string() or 'without a name'})")
    algorithm = revoked.signature_hash_algorithm
    if algorithm is not None and algorithm.name in _WEAK:
        raise ListError(f"is signed with {algorithm.name}, which proves nothing any more")
    signed = _signed_part(der)
    for signer in named:
        if _may_sign(signer.certificate) and _verifies(revoked, signed, signer.certificate):
            return signer
    raise DamagedError(f"has the name of {issuer.rfc4514_string()}, but not its signature")


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _verifies(revoked: x509.CertificateRevocationList, signed: bytes, certificate: x509.Certificate) -> bool:
    """Over the bytes as they came: cryptography's own method writes them anew, ten times as slow for a long list."""
    key, how, signature = certificate.public_key(), revoked.signature_algorithm_parameters, revoked.signature
    algorithm = revoked.signature_hash_algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(how, ec.ECDSA):
            key.verify(signature, signed, how)
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(how, padding.PKCS1v15 | padding.PSS) and algorithm:
            key.verify(signature, signed, how, algorithm)
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) and how is None:
            key.verify(signature, signed)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _signed_part(der: bytes) -> bytes:
    """The first element of the outer sequence (tbsCertList). Whoever loaded the list compared its two algorithms."""
    start, _ = _element(der, 0)
    return der[start : _element(der, start)[1]]


def _element(der: bytes, position: int) -> tuple[int, int]:
    """Where the content of a DER element begins and ends. Raises ListError outside of the bytes."""
    length = der[position + 1] if position + 1 < len(der) else 0xFF
    begin = position + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[begin : begin + size], "big")
        begin += size
    if begin + length > len(der) or begin > len(der):
        raise DamagedError("is cut off")
    return begin, begin + length


def _extensions(revoked: x509.CertificateRevocationList) -> int | None:
    """The list's number. Raises ListError for a list that is not a whole base list, or not understood."""
    number = None
    for extension in revoked.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            raise ListError("is a delta list; give the base list")
        if isinstance(value, x509.IssuingDistributionPoint):
            what = "an indirect list" if value.indirect_crl else "a partial list (issuingDistributionPoint)"
            raise ListError(f"is {what}; give the authority's own whole list")
        if isinstance(value, x509.CRLNumber):
            number = value.crl_number
        elif extension.critical and not isinstance(value, _UNDERSTOOD):
            raise ListError(f"has a critical extension that is not understood ({extension.oid.dotted_string})")
    return number


def _entries(revoked: x509.CertificateRevocationList) -> None:
    """Raises ListError for entries with critical extensions (RFC 5280 §5.3: such a list must not be used)."""
    for entry in revoked:
        for extension in entry.extensions:
            if isinstance(extension.value, x509.CertificateIssuer):
                raise ListError("is an indirect list; give the authority's own whole list")
            if extension.critical and not isinstance(extension.value, x509.CRLReason | x509.InvalidityDate):
                raise ListError(f"has an entry with a critical extension ({extension.oid.dotted_string})")


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:120]
