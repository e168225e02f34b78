"""`kill -9` under load, again and again: nothing worse than a denial, and soon not even that."""

import asyncio
import sys
from pathlib import Path
from statistics import median

import pytest

from tests.load.crowd import Crowd
from tests.load.evidence import Evidence
from tests.load.stage import Stage, gone, show

PROMISE = 3.0
"""Seconds until the service is back: the one time that is promised, hence the one that a test may look at."""
QUIET = 0.75
"""Seconds that a bare start takes at most while nobody else wants the machine. When others do, the promise is held to
in proportion: how long the kernel lets a process wait says nothing of the proxy."""
FRESH = 8
"""Connections that have to be served until the service counts as back: enough to reach every worker's socket."""


async def killed(stage: Stage, kind: str) -> float:
    """Kill it; gives the seconds until the service is back. A supervisor is started again, as an init system would."""
    left = stage.kill(kind)
    if kind == "supervisor":
        stage.launch()
    seconds = await stage.back(FRESH)
    await gone(left)
    return seconds


async def bare_start() -> float:
    """Seconds that a process takes now, under the same load, to load what the slowest of ours needs, and nothing more."""
    began = asyncio.get_running_loop().time()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import zt_proxy.processes.control_process")
    assert await process.wait() == 0
    return asyncio.get_running_loop().time() - began


async def scene(folder: Path, workers: int, kinds: tuple[str, ...], times: int) -> str:
    """Kill each kind so many times under load; gives the figures."""
    lines, late = [], []
    async with Stage(folder, workers=workers, crowd=[f"person-{number}" for number in range(250)]) as stage:
        async with Crowd(stage, askers=stage.people[:200], talkers=stage.people[200:]) as crowd:
            await crowd.everybody()
            for kind in kinds:
                took, bare = [], []
                for _ in range(times):
                    bare.append(await bare_start())
                    took.append(await killed(stage, kind))
                    await crowd.everybody()
                lines.append(
                    f"{kind} killed {times} times: back after {median(took):.2f} s (median), {max(took):.2f} s (longest); "
                    f"a bare start took {median(bare):.2f} s to {max(bare):.2f} s"
                )
                if max(took) > PROMISE * max(1.0, max(bare) / QUIET):
                    late.append(lines[-1])
            assert crowd.tally.leaks == []
            assert crowd.tally.wrong == []
        await crowd.everyone_is_known()
        await stage.stop()
        evidence = Evidence(stage.log, stage.diary)
        evidence.check(crowd.tally.ids)
    assert late == [], lines
    return "\n".join(
        [*lines, crowd.tally.figures(), f"{len(evidence.diary)} requests reached the platform, all on record"]
    )


@pytest.mark.timeout(300)
async def test_one_process_killed_and_started_again_loses_nothing_and_shows_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = await scene(tmp_path, 0, ("supervisor",), 3)
    show(capsys, figures)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.long)])
async def test_a_killed_worker_control_or_supervisor_loses_nothing_and_shows_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    show(capsys, await scene(tmp_path, 2, ("worker", "control", "supervisor"), times))
