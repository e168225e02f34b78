"""The lists in force: what changes them, what does not, and what is said meanwhile."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.lab.lists import NOW, ListAuthority
from tests.lab.waiting import until
from zt_proxy.control.integrations.revocation import by_authorities
from zt_proxy.control.integrations.watch import CrlWatcher
from zt_proxy.control.settings import RevocationSource
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.link.messages import RevocationList

DAY = 86_400.0


class Desk:
    """A watcher over one file of authorities and one file of lists, and what it told the workers."""

    def __init__(self, folder: Path) -> None:
        self.authority = ListAuthority()
        self.clock = ManualClock(NOW)
        self.ca, self.crl = folder / "ca.pem", folder / "clients.crl"
        self.floors = folder / "crl-numbers.json"
        self.ca.write_bytes(self.authority.pem)
        self.told: list[tuple[RevocationList, ...]] = []
        self.watcher = CrlWatcher(self.clock, self.floors, self.told.append)

    @property
    def source(self) -> RevocationSource:
        return RevocationSource(self.ca, (self.crl,))

    def put(self, raw: bytes, path: Path | None = None) -> None:
        """As careful operators do: all or nothing."""
        path = path or self.crl
        new = path.with_suffix(".new")
        new.write_bytes(raw)
        new.replace(path)

    async def start(self, *sources: RevocationSource) -> RevocationList:
        self.watcher.adopt(await self.watcher.prepare(sources or (self.source,)))
        await self.watcher.look()
        return self.only()

    async def look(self) -> RevocationList:
        await self.watcher.look()
        return self.only()

    def only(self) -> RevocationList:
        (found,) = self.told[-1]
        return found

    def restart(self) -> None:
        self.watcher = CrlWatcher(self.clock, self.floors, self.told.append)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@asynccontextmanager
async def running(watcher: CrlWatcher) -> AsyncIterator[None]:
    task = asyncio.create_task(watcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_list_is_told_with_its_authority(desk: Desk) -> None:
    desk.put(desk.authority.pem_list([7]))
    found = await desk.start()
    assert (found.source, found.issuer, found.problem) == (str(desk.ca), desk.authority.issuer, "")
    assert found.next_update == NOW + 7 * DAY
    assert found.revokes(7)
    assert not found.revokes(8)
    assert desk.watcher.problems() == ()


async def test_a_list_without_entries_revokes_nothing_and_is_a_list(desk: Desk) -> None:
    desk.put(desk.authority.der_list())
    assert (await desk.start()).problem == ""


async def test_a_changed_list_is_told_without_a_reload(desk: Desk) -> None:  # ZT-TLS-08
    desk.put(desk.authority.pem_list())
    assert not (await desk.start()).revokes(7)
    async with running(desk.watcher), asyncio.timeout(10):
        desk.put(desk.authority.pem_list([7], number=2))
        while not desk.only().revokes(7):
            await asyncio.sleep(0.01)


async def test_what_did_not_change_is_not_told_again(desk: Desk) -> None:
    desk.put(desk.authority.pem_list([7]))
    await desk.start()
    desk.put(desk.crl.read_bytes())
    for _ in range(5):
        await desk.look()
    assert len(desk.told) == 1


async def test_a_second_change_within_the_grain_of_the_clock_is_seen(desk: Desk) -> None:
    first, second = (desk.authority.pem_list([serial], number=serial) for serial in (7, 8))
    desk.crl.write_bytes(first)
    times = desk.crl.stat()
    await desk.start()
    while len(second) != len(first):  # the signature's length varies
        second = desk.authority.pem_list([8], number=8)
    desk.crl.write_bytes(second)
    os.utime(desk.crl, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (await desk.look()).revokes(8)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda desk: desk.put(b""), "is empty"),
        (lambda desk: desk.put(desk.authority.pem_list([1])[:-9]), "cut off"),
        (lambda desk: desk.crl.unlink(), "cannot be read: No such file or directory"),
        (lambda desk: (desk.crl.unlink(), desk.crl.mkdir()), "it is not a regular file"),
        (lambda desk: desk.put(ListAuthority().pem_list([1])), "but not its signature"),
        (lambda desk: desk.put(ListAuthority("Other").pem_list([1])), "is of another authority (CN=Other)"),
        (lambda desk: desk.put(desk.authority.pem_list(number=1)), "goes back: number 1, and number 2 was seen before"),
        (lambda desk: desk.put(desk.authority.pem_list(number=None)), "and number 2 was seen before"),
    ],
    ids=["empty", "torn", "gone", "folder", "forged", "foreign", "replayed", "without number"],
)
async def test_a_file_that_turns_bad_leaves_the_last_good_list_in_force_and_says_so(
    desk: Desk, spoil: object, said: str
) -> None:
    desk.put(desk.authority.pem_list([7], number=2))
    await desk.start()
    spoil(desk)  # type: ignore[operator]
    found = await desk.look()
    assert found.revokes(7)
    assert found.problem == ""
    first, second = desk.watcher.problems()
    assert said in first
    assert second == "the revocation list of CN=Test clients read before stays in force until 2027-01-22 08:00:00 UTC"
    desk.clock.advance(8 * DAY)
    found = await desk.look()
    assert found.problem == "the revocation list of CN=Test clients ended on 2027-01-22 08:00:00 UTC"
    assert desk.watcher.problems()[-1] == f"{found.problem}: its certificates are refused"


async def test_a_file_that_is_mended_counts_at_once(desk: Desk) -> None:
    await desk.start()
    assert desk.only().problem == "no revocation list of CN=Test clients is in force"
    desk.put(desk.authority.pem_list([7]))
    assert (await desk.look()).revokes(7)
    assert desk.watcher.problems() == ()


async def test_a_bad_file_at_the_start_refuses_every_certificate(desk: Desk) -> None:
    desk.put(b"")
    found = await desk.start()
    assert found.problem == "no revocation list of CN=Test clients is in force"
    assert desk.watcher.problems() == (f"{desk.crl} is empty", f"{found.problem}: its certificates are refused")


async def test_a_list_ends_by_the_clock_alone(desk: Desk) -> None:
    desk.put(desk.authority.pem_list(until=NOW + 60))
    assert (await desk.start()).problem == ""
    desk.clock.advance(60.5)
    assert "ended on" in (await desk.look()).problem
    desk.put(desk.authority.pem_list(number=2, at=NOW + 60))
    assert (await desk.look()).problem == ""


@pytest.mark.parametrize(("days", "quiet"), [(7, 5.25), (1, 0.75), (90, 88)])
async def test_a_list_that_ends_soon_is_named_before_it_does(desk: Desk, days: float, quiet: float) -> None:
    desk.put(desk.authority.pem_list(until=NOW + days * DAY))
    await desk.start()
    desk.clock.advance(quiet * DAY - 1)
    await desk.look()
    assert desk.watcher.problems() == ()
    desk.clock.advance(2)
    assert (await desk.look()).problem == ""
    (said,) = desk.watcher.problems()
    assert said.endswith("; its certificates are refused then")


async def test_a_list_of_the_future_counts_when_its_time_comes(desk: Desk) -> None:
    desk.put(desk.authority.pem_list([7], at=NOW + 100))
    assert (await desk.start()).problem
    assert "is of the future" in desk.watcher.problems()[0]
    desk.clock.advance(70)
    assert (await desk.look()).revokes(7)


async def test_an_older_list_is_a_replay_also_after_a_restart(desk: Desk) -> None:
    desk.put(desk.authority.pem_list([7], number=5))
    await desk.start()
    desk.restart()
    desk.put(desk.authority.pem_list(number=4))
    found = await desk.start()
    assert found.problem == "no revocation list of CN=Test clients is in force"
    assert f"(if that is right, delete {desk.floors})" in desk.watcher.problems()[0]
    desk.floors.unlink()
    assert (await desk.look()).problem == ""
    assert desk.watcher.problems() == ()
    assert desk.floors.exists()


async def test_the_newest_of_several_lists_counts(desk: Desk) -> None:
    desk.put(desk.authority.pem_list([9], number=9) + desk.authority.pem_list([8], number=8))
    found = await desk.start()
    assert found.revokes(9)
    assert not found.revokes(8)
    desk.restart()
    assert (await desk.start()).revokes(9)
    assert desk.watcher.problems() == ()


async def test_a_damaged_memory_of_numbers_stops_the_start(desk: Desk) -> None:
    for content in (b"[1]", b"{", b'{"a": 1}', b'{"a": ["x", 1]}'):
        desk.floors.write_bytes(content)
        desk.floors.chmod(0o600)
        with pytest.raises(ConfigurationError, match="not what the proxy wrote"):
            desk.restart()
    desk.floors.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        desk.restart()


async def test_numbers_that_cannot_be_written_are_said_and_stop_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zt_proxy.control.integrations.revocation.replace_privately", full)
        desk.put(desk.authority.pem_list([7]))
        assert (await desk.start()).revokes(7)
        assert desk.watcher.problems() == (f"{desk.floors} cannot be written: No space left on device",)
    await desk.look()
    assert desk.watcher.problems() == ()
    assert desk.floors.exists()


async def test_a_look_that_fails_is_said_and_is_not_the_last(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put(desk.authority.pem_list([7]))
    await desk.start()
    with monkeypatch.context() as patch:

        def broken(*_: object) -> None:
            raise RuntimeError("of no kind that anybody thought of")

        patch.setattr("zt_proxy.control.integrations.crl.read", broken)
        async with running(desk.watcher):
            desk.put(desk.authority.pem_list([7, 8], number=2))
            await until(lambda: bool(desk.watcher.problems()))
            assert "RuntimeError" in desk.watcher.problems()[0]
            assert desk.only().revokes(7)
            patch.undo()
            await until(lambda: desk.only().revokes(8))
            await until(lambda: desk.watcher.problems() == ())


async def test_each_authority_of_the_file_needs_a_list(desk: Desk) -> None:
    other = ListAuthority("Other")
    desk.ca.write_bytes(desk.authority.pem + other.pem)
    desk.put(desk.authority.pem_list([7]))
    desk.watcher.adopt(await desk.watcher.prepare((desk.source,)))
    first, second = desk.told[-1]
    assert first.revokes(7)
    assert (second.issuer, second.problem) == (other.issuer, "no revocation list of CN=Other is in force")


async def test_a_list_of_a_new_key_takes_over_from_that_of_the_old_key(desk: Desk) -> None:
    successor = ListAuthority()
    desk.ca.write_bytes(desk.authority.pem + successor.pem)
    desk.put(desk.authority.pem_list([7], number=50))
    assert (await desk.start()).revokes(7)
    desk.put(successor.pem_list([8], number=1, at=NOW + 10, until=NOW + 10 * DAY))
    found = await desk.look()
    assert found.revokes(8)
    assert found.revokes(7), "the old key's list has not ended, and what it revoked may still be valid"
    assert found.next_update == NOW + 10 * DAY, "the end of the list at hand"
    assert desk.watcher.problems() == ()
    desk.clock.advance(8 * DAY)
    found = await desk.look()
    assert (found.problem, found.revokes(8), found.revokes(7)) == ("", True, False)


@pytest.mark.case("ZT-TLS-08")
async def test_authorities_that_share_a_name_do_not_undo_each_others_revocations(desk: Desk, tmp_path: Path) -> None:
    namesake, second = ListAuthority(), tmp_path / "second.crl"
    desk.ca.write_bytes(desk.authority.pem + namesake.pem)
    desk.put(desk.authority.pem_list([7], number=1))
    desk.put(namesake.pem_list([8], number=9, at=NOW + 10), second)
    desk.clock.advance(20)
    found = await desk.start(RevocationSource(desk.ca, (desk.crl, second)))
    assert (found.problem, found.revokes(7), found.revokes(8), found.revokes(9)) == ("", True, True, False)
    desk.put(desk.authority.pem_list([7, 9], number=2))
    found = await desk.look()
    assert (found.revokes(7), found.revokes(8), found.revokes(9)) == (True, True, True)
    desk.put(b"-----BEGIN X509 CRL-----", desk.crl)
    assert (await desk.look()).revokes(7), "a torn file takes nothing back"
    desk.put(desk.authority.pem_list([7, 9], number=3))
    desk.put(namesake.pem_list([8], number=10, at=NOW + 20, until=NOW + 30 * DAY), second)
    await desk.look()
    desk.clock.advance(8 * DAY)
    assert "ended on" in (await desk.look()).problem, (
        "a fresh list of one does not stand in for the stale one of another"
    )


async def test_an_authority_taken_from_the_file_takes_its_list_with_it(desk: Desk) -> None:
    desk.put(desk.authority.pem_list([7]))
    await desk.start()
    desk.put(ListAuthority("Other").pem, desk.ca)
    found = await desk.look()
    assert found.problem == "no revocation list of CN=Other is in force"


async def test_a_torn_file_of_authorities_changes_nothing_and_is_named(desk: Desk) -> None:
    desk.put(desk.authority.pem_list([7]))
    await desk.start()
    desk.put(b"-----BEGIN CERT", desk.ca)
    assert (await desk.look()).revokes(7)
    assert desk.watcher.problems() == (f"{desk.ca} holds no readable PEM certificates",)


async def test_another_configuration_takes_over_whole_and_keeps_what_stays(desk: Desk, tmp_path: Path) -> None:
    desk.put(desk.authority.pem_list([7]))
    await desk.start()
    desk.put(b"")
    await desk.look()
    other = ListAuthority("Other")
    (tmp_path / "other.pem").write_bytes(other.pem)
    (tmp_path / "other.crl").write_bytes(other.pem_list([9]))
    added = RevocationSource(tmp_path / "other.pem", (tmp_path / "other.crl",))
    prepared = await desk.watcher.prepare((desk.source, added))
    assert len(desk.told) == 1
    desk.watcher.adopt(prepared)
    first, second = desk.told[-1]
    assert first.revokes(7)  # its file is bad by now: what was read before stays
    assert second.revokes(9)
    desk.watcher.adopt(await desk.watcher.prepare(()))
    assert desk.told[-1] == ()
    await desk.watcher.look()
    assert desk.watcher.problems() == ()


async def test_a_look_under_way_does_not_undo_another_configuration(desk: Desk) -> None:
    desk.put(desk.authority.pem_list([7]))
    await desk.start()
    desk.put(desk.authority.pem_list([8], number=2))
    look = asyncio.create_task(desk.watcher.look())
    await asyncio.sleep(0)
    desk.watcher.adopt([])
    await look
    assert desk.told[-1] == ()


def test_listeners_with_one_file_of_authorities_share_their_lists() -> None:
    a, b, c, d = (Path(name) for name in "abcd")
    found = by_authorities([RevocationSource(a, (b, c)), RevocationSource(d, (b,)), RevocationSource(a, (c, d))])
    assert found == [RevocationSource(a, (b, c, d)), RevocationSource(d, (b,))]
