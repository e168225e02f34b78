"""Resident memory per idle TLS keep-alive connection, in KiB."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

from benchmarks.bench import SMALL, Bench
from benchmarks.errors import BenchmarkError
from benchmarks.measure import resident_kib, settled_cpu_seconds
from benchmarks.rounds import Gate, Outcome, interleave, summarise
from benchmarks.servers import Server, raise_file_limit

GATE = Gate("idle_kib", 25.0)


def measure(bench: Bench) -> Outcome:
    """Growth of a fresh server from its first load to all connections idle; the value is the proxy's median."""
    count = bench.scale.idle_connections
    bench.progress.title(f"idle: memory per connection, {count} TLS keep-alive connections after one request each")
    raise_file_limit(count * 2 + 1024)
    samples = interleave(
        {
            "proxy": lambda: _growth(bench, bench.proxy(), count),
            "nginx": lambda: _growth(bench, bench.nginx(), count),
        },
        bench.scale.idle_rounds,
        before=bench.announce,
        after=lambda number, row: bench.row(number, row, "KiB"),
    )
    ours, theirs = summarise(samples["proxy"]), summarise(samples["nginx"])
    bench.progress.summary("proxy", ours, "KiB")
    bench.progress.summary("nginx", theirs, "KiB")
    return Outcome(GATE, ours.median, {"nginx_idle_kib": theirs.median})


def _growth(bench: Bench, starting: AbstractContextManager[Server], count: int) -> float:
    # A fresh process each time: memory that an earlier round freed would be used again and hide the growth.
    with starting as server:
        bench.wrk.measure(server, SMALL, 1)
        before = resident_kib(server.pid)
        with held_open(bench, server, count):
            settled_cpu_seconds(server.pid)
            after = resident_kib(server.pid)
    return (after - before) / count


@contextlib.contextmanager
def held_open(bench: Bench, server: Server, count: int) -> Iterator[None]:
    """So many idle connections while the block runs; `BenchmarkError` unless all are open at its end."""
    with _open_client(bench, server, count) as client:
        try:
            _await_open(bench, server, client, count)
            yield
            _check_idle(server, client, count)
        finally:
            client.kill()


def _open_client(bench: Bench, server: Server, count: int) -> subprocess.Popen[str]:
    target = [server.host, str(server.port), server.authority, server.cookie]
    expected = [SMALL.path, str(SMALL.length), str(count)]
    return subprocess.Popen(
        ["taskset", "-c", str(bench.cores.load), sys.executable, "-m", "benchmarks.idle_client", *target, *expected],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _report(server: Server, client: subprocess.Popen[str]) -> dict[str, int]:
    assert client.stdout is not None
    line = client.stdout.readline()
    if not line:
        raise BenchmarkError(f"{server.name} did not keep its connections; what the client saw is above")
    report: dict[str, int] = json.loads(line)
    return report


def _await_open(bench: Bench, server: Server, client: subprocess.Popen[str], count: int) -> None:
    opened = 0
    while opened < count:
        opened = _report(server, client)["open"]
        bench.progress.now(f"{server.name}: {opened} of {count} connections")


def _check_idle(server: Server, client: subprocess.Popen[str], count: int) -> None:
    assert client.stdin is not None
    client.stdin.write("\n")
    client.stdin.flush()
    idle = _report(server, client)["idle"]
    if idle != count:
        raise BenchmarkError(f"{server.name} kept {idle} of {count} idle connections open")
