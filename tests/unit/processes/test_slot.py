"""What a slot does about a process that does not last."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.lab.waiting import until
from zt_proxy.processes import slot
from zt_proxy.processes.slot import Slot


class House:
    """Gives processes that serve, and are over in the same moment."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.changing = asyncio.Lock()
        self.serving = True
        self.drain = 0.0

    def spawn(self, _slot: Slot) -> Any:
        gone, leaving = asyncio.Event(), asyncio.Event()

        async def started_or_gone() -> bool:
            gone.set()
            return True

        return SimpleNamespace(
            gone=gone, leaving=leaving, started_or_gone=started_or_gone, draining=False, problem="", code=1, pid=1
        )

    def announce(self) -> None:
        pass


async def test_what_ends_as_soon_as_it_serves_is_started_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "SHORTEST", 0.001)
    monkeypatch.setattr(slot, "LONGEST", 0.004)
    house: Any = House()

    with capture_logs() as lines:
        keeping = asyncio.create_task(Slot(house, "worker").keep())
        try:
            await until(lambda: len([line for line in lines if "again_in" in line]) >= 4)
        finally:
            house.stopping.set()
            await keeping
    assert [line["again_in"] for line in lines if "again_in" in line][:4] == [0.001, 0.002, 0.004, 0.004]
