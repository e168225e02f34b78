"""What a request waits for is cancelled, never comes, comes late, or comes when nobody waits any more."""

import asyncio
import pkgutil
from typing import Any

import pytest

from tests.faults.injection import SEAMS, Steady, raising, steady
from tests.lab.waiting import until

WAITS = ("fetch the session", "link", "session manager", "store", "dial")


def held(event: asyncio.Event, seam: Any) -> Any:
    """The stage itself, once the event is set."""

    async def fault(*args: Any, **more: Any) -> Any:
        await event.wait()
        return await seam(*args, **more)

    return fault


async def lend_nothing(proxy: Steady) -> None:
    """The next request has to open a connection to the platform."""
    for pool in proxy.pools:
        for connection in list(pool._idle):
            connection.discard()
    await proxy.rest()


@pytest.mark.parametrize("seam", WAITS)
async def test_a_wait_that_is_cancelled_from_within_is_a_denial(seam: str) -> None:
    async with steady() as proxy:
        await lend_nothing(proxy)
        with proxy.fault(seam, raising(asyncio.CancelledError)) as met:
            if seam == "store":
                forget(proxy)
            answer = await proxy.ask(cold=True)
        assert met
        assert answer.status >= 500, answer
        await proxy.stands(answer, closed=False)


def forget(proxy: Steady) -> None:
    """Control has to ask its store."""
    control = proxy.lab.proxy.control
    assert control is not None
    control.sessions._live.clear()
    control.sessions._handles.clear()


@pytest.mark.parametrize("seam", WAITS)
async def test_a_client_that_leaves_during_a_wait_leaves_nothing(seam: str) -> None:

    async with steady() as proxy:
        await lend_nothing(proxy)
        go = asyncio.Event()
        with proxy.fault(seam, held(go, pkgutil.resolve_name(SEAMS[seam].replace(":", ".")))) as met:
            if seam == "store":
                forget(proxy)
            client, answer = await proxy.start(cold=True)
            await until(lambda: len(met) == 1)
            await client.close()
            await until(lambda: not proxy.connections)
            go.set()
            await proxy.rest()
        await proxy.stands(answer)
        assert not [seen for seen in proxy.lab.upstream.seen if seen.target.decode() == answer.path]
