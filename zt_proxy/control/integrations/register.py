"""What an authority issued and revoked: one file of JSON lines, replaced as a whole, durable before anything is signed.

The register is the truth and the revocation list is made from it. A crash between the two leaves a list that is behind,
which its number shows; the next command signs it again.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.private import check_private, private_directory, replace_privately

HOLD = "hold"
"""The one reason that can be taken back (certificateHold, RFC 5280 §5.3.1)."""

_PATIENCE = 10.0
_LOOK = 0.05


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate. Times are seconds since the epoch."""

    serial: str
    """Lower-case hexadecimal."""
    name: str
    names: tuple[str, ...]
    """Subject alternative names, as `URI:…` and `DNS:…`."""
    not_before: float
    not_after: float
    fingerprint: str
    """SHA-256 of the DER form, lower-case hexadecimal."""
    revoked: float | None = None
    reason: str = ""

    def state(self, now: float) -> str:
        """`valid`, `expired`, `held` or `revoked`."""
        if self.revoked is not None:
            return "held" if self.reason == HOLD else "revoked"
        return "valid" if now <= self.not_after else "expired"


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    list_number: int


class Register(msgspec.Struct, frozen=True):
    """Everything issued, in order, and the number of the last revocation list (RFC 5280 §5.2.3)."""

    list_number: int = 0
    certificates: tuple[Issued, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Register":
        """Raises ConfigurationError for what is no register or what others may change, OSError if there is none."""
        with path.open("rb") as file:
            check_private(path, os.fstat(file.fileno()))
            raw = file.read()
        try:
            first, *rest = raw.splitlines()
            head = msgspec.json.decode(first, type=_Head)
            if head.version != 1:
                raise ConfigurationError(f"{path}: version {head.version} of the register is not known here")
            return cls(head.list_number, tuple(msgspec.json.decode(line, type=Issued) for line in rest))
        except (msgspec.MsgspecError, ValueError) as error:
            raise ConfigurationError(f"{path}: not a register of certificates ({error})") from None

    def save(self, path: Path) -> None:
        """Durable when this returns. Raises OSError, and then the register on disk is the one before."""
        lines = [msgspec.json.encode(line) for line in (_Head(1, self.list_number), *self.certificates)]
        replace_privately(path, b"\n".join(lines) + b"\n")

    def replacing(self, changed: Issued) -> "Register":
        """The register with the certificate of the same serial replaced, or with one that it did not know."""
        known = {each.serial: each for each in self.certificates} | {changed.serial: changed}
        return msgspec.structs.replace(self, certificates=tuple(known.values()))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an authority's folder alone. Raises ConfigurationError when another holds it for ten seconds."""
    private_directory(folder)
    with (folder / ".lock").open("ab") as file:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ConfigurationError(f"{folder}: another command is at work on this authority") from None
                time.sleep(_LOOK)
        yield
