"""CPU time per authenticated GET of 1 KiB of JSON over kept-alive TLS, over that of bare nginx."""

from benchmarks.bench import SMALL, Bench
from benchmarks.rounds import Gate, Outcome

GATE = Gate("ratio_nginx", 2.5)


def measure(bench: Bench) -> Outcome:
    """Rounds of load on the proxy and on nginx; the value is the median of the rounds' ratios."""
    seconds = bench.scale.request_seconds
    bench.progress.title("request: CPU time per authenticated GET of 1 KiB, TLS keep-alive")
    proxy, nginx = bench.shared_proxy(), bench.shared_nginx()
    for server in (proxy, nginx):  # fills pools and caches; not counted
        bench.progress.now(f"warming up {server.name}")
        bench.wrk.measure(server, SMALL, 1)
    ratio, side = bench.compare(
        {
            "proxy": lambda: bench.wrk.measure(proxy, SMALL, seconds).microseconds_per_request,
            "nginx": lambda: bench.wrk.measure(nginx, SMALL, seconds).microseconds_per_request,
        },
        "proxy",
        "nginx",
        "proxy/nginx",
    )
    return Outcome(GATE, ratio.median, {"request_us": side["proxy"].median, "nginx_request_us": side["nginx"].median})
