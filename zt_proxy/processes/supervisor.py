"""The supervisor: owns the sockets, starts control and the workers, starts again what ends, reloads, drains.

    slot 0..N-1   a row of listening sockets, and the worker that serves them
    control       one

It reads the configuration and nothing else: no byte of a request ever passes it. A slot whose worker is gone is served
by a sibling after a second, from the same sockets, until its own worker is back.
"""

import asyncio
import errno
import fcntl
import gc
import os
import secrets
import signal
import socket
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path

import structlog

from zt_proxy.config.build import Built
from zt_proxy.core import logs
from zt_proxy.core.clock import Clock, SystemClock
from zt_proxy.core.errors import ConfigurationError, ZtError
from zt_proxy.core.private import private_directory
from zt_proxy.link.status import FleetReport, ListenerReport, ProcessReport
from zt_proxy.processes.child import Child
from zt_proxy.processes.leash import (
    Abandon,
    Begin,
    Commit,
    Committed,
    Prepare,
    Prepared,
    Standing,
    pack,
)
from zt_proxy.processes.reload import Reloader
from zt_proxy.processes.slot import OVERTIME, Slot, gone_within
from zt_proxy.processes.sockets import Sockets
from zt_proxy.worker.edge.sockets import Key

BUILD, SWAP = 15.0, 5.0
"""Seconds for a child to build a new world, and to put it in force."""
TAKEN = 2.0
"""Seconds to wait for the addresses of a predecessor that died a moment ago."""
LOCK = "supervisor.lock"

log = structlog.get_logger("zt_proxy.supervisor")


class Supervisor:
    """`await run()`, once."""

    def __init__(self, path: Path, built: Built, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._since = self._clock.now()
        self._built = built
        self._sockets = Sockets()
        self._control = Slot(self, "control")
        self._workers: list[Slot] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.changing = asyncio.Lock()
        """Held while a configuration is taken over: nobody is born into one that is just being left."""
        self.stopping = asyncio.Event()
        self._impatient = asyncio.Event()
        self._fatal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.serving = False
        self._reloader = Reloader(path, built, self._take_over, self._clock, self.announce)

    async def run(self) -> int:
        """Serve until a signal; gives the exit code."""
        lock = _Lock(self._built.worker.runtime_dir)
        try:
            await self._bind()
        except OSError as error:
            log.error("cannot start", problem=str(error))
            lock.close()
            return 1
        self._signals()
        try:
            return await self._run()
        finally:
            self._sockets.close()
            lock.close()

    async def _run(self) -> int:
        self.attend(self._control.keep())
        for number in range(self._built.workers):
            self._add(number)
        started = asyncio.gather(*(slot.up.wait() for slot in self._slots()))
        stopping = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait((started, self._fatal, stopping), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        code = 0
        if self._fatal.done():
            log.error("cannot start", problem=self._fatal.result())
            code = 1
        elif not stopping.done():
            self.serving = True
            gc.collect()
            gc.freeze()
            self._say_serving()
            reloading = self.attend(self._reloader.run())
            await stopping
            reloading.cancel()
        await self._stop(self._built.worker.drain if code == 0 else 0.0)
        return code

    def _say_serving(self) -> None:
        built = self._built
        log.info(
            "serving",
            portal=built.worker.portal.origin,
            listeners=self._sockets.ports(),
            routes=len(built.worker.routes),
            workers=len(self._workers),
        )

    def _signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.ask)

    def _asked_to_stop(self) -> None:
        """The second time in a row is meant to be at once."""
        if self.stopping.is_set():
            self._impatient.set()
        self.stopping.set()

    # ---- what it owns ----

    async def _bind(self) -> None:
        """One socket per listener and slot. Raises OSError that names the address."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TAKEN
        while True:
            try:
                self._sockets.extend(self._built.worker.listeners, self._built.workers).keep()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or loop.time() > until:
                    raise
                await asyncio.sleep(0.05)  # workers of a predecessor that died may not have let go of it yet
            else:
                return

    # ---- slots ----

    @property
    def drain(self) -> float:
        return self._built.worker.drain

    def _add(self, number: int) -> None:
        slot = Slot(self, "worker", number)
        self._workers.append(slot)
        self.attend(slot.keep())
        self.attend(slot.cover())

    def _slots(self) -> tuple[Slot, ...]:
        return (self._control, *self._workers)

    def row(self, slot: Slot) -> Mapping[Key, socket.socket]:
        return self._sockets.row(slot.number) if slot.role == "worker" else {}

    def siblings(self, slot: Slot) -> Iterator[Slot]:
        return (other for other in self._workers if other is not slot)

    def failed(self, problem: str) -> None:
        """Only of a start: later, what fails is tried again."""
        if not self.serving and not self._fatal.done():
            self._fatal.set_result(problem)

    def spawn(self, slot: Slot) -> Child:
        built = self._built
        worker = slot.role == "worker"
        row = self.row(slot)
        begin = Begin(
            settings=pack(built.worker if worker else built.control),
            number=slot.number,
            boot=secrets.token_hex(4),
            epoch=self._reloader.epoch,
            log_format=built.log.format,
            log_level=built.log.level,
            listeners=tuple(row),
            metrics=None if worker else built.worker.metrics,
        )
        return Child.spawn(slot.role, begin, row, self._clock.now(), built.secret_variables)

    # ---- reload ----

    async def _take_over(self, built: Built, epoch: int) -> None:
        """Two steps: everybody builds the new world; only when all could is it put in force, control first.

        Raises ConfigurationError or OSError, with the old one in force everywhere.
        """
        async with self.changing:
            addition = self._sockets.extend(built.worker.listeners, built.workers)
            concerned = [child for slot in self._slots() for child in slot.living() if child.ready.is_set()]
            try:
                for child in concerned:
                    self._prepare(child, built, epoch, addition.of(child.number) if child.role == "worker" else {})
                answers = await asyncio.gather(*(child.answer(epoch, Prepared, BUILD) for child in concerned))
                problems = list(dict.fromkeys(answer for answer in answers if answer))
                if problems:
                    raise ConfigurationError("; ".join(problems))
            except BaseException:
                for child in concerned:
                    child.tell(Abandon(epoch))
                addition.undo()
                raise
            addition.keep()
            before, self._built = self._built, built
            logs.configure(built.log.format, built.log.level)
            # Whoever was still starting was told of the old world only: it begins again with the new one.
            for child in [child for slot in self._slots() for child in slot.living() if child not in concerned]:
                child.draining = True
                child.kill()
            for role in ("control", "worker"):
                await asyncio.gather(*(self._swap(child, epoch) for child in concerned if child.role == role))
            self._resize(built, before)

    def _prepare(self, child: Child, built: Built, epoch: int, sockets: dict[Key, socket.socket]) -> None:
        worker = child.role == "worker"
        message = Prepare(
            epoch=epoch,
            settings=pack(built.worker if worker else built.control),
            log_format=built.log.format,
            log_level=built.log.level,
            listeners=tuple(sockets),
            metrics=None if worker else built.worker.metrics,
        )
        child.tell(message, list(sockets.values()))

    async def _swap(self, child: Child, epoch: int) -> None:
        child.tell(Commit(epoch))
        problem = await child.answer(epoch, Committed, SWAP)
        if problem:  # it may serve an old policy: better none
            log.error("a process does not take the configuration over; ending it", child=child.name, problem=problem)
            child.kill()

    def _resize(self, built: Built, before: Built) -> None:
        """Fewer or more workers; and new ones where a worker cannot change itself."""
        for slot in self._workers[built.workers :]:
            slot.unwanted.set()
        del self._workers[built.workers :]
        for slot in self._workers:
            if built.worker.ring_bytes != before.worker.ring_bytes:
                slot.renew.set()
        self._sockets.reduce(built.worker.listeners, built.workers)
        for number in range(len(self._workers), built.workers):
            self._add(number)

    # ---- what it says ----

    def announce(self) -> None:
        """Tell control what only we know."""
        control = self._control.child
        if control is not None:
            control.tell(Standing(self.report()))

    def report(self) -> FleetReport:
        processes = [ProcessReport("supervisor", os.getpid(), self._since)]
        for slot in self._slots():
            processes += slot.report()
        ports = self._sockets.ports()
        return FleetReport(
            processes=tuple(processes),
            listeners=tuple(
                ListenerReport(each.name, f"{each.host}:{ports.get(each.name, each.port)}")
                for each in self._built.worker.listeners
            ),
            workers=self._built.workers,
            epoch=self._reloader.epoch,
            loaded=self._reloader.loaded,
            problem=self._reloader.problem,
            path=str(self._path),
        )

    # ---- the end ----

    async def _stop(self, drain: float) -> None:
        """Workers first: control has to make durable what they recorded."""
        self.stopping.set()
        log.info("draining", seconds=drain)
        workers = [child for slot in self._workers for child in slot.living()]
        for child in workers:
            child.drain(drain)
        hurry = self.attend(self._hurry(workers))
        await asyncio.gather(*(gone_within(child, drain + OVERTIME) for child in workers))
        hurry.cancel()
        rest = list(self._control.living())
        for child in rest:
            child.drain(0.0)
        await asyncio.gather(*(gone_within(child, 2 * OVERTIME) for child in rest))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        log.info("stopped")

    async def _hurry(self, children: list[Child]) -> None:
        await self._impatient.wait()
        for child in children:
            child.drain(0.0)

    def attend(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the supervisor failed", exc_info=task.exception())


class _Lock:
    """At most one supervisor for a runtime directory. Raises ConfigurationError, OSError."""

    def __init__(self, directory: Path) -> None:
        private_directory(directory)
        self._descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise ConfigurationError(f"another zt-proxy runs with the runtime folder {directory}") from None

    def close(self) -> None:
        os.close(self._descriptor)


async def serve(path: Path, built: Built) -> int:
    """Serve `built`, read from `path`, in several processes until a signal; gives the exit code."""
    try:
        return await Supervisor(path, built).run()
    except (ZtError, OSError) as error:
        log.error("cannot start", problem=str(error))
        return 1
