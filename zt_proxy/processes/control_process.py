"""The control process: `python -m zt_proxy.processes control FD`, started by the supervisor, which holds its leash."""

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import structlog
import uvloop

from zt_proxy.control.operator.alerts import WatchMetrics
from zt_proxy.control.operator.metrics import AllMetrics
from zt_proxy.control.operator.server import OperatorServer
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core import logs
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.errors import ConfigurationError, ZtError
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.private import private_directory
from zt_proxy.link.frames import SOCKET
from zt_proxy.link.messages import SessionAuthority
from zt_proxy.link.ring import ring_paths
from zt_proxy.link.server import LinkServer
from zt_proxy.link.status import FleetReport
from zt_proxy.processes.checks import checks_of, orders_of, overview_of
from zt_proxy.processes.control import Control, Front
from zt_proxy.processes.leash import (
    Abandon,
    Begin,
    Commit,
    Committed,
    Down,
    Drain,
    Failed,
    Leash,
    LeashEnded,
    Leaving,
    Prepare,
    Prepared,
    Ready,
    Standing,
    unpack,
)
from zt_proxy.processes.private import PrivateListener

LOCK = "control.lock"
PREDECESSOR = 5.0
"""Seconds that a control whose supervisor died has to leave in; it needs one."""

log = structlog.get_logger("zt_proxy.control")


class _Prepared(NamedTuple):
    """What waits to be put in force."""

    message: Prepare
    front: Front
    private: PrivateListener | None
    """At another address than the one in force; None: the same."""

    async def abandon(self) -> None:
        await self.front.close()
        if self.private is not None:
            await self.private.stop()


class ControlProcess:
    """Obeys the leash until it ends, or until it is told to end."""

    def __init__(self, leash: Leash[Down], begin: Begin) -> None:
        self.fleet = FleetReport()
        """What the supervisor said last."""
        self.clock = SystemClock()
        self._leash = leash
        self._begin = begin
        self._prepared: _Prepared | None = None
        self._metrics = begin.metrics
        self._private: PrivateListener | None = None
        self._operator: OperatorServer | None = None

    async def run(self) -> int:
        """Serve; gives the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._leash.send, Leaving())
        settings = unpack(ControlSettings, self._begin.settings)
        try:
            with contextlib.closing(await _alone(settings.state_dir)):
                control = self.control = await Control.open(settings, self.clock, self._link)
                try:
                    await control.start()
                    await control.link.start()
                    self.overview = overview_of(control, lambda: self.fleet)
                    operator = self._operator = OperatorServer(
                        settings.runtime_dir, self.overview, control.factors, *orders_of(control, self.overview)
                    )
                    await operator.start()
                    if self._begin.metrics is not None:
                        self._private = self._listener(*self._begin.metrics)
                        await self._private.start()
                    self._leash.send(Ready())
                    gc.collect()
                    gc.freeze()
                    await self._obey()
                finally:
                    for server in (self._private, self._operator):
                        if server is not None:
                            await server.stop()
                    await control.stop()
        except (ZtError, OSError) as error:
            self._leash.send(Failed(str(error)))
            return 1
        return 0

    def _link(self, sessions: SessionAuthority, ring: KeyRing) -> LinkServer:
        folder = unpack(ControlSettings, self._begin.settings).runtime_dir
        return LinkServer(folder / SOCKET, sessions, ring, self.clock, predecessor=_worker_lives(folder))

    async def _obey(self) -> None:
        """Until the end of the leash: control has nothing of its own to drain, workers have gone before it."""
        leash = self._leash
        while True:
            try:
                message = await leash.receive()
            except LeashEnded:
                log.error("the supervisor is gone; ending")
                return
            match message:
                case Standing(fleet):
                    self.fleet = fleet
                case Prepare():
                    leash.send(Prepared(message.epoch, await self._prepare(message)))
                case Commit(epoch):
                    if await self._commit(epoch):
                        leash.send(Committed(epoch))
                case Abandon():
                    await self._abandon()
                case Drain():
                    return
                case _:
                    raise ConfigurationError(f"the supervisor said {type(message).__name__} to control")

    # ---- reload ----

    async def _prepare(self, message: Prepare) -> str:
        await self._abandon()
        try:
            settings = unpack(ControlSettings, message.settings)
            prepared = _Prepared(message, await self.control.prepare(settings), self._new_listener(message))
        except (ZtError, OSError, ValueError) as error:
            return str(error)
        try:
            if prepared.private is not None:
                await prepared.private.start()
        except OSError as error:
            await prepared.abandon()
            return str(error)
        self._prepared = prepared
        return ""

    async def _commit(self, epoch: int) -> bool:
        prepared, self._prepared = self._prepared, None
        if prepared is None or prepared.message.epoch != epoch:
            return False
        message = prepared.message
        await self.control.adopt(prepared.front)
        logs.configure(message.log_format, message.log_level)
        if message.metrics != self._metrics:
            before, self._private, self._metrics = self._private, prepared.private, message.metrics
            if before is not None:
                await before.stop()
        return True

    async def _abandon(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            await prepared.abandon()

    # ---- for the operator ----

    def _new_listener(self, message: Prepare) -> PrivateListener | None:
        if message.metrics is None or message.metrics == self._metrics:
            return None
        return self._listener(*message.metrics)

    def _listener(self, host: str, port: int) -> PrivateListener:
        return PrivateListener(
            host,
            port,
            AllMetrics(self.overview, WatchMetrics(self.control.watch)),
            checks_of(self.control, self.overview),
        )


def _worker_lives(runtime_dir: Path) -> bool:
    """A worker of an earlier control may still decide; it holds the lock of its record ring until it ends."""
    for path in ring_paths(runtime_dir):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


async def _alone(directory: Path) -> "_Held":
    """Be the only control of a state directory: two would number their changes alike.

    Waits for one that is just leaving. Raises ConfigurationError when it does not leave.
    """
    private_directory(directory)
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    loop = asyncio.get_running_loop()
    until = loop.time() + PREDECESSOR
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if loop.time() > until:
                os.close(descriptor)
                raise ConfigurationError(f"{directory}: another zt-proxy uses this state folder") from None
            await asyncio.sleep(0.05)
        else:
            return _Held(descriptor)


class _Held:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)


def main() -> None:
    """Be control at the other end of the leash whose descriptor is the one argument."""

    async def run() -> int:
        leash: Leash[Down] = Leash(socket.socket(fileno=int(sys.argv[2])))
        try:
            begin = await leash.receive()
        except LeashEnded:
            return 1
        if not isinstance(begin, Begin):
            return 1
        logs.configure(begin.log_format, begin.log_level)
        return await ControlProcess(leash, begin).run()

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # whoever sends it to all means the supervisor
    structlog.contextvars.bind_contextvars(process="control")
    sys.exit(uvloop.run(run()))
