"""Platforms that hang up at once, take no more connections, or cannot be reached for want of descriptors."""

import asyncio
import errno
import socket
import struct

import pytest

from tests.faults.injection import Answer, Steady, raising, steady
from tests.lab.upstream import RecordingUpstream
from tests.lab.waiting import until
from zt_proxy.core.clock import ManualClock
from zt_proxy.worker.settings import UpstreamSettings
from zt_proxy.worker.upstream import pool


class Moody(RecordingUpstream):
    """Resets connections as soon as they are accepted, while it is in that mood."""

    resetting = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.resetting:
            await super()._serve(reader, writer)
            return
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def test_a_platform_that_resets_every_connection_leaves_no_connection_counted() -> None:
    platform = Moody()
    async with steady(upstream=platform) as proxy:
        platform.resetting = True
        await drop_idle(proxy)
        answers = await asyncio.gather(*(proxy.ask() for _ in range(60)))
        for answer in answers:
            assert answer.status in {502, 504}, answer
        await until(lambda: not any(one.open for one in proxy.pools))
        platform.resetting = False
        await proxy.stands(answers[-1], closed=False)


async def drop_idle(proxy: Steady) -> None:
    for one in proxy.pools:
        for connection in list(one._idle):
            connection.discard()
    await proxy.rest()


async def test_who_waits_too_long_for_a_connection_is_told_and_the_next_in_line_is_served() -> None:
    clock = ManualClock()
    upstream = UpstreamSettings("http", "127.0.0.1", 0, max_connections=2, connect_timeout=5.0)
    async with steady(clock=clock, route={"upstream": upstream}) as proxy:
        proxy.lab.upstream.hold = asyncio.Event()
        held = [await proxy.start() for _ in range(2)]
        await proxy.lab.upstream.arrived(3)
        (used,) = proxy.worker._pools.values()
        late = [await proxy.start() for _ in range(3)]
        await until(lambda: len(used._waiting) == 3)
        await proxy.lab.advance(6)
        for client, answer in late:
            await proxy.outcome(client, answer)
            assert (answer.status, answer.reason) == (503, "upstream-busy")
            assert answer.reply is not None
            assert answer.reply.header("retry-after")
        patient = await proxy.start()
        await until(lambda: len(used._waiting) == 1)
        proxy.lab.upstream.hold.set()
        for client, answer in (*held, patient):
            assert (await proxy.outcome(client, answer)).status == 200
        await proxy.stands(patient[1])


async def test_no_more_wait_for_a_connection_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WAITING", 3)
    upstream = UpstreamSettings("http", "127.0.0.1", 0, max_connections=1)
    async with steady(route={"upstream": upstream}) as proxy:
        proxy.lab.upstream.hold = asyncio.Event()
        (used,) = proxy.worker._pools.values()
        held = [await proxy.start()]
        await proxy.lab.upstream.arrived(2)
        for count in range(1, 4):
            held.append(await proxy.start())
            await until(lambda count=count: len(used._waiting) == count)
        refused = await proxy.ask()
        assert (refused.status, refused.reason) == (503, "upstream-busy")
        gone, left = held.pop(1)
        await gone.close()
        await until(lambda: len(used._waiting) == 2)
        proxy.lab.upstream.hold.set()
        for client, answer in held:
            assert (await proxy.outcome(client, answer)).status == 200
        await proxy.stands(left)


async def test_one_who_waits_and_cannot_begin_does_not_take_the_answer_of_another_with_him() -> None:
    upstream = UpstreamSettings("http", "127.0.0.1", 0, max_connections=1)
    async with steady(route={"upstream": upstream}) as proxy:
        proxy.lab.upstream.hold = asyncio.Event()
        (used,) = proxy.worker._pools.values()
        first = await proxy.start()
        await proxy.lab.upstream.arrived(2)
        second = await proxy.start()
        await until(lambda: len(used._waiting) == 1)
        with proxy.fault("connection is ready", raising(RuntimeError)):
            proxy.lab.upstream.hold.set()
            assert (await proxy.outcome(*first)).status == 200
            assert (await proxy.outcome(*second)).status == 500
        await proxy.stands(second[1])


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
async def test_a_machine_without_descriptors_answers_503_and_not_that_the_platform_is_away(error: int) -> None:
    async with steady() as proxy:
        await drop_idle(proxy)
        with proxy.fault("dial", raising(OSError, error, "none left")):
            answer: Answer = await proxy.ask()
        assert (answer.status, answer.reason) == (503, "upstream-busy")
        await proxy.stands(answer, closed=False)


def slow_upload(proxy: Steady, size: int = 1000) -> bytes:
    return (
        b"POST /slow HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\nOrigin: https://app.test\r\nContent-Length: %d\r\n\r\n"
        % (proxy.cookie, size)
    )


@pytest.mark.case("ZT-DOS-07")
async def test_bodies_that_trickle_leave_connections_for_requests_that_are_complete() -> None:
    clock = ManualClock()
    upstream = UpstreamSettings("http", "127.0.0.1", 0, max_connections=4, connect_timeout=5.0)
    async with steady(clock=clock, route={"upstream": upstream}) as proxy:
        (used,) = proxy.worker._pools.values()
        trickling = [await proxy.lab.connect() for _ in range(10)]
        for client in trickling:
            await client.write(slow_upload(proxy) + b"x")
        await until(lambda: len(used._uploads) == 7 and used.open == 3)
        answers = [await proxy.ask() for _ in range(3)]
        whole = await proxy.ask(body=b"y" * 50_000)
        assert [answer.status for answer in (*answers, whole)] == [200] * 4, "also an upload that is complete"
        await trickling[-1].write(b"x" * 999)
        assert (await trickling[-1].reply()).status == 200, "one that is complete in the end goes at once"
        await proxy.lab.advance(6)
        late = [await client.reply() for client in trickling[3:9]]
        assert {(reply.status, reply.problem["reason"]) for reply in late} == {(503, "upstream-busy")}
        for client in trickling[:3]:
            await client.write(b"x" * 999)
            assert (await client.reply()).status == 200
        for client in trickling:
            await client.close()
        await proxy.stands(answers[-1])


async def test_an_upload_gets_its_turn_when_the_crowd_is_gone() -> None:
    upstream = UpstreamSettings("http", "127.0.0.1", 0, max_connections=4)
    async with steady(route={"upstream": upstream}) as proxy:
        proxy.lab.upstream.hold = asyncio.Event()
        (used,) = proxy.worker._pools.values()
        held = [await proxy.start() for _ in range(3)]
        await proxy.lab.upstream.arrived(4)
        client = await proxy.lab.connect()
        await client.write(slow_upload(proxy, 300_000) + b"x" * 200_000)
        await until(lambda: len(used._uploads) == 1)
        proxy.lab.upstream.hold.set()
        await client.write(b"x" * 100_000)
        assert (await client.reply()).status == 200
        assert len(proxy.lab.upstream.seen[-1].body) == 300_000
        await client.close()
        for one, answer in held:
            assert (await proxy.outcome(one, answer)).status == 200
        await proxy.stands(held[0][1])
