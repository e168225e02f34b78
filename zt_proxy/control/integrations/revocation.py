"""Which revocation lists are in force: the newest of each authority that ever was good, until it ends.

A file that turns bad takes nothing back: the last good list stays in force until its nextUpdate, and the problem is
named meanwhile. An authority without a list in force is sent as such, and every certificate of it is refused.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import msgspec

from zt_proxy.control.integrations import crl
from zt_proxy.control.integrations.crl import ListError, SignedList, Signer
from zt_proxy.control.settings import RevocationSource
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.private import check_private, replace_privately
from zt_proxy.link.messages import RevocationList

SOON = 2 * 86_400.0
"""Seconds before its end from which a list is asked to be renewed; lists that live briefly, in their last quarter."""


class Standing(msgspec.Struct, frozen=True):
    """What counts for one authority of one listener's file at one moment."""

    source: str
    """That file."""
    issuer: bytes
    """The authority's distinguished name, DER."""
    name: str
    current: SignedList | None
    problem: str
    """Why nothing of this authority can be trusted; empty when `current` can."""

    @property
    def version(self) -> tuple[object, ...]:
        """Differs whenever something a worker acts on does."""
        current = self.current
        return (self.source, self.issuer, self.problem, current.digest if current else b"")

    def message(self) -> RevocationList:
        """For the workers."""
        if self.current is None or self.problem:
            return RevocationList(self.source, self.issuer, b"", 0.0, self.problem)
        return RevocationList(self.source, self.issuer, self.current.serials, self.current.next_update)


class Floors:
    """The age of the newest list ever seen of each authority, over restarts: an older one is a replay.

    Raises ConfigurationError for a file that is damaged or that others may change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ages: dict[str, tuple[int, float]] = {}
        try:
            with path.open("rb") as file:
                check_private(path, os.fstat(file.fileno()))
                self._ages = {key: (int(number), float(at)) for key, (number, at) in json.loads(file.read()).items()}
        except FileNotFoundError:
            self._ages = {}  # nothing was seen yet
        except (ValueError, TypeError, AttributeError):
            raise ConfigurationError(f"{path}: not what the proxy wrote about revocation lists") from None
        self._written = dict(self._ages)

    def look(self) -> None:
        """Forget everything when the operator deleted the file."""
        if self._written and not self.path.exists():
            self._ages, self._written = {}, {}

    def check(self, found: SignedList) -> str:
        """Why this list, the newest at hand of its authority, is a replay: it is older than one seen before."""
        before = self._ages.get(found.authority.hex())
        if before is None or found.age >= before:
            return ""
        number, at = before
        was = f"number {number}" if number >= 0 else f"one of {show_time(at)}"
        now = f"number {found.number}" if found.number is not None else f"a list of {show_time(found.this_update)}"
        return (
            f"the revocation list of {found.name} goes back: {now}, and {was} was seen before "
            f"(if that is right, delete {self.path})"
        )

    def raise_to(self, lists: Iterable[SignedList]) -> None:
        """Remember these as seen. Raises OSError when that cannot be made durable."""
        self._ages |= {each.authority.hex(): each.age for each in lists}
        if self._ages != self._written:
            replace_privately(self.path, json.dumps(self._ages).encode())
            self._written = dict(self._ages)


class WatchedFile:
    """One file, read again when its stamp changes."""

    __slots__ = ("_digest", "_restless", "_stamp", "path", "problem")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """Why it cannot be read; empty if it can."""
        self._digest = b""
        self._stamp: tuple[int, ...] | None = None
        self._restless = 0

    def changed(self, *, anyway: bool = False) -> bytes | None:
        """The content if it is another than last time, or wanted anyway; None if not, or if there is a problem.

        After a change the file is read twice more: a stamp has the grain of the kernel's clock, and a second change
        within one grain keeps it.
        """
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)
            if stamp == self._stamp and not self._restless and not anyway:
                return None
            self._restless = max(self._restless - 1, 0) if stamp == self._stamp else 2
            self._stamp = stamp
            with self.path.open("rb") as file:
                raw = file.read(crl.LARGEST + 1)
        except OSError as error:
            self._stamp, self._digest = None, b""
            self.problem = f"cannot be read: {error.strerror or type(error).__name__}"
            return None
        self.problem = ""
        digest = hashlib.sha256(raw).digest()
        if digest == self._digest and not anyway:
            return None
        self._digest = digest
        return raw


class _Lists:
    """The lists of one file, as far as they are good."""

    __slots__ = ("file", "good", "problem", "retry")

    def __init__(self, path: Path) -> None:
        self.file = WatchedFile(path)
        self.good: tuple[SignedList, ...] = ()
        self.problem = ""
        self.retry = inf
        """When to read it again, changed or not: the time of one of its lists has not come yet."""

    def refresh(self, signers: Iterable[Signer], now: float, *, anyway: bool) -> None:
        raw = self.file.changed(anyway=anyway or now >= self.retry)
        if self.file.problem:
            self.good, self.problem = (), f"{self.file.path} {self.file.problem}"
        elif raw is not None:
            self._read(raw, signers, now)

    def _read(self, raw: bytes, signers: Iterable[Signer], now: float) -> None:
        good: list[SignedList] = []
        problems: list[str] = []
        self.retry = -inf  # until this has come to its end, whatever happens meanwhile
        retry = inf
        try:
            blocks = crl.split(raw)
        except ListError as error:
            blocks, problems = [], [str(error)]
        for index, der in enumerate(blocks, 1):
            try:
                good.append(crl.read(der, signers, now))
            except ListError as error:
                if isinstance(error, crl.NotYetError):
                    retry = min(retry, error.at)
                problems.append(f"list {index} of {len(blocks)} {error}" if len(blocks) > 1 else str(error))
        self.good = tuple(good)
        self.problem = f"{self.file.path} {'; '.join(problems)}" if problems else ""
        self.retry = retry


class Source:
    """The authorities of one listener and their lists. `refresh` reads files and takes long: call it in a thread."""

    def __init__(self, settings: RevocationSource) -> None:
        self.settings = settings
        self._ca = WatchedFile(settings.ca)
        self._ca_problem = ""
        self._signers: tuple[Signer, ...] = ()
        self._files = [_Lists(path) for path in settings.crls]
        self._in_force: dict[bytes, SignedList] = {}
        self._together: dict[bytes, SignedList] = {}
        """By the digests of what was put together: merging long lists at every look would cost too much."""
        self._replays: tuple[str, ...] = ()

    def refresh(self, floors: Floors, now: float) -> None:
        """Read what changed."""
        raw = self._ca.changed()
        again = False
        if raw is not None:
            try:
                self._signers = crl.read_authorities(raw)
                self._ca_problem = ""
                again = True
            except ListError as error:
                self._ca_problem = str(error)
        known = {signer.identity for signer in self._signers}
        for identity in self._in_force.keys() - known:
            del self._in_force[identity]
        for file in self._files:
            file.refresh(self._signers, now, anyway=again)
        offered = {each.authority: each for each in sorted(self._offered(), key=lambda each: each.age)}
        self._replays = tuple(filter(None, map(floors.check, offered.values())))
        for found in offered.values():
            if not floors.check(found):
                self._in_force[found.authority] = found

    def _offered(self) -> Iterator[SignedList]:
        for file in self._files:
            yield from file.good

    @property
    def in_force(self) -> Iterable[SignedList]:
        return tuple(self._in_force.values())

    def standings(self, now: float) -> Iterator[Standing]:
        """What counts for each authority of the file at `now`."""
        source = str(self.settings.ca)
        for issuer, name in {signer.issuer: signer.name for signer in self._signers}.items():
            counting = self._counting(issuer, now)
            current = self._put_together(counting) if counting else None
            problem = ""
            if current is None:
                problem = f"no revocation list of {name} is in force"
            elif now > current.next_update:
                problem = f"the revocation list of {name} ended on {show_time(current.next_update)}"
            yield Standing(source, issuer, name, current, problem)

    def _counting(self, issuer: bytes, now: float) -> list[SignedList]:
        """The lists of every authority of one name, best known last. Whoever changes its key has two, and so have two
        authorities that happen to bear one name: what either revoked is revoked. A list that is at hand counts also
        when it ended; one that is at hand no more counts until it ends, and then only if there is no other."""
        offered = {each.digest for each in self._offered()}
        lists = sorted(
            (each for each in tuple(self._in_force.values()) if each.issuer == issuer),
            key=lambda each: (each.digest in offered, each.this_update),
        )
        return [each for each in lists if each.digest in offered or now <= each.next_update] or lists[-1:]

    def _put_together(self, lists: list[SignedList]) -> SignedList:
        """One list of several, which ends when the first ends of those that are still at hand."""
        if len(lists) == 1:
            return lists[0]
        offered = {each.digest for each in self._offered()}
        at_hand = [each for each in lists if each.digest in offered] or lists[-1:]
        end = min(each.next_update for each in at_hand)
        digest = hashlib.sha256(b"".join(each.digest for each in lists) + str(end).encode()).digest()
        found = self._together.get(digest)
        if found is None:
            if len(self._together) >= len(self._signers):
                self._together.clear()
            serials = crl.merge_serials(each.serials for each in lists)
            found = msgspec.structs.replace(lists[-1], next_update=end, digest=digest, serials=serials)
            self._together[digest] = found
        return found

    def problems(self, now: float) -> Iterator[str]:
        """Everything that is not as it should be, in the operator's words; also what refuses nobody yet."""
        ca_problem = self._ca.problem or self._ca_problem
        if ca_problem:
            yield f"{self.settings.ca} {ca_problem}"
        yield from (file.problem for file in self._files if file.problem)
        yield from self._replays
        offered = {each.digest for each in self._offered()}
        for standing in self.standings(now):
            if standing.problem:
                yield f"{standing.problem}: its certificates are refused"
            elif (current := standing.current) is not None:
                until = show_time(current.next_update)
                if not any(each.digest in offered for each in self._counting(standing.issuer, now)):
                    yield f"the revocation list of {standing.name} read before stays in force until {until}"
                elif current.next_update - now < min(SOON, (current.next_update - current.this_update) / 4):
                    yield f"the revocation list of {standing.name} ends on {until}; its certificates are refused then"


def by_authorities(settings: Iterable[RevocationSource]) -> list[RevocationSource]:
    """One for each file of authorities: what listeners say about the same file is put together."""
    found: dict[Path, tuple[Path, ...]] = {}
    for each in settings:
        found[each.ca] = tuple(dict.fromkeys((*found.get(each.ca, ()), *each.crls)))
    return [RevocationSource(ca, crls) for ca, crls in found.items()]


def show_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
