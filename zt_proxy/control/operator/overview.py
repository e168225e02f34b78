"""The proxy at this moment, put together from those who know: supervisor, workers, sessions, audit log."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

from zt_proxy.control.audit.writer import AuditWriter
from zt_proxy.control.session.directory import SessionDirectory
from zt_proxy.control.session.manager import SessionManager
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import UnavailableError, ZtError
from zt_proxy.link.messages import LEASE, WorkersLink, WorkerState
from zt_proxy.link.status import STATUS, STREAMS, FleetReport, ListenerReport, OpenStreams, WorkerReport

PATIENCE = 1.0
"""Seconds that a worker may take to answer; without an answer it is shown as one that says nothing."""
QUIET = LEASE
"""Seconds after which a worker that says nothing has no lease any more."""

T = TypeVar("T")


class ProcessStatus(msgspec.Struct, frozen=True):
    name: str
    pid: int
    state: str
    uptime: float
    """Seconds."""
    restarts: int


class WorkerStatus(msgspec.Struct, frozen=True):
    worker: int
    boot: str
    pid: int
    connected: bool
    problem: str
    """Why it denies everything; empty when it does not."""
    heard: float
    """Seconds since its last word."""
    lease_left: float
    """Seconds for which it may go on deciding without another word from control; the most it can be."""
    applied: int
    """The last change it has in force."""
    connections: int
    requests: int
    """Under way, open streams and WebSockets among them."""
    websockets: int
    sessions_cached: int
    ring_used: float


class Configuration(msgspec.Struct, frozen=True):
    path: str
    epoch: int
    loaded: float
    problem: str


class Record(msgspec.Struct, frozen=True):
    ok: bool
    problem: str
    seq: int
    """Number of the last durable line."""
    ring_used: float
    """Of the fullest ring, 0 to 1."""


class Status(msgspec.Struct, frozen=True):
    """Version 1 of what `GET /status` answers; fields are only ever added."""

    v: int
    at: float
    configuration: Configuration
    processes: tuple[ProcessStatus, ...]
    workers_wanted: int
    workers: tuple[WorkerStatus, ...]
    sequence: int
    """The last change that workers have to apply."""
    sessions: int | None
    """None: the store cannot say."""
    open: int
    """Requests, streams and WebSockets of signed-in people under way."""
    record: Record
    listeners: tuple[ListenerReport, ...]
    problems: tuple[str, ...]
    """Everything that an operator should see to."""


class Overview:
    """Asks; changes nothing."""

    def __init__(
        self,
        sessions: SessionManager,
        audit: AuditWriter,
        link: WorkersLink,
        clock: Clock,
        fleet: Callable[[], FleetReport],
        notes: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self.sessions = sessions
        self.audit = audit
        self.link = link
        self.clock = clock
        self.fleet = fleet
        self.notes = notes
        """What else an operator should see to, though everything works."""

    @property
    def directory(self) -> SessionDirectory:
        return self.sessions.directory()

    async def status(self) -> Status:
        """Everything at once; what cannot say anything is itself one of the problems."""
        now = self.clock.now()
        fleet, audit = self.fleet(), self.audit
        reports, streams = await asyncio.gather(self.ask(STATUS, WorkerReport), self.streams())
        sessions, silent = await self._count()
        workers = tuple(_worker(state, report) for state, report in reports)
        ring_used = max((worker.ring_used for worker in workers), default=0.0)
        record = Record(not audit.problem(), audit.problem(), audit.seq, ring_used)
        return Status(
            v=1,
            at=now,
            configuration=Configuration(fleet.path, fleet.epoch, fleet.loaded, fleet.problem),
            processes=tuple(
                ProcessStatus(each.name, each.pid, each.state, max(0.0, now - each.started), each.restarts)
                for each in fleet.processes
            ),
            workers_wanted=fleet.workers,
            workers=workers,
            sequence=self.link.sequence,
            sessions=sessions,
            open=sum(streams.sessions.values()) + sum(streams.integrations.values()),
            record=record,
            listeners=fleet.listeners,
            problems=(*_problems(fleet, workers, record), *silent, *self.notes()),
        )

    async def _count(self) -> tuple[int | None, tuple[str, ...]]:
        try:
            return await self.directory.count(), ()
        except UnavailableError as error:
            return None, (words(error),)

    async def streams(self) -> OpenStreams:
        """What is open on all workers together. A worker that does not answer counts as one with nothing open."""
        sessions: dict[str, int] = {}
        integrations: dict[str, int] = {}
        for _, answer in await self.ask(STREAMS, OpenStreams):
            if answer is None:
                continue
            for into, found in ((sessions, answer.sessions), (integrations, answer.integrations)):
                for name, count in found.items():
                    into[name] = into.get(name, 0) + count
        return OpenStreams(sessions, integrations)

    async def ask(self, what: str, kind: type[T]) -> list[tuple[WorkerState, T | None]]:
        """What each worker says to `what`; None for one that says nothing, or nothing that makes sense."""
        states = self.link.workers()
        answers = await asyncio.gather(*(self._ask(state, what, kind) for state in states))
        return list(zip(states, answers, strict=True))

    async def _ask(self, state: WorkerState, what: str, kind: type[T]) -> T | None:
        if not state.connected:
            return None
        try:
            return msgspec.msgpack.decode(await self.link.ask(state, what, PATIENCE), type=kind)
        except (UnavailableError, msgspec.MsgspecError):
            return None

    # for /readyz

    async def no_record(self) -> str:
        """Why nothing can be put on record, by whichever part; empty when everything can."""
        problem = self.audit.problem()
        if problem:
            return problem
        for state, report in await self.ask(STATUS, WorkerReport):
            if report is not None and report.problem:
                return f"worker {state.worker}: {report.problem}"
        return ""

    def no_worker(self) -> str:
        """Empty as long as one worker has a lease: it serves the sockets of the others, too."""
        return "" if any(_leased(state) for state in self.link.workers()) else "no worker has a lease"

    def missing_worker(self) -> str:
        """Which workers have no lease; empty when all have."""
        leased = {state.worker for state in self.link.workers() if _leased(state)}
        missing = [str(number) for number in range(self.fleet().workers) if number not in leased]
        return f"without a lease: worker {', '.join(missing)}" if missing else ""

    def refused_file(self) -> str:
        """Why the file as it stands is not in force; empty when it is."""
        return self.fleet().problem


def _leased(state: WorkerState) -> bool:
    return state.connected and state.heard < QUIET


def _worker(state: WorkerState, report: WorkerReport | None) -> WorkerStatus:
    said = report or WorkerReport(problem="it does not answer" if state.connected else "it is not connected")
    return WorkerStatus(
        worker=state.worker,
        boot=state.boot,
        pid=state.pid,
        connected=state.connected,
        problem=said.problem,
        heard=state.heard,
        lease_left=lease_left(state),
        applied=state.applied,
        connections=said.connections,
        requests=said.requests,
        websockets=said.websockets,
        sessions_cached=said.sessions_cached,
        ring_used=said.ring_used,
    )


def lease_left(state: WorkerState) -> float:
    """Seconds after which this worker decides nothing any more, if it does not hear from control."""
    return max(0.0, LEASE - state.heard)


def _problems(fleet: FleetReport, workers: tuple[WorkerStatus, ...], record: Record) -> list[str]:
    problems = [f"{each.name} is {each.state}" for each in fleet.processes if each.state == "down"]
    if fleet.problem:
        problems.append(f"the file as it stands was refused: {fleet.problem}")
    if record.problem:
        problems.append(f"audit log: {record.problem}")
    problems += [f"worker {worker.worker}: {worker.problem}" for worker in workers if worker.problem]
    there = {worker.worker for worker in workers if worker.connected}
    problems += [f"worker {number} is not there" for number in range(fleet.workers) if number not in there]
    return problems


def words(error: ZtError) -> str:
    """An error for the operator's eyes."""
    return error.detail or error.reason.value
