"""A child of the supervisor: a process of ours at the other end of a leash."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import structlog

from zt_proxy.processes.leash import (
    Begin,
    Committed,
    Down,
    Drain,
    Failed,
    Leash,
    LeashEnded,
    Leaving,
    Prepared,
    Ready,
    Up,
)
from zt_proxy.worker.edge.sockets import Key

REAP = 5.0
"""Seconds that a process may live on after it let go of its leash."""

Role = Literal["control", "worker"]
log = structlog.get_logger("zt_proxy.supervisor")


FRUGAL = {"MALLOC_ARENA_MAX": "1"}
"""For glibc: the few and brief threads of a child share one arena. Arenas of their own kept 3 MiB of each worker."""


class Child:
    """Make one with `spawn`. It is over when `gone` is set."""

    def __init__(
        self, role: Role, number: int, process: "subprocess.Popen[bytes]", leash: Leash[Up], started: float
    ) -> None:
        self.role = role
        self.number = number
        self.started = started
        """Epoch seconds."""
        self.ports: dict[str, int] = {}
        self.problem = ""
        """What the child said of why it cannot start."""
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()
        self.leaving = asyncio.Event()
        """It was asked to end by somebody else than us."""
        self.draining = False
        self.code: int | None = None
        self._process = process
        self._leash = leash
        self._said: Prepared | Committed | None = None
        self._answered = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._listen(), name=f"{self.name}-leash")

    @classmethod
    def spawn(
        cls,
        role: Role,
        begin: Begin,
        sockets: Mapping[Key, socket.socket],
        started: float,
        hidden: Collection[str] = (),
    ) -> "Child":
        """Start a process and tell it what to be, without the `hidden` environment variables.

        Raises OSError if there can be none.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [sys.executable, "-P", "-m", "zt_proxy.processes", role, str(theirs.fileno())]
        try:
            with theirs:
                # A group of its own: Ctrl-C in a terminal is for the supervisor, which ends its children in order.
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                    env=FRUGAL | {name: value for name, value in os.environ.items() if name not in hidden},
                )
        except BaseException:
            ours.close()
            raise
        leash: Leash[Up] = Leash(ours, Up)
        leash.send(begin, list(sockets.values()))
        return cls(role, begin.number, process, leash, started)

    @property
    def name(self) -> str:
        return "control" if self.role == "control" else f"worker-{self.number}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, message: Down, sockets: Sequence[socket.socket] = ()) -> None:
        self._leash.send(message, sockets)

    def drain(self, seconds: float) -> None:
        """Ask it to end in order."""
        self.draining = True
        self.tell(Drain(seconds))

    def kill(self) -> None:
        """End it at once. Does nothing to one that is over."""
        if not self.gone.is_set():
            self._process.kill()

    async def started_or_gone(self) -> bool:
        """Wait until it serves (True) or is over (False)."""
        await first(self.ready, self.gone)
        return self.ready.is_set() and not self.gone.is_set()

    async def answer(self, epoch: int, kind: type[Prepared] | type[Committed], seconds: float) -> str:
        """Wait for the answer to a message of this epoch; gives what is wrong, empty if nothing is.

        A child that is over needs no answer: its successor begins with what is in force then.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await first(self._answered, self.gone)
                    said = self._said
                    if isinstance(said, kind) and said.epoch == epoch:
                        return said.problem if isinstance(said, Prepared) else ""
                    if self.gone.is_set():
                        return ""
                    self._answered.clear()
        return f"{self.name} did not answer within {seconds:g} s"

    # ---- the leash ----

    async def _listen(self) -> None:
        with contextlib.suppress(LeashEnded):
            while True:
                self._heard(await self._leash.receive())
        await self._reap()

    def _heard(self, message: Up) -> None:
        match message:
            case Ready(ports):
                self.ports = ports
                self.ready.set()
            case Failed(problem):
                self.problem = problem
            case Prepared() | Committed():
                self._said = message
                self._answered.set()
            case Leaving():
                self.leaving.set()

    async def _reap(self) -> None:
        """The process let go of the leash: it ended, or is about to, or will be ended."""
        self._leash.close()
        try:
            self.code = await asyncio.to_thread(self._process.wait, REAP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.code = await asyncio.to_thread(self._process.wait)
        self.gone.set()


async def first(*events: asyncio.Event) -> None:
    """Wait until any of the events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
