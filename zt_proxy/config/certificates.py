"""Certificates and keys, read without side effects."""

import ipaddress
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


class Leaf(msgspec.Struct, frozen=True):
    """What matters of the first certificate of a chain."""

    names: tuple[str, ...]
    """DNS names of the SAN, lower case, also `*.example.com`."""
    addresses: tuple[str, ...]
    """IP addresses of the SAN."""
    not_before: datetime
    not_after: datetime
    public_key: bytes

    def covers(self, host: str) -> bool:
        """RFC 9525 §6.3: exact, or one left-most label for `*`."""
        if host in self.names or f"*.{host.partition('.')[2]}" in self.names:
            return True
        try:
            return str(ipaddress.ip_address(host)) in self.addresses
        except ValueError:
            return False


def read_bytes(path: Path) -> bytes:
    """Raises ValueError that says why the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None


def read_leaf(path: Path) -> Leaf:
    """The first certificate of a PEM chain. Raises ValueError that says what is wrong."""
    try:
        chain = x509.load_pem_x509_certificates(read_bytes(path))
        leaf = chain[0]
        extensions = leaf.extensions
        public_key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, x509.DuplicateExtension) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} holds no readable PEM certificate") from None
    try:
        san = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        san = x509.SubjectAlternativeName([])
    return Leaf(
        tuple(name.lower().removesuffix(".") for name in san.get_values_for_type(x509.DNSName)),
        tuple(str(address) for address in san.get_values_for_type(x509.IPAddress)),
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        public_key,
    )


def dns_names(path: Path) -> tuple[str, ...]:
    """The names SNI may choose the chain by. Raises ValueError."""
    return read_leaf(path).names


def read_public_key(path: Path) -> bytes:
    """The public half of a PEM private key. Raises ValueError that says what is wrong."""
    raw = read_bytes(path)
    try:
        key = load_pem_private_key(raw, password=None)
    except TypeError:
        raise ValueError(f"{path} is encrypted; the key must have no passphrase") from None
    except ValueError:
        raise ValueError(f"{path} holds no readable PEM private key") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_authorities(path: Path) -> None:
    """Raises ValueError unless the file holds at least one PEM certificate (ZT-TLS-04: never the system's instead)."""
    raw = read_bytes(path)
    try:
        x509.load_pem_x509_certificates(raw)
    except ValueError:
        raise ValueError(f"{path} holds no PEM certificate") from None
