"""A worker process: `python -m zt_proxy.processes worker FD`, started by the supervisor with one end of the leash."""

import asyncio
import functools
import gc
import signal
import socket
import sys
from collections.abc import Coroutine

import structlog
import uvloop

from zt_proxy.core import logs
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.errors import ZtError
from zt_proxy.core.keys import KeyRing
from zt_proxy.link.client import LinkClient
from zt_proxy.link.frames import SOCKET
from zt_proxy.processes.leash import (
    Abandon,
    Begin,
    Commit,
    Committed,
    Down,
    Drain,
    Failed,
    GiveBack,
    Leash,
    LeashEnded,
    Leaving,
    Lend,
    Prepare,
    Prepared,
    Ready,
    unpack,
)
from zt_proxy.worker import report
from zt_proxy.worker.edge.sockets import Key
from zt_proxy.worker.edge.worker import Prepared as PreparedWorld
from zt_proxy.worker.edge.worker import Worker
from zt_proxy.worker.settings import WorkerSettings

ORPHANED = 0.8
"""Seconds to drain in once the supervisor is gone: no orphan serves an old policy for a second (ZT-NET-03)."""

log = structlog.get_logger("zt_proxy.worker")


class WorkerProcess:
    """Obeys the leash until it ends, or until a drain is over."""

    def __init__(self, leash: Leash[Down], begin: Begin, worker: Worker) -> None:
        self._leash = leash
        self._begin = begin
        self._worker = worker
        self._prepared: tuple[Prepare, PreparedWorld] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until the end."""
        worker, leash = self._worker, self._leash
        await worker.start(self._sockets(self._begin.listeners))
        leash.send(Ready(worker.ports))
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process: no collection needs to look at it again
        obeying = asyncio.get_running_loop().create_task(self._obey())
        await obeying

    def _sockets(self, keys: tuple[Key, ...]) -> dict[Key, socket.socket]:
        return dict(zip(keys, self._leash.sockets(len(keys)), strict=True))

    async def _obey(self) -> None:
        try:
            while True:
                receiving = asyncio.ensure_future(self._leash.receive())
                waiting = [receiving] if self._draining is None else [receiving, self._draining]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._draining is not None and self._draining.done():
                    receiving.cancel()
                    return await self._draining
                await self._do(receiving.result())
        except LeashEnded:
            log.error("the supervisor is gone; draining", seconds=ORPHANED)
            if self._draining is not None:
                self._draining.cancel()
                await asyncio.gather(self._draining, return_exceptions=True)
            await self._worker.stop(ORPHANED, refuse=True)

    async def _do(self, message: object) -> None:
        worker, leash = self._worker, self._leash
        match message:
            case Prepare():
                leash.send(Prepared(message.epoch, await self._prepare(message)))
            case Commit(epoch):
                if await self._commit(epoch):
                    leash.send(Committed(epoch))
            case Abandon():
                self._abandon()
            case Lend(slot, listeners):
                await worker.lend(slot, self._sockets(listeners))
            case GiveBack(slot):
                worker.give_back(slot)
            case Drain(seconds):
                if self._draining is not None:
                    self._draining.cancel()  # the second time means sooner
                self._draining = asyncio.get_running_loop().create_task(worker.stop(seconds))
            case _:
                raise RuntimeError(f"the supervisor said {type(message).__name__} to a worker")

    # ---- reload ----

    async def _prepare(self, message: Prepare) -> str:
        """In a thread: a large configuration must not keep requests waiting.

        Raises LeashEnded when the supervisor goes meanwhile: no orphan serves on because it has something to build.
        """
        self._abandon()
        sockets = self._sockets(message.listeners)
        try:
            settings = unpack(WorkerSettings, message.settings)
            building = asyncio.ensure_future(asyncio.to_thread(self._worker.prepare, settings, sockets))
            over = asyncio.ensure_future(self._leash.ended.wait())
            await asyncio.wait((building, over), return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            if not building.done():
                building.add_done_callback(_let_go)
                raise LeashEnded
            self._prepared = (message, building.result())
        except (ZtError, OSError, ValueError) as error:
            return str(error)
        return ""

    async def _commit(self, epoch: int) -> bool:
        prepared, self._prepared = self._prepared, None
        if prepared is None or prepared[0].epoch != epoch:
            return False
        message, world = prepared
        await self._worker.adopt(world)
        logs.configure(message.log_format, message.log_level)
        gc.unfreeze()  # or what the old world leaves in cycles would stay for good
        if self._settling is None or self._settling.done():
            self._settling = asyncio.get_running_loop().create_task(self._settle())
        return True

    async def _settle(self) -> None:
        """Once nothing is under way in an old world, what there is lives long again."""
        await self._worker.settled.wait()
        gc.collect()
        gc.freeze()

    def _abandon(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared[1].abandon()


def _let_go(building: "asyncio.Task[PreparedWorld]") -> None:
    """Nobody wants what was built."""
    if not building.cancelled() and building.exception() is None:
        building.result().abandon()


async def _run(descriptor: int) -> int:
    leash: Leash[Down] = Leash(socket.socket(fileno=descriptor))
    try:
        begin = await leash.receive()
    except LeashEnded:
        return 1
    if not isinstance(begin, Begin):
        return 1
    logs.configure(begin.log_format, begin.log_level)
    structlog.contextvars.bind_contextvars(worker=begin.number)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leash.send, Leaving())
    clock = SystemClock()
    link: LinkClient | None = None
    try:
        settings = unpack(WorkerSettings, begin.settings)
        path = settings.runtime_dir / SOCKET
        link = LinkClient(path, clock, number=begin.number, boot=begin.boot)
        link.start()
        outdated = asyncio.ensure_future(_leave_when(link.outdated, leash))
        ring = await _unless_told_to_go(leash, link.ready(float("inf")))
        if ring is None:
            return 0
        worker = Worker(settings, link, ring, clock, number=begin.number, boot=begin.boot)
        link.attach(worker, answer=functools.partial(report.answer, worker))
        await WorkerProcess(leash, begin, worker).run()
    except (ZtError, OSError, ValueError) as error:
        leash.send(Failed(str(error)))
        return 1
    finally:
        if link is not None:
            outdated.cancel()
            await link.close()
    return 0


async def _leave_when(outdated: asyncio.Event, leash: Leash[Down]) -> None:
    """Control has other cookie keys than ours: only a new worker can take those in."""
    await outdated.wait()
    leash.send(Leaving())


async def _unless_told_to_go(leash: Leash[Down], starting: Coroutine[object, object, KeyRing]) -> KeyRing | None:
    """What `starting` gives; None when the supervisor wants this process no more, or is gone, before that."""
    task = asyncio.ensure_future(starting)
    try:
        while True:
            receiving = asyncio.ensure_future(leash.receive())
            await asyncio.wait((task, receiving), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                receiving.cancel()
                return task.result()
            if isinstance(receiving.result(), Drain):
                return None
    except LeashEnded:
        return None
    finally:
        task.cancel()


def main() -> None:
    """Be a worker at the other end of the leash whose descriptor is the one argument."""
    # The path makes little garbage in cycles; the default threshold costs 2 % of it.
    gc.set_threshold(50_000, 20, 20)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # whoever sends it to all means the supervisor
    structlog.contextvars.bind_contextvars(process="worker")
    sys.exit(uvloop.run(_run(int(sys.argv[2]))))
