"""What a scrape of a running proxy finds: everything that is promised, and requests under way while they are."""

import asyncio

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.lab.proxy import ProxyLab

PROMISED = {
    "zt_requests_total",
    "zt_decisions_total",
    "zt_request_duration_seconds_bucket",
    "zt_requests_in_flight",
    "zt_sessions_cached",
    "zt_upstream_connections",
    "zt_tls_handshakes_total",
    "zt_connections",
    "zt_record_ring_used_ratio",
    "zt_build_info",
    "zt_worker_up",
    "zt_link_heard_seconds",
    "zt_link_behind",
    "zt_process_restarts_total",
    "zt_configuration_epoch",
    "zt_configuration_refused",
    "zt_audit_lines_total",
    "zt_audit_failing",
    "zt_sessions",
}
W = (("worker", "0"),)


async def scrape(lab: ProxyLab) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Samples by name and labels, as Prometheus reads them."""
    assert lab.proxy.private is not None
    url = f"http://127.0.0.1:{lab.proxy.private.port}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 200
        text = await answer.text()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def test_a_request_is_in_flight_until_it_is_answered_and_counted_then() -> None:
    async with ProxyLab(worker={"metrics": ("127.0.0.1", 0)}) as lab:
        lab.upstream.hold = asyncio.Event()
        request = asyncio.create_task(lab.get("/", await lab.sign_in()))
        await lab.upstream.arrived(1)
        found = await scrape(lab)
        assert found["zt_requests_in_flight"][W] == 1
        assert found["zt_upstream_connections"] == {(("state", "idle"), *W): 0, (("state", "open"), *W): 1}
        lab.upstream.hold.set()
        assert (await request).status == 200
        assert (await lab.get("/")).status == 401
        found = await scrape(lab)
        assert found["zt_requests_in_flight"][W] == 0
        assert found["zt_upstream_connections"] == {(("state", "idle"), *W): 1, (("state", "open"), *W): 1}
        assert found["zt_requests_total"] == {
            (("class", "2xx"), ("route", "app"), *W): 1,
            (("class", "4xx"), ("route", "app"), *W): 1,
        }
        assert found["zt_decisions_total"] == {
            (("effect", "allow"), ("reason", "rule-allowed"), *W): 1,
            (("effect", "challenge"), ("reason", "login-required"), *W): 1,
        }
        assert found["zt_tls_handshakes_total"] == {(("kind", "TLSv1.3"), ("result", "ok"), *W): 2}
        assert found["zt_sessions_cached"][W] == 1
        assert found.keys() >= PROMISED
        assert found["zt_worker_up"] == {W: 1}
        assert found["zt_sessions"][()] == 1
        assert found["zt_process_restarts_total"] == {(("process", "proxy"),): 0}
        assert list(found["process_resident_memory_bytes"]) == [(("process", "proxy"),)]
