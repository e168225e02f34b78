"""Health and metrics over real HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from zt_proxy.core.errors import Reason
from zt_proxy.core.types import Effect
from zt_proxy.processes.private import Check, PrivateListener
from zt_proxy.worker.metrics import BOUNDS, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def page_of(metrics: Metrics) -> Callable[[], Awaitable[list[Metric]]]:
    """The families of one worker, as control draws them."""

    async def gather() -> list[Metric]:
        page = []
        for family in metrics.collect():
            metric = Metric(family.name, family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            page.append(metric)
        return page

    return gather


@pytest.fixture
def problems() -> dict[str, str]:
    return {"link": "", "store": ""}


@pytest.fixture
async def url(metrics: Metrics, problems: dict[str, str]) -> AsyncIterator[str]:
    checks = [Check(name, lambda name=name: problems[name]) for name in problems]
    listener = PrivateListener("127.0.0.1", 0, page_of(metrics), checks)
    await listener.start()
    yield f"http://127.0.0.1:{listener.port}"
    await listener.stop()


async def get(url: str, **headers: str) -> tuple[int, aiohttp.typedefs.LooseHeaders, str]:
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as response:
        return response.status, response.headers, await response.text()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


async def test_health_says_that_the_process_is_up_whatever_its_parts_do(url: str, problems: dict[str, str]) -> None:
    problems["store"] = "gone"
    status, _, text = await get(f"{url}/healthz")
    assert (status, text) == (200, "ok\n")


async def test_readiness_is_200_when_every_part_works(url: str) -> None:
    status, headers, text = await get(f"{url}/readyz")
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    assert '"ready":true' in text
    assert '"link":{"ok":true}' in text


async def test_readiness_is_503_and_names_the_part_that_does_not_work(url: str, problems: dict[str, str]) -> None:
    problems["store"] = "disk full"
    status, _, text = await get(f"{url}/readyz")
    assert status == 503
    assert '"store":{"ok":false,"problem":"disk full"}' in text
    assert '"link":{"ok":true}' in text


async def test_a_check_that_fails_to_answer_counts_as_not_ready(url: str, problems: dict[str, str]) -> None:
    del problems["link"]
    status, _, text = await get(f"{url}/readyz")
    assert status == 503
    assert "the check itself failed: KeyError" in text


async def test_metrics_count_requests_by_route_and_class(url: str, metrics: Metrics) -> None:
    for status in (200, 204, 404, 503, 700):
        metrics.request("builder", status, 0.003)
    metrics.request("", 404, 99.0)
    _, headers, text = await get(f"{url}/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    found = samples(text)
    assert found["zt_requests_total", (("class", "2xx"), ("route", "builder"))] == 2
    assert found["zt_requests_total", (("class", "4xx"), ("route", "builder"))] == 1
    assert found["zt_requests_total", (("class", "other"), ("route", "builder"))] == 1
    assert found["zt_requests_total", (("class", "4xx"), ("route", "none"))] == 1


async def test_latency_buckets_contain_the_ones_below(url: str, metrics: Metrics) -> None:
    for duration in (0.001, 0.0011, 0.2, 31.0):
        metrics.request("r", 200, duration)
    found = samples((await get(f"{url}/metrics"))[2])

    def bucket(bound: str) -> float:
        return found["zt_request_duration_seconds_bucket", (("le", bound), ("route", "r"))]

    assert [bucket(b) for b in ("0.001", "0.0025", "0.1", "0.25", "30.0", "+Inf")] == [1, 2, 2, 3, 3, 4]
    assert found["zt_request_duration_seconds_count", (("route", "r"),)] == 4
    assert found["zt_request_duration_seconds_sum", (("route", "r"),)] == pytest.approx(31.2021)
    assert sorted(BOUNDS) == list(BOUNDS)


async def test_decisions_are_counted_by_effect_and_reason(url: str, metrics: Metrics) -> None:
    metrics.decision(Reason.RULE_ALLOWED)
    metrics.decision(Reason.RULE_ALLOWED, Effect.ALLOW)
    metrics.decision(Reason.LOGIN_REQUIRED)
    metrics.decision(Reason.NO_RULE_MATCHED)
    metrics.decision(Reason.SESSION_IDLE, Effect.CHALLENGE)
    found = samples((await get(f"{url}/metrics"))[2])
    assert found["zt_decisions_total", (("effect", "allow"), ("reason", "rule-allowed"))] == 2
    assert found["zt_decisions_total", (("effect", "challenge"), ("reason", "login-required"))] == 1
    assert found["zt_decisions_total", (("effect", "deny"), ("reason", "no-rule-matched"))] == 1
    assert found["zt_decisions_total", (("effect", "challenge"), ("reason", "session-idle"))] == 1


async def test_handshakes_gauges_counters_and_the_build_are_exported(url: str, metrics: Metrics) -> None:
    metrics.tls_handshake(True, "TLSv1.3")
    metrics.tls_handshake(False, "no-shared-cipher")
    metrics.gauge("ring_used_ratio", "Share of the ring that is unread.", lambda: 0.25)
    metrics.gauges("upstream_connections", "Connections.", "state", lambda: {"idle": 3, "busy": 1})
    metrics.counter("records_lost", "End records that found no room.", lambda: 7)
    found = samples((await get(f"{url}/metrics"))[2])
    assert found["zt_tls_handshakes_total", (("kind", "TLSv1.3"), ("result", "ok"))] == 1
    assert found["zt_tls_handshakes_total", (("kind", "no-shared-cipher"), ("result", "failed"))] == 1
    assert found["zt_ring_used_ratio", ()] == 0.25
    assert found["zt_upstream_connections", (("state", "idle"),)] == 3
    assert found["zt_records_lost_total", ()] == 7
    assert any(name == "zt_build_info" for name, _ in found)


async def test_openmetrics_is_given_to_who_asks_for_it(url: str) -> None:
    _, headers, text = await get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_nothing_else_is_served(url: str) -> None:
    assert (await get(f"{url}/"))[0] == 404


async def test_an_address_in_use_is_said_at_start(url: str, metrics: Metrics) -> None:
    port = int(url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await PrivateListener("127.0.0.1", port, page_of(metrics), []).start()
