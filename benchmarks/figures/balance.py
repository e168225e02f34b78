"""The share of 256 connections that the busier of two workers has."""

from benchmarks.bench import SMALL, Bench
from benchmarks.figures import scraped
from benchmarks.figures.idle import held_open
from benchmarks.proxy import Setup
from benchmarks.rounds import Gate, Outcome, interleave, summarise

GATE = Gate("busier_share", 0.60)
CONNECTIONS = 256


def measure(bench: Bench) -> Outcome:
    """Rounds of new connections to one proxy; the value is the median of the rounds' shares."""
    bench.progress.title(f"balance: connections of the busier of two workers, of {CONNECTIONS}")
    with bench.proxy(Setup(workers=2)) as proxy:
        bench.wrk.measure(proxy, SMALL, 1)

        def share() -> float:
            with held_open(bench, proxy, CONNECTIONS):
                counts = [value for labels, value in scraped.values(proxy, "zt_connections") if "worker" in labels]
            return max(counts) / sum(counts)

        samples = interleave(
            {"busier": share},
            bench.scale.rounds,
            before=bench.announce,
            after=lambda number, row: bench.row(number, row, "of 1"),
        )
    summary = summarise(samples["busier"])
    bench.progress.summary("busier", summary, "of 1")
    return Outcome(GATE, summary.median, {"busier_share_greatest": summary.greatest})
