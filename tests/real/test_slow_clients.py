"""slowhttptest against the proxy, and thousands of connections that say nothing: honest people notice none of it."""

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from tests.lab.proxy import APP, TRUSTING, Client, ProxyLab, allow, lab_route
from tests.lab.upstream import OK, Seen
from tests.lab.waiting import until
from tests.real.fixtures import missing
from zt_proxy.config.build import Built
from zt_proxy.core.descriptors import raise_limit

CONNECTIONS = 300
SECONDS = 2
HALF_OPEN = 4000
BIG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1024 * 1024) + bytes(1024 * 1024)
HONEST = "127.0.0.2"
"""Honest people come from another address than the attackers."""

pytestmark = [pytest.mark.real]


def answer(request: Seen) -> bytes:
    return BIG if request.target == b"/big" else OK


class Exposed(ProxyLab):
    """A proxy on a port that is known beforehand: slowhttptest writes it into Host."""

    def _built(self) -> Built:
        built = super()._built()
        listeners = tuple(msgspec.structs.replace(one, port=self.port) for one in built.worker.listeners)
        return msgspec.structs.replace(built, worker=msgspec.structs.replace(built.worker, listeners=listeners))


@asynccontextmanager
async def exposed(public: bool) -> AsyncIterator[Exposed]:
    """A proxy whose attackers reach the platform (`public`), or get no further than the sign-in."""
    raise_limit()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    attacked = lab_route("attacked", f"127.0.0.1:{port}", (allow("anyone", public=public),))
    routes = (attacked, lab_route("app", APP, (allow(),)))
    lab = Exposed(routes=routes, certificates=(("127.0.0.1", APP, "auth.test"),), port=port)
    lab.upstream.answer = answer
    async with lab:
        yield lab


async def honest(lab: ProxyLab, cookie: bytes) -> bool:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", lab.port, ssl=TRUSTING, server_hostname=APP, local_addr=(HONEST, 0)
    )
    client = Client(reader, writer)
    with suppress(ConnectionError, ssl.SSLError):
        await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie)
    try:
        return (await client.reply()).status == 200
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        return False
    finally:
        await client.close()


async def honest_meanwhile(lab: ProxyLab, cookie: bytes, over: "asyncio.Future[object]") -> list[bool]:
    """Honest requests, some at a time, until `over`."""
    succeeded: list[bool] = []
    while not over.done():
        succeeded += await asyncio.gather(*(honest(lab, cookie) for _ in range(5)))
    return succeeded


MODES = {
    "headers": ("-H", "-i", "1", "-x", "24", "-u", "https://127.0.0.1:{port}/"),
    "body": ("-B", "-i", "1", "-s", "8192", "-x", "10", "-t", "POST", "-u", "https://127.0.0.1:{port}/form"),
    "read": ("-X", "-k", "3", "-n", "1", "-w", "1", "-y", "2", "-z", "32", "-u", "https://127.0.0.1:{port}/big"),
}


@pytest.mark.case("ZT-DOS-06")
@pytest.mark.case("ZT-DOS-07")
@pytest.mark.parametrize(("mode", "public"), [("headers", False), ("body", False), ("body", True), ("read", True)])
async def test_slowhttptest_keeps_no_honest_request_from_its_answer(mode: str, public: bool) -> None:
    program = shutil.which("slowhttptest")
    if program is None:
        missing("slowhttptest is not installed; tests/real/install-debian.sh installs it")
    async with exposed(public) as lab:
        cookie = await lab.sign_in()
        assert await honest(lab, cookie)
        arguments = [word.format(port=lab.port) for word in MODES[mode]]
        common = ["-c", str(CONNECTIONS), "-r", "200", "-l", str(SECONDS), "-p", "3", "-v", "0"]
        attack = await asyncio.create_subprocess_exec(
            str(program), *common, *arguments, stdout=asyncio.subprocess.DEVNULL, stdin=asyncio.subprocess.DEVNULL
        )
        over = asyncio.ensure_future(attack.wait())
        succeeded = await honest_meanwhile(lab, cookie, over)
        assert all(succeeded)
        assert len(succeeded) >= 10
        assert lab.proxy.worker is not None
        assert sum(lab.proxy.worker.metrics._handshakes.values()) - len(succeeded) > CONNECTIONS // 2, "it did attack"


@pytest.mark.case("ZT-DOS-08")
async def test_thousands_of_half_open_connections_keep_no_honest_request_from_its_answer() -> None:
    async with exposed(False) as lab:
        cookie = await lab.sign_in()
        assert lab.proxy.worker is not None
        listener = lab.proxy.worker.listeners[0]
        crowd: list[socket.socket] = []
        try:
            for number in range(HALF_OPEN):
                one = socket.socket()
                one.setblocking(False)
                one.bind((f"127.0.1.{number % 8 + 1}", 0))
                one.connect_ex(("127.0.0.1", lab.port))
                crowd.append(one)
                if number % 200 == 0:
                    assert await honest(lab, cookie)
            await until(lambda: len(listener.connections) >= HALF_OPEN)
            for _ in range(20):
                assert await honest(lab, cookie)
        finally:
            for one in crowd:
                one.close()
        await until(lambda: not listener.connections)
        assert await honest(lab, cookie)
