"""The audit log as a hash chain of JSON Lines over files. docs/reference/audit-log.md is the format's specification.

    {"seq":7,"prev":"<hash of line 6>",…the record's own fields…,"hash":"<SHA-256 of all bytes before ,"hash":>"}

`seq` and `prev` come first and `hash` last, at fixed places, so that a line can be checked without parsing JSON: the
hash covers the exact bytes. The chain goes on over rotation and restarts.
"""

import fcntl
import os
from binascii import hexlify
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ConfigurationError, Reason, UnavailableError
from zt_proxy.core.lines import encode_line

GENESIS = "0" * 64
"""`prev` of the first line there ever was."""
TAIL_BYTES = len(',"hash":"') + 64 + len('"}')
_HEAD_FILE = "head"
_LOCK_FILE = "lock"
_TAIL_SCAN = 16 * 1024 * 1024
"""Bytes at the end of the log that are read at start, for the head and for the numbers of the last records."""


class Head(msgspec.Struct, frozen=True):
    """The last line of a chain: its number and its hash."""

    seq: int = 0
    hash: str = GENESIS


class Line(msgspec.Struct, frozen=True):
    """What a line states of itself, and whether its hash is that of its bytes."""

    seq: int
    prev: str
    hash: str
    intact: bool


def link(head: Head, record: bytes) -> tuple[bytes, Head]:
    """The line (with its line break) that puts a record after `head`, and the new head; see `extend`."""
    return extend(head, (record,))


def extend(head: Head, records: Sequence[bytes]) -> tuple[bytes, Head]:
    """The lines that put records after `head`, and the new head.

    Each record is one non-empty JSON object without line breaks; raises ValueError otherwise.
    """
    for record in records:
        if len(record) < 4 or record[0] != 0x7B or record[-1] != 0x7D or b"\n" in record:
            raise ValueError("a record is one JSON object on one line")
    return extend_by(head, [record[1:-1] for record in records])


def extend_by(head: Head, texts: Sequence[bytes]) -> tuple[bytes, Head]:
    """As `extend`, of what stands between the braces of each record; nothing is checked."""
    seq, prev = head.seq, head.hash.encode("ascii")
    lines: list[bytes] = []
    add = lines.append
    for text in texts:
        seq += 1
        body = b'{"seq":%d,"prev":"%b",%b' % (seq, prev, text)
        prev = hexlify(sha256(body).digest())
        add(b'%b,"hash":"%b"}\n' % (body, prev))
    return b"".join(lines), Head(seq, prev.decode("ascii"))


def parse(line: bytes) -> Line | None:
    """Read a line (without its line break); None if it does not have the form of one."""
    body, tail = line[:-TAIL_BYTES], line[-TAIL_BYTES:]
    if not line.startswith(b'{"seq":') or not tail.startswith(b',"hash":"') or not tail.endswith(b'"}'):
        return None
    number, comma, rest = body[7:40].partition(b",")
    start = 7 + len(number) + 1
    if not comma or not number.isdigit() or body[start : start + 8] != b'"prev":"' or not rest:
        return None
    prev, stated = body[start + 8 : start + 72], tail[9:73]
    if body[start + 72 : start + 74] != b'",' or not (prev.isascii() and stated.isascii()):
        return None
    return Line(int(number), prev.decode(), stated.decode(), sha256(body).hexdigest().encode("ascii") == stated)


def log_files(directory: Path) -> list[Path]:
    """The log's files in order: each is named after the number of its first line."""
    return sorted(directory.glob("audit-*.jsonl"))


def first_seq(path: Path) -> int | None:
    """The number of a log file's first line, as its name says; None for a file of another name."""
    number = path.name.removeprefix("audit-").removesuffix(".jsonl")
    return int(number) if path.name == f"audit-{number}.jsonl" and number.isdecimal() else None


def read_head(directory: Path) -> Head | None:
    """The head that the writer noted beside its files; None if there is none or it does not parse."""
    try:
        seq, digest = (directory / _HEAD_FILE).read_text("ascii").split()
        return Head(int(seq), digest)
    except (OSError, ValueError):
        return None


class Chain:
    """The one writer of a directory's log. Blocking: call it from a thread. Make one with `open`."""

    def __init__(self, directory: Path, lock: int, clock: Clock, rotate_bytes: int) -> None:
        self._directory = directory
        self._lock = lock
        self._clock = clock
        self._rotate_bytes = rotate_bytes
        self._path = directory
        self._file = -1
        self._size = 0
        self._head_file = -1
        self.head = Head()

    @classmethod
    def open(cls, directory: Path, *, clock: Clock, rotate_bytes: int) -> "Chain":
        """Go on where the log ends; set aside what a crash tore, and put that on record.

        Raises ConfigurationError if another process writes this log (two writers would fork the chain),
        UnavailableError(RECORD_UNAVAILABLE) if the files cannot be read or written.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, f"audit log {directory}: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise ConfigurationError(f"{directory}: another process writes this audit log") from error
        chain = cls(directory, lock, clock, rotate_bytes)
        try:
            chain._recover()
        except BaseException:
            chain.close()
            raise
        return chain

    def append(self, records: Sequence[bytes]) -> None:
        """Write records and make them durable (fdatasync) before returning; all of them or none.

        Raises UnavailableError(RECORD_UNAVAILABLE) when the disk is full or failing: the log then ends where it did.
        """
        if records:
            self.write(*extend(self.head, records))

    def write(self, data: bytes, head: Head) -> None:
        """`append` for lines that `extend` has already put after `self.head`: the part that waits for the disk."""
        try:
            if self._file < 0:
                self._reopen()
            if self._size >= self._rotate_bytes or os.fstat(self._file).st_nlink == 0:
                self._start_file()
            self._write(data)
        except OSError as error:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, f"audit log {self._directory}: {error}") from error
        self.head = head
        self._note_head()

    def _write(self, data: bytes) -> None:
        """All of `data`, synced; after a failure the file is closed, and `_reopen` cuts off what came too much."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError:
            # After a failed fsync the kernel may have dropped dirty pages: what was written since the last good one
            # is unknown, so it is cut off and written again from the ring.
            os.close(self._file)
            self._file = -1
            raise
        self._size += len(data)

    def _reopen(self) -> None:
        """After a failure: the same file, as long as it was when the last line was durable."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.ftruncate(descriptor, self._size)
        except OSError:
            os.close(descriptor)
            raise
        self._file = descriptor

    def _start_file(self) -> None:
        path = self._directory / f"audit-{self.head.seq + 1:012d}.jsonl"
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._path, self._file, self._size = path, fresh, os.fstat(fresh).st_size
        self._sync_directory()

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _note_head(self) -> None:
        """Leave the head beside the log, so that lines cut off its end are missed. In place: needs no room."""
        with suppress(OSError):  # an older head still proves something, and the lines themselves are durable
            os.pwrite(self._head_file, b"%020d %b\n" % (self.head.seq, self.head.hash.encode("ascii")), 0)

    def tail(self) -> Iterator[bytes]:
        """The last 16 MiB of lines in order, or all."""
        data, room = b"", _TAIL_SCAN
        for path in reversed(log_files(self._directory)):
            with path.open("rb") as file:
                skip = max(0, os.fstat(file.fileno()).st_size - room)
                file.seek(skip)
                part = file.read()
            room -= len(part)
            data = part + data
            if skip:
                data = data[data.find(b"\n") + 1 :]
                break
        yield from data.split(b"\n")

    def _recover(self) -> None:
        """Find the head; move a torn or unreadable end aside; note what was found wrong as records."""
        try:
            noted = read_head(self._directory)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._head_file = os.open(self._directory / _HEAD_FILE, flags, 0o600)
            events = self._mend()
        except OSError as error:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, f"audit log {self._directory}: {error}") from error
        if noted is not None and noted.seq > self.head.seq:
            events.append({"event": "truncated", "expected_seq": noted.seq, "expected_hash": noted.hash})
        self.append([encode_line({"type": "log", "v": 1, "at": self._clock.now(), **event}) for event in events])

    def _mend(self) -> list[dict[str, object]]:
        """Open the last file, with `head` at its last line. What follows that line goes to a file of its own."""
        events: list[dict[str, object]] = []
        for path in reversed(log_files(self._directory)):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            found, end = self._last_line(descriptor)
            size = os.fstat(descriptor).st_size
            if size > end:
                events.append(self._set_aside(path, descriptor, end))
            if found is not None:
                self.head = Head(found.seq, found.hash)
                if not found.intact:  # not a crash: the chain goes on after it, and verification points at it
                    events.append({"event": "damaged", "seq": found.seq})
                self._path, self._file, self._size = path, descriptor, end
                return events[::-1]
            os.close(descriptor)
            path.unlink()
        self._start_file()
        return events[::-1]

    @staticmethod
    def _last_line(descriptor: int) -> tuple[Line | None, int]:
        """The last complete line that has the form of one, and where it ends."""
        size = os.fstat(descriptor).st_size
        start = max(0, size - _TAIL_SCAN)
        data = os.pread(descriptor, size - start, start)
        end = data.rfind(b"\n")
        while end >= 0:
            begin = data.rfind(b"\n", 0, end) + 1
            line = parse(data[begin:end])
            if line is not None:
                return line, start + end + 1
            end = begin - 1
        return None, 0

    def _set_aside(self, path: Path, descriptor: int, end: int) -> dict[str, object]:
        """Copy what follows `end` into `<file>.torn-<offset>`, then cut it off. Nothing is thrown away."""
        rest = os.pread(descriptor, os.fstat(descriptor).st_size - end, end)
        aside = path.with_name(f"{path.name}.torn-{end}-{int(self._clock.now())}")
        copy = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(copy, rest)
            os.fsync(copy)
        finally:
            os.close(copy)
        self._sync_directory()
        os.ftruncate(descriptor, end)
        return {"event": "torn", "file": aside.name, "bytes": len(rest), "sha256": sha256(rest).hexdigest()}

    def close(self) -> None:
        """Close the files and let another writer have the log."""
        for descriptor in (self._file, self._head_file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._head_file = self._lock = -1
