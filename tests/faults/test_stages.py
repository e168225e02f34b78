"""Every stage of a request fails, in every way that code can: a denial or the right answer, and nothing is left."""

import asyncio

import pytest

from tests.faults.injection import (
    ACTIVE,
    AFTER,
    ANSWERING,
    BEFORE,
    COLD,
    DIALLING,
    RAISING,
    RECORDING,
    REFUSING,
    SWEEPING,
    steady,
)
from tests.lab.proxy import allow
from tests.lab.upstream import OK
from tests.lab.waiting import until
from zt_proxy.worker.settings import UpstreamSettings

ROUTE = {"idle_timeout": 600.0, "absolute_timeout": 3600.0}


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("seam", BEFORE)
async def test_a_stage_that_fails_before_the_decision_denies(seam: str) -> None:
    async with steady(route=ROUTE) as proxy:
        for name, fault in RAISING.items():
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask()
            assert met
            assert answer.status >= 500, (name, answer)
            assert not any(seen.target.decode() == answer.path for seen in proxy.lab.upstream.seen)
            await proxy.stands(answer, closed=False)


@pytest.mark.parametrize("seam", ACTIVE)
async def test_activity_that_cannot_be_noted_denies(seam: str) -> None:
    async with steady() as proxy:
        for fault in RAISING.values():
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask(body=b"x", cold=True)
            assert met
            assert answer.status >= 500
            await proxy.stands(answer, closed=False)


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("seam", COLD)
async def test_a_fault_on_the_way_to_control_and_back_denies(seam: str) -> None:
    async with steady() as proxy:
        for name, fault in RAISING.items():
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask(cold=True)
            assert met
            assert answer.status >= 500, (name, answer)
            await proxy.stands(answer, closed=False)


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("seam", RECORDING)
async def test_what_cannot_be_put_on_record_is_not_done(seam: str, cold: bool) -> None:
    async with steady() as proxy:
        for name, fault in RAISING.items():
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask(cold=cold)
                proxy.unrecorded.add(answer.path)
            assert met
            assert answer.status in {500, 503}, (name, answer)
            await proxy.stands(answer, closed=False)


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("seam", AFTER)
async def test_a_stage_that_fails_after_the_decision_forwards_nothing_twice(seam: str) -> None:
    async with steady() as proxy:
        for name, fault in RAISING.items():
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask(cold=True)
            assert met
            assert answer.status >= 500, (name, answer)
            await proxy.stands(answer, closed=False)


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("seam", DIALLING)
async def test_a_connection_to_the_platform_that_cannot_be_made_is_a_bad_gateway(seam: str) -> None:
    async with steady() as proxy:
        for name, fault in RAISING.items():
            for pool in proxy.pools:  # none idle: the next request opens one
                for connection in list(pool._idle):
                    connection.discard()
            await proxy.rest()
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask()
            assert met
            assert answer.status >= 500, (name, answer)
            await proxy.stands(answer, closed=False)


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("seam", ANSWERING)
async def test_a_fault_while_the_answer_comes_back_ends_it_or_leaves_it_right(seam: str) -> None:
    async with steady() as proxy:
        for fault in RAISING.values():
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask()
            assert met
            await proxy.stands(answer)


@pytest.mark.parametrize("seam", ANSWERING)
async def test_a_fault_in_an_answer_like_the_one_before_ends_it_or_leaves_it_right(seam: str) -> None:
    async with steady() as proxy:
        proxy.lab.upstream.answer = OK
        for fault in list(RAISING.values())[:2]:
            await proxy.ask()
            with proxy.fault(seam, fault):
                answer = await proxy.ask()
            await proxy.stands(answer)


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("seam", REFUSING)
async def test_a_denial_that_fails_stays_a_denial(seam: str) -> None:
    async with steady() as proxy:
        for name, fault in RAISING.items():
            with proxy.fault(seam, fault) as met:
                answer = await proxy.ask(cookie=None)
                if seam == "record":
                    proxy.unrecorded.add(answer.path)
            assert met
            assert answer.status != 200, (name, answer)
            await proxy.stands(answer)


@pytest.mark.parametrize("seam", SWEEPING)
async def test_a_sweep_that_fails_goes_on_with_the_next(seam: str) -> None:
    upstream = UpstreamSettings("http", "127.0.0.1", 0, idle_timeout=3600.0)
    async with steady(route={"upstream": upstream}, rules=(allow(),), worker={"session_recheck": 0.0}) as proxy:
        for fault in list(RAISING.values())[:3]:
            proxy.lab.upstream.hold = asyncio.Event()
            client, answer = await proxy.start()
            await until(lambda answer=answer: any(x.target.decode() == answer.path for x in proxy.lab.upstream.seen))
            with proxy.fault(seam, fault) as met:
                await until(lambda met=met: len(met) >= 1)
            proxy.lab.upstream.hold.set()
            await proxy.outcome(client, answer)
            await proxy.stands(answer)
