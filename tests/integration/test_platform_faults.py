"""Platforms that are slow, away or rude: each gets an answer of its own."""

import asyncio
import socket

from tests.lab.proxy import ProxyLab
from tests.lab.upstream import RecordingUpstream
from zt_proxy.core.clock import ManualClock
from zt_proxy.worker.settings import UpstreamSettings

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n"


async def test_a_platform_that_does_not_begin_to_answer_gets_504_that_says_so() -> None:
    upstream = UpstreamSettings("http", "127.0.0.1", 0, first_byte_timeout=60.0)
    async with ProxyLab(clock=ManualClock(), route={"upstream": upstream}) as lab:
        lab.upstream.hold = asyncio.Event()
        client = await lab.connect()
        await client.write(GET % await lab.sign_in())
        await lab.upstream.arrived(1)
        await lab.advance(61)
        reply = await client.reply()
        assert (reply.status, reply.problem["reason"]) == (504, "upstream-first-byte-timeout")
        lab.upstream.hold.set()
        end = (await lab.log())[-1]
        assert (end["type"], end["status"]) == ("end", 504)


async def test_a_platform_that_refuses_or_does_not_take_connections_is_told_apart() -> None:
    async with RecordingUpstream() as closed:
        port = closed.port
    async with ProxyLab(route={"upstream": UpstreamSettings("http", "127.0.0.1", port)}) as lab:
        reply = await lab.get("/", await lab.sign_in())
        assert (reply.status, reply.problem["reason"]) == (502, "upstream-unreachable")
        for word in (str(port), "127.0.0.1", "refused", "Errno"):
            assert word.encode() not in reply.body, "nothing internal leaks"
    # nobody accepts: the queue of a listening socket of length 0 is full after one connection
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = []
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            fillers.append(filler)
        settings = UpstreamSettings("http", "127.0.0.1", deaf.getsockname()[1], connect_timeout=0.2)
        async with ProxyLab(route={"upstream": settings}) as lab:
            reply = await lab.get("/", await lab.sign_in())
            assert (reply.status, reply.problem["reason"]) == (504, "upstream-connect-timeout")
        for filler in fillers:
            filler.close()


async def test_a_platform_that_hangs_up_without_a_word_gets_502() -> None:
    class Rude(RecordingUpstream):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()

    async with ProxyLab(upstream=Rude()) as lab:
        reply = await lab.get("/", await lab.sign_in())
        assert (reply.status, reply.problem["reason"]) == (502, "upstream-closed")
        assert lab.upstream.connections == 1, "a fresh connection that fails is not tried again"


async def test_a_request_has_a_total_time_if_the_operator_wants_one() -> None:
    async with ProxyLab(clock=ManualClock(), limits={"request_timeout": 20.0}) as lab:
        lab.upstream.hold = asyncio.Event()
        client = await lab.connect()
        await client.write(GET % await lab.sign_in())
        await lab.upstream.arrived(1)
        await lab.advance(21)
        assert (await client.reply()).status == 408
        lab.upstream.hold.set()
