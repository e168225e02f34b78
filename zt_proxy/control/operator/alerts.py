"""Alerts as an operator looks for them, and what watching counts.

GET  /alerts?since=&limit=     {"at", "alerts"}: Alert, the newest first; `since` is seconds since the epoch
"""

import math
from collections.abc import Iterator

import msgspec
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from zt_proxy.control.operator import answers
from zt_proxy.control.watch.manager import Watch
from zt_proxy.control.watch.store import PAGE
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason


class AlertList:
    """Routes of the operator's server."""

    def __init__(self, watch: Watch, clock: Clock) -> None:
        self._watch = watch
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/alerts", self._list)

    async def _list(self, request: web.Request) -> web.Response:
        unknown = set(request.query) - {"since", "limit"}
        if unknown:
            raise ClientError(Reason.MALFORMED, f"cannot be asked for: {', '.join(sorted(unknown))}")
        since, limit = _number(request, "since", 0.0), _number(request, "limit", PAGE)
        found = await self._watch.recent(since, max(1, min(int(limit), PAGE)))
        return answers.json({"at": self._clock.now(), "alerts": [msgspec.to_builtins(each) for each in found]})


def _number(request: web.Request, name: str, default: float) -> float:
    try:
        number = float(request.query.get(name, default))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ClientError(Reason.MALFORMED, f"`{name}` is no number")
    return number


class WatchMetrics:
    """Call it for each scrape."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self) -> Iterator[Metric]:
        watch = self._watch
        alerts = CounterMetricFamily("zt_alerts", "Alerts, by kind and severity.", labels=["kind", "severity"])
        for (kind, severity), count in sorted(watch.alerts.counts.items()):
            alerts.add_metric([kind, severity], count)
        yield alerts
        yield _counter("zt_alerts_repeated", "Findings counted on an alert that was told.", watch.alerts.repeated)
        yield _counter("zt_alerts_unrecorded", "Alerts that are not on the audit record.", watch.alerts.unrecorded)
        yield _counter("zt_watch_observed", "Decisions that watching looked at.", watch.observer.observed)
        yield _counter("zt_watch_dropped", "Records and findings without room.", watch.dropped)
        yield _counter(
            "zt_watch_failures", "Times watching failed over something.", watch.failures + watch.observer.unreadable
        )
        people, flows = len(watch.observer.people), len(watch.observer.flows)
        yield GaugeMetricFamily("zt_watch_people", "People whose habits are known.", value=people)
        yield GaugeMetricFamily("zt_watch_flows", "People times routes whose traffic is known.", value=flows)
        yield _counter("zt_webhook_sent", "Alerts that a webhook took.", watch.webhooks.sent())
        failed = CounterMetricFamily("zt_webhook_failed", "Alerts that a webhook never took.", labels=["host", "why"])
        for (host, why), count in sorted(watch.webhooks.failed().items()):
            failed.add_metric([host, why], count)
        yield failed


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(name, help, value=value)
