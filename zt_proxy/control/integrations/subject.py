"""What goes into the certificates of the authority: names, constraints, extensions (RFC 5280 §4.2)."""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from zt_proxy.core.errors import ConfigurationError

ClientKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
Extensions = Iterator[tuple[x509.ExtensionType, bool]]

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[\x21-\x7e]+")
_SPIFFE_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")


class Constraints(msgspec.Struct, frozen=True):
    """Name constraints (RFC 5280 §4.2.1.10). No entry of a kind: names of that kind are free."""

    dns: tuple[str, ...] = ()
    """Domains; each stands for itself and everything under it."""
    uri_hosts: tuple[str, ...] = ()
    """Hosts of URIs, exact; with a leading dot everything under it."""

    @classmethod
    def of(cls, certificate: x509.Certificate) -> "Constraints":
        try:
            found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return cls()
        permitted = found.permitted_subtrees or ()
        return cls(
            tuple(each.value for each in permitted if isinstance(each, x509.DNSName)),
            tuple(each.value for each in permitted if isinstance(each, x509.UniformResourceIdentifier)),
        )

    def check(self, names: Sequence[x509.GeneralName]) -> None:
        """Raises ConfigurationError for a name that verifiers would refuse under these constraints."""
        for name in names:
            if isinstance(name, x509.DNSName):
                allowed, host = self.dns, name.value.removeprefix("*.")
                fits = any(host == each or host.endswith("." + each) for each in allowed)
            else:
                allowed, host = self.uri_hosts, urlsplit(name.value).hostname or ""
                fits = any(host.endswith(each) if each.startswith(".") else host == each for each in allowed)
            if allowed and not fits:
                raise ConfigurationError(
                    f"{name.value} is outside of what this authority may name: {', '.join(allowed)}"
                )

    def extension(self) -> x509.NameConstraints:
        """Raises ConfigurationError for what is no host name."""
        for each in (*self.dns, *(host.removeprefix(".") for host in self.uri_hosts)):
            if not _HOST.fullmatch(each):
                raise ConfigurationError(f"{each!r} is not a host name in lower case")
        return x509.NameConstraints(
            [*map(x509.DNSName, self.dns), *map(x509.UniformResourceIdentifier, self.uri_hosts)], None
        )


def alternative_names(uris: Sequence[str], hosts: Sequence[str]) -> list[x509.GeneralName]:
    """The names a machine goes by. Raises ConfigurationError for none, or for one that could be read in two ways."""
    if len(uris) > 1:
        raise ConfigurationError("one certificate, one URI (SPIFFE X.509-SVID §2): whoever reads two takes either")
    for uri in uris:
        parts = urlsplit(uri) if _URI.fullmatch(uri) else None
        if parts is None or not _HOST.fullmatch(parts.netloc):
            raise ConfigurationError(f"{uri!r} is not a URI like spiffe://example.com/crm-sync")
        if parts.scheme == "spiffe" and not _SPIFFE_PATH.fullmatch(uri.removeprefix(f"spiffe://{parts.netloc}")):
            raise ConfigurationError(f"{uri!r}: a SPIFFE ID has a path of letters, digits, '.', '_' and '-'")
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ConfigurationError(f"{host!r} is not a host name in lower case")
    if not uris and not hosts:
        raise ConfigurationError("a certificate needs a name: --san-uri spiffe://example.com/crm-sync, or --san-dns …")
    return [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, hosts)]


def subject_name(common_name: str) -> x509.Name:
    """Raises ConfigurationError for a name that is empty, too long (64, RFC 5280 appendix A) or not printable."""
    if not 1 <= len(common_name) <= 64 or not common_name.isprintable() or common_name != common_name.strip():
        raise ConfigurationError(f"{common_name!r}: a name is 1 to 64 printable characters")
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def request_key(raw: bytes) -> ClientKey:
    """The key of a certificate request (PEM), which proves that its sender has the private half.

    Names in the request are not looked at: whoever signs decides them. Raises ConfigurationError.
    """
    try:
        request = x509.load_pem_x509_csr(raw)
        key = request.public_key()
        valid = request.is_signature_valid
    except Exception as error:  # cryptography raises ValueError and UnsupportedAlgorithm, which share no parent
        raise ConfigurationError(f"no readable certificate request (PEM): {type(error).__name__}") from None
    if not valid:
        raise ConfigurationError("the signature of the certificate request is not that of its key")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise ConfigurationError(
        "the key is too weak or unusual: P-256, P-384, P-521, Ed25519, or RSA with 2048 bits and up"
    )


def authority_extensions(key: ec.EllipticCurvePublicKey, constraints: Constraints) -> Extensions:
    """For the authority: signs certificates and lists, and no authority below it."""
    yield x509.BasicConstraints(ca=True, path_length=0), True
    yield _usage(signs=True), True
    yield x509.SubjectKeyIdentifier.from_public_key(key), False
    if constraints.dns or constraints.uri_hosts:
        yield constraints.extension(), True


def client_extensions(authority: x509.Certificate, key: ClientKey, names: Sequence[x509.GeneralName]) -> Extensions:
    """For a machine: proves itself as TLS client, and nothing else."""
    above = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    yield x509.BasicConstraints(ca=False, path_length=None), True
    yield _usage(signs=False), True
    yield x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False
    yield x509.SubjectAlternativeName(names), False
    yield x509.SubjectKeyIdentifier.from_public_key(key), False
    yield x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), False


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
