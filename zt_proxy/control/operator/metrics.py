"""One page of metrics for all processes: what each worker has counted, and what only control knows.

Counters of different workers are never added up here, but told apart by the label `worker`: a worker that starts again
starts at 0, which Prometheus understands of one series, not of a sum.
"""

import os
from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from zt_proxy.control.operator.overview import Overview
from zt_proxy.core.errors import UnavailableError
from zt_proxy.link.messages import WorkerState
from zt_proxy.link.status import METRICS, Family

_BUILD = "zt_build"


class AllMetrics:
    """Call it for each scrape."""

    def __init__(self, overview: Overview, *more: Callable[[], Iterable[Metric]]) -> None:
        self._overview = overview
        self._more = more

    async def __call__(self) -> list[Metric]:
        """A worker that does not answer is missing from this scrape; `zt_worker_up` says so."""
        answers = await self._overview.ask(METRICS, list[Family])
        merged: dict[str, _Merged] = {}
        apart = all(state.pid != os.getpid() for state, _ in answers)
        for state, families in answers:
            process = f"worker-{state.worker}" if apart else "proxy"
            for family in families or ():
                _merge(merged, family, str(state.worker))
            _merge_process(merged, state.pid, process)
        if apart:
            _merge_process(merged, os.getpid(), "control")
        return [
            *(each.metric(name) for name, each in merged.items()),
            *self._of_workers([(state, families is not None) for state, families in answers]),
            *await self._of_control(),
            *(metric for each in self._more for metric in each()),
        ]

    def _of_workers(self, states: Iterable[tuple[WorkerState, bool]]) -> list[Metric]:
        up = GaugeMetricFamily("zt_worker_up", "1 if the worker answers.", labels=["worker"])
        heard = GaugeMetricFamily("zt_link_heard_seconds", "Since the worker's last word.", labels=["worker"])
        behind = GaugeMetricFamily("zt_link_behind", "Changes the worker has yet to apply.", labels=["worker"])
        found: dict[int, tuple[WorkerState, bool]] = {}
        for state, answered in states:  # of two in one slot the one that draining leaves behind does not count
            known = found.get(state.worker)
            if known is None or state.heard < known[0].heard:
                found[state.worker] = (state, answered)
        for number in sorted({*found, *range(self._overview.fleet().workers)}):
            label = [str(number)]
            there = found.get(number)
            up.add_metric(label, float(there is not None and there[1]))
            if there is not None:
                heard.add_metric(label, there[0].heard)
                behind.add_metric(label, max(0, self._overview.link.sequence - there[0].applied))
        return [up, heard, behind]

    async def _of_control(self) -> list[Metric]:
        fleet, audit = self._overview.fleet(), self._overview.audit
        restarts = CounterMetricFamily("zt_process_restarts", "Unasked-for ends of a process.", labels=["process"])
        for process in fleet.processes:
            restarts.add_metric([process.name], process.restarts)
        families: list[Metric] = [
            restarts,
            GaugeMetricFamily("zt_configuration_epoch", "Configurations taken over.", value=fleet.epoch),
            GaugeMetricFamily(
                "zt_configuration_refused", "1 if the file as it stands was refused.", value=float(bool(fleet.problem))
            ),
            CounterMetricFamily("zt_audit_lines", "Lines of the audit log.", value=audit.seq),
            GaugeMetricFamily(
                "zt_audit_failing", "1 if records are not becoming durable.", value=float(bool(audit.problem()))
            ),
        ]
        try:
            sessions = await self._overview.directory.count()
        except UnavailableError:
            return families
        return [*families, GaugeMetricFamily("zt_sessions", "Sessions in the store.", value=sessions)]


class _Merged:
    def __init__(self, help: str, kind: str) -> None:
        self._help = help
        self._kind = kind
        self._samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        """Of two workers in one slot, of which one drains, the values are added: no series may come twice."""
        key = (name, tuple(labels.items()))
        self._samples[key] = self._samples.get(key, 0.0) + value

    def once(self, name: str, labels: dict[str, str], value: float) -> None:
        self._samples[name, tuple(labels.items())] = value

    def metric(self, name: str) -> Metric:
        metric = Metric(name, self._help, self._kind)
        for (sample, labels), value in self._samples.items():
            metric.add_sample(sample, dict(labels), value)
        return metric


def _merge(merged: dict[str, _Merged], family: Family, worker: str) -> None:
    target = merged.setdefault(family.name, _Merged(family.help, family.kind))
    for sample in family.samples:
        if family.name == _BUILD:
            target.once(sample.name, sample.labels, sample.value)
        else:
            target.add(sample.name, {**sample.labels, "worker": worker}, sample.value)


def _merge_process(merged: dict[str, _Merged], pid: int, process: str) -> None:
    """CPU time, memory and descriptors of a process, as the kernel knows them."""
    for metric in ProcessCollector(pid=lambda: pid, registry=None).collect():
        target = merged.setdefault(metric.name, _Merged(metric.documentation, metric.type))
        for sample in metric.samples:
            target.add(sample.name, {**sample.labels, "process": process}, sample.value)
