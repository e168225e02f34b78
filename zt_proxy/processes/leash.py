"""The leash: what the supervisor and one child of it say to each other, over one inherited pair of unix sockets.

    frame   length (4 bytes, big-endian), msgpack of one message; listening sockets come along by SCM_RIGHTS
    down    begin ► (prepare ► commit | abandon)* , lend, give back, standing, drain
    up      ready | failed, prepared, committed, leaving

Neither end has a name in the file system, so nobody else can speak. The end of the leash is how either side learns of
the other's death: a child whose supervisor died drains at once and exits, so that no orphan serves an old policy
(ZT-NET-03). Secrets travel here and nowhere else: never on a command line, in the environment or on a disk.
"""

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from zt_proxy.core.keys import Secret
from zt_proxy.link.status import FleetReport
from zt_proxy.worker.edge.sockets import Key

T = TypeVar("T")
Heard = TypeVar("Heard")

LONGEST = 64 * 1024 * 1024
"""Bytes of a frame: settings of some hundred thousand rules."""
LONGEST_UP = 64 * 1024
"""The same from a child."""
WAITING_UP = 64
"""Messages of a child that may wait; one that says more is cut."""
_HEADER = 4
_READ = 256 * 1024
_SCM_MAX_FD = 253
"""Descriptors of one message (unix(7))."""
_ROOM = socket.CMSG_SPACE(_SCM_MAX_FD * array.array("i").itemsize)


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Down, first: what to be. One listening socket for each of `listeners` comes along."""

    settings: bytes
    """WorkerSettings or ControlSettings; see `pack`."""
    number: int = 0
    """The worker's slot."""
    boot: str = ""
    epoch: int = 1
    log_format: str = "json"
    log_level: str = "info"
    listeners: tuple[Key, ...] = ()
    metrics: tuple[str, int] | None = None
    """For control: host and port of the private listener."""


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Down: build the world of a new epoch beside the one in force. Sockets of new listeners come along."""

    epoch: int
    settings: bytes
    log_format: str = "json"
    log_level: str = "info"
    listeners: tuple[Key, ...] = ()
    metrics: tuple[str, int] | None = None


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    """Down: the prepared world is in force from now on."""

    epoch: int


class Abandon(msgspec.Struct, frozen=True, tag="abandon"):
    """Down: forget the prepared world."""

    epoch: int


class Lend(msgspec.Struct, frozen=True, tag="lend"):
    """Down: serve the sockets of another slot too, whose worker is gone. One socket for each of them comes along."""

    slot: int
    listeners: tuple[Key, ...]


class GiveBack(msgspec.Struct, frozen=True, tag="give-back"):
    """Down: the slot has a worker again; accept nothing more for it."""

    slot: int


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Down: take nothing new, let what runs end within `seconds`, exit."""

    seconds: float


class Standing(msgspec.Struct, frozen=True, tag="standing"):
    """Down, to control: what only the supervisor knows, whenever it changes."""

    fleet: FleetReport


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Up: it serves. `ports` by the listener's name."""

    ports: dict[str, int] = {}


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Up: it cannot start, and why; it exits."""

    problem: str


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    """Up: the new world stands beside the old, or `problem` says why it cannot."""

    epoch: int
    problem: str = ""


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """Up: the new world is in force."""

    epoch: int


class Leaving(msgspec.Struct, frozen=True, tag="leaving"):
    """Up: somebody asked this process to end (SIGTERM); it waits for its successor, and for `Drain`."""


Down = Begin | Prepare | Commit | Abandon | Lend | GiveBack | Drain | Standing
Up = Ready | Failed | Prepared | Committed | Leaving
Message = Down | Up


class LeashEnded(EOFError):
    """The other side is gone."""


def pack(settings: msgspec.Struct) -> bytes:
    """Settings as they travel."""
    return msgspec.msgpack.encode(settings, enc_hook=_plain)


def unpack(kind: type[T], data: bytes) -> T:
    """The settings again. Raises msgspec.ValidationError."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_rich)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"settings hold a {type(value).__name__}")


def _rich(kind: type, value: Any) -> Any:
    if kind in {Path, Secret}:
        return kind(value)
    raise NotImplementedError(f"settings hold a {kind.__name__}")


class Leash(Generic[Heard]):
    """One end, which hears `kind` only. Takes over the socket; needs a running event loop. Not thread-safe.

    What a child says to the supervisor is short and comes without sockets: one that was taken over must not be able to
    fill the supervisor's memory or its table of descriptors.
    """

    def __init__(self, end: socket.socket, kind: Any = Down) -> None:
        end.setblocking(False)
        from_child = kind is Up
        self._longest = LONGEST_UP if from_child else LONGEST
        self._room = 0 if from_child else _ROOM
        self._socket = end
        self._loop = asyncio.get_running_loop()
        self._decode: Callable[[bytes], Heard] = msgspec.msgpack.Decoder(kind).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._incoming = bytearray()
        self._taken: deque[int] = deque()
        self._messages: asyncio.Queue[Heard | None] = asyncio.Queue()
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._open = True
        self.ended = asyncio.Event()
        """The other side is gone, or this one closed; messages from before may still be there to receive."""
        self._loop.add_reader(end.fileno(), self._read)

    async def receive(self) -> Heard:
        """The next message; `sockets` gives what came along. Raises LeashEnded, from then on every time."""
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)
            raise LeashEnded
        return message

    def sockets(self, count: int) -> list[socket.socket]:
        """The next `count` sockets that came, in the order of their messages. Call once for each message with some."""
        if len(self._taken) < count:
            raise LeashEnded("fewer sockets came than were announced")
        return [socket.socket(fileno=self._taken.popleft()) for _ in range(count)]

    def send(self, message: Message, sockets: Sequence[socket.socket] = ()) -> None:
        """Send without waiting; what does not fit now follows. Does nothing once the leash has ended."""
        if not self._open:
            return
        body = self._encode(message)
        if len(body) > LONGEST or len(sockets) > _SCM_MAX_FD:
            raise ValueError("too much for one message")
        copies = [os.dup(one.fileno()) for one in sockets]  # the caller may close its own before they are sent
        self._outgoing.append((memoryview(len(body).to_bytes(_HEADER, "big") + body), copies))
        if len(self._outgoing) == 1:
            self._write()

    def close(self) -> None:
        """End the leash. Does nothing the second time."""
        if not self._open:
            return
        self._open = False
        self.ended.set()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        for _, copies in self._outgoing:
            _close(copies)
        self._outgoing.clear()
        _close(self._taken)
        self._socket.close()
        self._messages.put_nowait(None)

    # ---- bytes ----

    def _write(self) -> None:
        while self._outgoing:
            data, copies = self._outgoing[0]
            try:
                sent = socket.send_fds(self._socket, [data], copies) if copies else self._socket.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._write)
                return
            except OSError:
                self.close()
                return
            _close(copies)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], [])
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        try:
            # socket.recv_fds forgets its flags (seen in 3.11): children of ours would inherit what it receives.
            data, more, flags, _ = self._socket.recvmsg(_READ, self._room, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        for level, kind, content in more:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                taken = array.array("i")
                taken.frombytes(content[: len(content) - len(content) % taken.itemsize])
                self._taken.extend(taken)
        self._incoming += data
        if not data or flags & socket.MSG_CTRUNC or not self._split():
            self.close()

    def _split(self) -> bool:
        """Take whole frames out of what came; False if they are not the other side's."""
        incoming = self._incoming
        while len(incoming) >= _HEADER:
            length = int.from_bytes(incoming[:_HEADER], "big")
            if length > self._longest:
                return False
            if len(incoming) < _HEADER + length:
                return True
            try:
                message = self._decode(bytes(incoming[_HEADER : _HEADER + length]))
            except msgspec.MsgspecError:
                return False
            del incoming[: _HEADER + length]
            if self._longest == LONGEST_UP and self._messages.qsize() >= WAITING_UP:
                return False
            self._messages.put_nowait(message)
        return True


def _close(descriptors: Sequence[int] | deque[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    if isinstance(descriptors, (list, deque)):
        descriptors.clear()
