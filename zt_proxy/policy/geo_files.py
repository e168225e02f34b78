"""MaxMind databases that may change while they are in use.

A database is mapped into memory, not read. Whoever writes over a mapped file in place takes the pages away under
whoever reads them (SIGBUS), so what is mapped is a copy that nobody else knows: control makes one for each version of
the file, checks it, and puts it in place by a rename; workers map the same copy and share its pages.

    file changes ──► control: copy ─► check ─► rename ──► workers: the copy of this version is there: map it
                                        └─ broken: the copy of before stays, and `problem` says so
"""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import maxminddb
import structlog

from zt_proxy.core.private import private_directory

Stamp = tuple[int, int, int]
"""Inode, size, and time of the last change (nanoseconds): which version of a file it is."""

log = structlog.get_logger(__name__)


class DatabaseFile:
    """The newest usable version of one file."""

    def __init__(self, path: Path, copies: Path | None) -> None:
        """`copies`: folder of the copies; None: the file itself is mapped, and must never be written in place.

        A file that cannot be used is no reason not to start: nothing is known then, and `problem` says why.
        """
        self.path = path
        self.problem = ""
        self._copies = copies
        self._reader: maxminddb.Reader | None = None
        self._seen: Stamp | None = None
        self._name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
        self.refresh(copy=True)
        if self._reader is None:
            self._take_latest()

    def get(self, address: IPv4Address | IPv6Address) -> Any:
        """The record of an address; None if there is none, or if the file is damaged in this place."""
        if self._reader is None:
            return None
        try:
            return self._reader.get(address)
        except (maxminddb.InvalidDatabaseError, ValueError):  # ValueError: IPv6 in a database of IPv4 addresses
            return None

    def refresh(self, *, copy: bool) -> bool:
        """True if another version is in use from now on. `copy`: make a missing copy."""
        try:
            stamp = _stamp(self.path)
        except OSError as error:
            self._broken(None, f"cannot be read: {error.strerror}")
            return False
        if stamp == self._seen:
            return False
        try:
            reader = self._open(stamp, copy=copy)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            self._broken(stamp, f"cannot be used: {error}")
            return False
        if reader is None:
            return False
        self._reader, self._seen, self.problem = reader, stamp, ""
        log.info("address database in use", path=str(self.path))
        return True

    def _broken(self, stamp: Stamp | None, what: str) -> None:
        """Say it once for each version; the reader of before goes on."""
        problem = f"address database {self.path} {what}"
        if self._reader is not None:
            problem += "; the one of before is in use"
        if problem != self.problem:
            log.error("address database", problem=problem)
        self.problem, self._seen = problem, stamp

    def _open(self, stamp: Stamp, *, copy: bool) -> maxminddb.Reader | None:
        """None if there is no copy yet, and none is to be made."""
        if self._copies is None:
            return _opened(self.path)
        target = self._copies / f"{self._name}-{hashlib.sha256(repr(stamp).encode()).hexdigest()[:16]}.mmdb"
        if not target.exists():
            if not copy:
                return None
            self._copy(stamp, target)
        return _opened(target)

    def _copy(self, stamp: Stamp, target: Path) -> None:
        """Raises ValueError if the file changes meanwhile, or is no database; OSError."""
        private_directory(target.parent)
        partial = target.with_suffix(f".{os.getpid()}")
        try:
            shutil.copyfile(self.path, partial)
            if _stamp(self.path) != stamp:
                raise ValueError("it is being written")
            _opened(partial)
            partial.rename(target)
        finally:
            partial.unlink(missing_ok=True)
        for other in target.parent.glob(f"{self._name}-*.mmdb"):
            if other != target:
                other.unlink(missing_ok=True)

    def _take_latest(self) -> None:
        """After a restart: the version that was in use before the file broke."""
        if self._copies is None:
            return
        found = sorted(self._copies.glob(f"{self._name}-*.mmdb"), key=lambda each: each.name)
        with contextlib.suppress(OSError, ValueError, maxminddb.InvalidDatabaseError):
            if found:
                self._reader = _opened(found[-1])
                self.problem += "; the one of before is in use"


def _stamp(path: Path) -> Stamp:
    """Raises OSError for what is no file: a device in its place would be copied without end, a pipe never answers."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _opened(path: Path) -> maxminddb.Reader:
    """Raises OSError, InvalidDatabaseError, ValueError if it is no database that answers."""
    reader = maxminddb.open_database(path, maxminddb.MODE_MMAP_EXT)
    reader.get("192.0.2.1")
    return reader
