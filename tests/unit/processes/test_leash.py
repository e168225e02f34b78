"""Frames and sockets between the supervisor and a child."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from tests.lab.waiting import descriptors, until
from zt_proxy.processes.leash import (
    LONGEST_UP,
    WAITING_UP,
    Commit,
    Committed,
    Down,
    Drain,
    Failed,
    Leash,
    LeashEnded,
    Lend,
    Prepare,
    Ready,
    Up,
)

KEY = ("web", "127.0.0.1", 0)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Leash[Up], Leash[Down]]]:
    ours, theirs = socket.socketpair()
    ends: tuple[Leash[Up], Leash[Down]] = (Leash(ours, Up), Leash(theirs, Down))
    yield ends
    for end in ends:
        end.close()


async def test_messages_arrive_in_order_and_whole(pair: tuple[Leash[Up], Leash[Down]]) -> None:
    up, down = pair
    large = Prepare(2, bytes(range(256)) * 20_000)  # more than a socket's buffer
    for message in (Commit(1), large, Drain(0.5)):
        up.send(message)
    assert [await down.receive() for _ in range(3)] == [Commit(1), large, Drain(0.5)]
    down.send(Ready({"web": 8443}))
    assert await up.receive() == Ready({"web": 8443})


async def test_sockets_come_with_their_message_also_behind_a_large_one(pair: tuple[Leash[Up], Leash[Down]]) -> None:
    up, down = pair
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [each.getsockname()[1] for each in listening]
    up.send(Lend(0, (KEY,)), listening[:1])
    up.send(Prepare(2, b"x" * 3_000_000, listeners=(KEY, KEY)), listening[1:])
    for each in listening:
        each.close()  # the copies on their way are not the sender's
    await down.receive()
    first = down.sockets(1)
    await down.receive()
    rest = down.sockets(2)
    assert [each.getsockname()[1] for each in (*first, *rest)] == ports
    assert not any(os.get_inheritable(each.fileno()) for each in (*first, *rest)), "no grandchild gets them"
    for each in (*first, *rest):
        each.close()


async def test_the_end_of_one_side_is_the_end_of_the_other(pair: tuple[Leash[Up], Leash[Down]]) -> None:
    up, down = pair
    up.send(Commit(7))
    up.close()
    assert await down.receive() == Commit(7), "what was said before still counts"
    for _ in range(2):
        with pytest.raises(LeashEnded):
            await down.receive()
    down.send(Ready())


async def test_a_child_cannot_fill_the_supervisor(pair: tuple[Leash[Up], Leash[Down]]) -> None:
    before = descriptors()
    with socket.socket() as unasked:
        for sends in (
            lambda child: child.send(Failed("x" * LONGEST_UP)),
            lambda child: child.send(Ready(), [unasked]),
            lambda child: [child.send(Committed(number)) for number in range(2 * WAITING_UP)],
            lambda child: child.send(Commit(1)),
        ):
            ours, theirs = socket.socketpair()
            supervisor: Leash[Up] = Leash(ours, Up)
            child: Leash[Down] = Leash(theirs, Down)
            sends(child)
            while supervisor._open:
                await asyncio.sleep(0)
            child.close()
    assert descriptors() == before


async def test_what_is_no_frame_ends_the_leash() -> None:
    for garbage in (b"\xff\xff\xff\xff", b"\0\0\0\x02hi", b"\0\0\0\x03\x93\x01\x02"):
        raw, end = socket.socketpair()
        leash: Leash[Down] = Leash(end, Down)
        raw.send(garbage)
        with pytest.raises(LeashEnded):
            await leash.receive()
        raw.close()


async def test_nothing_is_left_open(pair: tuple[Leash[Up], Leash[Down]]) -> None:
    before = descriptors()
    ours, theirs = socket.socketpair()
    up: Leash[Up] = Leash(ours, Up)
    down: Leash[Down] = Leash(theirs, Down)
    listening = socket.create_server(("127.0.0.1", 0))
    up.send(Prepare(2, b"x" * 3_000_000, listeners=(KEY,)), [listening])
    up.send(Lend(1, (KEY,)), [listening])
    await asyncio.sleep(0)
    up.close()
    down.close()
    listening.close()
    await until(lambda: descriptors() == before)
