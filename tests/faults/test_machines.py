"""Every stage of a machine's request fails, and the handshake before it."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from tests.attack.test_integrations import CRM, MachineLab
from tests.faults.injection import HANDSHAKE, MACHINE, RAISING, SECRET, Steady
from tests.lab.waiting import until


async def leave(lab: MachineLab) -> None:
    """Close every client's connection."""
    for client in lab._clients:
        await client.close()
    lab._clients.clear()


SOME = list(RAISING.values())[:4]


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("seam", MACHINE)
async def test_a_stage_of_a_machines_request_that_fails_denies(seam: str, tmp_path: Path) -> None:
    async with MachineLab(tmp_path) as lab:
        proxy, leaf = Steady(lab), lab.ca.issue(uris=[CRM])
        assert (await lab.ask(leaf)).status == 200
        for number, fault in enumerate(SOME):
            leaf = lab.ca.issue(uris=[CRM])  # nothing is known yet of this one
            with proxy.fault(seam, fault) as met:
                reply = await lab.ask(leaf, f"/api/contacts/{number + 100}")
            assert met
            assert reply.status >= 500
            assert SECRET.encode() not in reply.body
            assert reply.problem["request_id"]
            assert len(lab.upstream.seen) == 1 + number, "and nothing went upstream"
            assert (await lab.ask(leaf)).status == 200
            await leave(lab)
            await proxy.rest()
        decisions = await lab.decisions()
        for number in range(len(SOME)):
            (one,) = [line for line in decisions if line["path"] == f"/api/contacts/{number + 100}"]
            assert one["effect"] == "deny"


@pytest.mark.parametrize("seam", HANDSHAKE)
async def test_a_handshake_that_fails_within_is_no_way_in(seam: str, tmp_path: Path) -> None:
    async with MachineLab(tmp_path) as lab:
        proxy, leaf = Steady(lab), lab.ca.issue(uris=[CRM])
        for fault in SOME:
            with proxy.fault(seam, fault) as met:
                with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                    reply = await lab.ask(leaf)
                    assert reply.status >= 400
                await leave(lab)
                await until(lambda: not proxy.connections)
            assert met
            assert lab.upstream.seen == []
        assert (await lab.ask(leaf)).status == 200
