"""CPU time per request with 1,000 routes configured over that with 10: it must not grow with the configuration."""

from benchmarks.bench import SMALL, Bench
from benchmarks.proxy import Setup
from benchmarks.rounds import Gate, Outcome

GATE = Gate("routes_1000_over_10", 1.10)


def measure(bench: Bench) -> Outcome:
    """Rounds of load on two proxies that differ in their routes; the value is the median of the rounds' ratios."""
    seconds = bench.scale.routes_seconds
    bench.progress.title("routes: CPU time per request with 1,000 routes and with 10")
    few = bench.shared_proxy()
    with bench.proxy(Setup(routes=1000)) as many:
        for server in (few, many):
            bench.progress.now("warming up")
            bench.wrk.measure(server, SMALL, 1)
        ratio, _ = bench.compare(
            {
                "10 routes": lambda: bench.wrk.measure(few, SMALL, seconds).microseconds_per_request,
                "1000 routes": lambda: bench.wrk.measure(many, SMALL, seconds).microseconds_per_request,
            },
            "1000 routes",
            "10 routes",
            "1000/10",
        )
    return Outcome(GATE, ratio.median)
