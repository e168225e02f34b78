"""One process: control beside the path, joined by the in-memory link (`workers: 0`)."""

import asyncio
import functools
import gc
import os
import secrets
import signal
from pathlib import Path

import structlog

from zt_proxy.config.build import Built
from zt_proxy.control.operator.alerts import WatchMetrics
from zt_proxy.control.operator.metrics import AllMetrics
from zt_proxy.control.operator.server import OperatorServer
from zt_proxy.core import logs
from zt_proxy.core.clock import Clock, SystemClock
from zt_proxy.core.errors import ZtError
from zt_proxy.core.keys import KeyRing
from zt_proxy.link.memory import MemoryLink
from zt_proxy.link.messages import SessionAuthority
from zt_proxy.link.status import FleetReport, ListenerReport, ProcessReport
from zt_proxy.processes.checks import checks_of, orders_of, overview_of
from zt_proxy.processes.control import Control
from zt_proxy.processes.private import PrivateListener
from zt_proxy.processes.reload import Reloader
from zt_proxy.worker import report
from zt_proxy.worker.edge.worker import Worker

log = structlog.get_logger("zt_proxy")


class Proxy:
    """A whole proxy in one event loop: what `zt-proxy run` serves with `workers: 0`, and what tests start."""

    def __init__(self, built: Built, clock: Clock | None = None) -> None:
        self.built = built
        self.clock = clock or SystemClock()
        self.control: Control[MemoryLink] | None = None
        self.worker: Worker | None = None
        self.private: PrivateListener | None = None
        self.operator: OperatorServer | None = None
        self.started = self.clock.now()
        self.reloader: Reloader | None = None
        """Only where a file is served: it knows whether the file is in force."""

    async def start(self) -> dict[str, int]:
        """Start everything; gives the port of each listener by name. Raises ZtError or OSError, nothing left behind."""
        try:
            return await self._start()
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self) -> dict[str, int]:
        built = self.built
        control = self.control = await Control.open(built.control, self.clock, _link)
        await control.start()
        boot = secrets.token_hex(4)
        worker = self.worker = Worker(built.worker, control.link, control.ring, self.clock, number=0, boot=boot)
        control.link.attach(worker, number=0, boot=boot, answer=functools.partial(report.answer, worker))
        await worker.start()
        self.overview = overview_of(control, self.report)
        self.operator = OperatorServer(
            built.control.runtime_dir, self.overview, control.factors, *orders_of(control, self.overview)
        )
        await self.operator.start()
        self.private = await self._private_listener(built)
        return worker.ports

    async def _private_listener(self, built: Built) -> PrivateListener | None:
        """Raises OSError when its address is taken."""
        if built.worker.metrics is None or self.control is None:
            return None
        private = PrivateListener(
            *built.worker.metrics,
            AllMetrics(self.overview, WatchMetrics(self.control.watch)),
            checks_of(self.control, self.overview),
        )
        await private.start()
        return private

    async def reload(self, built: Built) -> None:
        """Put another configuration in force without letting go of a connection.

        Raises ZtError or OSError, with the one before still in force.
        """
        control, worker = self.control, self.worker
        assert control is not None
        assert worker is not None
        moves = built.worker.metrics != self.built.worker.metrics
        private = await self._private_listener(built) if moves else None
        try:
            prepared = await asyncio.to_thread(worker.prepare, built.worker)
            try:
                front = await control.prepare(built.control)
            except BaseException:
                prepared.abandon()
                raise
        except BaseException:
            if private is not None:
                await private.stop()
            raise
        await control.adopt(front)
        await worker.adopt(prepared)
        self.built = built
        if moves:
            before, self.private = self.private, private
            if before is not None:
                await before.stop()

    def report(self) -> FleetReport:
        """What there is to say of this process and its configuration."""
        worker, reloader = self.worker, self.reloader
        ports = worker.ports if worker is not None else {}
        return FleetReport(
            processes=(ProcessReport("proxy", os.getpid(), self.started),),
            workers=1,
            listeners=tuple(
                ListenerReport(each.name, f"{each.host}:{ports.get(each.name, each.port)}")
                for each in self.built.worker.listeners
            ),
            epoch=reloader.epoch if reloader else 1,
            loaded=reloader.loaded if reloader else self.started,
            problem=reloader.problem if reloader else "",
            path=str(reloader.path) if reloader else "",
        )

    async def stop(self, drain: float | None = None) -> None:
        """Drain and stop, in the order that loses nothing."""
        if self.worker is not None:
            await self.worker.stop(self.built.worker.drain if drain is None else drain)
        if self.private is not None:
            await self.private.stop()
        if self.operator is not None:
            await self.operator.stop()
        if self.control is not None:
            await self.control.stop()


def _link(sessions: SessionAuthority, _ring: KeyRing) -> MemoryLink:
    return MemoryLink(sessions)


async def serve(path: Path, built: Built) -> int:
    """Serve `built`, read from `path`, until a signal; gives the exit code."""
    proxy = Proxy(built)
    stopping = asyncio.Event()

    async def take_over(new: Built, _epoch: int) -> None:
        await proxy.reload(new)
        logs.configure(new.log.format, new.log.level)

    reloader = proxy.reloader = Reloader(path, built, take_over, proxy.clock)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloader.ask)
    try:
        ports = await proxy.start()
    except (ZtError, OSError) as error:
        log.error("cannot start", problem=str(error))
        return 1
    gc.collect()
    gc.freeze()  # what start-up made lives as long as the process: no collection needs to look at it again
    log.info("serving", portal=built.worker.portal.origin, listeners=ports, routes=len(built.worker.routes))
    watching = loop.create_task(reloader.run())
    await stopping.wait()
    watching.cancel()
    log.info("draining", seconds=proxy.built.worker.drain)
    await proxy.stop()
    log.info("stopped")
    return 0
