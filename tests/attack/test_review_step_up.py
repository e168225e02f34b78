"""The step-up, attacked where its parts meet: open streams and new rules, kept forms, and floors."""

import asyncio
import gzip
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.integration.test_step_up import TEXT, proven, send_on, stale, submit
from tests.lab.links import Authority, HearingWorker, UnixLinks
from tests.lab.proxy import Client, ProxyLab, allow
from tests.lab.world import HOME
from tests.lab.ws import TEXT as TEXT_FRAME
from tests.lab.ws import close_code, frame, lab_with_echo, open_websocket, read_frame, remaining_frames
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import UnavailableError
from zt_proxy.core.session import Level, Proof
from zt_proxy.link.proofs import KeptForm
from zt_proxy.policy.spec import RouteRules, RuleSpec
from zt_proxy.worker.gateway.exchange import EARLY_BODY, Exchange
from zt_proxy.worker.wire.head import RequestHead

WIRE = allow("wire", paths=("/ws",))
STRONG = Level.PHISHING_RESISTANT


async def adopt(lab: ProxyLab, *rules: RuleSpec) -> None:
    """A reload, after which the one route has these rules."""
    worker = lab.proxy.worker
    assert worker is not None
    (route,) = worker.settings.routes
    routes = (msgspec.structs.replace(route, rules=RouteRules(route.name, rules)),)
    await worker.adopt(worker.prepare(msgspec.structs.replace(worker.settings, routes=routes)))


async def echoes(client: Client) -> bool:
    await client.write(frame(TEXT_FRAME, b"hello"))
    return (await read_frame(client.reader)).payload == b"hello"


# ---- open streams


@pytest.mark.case("ZT-WS-05")
@pytest.mark.parametrize(
    "asks",
    [
        {"level": STRONG},
        {"level": STRONG, "reauth": 300.0},
        {"level": STRONG, "once": True},
    ],
)
async def test_a_stream_ends_when_a_reload_asks_for_a_level_that_nobody_proved(asks: dict[str, Any]) -> None:
    async with lab_with_echo(rules=(WIRE,)) as lab:
        socket = await open_websocket(lab, await lab.sign_in())
        assert await echoes(socket)
        await adopt(lab, allow("wire", paths=("/ws",), **asks))
        assert close_code((await remaining_frames(socket.reader))[-1]) == 4401


@pytest.mark.case("ZT-WS-05")
@pytest.mark.parametrize("asks", [{"reauth": 60.0}, {"level": STRONG, "reauth": 60.0}])
async def test_a_stream_outlives_the_freshness_of_the_proof_it_was_opened_with(asks: dict[str, Any]) -> None:
    rules = (allow("wire", paths=("/ws",), **asks),)
    async with lab_with_echo(rules=rules, clock=ManualClock()) as lab:
        sid, cookie = await lab.new_session()
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.unlock(sid, "app", "wire", Proof(lab.clock.now(), STRONG))
        socket = await open_websocket(lab, cookie)
        await lab.advance(120)
        await adopt(lab, *rules)
        assert await echoes(socket)


@pytest.mark.case("ZT-WS-05")
async def test_a_stream_of_one_rule_does_not_end_for_what_another_rule_would_have_asked() -> None:
    rules = (allow("strong", paths=("/ws",), level=STRONG), allow("wire", paths=("/ws",), reauth=60.0))
    async with lab_with_echo(rules=rules, clock=ManualClock()) as lab:
        socket = await open_websocket(lab, await lab.sign_in())
        await lab.advance(120)
        await adopt(lab, *rules)
        assert await echoes(socket)


@pytest.mark.case("ZT-WS-05")
async def test_a_stream_that_spent_its_proof_goes_on() -> None:
    rules = (allow("wire", paths=("/ws",), once=True, level=STRONG),)
    async with lab_with_echo(rules=rules) as lab:
        sid, cookie = await lab.new_session()
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.unlock(sid, "app", "wire", Proof(lab.clock.now(), STRONG), "GET /ws")
        socket = await open_websocket(lab, cookie)
        await adopt(lab, *rules)
        assert await echoes(socket)


# ---- floors


@pytest.mark.case("ZT-SESS-18")
async def test_a_proof_that_is_good_once_is_no_older_than_the_floor_above_it_allows() -> None:
    rules = (allow("release", methods=("POST",), paths=("/release",), once=True, reauth=60.0),)
    async with ProxyLab(rules=rules, clock=ManualClock()) as lab:
        sid, cookie = await lab.new_session()
        assert lab.proxy.control is not None
        own = b"Origin: https://app.test\r\nContent-Length: 0\r\n"
        for age, status in ((59.0, 200), (61.0, 401)):
            await lab.proxy.control.sessions.unlock(
                sid, "app", "release", Proof(lab.clock.now(), STRONG), "POST /release"
            )
            await lab.advance(age)
            assert (await lab.get("/release", cookie, own, method="POST")).status == status, age


# ---- forms


@pytest.mark.parametrize(
    "replaced",
    [
        {"Content_Type": "multipart/form-data; boundary=Zo\xeb"},
        {"Content_Type": "text/plain; charset=\xe2\x82\xac"},
        {"Referer": HOME + "/Zo\xeb"},
        {"Referer": HOME + "/\xe2\x82\xac"},
    ],
)
async def test_a_form_whose_headers_no_browser_writes_is_not_kept_and_no_accident(replaced: dict[str, str]) -> None:
    async with stale() as (w, person):
        page = await submit(person, HOME + "/deploy", TEXT, **replaced)
        assert page.status == 401
        assert "Your form was not sent" in page.text
        assert b"/deploy" not in w.reached


async def test_a_form_that_came_compressed_is_not_kept_as_something_else() -> None:
    async with stale() as (w, person):
        for coding, body in (("gzip", gzip.compress(TEXT)), ("compress", b"\x1f\x9d"), ("br", b"\x00")):
            page = await submit(person, HOME + "/deploy", body, Content_Encoding=coding)
            assert page.status == 401, coding
            assert "Your form was not sent" in page.text
        assert (await send_on(person, await proven(person, await submit(person, HOME + "/deploy", TEXT)))).status == 200
        assert [seen.body for seen in w.lab.upstream.seen if seen.target == b"/deploy"] == [TEXT]


class Reluctant(Authority):
    """It gives no form out, and counts who asked for one."""

    takes = 0

    async def kept(self, sid: str, token: str, host: str, target: str) -> KeptForm | None:
        self.takes += 1
        return await super().kept(sid, token, host, target)


async def test_who_waits_for_a_form_waits_no_longer_because_of_others_and_loses_nothing() -> None:
    authority = Reluctant()
    links = await UnixLinks(authority).start()
    try:
        link = await links.join(HearingWorker())
        link._patience = 0.2
        authority.go.clear()
        waiting = [link.kept("s1", f"token{number}", "app.test", "/edit") for number in range(8)]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in answers] == [UnavailableError] * 8
        assert authority.takes <= 2, "the others had not asked yet: their forms are where they were"
    finally:
        authority.go.set()
        await links.stop()


# ---- what waits


class Counted(list[bytes]):
    """It counts how often somebody goes through it."""

    passes = 0

    def __iter__(self) -> Iterator[bytes]:
        self.passes += 1
        return super().__iter__()


class Patient:
    """A client's connection."""

    peer = "192.0.2.1"
    paused = False

    def pause_reading(self, who: int) -> None:
        self.paused = True


def test_a_body_in_tiny_pieces_that_waits_costs_no_more_with_each() -> None:
    connection = Patient()
    exchange = Exchange(None, connection, RequestHead([], []), b"1", 0.0, 0.0)  # type: ignore[arg-type]
    exchange.waiting = 1
    exchange.early = pieces = Counted()
    for _ in range(EARLY_BODY):
        exchange.body(b"x")
    assert (pieces.passes, connection.paused) == (0, False)
    exchange.body(b"x")
    assert connection.paused
