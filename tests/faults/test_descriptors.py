"""More clients than descriptors: who is in stays served, the rest is turned away, and records are still written."""

import asyncio
import json
import resource
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.lab.proxy import Client
from zt_proxy.core import descriptors

LIMIT = 128
SERVER = """
import asyncio, json, logging, os, resource, sys
import uvloop
resource.setrlimit(resource.RLIMIT_NOFILE, (%d, %d))
from tests.lab.proxy import ProxyLab
from tests.lab.waiting import until
from zt_proxy.control.audit.verify import verify
from zt_proxy.core import logs

class Lines:
    said = 0
    def write(self, text):
        self.said += text.count("too few descriptors")
    def flush(self): pass

async def main():
    lines = Lines()
    logs.configure("json", "info", lines)
    async with ProxyLab() as lab:
        lab.proxy.control.audit._chain._rotate_bytes = 1   # every turn of the writer opens a file
        cookie = await lab.sign_in()
        listener = lab.proxy.worker.listeners[0]
        print(json.dumps({"port": lab.port, "cookie": cookie.decode()}), flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            tick, start, busy = listener.tick, loop.time(), sum(os.times()[:2])
            await until(lambda: listener.tick >= tick + 0.6)
            share = (sum(os.times()[:2]) - busy) / (loop.time() - start)
            print(json.dumps({"files": len(os.listdir("/proc/self/fd")), "refused": listener.refused, "busy": share,
                              "connections": len(listener.connections), "said": lines.said,
                              "problem": lab.proxy.control.problem()}), flush=True)
        records = await lab.log()
        report = verify([lab.directory / "audit"])
        print(json.dumps({"decisions": [r["path"] for r in records if r["type"] == "decision"], "ok": report.ok}))

uvloop.run(main())
"""


class Server:
    """A proxy in a process of its own that may open few descriptors."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        told = self._line()
        self.port: int = told["port"]
        self.cookie: str = told["cookie"]

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server ended"
        value: dict[str, Any] = json.loads(line)
        return value

    def state(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._line()

    def end(self) -> dict[str, Any]:
        """Stop it; gives what is on record."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self._line()

    async def connect(self) -> Client:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="app.test"))

    async def get(self, client: Client, path: str) -> int:
        head = f"GET {path} HTTP/1.1\r\nHost: app.test\r\nCookie: {self.cookie}\r\n\r\n"
        await client.write(head.encode())
        return (await client.reply()).status


@asynccontextmanager
async def few_descriptors() -> AsyncIterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER % (LIMIT, LIMIT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            yield await asyncio.to_thread(Server, process)
        finally:
            process.kill()


async def test_at_the_limit_of_descriptors_nothing_spins_nothing_stops_and_records_are_written() -> None:
    async with few_descriptors() as server:
        inside = await server.connect()
        assert await server.get(inside, "/before") == 200
        crowd = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2 * LIMIT)]
        state = await asyncio.to_thread(server.state)
        assert state["refused"] >= 2 * LIMIT - descriptors.for_clients(LIMIT)
        assert state["files"] <= descriptors.for_clients(LIMIT) + 8, "the reserve is free"
        assert state["busy"] < 0.5
        assert state["problem"] == ""
        assert 1 <= state["said"] <= 3, "the log says so, and not for each"
        assert await server.get(inside, "/during") == 200
        for _, writer in crowd:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()
        while (await asyncio.to_thread(server.state))["connections"] > 1:
            pass
        outside = await server.connect()
        assert await server.get(outside, "/after") == 200
        for client in (inside, outside):
            await client.close()
        told = await asyncio.to_thread(server.end)
        assert told == {"decisions": ["/before", "/during", "/after"], "ok": True}


def test_the_soft_limit_is_raised_to_the_hard_one_and_a_reserve_is_kept() -> None:
    code = (
        "import resource; from zt_proxy.core import descriptors as d\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))\n"
        "print(d.limit(), d.raise_limit(), d.limit(), d.for_clients())"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    assert told.stdout.split() == ["64", "256", "256", "192"]
    assert descriptors.for_clients(20_000) == 20_000 - descriptors.RESERVE
    assert descriptors.limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
