"""CPU time per request of an integration with a client certificate, over that of a person with a session.

Five hundred integrations with twenty scopes each are configured: what they cost is in it.
"""

from benchmarks.bench import SMALL, Bench
from benchmarks.proxy import Setup
from benchmarks.rounds import Gate, Outcome

GATE = Gate("mtls_over_session", 1.10)
INTEGRATIONS = 500


def measure(bench: Bench) -> Outcome:
    """Rounds of load as a machine and as a person on one proxy; the value is the median of the rounds' ratios."""
    seconds = bench.scale.routes_seconds
    bench.progress.title(f"machines: CPU time per request with a client certificate, {INTEGRATIONS} integrations")
    setup = Setup(integrations=INTEGRATIONS)
    with bench.proxy(setup) as proxy, bench.person(proxy) as person, bench.machine(proxy) as machine:
        for side in (machine, person):
            bench.progress.now("warming up")
            bench.wrk.measure(proxy, SMALL, 1, through=side)
        ratio, _ = bench.compare(
            {
                "machine": lambda: bench.wrk.measure(proxy, SMALL, seconds, through=machine).microseconds_per_request,
                "person": lambda: bench.wrk.measure(proxy, SMALL, seconds, through=person).microseconds_per_request,
            },
            "machine",
            "person",
            "machine/person",
        )
    return Outcome(GATE, ratio.median)
