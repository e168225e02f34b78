"""The figures by the name that `--only` takes: each is a function from a `Bench` to its `Outcome`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from benchmarks.bench import Bench
from benchmarks.figures import (
    balance,
    decision,
    download,
    idle,
    machines,
    mask,
    memory,
    replay,
    request,
    routes,
    sessions,
    workers,
)
from benchmarks.rounds import Gate, Outcome


class Figure:
    """A figure: the gate it must keep, and how it is measured."""

    def __init__(self, gate: Gate, measure: Callable[[Bench], Outcome]) -> None:
        self.gate = gate
        self.measure = measure


FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "request": Figure(request.GATE, request.measure),
        "download": Figure(download.GATE, download.measure),
        "idle": Figure(idle.GATE, idle.measure),
        "routes": Figure(routes.GATE, routes.measure),
        "machines": Figure(machines.GATE, machines.measure),
        "workers": Figure(workers.GATE, workers.measure),
        "balance": Figure(balance.GATE, balance.measure),
        "memory": Figure(memory.GATE, memory.measure),
        "sessions": Figure(sessions.GATE, sessions.measure),
        "decision": Figure(decision.GATE_100, decision.measure_100),
        "decision-1000": Figure(decision.GATE_1000, decision.measure_1000),
        "mask": Figure(mask.GATE, mask.measure),
        "replay": Figure(replay.GATE, replay.measure),
    }
)
QUICK_FIGURES = ("request", "download", "idle", "routes")
"""What is measured within a minute."""
