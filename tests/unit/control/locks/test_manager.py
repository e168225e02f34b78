"""Making and ending locks: on record first, then durable, then told; and what a start finds."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from zt_proxy.control.locks.manager import LONGEST, LockManager
from zt_proxy.control.locks.store import FILE, PAST, LockStore
from zt_proxy.control.locks.types import LockOrder
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, ConfigurationError, Reason, UnavailableError
from zt_proxy.core.session import Principal
from zt_proxy.link import locks as link_locks
from zt_proxy.link.locks import Lock, LockEffect, LockKind


class World:
    """A manager, with what it wrote and told, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.done: list[tuple[str, Any]] = []
        self.record_fails = False

    async def open(self) -> "World":
        self.store = await LockStore.open(self.folder)
        self.manager = LockManager(self.store, self, self.write, self.clock)
        await self.manager.start()
        return self

    async def reopen(self) -> None:
        await self.manager.close()
        self.done.clear()
        await self.open()

    async def write(self, kind: str, **fields: Any) -> None:
        if self.record_fails:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE)
        self.done.append((kind, fields))

    def lock(self, lock: Lock) -> None:
        self.done.append(("set", lock))

    def unlock(self, id: str) -> None:
        self.done.append(("lifted", id))

    @property
    def told(self) -> list[Any]:
        return [what for kind, what in self.done if kind in ("set", "lifted")]

    @property
    def recorded(self) -> list[tuple[str, dict[str, Any]]]:
        return [(kind, what) for kind, what in self.done if kind not in ("set", "lifted")]


@pytest.fixture
async def world(tmp_path: Path):
    made = await World(tmp_path / "state").open()
    yield made
    await made.manager.close()


def order(value: str = "alice", **more: Any) -> LockOrder:
    given = {
        "kind": LockKind.USER,
        "effect": LockEffect.BLOCK,
        "cause": "stolen",
        "by": "root",
        "lasts": 60.0,
        "uid": 0,
    }
    return LockOrder(value=value, **{**given, **more})


async def test_a_lock_is_on_record_and_durable_before_any_worker_hears_of_it(world: World) -> None:
    lock = await world.manager.lock(order(provider="corp", shown="alice@example.com"))
    assert world.manager.current() == (lock,)
    assert await world.store.in_force() == (lock,)
    (kind, line), told = world.done
    assert told == ("set", lock)
    assert (kind, line["action"], line["uid"], line["who"]) == ("operator", "lock", 0, "root")
    assert (line["lock"], line["target"], line["value"], line["provider"]) == (lock.id, "user", "alice", "corp")
    assert (line["effect"], line["expires"], line["reason"]) == ("block", lock.expires, "stolen")


async def test_a_detector_is_on_record_as_one(world: World) -> None:
    await world.manager.lock(order(by="watch:volume", uid=-1, lasts=None))
    (kind, line), _ = world.done
    assert (kind, line["action"], line["by"]) == ("lock", "lock", "watch:volume")
    assert "expires" not in line


async def test_without_a_record_nothing_is_locked_or_lifted(world: World) -> None:
    lock = await world.manager.lock(order())
    world.record_fails = True
    for act in (world.manager.lock(order("bob")), world.manager.lift(lock.id, "root", "")):
        with pytest.raises(UnavailableError):
            await act
    assert world.manager.current() == (lock,)
    assert world.told == [lock]


async def test_locks_survive_a_restart_and_those_that_are_over_do_not_count(world: World) -> None:
    brief, long, open_ended = [
        await world.manager.lock(order(name, lasts=lasts)) for name, lasts in (("a", 10.0), ("b", 90.0), ("c", None))
    ]
    await world.manager.lift((await world.manager.lock(order("d"))).id, "root", "mistake")
    world.clock.advance(30)
    await world.reopen()
    assert world.manager.current() == (long, open_ended)
    assert world.told == [long, open_ended]
    await world.manager.sweep()
    assert [past.lock.value for past in await world.manager.past()] == ["a", "d"]
    assert brief.id in {line["lock"] for _, line in world.recorded}


async def test_a_lock_ends_at_its_time_and_its_end_is_on_record(world: World) -> None:
    lock = await world.manager.lock(order())
    world.clock.advance(60)
    assert world.manager.current() == ()
    world.record_fails = True
    with pytest.raises(UnavailableError):
        await world.manager.sweep()
    world.record_fails = False
    await world.manager.sweep()
    await world.manager.sweep()
    assert world.told == [lock, lock.id]
    assert [(kind, line["action"]) for kind, line in world.recorded] == [("operator", "lock"), ("lock", "expire")]
    (past,) = await world.manager.past()
    assert (past.lock, past.ended, past.by) == (lock, world.clock.now(), "")


async def test_an_end_that_cannot_be_kept_is_on_record_once_however_often_it_is_tried(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> int:
        raise UnavailableError(Reason.STORE_UNAVAILABLE)

    await world.manager.lock(order())
    world.clock.advance(60)
    with monkeypatch.context() as broken:
        broken.setattr(world.store, "end", fails)
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await world.manager.sweep()
    await world.manager.sweep()
    assert [line["action"] for _, line in world.recorded] == ["lock", "expire"]
    assert await world.store.in_force() == ()


async def test_lifting_is_on_record_first_and_says_who_and_why(world: World) -> None:
    lock = await world.manager.lock(order())
    assert await world.manager.lift(lock.id, "eve", "it was her", uid=7) == lock
    kind, line = world.recorded[-1]
    assert (kind, line["action"], line["uid"], line["who"], line["reason"]) == (
        "operator",
        "unlock",
        7,
        "eve",
        "it was her",
    )
    assert world.told == [lock, lock.id]
    (past,) = await world.manager.past()
    assert (past.by, past.reason) == ("eve", "it was her")
    with pytest.raises(ClientError) as caught:
        await world.manager.lift(lock.id, "eve", "")
    assert caught.value.status == 404


async def test_a_review_lifts_what_waits_for_one_and_marks_what_has_a_time(world: World) -> None:
    waiting = await world.manager.lock(order("a", lasts=None))
    timed = await world.manager.lock(order("b"))
    await world.manager.review(waiting.id, "root", "seen", uid=0)
    reviewed = await world.manager.review(timed.id, "root", "seen", uid=0)
    assert reviewed.reviewed == "root"
    assert world.manager.current() == (reviewed,)
    assert world.told[2:] == [waiting.id, reviewed]
    assert [line["action"] for _, line in world.recorded[2:]] == ["review-lock", "review-lock"]
    await world.reopen()
    assert world.manager.current() == (reviewed,)


async def test_the_same_maker_locks_the_same_once_and_it_ends_no_sooner(world: World) -> None:
    first = await world.manager.lock(order(lasts=60.0))
    world.clock.advance(10)
    again = await world.manager.lock(order(lasts=20.0, cause="again"))
    assert (again.id, again.expires, again.at, again.cause) == (first.id, first.expires, world.clock.now(), "again")
    assert (await world.manager.lock(order(lasts=None))).expires is None
    assert (await world.manager.lock(order(lasts=5.0))).expires is None
    assert len(world.manager.current()) == 1
    await world.manager.lock(order(by="watch:volume"))
    await world.manager.lock(order(effect=LockEffect.READ_ONLY))
    assert len(world.manager.current()) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": " "},
        {"value": "x" * 321},
        {"lasts": 0.0},
        {"lasts": float("nan")},
        {"lasts": float("inf")},
        {"lasts": LONGEST + 1},
        {"cause": "x" * 301},
        {"kind": LockKind.ROUTE, "provider": "corp"},
    ],
    ids=str,
)
async def test_an_order_that_makes_no_sense_is_refused_before_it_is_on_record(
    world: World, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as caught:
        await world.manager.lock(order(**{"value": "alice", **wrong}))
    assert caught.value.reason is Reason.MALFORMED
    assert world.done == []


async def test_locks_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zt_proxy.control.locks.manager.MOST", 2)
    await world.manager.lock(order("a"))
    first = await world.manager.lock(order("b"))
    with pytest.raises(UnavailableError):
        await world.manager.lock(order("c"))
    await world.manager.lock(order("b", cause="again"))
    await world.manager.lift(first.id, "root", "")
    await world.manager.lock(order("c"))
    assert link_locks.MOST == 10_000


async def test_a_caller_that_goes_away_leaves_no_lock_that_workers_do_not_know(world: World) -> None:
    asking = asyncio.ensure_future(world.manager.lock(order()))
    while not world.recorded:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await world.manager.close()
    assert [lock.value for lock in world.told] == ["alice"]
    await world.open()
    assert [lock.value for lock in world.manager.current()] == ["alice"]


async def test_the_file_names_nobody_and_is_ours_alone(world: World) -> None:
    await world.manager.lock(order("alice-the-secret", cause="because-of-that"))
    await world.manager.close()
    data = b"".join(path.read_bytes() for path in world.folder.glob(f"{FILE}*"))
    assert b"alice-the-secret" not in data
    assert b"because-of-that" not in data
    assert (world.folder / FILE).stat().st_mode & 0o777 == 0o600
    await world.open()


async def test_a_lock_that_nobody_can_read_stops_the_start(world: World) -> None:
    await world.manager.lock(order())
    await world.manager.close()
    (world.folder / "store.keys").unlink()
    with pytest.raises(ConfigurationError, match=r"store\.keys"):
        await world.open()
    await world.store.close()
    with sqlite3.connect(world.folder / FILE) as db:
        db.execute("DELETE FROM locks")
    db.close()
    await world.open()


async def test_what_is_over_is_kept_up_to_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zt_proxy.control.locks.store.PAST", 3)
    for number in range(5):
        lock = await world.manager.lock(order(f"{number}"))
        await world.manager.lift(lock.id, "root", "")
        world.clock.advance(1)
    assert [past.lock.value for past in await world.manager.past()] == ["4", "3", "2"]
    assert PAST == 1_000


async def test_the_number_of_changes_in_the_store_only_rises(world: World) -> None:
    lock = await world.manager.lock(order())
    numbers = [await world.store.put(lock), await world.store.end((lock,), 1.0, "", ""), await world.store.put(lock)]
    await world.reopen()
    numbers.append(await world.store.put(lock))
    assert numbers == sorted(set(numbers))


async def test_pages_that_no_lock_stops_can_ask_about_a_person(world: World) -> None:
    lock = await world.manager.lock(order("alice", provider="corp"))
    mail = await world.manager.lock(order("Bob@Example.com", lasts=None))
    await world.manager.lock(order("s1", kind=LockKind.SESSION))
    assert world.manager.on_person(Principal("alice", "https://idp", "corp")) == (lock,)
    assert world.manager.on_person(Principal("alice", "https://idp", "other")) == ()
    assert world.manager.on_person(Principal("b", "https://idp", "other", email="bob@example.com")) == (mail,)
