"""Another configuration while the proxy runs: what changes, what stays, and what a bad file does."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.lab.fleet import STAFF, Fleet, free_port
from tests.lab.proxy import Client
from tests.lab.waiting import until
from tests.lab.ws import TEXT, close_code, frame, read_frame, remaining_frames

IN_FORCE = "configuration taken over"
REFUSED = "configuration not taken over; the one before stays in force"
NO_BOB = "{id: no-bob, deny: all, to: {groups: [bob]}}"
workers = pytest.mark.parametrize("workers", [0, 2])


async def taken_over(fleet: Fleet, epoch: int) -> None:
    await until(lambda: bool(fleet.said(IN_FORCE, epoch=epoch)))


async def echoes(client: Client) -> bool:
    await client.write(frame(TEXT, b"hello"))
    async with asyncio.timeout(10):
        return (await read_frame(client.reader)).payload == b"hello"


async def readiness(fleet: Fleet) -> tuple[int, dict[str, Any]]:
    """Status of /readyz, and what it says of each part."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{fleet.metrics}/readyz") as answer:
        return answer.status, (await answer.json())["parts"]


def serial(client: Client) -> bytes:
    """What names the certificate that the connection was answered with."""
    tls = client.writer.get_extra_info("ssl_object")
    certificate: bytes = tls.getpeercert(binary_form=True)
    return certificate


@workers
async def test_a_changed_rule_cuts_those_whose_answer_changed_and_nobody_else(tmp_path: Path, workers: int) -> None:
    async with Fleet(tmp_path, workers=workers) as fleet:
        of_alice = [await fleet.websocket("alice") for _ in range(4)]
        of_bob = [await fleet.websocket("bob") for _ in range(4)]
        download = await fleet.download("bob")
        kept = await fleet.connect()
        await kept.write(fleet.head())
        assert (await kept.reply()).status == 200
        fleet.rules = (STAFF, NO_BOB)
        fleet.write()
        await taken_over(fleet, 2)
        for client in of_bob:
            assert close_code((await remaining_frames(client.reader))[-1]) == 4403
        await download.ended()
        for client in of_alice:
            assert await echoes(client)
        await kept.write(fleet.head() + fleet.head("/", "bob"))
        assert [(await kept.reply()).status for _ in range(2)] == [200, 403], "on the connection of before"
        for _ in range(6):
            assert (await fleet.get("/", "bob")).status == 403


async def test_what_was_open_to_all_is_cut_when_it_is_so_no_more(tmp_path: Path) -> None:
    open_to_all = '{id: open, allow: [{paths: ["/stream"]}], to: public}'
    async with Fleet(tmp_path, rules=(STAFF, open_to_all)) as fleet:
        strangers = await fleet.download(None)
        staff = await fleet.download("alice")
        fleet.rules = (STAFF,)
        fleet.write()
        await taken_over(fleet, 2)
        await strangers.ended()
        await staff.reader.readuntil(b"more\n")


@workers
async def test_a_bad_file_leaves_the_old_one_in_force_and_says_so(tmp_path: Path, workers: int) -> None:
    async with Fleet(tmp_path, workers=workers, metrics=free_port()) as fleet:
        client = await fleet.websocket()
        fleet.replace = (("routes:", "rootes:"),)
        fleet.write()
        await until(lambda: bool(fleet.said(REFUSED)))
        assert "unknown key `rootes`" in fleet.said(REFUSED)[-1]["problem"]
        status, parts = await readiness(fleet)
        assert status == 200, "what is in force serves"
        assert "rootes" in parts["configuration"]["problem"]
        assert await echoes(client)
        assert await fleet.serves()
        fleet.replace = ()
        fleet.write()
        await taken_over(fleet, 2)
        assert (await readiness(fleet))[1]["configuration"] == {"ok": True}


@workers
async def test_a_new_certificate_is_shown_to_new_connections_while_the_old_ones_stay(
    tmp_path: Path, workers: int
) -> None:
    async with Fleet(tmp_path, workers=workers) as fleet:
        client = await fleet.websocket()
        before = serial(client)
        fleet.certify()
        await taken_over(fleet, 2)
        for _ in range(6):
            assert serial(await fleet.connect()) != before
        assert await echoes(client)


async def test_a_certificate_without_its_key_changes_nothing(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        key = fleet.directory / "site.key"
        right = key.read_bytes()
        key.write_text("nonsense")
        await until(lambda: bool(fleet.said(REFUSED)))
        assert await fleet.serves()
        key.write_bytes(right)
        await taken_over(fleet, 2)


@workers
async def test_a_hangup_signal_reads_the_file_again(tmp_path: Path, workers: int) -> None:
    async with Fleet(tmp_path, workers=workers) as fleet:
        fleet.signal(signal.SIGHUP)
        await taken_over(fleet, 2)
        fleet.signal(signal.SIGHUP)
        await taken_over(fleet, 3)
        assert await fleet.serves()


@workers
async def test_what_cannot_change_is_refused_in_those_words(tmp_path: Path, workers: int) -> None:
    async with Fleet(tmp_path, workers=workers) as fleet:
        fleet.replace = (("state_dir: state", "state_dir: elsewhere"),)
        fleet.write()
        await until(lambda: bool(fleet.said(REFUSED)))
        assert "`state_dir` cannot change while the proxy runs" in fleet.said(REFUSED)[-1]["problem"]
        fleet.replace, fleet.workers = (), 0 if workers else 2
        fleet.write()
        await until(lambda: len(fleet.said(REFUSED)) == 2)
        assert "`workers` cannot change between one process (0) and several" in fleet.said(REFUSED)[-1]["problem"]
        assert await fleet.serves()


@workers
async def test_listeners_come_and_go(tmp_path: Path, workers: int) -> None:
    async with Fleet(tmp_path, workers=workers) as fleet:
        client = await fleet.websocket()
        second = free_port()
        fleet.listeners["second"] = second
        fleet.write()
        await taken_over(fleet, 2)
        for _ in range(6):
            through = await fleet.connect(port=second)
            await through.write(fleet.head())
            assert (await through.reply()).status == 200
        del fleet.listeners["second"]
        fleet.write()
        await taken_over(fleet, 3)
        assert await through.ended() == b""
        with pytest.raises(OSError):
            await fleet.connect(port=second)
        assert await echoes(client)
        assert await fleet.serves()


async def test_a_taken_address_refuses_the_whole_file(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            fleet.listeners["second"] = taken
            fleet.rules = (STAFF, NO_BOB)
            fleet.write()
            await until(lambda: bool(fleet.said(REFUSED)))
        assert f"cannot listen on 127.0.0.1:{taken}" in fleet.said(REFUSED)[-1]["problem"]
        assert (await fleet.get("/", "bob")).status == 200


async def test_the_number_of_workers_changes_without_losing_those_who_stay(tmp_path: Path) -> None:
    async with Fleet(tmp_path, workers=1) as fleet:
        client = await fleet.websocket()
        fleet.workers = 3
        fleet.write()
        await taken_over(fleet, 2)
        await until(lambda: len(fleet.said("a process serves")) == 2)
        assert len(fleet.children("worker")) == 3
        assert await fleet.serves(16)
        fleet.workers = 1
        fleet.write()
        await taken_over(fleet, 3)
        await until(lambda: len(fleet.children("worker")) == 1)
        assert await echoes(client), "the first worker stayed"
        assert await fleet.serves(16)


async def test_a_worker_that_is_started_after_a_reload_begins_with_what_is_in_force(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        fleet.rules = (STAFF, NO_BOB)
        fleet.write()
        await taken_over(fleet, 2)
        for child in fleet.children():
            child.kill()
        await fleet.back()
        for _ in range(6):
            assert (await fleet.get("/", "bob")).status == 403


async def test_requests_all_the_while_see_nothing_of_a_reload(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        answers: list[int] = []
        going = True

        async def ask() -> None:
            client = await fleet.connect()
            while going:
                await client.write(fleet.head())
                answers.append((await client.reply()).status)

        async def dial() -> None:
            while going:
                answers.append((await fleet.get()).status)

        asking = [asyncio.create_task(each) for each in (ask(), ask(), dial())]
        for epoch in (2, 3, 4):
            fleet.rules = (STAFF, NO_BOB) if epoch % 2 == 0 else (STAFF,)
            fleet.certify()
            fleet.write()
            await taken_over(fleet, epoch)
        seen = len(answers)
        await until(lambda: len(answers) > seen + 10 or any(task.done() for task in asking))
        going = False
        await asyncio.gather(*asking)
        assert set(answers) == {200}
