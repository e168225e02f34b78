"""`kill -9` under load, again and again: nothing worse than a denial, and soon not even that."""

import os
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from tests.load.crowd import Crowd
from tests.load.evidence import Evidence
from tests.load.stage import Stage, gone, show

PROMISE = 3.0
"""Seconds until the service is back: the one time that is promised, hence the one that a test may look at.
Time in which a process that had to begin anew waited for a core is not counted, so that a busy machine fails nothing."""
FRESH = 8
"""Connections that have to be served until the service counts as back: enough to reach every worker's socket."""


class Kill(NamedTuple):
    """What one cost."""

    back: float
    """Seconds until the service was back."""
    starved: float
    """Seconds of these in which whoever had to do something for it was runnable and got no core."""


CHAIN = {"worker": ("worker",), "control": ("control",), "supervisor": ("supervisor", "control")}
"""Who has to begin anew, one after the other, until the service is back."""


def waits(stage: Stage) -> dict[str, dict[int, float]]:
    """Seconds that the processes of each kind, and this one, have waited for a core so far."""
    assert stage.proxy is not None
    kinds = {"test": [os.getpid()], "supervisor": [stage.proxy.pid]}
    kinds |= {kind: [process.pid for process in stage.children(kind)] for kind in ("control", "worker")}
    return {kind: {pid: waited(pid) for pid in pids} for kind, pids in kinds.items()}


def waited(pid: int) -> float:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


async def killed(stage: Stage, kind: str) -> Kill:
    """Kill it, and wait for the service. A supervisor is started again, as an init system would."""
    before = waits(stage)
    left = stage.kill(kind)
    if kind == "supervisor":
        stage.launch()
    seconds = await stage.back(FRESH)
    after = waits(stage)
    starved = sum(
        max((so_far - before[each].get(pid, 0.0) for pid, so_far in after[each].items()), default=0.0)
        for each in ("test", *CHAIN[kind])
    )
    await gone(left)
    return Kill(seconds, starved)


def told(kind: str, kills: list[Kill]) -> str:
    back = [each.back for each in kills]
    starved = [each.starved for each in kills]
    return (
        f"{kind} killed {len(kills)} times: back after {median(back):.2f} s (median), {max(back):.2f} s (longest), "
        f"of which without a core {median(starved):.2f} s (median), {max(starved):.2f} s (longest)"
    )


async def scene(folder: Path, workers: int, kinds: tuple[str, ...], times: int) -> str:
    """Kill each kind so many times under load; gives the figures."""
    kills: dict[str, list[Kill]] = {kind: [] for kind in kinds}
    async with Stage(folder, workers=workers, crowd=[f"person-{number}" for number in range(250)]) as stage:
        async with Crowd(stage, askers=stage.people[:200], talkers=stage.people[200:]) as crowd:
            await crowd.everybody()
            for kind in kinds:
                for _ in range(times):
                    kills[kind].append(await killed(stage, kind))
                    await crowd.everybody()
            assert crowd.tally.leaks == []
            assert crowd.tally.wrong == []
        await crowd.everyone_is_known()
        await stage.stop()
        evidence = Evidence(stage.log, stage.diary)
        evidence.check(crowd.tally.ids)
    lines = [told(kind, each) for kind, each in kills.items()]
    late = [(kind, each) for kind, of_kind in kills.items() for each in of_kind if each.back - each.starved > PROMISE]
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


@pytest.mark.case("ZT-NET-03")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.long)])
async def test_a_killed_worker_control_or_supervisor_loses_nothing_and_shows_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    show(capsys, await scene(tmp_path, 2, ("worker", "control", "supervisor"), times))
