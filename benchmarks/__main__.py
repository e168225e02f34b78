"""`python -m benchmarks`: measure, print, judge."""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import FULL, QUICK, Bench, Cores, Progress, Scale, flush_output
from benchmarks.errors import BenchmarkError
from benchmarks.figures import FIGURES, QUICK_FIGURES
from benchmarks.measure import Wrk
from benchmarks.rounds import Outcome
from benchmarks.servers import make_certificates, start_upstream

_EPILOG = """
examples:
  python -m benchmarks                          every figure, about ten minutes
  python -m benchmarks --quick                  the first four figures within a minute, with wider spreads
  python -m benchmarks --only request           what one request costs, beside nginx
  python -m benchmarks --only request --only routes --rounds 11

The last line printed is one JSON object; a figure that was not asked for is null in it.
exit codes: 0 every gate kept, 1 a gate missed (named above the JSON line), 2 nothing believable was measured
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exits with 2 on a mistake, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Cost of the proxy beside bare nginx: CPU time, bytes per CPU-second and memory, with gates.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer and shorter rounds, and the first four figures unless others are named: a minute instead of ten",
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds of every figure (idle included)")
    parser.add_argument(
        "--only", action="append", choices=list(FIGURES), metavar="NAME", help=f"of {', '.join(FIGURES)}"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one round is needed")
    return number


def scale_of(options: argparse.Namespace) -> Scale:
    """How much to measure for these options."""
    scale = QUICK if options.quick else FULL
    if options.rounds:
        scale = dataclasses.replace(scale, rounds=options.rounds, idle_rounds=options.rounds)
    return scale


def names_of(options: argparse.Namespace) -> list[str]:
    """The figures to measure: those named, or all of them, or the quick ones."""
    wanted = options.only or (QUICK_FIGURES if options.quick else FIGURES)
    return [name for name in FIGURES if name in wanted]


def result_line(outcomes: Sequence[Outcome]) -> str:
    """The JSON object of a run: each gate's key with its value or null, the details, and the keys of missed gates."""
    values: dict[str, object] = {figure.gate.key: None for figure in FIGURES.values()}
    for outcome in outcomes:
        values[outcome.gate.key] = round(outcome.value, 3)
        values |= {key: round(value, 2) for key, value in outcome.details.items()}
    values["missed"] = [outcome.gate.key for outcome in outcomes if not outcome.passed]
    return json.dumps(values)


def describe_machine(cores: Cores) -> str:
    """One line that says where figures were taken."""
    nginx = (
        subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip().rpartition("/")[2]
    )
    load = os.getloadavg()[0]
    # A Python built without profile-guided optimisation was seen to spend 1.3 to 1.6 times the CPU time.
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    build = "optimised build" if optimised else "not an optimised build"
    return (
        f"Python {platform.python_version()} ({build}), nginx {nginx}, Linux {platform.release()}; "
        f"server on core {cores.server}, load and upstream on core {cores.load}; load average {load:.2f}"
    )


def machine_ticks() -> tuple[int, int]:
    """Clock ticks of all cores since the start, and how many of them a hypervisor gave to others (proc(5))."""
    fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[7]


def require_tools() -> None:
    """`BenchmarkError` that names the package of a missing tool."""
    for tool, package in (("nginx", "nginx"), ("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            raise BenchmarkError(f"{tool} is missing: apt-get install {package}")


def run(names: Sequence[str], scale: Scale) -> list[Outcome]:
    """Measure the named figures in a temporary folder and stop everything that was started."""
    require_tools()
    progress, cores = Progress(), Cores.available()
    progress.line(describe_machine(cores))
    ticks, stolen = machine_ticks()
    with tempfile.TemporaryDirectory(prefix="zt-bench-") as folder:
        workdir = Path(folder)
        with start_upstream(workdir, cores.load) as upstream, contextlib.ExitStack() as running:
            wrk = Wrk(workdir, cores.load, upstream)
            bench = Bench(workdir, make_certificates(workdir), upstream, cores, scale, progress, wrk, running)
            try:
                outcomes = [FIGURES[name].measure(bench) for name in names]
            finally:
                progress.now("")
    ticks_after, stolen_after = machine_ticks()
    share = (stolen_after - stolen) / max(1, ticks_after - ticks)
    progress.line(
        f"\nThe hypervisor kept {share:.1%} of the machine's time for others; above a few percent, repeat the run."
    )
    return outcomes


def main(arguments: Sequence[str]) -> int:
    """Run the command line; gives the exit code."""
    options = parse_arguments(arguments)
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # nginx's home, not on everybody's path
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped then too
    try:
        outcomes = run(names_of(options), scale_of(options))
    except BenchmarkError as error:
        flush_output()
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 2
    print("")
    for outcome in outcomes:
        print(outcome.gate.verdict(outcome.value))
    print(result_line(outcomes), flush=True)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
