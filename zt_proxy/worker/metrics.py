"""Counters of the request path: plain integers here, metric families only when somebody asks.

A labelled child of prometheus-client takes a lock for each increment; an integer in a list does not, and the request
path has one thread. Durations are seconds. Labels are bounded: route names come from the configuration, reasons from
the enum; nothing a client sends becomes a label.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping

from zt_proxy.core.errors import Reason
from zt_proxy.core.types import Effect
from zt_proxy.core.version import VERSION
from zt_proxy.link.status import Family, Sample

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency buckets, in seconds; one more holds what is above."""

_CLASSES = ("other", "1xx", "2xx", "3xx", "4xx", "5xx")
_ALLOWING = frozenset((Reason.RULE_ALLOWED, Reason.PUBLIC, Reason.INTERNAL, Reason.PREFLIGHT, Reason.BREAK_GLASS))
_CHALLENGING = frozenset(
    (
        Reason.LOGIN_REQUIRED,
        Reason.SESSION_UNKNOWN,
        Reason.SESSION_IDLE,
        Reason.SESSION_DISPLACED,
        Reason.SESSION_EXPIRED,
        Reason.COOKIE_INVALID,
        Reason.COOKIE_REPEATED,
        Reason.MFA_REQUIRED,
        Reason.REAUTH_REQUIRED,
        Reason.LOCKED_STEP_UP,
        Reason.JUSTIFICATION_REQUIRED,
        Reason.APPROVAL_REQUIRED,
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


class Metrics:
    """A worker's metrics. Call from the worker's one thread; collect there as well.

    Without prometheus-client, which control has: 2.7 MiB of every worker for the few lines that draw a page.
    """

    def __init__(self) -> None:
        self._routes: dict[str, _RouteCounts] = {}
        self._decisions: dict[tuple[str, str], int] = {}
        self._handshakes: dict[tuple[str, str], int] = {}
        self._pages: dict[tuple[str, str], int] = {}
        self._gauges: list[tuple[str, str, Reading]] = []
        self._labelled: list[tuple[str, str, str, Readings]] = []
        self._counters: list[tuple[str, str, Reading]] = []

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

    def page(self, route: str, outcome: str) -> None:
        """A page of a route with `helper: inject` went by; `outcome` is from a closed list."""
        key = (route, outcome)
        self._pages[key] = self._pages.get(key, 0) + 1

    def gauge(self, name: str, help: str, read: Reading) -> None:
        """Export what `read` gives at each scrape, as `zt_<name>`."""
        self._gauges.append((name, help, read))

    def gauges(self, name: str, help: str, label: str, read: Readings) -> None:
        """As `gauge`, with one value for each value of a label: `{"idle": 3, "busy": 1}`."""
        self._labelled.append((name, help, label, read))

    def counter(self, name: str, help: str, read: Reading) -> None:
        """As `gauge`, for what only grows; exported as `zt_<name>_total`."""
        self._counters.append((name, help, read))

    def collect(self) -> Iterator[Family]:
        """Everything counted so far."""
        yield from self._collect_routes()
        totals: dict[tuple[str, str], int] = {}
        for (reason, effect), count in self._decisions.items():
            key = (effect or _usual_effect(reason), reason)
            totals[key] = totals.get(key, 0) + count
        yield _counter(
            "zt_decisions",
            "Decisions by effect and reason.",
            [({"effect": effect, "reason": reason}, count) for (effect, reason), count in totals.items()],
        )
        yield _counter(
            "zt_tls_handshakes",
            "TLS handshakes by result and version or kind of failure.",
            [({"result": result, "kind": kind}, count) for (result, kind), count in self._handshakes.items()],
        )
        yield _counter(
            "zt_pages",
            "Pages of routes with `helper: inject`, by what came of them.",
            [({"route": route, "outcome": outcome}, count) for (route, outcome), count in self._pages.items()],
        )
        for name, text, read in self._gauges:
            yield Family(f"zt_{name}", text, "gauge", [Sample(f"zt_{name}", {}, read())])
        for name, text, label, read_all in self._labelled:
            samples = [Sample(f"zt_{name}", {label: value}, number) for value, number in read_all().items()]
            yield Family(f"zt_{name}", text, "gauge", samples)
        for name, text, read in self._counters:
            yield _counter(f"zt_{name}", text, [({}, read())])
        build = {"version": VERSION, "python": platform.python_version()}
        yield Family("zt_build", "What is running.", "info", [Sample("zt_build_info", build, 1.0)])

    def _collect_routes(self) -> Iterator[Family]:
        requests: list[tuple[dict[str, str], float]] = []
        durations: list[Sample] = []
        name = "zt_request_duration_seconds"
        for route, counts in self._routes.items():
            label = route or "none"
            for kind, count in zip(_CLASSES, counts.classes, strict=True):
                if count:
                    requests.append(({"route": label, "class": kind}, count))
            rows = _cumulated(counts.buckets)
            durations += [Sample(f"{name}_bucket", {"route": label, "le": bound}, total) for bound, total in rows]
            durations.append(Sample(f"{name}_count", {"route": label}, rows[-1][1]))
            durations.append(Sample(f"{name}_sum", {"route": label}, counts.total))
        yield _counter("zt_requests", "Responses by route and status class.", requests)
        text = "From the first byte of a request to the last of its response."
        yield Family(name, text, "histogram", durations)


def _counter(name: str, help: str, values: Iterable[tuple[dict[str, str], float]]) -> Family:
    return Family(name, help, "counter", [Sample(f"{name}_total", labels, value) for labels, value in values])


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
