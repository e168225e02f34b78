"""Sign-ins at a provider that is slow: so many at once, so many who wait, and everybody else is told to come back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.lab.portal import APP, PORTAL, Browser, PortalLab
from tests.lab.waiting import until
from zt_proxy.control.identity.turns import Turns, WaitingRoom
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.portal import app
from zt_proxy.core.errors import Reason, UnavailableError


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> list[WaitingRoom]:
    """The waiting rooms that the portal opened."""
    opened: list[WaitingRoom] = []

    def open_one(seats: int) -> WaitingRoom:
        opened.append(WaitingRoom(seats))
        return opened[-1]

    monkeypatch.setattr(app, "WaitingRoom", open_one)
    return opened


@pytest.fixture
async def lab(tmp_path: Path, rooms: list[WaitingRoom]) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path, providers=("corp", "partner"), logins_at_once=2, logins_waiting=1) as running:
        yield running


def slow(lab: PortalLab) -> tuple[asyncio.Event, list[object]]:
    """The first provider finishes nothing before the event is set; gives also what it was asked."""
    go, finished = asyncio.Event(), lab.provider.finish
    asked: list[object] = []

    async def finish(**given: object) -> VerifiedLogin:
        asked.append(given)
        await go.wait()
        return await finished(**given)

    lab.provider.finish = finish  # type: ignore[assignment]
    return go, asked


async def at_provider(lab: PortalLab, number: int, name: str = "corp") -> tuple[Browser, str]:
    browser = lab.browser(f"192.0.2.{number}")
    answer = await browser.get(PORTAL, f"/.zt/sign-in?with={name}&to={browser.handoff()}")
    return browser, answer.location.partition("state=")[2].partition("&")[0]


async def test_so_many_are_with_a_provider_at_once_and_the_rest_is_told_to_come_back(
    lab: PortalLab, rooms: list[WaitingRoom]
) -> None:
    go, asked = slow(lab)
    people = [await at_provider(lab, number) for number in range(4)]
    first = [asyncio.ensure_future(browser.back(state)) for browser, state in people[:3]]
    await until(lambda: len(asked) == 2)
    browser, state = people[3]
    await until(lambda: rooms[0].free == 0)
    refused = await browser.back(state)
    assert refused.status == 503
    assert Reason.LOGIN_BUSY in refused.text
    assert refused.headers["Retry-After"]
    assert f"state={state}" in refused.text, "the button asks the same address again"
    assert refused.set_cookies == []
    go.set()
    assert [(await answer).status for answer in first] == [303, 303, 303]
    again = await browser.back(state)
    assert again.status == 303, "the login was kept for its second try"
    await browser.follow(again)
    assert await browser.session(APP) is not None
    assert len(asked) == 4, "and it was sent to the provider once"


async def test_a_provider_that_hangs_keeps_nobody_from_another(lab: PortalLab) -> None:
    go, asked = slow(lab)
    people = [await at_provider(lab, number) for number in range(2)]
    held = [asyncio.ensure_future(browser.back(state)) for browser, state in people]
    await until(lambda: len(asked) == 2)
    browser, state = await at_provider(lab, 9, "partner")
    assert (await browser.back(state)).status == 303
    go.set()
    assert [(await answer).status for answer in held] == [303, 303]


async def test_who_waited_too_long_is_told_to_come_back_and_leaves_the_seat() -> None:
    room = WaitingRoom(1)
    turns = Turns(1, room, patience=0.01)
    async with turns:
        with pytest.raises(UnavailableError) as refused:
            await turns.__aenter__()
        assert refused.value.reason is Reason.LOGIN_BUSY
        assert room.free == 1
    async with turns:
        pass


async def test_who_leaves_while_waiting_keeps_neither_seat_nor_turn() -> None:
    room = WaitingRoom(2)
    turns = Turns(1, room)

    async def one() -> None:
        async with turns:
            pass

    await turns.__aenter__()
    gone, stays = asyncio.ensure_future(one()), asyncio.ensure_future(one())
    await until(lambda: room.free == 0)
    gone.cancel()
    await until(lambda: room.free == 1)
    await turns.__aexit__()
    await stays
    assert room.free == 2
    async with asyncio.timeout(5):
        await one()
