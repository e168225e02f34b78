"""Faults while bytes flow both ways: in uploads, in WebSockets, when the lease ends, and when a clock is set."""

import asyncio
import ssl
from contextlib import suppress

import pytest

from tests.faults.injection import RAISING, TUNNEL, UPLOADING, Steady, steady
from tests.lab.proxy import ProxyLab
from tests.lab.waiting import until
from tests.lab.ws import TEXT, EchoPlatform, Frame, frame, handshake, open_websocket, read_frame
from zt_proxy.core.clock import ManualClock
from zt_proxy.worker.settings import UpstreamSettings

SOME = list(RAISING.values())[:3]


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("seam", UPLOADING)
async def test_a_fault_in_an_upload_ends_it_or_leaves_it_right(seam: str, cold: bool) -> None:
    async with steady() as proxy:
        for fault in SOME:
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask(body=b"x" * 100_000, cold=cold)
            if met and answer.status == 200:  # the fault came behind the last byte
                assert len(proxy.lab.upstream.seen[-1].body) == 100_000
            await proxy.stands(answer)


@pytest.mark.parametrize("seam", TUNNEL)
async def test_a_fault_in_a_websocket_ends_both_sides(seam: str) -> None:
    async with ProxyLab(upstream=EchoPlatform()) as lab:
        proxy = Steady(lab)
        cookie = await lab.sign_in()
        for fault in SOME:
            with proxy.fault(seam, fault) as met:
                client = await lab.connect()
                with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                    await client.write(handshake(cookie))
                    reply = await client.reply()
                    assert reply.status in {101, 500, 502}
                    await client.write(frame(TEXT, b"hello"))
                    await client.ended()
                await client.close()
            assert met
            await until(lambda: lab.upstream.ended == lab.upstream.connections)  # type: ignore[attr-defined]
            await proxy.rest()
        good = await open_websocket(lab, cookie)
        await good.write(frame(TEXT, b"hello"))
        assert await read_frame(good.reader) == Frame(TEXT, b"hello")
        await good.close()


async def test_when_the_lease_ends_streams_are_cut_and_when_it_is_back_requests_go_through() -> None:
    upstream = UpstreamSettings("http", "127.0.0.1", 0)
    async with steady(route={"upstream": upstream}) as proxy:
        proxy.lab.upstream.hold = asyncio.Event()
        client, answer = await proxy.start()
        await proxy.lab.upstream.arrived(2)
        with proxy.fault("lease of the link", lambda *_: False):
            await proxy.outcome(client, answer)
            assert answer.status in {0, 503}, "cut"
            denied = await proxy.ask()
            assert (denied.status, denied.reason) == (503, "control-unavailable")
        proxy.lab.upstream.hold.set()
        await proxy.stands(denied)


async def test_without_a_key_to_sign_with_nothing_goes_upstream() -> None:
    async with steady() as proxy:
        signer = proxy.worker.signer
        key, signer._signer = signer._signer, None
        signer._cache.clear()
        answer = await proxy.ask(cold=True)
        assert (answer.status, answer.reason) == (503, "control-unavailable")
        assert len(proxy.lab.upstream.seen) == 1
        signer._signer = key
        await proxy.stands(answer, closed=False)


class JumpingClock(ManualClock):
    """A machine whose wall clock is set; its monotonic one goes on."""

    def jump(self, seconds: float) -> None:
        self._now += seconds


@pytest.mark.parametrize("seconds", [3600.0, 86_400.0, 10 * 365 * 86_400.0])
async def test_a_clock_that_jumps_ahead_lets_nobody_in_who_would_be_out_by_then(seconds: float) -> None:
    clock = JumpingClock()
    async with steady(clock=clock) as proxy:
        clock.jump(seconds)
        answer = await proxy.ask()
        assert answer.status == 401, answer
        clock.jump(-seconds)
        again = await proxy.ask()
        assert again.status in {200, 401}, "an ended session may stay ended"
        proxy.cookie = await proxy.lab.sign_in()
        await proxy.stands(answer)


@pytest.mark.parametrize("seconds", [45.0, 3600.0, 86_400.0])
async def test_a_clock_that_is_set_back_keeps_people_in_and_makes_no_session_longer(seconds: float) -> None:
    clock = JumpingClock()
    async with steady(clock=clock) as proxy:
        assert (await proxy.ask()).status == 200
        clock.jump(-seconds)
        answer = await proxy.ask()
        assert answer.status == 200
        control = proxy.lab.proxy.control
        assert control is not None
        record = await control.sessions.record(proxy.lab.sid)
        assert record is not None
        assert record.absolute_deadline == record.created + 43_200.0
        clock.jump(seconds)
        await proxy.stands(answer)
        clock.jump(43_200.0 + 1)
        assert (await proxy.ask()).status == 401
        proxy.cookie = await proxy.lab.sign_in()


async def test_a_request_that_waits_for_control_when_the_proxy_ends_is_on_record() -> None:
    async with steady() as proxy:
        go = asyncio.Event()

        async def held(*_: object) -> None:
            await go.wait()

        with proxy.fault("link", held) as met:
            client, answer = await proxy.start(cold=True)
            await until(lambda: bool(met))
            stopping = asyncio.ensure_future(proxy.lab.stop())
            await proxy.outcome(client, answer)
            go.set()
            await stopping
        assert answer.status in {0, 503}
