"""When a configuration is read again, and what is tried again by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.lab.waiting import until
from zt_proxy.config import read
from zt_proxy.config.build import Built
from zt_proxy.core.clock import ManualClock
from zt_proxy.demo.layout import lay_out, proxy_config
from zt_proxy.processes.reload import AGAIN, Reloader, unchangeable


class Stage:
    """A file, a reloader that looks at it, and what would be put in force."""

    def __init__(self, folder: Path) -> None:
        self.layout = lay_out(folder / "state", "builtin", 0, 0)
        self.path = self.layout.config
        self.text = proxy_config(self.layout, "http://127.0.0.1:1880")
        self.path.write_text(self.text)
        self.clock = ManualClock()
        self.taken: list[tuple[int, Built]] = []
        self.attempts = 0
        self.fault: Exception | None = None
        self.reloader = Reloader(self.path, read(self.path), self.apply, self.clock)

    async def apply(self, built: Built, epoch: int) -> None:
        self.attempts += 1
        if self.fault is not None:
            raise self.fault
        self.taken.append((epoch, built))


@asynccontextmanager
async def looking(folder: Path) -> AsyncIterator[Stage]:
    stage = Stage(folder)
    task = asyncio.create_task(stage.reloader.run())
    try:
        yield stage
    finally:
        task.cancel()


async def test_files_that_stay_as_they_are_are_not_read_again(tmp_path: Path) -> None:
    async with looking(tmp_path) as stage:
        stage.reloader.ask()
        await until(lambda: stage.reloader.epoch == 2)
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(50)))
        assert len(stage.taken) == 1


async def test_a_link_that_is_turned_is_a_change(tmp_path: Path) -> None:
    async with looking(tmp_path) as stage:
        site = stage.path.parent / "site.pem"
        for name in ("one", "two"):
            (tmp_path / name).write_bytes(site.read_bytes())
        fresh = tmp_path / "link"
        fresh.symlink_to(tmp_path / "one")
        fresh.rename(site)
        await until(lambda: stage.reloader.epoch == 2)
        fresh.symlink_to(tmp_path / "two")
        fresh.rename(site)
        await until(lambda: stage.reloader.epoch == 3)


async def test_what_was_in_the_way_is_tried_again_without_a_change(tmp_path: Path) -> None:
    async with looking(tmp_path) as stage:
        stage.fault = OSError(98, "taken")
        stage.reloader.ask()
        await until(lambda: "taken" in stage.reloader.problem)
        stage.fault = None
        stage.clock.advance(AGAIN)
        await until(lambda: stage.reloader.epoch == 2)
        assert stage.reloader.problem == ""
        assert stage.attempts == 2


async def test_a_file_that_was_missing_is_found_when_it_comes(tmp_path: Path) -> None:
    """Only the refused configuration names it: nobody watches it yet."""
    async with looking(tmp_path) as stage:
        site = stage.path.parent / "site.pem"
        assert "site.pem" in stage.text
        stage.path.write_text(stage.text.replace("site.pem", "next.pem"))
        await until(lambda: "next.pem" in stage.reloader.problem)
        fresh = site.with_name("fresh")
        fresh.write_bytes(site.read_bytes())
        fresh.rename(site.with_name("next.pem"))
        stage.clock.advance(AGAIN)
        await until(lambda: stage.reloader.epoch == 2)
        assert stage.reloader.problem == ""


async def test_a_fault_of_the_program_leaves_the_old_configuration_in_force(tmp_path: Path) -> None:
    async with looking(tmp_path) as stage:
        stage.fault = RuntimeError("unforeseen")
        stage.reloader.ask()
        await until(lambda: stage.reloader.problem == "unforeseen")
        assert stage.reloader.epoch == 1


@pytest.mark.parametrize(
    ("name", "workers"),
    [("workers", 0), ("state_dir", 2), ("runtime_dir", 2), ("audit.directory", 2), ("audit.rotate", 2)],
)
def test_what_only_a_restart_can_change_is_named(tmp_path: Path, name: str, workers: int) -> None:
    old = msgspec.structs.replace(Stage(tmp_path).reloader.built, workers=2)
    control = old.control
    changed = {
        "workers": control,
        "state_dir": msgspec.structs.replace(control, state_dir=Path("/x")),
        "runtime_dir": msgspec.structs.replace(control, runtime_dir=Path("/x")),
        "audit.directory": msgspec.structs.replace(
            control, audit=msgspec.structs.replace(control.audit, directory=Path("/x"))
        ),
        "audit.rotate": msgspec.structs.replace(control, audit=msgspec.structs.replace(control.audit, rotate_bytes=1)),
    }[name]
    (fault,) = unchangeable(old, msgspec.structs.replace(old, control=changed, workers=workers))
    assert fault.startswith(f"`{name}` cannot change")
    assert unchangeable(old, old) == []
