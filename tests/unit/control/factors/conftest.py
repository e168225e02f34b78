from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.lab.factors import FactorWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[FactorWorld]:
    world = await FactorWorld(tmp_path).open()
    yield world
    await world.factors.close()
