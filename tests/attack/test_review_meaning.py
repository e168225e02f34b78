"""What somebody tries through the whole proxy who wants more than a rule gives, or more than a worker has."""

import asyncio
import json
import sys
from typing import Any

import pytest

from tests.integration.test_meaning import PLATFORM, may, socket
from tests.lab.masks import mask
from tests.lab.proxy import ProxyLab
from tests.lab.ws import TEXT, Frame, close_code, frame, header, lab_with_echo, read_frame, remaining_frames
from zt_proxy.policy.spec import Limit
from zt_proxy.worker.gateway import messages
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.wire.head import NOTHING_NOTED, RequestHead

LOOK, RUN = b'{"do": "look"}', b'{"do": "run"}'


async def test_a_message_has_what_its_rule_obliges_to_or_does_not_go_on() -> None:
    """The upgrade is let through by a rule that masks nothing, the message by one that does."""
    rules = (may("staff", "view"), may("makers", "build", masks=("secret",)))
    masks = (mask("$..iban", name="secret", named_only=True),)
    async with lab_with_echo(rules=rules, route={"profile": PLATFORM, "masks": masks}) as proxy:
        client = await socket(proxy, await proxy.sign_in("mia", ("staff",)))
        await client.write(frame(TEXT, LOOK))
        assert await read_frame(client.reader) == Frame(TEXT, LOOK)
        await client.write(frame(TEXT, RUN))
        assert close_code((await remaining_frames(client.reader))[-1]) == 4403
        last = (await proxy.decisions())[-1]
    assert (last["effect"], last["reason"], last["action"]) == ("deny", "answer-not-inspectable", "build")


async def test_a_message_counts_against_the_limit_of_its_rule() -> None:
    rules = (may("viewers", "view"), may("makers", "build", limit=Limit(requests=2, per=3600)))
    async with lab_with_echo(rules=rules, route={"profile": PLATFORM}) as proxy:
        client = await socket(proxy, await proxy.sign_in("mia", ("staff", "makers")))
        for _ in range(2):
            await client.write(frame(TEXT, RUN))
            assert await read_frame(client.reader) == Frame(TEXT, RUN)
        await client.write(frame(TEXT, RUN))
        assert close_code((await remaining_frames(client.reader))[-1]) == 4403
        last = (await proxy.decisions())[-1]
    assert (last["effect"], last["reason"]) == ("deny", "limit-reached")


async def test_no_message_that_is_read_may_be_as_long_as_one_that_is_not() -> None:
    """64 MiB of one message would be held, unmasked and parsed at once, and nobody else have a turn."""
    async with lab_with_echo(rules=(may("staff", "view"),), route={"profile": PLATFORM}) as proxy:
        client = await socket(proxy, await proxy.sign_in("mia", ("staff",)))
        await client.write(header(TEXT, 32 * 1024 * 1024))
        assert close_code((await remaining_frames(client.reader))[-1]) == 1009


async def test_answers_that_are_on_their_way_count_against_a_limit_of_bytes() -> None:
    """Whoever asks for everything at once gets no more than who asks one after another, within a few answers."""
    big = json.dumps({"rows": "x" * 5000}).encode()
    limit = Limit(bytes=10_000, per=3600)
    async with ProxyLab(rules=(may("staff", "use", limit=limit),), route={"profile": PLATFORM}) as proxy:
        proxy.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(big), big,
        )  # fmt: skip
        cookie = await proxy.sign_in()
        replies = await asyncio.gather(*(proxy.get(f"/{number}", cookie) for number in range(60)))
    passed = sum(reply.status == 200 for reply in replies)
    assert passed <= 18
    assert {reply.status for reply in replies} == {200, 429}


class Nowhere:
    """What an exchange reports to, and comes from."""

    peer = "192.0.2.1"

    def pause_reading(self, who: int) -> None:
        raise AssertionError("it was not that much")


def test_a_body_in_the_smallest_pieces_is_not_held_as_so_many_pieces() -> None:
    nowhere: Any = Nowhere()
    x = Exchange(nowhere, nowhere, RequestHead([], NOTHING_NOTED.copy()), b"1", 0.0, 0.0)
    x.waiting = 1
    body = bytes(range(256)) * 128
    for at in range(0, len(body), 2):
        x.body(body[at : at + 2])
    assert b"".join(x.early or ()) == body
    assert sum(map(sys.getsizeof, x.early or ())) < 2 * len(body)


async def test_sockets_that_hold_too_much_between_them_lose_the_one_with_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "HELD", 300_000)
    async with lab_with_echo(rules=(may("staff", "view"),), route={"profile": PLATFORM}) as proxy:
        cookie = await proxy.sign_in("mia", ("staff",))
        small, most, more = [await socket(proxy, cookie) for _ in range(3)]
        await small.write(frame(TEXT, LOOK)[:4])
        await most.write(header(TEXT, 1_000_000) + b"x" * 200_000)
        await more.write(header(TEXT, 1_000_000) + b"x" * 150_000)
        assert close_code((await remaining_frames(most.reader))[-1]) == 1009
        await small.write(frame(TEXT, LOOK)[4:])
        assert await read_frame(small.reader) == Frame(TEXT, LOOK)
