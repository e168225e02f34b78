"""What a worker does when its supervisor goes at an awkward moment."""

import asyncio
import gc
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.lab.waiting import until
from zt_proxy.config import read
from zt_proxy.demo.layout import lay_out, proxy_config
from zt_proxy.processes.leash import Begin, Leash, Prepare, Up, pack
from zt_proxy.processes.leash import Down as DownMessage
from zt_proxy.processes.worker_process import WorkerProcess


class SlowToBuild:
    """A worker whose new world takes as long as the test likes."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self.building = threading.Event()
        self.go_on = threading.Event()
        self.stopped = asyncio.Event()

    async def start(self, _sockets: object) -> None:
        pass

    def prepare(self, _settings: object, _sockets: object) -> Any:
        self.building.set()
        self.go_on.wait(60)
        raise OSError("too late")

    async def stop(self, _drain: float, *, refuse: bool = False) -> None:
        assert refuse
        self.stopped.set()


@pytest.mark.case("ZT-NET-03")
async def test_an_orphan_does_not_serve_on_because_it_builds_a_new_world(tmp_path: Path) -> None:
    layout = lay_out(tmp_path / "state", "builtin", 0, 0)
    layout.config.write_text(proxy_config(layout, "http://127.0.0.1:1880"))
    settings = pack(read(layout.config).worker)
    ours, theirs = socket.socketpair()
    up: Leash[Up] = Leash(ours, Up)
    down: Leash[DownMessage] = Leash(theirs, DownMessage)
    worker: Any = SlowToBuild()
    running = asyncio.create_task(WorkerProcess(down, Begin(settings), worker).run())
    try:
        up.send(Prepare(2, settings))
        await until(worker.building.is_set)
        up.close()
        await asyncio.wait_for(worker.stopped.wait(), 10)
    finally:
        worker.go_on.set()
        await running
        down.close()
        gc.unfreeze()
