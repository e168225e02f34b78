"""A small certificate authority for operators who have none: client certificates, and the list of the revoked.

One folder (mode 0700) is the whole of it: `ca.pem`, `ca.key`, `crl.pem`, `issued.jsonl`. Keys are P-256, which every
client speaks. The authority signs client certificates alone: path length 0, and no server ever gets one.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from zt_proxy.control.integrations.register import HOLD, Issued, Register, locked
from zt_proxy.control.integrations.subject import (
    ClientKey,
    Constraints,
    authority_extensions,
    client_extensions,
    subject_name,
)
from zt_proxy.core.clock import SKEW, Clock
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.private import check_private, private_directory, replace_file, replace_privately

DAY = 86_400.0
REASONS = {
    "unspecified": None,  # RFC 5280 §5.3.1: said by leaving the reason out
    "key-compromise": x509.ReasonFlags.key_compromise,
    "affiliation-changed": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessation-of-operation": x509.ReasonFlags.cessation_of_operation,
    "privilege-withdrawn": x509.ReasonFlags.privilege_withdrawn,
    HOLD: x509.ReasonFlags.certificate_hold,
}
_SOON = 2 * DAY
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""As the configuration wants the names of integrations."""


class Authority:
    """Use `Authority.create` once, then `with Authority.opened(...)`: nobody else changes the folder meanwhile."""

    def __init__(self, folder: Path, clock: Clock, key: ec.EllipticCurvePrivateKey, register: Register) -> None:
        self.folder = folder
        self.register = register
        self._clock = clock
        self._key = key
        self.certificate = _read_certificate(folder)

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        clock: Clock,
        *,
        days: float = 3650,
        list_days: float = 7,
        passphrase: bytes | None = None,
        constraints: Constraints | None = None,
    ) -> x509.Certificate:
        """Make a key, a certificate and an empty list. Raises ConfigurationError when something is there, OSError."""
        subject = subject_name(name)
        private_directory(folder)
        with locked(folder):
            for file in ("ca.pem", "ca.key", "issued.jsonl", "crl.pem"):
                if (folder / file).exists():
                    raise ConfigurationError(
                        f"{folder / file} exists: an authority is made once, in a folder of its own"
                    )
            key = ec.generate_private_key(ec.SECP256R1())
            now = clock.now()
            builder = x509.CertificateBuilder(
                issuer_name=subject,
                subject_name=subject,
                public_key=key.public_key(),
                serial_number=x509.random_serial_number(),
                not_valid_before=_moment(now - SKEW),
                not_valid_after=_moment(now + days * DAY),
            )
            for extension, critical in authority_extensions(key.public_key(), constraints or Constraints()):
                builder = builder.add_extension(extension, critical)
            certificate = builder.sign(key, hashes.SHA256())
            encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
            replace_privately(folder / "ca.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
            Register().save(folder / "issued.jsonl")
            # Last but the list: a folder with ca.pem is complete, and `crl` makes the list anew.
            replace_file(folder / "ca.pem", certificate.public_bytes(Encoding.PEM), 0o644)
            cls(folder, clock, key, Register()).sign_list(list_days)
            return certificate

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, clock: Clock, passphrase: bytes | None = None) -> Iterator["Authority"]:
        """Hold the folder alone. Raises ConfigurationError that says what is wrong with it, OSError."""
        _must_be_there(folder)
        with locked(folder):
            register = Register.load(folder / "issued.jsonl")
            authority = cls(folder, clock, _read_key(folder / "ca.key", passphrase), register)
            if authority.certificate.public_key() != authority._key.public_key():
                raise ConfigurationError(f"{folder}: ca.key is not the key of ca.pem")
            yield authority

    @classmethod
    def look(cls, folder: Path, clock: Clock) -> tuple[Register, str]:
        """The register, and why the list needs signing anew; without the key. Raises ConfigurationError, OSError."""
        _must_be_there(folder)
        register = Register.load(folder / "issued.jsonl")
        return register, _list_problem(folder, register, clock.now())

    def issue(self, name: str, names: Sequence[x509.GeneralName], key: ClientKey, days: float) -> x509.Certificate:
        """A certificate for one machine, on the register before it exists. Raises ConfigurationError, OSError."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r}: a name is lower-case letters, digits, '-' and '_'")
        now = self._clock.now()
        end = now + days * DAY
        last = self.certificate.not_valid_after_utc
        if end > last.timestamp():
            raise ConfigurationError(f"{days:g} days outlive the authority itself, which ends on {last:%Y-%m-%d}")
        Constraints.of(self.certificate).check(names)
        builder = x509.CertificateBuilder(
            issuer_name=self.certificate.subject,
            subject_name=subject_name(name),
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=_moment(max(now - SKEW, self.certificate.not_valid_before_utc.timestamp())),
            not_valid_after=_moment(end),
        )
        for extension, critical in client_extensions(self.certificate, key, names):
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        said = tuple(
            f"{'URI' if isinstance(each, x509.UniformResourceIdentifier) else 'DNS'}:{each.value}" for each in names
        )
        issued = _issued(name, said, certificate)
        self._save(msgspec.structs.replace(self.register, certificates=(*self.register.certificates, issued)))
        return certificate

    def find(self, what: str) -> list[Issued]:
        """By name, serial (hexadecimal, colons allowed) or certificate file. Raises ConfigurationError if none fits."""
        serial = what.replace(":", "").lower().lstrip("0")
        found = [each for each in self.register.certificates if what == each.name or serial == each.serial]
        if not found and (path := Path(what)).is_file():
            try:
                given = x509.load_pem_x509_certificate(path.read_bytes())
            except ValueError:
                raise ConfigurationError(f"{path} holds no PEM certificate") from None
            found = [each for each in self.register.certificates if each.serial == f"{given.serial_number:x}"]
            if given == self.certificate or not self._signed(given):
                found = []
            elif not found:  # the register came from a backup: what it does not know can be revoked all the same
                found = [_issued("lost", (), given)]
        if not found:
            raise ConfigurationError(f"{what}: this authority issued no such certificate; `zt-proxy ca list` shows all")
        return found

    def _signed(self, given: x509.Certificate) -> bool:
        try:
            given.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def revoke(self, chosen: Sequence[Issued], reason: str, list_days: float) -> x509.CertificateRevocationList:
        """Revoke for good, or hold; the new list is in place when this returns. Raises ConfigurationError, OSError."""
        register = self.register
        for each in chosen:
            if each.revoked is None:
                register = register.replacing(msgspec.structs.replace(each, revoked=self._clock.now(), reason=reason))
            elif each.reason == HOLD and reason != HOLD:
                register = register.replacing(msgspec.structs.replace(each, reason=reason))
        self.register = register
        return self.sign_list(list_days)

    def release(self, chosen: Sequence[Issued], list_days: float) -> x509.CertificateRevocationList:
        """End a hold. Raises ConfigurationError for other reasons, which are for good (RFC 5280 §5.3.1), OSError."""
        register = self.register
        for each in chosen:
            if each.revoked is not None and each.reason != HOLD:
                raise ConfigurationError(
                    f"{each.name} ({each.serial}) is revoked for good ({each.reason}); only a hold can be taken back"
                )
            register = register.replacing(msgspec.structs.replace(each, revoked=None, reason=""))
        self.register = register
        return self.sign_list(list_days)

    def sign_list(self, days: float) -> x509.CertificateRevocationList:
        """A new list with everything revoked, in place of the one before, with a higher number. Raises OSError."""
        now = self._clock.now()
        self._take_back()
        number = self.register.list_number + 1
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateRevocationListBuilder(
                issuer_name=self.certificate.subject,
                last_update=_moment(now),
                next_update=_moment(now + days * DAY),
            )
            .add_extension(issuer_key, critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for each in self.register.certificates:
            if each.revoked is not None:
                entry = x509.RevokedCertificateBuilder(int(each.serial, 16), _moment(each.revoked))
                if (flag := REASONS[each.reason]) is not None:
                    entry = entry.add_extension(x509.CRLReason(flag), critical=False)
                builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key, hashes.SHA256())
        # The register first: after a crash the list is behind it, which its number shows, and never ahead of it.
        self._save(msgspec.structs.replace(self.register, list_number=number))
        replace_file(self.folder / "crl.pem", signed.public_bytes(Encoding.PEM), 0o644)
        return signed

    def _take_back(self) -> None:
        """A list ahead of the register: the register came from a backup. What was revoked since stays revoked."""
        found = _current_list(self.folder)
        if (
            found is None
            or found[0] <= self.register.list_number
            or not found[1].is_signature_valid(self._key.public_key())
        ):
            return
        number, signed = found
        known = {each.serial: each for each in self.register.certificates}
        for entry in signed:
            serial, at = f"{entry.serial_number:x}", entry.revocation_date_utc.timestamp()
            lost = Issued(serial=serial, name="lost", names=(), not_before=at, not_after=at, fingerprint="")
            before = known.get(serial, lost)
            if before.revoked is None:
                known[serial] = msgspec.structs.replace(before, revoked=at, reason=_reason(entry))
        self.register = Register(number, tuple(known.values()))

    def list_problem(self) -> str:
        """Why the list needs signing anew; empty when it does not."""
        return _list_problem(self.folder, self.register, self._clock.now())

    def _save(self, register: Register) -> None:
        register.save(self.folder / "issued.jsonl")
        self.register = register


def _issued(name: str, names: tuple[str, ...], certificate: x509.Certificate) -> Issued:
    return Issued(
        serial=f"{certificate.serial_number:x}",
        name=name,
        names=names,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def write_new(path: Path, body: bytes, mode: int) -> None:
    """A file that was not there before, with this mode from its first moment. Raises FileExistsError, OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _moment(seconds: float) -> datetime:
    """X.509 knows whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC)


def _must_be_there(folder: Path) -> None:
    if not (folder / "ca.pem").exists():
        raise ConfigurationError(f"{folder}: no authority here; `zt-proxy ca init {folder}` makes one")


def _current_list(folder: Path) -> tuple[int, x509.CertificateRevocationList] | None:
    """The list that is there and its number, if one of ours is."""
    try:
        signed = x509.load_pem_x509_crl((folder / "crl.pem").read_bytes())
        return signed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number, signed
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        flag = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return "unspecified"
    return next((word for word, each in REASONS.items() if each is flag), "unspecified")


def _list_problem(folder: Path, register: Register, now: float) -> str:
    found = _current_list(folder)
    if found is None:
        return "there is no readable revocation list"
    number, signed = found
    due = signed.next_update_utc
    if number != register.list_number:
        return f"the revocation list is {'behind' if number < register.list_number else 'ahead of'} the register"
    if due is None or due.timestamp() < now + _SOON:
        return f"the revocation list is only valid until {due:%Y-%m-%d %H:%M} UTC" if due else "the list has no end"
    return ""


def _read_certificate(folder: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    except ValueError:
        raise ConfigurationError(f"{folder / 'ca.pem'} holds no PEM certificate") from None


def _read_key(path: Path, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    with path.open("rb") as file:
        check_private(path, os.fstat(file.fileno()))
        raw = file.read()
    try:
        key = load_pem_private_key(raw, passphrase)
    except TypeError:
        wants = "has a passphrase; give it with --passphrase-file" if passphrase is None else "has no passphrase"
        raise ConfigurationError(f"{path} {wants}") from None
    except ValueError:
        raise ConfigurationError(f"{path} does not open" + (" with this passphrase" if passphrase else "")) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{path} is not a P-256 key")
    return key
