"""Files and directories that only this user may touch: made so, and refused when they are not so.

Whoever can write where the keys, the store, the sockets or the record lie can put their own in the place of ours.
"""

import os
import secrets
from pathlib import Path

from zt_proxy.core.errors import ConfigurationError

_OTHERS_WRITE = 0o022
_OTHERS_ANYTHING = 0o077


def private_directory(path: Path) -> None:
    """Make a directory of mode 0700 where there is none.

    Raises ConfigurationError for one that another user owns or that others may write, OSError if it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    _check_owner(path, found.st_uid)
    if found.st_mode & _OTHERS_WRITE:
        raise ConfigurationError(f"{path}: others may write here; chmod it to 700")


def check_private(path: Path, found: os.stat_result) -> None:
    """Raises ConfigurationError for a file that others own, or may read or change."""
    _check_owner(path, found.st_uid)
    if found.st_mode & _OTHERS_ANYTHING:
        raise ConfigurationError(f"{path}: others may read or change it; chmod it to 600")


def _check_owner(path: Path, owner: int) -> None:
    if owner not in {os.geteuid(), 0}:
        raise ConfigurationError(f"{path}: another user owns it (uid {owner})")


def replace_privately(path: Path, body: bytes) -> None:
    """Put a file of mode 0600 in the place of another, all or nothing, durable when this returns. Raises OSError."""
    replace_file(path, body, 0o600)


def replace_file(path: Path, body: bytes, mode: int) -> None:
    """The same with another mode, whatever the umask: for what others may read, like a certificate. Raises OSError."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
