"""Check a log offline: every line's hash, number and link, over all files in order. Reads only.

What it proves and what it cannot is in docs/reference/audit-log.md: whoever can write the log can also make a new one
with right hashes, so compare the last hash with one noted elsewhere (`expect`).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import msgspec

from zt_proxy.control.audit.chain import GENESIS, Head, Line, first_seq, log_files, parse, read_head

_LONGEST = 16 * 1024 * 1024
_STEP = 1024 * 1024


class Kind(StrEnum):
    """What is wrong at a line."""

    EDITED = "edited"
    """Its bytes do not give its hash."""
    MALFORMED = "malformed"
    """It does not have the form of a line."""
    DELETED = "deleted"
    """Lines before it are missing."""
    REORDERED = "reordered"
    """It stands before lines that belong before it."""
    INSERTED = "inserted"
    """Its number was there already."""
    RELINKED = "relinked"
    """Number and hash are right, but it does not follow from the line before: one of the two was made anew."""
    TRUNCATED = "truncated"
    """Lines at the end are missing."""
    DAMAGED = "damaged"
    """The writer found the log changed when it started."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first broken line: `line` counts from 1 within `file`."""

    kind: Kind
    file: str
    line: int
    detail: str


class Report(msgspec.Struct, frozen=True):
    """What was found. `lines` that hold, before the problem if there is one; `last_hash` is of the last of them."""

    ok: bool
    files: int
    lines: int
    first_seq: int
    last_seq: int
    last_hash: str
    problem: Problem | None
    notes: tuple[str, ...]
    """No fault but worth knowing: earlier files not given, an end that a crash tore, gaps in a worker's records."""


class _Event(msgspec.Struct, tag_field="type", tag="log", gc=False):
    event: str = ""
    detail: str = ""
    file: str = ""
    expected_seq: int = 0


_decode_event = msgspec.json.Decoder(_Event).decode


def expand(paths: Sequence[Path]) -> list[Path]:
    """Files as given; a directory stands for its log files in order. Raises FileNotFoundError for what is not there."""
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or directory")
        files.extend(log_files(path) if path.is_dir() else [path])
    if not files:
        raise FileNotFoundError("no audit-*.jsonl files in " + ", ".join(map(str, paths)))
    return files


def verify(
    paths: Sequence[Path], *, expect: Head | None = None, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Check files (or directories) as one chain, in the order given.

    `expect` is a head noted elsewhere: the chain must contain exactly that line. The `head` file in a directory counts
    as one for the end of its log. `progress` is called with bytes done and bytes in all, about once a mebibyte. Raises
    OSError when a file cannot be read.
    """
    files = expand(paths)
    walk = _Walk(files, expect, progress)
    problem = walk.run()
    if problem is None:
        problem = walk.check_end([path for path in paths if path.is_dir()])
    return Report(
        problem is None,
        len(files),
        walk.lines,
        walk.first_seq,
        walk.head.seq,
        walk.head.hash,
        problem,
        tuple(walk.notes),
    )


class _Walk:
    """One pass over the files."""

    def __init__(self, files: list[Path], expect: Head | None, progress: Callable[[int, int], None] | None) -> None:
        self.files = files
        self.expect = expect
        self.progress = progress or (lambda done, total: None)
        self.total = sum(path.stat().st_size for path in files)
        self.done = 0
        self.reported = 0
        self.lines = 0
        self.first_seq = 0
        self.head = Head()
        self.notes: list[str] = []
        self.place = (files[0].name, 0)

    def run(self) -> Problem | None:
        for index, path in enumerate(self.files):
            with path.open("rb") as file:
                for number, raw in enumerate(_lines(file), 1):
                    self.place = (path.name, number)
                    problem = self._line(raw, last=index == len(self.files) - 1)
                    if problem is not None:
                        return problem
                    self.done += len(raw)
                    if self.done - self.reported >= _STEP:
                        self.reported = self.done
                        self.progress(self.done, self.total)
        self.progress(self.done, self.total)
        return None

    def _line(self, raw: bytes, *, last: bool) -> Problem | None:
        if raw[-1:] != b"\n":
            what = "the last line is cut off" if last else "the file's last line is cut off"
            return self._problem(Kind.TRUNCATED, what)
        line = parse(raw[:-1])
        if line is None:
            return self._problem(Kind.MALFORMED, "not a line of an audit log")
        if not line.intact:
            return self._problem(Kind.EDITED, f"the bytes of line {line.seq} do not give its hash")
        problem = self._first(line) if self.lines == 0 else self._follow(line)
        if problem is not None:
            return problem
        self.lines += 1
        self.head = Head(line.seq, line.hash)
        if self.expect is not None and line.seq == self.expect.seq and line.hash != self.expect.hash:
            return self._problem(Kind.RELINKED, f"line {line.seq} is not the one with the expected hash")
        return self._event(raw) if b'"type":"log"' in raw else None

    def _first(self, line: Line) -> Problem | None:
        self.first_seq = line.seq
        named = first_seq(self.files[0])
        if named is not None and line.seq > named:
            return self._problem(Kind.DELETED, f"the file's name says that it begins at line {named}, not {line.seq}")
        if line.seq != 1:
            self.notes.append(f"begins at line {line.seq}: what came before was not given")
        elif line.prev != GENESIS:
            return self._problem(Kind.RELINKED, "the first line does not begin a chain")
        return None

    def _follow(self, line: Line) -> Problem | None:
        wanted = self.head.seq + 1
        if line.seq < wanted:
            return self._problem(Kind.INSERTED, f"line {line.seq} comes again after line {self.head.seq}")
        if line.seq > wanted:
            if self._comes_later(wanted):
                return self._problem(Kind.REORDERED, f"line {line.seq} stands where line {wanted} belongs")
            missing = f"line {wanted} is" if line.seq == wanted + 1 else f"lines {wanted} to {line.seq - 1} are"
            return self._problem(Kind.DELETED, f"{missing} missing")
        if line.prev != self.head.hash:
            return self._problem(Kind.RELINKED, f"line {line.seq} does not follow from the line before it")
        return None

    def _comes_later(self, seq: int) -> bool:
        """Look for the missing number in what follows, to tell a deletion from a different order."""
        start = b'{"seq":%d,' % seq
        names = [path.name for path in self.files]
        for path in self.files[names.index(self.place[0]) :]:
            with path.open("rb") as file:
                if any(raw.startswith(start) for raw in _lines(file)):
                    return True
        return False

    def _event(self, raw: bytes) -> Problem | None:
        try:
            event = _decode_event(raw)
        except msgspec.MsgspecError:
            return None  # the words stand in another record's field
        if event.event == "truncated":
            return self._problem(
                Kind.TRUNCATED, f"when it was written, the log had lost lines up to {event.expected_seq}"
            )
        if event.event == "damaged":
            return self._problem(Kind.DAMAGED, "when it was written, the line before it had been changed")
        self.notes.append(f"{self.place[0]}:{self.place[1]}: {event.event} {event.detail or event.file}".rstrip())
        return None

    def check_end(self, directories: list[Path]) -> Problem | None:
        """Lines may be missing at the end: compare with the head noted beside the log and with the expected one."""
        heads = [head for head in (read_head(directory) for directory in directories) if head is not None]
        if self.expect is not None:
            heads.append(self.expect)
        for head in heads:
            if head.seq > self.head.seq:
                return self._problem(Kind.TRUNCATED, f"lines {self.head.seq + 1} to {head.seq} are missing at the end")
            if head.seq == self.head.seq and head.hash != self.head.hash:
                return self._problem(Kind.RELINKED, f"line {head.seq} is not the one whose hash was noted")
        return None

    def _problem(self, kind: Kind, detail: str) -> Problem:
        return Problem(kind, *self.place, detail)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their breaks; one that is too long for a record is given in pieces, which are malformed."""
    while raw := file.readline(_LONGEST):
        yield raw


def size_of(paths: Sequence[Path]) -> int:
    """Bytes that `verify` would read."""
    return sum(os.stat(path).st_size for path in expand(paths))
