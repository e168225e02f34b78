"""The key file of a Google service account (the JSON that Google's console makes)."""

from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from zt_proxy.control.identity.strict import parse_object
from zt_proxy.core.errors import ConfigurationError

MAX_FILE = 64 * 1024


class ServiceAccount(msgspec.Struct, frozen=True):
    """Who asks, with which key, and where."""

    email: str
    key_id: str
    token_uri: str
    key: RSAPrivateKey

    def __repr__(self) -> str:
        return f"ServiceAccount({self.email!r})"


def load_service_account(path: Path) -> ServiceAccount:
    """Raises ConfigurationError, without anything of the key."""
    try:
        with path.open("rb") as file:
            document = parse_object(file.read(MAX_FILE))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    except ValueError:
        raise ConfigurationError(f"{path} is no JSON file of a service account") from None
    email, key_id, token_uri, pem = (
        document.get(name) for name in ("client_email", "private_key_id", "token_uri", "private_key")
    )
    if document.get("type") != "service_account" or not (isinstance(email, str) and isinstance(token_uri, str)):
        raise ConfigurationError(f"{path} is no JSON file of a service account")
    try:
        key = load_pem_private_key(str(pem).encode(), password=None)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{path}: private_key is no readable PEM private key") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < 2_048:
        raise ConfigurationError(f"{path}: private_key is no RSA key of 2048 bits or more")
    return ServiceAccount(email, key_id if isinstance(key_id, str) else "", token_uri, key)
