"""What every figure is given: the servers' surroundings, how long to measure, and where to report progress."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.status import Status

from benchmarks.measure import Resource, Wrk
from benchmarks.proxy import MACHINES_HOST, RunningProxy, Setup, start_proxy
from benchmarks.rounds import Summary, interleave, paired_ratios, summarise
from benchmarks.servers import (
    LARGE_BYTES,
    LARGE_PATH,
    SMALL_BODY,
    SMALL_PATH,
    Server,
    TlsFiles,
    large_body,
    start_nginx,
    start_plain_client,
)

SMALL = Resource(SMALL_PATH, len(SMALL_BODY), hashlib.sha256(SMALL_BODY).hexdigest())
LARGE = Resource(LARGE_PATH, LARGE_BYTES, hashlib.sha256(large_body()).hexdigest())


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of the server under test, and that of everything else; the same one where only one is to be had."""

    server: int
    load: int

    @classmethod
    def available(cls) -> "Cores":
        """The first two cores this process may run on."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(server=cores[0], load=cores[1 % len(cores)])


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to measure: rounds, seconds of load per side and round by figure, and idle connections."""

    rounds: int
    idle_rounds: int
    request_seconds: int
    download_seconds: int
    routes_seconds: int
    idle_connections: int = 2000


FULL = Scale(rounds=7, idle_rounds=3, request_seconds=4, download_seconds=3, routes_seconds=3)
QUICK = Scale(rounds=3, idle_rounds=1, request_seconds=1, download_seconds=1, routes_seconds=1)


class Progress:
    """Result lines on standard output; on a terminal, beside them what is being measured at the moment."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status: Status | None = None

    def title(self, text: str) -> None:
        """Begin a figure."""
        self.line(f"\n{text}")

    def line(self, text: str) -> None:
        """A finished round or a result."""
        self.now("")
        print(text, flush=True)

    def now(self, text: str) -> None:
        """What goes on now; nothing unless standard error is a terminal, empty to be silent."""
        if self._status:
            self._status.stop()
            self._status = None
        if text and self._console.is_terminal:
            self._status = self._console.status(text)
            self._status.start()

    def summary(self, side: str, summary: Summary, unit: str) -> None:
        """The median of a side with its spread."""
        self.line(
            f"  {side:<12} median {summary.median:8.2f} {unit}   from {summary.least:.2f} to {summary.greatest:.2f}"
            f"   spread {summary.spread:.0%}"
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything a figure needs."""

    workdir: Path
    tls: TlsFiles
    upstream: Server
    cores: Cores
    scale: Scale
    progress: Progress
    wrk: Wrk
    running: contextlib.ExitStack
    """What is shared by several figures; stopped at the end."""
    _shared: dict[str, Server] = field(default_factory=dict)

    def proxy(self, setup: Setup = Setup()) -> AbstractContextManager[RunningProxy]:  # noqa: B008 - frozen
        """The proxy under test on the server's core: supervisor, control and workers."""
        return start_proxy(setup, f"http://127.0.0.1:{self.upstream.port}", self.workdir, self.tls, self.cores.server)

    def shared_proxy(self) -> RunningProxy:
        """The proxy as `proxy()` starts it, one for all figures that need no fresh one."""
        found = self._shared.get("proxy")
        if not isinstance(found, RunningProxy):
            found = self._shared["proxy"] = self.running.enter_context(self.proxy())
        return found

    def shared_nginx(self) -> Server:
        """Bare nginx, one for all figures that need no fresh one."""
        if "nginx" not in self._shared:
            self._shared["nginx"] = self.running.enter_context(self.nginx())
        return self._shared["nginx"]

    def person(self, server: RunningProxy) -> AbstractContextManager[Server]:
        """What `wrk` asks without TLS to have the proxy asked by a person with a session."""
        target = f"{server.host}:{server.port}"
        return start_plain_client(self.workdir, target, server.cookie, None, server.authority, self.cores.load)

    def machine(self, server: RunningProxy) -> AbstractContextManager[Server]:
        """The same, asked by an integration with a client certificate."""
        target = f"{MACHINES_HOST}:{server.machines_port}"
        return start_plain_client(self.workdir, target, "", server.certificate, server.authority, self.cores.load)

    def nginx(self) -> AbstractContextManager[Server]:
        """Bare nginx on the server's core."""
        return start_nginx(self.workdir, self.tls, self.upstream, self.cores.server)

    def compare(
        self, sides: Mapping[str, Callable[[], float]], over: str, under: str, label: str, unit: str = "µs"
    ) -> tuple[Summary, Mapping[str, Summary]]:
        """Measure the sides in turn and print them; the summary of `over / under` in each round, and of each side."""
        samples = interleave(
            sides, self.scale.rounds, before=self.announce, after=lambda number, row: self.row(number, row, unit)
        )
        ratio = summarise(paired_ratios(samples[over], samples[under]))
        summaries = {side: summarise(values) for side, values in samples.items()}
        for side, summary in summaries.items():
            self.progress.summary(side, summary, unit)
        self.progress.summary(label, ratio, " " * len(unit))
        return ratio, summaries

    def announce(self, number: int, side: str) -> None:
        """Show which round and side is being measured."""
        self.progress.now(f"round {number}: {side}")

    def row(self, number: int, samples: Mapping[str, float], unit: str) -> None:
        """Print a finished round."""
        values = "   ".join(f"{side} {value:.2f} {unit}" for side, value in samples.items())
        self.progress.line(f"  round {number:>2}   {values}")


def flush_output() -> None:
    """Push out what was printed before a last line that others parse."""
    sys.stdout.flush()
    sys.stderr.flush()
