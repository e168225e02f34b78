"""A slot: a place for one process, and the care that there is one in it, whatever becomes of those before."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Protocol

import structlog

from zt_proxy.link.status import ProcessReport
from zt_proxy.processes.child import Child, Role, first
from zt_proxy.processes.leash import GiveBack, Lend
from zt_proxy.worker.edge.sockets import Key

EMPTY = 1.0
"""Seconds that a slot may be without a worker before a sibling serves it."""
COVER = 0.25
SHORTEST, LONGEST = 0.25, 10.0
"""Seconds of pause before a child that did not even start is tried again; doubled each time."""
YOUNG = 0.3
"""Seconds that a child has to serve for, or it counts as one that did not start."""
OVERTIME = 5.0
"""Seconds that a child may take to end beyond its drain."""

log = structlog.get_logger("zt_proxy.supervisor")


class House(Protocol):
    """The supervisor, as its slots see it."""

    stopping: asyncio.Event
    changing: asyncio.Lock
    serving: bool
    """Everything has been up once."""

    @property
    def drain(self) -> float: ...

    def spawn(self, slot: "Slot") -> Child:
        """A new process for the slot. Raises OSError."""

    def row(self, slot: "Slot") -> Mapping[Key, socket.socket]:
        """The slot's sockets."""

    def siblings(self, slot: "Slot") -> Iterator["Slot"]:
        """The other worker slots."""

    def failed(self, problem: str) -> None:
        """A process said why it cannot start."""

    def announce(self) -> None:
        """Something changed."""

    def attend(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run beside everything else, until the end."""


class Slot:
    """See the module. `keep` and, for a worker, `cover` run as tasks."""

    def __init__(self, house: House, role: Role, number: int = 0) -> None:
        self.role: Role = role
        self.number = number
        self.child: Child | None = None
        """Who serves."""
        self.coming: Child | None = None
        """Who will, once it is ready."""
        self.former: list[Child] = []
        """Who did, and drains."""
        self.restarts = 0
        self.up = asyncio.Event()
        """It has had a process that serves."""
        self.unwanted = asyncio.Event()
        self.renew = asyncio.Event()
        """The process is to be replaced by a new one."""
        self._house = house
        self._lender: Child | None = None

    @property
    def name(self) -> str:
        return "control" if self.role == "control" else f"worker-{self.number}"

    def living(self) -> Iterator[Child]:
        """Every process of this slot."""
        for child in (self.child, self.coming, *self.former):
            if child is not None and not child.gone.is_set():
                yield child

    def report(self) -> list[ProcessReport]:
        found = [_report(self, child) for child in self.living()]
        return found or [ProcessReport(self.name, 0, 0.0, self.restarts, "down")]

    # ---- always one ----

    async def keep(self) -> None:
        """See to it that there is a process, until the slot is not wanted any more."""
        while True:
            try:
                return await self._keep()
            except Exception:
                log.exception("the care for a process failed; beginning anew", child=self.name)
                await asyncio.sleep(SHORTEST)

    async def _keep(self) -> None:
        house = self._house
        pause = 0.0
        while not (self.unwanted.is_set() or house.stopping.is_set()):
            async with house.changing:
                if house.stopping.is_set():
                    return
                self.renew.clear()
                child = self.coming = self._try(house.spawn)
            house.announce()
            started = child is not None and await child.started_or_gone()
            self.coming = None
            if child is None or not started:
                pause = await self._could_not_start(child, pause)
                continue
            self._take_post(child)
            since = asyncio.get_running_loop().time()
            await first(child.gone, child.leaving, self.renew, self.unwanted)
            if self.role == "control" and not child.gone.is_set():
                # Never two of them: the next cannot begin before this one let go of the store.
                child.drain(0.0)
                await gone_within(child, OVERTIME)
            if child.gone.is_set():
                self._lost(child)
            if asyncio.get_running_loop().time() - since >= YOUNG or not child.gone.is_set() or child.draining:
                pause = 0.0
            else:  # what ends as soon as it serves would else be started without a break
                pause = await self._rest(child, pause)
        if self.child is not None and self.unwanted.is_set():
            self._dismiss(self.child)
            self.child = None

    def _try(self, spawn: Callable[["Slot"], Child]) -> Child | None:
        try:
            return spawn(self)
        except OSError as error:  # no memory, no descriptor, no process: others may end
            log.error("a process cannot be made", child=self.name, problem=str(error))
            return None

    async def _could_not_start(self, child: Child | None, pause: float) -> float:
        """Say so and wait, longer each time; gives how long."""
        house = self._house
        if house.stopping.is_set() or (child is not None and child.draining):
            return 0.0
        problem = child.problem if child is not None else ""
        if problem:
            house.failed(problem)
        self.restarts += 1
        house.announce()
        return await self._rest(child, pause)

    async def _rest(self, child: Child | None, pause: float) -> float:
        """Wait before the next try, longer than the last time; gives how long."""
        pause = min(max(2 * pause, SHORTEST), LONGEST)
        problem, code = (child.problem, child.code) if child is not None else ("", None)
        log.error("a process cannot start", child=self.name, code=code, problem=problem, again_in=pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await first(self._house.stopping, self.unwanted)
        return pause

    def _take_post(self, child: Child) -> None:
        """The new process serves; only now may the one before it go."""
        if self._lender is not None:
            self._lender.tell(GiveBack(self.number))
            self._lender = None
        before, self.child = self.child, child
        self.up.set()
        if before is not None:
            self._dismiss(before)
        if self._house.serving:
            log.info("a process serves", child=self.name, pid=child.pid)
        self._house.announce()

    def _dismiss(self, child: Child) -> None:
        self.former.append(child)
        child.drain(self._house.drain)
        self._house.attend(self._see_off(child, self._house.drain + OVERTIME))

    async def _see_off(self, child: Child, seconds: float) -> None:
        await gone_within(child, seconds)
        self.former.remove(child)
        self._house.announce()

    def _lost(self, child: Child) -> None:
        if self.child is child:
            self.child = None
        if not self._house.stopping.is_set() and not child.draining:
            self.restarts += 1
            log.error("a process ended; starting it again", child=self.name, pid=child.pid, code=child.code)
        self._house.announce()

    # ---- served by a sibling ----

    async def cover(self) -> None:
        """While there is no worker here, let a sibling serve the sockets."""
        empty_since: float | None = None
        loop = asyncio.get_running_loop()
        while not (self.unwanted.is_set() or self._house.stopping.is_set()):
            if self.child is not None or not self._house.serving:
                empty_since = None
            elif empty_since is None:
                empty_since = loop.time()
            elif loop.time() - empty_since >= EMPTY and not self._lent():
                self._borrow()
            await asyncio.sleep(COVER)

    def _lent(self) -> bool:
        """A sibling serves. One that drains does not any more: it has let go of every socket."""
        return self._lender is not None and not self._lender.gone.is_set() and not self._lender.draining

    def _borrow(self) -> None:
        for other in self._house.siblings(self):
            sibling = other.child
            if sibling is not None and not sibling.gone.is_set() and not sibling.draining:
                row = self._house.row(self)
                sibling.tell(Lend(self.number, tuple(row)), list(row.values()))
                self._lender = sibling
                log.warning("a slot is served by a sibling", child=self.name, by=sibling.name)
                return


def _report(slot: Slot, child: Child) -> ProcessReport:
    if child.draining:
        return ProcessReport(slot.name, child.pid, child.started, slot.restarts, "draining")
    if not child.ready.is_set():
        return ProcessReport(slot.name, child.pid, child.started, slot.restarts, "starting")
    return ProcessReport(slot.name, child.pid, child.started, slot.restarts)


async def gone_within(child: Child, seconds: float) -> None:
    """Wait for the end; past the time, make it."""
    try:
        async with asyncio.timeout(seconds):
            await child.gone.wait()
    except TimeoutError:
        log.error("a process did not end in time; killing it", child=child.name, pid=child.pid)
        child.kill()
        await child.gone.wait()
