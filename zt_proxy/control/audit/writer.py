"""Brings records from the workers' rings into the chain, and says when it cannot.

Every 200 ms: read the rings, append what is new, fdatasync, and only then give the rings their room back. A record is
therefore in the ring or durable in the log at any moment, also through `kill -9` of either side. What a crash between
sync and commit would bring a second time is known by (worker, boot, n) and left out.

When the disk is full or failing, records stay in the rings; the rings fill or grow old, and the workers deny: nothing
is decided unrecorded.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from zt_proxy.control.audit.chain import Chain, extend, extend_by
from zt_proxy.control.settings import AuditSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.lines import Value, encode_line, printable
from zt_proxy.link.records import OBJECT, Noted, RecordReader, Unreadable
from zt_proxy.link.ring import RingDamaged, RingReader, ring_paths

_log = structlog.get_logger("zt_proxy.audit")
SLICES = 32
"""Slices of a batch each that one turn takes from a ring before it syncs: a sync costs as much as hundreds of lines."""
TURN_BYTES = 8 * 1024 * 1024
"""Of lines that one turn writes, or a slice more: after a crash, what would be written twice is looked for in the last
16 MiB alone. Which rings it was too much for are first in the next turn."""
_SCAN = 0.5
"""Seconds between looks for new rings, and between attempts while the disk fails."""


class _Key(msgspec.Struct, gc=False):
    """Whose record it is. A record that brings a chain field of its own is not taken as it is."""

    worker: int
    boot: str
    n: int
    seq: msgspec.UnsetType | msgspec.Raw = msgspec.UNSET
    prev: msgspec.UnsetType | msgspec.Raw = msgspec.UNSET
    hash: msgspec.UnsetType | msgspec.Raw = msgspec.UNSET


_decode_key = msgspec.json.Decoder(_Key).decode


class AuditWriter:
    """The log's one writer. `start`, then leave it alone; `stop` drains what is left."""

    def __init__(
        self, settings: AuditSettings, runtime_dir: Path, clock: Clock, *, interval: float = 0.2, batch: int = 256
    ) -> None:
        self._settings = settings
        self._runtime_dir = runtime_dir
        self._clock = clock
        self._interval = interval
        self._batch = batch
        self._chain: Chain | None = None
        self._readers: dict[Path, RingReader] = {}
        self._written_out: dict[Path, RecordReader] = {}
        self._last: dict[tuple[int, str], int] = {}
        self._events: list[tuple[bytes, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._turned = asyncio.Event()
        self._stopping = False
        self._problem = "not started"
        self.watch: Callable[[Noted], None] | None = None
        """Told of records once they are durable. What it raises is logged, and holds nothing up."""

    async def start(self) -> None:
        """Open the log and begin. Raises ConfigurationError if another process writes it, UnavailableError if the
        files cannot be used."""
        self._chain = await asyncio.to_thread(self._open)
        self._problem = ""
        self._task = asyncio.create_task(self._run(), name="audit-writer")

    async def stop(self) -> None:
        """Make what is in the rings durable, as far as the disk lets it, and close."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        if self._chain is not None:
            self._chain.close()
            self._chain = None
        self._problem = "stopped"

    async def drain(self, patience: float = 1.0) -> None:
        """Wait until what is in the rings is durable, at most so many seconds: whoever watches has heard of it then."""
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self.problem() and any(reader.pending() for reader in self._readers.values()):
                    await self._turned.wait()

    def problem(self) -> str:
        """Why records are not becoming durable; empty when they are."""
        if self._task is not None and self._task.done() and not self._stopping:
            return "the audit writer ended"
        return self._problem

    @property
    def seq(self) -> int:
        """Number of the last durable line."""
        return 0 if self._chain is None else self._chain.head.seq

    async def write(self, kind: str, **fields: Value) -> None:
        """Put an event of control itself on record (`type` is `kind`) and wait until it is durable.

        Raises UnavailableError(RECORD_UNAVAILABLE) if it cannot be: the caller must not do what it wanted recorded.
        """
        if self._task is None or self._task.done() or self._stopping:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, "the audit writer is not running")
        event = encode_line({"type": kind, "v": 1, "at": self._clock.now(), **fields})
        durable = asyncio.get_running_loop().create_future()
        self._events.append((event, durable))
        self._wake.set()
        await durable

    def _open(self) -> Chain:
        chain = Chain.open(self._settings.directory, clock=self._clock, rotate_bytes=self._settings.rotate_bytes)
        for line in chain.tail():
            with suppress(msgspec.MsgspecError):
                key = _decode_written(line)
                if key.type == "log":  # a note that numbers are missing; the record behind it may be torn off
                    continue
                self._last[key.worker, key.boot] = max(key.n, self._last.get((key.worker, key.boot), 0))
        return chain

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_scan = 0.0
        while True:
            stopping, more = self._stopping, False
            scan = stopping or loop.time() >= next_scan
            if scan:
                next_scan = loop.time() + _SCAN
            if scan or self._events or (not self._problem and any(r.pending() for r in self._readers.values())):
                more = await self._turn(scan=scan)
            if stopping and (self._problem or not any(r.pending() for r in self._readers.values())):
                self._refuse_events()
                return
            self._wake.clear()
            if more:
                await asyncio.sleep(0)
            elif not self._stopping:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._interval)

    async def _turn(self, *, scan: bool) -> bool:
        try:
            return await self._read(scan=scan)
        finally:
            self._turned.set()
            self._turned.clear()

    async def _read(self, *, scan: bool) -> bool:
        """Read the rings, make it durable, give the room back. True if there may be more at once."""
        events, self._events = self._events, []
        try:
            more = await self._drain(scan, [event for event, _ in events])
        except (UnavailableError, OSError) as error:
            if not self._problem:
                _log.error("audit-log-unavailable", problem=str(error))
            self._problem = str(error) or type(error).__name__
            _fail(events, self._problem)
            return False
        except BaseException:
            self._problem = "the audit writer failed"
            _fail(events, self._problem)
            raise
        if self._problem:
            _log.info("audit-log-available", seq=self.seq)
        self._problem = ""
        for _, durable in events:
            if not durable.done():
                durable.set_result(None)
        return more

    def _refuse_events(self) -> None:
        events, self._events = self._events, []
        _fail(events, "the audit writer stopped")

    async def _drain(self, scan: bool, lines: list[bytes]) -> bool:
        """One turn: read, append and sync, commit.

        Only the waiting for the disk is in a thread. Hashing there too would make the path fight for the interpreter
        with this: in one process that was seen to cost a request more than the hashing itself.
        """
        assert self._chain is not None
        if scan:
            self._find_rings(lines, await asyncio.to_thread(ring_paths, self._runtime_dir))
        finished = [path for path, reader in self._readers.items() if not reader.writer_alive()] if scan else []
        last = dict(self._last)
        damaged: list[Path] = []
        more = False
        size = 0
        pieces: list[bytes] = []
        noted: list[Noted] = []
        head = self._chain.head
        try:
            for path, reader in list(self._readers.items()):
                if size >= TURN_BYTES:
                    more = True
                    break
                self._readers[path] = self._readers.pop(path)
                for _ in range(SLICES):
                    try:
                        payloads = reader.read(self._batch)
                    except RingDamaged as error:
                        damaged.append(path)
                        lines.append(self._note("ring-damaged", path, str(error)))
                        break
                    noted.append(Noted())
                    texts = _texts(self._written_out[path], reader, payloads, last, noted[-1])
                    piece, head = extend_by(head, texts)
                    pieces.append(piece)
                    size += len(piece)
                    if len(payloads) < self._batch:
                        break
                    if size >= TURN_BYTES:
                        more = True
                        break
                    await asyncio.sleep(0)  # the path goes first
                else:
                    more = True
            piece, head = extend(head, lines)
            pieces.append(piece)
            data = b"".join(pieces)
            if data:
                await asyncio.to_thread(self._chain.write, data, head)
        except BaseException:
            for reader in self._readers.values():
                reader.rewind()
            raise
        self._last = last
        for reader in self._readers.values():
            reader.commit()
        self._let_go(damaged, finished)
        if self.watch is not None:
            for batch in noted:
                self._tell(self.watch, batch)
        return more

    @staticmethod
    def _tell(watch: Callable[[Noted], None], batch: Noted) -> None:
        if len(batch):
            try:
                watch(batch)
            except Exception:
                _log.exception("records not watched", records=len(batch))

    def _let_go(self, damaged: list[Path], finished: list[Path]) -> None:
        """Of rings that cannot be read any more, and of those that were read to their end and have no writer."""
        for path in damaged:
            self._readers.pop(path).close()
            self._written_out.pop(path, None)
            path.rename(path.with_suffix(".damaged"))
        for path in finished:
            if path in self._readers and not self._readers[path].pending():
                gone = self._readers.pop(path)
                del self._written_out[path]
                gone.remove()
                self._last.pop((gone.worker, gone.boot), None)

    def _find_rings(self, lines: list[bytes], paths: list[Path]) -> None:
        for path in paths:
            if path in self._readers:
                continue
            try:
                reader = self._readers[path] = RingReader.open(path)
                self._written_out[path] = RecordReader(reader.worker, reader.boot, reader.at)
            except RingDamaged as error:
                lines.append(self._note("ring-damaged", path, str(error)))
                path.rename(path.with_suffix(".damaged"))

    def _note(self, event: str, path: Path, detail: str) -> bytes:
        _log.error(event, ring=path.name, detail=detail)
        note = {"type": "log", "v": 1, "at": self._clock.now(), "event": event, "file": path.name, "detail": detail}
        return encode_line(note)


class _Written(msgspec.Struct, gc=False):
    worker: int
    boot: str
    n: int
    type: str = ""


_decode_written = msgspec.json.Decoder(_Written).decode


def _texts(
    packed: RecordReader, ring: RingReader, payloads: list[bytes], last: dict[tuple[int, str], int], noted: Noted
) -> list[bytes]:
    """The records that are not in the log already, in order: what stands between the braces of each JSON object.

    Packed records are taken as they come while their numbers go up by one; whatever else is looked at by itself.
    """
    whose = (ring.worker, ring.boot)
    texts: list[bytes] = []
    write_out = packed.write_out
    known = last.get(whose)
    for payload in payloads:
        if known is not None:
            after = write_out(payload, known, texts, noted)
            if after is not None:
                known = after
                continue
            last[whose] = known
        lines = _lines(packed, payload, whose, last)
        noted.lines += lines
        texts += [line[1:-1] for line in lines]
        known = last.get(whose)
    if known is not None:
        last[whose] = known
    return texts


def _lines(
    packed: RecordReader, payload: bytes, whose: tuple[int, str], last: dict[tuple[int, str], int]
) -> list[bytes]:
    """The records of one payload that are not in the log already, whatever it is."""
    if not payload or payload[0] == OBJECT:
        return _new_line(payload, whose, last)
    lines: list[bytes] = []
    try:
        for n, line in packed.lines(payload):
            if n and n == last.get(whose, n - 1) + 1:
                lines.append(line)
                last[whose] = n
            else:
                lines += _new_line(line, whose, last)
    except Unreadable:
        lines.append(_unreadable(payload))
    return lines


def _unreadable(record: bytes) -> bytes:
    """What is not a proper record, kept whole."""
    return encode_line({"type": "unreadable", "v": 1, "data": b64encode(record).decode("ascii")})


def _new_line(record: bytes, whose: tuple[int, str], last: dict[tuple[int, str], int]) -> list[bytes]:
    """The record, unless it is in the log already; with a note when numbers between it and the last are missing.

    What is not a proper record of the ring's own worker is kept whole, as base64, under the type `unreadable`: a number
    in another's name would have that worker's records taken for known.
    """
    try:
        key = _decode_key(record)
        own = (key.worker, key.boot) == whose and record[:1] == b"{" and record[-1:] == b"}"
        proper = own and key.seq is key.prev is key.hash is msgspec.UNSET and printable(record)
    except (msgspec.MsgspecError, RecursionError):
        proper = False
    if not proper:
        return [_unreadable(record)]
    known = last.get((key.worker, key.boot))
    if known is not None and key.n <= known:
        return []
    last[key.worker, key.boot] = key.n
    if known is not None and key.n > known + 1:
        gap = {
            "type": "log",
            "v": 1,
            "event": "gap",
            "worker": key.worker,
            "boot": key.boot,
            "after": known,
            "n": key.n,
        }
        return [encode_line(gap), record]
    return [record]


def _fail(events: list[tuple[bytes, asyncio.Future[None]]], detail: str) -> None:
    for _, durable in events:
        if not durable.done():
            durable.set_exception(UnavailableError(Reason.RECORD_UNAVAILABLE, detail))
