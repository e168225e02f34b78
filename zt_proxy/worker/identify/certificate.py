"""What a client certificate says, and whether it counts at this moment: values in, a verdict out.

TLS has proven that the client holds the key and that the chain leads to one of the listener's authorities, and nothing
else (`edge.tls` says why). Everything that can change while a connection lives, and everything that a client deserves
to be told, is judged here, over the whole chain: validity, purpose, key usage, strength, revocation.
"""

import hashlib
import itertools
import math
import warnings
from collections.abc import Container, Mapping
from typing import Protocol, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zt_proxy.core.errors import Reason

T = TypeVar("T", bound=x509.ExtensionType)
NameKey = tuple[tuple[str, ...], ...]

MINIMUM_RSA = 2048
MINIMUM_CURVE = 256
_WEAK_HASHES = frozenset(("md5", "sha1"))
_ATTRIBUTES = {"EMAILADDRESS": NameOID.EMAIL_ADDRESS, "SERIALNUMBER": NameOID.SERIAL_NUMBER, "SN": NameOID.SURNAME}


class RevocationList(Protocol):
    """What control says about the certificates of one issuer (`link.messages.RevocationList`)."""

    @property
    def next_update(self) -> float:
        """Epoch seconds from which on the list says nothing any more."""

    @property
    def problem(self) -> str:
        """Why this list cannot be trusted; empty if it can."""

    def revokes(self, serial: int) -> bool: ...


class CertificateFacts(msgspec.Struct, frozen=True):
    """One certificate of a chain, read once. Names are exact; times are epoch seconds, both ends included."""

    fingerprint: str
    """SHA-256 of the DER form, lower-case hexadecimal."""
    key: bytes
    """SHA-256 of its public key (SubjectPublicKeyInfo)."""
    issuer: bytes
    subject: bytes
    """Distinguished names, DER."""
    issuer_key: NameKey
    subject_key: NameKey
    serial: int
    not_before: float
    not_after: float
    authority: bool
    """CA:TRUE"""
    for_clients: bool
    """`clientAuth` is named among its extended key usages; absence and `anyExtendedKeyUsage` name nothing."""
    may_sign: bool
    """No key usage, or one with digital signatures: what a TLS client does with its key (RFC 8446 §4.4.3)."""
    uris: tuple[str, ...]
    dns: tuple[str, ...]
    fault: str = ""
    """What makes it unfit in itself: a key or a signature that is too weak, powers that only authorities have."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether a chain counts, and how long that answer stays true if no list changes."""

    reason: Reason | None
    """None: it counts."""
    detail: str
    since: float
    until: float
    """Epoch seconds, both included; outside of them the chain has to be judged again."""


def read_certificate(der: bytes) -> CertificateFacts:
    """What a certificate says. Raises ValueError for one that cannot be read to its end."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about certificates of others, which the operator cannot mend
            return _read(der)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"not readable: {error}") from None
    except (UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError(f"not supported: {error}") from None


def _read(der: bytes) -> CertificateFacts:
    certificate = x509.load_der_x509_certificate(der)
    basic = _extension(certificate, x509.BasicConstraints)
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    usage = _extension(certificate, x509.KeyUsage)
    names = _extension(certificate, x509.SubjectAlternativeName) or x509.SubjectAlternativeName([])
    public = certificate.public_key()
    authority = basic is not None and basic.ca
    return CertificateFacts(
        fingerprint=hashlib.sha256(der).hexdigest(),
        key=hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest(),
        issuer=certificate.issuer.public_bytes(),
        subject=certificate.subject.public_bytes(),
        issuer_key=name_key(certificate.issuer),
        subject_key=name_key(certificate.subject),
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        authority=authority,
        for_clients=extended is not None and ExtendedKeyUsageOID.CLIENT_AUTH in extended,
        may_sign=usage is None or usage.digital_signature,
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        dns=tuple(name.lower() for name in names.get_values_for_type(x509.DNSName)),
        fault=_weak_key(public) or _weak_signature(certificate) or ("" if authority else _powers(certificate, usage)),
    )


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _weak_key(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"an RSA key of {key.key_size} bits" if key.key_size < MINIMUM_RSA else ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"a key on {key.curve.name}" if key.curve.key_size < MINIMUM_CURVE else ""
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return ""
    return "a DSA key" if isinstance(key, dsa.DSAPublicKey) else "a key of an unknown kind"


def _weak_signature(certificate: x509.Certificate) -> str:
    algorithm = certificate.signature_hash_algorithm
    return f"signed with {algorithm.name}" if algorithm is not None and algorithm.name in _WEAK_HASHES else ""


def _powers(certificate: x509.Certificate, usage: x509.KeyUsage | None) -> str:
    """RFC 5280 §4.2.1.3 and §4.2.1.10: these belong to authorities alone."""
    if usage is not None and usage.key_cert_sign:
        return "it may sign certificates, and is no authority's"
    return "name constraints, and no authority's" if _extension(certificate, x509.NameConstraints) is not None else ""


def name_key(name: x509.Name) -> NameKey:
    """A distinguished name in a form that compares: exact values in their order, whatever ASN.1 string type they have.

    RFC 5280 §7.1 lets implementations fold case and spaces; nothing is folded here, so that no two names become one.
    """
    return tuple(tuple(sorted(_attribute(one) for one in rdn)) for rdn in name.rdns)


def _attribute(attribute: x509.NameAttribute[str | bytes]) -> str:
    value = attribute.value
    return f"{attribute.oid.dotted_string}={value if isinstance(value, str) else '#' + value.hex()}"


def parse_name(text: str) -> NameKey:
    """A distinguished name as an operator writes it (RFC 4514: `CN=crm-sync,O=Example`), in comparable form.

    Raises ValueError for text that is no such name, and for an empty one.
    """
    name = x509.Name.from_rfc4514_string(text, _ATTRIBUTES)
    if not name.rdns:
        raise ValueError("the name is empty")
    return name_key(name)


def judge_chain(
    chain: tuple[CertificateFacts, ...],
    authorities: Mapping[NameKey, Container[bytes]],
    lists: Mapping[bytes, RevocationList] | None,
    now: float,
) -> Verdict:
    """Whether a chain that TLS has proven, leaf first and root last, counts at `now` (epoch seconds).

    `authorities` has, for each subject of the listener's file, the keys it has there. `lists` are revocation lists by
    issuer; None if none are configured: nothing is asked then.
    """
    since = max(one.not_before for one in chain)
    until = min(one.not_after for one in chain)
    reason, detail = _lasting_fault(chain, authorities)
    if reason is not None:
        return Verdict(reason, detail, float("-inf"), float("inf"))
    if now < since:
        return Verdict(Reason.CERTIFICATE_NOT_YET_VALID, "", float("-inf"), math.nextafter(since, 0.0))
    if now > until:
        return Verdict(Reason.CERTIFICATE_EXPIRED, "", math.nextafter(until, math.inf), float("inf"))
    if lists is None:
        return Verdict(None, "", since, until)
    return _ask_lists(chain, lists, now, since, until)


def _lasting_fault(
    chain: tuple[CertificateFacts, ...], authorities: Mapping[NameKey, Container[bytes]]
) -> tuple[Reason | None, str]:
    leaf = chain[0]
    fault = ""
    if leaf.authority:
        fault = "an authority's own certificate"
    elif not leaf.for_clients:
        fault = "clientAuth is not among its extended key usages"
    elif not leaf.may_sign:
        fault = "its key usage lacks digital signatures"
    elif len(chain) > 1 and not all(one.authority for one in chain[1:]):
        fault = "issued by what is no authority"
    if chain[-1].key not in authorities.get(chain[-1].subject_key, ()):
        fault = fault or "its authority is none of the listener's any more"
    for one in chain[:-1] or chain:  # a root's own signature proves nothing and so need not be strong
        fault = fault or one.fault
    # Lists and `issuer` are found by name: an intermediate may not take the name of an authority it is not, in whatever
    # string type, nor sign under a name that OpenSSL, which folds case and spaces, takes for its own.
    for one, above in itertools.pairwise(chain):
        if one.issuer_key != above.subject_key:
            fault = fault or "its issuer's name is spelled otherwise than by the issuer"
    for one in chain[1:]:
        keys = authorities.get(one.subject_key)
        if keys is not None and one.key not in keys:
            fault = fault or "an intermediate authority bears the name of another"
    return (Reason.CERTIFICATE_UNSUITABLE, fault) if fault else (None, "")


def _ask_lists(
    chain: tuple[CertificateFacts, ...],
    lists: Mapping[bytes, RevocationList],
    now: float,
    since: float,
    until: float,
) -> Verdict:
    unknown = ""
    for one in chain[:-1] or chain:
        found = lists.get(one.issuer)
        if found is not None and not found.problem and found.revokes(one.serial):
            return Verdict(Reason.CERTIFICATE_REVOKED, f"serial {one.serial:x}", since, until)
        if found is None:
            unknown = unknown or "no revocation list of its issuer"
        elif found.problem:
            unknown = unknown or found.problem
        elif now >= found.next_update:
            unknown = unknown or "the revocation list is past its next update"
        else:
            until = min(until, math.nextafter(found.next_update, 0.0))
    if unknown:
        return Verdict(Reason.REVOCATION_UNKNOWN, unknown, since, until)
    return Verdict(None, "", since, until)
