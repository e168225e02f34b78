"""What somebody tries through the whole proxy who wants more than a rule gives, or more than a worker has."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.integration.test_meaning import PLATFORM, may, post, socket
from tests.lab.fleet import Fleet
from tests.lab.masks import JSON, answer, document, mask
from tests.lab.proxy import ProxyLab, allow
from tests.lab.ws import (
    TEXT,
    Frame,
    close_code,
    frame,
    handshake,
    header,
    lab_with_echo,
    read_frame,
    remaining_frames,
)
from zt_proxy.core.types import Action
from zt_proxy.policy.profile_spec import MatcherSpec
from zt_proxy.policy.spec import Limit
from zt_proxy.worker.gateway import detours, messages
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.settings import AnswerSettings
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


@pytest.mark.parametrize("masks", [(), (mask("$..iban"),)])
async def test_an_upgrade_that_is_none_gets_nothing_of_what_a_plain_get_would(masks: Any) -> None:
    """Node serves an upgrade that nothing listens for as a plain GET: nobody decided about that one."""
    websocket = AnswerSettings(websocket=True)
    socket = MatcherSpec("socket", Action.VIEW, ("GET",), ("/**",), websocket=True)
    profile = replace(PLATFORM, matchers=(socket, *PLATFORM.matchers))
    route = {"profile": profile, "masks": masks, "answers": websocket}
    async with ProxyLab(rules=(may("staff", "view"),), route=route) as proxy:
        proxy.upstream.answer = document({"all": "of it"})
        cookie = await proxy.sign_in()
        reply = await proxy.send(handshake(cookie, path="/export/all"))
        assert (reply.status, reply.problem["reason"]) == (502, "upstream-invalid-response")
        assert b"of it" not in reply.body
        proxy.upstream.answer = answer(b"no", b"Content-Type: text/html\r\n", b"403 Forbidden")
        assert (await proxy.send(handshake(cookie, path="/export/all"))).status == 403


async def test_early_hints_keep_to_themselves_what_the_answer_does() -> None:
    masks = (mask("$..iban", headers=("x-secret",)),)
    async with ProxyLab(rules=(allow(),), route={"masks": masks}) as proxy:
        hints = b"HTTP/1.1 103 Early Hints\r\nX-Secret: DE89\r\nLink: </a.css>\r\n\r\n"
        proxy.upstream.answer = hints + answer(b"{}", JSON + b"X-Secret: DE89\r\n")
        client = await proxy.connect()
        line = b"Cookie: " + await proxy.sign_in()
        await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n" + line + b"\r\n\r\n")
        told = await client.ended()
    assert b"Link: </a.css>" in told
    assert b"DE89" not in told


async def test_a_socket_that_nobody_read_ends_when_a_reload_says_what_messages_mean(tmp_path: Path) -> None:
    async with Fleet(tmp_path, workers=0) as fleet:
        client = await fleet.websocket()
        await client.write(frame(TEXT, LOOK))
        assert await read_frame(client.reader) == Frame(TEXT, LOOK)
        fleet.replace = (("    rules:\n", "    profile: streamlit\n    rules:\n"),)
        fleet.write()
        assert close_code((await remaining_frames(client.reader))[-1]) == 4403


async def test_nobody_has_more_bodies_waited_for_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow bodies on a thousand connections would hold as many times the limit of one."""
    monkeypatch.setattr(detours, "AWAITED", 5000)
    rules = (may("staff", "build"),)
    async with ProxyLab(rules=rules, route={"profile": PLATFORM}) as proxy:
        cookie, other = await proxy.sign_in("mia"), await proxy.sign_in("bob")
        whole = post(cookie, b"{" + b" " * 1998 + b"}")
        slow = [await proxy.connect() for _ in range(2)]
        for client in slow:
            head, _, body = post(cookie, whole[-2000:], extra=b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
            await client.write(head + b"\r\n\r\n")
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")  # it is waited for
            await client.write(body[:-10])
        late = await proxy.send(whole)
        assert (late.status, late.problem["reason"], late.header("retry-after")) == (429, "too-many-requests", "1")
        assert (await proxy.send(post(other, b"{}"))).status == 200
        for client in slow:
            await client.write(whole[-10:])
            assert (await client.reply("POST")).status == 200
        assert (await proxy.send(whole)).status == 200
