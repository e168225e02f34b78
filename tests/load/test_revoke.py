"""Two hundred WebSockets and fifty downloads over two workers, cut by one order within a second."""

import asyncio
import json
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.lab.proxy import TRUSTING
from tests.lab.waiting import until
from tests.load.crowd import Crowd, Person
from tests.load.evidence import Evidence
from tests.load.stage import MACHINES, Stage, command, show
from zt_proxy.control.audit.chain import log_files
from zt_proxy.core.clock import SystemClock

PROMISE = 1.0
"""Seconds until the last stream is cut: what is promised, hence a time that a test may look at."""
TALKING, FOLLOWING = 200, 50
CUT = {"close 4401", "IncompleteReadError", "ConnectionResetError"}
"""How a stream that may not go on ends: a WebSocket with a Close frame, a download in the middle."""
BYSTANDERS = [f"bystander-{number}" for number in range(15)]


def spread(stage: Stage) -> list[int]:
    """Client connections of each worker."""
    return [
        sum(one.laddr.port == stage.port and one.status == "ESTABLISHED" for one in worker.net_connections())
        for worker in stage.children("worker")
    ]


def taken(stage: Stage) -> float:
    """When (epoch seconds) control took the last order of an operator: it is on record before it is carried out."""
    lines = [json.loads(line) for path in log_files(stage.log) for line in path.read_bytes().splitlines()]
    return max(float(line["at"]) for line in lines if line["type"] == "operator")


def replaced(stage: Stage) -> float:
    """When (epoch seconds) the revocation list was replaced."""
    return os.stat(stage.authority / "crl.pem").st_mtime


async def settle(stage: Stage) -> None:
    """End the proxy in order, and hold its record against the platform's diary."""
    await stage.stop()
    Evidence(stage.log, stage.diary).check([])


class Scene:
    """Streams that an order shall cut, and bystanders that it shall not."""

    def __init__(
        self,
        stage: Stage,
        concerned: Sequence[Person],
        bystanders: Sequence[Person],
        *,
        host: str = "",
        trust: ssl.SSLContext = TRUSTING,
    ) -> None:
        self.stage = stage
        self.concerned = Crowd(
            stage,
            talkers=[concerned[number % len(concerned)] for number in range(TALKING)],
            followers=[concerned[number % len(concerned)] for number in range(FOLLOWING)],
            strangers=False,
            again=False,
            talk=150.0,
            host=host,
            trust=trust,
        )
        self.bystanders = Crowd(stage, talkers=bystanders[:10], followers=bystanders[10:], again=False)

    async def play(self, since: Callable[[Stage], float], *order: str | Callable[[], Awaitable[None]]) -> str:
        """Give the order, an operator's or any other, when all streams run; gives the figures. `since` says when it was
        in effect given."""
        loop, clock = asyncio.get_running_loop(), SystemClock()
        async with self.bystanders, self.concerned:
            await self.bystanders.everybody()
            await self.concerned.everybody()
            shares = spread(self.stage)
            assert min(shares) >= 50, shares
            began = loop.time()
            if callable(order[0]):
                await order[0]()
            else:
                await asyncio.to_thread(command, *map(str, order))
            await until(lambda: all(member.end for member in self.concerned.members))
            last = max(member.ended for member in self.concerned.members)
            took = last + clock.now() - loop.time() - since(self.stage)
            await self.bystanders.everybody()
        assert {member.end for member in self.concerned.members} <= CUT, self.concerned.tally
        assert self.concerned.tally.wrong == []
        assert (dict(self.bystanders.tally.closed), self.bystanders.tally.leaks) == ({}, [])
        assert took <= PROMISE
        return (
            f"{len(self.concerned.members)} streams, client connections of the workers {shares}: the last was cut "
            f"{took:.3f} s after the order was taken, {last - began:.2f} s after its command was started"
        )


@pytest.mark.case("ZT-SESS-10")
async def test_a_session_that_is_revoked_loses_all_its_streams_on_every_worker_within_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Stage(tmp_path, workers=2, crowd=["ann", *BYSTANDERS]) as stage:
        ann, *others = stage.people
        scene = Scene(stage, [ann], others)
        figures = await scene.play(taken, "sessions", "revoke", "--sid", stage.sids[ann[1]], "-c", str(stage.config))
        answers = await asyncio.gather(*(stage.get("/", ann[1]) for _ in range(8)))
        assert {answer.status for answer in answers} == {401}
        await settle(stage)
    show(capsys, f"by session: {figures}")


@pytest.mark.case("ZT-SESS-10")
async def test_a_person_who_is_revoked_loses_all_streams_of_all_sessions_within_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Stage(tmp_path, workers=2, crowd=[*["ann"] * 25, *BYSTANDERS]) as stage:
        ann, others = stage.people[:25], stage.people[25:]
        figures = await Scene(stage, ann, others).play(
            taken, "sessions", "revoke", "--user", "ann", "-c", str(stage.config)
        )
        answers = await asyncio.gather(*(stage.get("/", cookie) for _, cookie in ann))
        assert {answer.status for answer in answers} == {401}
        await settle(stage)
    show(capsys, f"by user, 25 sessions: {figures}")


@pytest.mark.case("ZT-SESS-10")
async def test_a_certificate_that_is_revoked_loses_all_its_streams_within_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Stage(tmp_path, workers=2, crowd=BYSTANDERS, machines=("crm-sync", "reports")) as stage:
        host = f"{MACHINES}:{stage.port}"
        partner, other = (stage.showing(name) for name in stage.machines)
        scene = Scene(stage, [("integration:crm-sync", None)], stage.people, host=host, trust=partner)
        async with Crowd(
            stage, talkers=[("integration:reports", None)] * 5, strangers=False, again=False, host=host, trust=other
        ) as colleagues:
            figures = await scene.play(replaced, "ca", "revoke", "crm-sync", "--yes", "--ca", str(stage.authority))
            await colleagues.everybody()
        assert dict(colleagues.tally.closed) == {}
        answers = await asyncio.gather(*(stage.get("/", None, host, trust=partner) for _ in range(8)))
        assert {answer.status for answer in answers} == {403}
        assert (await stage.get("/", None, host, trust=other)).status == 200
        await settle(stage)
    show(capsys, f"by certificate: {figures}")
