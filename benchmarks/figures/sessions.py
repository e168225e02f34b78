"""CPU time per request with 100,000 sessions in the store over that with one: it must not grow with the store."""

from benchmarks.bench import SMALL, Bench
from benchmarks.proxy import Setup
from benchmarks.rounds import Gate, Outcome

GATE = Gate("sessions_100k_over_1", 1.10)


def measure(bench: Bench) -> Outcome:
    """Rounds of load on two proxies that differ in their stores; the value is the median of the rounds' ratios."""
    seconds = bench.scale.routes_seconds
    bench.progress.title("sessions: CPU time per request with 100,000 sessions in the store and with one")
    one = bench.shared_proxy()
    with bench.proxy(Setup(sessions=100_000)) as many:
        for server in (one, many):
            bench.progress.now("warming up")
            bench.wrk.measure(server, SMALL, 1)
        ratio, _ = bench.compare(
            {
                "1 session": lambda: bench.wrk.measure(one, SMALL, seconds).microseconds_per_request,
                "100,000": lambda: bench.wrk.measure(many, SMALL, seconds).microseconds_per_request,
            },
            "100,000",
            "1 session",
            "100,000/1",
        )
    return Outcome(GATE, ratio.median)
