"""How the proxy proves to a provider that it is the registered client (RFC 6749 §2.3, RFC 7523 §2.2)."""

import hashlib
import secrets
from base64 import b64encode as plain_b64encode
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote_plus

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from zt_proxy.control.settings import ClientKeySettings, ProviderSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.keys import b64encode

METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt", "none")
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFETIME = 60
"""Seconds."""
RSA_ALGORITHMS = ("RS256", "PS256")
_RSA = "an RSA key of 2048 bits or more"
_NEEDS = {"": f"{_RSA}, or a P-256 key", "RS256": _RSA, "PS256": _RSA, "ES256": "a P-256 key"}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class ClientAuthentication(Protocol):
    """Adds the proof to a request for the token endpoint, or for one that takes the same (RFC 9126 §2)."""

    def add(self, form: dict[str, str], headers: dict[str, str], *, token_endpoint: str) -> None:
        """Changes `form` and `headers`."""
        ...


def client_authentication(settings: ProviderSettings, clock: Clock) -> ClientAuthentication:
    """Raises ConfigurationError for a method that is unknown or lacks its secret or key."""
    if settings.client_auth not in METHODS:
        raise ConfigurationError(f"provider {settings.name}: client_auth must be one of {', '.join(METHODS)}")
    if settings.client_auth == "private_key_jwt":
        if settings.client_key is None:
            raise ConfigurationError(f"provider {settings.name}: private_key_jwt needs a private_key")
        return _SignedAssertion(settings, settings.client_key, clock)
    if settings.client_auth != "none" and settings.client_secret is None:
        raise ConfigurationError(f"provider {settings.name}: {settings.client_auth} needs a client_secret")
    return _SharedSecret(settings)


class _SharedSecret:
    """A secret in a header or in the form, or, with `none`, the client's name alone."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def add(self, form: dict[str, str], headers: dict[str, str], *, token_endpoint: str) -> None:
        client_id, secret = self._settings.client_id, self._settings.client_secret
        if self._settings.client_auth == "client_secret_basic" and secret is not None:
            # RFC 6749 §2.3.1: each form-encoded on its own before they are joined.
            pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}"
            headers["Authorization"] = "Basic " + plain_b64encode(pair.encode()).decode()
            return
        form["client_id"] = client_id
        if secret is not None and self._settings.client_auth == "client_secret_post":
            form["client_secret"] = secret.reveal()


class _SignedAssertion:
    """`private_key_jwt`: a fresh token for each request, good for a minute and for this provider.

    The audience is the issuer: with the token endpoint's address a hostile provider could name another's endpoint in
    its metadata and use there what it was sent (the audience injection that draft-ietf-oauth-rfc7523bis answers).
    `audience: token-endpoint` is for providers that accept nothing else; PAR takes the same value (RFC 9126 §2).
    """

    def __init__(self, settings: ProviderSettings, key: ClientKeySettings, clock: Clock) -> None:
        from jwt import encode  # a tenth of a second that whoever only checks a configuration does not spend

        self._encode = encode
        self._settings = settings
        self._clock = clock
        self._at_token_endpoint = key.audience == "token-endpoint"
        self._key, self._algorithm = load_client_key(key)
        self._header: dict[str, Any] = {"kid": key.key_id} if key.key_id else {}
        if key.certificate is not None:
            self._header["x5t#S256"] = _thumbprint(key.certificate)

    def add(self, form: dict[str, str], headers: dict[str, str], *, token_endpoint: str) -> None:
        now = int(self._clock.now())
        client_id = self._settings.client_id
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": token_endpoint if self._at_token_endpoint else self._settings.issuer,
            "jti": secrets.token_urlsafe(32),
            "iat": now,
            "nbf": now,
            "exp": now + ASSERTION_LIFETIME,
        }
        form["client_id"] = client_id
        form["client_assertion_type"] = ASSERTION_TYPE
        form["client_assertion"] = self._encode(claims, self._key, algorithm=self._algorithm, headers=self._header)


def load_client_key(settings: ClientKeySettings) -> tuple[PrivateKey, str]:
    """The key and the algorithm that it signs with. Raises ConfigurationError, without anything of the key."""
    path = settings.key
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    except TypeError:
        raise ConfigurationError(f"{path} is encrypted; the key must have no passphrase") from None
    except ValueError:
        raise ConfigurationError(f"{path} holds no readable PEM private key") from None
    asked = settings.algorithm
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2_048 and asked in {"", *RSA_ALGORITHMS}:
        return key, asked or RSA_ALGORITHMS[0]
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1" and asked in {"", "ES256"}:
        return key, "ES256"
    raise ConfigurationError(f"{path}: {asked or 'private_key_jwt'} needs {_NEEDS.get(asked, 'another algorithm')}")


def _thumbprint(path: Path) -> str:
    """`x5t#S256` (RFC 7515 §4.1.8): how Entra ID finds the key that was registered. Raises ConfigurationError."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError(f"{path} holds no readable PEM certificate") from None
    return b64encode(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest())
