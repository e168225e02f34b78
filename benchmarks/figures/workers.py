"""CPU time per request of two workers over that of one, all on one core, with 256 connections.

With the 16 of the other figures each of two workers on one core finds half as much to do at each turn of its loop:
1.26 was seen for that, 1.06 with 64.
"""

from benchmarks.bench import SMALL, Bench
from benchmarks.proxy import Setup
from benchmarks.rounds import Gate, Outcome
from benchmarks.servers import Server

GATE = Gate("two_workers_cpu", 1.15)
CONNECTIONS = 256


def measure(bench: Bench) -> Outcome:
    """Rounds of load on two proxies that differ in their workers; the value is the median of the rounds' ratios."""
    seconds = bench.scale.routes_seconds
    bench.progress.title("workers: CPU time per request of two workers and of one")
    one = bench.shared_proxy()
    with bench.proxy(Setup(workers=2)) as two:
        for server in (one, two):
            bench.progress.now("warming up")
            bench.wrk.measure(server, SMALL, 1, connections=CONNECTIONS)

        def cost(server: Server) -> float:
            return bench.wrk.measure(server, SMALL, seconds, connections=CONNECTIONS).microseconds_per_request

        ratio, _ = bench.compare(
            {
                "1 worker": lambda: cost(one),
                "2 workers": lambda: cost(two),
            },
            "2 workers",
            "1 worker",
            "2/1",
        )
    return Outcome(GATE, ratio.median)
