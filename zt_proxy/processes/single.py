"""One process: control beside the path, joined by the in-memory link (`workers: 0`)."""

import asyncio
import gc
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import structlog
import uvloop

from zt_proxy.config import read
from zt_proxy.config.build import Built
from zt_proxy.config.problems import ConfigurationProblems
from zt_proxy.core import logs
from zt_proxy.core.clock import Clock, SystemClock
from zt_proxy.core.errors import ZtError
from zt_proxy.processes.control import Control
from zt_proxy.processes.private import Check, PrivateListener
from zt_proxy.worker.edge.worker import Worker

log = structlog.get_logger("zt_proxy")


class Proxy:
    """A whole proxy in one event loop: what `zt-proxy run` serves, and what tests start."""

    def __init__(self, built: Built, clock: Clock | None = None) -> None:
        self.built = built
        self.clock = clock or SystemClock()
        self.control: Control | None = None
        self.worker: Worker | None = None
        self.private: PrivateListener | None = None

    async def start(self) -> dict[str, int]:
        """Start everything; gives the port of each listener by name. Raises ZtError or OSError, nothing left behind."""
        try:
            return await self._start()
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self) -> dict[str, int]:
        built = self.built
        control = self.control = await Control.open(built.control, self.clock)
        await control.start()
        boot = secrets.token_hex(4)
        worker = self.worker = Worker(built.worker, control.link, control.ring, self.clock, number=0, boot=boot)
        control.link.attach(worker)
        await worker.start()
        if built.worker.metrics is not None:
            checks = [
                Check("control", control.problem),
                Check("link", lambda: "" if control.link.alive() else "the lease ran out"),
                Check("record", lambda: _problem_of(worker.recorder.check)),
            ]
            self.private = PrivateListener(*built.worker.metrics, worker.metrics.registry, checks)
            await self.private.start()
        return worker.ports

    async def stop(self, drain: float | None = None) -> None:
        """Drain and stop, in the order that loses nothing."""
        if self.worker is not None:
            await self.worker.stop(self.built.worker.drain if drain is None else drain)
        if self.private is not None:
            await self.private.stop()
        if self.control is not None:
            await self.control.stop()


def _problem_of(check: Callable[[], None]) -> str:
    try:
        check()
    except ZtError as error:
        return str(error)
    return ""


def main(config: Path) -> int:
    """Serve `config` until SIGTERM or SIGINT; gives the exit code."""
    try:
        built = read(config)
    except ConfigurationProblems as problems:
        sys.stderr.write(f"{problems}\n")
        return 1
    logs.configure(built.log.format, built.log.level)
    for warning in built.warnings:
        log.warning("configuration", problem=str(warning))
    gc.set_threshold(50_000, 20, 20)  # the path makes little garbage in cycles; the default threshold costs 2 % of it
    return uvloop.run(_serve(built))


async def _serve(built: Built) -> int:
    proxy = Proxy(built)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        ports = await proxy.start()
    except (ZtError, OSError) as error:
        log.error("cannot start", problem=str(error))
        return 1
    gc.collect()
    gc.freeze()  # what start-up made lives as long as the process: no collection needs to look at it again
    log.info("serving", portal=built.worker.portal.origin, listeners=ports, routes=len(built.worker.routes))
    await stopping.wait()
    log.info("draining", seconds=built.worker.drain)
    await proxy.stop()
    log.info("stopped")
    return 0
