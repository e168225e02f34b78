"""Secrets in the file are references: `${env:NAME}` or `${file:PATH}`. Values never print."""

import os
import re
from pathlib import Path

import msgspec

from zt_proxy.core.keys import Secret

_REFERENCE = re.compile(r"\$\{(env|file):([^{}]+)\}")
MAX_BYTES = 64 * 1024


class SecretReference(msgspec.Struct, frozen=True):
    """Where a secret stands; with `literal` set, in the YAML itself."""

    kind: str
    """env, file or literal"""
    name: str = ""
    literal: Secret | None = None


def parse(value: object) -> SecretReference:
    """Read a secret key's value. Raises ValueError, without the value in its text."""
    if not isinstance(value, str):
        raise ValueError("expected text: `${env:NAME}` or `${file:PATH}`")
    match = _REFERENCE.fullmatch(value)
    if match:
        return SecretReference(match[1], match[2])
    if "${" in value:
        raise ValueError("not a reference to a secret; expected exactly `${env:NAME}` or `${file:PATH}`")
    return SecretReference("literal", literal=Secret(value))


def resolve(reference: SecretReference, base: Path) -> Secret:
    """The secret itself; a file may end in one newline. Raises LookupError when it is missing, unreadable or empty."""
    if reference.literal is not None:
        value, source = reference.literal.reveal(), "the secret"
    elif reference.kind == "env":
        source = f"the environment variable {reference.name}"
        if reference.name not in os.environ:
            raise LookupError(f"{source} is not set")
        value = os.environ[reference.name]
    else:
        source = f"the secret file {base / reference.name}"
        value = _read(base / reference.name, source)
    if not value.strip():
        raise LookupError(f"{source} is empty")
    if any(character in value for character in "\r\n\0"):
        raise LookupError(f"{source} holds more than one line")
    return Secret(value)


def _read(path: Path, source: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES)
        text = raw.decode()
    except OSError as error:
        raise LookupError(f"{source} cannot be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise LookupError(f"{source} is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")
