"""Resident memory of a worker after 10,000 requests on 100 connections, with 1,000 sessions cached, in MiB."""

from benchmarks.bench import SMALL, Bench
from benchmarks.errors import BenchmarkError
from benchmarks.figures import scraped
from benchmarks.measure import resident_mib, tree
from benchmarks.proxy import KEPT_COOKIES, RunningProxy, Setup
from benchmarks.rounds import Gate, Outcome, interleave, summarise

GATE = Gate("worker_rss_mib", 60.0)
CONNECTIONS = 100
REQUESTS = 10_000


def measure(bench: Bench) -> Outcome:
    """A fresh worker each round; the value is the median."""
    bench.progress.title(f"memory: a worker with {KEPT_COOKIES} sessions cached, after {REQUESTS} requests")
    samples = interleave(
        {"worker": lambda: _resident(bench)},
        bench.scale.idle_rounds,
        before=bench.announce,
        after=lambda number, row: bench.row(number, row, "MiB"),
    )
    summary = summarise(samples["worker"])
    bench.progress.summary("worker", summary, "MiB")
    return Outcome(GATE, summary.median)


def _resident(bench: Bench) -> float:
    with bench.proxy(Setup(sessions=KEPT_COOKIES)) as proxy:
        answered = 0
        while answered < REQUESTS:
            load = bench.wrk.measure(proxy, SMALL, 1, connections=CONNECTIONS, cookies=proxy.cookies)
            answered += load.requests
        cached = sum(value for _, value in scraped.values(proxy, "zt_sessions_cached"))
        if cached < KEPT_COOKIES:
            raise BenchmarkError(f"only {cached:.0f} of {KEPT_COOKIES} sessions are cached")
        return resident_mib(worker_pid(proxy))


def worker_pid(proxy: RunningProxy) -> int:
    """The one worker's process; `BenchmarkError` when there is none or more than one."""
    pids = [stat.pid for stat in tree(proxy.pid) if b"zt_proxy.processes worker" in scraped.command(stat.pid)]
    if len(pids) != 1:
        raise BenchmarkError(f"{len(pids)} workers where one was expected")
    return pids[0]
