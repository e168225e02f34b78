"""`kill -9` under load, again and again: nothing worse than a denial, and soon not even that."""

from pathlib import Path

import pytest

from tests.load.crowd import Crowd
from tests.load.evidence import Evidence
from tests.load.stage import Stage, gone, show

PROMISE = 3.0
"""Seconds until the service is back: the one time that is promised, hence the one that a test may look at."""
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


async def scene(folder: Path, workers: int, kinds: tuple[str, ...], times: int) -> str:
    """Kill each kind so many times under load; gives the figures."""
    lines = []
    async with Stage(folder, workers=workers, crowd=[f"person-{number}" for number in range(250)]) as stage:
        async with Crowd(stage, askers=stage.people[:200], talkers=stage.people[200:]) as crowd:
            await crowd.everybody()
            for kind in kinds:
                took = []
                for _ in range(times):
                    took.append(await killed(stage, kind))
                    await crowd.everybody()
                middle = sorted(took)[len(took) // 2]
                lines.append(
                    f"{kind} killed {times} times: back after {middle:.2f} s (median), {max(took):.2f} s (longest)"
                )
                assert max(took) <= PROMISE, lines
            assert crowd.tally.leaks == []
            assert crowd.tally.wrong == []
        await crowd.everyone_is_known()
        await stage.stop()
        evidence = Evidence(stage.log, stage.diary)
        evidence.check(crowd.tally.ids)
    return "\n".join(
        [*lines, crowd.tally.figures(), f"{len(evidence.diary)} requests reached the platform, all on record"]
    )


@pytest.mark.timeout(200)
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
