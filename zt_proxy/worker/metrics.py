"""Counters of the request path: plain integers here, Prometheus families only when somebody scrapes.

A labelled child of prometheus-client takes a lock for each increment; an integer in a list does not, and the request
path has one thread. Durations are seconds. Labels are bounded: route names come from the configuration, reasons from
the enum; nothing a client sends becomes a label.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from zt_proxy.core.errors import Reason
from zt_proxy.core.types import Effect

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency buckets, in seconds; one more holds what is above."""

_CLASSES = ("other", "1xx", "2xx", "3xx", "4xx", "5xx")
_ALLOWING = frozenset((Reason.RULE_ALLOWED, Reason.PUBLIC, Reason.INTERNAL, Reason.PREFLIGHT))
_CHALLENGING = frozenset(
    (
        Reason.LOGIN_REQUIRED,
        Reason.SESSION_UNKNOWN,
        Reason.SESSION_IDLE,
        Reason.SESSION_EXPIRED,
        Reason.COOKIE_INVALID,
        Reason.COOKIE_REPEATED,
        Reason.MFA_REQUIRED,
        Reason.REAUTH_REQUIRED,
    )
)

Reading = Callable[[], float]
Readings = Callable[[], Mapping[str, float]]


class _RouteCounts:
    """What one route has counted."""

    __slots__ = ("buckets", "classes", "total")

    def __init__(self) -> None:
        self.classes = [0] * len(_CLASSES)
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.total = 0.0


class Metrics(Collector):
    """A worker's metrics. Call from the worker's one thread; scrape from there as well."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=False)
        self._routes: dict[str, _RouteCounts] = {}
        self._decisions: dict[tuple[str, str], int] = {}
        self._handshakes: dict[tuple[str, str], int] = {}
        self._gauges: list[tuple[str, str, Reading]] = []
        self._labelled: list[tuple[str, str, str, Readings]] = []
        self._counters: list[tuple[str, str, Reading]] = []
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def request(self, route: str, status: int, duration: float) -> None:
        """A response is through: `duration` from the first byte of its request to the last of its response."""
        try:
            counts = self._routes[route]
        except KeyError:
            counts = self._routes[route] = _RouteCounts()
        counts.classes[status // 100 if 100 <= status < 600 else 0] += 1
        counts.buckets[bisect_left(BOUNDS, duration)] += 1
        counts.total += duration

    def decision(self, reason: Reason, effect: Effect | None = None) -> None:
        """A decision was made. Without an effect the usual one of the reason is taken."""
        key = (reason._value_, "" if effect is None else effect._value_)
        try:
            self._decisions[key] += 1
        except KeyError:
            self._decisions[key] = 1

    def tls_handshake(self, ok: bool, kind: str = "") -> None:
        """A handshake ended. `kind` is the protocol version when it worked, the kind of failure when not, both from
        a closed list."""
        key = ("ok" if ok else "failed", kind)
        self._handshakes[key] = self._handshakes.get(key, 0) + 1

    def gauge(self, name: str, help: str, read: Reading) -> None:
        """Export what `read` gives at each scrape, as `zt_<name>`."""
        self._gauges.append((name, help, read))

    def gauges(self, name: str, help: str, label: str, read: Readings) -> None:
        """As `gauge`, with one value for each value of a label: `{"idle": 3, "busy": 1}`."""
        self._labelled.append((name, help, label, read))

    def counter(self, name: str, help: str, read: Reading) -> None:
        """As `gauge`, for what only grows; exported as `zt_<name>_total`."""
        self._counters.append((name, help, read))

    def collect(self) -> Iterator[Metric]:
        """Called by the registry for each scrape."""
        yield from self._collect_routes()
        decisions = CounterMetricFamily("zt_decisions", "Decisions by effect and reason.", labels=["effect", "reason"])
        totals: dict[tuple[str, str], int] = {}
        for (reason, effect), count in self._decisions.items():
            key = (effect or _usual_effect(reason), reason)
            totals[key] = totals.get(key, 0) + count
        for labels, count in totals.items():
            decisions.add_metric(labels, count)
        yield decisions
        handshakes = CounterMetricFamily(
            "zt_tls_handshakes", "TLS handshakes by result and version or kind of failure.", labels=["result", "kind"]
        )
        for labels, count in self._handshakes.items():
            handshakes.add_metric(labels, count)
        yield handshakes
        for name, text, read in self._gauges:
            yield GaugeMetricFamily(f"zt_{name}", text, value=read())
        for name, text, label, read_all in self._labelled:
            family = GaugeMetricFamily(f"zt_{name}", text, labels=[label])
            for value, number in read_all().items():
                family.add_metric([value], number)
            yield family
        for name, text, read in self._counters:
            yield CounterMetricFamily(f"zt_{name}", text, value=read())
        yield InfoMetricFamily(
            "zt_build",
            "What is running.",
            value={"version": version("zt-proxy"), "python": platform.python_version()},
        )

    def _collect_routes(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("zt_requests", "Responses by route and status class.", labels=["route", "class"])
        durations = HistogramMetricFamily(
            "zt_request_duration_seconds",
            "From the first byte of a request to the last of its response.",
            labels=["route"],
        )
        for route, counts in self._routes.items():
            label = route or "none"
            for name, count in zip(_CLASSES, counts.classes, strict=True):
                if count:
                    requests.add_metric([label, name], count)
            durations.add_metric([label], _cumulated(counts.buckets), counts.total)
        yield requests
        yield durations


def _usual_effect(reason: str) -> str:
    if reason in _ALLOWING:
        return Effect.ALLOW.value
    return Effect.CHALLENGE.value if reason in _CHALLENGING else Effect.DENY.value


def _cumulated(buckets: list[int]) -> list[tuple[str, float]]:
    """Prometheus wants each bucket to contain the ones below it."""
    total = 0
    rows: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=True):
        total += count
        rows.append((bound, total))
    return rows
