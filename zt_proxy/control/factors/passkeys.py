"""Passkeys (WebAuthn Level 3): options for the browser, and the checks of what it sends back.

The library verifies signatures, attestation statements and authenticator data (§7.1, §7.2). What it does not look at
is checked here: that the ceremony ran in no foreign frame (`crossOrigin`, `topOrigin`), that the account is the one
that was asked, the backup flag, the chain of an attestation, and all sizes. The counter is compared in the store.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from zt_proxy.control.factors.types import FactorRefused
from zt_proxy.control.settings import FactorSettings
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import b64decode, b64encode

CHALLENGE_BYTES = 32
TIMEOUT = 300_000
"""Milliseconds that a browser waits for a gesture: as long as the challenge is good."""
CREDENTIAL_ID = 1023
"""Bytes (WebAuthn §5.8.3)."""
PUBLIC_KEY = 1100
"""Bytes of a COSE key: RSA of 8192 bits. Longer ones only cost time."""
NAME = 64
"""Characters of a name that goes to an authenticator, which may cut it (WebAuthn §5.4.1)."""
_LONGEST = {
    "clientDataJSON": 4_096,
    "authenticatorData": 4_096,
    "signature": 2_048,
    "userHandle": 128,
    "attestationObject": 32_768,
}
"""Bytes of each part of an answer."""
_TRANSPORTS = frozenset(("usb", "nfc", "ble", "smart-card", "hybrid", "internal"))
_FORMATS = frozenset(("none", "packed", "tpm", "android-key", "apple", "fido-u2f"))
_AAGUID_EXTENSION = "1.3.6.1.4.1.45724.1.1.4"
"""id-fido-gen-ce-aaguid: which make a certificate vouches for (WebAuthn §8.2.1)."""


class Known(msgspec.Struct, frozen=True):
    """A passkey as it is kept."""

    credential_id: bytes
    public_key: bytes
    """COSE_Key."""
    aaguid: str
    transports: tuple[str, ...]
    may_be_copied: bool
    """Backup-eligible: a passkey of a phone or a password manager, which its owner's devices share."""


class Answer(msgspec.Struct, frozen=True):
    """What the browser sent, within bounds and without anything else in it."""

    credential_id: bytes
    client_data: bytes
    body: dict[str, Any]
    user_handle: bytes | None
    transports: tuple[str, ...] = ()


class _ClientData(msgspec.Struct, rename="camel"):
    """Of `CollectedClientData` (WebAuthn §5.8.1) what the library does not judge."""

    cross_origin: bool = False
    top_origin: Any = msgspec.UNSET


_client_data = msgspec.json.Decoder(_ClientData).decode


def creation_options(
    settings: FactorSettings, *, challenge: bytes, handle: bytes, name: str, have: Sequence[Known]
) -> str:
    """JSON for `PublicKeyCredential.parseCreationOptionsFromJSON`; authenticators of `have` are left out."""
    from webauthn import generate_registration_options, options_to_json
    from webauthn.helpers.structs import (
        AttestationConveyancePreference,
        AuthenticatorSelectionCriteria,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    direct = bool(settings.aaguids)  # browsers ask people before they tell the make: only where it matters
    options = generate_registration_options(
        rp_id=settings.rp_id,
        rp_name=settings.rp_name,
        user_id=handle,
        user_name=name[:NAME],
        user_display_name=name[:NAME],
        challenge=challenge,
        timeout=TIMEOUT,
        attestation=AttestationConveyancePreference.DIRECT if direct else AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=_descriptors(have),
    )
    return options_to_json(options)


def request_options(settings: FactorSettings, *, challenge: bytes, have: Sequence[Known]) -> str:
    """JSON for `PublicKeyCredential.parseRequestOptionsFromJSON`."""
    from webauthn import generate_authentication_options, options_to_json
    from webauthn.helpers.structs import UserVerificationRequirement

    options = generate_authentication_options(
        rp_id=settings.rp_id,
        challenge=challenge,
        timeout=TIMEOUT,
        allow_credentials=_descriptors(have),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json(options)


def _descriptors(have: Sequence[Known]) -> list[Any]:
    from webauthn.helpers.structs import AuthenticatorTransport, PublicKeyCredentialDescriptor

    return [
        PublicKeyCredentialDescriptor(
            id=each.credential_id, transports=[AuthenticatorTransport(transport) for transport in each.transports]
        )
        for each in have
    ]


def read(credential: Mapping[str, object], *parts: str) -> Answer:
    """The JSON form of a `PublicKeyCredential` (`toJSON()`) whose response has these parts.

    Raises FactorRefused(FACTOR_WRONG).
    """
    response = credential.get("response")
    if credential.get("type") != "public-key" or not isinstance(response, Mapping):
        _refuse("not a public-key credential")
    identity = _bytes(credential, "rawId", CREDENTIAL_ID)
    if not identity or credential.get("id") != credential.get("rawId"):
        _refuse("`id` is not `rawId`")
    decoded = {part: _bytes(response, part, _LONGEST[part]) for part in parts}
    handle = _bytes(response, "userHandle", _LONGEST["userHandle"]) if response.get("userHandle") else None
    given = response.get("transports")
    transports = {each for each in given[:16] if isinstance(each, str)} if isinstance(given, list) else set()
    clean = {"id": b64encode(identity), "rawId": b64encode(identity), "type": "public-key"}
    body = {**clean, "response": {part: b64encode(value) for part, value in decoded.items()}}
    _same_place(decoded["clientDataJSON"])
    return Answer(identity, decoded["clientDataJSON"], body, handle, tuple(sorted(transports & _TRANSPORTS)))


def read_assertion(credential: Mapping[str, object]) -> Answer:
    """What `navigator.credentials.get()` gave. As `read`."""
    return read(credential, "clientDataJSON", "authenticatorData", "signature")


def read_attestation(credential: Mapping[str, object]) -> Answer:
    """What `navigator.credentials.create()` gave. As `read`."""
    return read(credential, "clientDataJSON", "attestationObject")


def _bytes(of: Mapping[str, object], key: str, longest: int) -> bytes:
    text = of.get(key)
    if not isinstance(text, str) or len(text) > longest * 4 // 3 + 3:
        _refuse(f"`{key}` is missing or too long")
    try:
        return b64decode(text)
    except ValueError as error:
        raise FactorRefused(Reason.FACTOR_WRONG, f"`{key}` is not base64url") from error


def _same_place(client_data: bytes) -> None:
    """A frame in a foreign page can show anything around the prompt (WebAuthn §13.4.2)."""
    try:
        told = _client_data(client_data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FactorRefused(Reason.FACTOR_WRONG, "clientDataJSON does not parse") from error
    if told.cross_origin or told.top_origin is not msgspec.UNSET:
        _refuse("the ceremony ran in a frame of another origin")


def verify_assertion(settings: FactorSettings, answer: Answer, *, challenge: bytes, key: Known, handle: bytes) -> int:
    """The signature counter of an answer that verifies. Raises FactorRefused(FACTOR_WRONG)."""
    from webauthn import verify_authentication_response
    from webauthn.helpers.structs import CredentialDeviceType

    if answer.user_handle is not None and not hmac.compare_digest(answer.user_handle, handle):
        _refuse("the passkey is of another account")
    try:
        verified = verify_authentication_response(
            credential=answer.body,
            expected_challenge=challenge,
            expected_rp_id=settings.rp_id,
            expected_origin=settings.origin,
            credential_public_key=key.public_key,
            credential_current_sign_count=0,  # compared in the store, where two answers cannot pass each other
            require_user_verification=True,
        )
    except Exception as error:  # the library lets out whatever CBOR, X.509 and JSON do with bytes that make no sense
        raise FactorRefused(Reason.FACTOR_WRONG, f"passkey: {_short(error)}") from error
    if (verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE) != key.may_be_copied:
        _refuse("the passkey says something else about copies than when it was added")
    return verified.new_sign_count


def verify_attestation(
    settings: FactorSettings, answer: Answer, *, challenge: bytes, authorities: bytes = b""
) -> tuple[Known, int]:
    """A new passkey and its counter. `authorities`: PEM of `attestation_ca`; empty: nobody has to vouch for the make.

    Raises FactorRefused(FACTOR_WRONG), or ClientError(FACTOR_NOT_ACCEPTED, 403) for a make that may not be added.
    """
    from webauthn import verify_registration_response
    from webauthn.helpers.cose import COSEAlgorithmIdentifier as Algorithm
    from webauthn.helpers.structs import CredentialDeviceType

    try:
        new = verify_registration_response(
            credential=answer.body,
            expected_challenge=challenge,
            expected_rp_id=settings.rp_id,
            expected_origin=settings.origin,
            require_user_verification=True,
            supported_pub_key_algs=[Algorithm.EDDSA, Algorithm.ECDSA_SHA_256, Algorithm.RSASSA_PKCS1_v1_5_SHA_256],
        )
    except Exception as error:  # as above
        raise FactorRefused(Reason.FACTOR_WRONG, f"passkey: {_short(error)}") from error
    if new.credential_id != answer.credential_id or len(new.credential_id) > CREDENTIAL_ID:
        _refuse("the credential's id is not the one that was attested")
    if len(new.credential_public_key) > PUBLIC_KEY:
        _refuse("the public key is too long")
    _check_make(settings, new.aaguid, new.fmt, new.attestation_object, authorities)
    return Known(
        credential_id=new.credential_id,
        public_key=new.credential_public_key,
        aaguid=new.aaguid,
        transports=answer.transports,
        may_be_copied=new.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
    ), new.sign_count


def _check_make(settings: FactorSettings, aaguid: str, form: str, attestation: bytes, authorities: bytes) -> None:
    if form not in _FORMATS:
        _reject(f"attestation format {form!r}")
    if not settings.aaguids:
        return
    if aaguid.lower() not in settings.aaguids:
        _reject(f"AAGUID {aaguid} is not in the list")
    if authorities:
        _check_chain(authorities, aaguid, attestation)


def _check_chain(authorities: bytes, aaguid: str, attestation: bytes) -> None:
    """An AAGUID is what an authenticator says of itself, unless its maker's certificate stands behind it.

    The statement's signature was verified with the first certificate of `x5c`. A statement without any is signed with
    the new key itself and vouches for nothing.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from webauthn.helpers import parse_attestation_object, validate_certificate_chain
    from webauthn.helpers.exceptions import InvalidCertificateChain

    chain = parse_attestation_object(attestation).att_stmt.x5c
    if not chain:
        _reject(f"nobody vouches for AAGUID {aaguid}")
    roots = [each.public_bytes(Encoding.PEM) for each in x509.load_pem_x509_certificates(authorities)]
    try:
        validate_certificate_chain(x5c=chain, pem_root_certs_bytes=roots)
        leaf = x509.load_der_x509_certificate(chain[0])
        named = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(_AAGUID_EXTENSION)).value
    except x509.ExtensionNotFound:
        return
    except (InvalidCertificateChain, ValueError) as error:
        raise _not_accepted(f"attestation of AAGUID {aaguid}: {_short(error)}") from error
    expected = b"\x04\x10" + bytes.fromhex(aaguid.replace("-", ""))  # OCTET STRING of 16 bytes
    if not isinstance(named, x509.UnrecognizedExtension) or named.value != expected:
        _reject(f"the certificate is not of AAGUID {aaguid}")


def credential_hash(credential_id: bytes) -> bytes:
    """By which the store tells passkeys apart, whoever they belong to."""
    return hashlib.sha256(credential_id).digest()


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _refuse(detail: str) -> NoReturn:
    raise FactorRefused(Reason.FACTOR_WRONG, detail)


def _not_accepted(detail: str) -> ClientError:
    return ClientError(Reason.FACTOR_NOT_ACCEPTED, detail, status=403)


def _reject(detail: str) -> NoReturn:
    raise _not_accepted(detail)
