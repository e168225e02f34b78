"""What is gathered from several workers, over a link that says what the test wants."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.core import Metric

from zt_proxy.control.audit.writer import AuditWriter
from zt_proxy.control.operator.metrics import AllMetrics
from zt_proxy.control.operator.overview import Overview
from zt_proxy.control.operator.revoke import Order, revoke
from zt_proxy.control.session.manager import open_sessions
from zt_proxy.control.settings import AuditSettings, ControlSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.keys import KeyRing
from zt_proxy.link.messages import WorkerState
from zt_proxy.link.status import METRICS, STATUS, STREAMS, Family, FleetReport, OpenStreams, Sample, WorkerReport

NOBODY = 2**22 + 1
"""Process ids from here on are never given out (proc(5), pid_max)."""


class Link:
    """`WorkersLink` as far as the overview asks it."""

    def __init__(self, *states: WorkerState) -> None:
        self.states = list(states)
        self.answers: dict[tuple[str, str], Any] = {}
        self.sequence = 7

    def workers(self) -> list[WorkerState]:
        return self.states

    async def ask(self, worker: WorkerState, what: str, within: float = 1.0) -> bytes:
        found = self.answers.get((worker.key, what))
        if found is None:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "says nothing")
        return found if isinstance(found, bytes) else msgspec.msgpack.encode(found)

    async def settled(self, sequence: int, within: float) -> bool:
        return all(state.applied >= sequence for state in self.states)


def worker(
    number: int, boot: str = "a", *, connected: bool = True, applied: int = 7, heard: float = 0.5
) -> WorkerState:
    return WorkerState(number, boot, NOBODY + number, connected, applied, heard)


def counted(value: float, route: str = "app") -> list[Family]:
    return [
        Family("zt_requests", "Responses.", "counter", [Sample("zt_requests_total", {"route": route}, value)]),
        Family("zt_build", "What is running.", "info", [Sample("zt_build_info", {"version": "1"}, 1.0)]),
    ]


@pytest.fixture
async def make(tmp_path: Path) -> Any:
    clock = ManualClock()
    settings = ControlSettings(
        "https://a",
        "a",
        tmp_path / "p",
        tmp_path / "state",
        tmp_path / "run",
        (),
        {},
        AuditSettings(tmp_path / "audit"),
    )
    sessions = await open_sessions(settings, KeyRing({1: b"w" * 32}), clock)
    (tmp_path / "run").mkdir()
    audit = AuditWriter(settings.audit, settings.runtime_dir, clock)
    await audit.start()

    def overview(link: Link, fleet: FleetReport | None = None, notes: tuple[str, ...] = ()) -> Overview:
        return Overview(sessions, audit, link, clock, lambda: fleet or FleetReport(workers=2), lambda: notes)  # type: ignore[arg-type]

    yield overview
    with suppress(UnavailableError, RuntimeError):  # a test may have closed them
        await sessions.close()
    await audit.stop()


def samples(families: list[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, "a series came twice"
            found[key] = sample.value
    return found


async def test_counters_of_workers_are_told_apart_and_never_added_up(make: Any) -> None:
    link = Link(worker(0), worker(1))
    link.answers = {("0-a", METRICS): counted(3), ("1-a", METRICS): counted(5)}
    found = samples(await AllMetrics(make(link))())
    assert found["zt_requests_total", (("route", "app"), ("worker", "0"))] == 3
    assert found["zt_requests_total", (("route", "app"), ("worker", "1"))] == 5
    assert ("process_open_fds", (("process", "worker-1"),)) not in found, "nobody has its process id"
    assert found["zt_build_info", (("version", "1"),)] == 1
    assert ("process_open_fds", (("process", "control"),)) in found


async def test_an_old_and_a_new_worker_of_one_slot_make_one_series(make: Any) -> None:
    link = Link(worker(0, "old", heard=0.9), worker(0, "new", heard=0.1))
    link.answers = {("0-old", METRICS): counted(30), ("0-new", METRICS): counted(1)}
    found = samples(await AllMetrics(make(link))())
    assert found["zt_requests_total", (("route", "app"), ("worker", "0"))] == 31
    assert found["zt_worker_up", (("worker", "0"),)] == 1


async def test_a_worker_that_says_nothing_or_nonsense_is_down_and_does_not_keep_the_others_from_being_seen(
    make: Any,
) -> None:
    link = Link(worker(0), worker(1), worker(2, connected=False))
    link.answers = {("0-a", METRICS): counted(3), ("1-a", METRICS): b"\xc1nonsense"}
    found = samples(await AllMetrics(make(link, FleetReport(workers=4)))())
    assert [found["zt_worker_up", (("worker", str(number)),)] for number in range(4)] == [1, 0, 0, 0]


async def test_one_process_is_called_proxy_and_counted_once(make: Any) -> None:
    link = Link(WorkerState(0, "a", os.getpid(), True, 7, 0.0))
    link.answers = {("0-a", METRICS): counted(3)}
    found = samples(await AllMetrics(make(link))())
    assert [labels for name, labels in found if name == "process_open_fds"] == [(("process", "proxy"),)]


async def test_open_streams_of_a_session_are_counted_over_all_workers(make: Any) -> None:
    link = Link(worker(0), worker(1))
    link.answers = {
        ("0-a", STREAMS): OpenStreams({"s": 2, "t": 1}, {"crm": 1}),
        ("1-a", STREAMS): OpenStreams({"s": 3}, {"crm": 4}),
    }
    assert await make(link).streams() == OpenStreams({"s": 5, "t": 1}, {"crm": 5})


async def test_readiness_needs_one_worker_with_a_lease_and_names_those_without(make: Any) -> None:
    link = Link(worker(0, heard=9.0), worker(1))
    overview = make(link)
    assert overview.no_worker() == ""
    assert overview.missing_worker() == "without a lease: worker 0"
    link.states = [worker(0, heard=9.0), worker(1, connected=False)]
    assert overview.no_worker() == "no worker has a lease"
    assert overview.missing_worker() == "without a lease: worker 0, 1"


async def test_a_worker_that_cannot_record_makes_the_proxy_unready(make: Any) -> None:
    link = Link(worker(0), worker(1))
    link.answers = {("0-a", STATUS): WorkerReport(), ("1-a", STATUS): WorkerReport(problem="the record ring is full")}
    assert await make(link).no_record() == "worker 1: the record ring is full"


async def test_status_gathers_every_problem(make: Any) -> None:
    link = Link(worker(0, applied=5))
    link.answers = {("0-a", STATUS): WorkerReport(ring_used=0.5, websockets=2)}
    status = await make(link, FleetReport(workers=2, epoch=4, problem="line 3: no"), ("crl.pem is stale",)).status()
    assert status.record.ring_used == 0.5
    assert (status.workers[0].applied, status.sequence) == (5, 7)
    assert status.problems == (
        "the file as it stands was refused: line 3: no",
        "worker 1 is not there",
        "crl.pem is stale",
    )


async def test_status_goes_on_without_the_store(make: Any) -> None:
    overview = make(Link())
    await overview.sessions.close()
    status = await overview.status()
    assert status.sessions is None
    assert "session store is closed" in status.problems


async def test_a_revocation_that_a_worker_has_not_confirmed_says_when_it_is_certain(make: Any) -> None:
    link = Link(worker(0), worker(1, applied=3, heard=2.0))
    done = await revoke(make(link), Order(everything=True), 0, "root")
    assert not done.in_force
    assert [(each.worker, each.lease_ends_in) for each in done.waiting] == [(1, 3.0)]
    assert done.certain_in == 3.0


@pytest.mark.parametrize(
    "order",
    [
        Order(),
        Order(sid="a", user="b"),
        Order(user="a", everything=True),
        Order(provider="corp", everything=True),
        Order(user="a", reason="x" * 201),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(make: Any, order: Order) -> None:
    with pytest.raises(ClientError) as caught:
        await revoke(make(Link()), order, 0, "root")
    assert caught.value.status == 400
