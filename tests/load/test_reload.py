"""The configuration and the certificate change under load: nobody notices but those whose answer changed."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509

from tests.lab.proxy import CA
from tests.lab.waiting import until
from tests.load.crowd import BROKEN, Crowd
from tests.load.evidence import Evidence
from tests.load.stage import SERVED, STAFF, Route, Stage, command, show

NEW = "new.localhost"
LEAVING = [f"leaving-{number}" for number in range(10)]
GOING = f"{{id: gone, deny: all, to: {{users: [{', '.join(LEAVING)}]}}}}"
OPEN = '{id: open, allow: [{methods: [GET], paths: ["/**"]}], to: public}'
FRESH = 8
"""Connections that have to show what is new until it counts as everywhere: enough to reach every worker's socket."""


async def everywhere(stage: Stage, path: str, host: str, status: int) -> None:
    """Wait until so many connections in a row get this status without a cookie."""
    seen = 0
    async with asyncio.timeout(20):
        while seen < FRESH:
            answers = await asyncio.gather(*(stage.get(path, None, host) for _ in range(FRESH)))
            seen = sum(answer.status == status for answer in answers)


async def serials(stage: Stage) -> set[int]:
    """Serial numbers of the certificates that so many connections were shown."""
    found = set()
    for _ in range(FRESH):
        async with stage.connection() as client:
            shown = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            found.add(x509.load_der_x509_certificate(shown).serial_number)
    return found


async def shows(stage: Stage, serial: int) -> None:
    """Wait until every connection is shown this certificate."""
    async with asyncio.timeout(20):
        while await serials(stage) != {serial}:
            await asyncio.sleep(0.05)


def hang_up(stage: Stage) -> None:
    assert stage.proxy is not None
    stage.proxy.send_signal(signal.SIGHUP)


async def change_the_rules(stage: Stage, leaving: Crowd) -> float:
    """A new route, and a rule that denies everything to some; gives the seconds until their streams were cut."""
    began = asyncio.get_running_loop().time()
    stage.routes[0].rules = (GOING, STAFF)
    stage.routes.append(Route("new", NEW, rules=(OPEN,)))
    stage.write()
    hang_up(stage)
    await until(lambda: all(member.end for member in leaving.members))
    await everywhere(stage, "/", f"{NEW}:{stage.port}", SERVED)
    assert {member.end for member in leaving.members} <= {"close 4403", *CUT}, leaving.tally
    return max(member.ended for member in leaving.members) - began


CUT = ("IncompleteReadError", "ConnectionResetError")
"""How a download that is cut looks."""


async def scene(folder: Path, workers: int) -> str:
    crowd = [f"person-{number}" for number in range(270)]
    lines = []
    async with Stage(folder, workers=workers, crowd=[*crowd, *LEAVING]) as stage:
        people, going = stage.people[:270], stage.people[270:]
        staying = Crowd(stage, askers=people[:200], talkers=people[200:250], followers=people[250:])
        leaving = Crowd(stage, talkers=going[:5], followers=going[5:], strangers=False, again=False)
        async with staying:
            async with leaving:
                await staying.everybody()
                await leaving.everybody()
                took = await change_the_rules(stage, leaving)
                lines.append(f"streams whose answer changed were cut {took:.2f} s after SIGHUP")
            assert [(await stage.get("/", cookie)).status for _, cookie in going] == [403] * len(going)
            await staying.everybody()

            stage.config.write_text(stage.config.read_text() + "\nmeant_well: true\n")
            hang_up(stage)
            await said_so(stage, "meant_well")
            await everywhere(stage, "/", f"{NEW}:{stage.port}", SERVED)
            await staying.everybody()

            stage.routes[0].rules = (STAFF,)
            stage.write()
            hang_up(stage)
            async with Crowd(stage, talkers=going[:5], followers=going[5:], strangers=False) as returned:
                await welcome(stage, going)
                await returned.everybody()

            await spoil(stage)
            await staying.everybody()

            began = asyncio.get_running_loop().time()
            await shows(stage, stage.certify())  # nobody says so: the file's change is enough
            lines.append(
                f"a new certificate was shown {asyncio.get_running_loop().time() - began:.2f} s after its file"
            )
            await staying.everybody()
        tally = staying.tally
        assert (tally.leaks, tally.wrong, dict(tally.interrupted), dict(tally.closed)) == ([], [], {}, {})
        await stage.stop()
        Evidence(stage.log, stage.diary).check(tally.ids)
    return "\n".join([*lines, tally.figures()])


async def said_so(stage: Stage, fault: str) -> None:
    """Wait until log, `/readyz` and `zt-proxy status` name what is wrong with the file."""
    await until(lambda: "configuration not taken over" in stage.said and fault in stage.said)
    async with aiohttp.ClientSession() as http, asyncio.timeout(20):
        while fault not in await (await http.get(f"http://127.0.0.1:{stage.metrics}/readyz")).text():
            await asyncio.sleep(0.05)
    assert fault in await asyncio.to_thread(command, "status", "-c", str(stage.config), exit_codes=(0, 1))


async def spoil(stage: Stage) -> None:
    """A certificate that is half written, then a key that is another's: both stay out, and the old pair is shown."""
    before = await serials(stage)
    chain, key = stage.directory / "site.pem", stage.directory / "site.key"
    good, own = chain.read_bytes(), key.read_bytes()
    for spoilt, content in (
        (chain, good[: len(good) // 3]),
        (key, CA.issue_cert("app.localhost").private_key_pem.bytes()),
    ):
        refused = stage.said.count("configuration not taken over")
        spoilt.write_bytes(content)
        await until(lambda refused=refused: stage.said.count("configuration not taken over") > refused)  # type: ignore[misc]
        assert await serials(stage) == before
        chain.write_bytes(good)
        key.write_bytes(own)
    assert await serials(stage) == before


async def welcome(stage: Stage, people: list[tuple[str, bytes]]) -> None:
    """Wait until each of them is let in again by every worker."""
    async with asyncio.timeout(20):
        while True:
            with suppress(*BROKEN):
                answers = await asyncio.gather(*(stage.get("/", cookie) for _, cookie in people))
                if all(answer.status == SERVED for answer in answers):
                    return


@pytest.mark.case("ZT-TLS-16")
@pytest.mark.timeout(200)
@pytest.mark.parametrize("workers", [0, 2])
async def test_reload_and_rotation_are_noticed_by_those_whose_answer_changed_and_by_nobody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    show(capsys, await scene(tmp_path, workers))
