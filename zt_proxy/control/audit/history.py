"""The lines of a log from some moment on, for whoever learns from them. Reading does not check the chain: `verify`."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from zt_proxy.control.audit.verify import expand

SLACK = 60.0
"""Seconds by which lines may stand out of order: several workers wrote them."""
_STEP = 1024 * 1024
_NEAR = 64 * 1024
"""Bytes between two looks for where to begin."""


class _At(msgspec.Struct, gc=False):
    at: float


_at = msgspec.json.Decoder(_At).decode


def lines(
    paths: Sequence[Path], since: float = 0.0, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Iterator[bytes]:
    """Whole lines, without their breaks, of directories and files in order, from about `since` (epoch seconds) on.

    A line that is still being written is not given. `progress(done, total)` is called with bytes, a megabyte apart.
    Raises OSError, and ValueError for a directory without a log.
    """
    files = _from(expand(paths), since - SLACK)
    total = sum(os.stat(path).st_size for path in files)
    done = said = 0
    for path in files:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = _start(file, size, since - SLACK) if since else 0
            file.seek(start)
            done += start
            for line in file:
                done += len(line)
                if done - said >= _STEP:
                    said = done
                    progress(done, total)
                if line.endswith(b"\n"):
                    yield line[:-1]
    progress(total, total)


def begins(paths: Sequence[Path]) -> float | None:
    """Epoch seconds of the log's first line; None: it has none. Raises as `lines`."""
    return next((at for path in expand(paths) if (at := _first(path)) is not None), None)


def _from(files: list[Path], moment: float) -> list[Path]:
    """Without the files at the beginning that are followed by one which begins before that moment."""
    for number in range(len(files) - 1, 0, -1):
        at = _first(files[number])
        if at is not None and at < moment:
            return files[number:]
    return files


def _first(path: Path) -> float | None:
    """When the first line of a file that can be read was written; None: there is none."""
    with path.open("rb") as file:
        for line in file:
            try:
                return _at(line).at
            except msgspec.MsgspecError:
                continue
    return None


def _start(file: BinaryIO, size: int, moment: float) -> int:
    """Where a line begins before which all are older than `moment`, or nearly: at most 64 KiB too early."""
    low, high = 0, size
    while high - low > _NEAR:
        middle = (low + high) // 2
        found, at = _after(file, middle)
        if at is None or at >= moment:
            high = middle
        else:
            low = found
    return low


def _after(file: BinaryIO, offset: int) -> tuple[int, float | None]:
    """The first line that begins after an offset and can be read: where, and when it was written."""
    file.seek(offset)
    file.readline()
    for _ in range(16):
        place = file.tell()
        line = file.readline()
        if not line:
            break
        try:
            return place, _at(line).at
        except msgspec.MsgspecError:
            continue
    return offset, None
