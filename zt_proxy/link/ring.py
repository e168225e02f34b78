"""A record's way out of a worker: a memory-mapped ring file with one writer and one reader.

The worker writes, control reads and makes durable. The file lives in the runtime directory (mode 0600), so that what a
worker wrote is still there after `kill -9`; what was written is lost only with the machine's memory.

    header (4,096 bytes)      0 magic   8 version   16 capacity   24 worker   32 boot id (32 bytes, zero-padded)
                             64 head    the position up to which records are complete; only the writer stores it
                            128 tail    the position up to which records are durable elsewhere; only the reader does
    data (capacity bytes)   frames, each aligned to 16 bytes: length (4) CRC-32 (4) time (8, double) payload, padding

At most half of the data may be unread: the other half keeps what was read last, so that a frame can refer to one before
it by its position (`RingReader.at`), also after the reader began anew.

Positions grow for ever; the offset in the data is the position modulo the capacity. A frame never wraps: where it would
not fit before the end, a marker fills the rest. The head is stored after payload and frame header, in one aligned
64-bit store (a cast memoryview copies native words whole), so a writer that dies half-way has published nothing. The
CRC guards what that order cannot: machines that reorder stores, and damaged files.

The writer holds an exclusive flock for its life; the kernel lets go of it however the process ends, and that is how the
reader learns that a drained ring can be removed.
"""

import errno
import fcntl
import mmap
import os
import re
from pathlib import Path
from struct import Struct
from zlib import crc32

from zt_proxy.core.errors import Reason, UnavailableError

LEASE = 5.0
"""Seconds the oldest unread record may wait before nothing may be decided any more."""

_MAGIC = int.from_bytes(b"zt-ring\x00", "little")
_VERSION = 1
_HEADER = 4096
_FRAME = 16
_MARKER = 0xFFFF_FFFF
_VERSION_WORD, _CAPACITY_WORD, _WORKER_WORD, _HEAD_WORD, _TAIL_WORD = 1, 2, 3, 8, 16
_BOOT = slice(32, 64)
_BOOT_ID = re.compile(rb"[0-9A-Za-z._\-]{0,32}")
_NO_FILE = frozenset((errno.EISDIR, errno.ELOOP))
"""What opening a directory or a symbolic link fails of."""
_SMALLEST = 4096
_GLANCE = 0.05
"""Seconds between two looks of a busy writer at how far the reader is."""
_PATIENCE = 100
"""Reads that may meet a frame whose bytes are not all visible yet before the ring counts as damaged."""


_frame = Struct("<IId").pack


class RingDamaged(Exception):
    """The file is not a ring, or bytes in it were changed by someone who is neither its writer nor its reader."""


def ring_path(runtime_dir: Path, worker: int, boot: str) -> Path:
    """Where a worker's ring lies; control finds all of them with `ring_paths`."""
    return runtime_dir / f"records-{worker}-{boot}.ring"


def ring_paths(runtime_dir: Path) -> list[Path]:
    """The rings in a runtime directory, also those that dead workers left, in a stable order."""
    return sorted(runtime_dir.glob("records-*.ring"))


class RingWriter:
    """The worker's end. Not thread-safe: one thread writes. Make one with `create`."""

    __slots__ = (
        "_capacity",
        "_data",
        "_descriptor",
        "_end",
        "_head",
        "_limit",
        "_look_again",
        "_map",
        "_offset",
        "_reserve",
        "_room",
        "_times",
        "_words",
        "lease",
    )

    def __init__(self, descriptor: int, mapping: mmap.mmap, *, lease: float) -> None:
        self._descriptor = descriptor
        self._map = mapping
        self._data = memoryview(mapping)
        self._words = self._data.cast("Q")
        self._times = self._data.cast("d")
        self._capacity = self._words[_CAPACITY_WORD]
        self._head = 0
        self._offset = _HEADER
        self._end = _HEADER + self._capacity
        self._limit = self._capacity // 2
        self._reserve = self._limit // 8
        self._room = 0
        """The position up to which decisions may be written, as far as was looked."""
        self._look_again = 0.0
        self.lease = lease

    @classmethod
    def create(cls, path: Path, size: int, *, worker: int = 0, boot: str = "", lease: float = LEASE) -> "RingWriter":
        """Make a new ring of about `size` data bytes (rounded down to 4,096, at least 4,096).

        Raises FileExistsError: a ring is never taken over, because its reader may be in the middle of it; a new boot
        gets a new file. Raises UnavailableError(RECORD_UNAVAILABLE) when there is no room for the file. Room is claimed
        at once: a page that cannot be had later would be a SIGBUS.
        """
        name = boot.encode("ascii")
        if _BOOT_ID.fullmatch(name) is None:
            raise ValueError("a boot id has at most 32 characters: letters, digits and ._-")
        capacity = max(size // _SMALLEST * _SMALLEST, _SMALLEST)
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _HEADER + capacity)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mapping = mmap.mmap(descriptor, _HEADER + capacity)
            with memoryview(mapping) as data, data.cast("Q") as words:
                words[_VERSION_WORD], words[_CAPACITY_WORD], words[_WORKER_WORD] = _VERSION, capacity, worker
                data[_BOOT] = name.ljust(32, b"\0")
                words[0] = _MAGIC
            os.link(fresh, path)  # unlike rename, refuses to replace
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, FileExistsError):
                raise
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, f"{path}: {error}") from error
        finally:
            fresh.unlink()
        return cls(descriptor, mapping, lease=lease)

    def check(self, now: float) -> None:
        """Ask before deciding; `now` is monotonic seconds, the same clock as given to `write`.

        Raises UnavailableError(RECORD_UNAVAILABLE) when less than an eighth of the room is free (kept for the ends of
        what is already allowed) or when the oldest unread record is older than the lease: the reader is gone or stuck.
        """
        tail = self._words[_TAIL_WORD]
        head = self._head
        self._room = tail + self._limit - self._reserve
        self._look_again = now + _GLANCE
        if tail == head:
            return
        if head > self._room:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, "the record ring is full")
        if now - self._times[((_HEADER + tail % self._capacity) >> 3) + 1] > self.lease:
            self._look_again = 0.0
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, "the record ring is not being read")

    def write(self, record: bytes, now: float, *, decision: bool = False) -> int:
        """Append a payload, all or nothing; gives its position.

        With `decision` what `check` asks is asked as well, at least every 50 ms. Raises
        UnavailableError(RECORD_UNAVAILABLE) when it does not fit in what is free, or is larger than a quarter of the
        data.
        """
        length = len(record)
        span = (length + 31) & ~15
        offset = self._offset
        head = self._head
        if offset + span > self._end or head + span > self._room or now >= self._look_again:
            head, offset = self._make_room(span, now, decision)
        self._map[offset : offset + _FRAME + length] = _frame(length, crc32(record), now) + record
        offset += span
        self._offset = offset if offset < self._end else _HEADER
        self._words[_HEAD_WORD] = self._head = head + span  # published last: until here nothing was written
        return head

    def _make_room(self, span: int, now: float, decision: bool) -> tuple[int, int]:
        """Where a frame can begin (position, offset), a marker at the end of the data included."""
        if decision:
            self.check(now)
        offset, head = self._offset, self._head
        gap = self._end - offset if offset + span > self._end else 0
        if head + gap + span > self._words[_TAIL_WORD] + self._limit or span > self._limit // 2:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, "the record ring is full")
        if gap:
            self._words[offset >> 3] = _MARKER
            self._times[(offset >> 3) + 1] = now
            return head + gap, _HEADER
        return head, offset

    def in_reach(self, position: int) -> bool:
        """A payload written now may refer to the one at `position`."""
        return self._head - position < self._limit // 2

    def used(self) -> float:
        """Share of the room for unread records that is taken, 0 to 1."""
        return (self._head - self._words[_TAIL_WORD]) / self._limit

    def close(self) -> None:
        """Let go of the ring; what is in it stays for the reader. Does nothing the second time."""
        if self._descriptor < 0:
            return
        for view in (self._words, self._times, self._data):
            view.release()
        self._map.close()
        os.close(self._descriptor)
        self._descriptor = -1


class RingReader:
    """Control's end. One reader per ring. Make one with `open`."""

    __slots__ = (
        "_capacity",
        "_data",
        "_descriptor",
        "_map",
        "_path",
        "_position",
        "_stuck",
        "_words",
        "boot",
        "worker",
    )

    def __init__(self, path: Path, descriptor: int, mapping: mmap.mmap) -> None:
        self._path = path
        self._descriptor = descriptor
        self._map = mapping
        self._data = memoryview(mapping)
        self._words = self._data.cast("Q")
        self._capacity = self._words[_CAPACITY_WORD]
        self._position = self._words[_TAIL_WORD]
        self._stuck = 0
        self.worker = self._words[_WORKER_WORD]
        self.boot = bytes(self._data[_BOOT]).rstrip(b"\0").decode("ascii", "replace")

    @classmethod
    def open(cls, path: Path) -> "RingReader":
        """Open at the last committed position. Raises FileNotFoundError; RingDamaged if the file is not a ring."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise RingDamaged(f"{path}: not a file") from error
            raise
        try:
            size = os.fstat(descriptor).st_size
            if size < _HEADER + _SMALLEST or size % _SMALLEST:
                raise RingDamaged(f"{path}: not as long as a ring")
            mapping = mmap.mmap(descriptor, size)
            with memoryview(mapping) as data, data.cast("Q") as words:
                head, tail, capacity = words[_HEAD_WORD], words[_TAIL_WORD], words[_CAPACITY_WORD]
                if words[0] != _MAGIC or words[_VERSION_WORD] != _VERSION or capacity != size - _HEADER:
                    raise RingDamaged(f"{path}: not a ring of this version")
                if _BOOT_ID.fullmatch(bytes(data[_BOOT]).rstrip(b"\0")) is None:
                    raise RingDamaged(f"{path}: not the name of a boot")
                if not 0 <= head - tail <= capacity:
                    raise RingDamaged(f"{path}: positions {tail} and {head} do not fit a ring of {capacity}")
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, mapping)

    def read(self, limit: int) -> list[bytes]:
        """The next payloads, at most `limit`, in the order written. They stay in the ring until `commit`.

        Raises RingDamaged at a frame that cannot be one; the payloads before it have then been given by earlier calls.
        """
        records: list[bytes] = []
        words, mapping, capacity = self._words, self._map, self._capacity
        head, position = words[_HEAD_WORD], self._position
        while position < head and len(records) < limit:
            start = position % capacity
            word = words[(_HEADER + start) >> 3]
            if word == _MARKER:
                position += capacity - start
                continue
            length = word & 0xFFFF_FFFF
            if length > min(head - position, capacity - start) - _FRAME:
                break
            begin = _HEADER + _FRAME + start
            payload = mapping[begin : begin + length]
            if crc32(payload) != word >> 32:
                break
            records.append(payload)
            position += (length + 31) & ~15
        if position > head or (position < head and len(records) < limit):
            self._doubt(bool(records))
            position = min(position, head)
        elif records:
            self._stuck = 0
        self._position = position
        return records

    def at(self, position: int) -> bytes | None:
        """The payload at a position that was given by `write`; None if it is not there (any more)."""
        capacity = self._capacity
        start = position % capacity
        if start % 16 or not self._words[_HEAD_WORD] - capacity <= position < self._words[_HEAD_WORD]:
            return None
        word = self._words[(_HEADER + start) >> 3]
        length = word & 0xFFFF_FFFF
        if length > capacity - start - _FRAME:
            return None
        begin = _HEADER + _FRAME + start
        payload = self._map[begin : begin + length]
        return payload if crc32(payload) == word >> 32 else None

    def _doubt(self, progress: bool) -> None:
        """A frame does not hold. While its writer lives its bytes may still be on their way from the other core."""
        self._stuck += 1
        if not progress and (self._stuck > _PATIENCE or not self.writer_alive()):
            raise RingDamaged(f"{self._path}: a frame after {self._position} does not hold")

    def commit(self) -> None:
        """What was read is durable: give its room back to the writer."""
        self._words[_TAIL_WORD] = self._position

    def rewind(self) -> None:
        """Go back to the last commit: what was read since then could not be made durable."""
        self._position = self._words[_TAIL_WORD]

    def pending(self) -> bool:
        """True while something is not committed."""
        return self._words[_HEAD_WORD] != self._words[_TAIL_WORD]

    def writer_alive(self) -> bool:
        """False once the writer closed the ring or died. Ask before the last `read`, not after."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return False

    def remove(self) -> None:
        """Close, and delete the file: for a drained ring whose writer is gone."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the ring without changing it. Does nothing the second time."""
        if self._descriptor < 0:
            return
        self._words.release()
        self._data.release()
        self._map.close()
        os.close(self._descriptor)
        self._descriptor = -1
