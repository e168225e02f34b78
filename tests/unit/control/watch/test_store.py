"""What watching has learnt, on disk: read back as it was, bounded, and no worse for a damaged row."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from zt_proxy.control.settings import VolumeSettings
from zt_proxy.control.watch import store as module
from zt_proxy.control.watch.alerts import Alert
from zt_proxy.control.watch.detectors import Flow, Person, new_flow
from zt_proxy.control.watch.store import KEPT, WatchStore

NOW = 1_800_000_000.0
RULES = VolumeSettings()
KEY, ROUTE = "corp\x1falice\x1fapp", "\x1fapp"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WatchStore]:
    store = await WatchStore.open(tmp_path)
    yield store
    await store.close()


def worked(minutes: int = 30) -> tuple[Flow, Flow]:
    """Everybody's traffic, and a person's."""
    everybody = new_flow(None, NOW, RULES)
    flow = new_flow(everybody, NOW, RULES)
    for minute in range(minutes):
        flow.add(1_000 + minute, NOW + minute * 61.0, RULES)
    return everybody, flow


async def save(store: WatchStore, flows: dict[str, Flow], now: float = NOW) -> None:
    people = {"corp\x1falice": Person(NOW, {("app", ""): NOW, ("app", "export"): NOW + 5})}
    await store.save(flows, people, [("staff", "corp\x1falice", NOW)], RULES, now)


async def test_a_history_is_read_back_as_it_was(store: WatchStore) -> None:
    everybody, flow = worked()
    await save(store, {KEY: flow, ROUTE: everybody})
    learnt = await store.load(RULES)
    read = learnt.flows[KEY]
    assert read.first == NOW
    assert read.route is learnt.flows[ROUTE]
    assert read.levels[0].usual_sent == flow.levels[0].usual_sent
    assert read.levels[0].sent == flow.levels[0].sent + flow.taken()[0], "the open window goes on"
    assert learnt.people["corp\x1falice"].used == {("app", ""): NOW, ("app", "export"): NOW + 5}
    assert learnt.members == {"staff": {"corp\x1falice": NOW}}


async def test_a_person_whose_route_was_not_kept_gets_a_fresh_one(store: WatchStore) -> None:
    _, flow = worked()
    await save(store, {KEY: flow})
    learnt = await store.load(RULES)
    assert learnt.flows[KEY].route is learnt.flows[ROUTE]


async def test_a_history_of_other_windows_is_none(store: WatchStore) -> None:
    everybody, flow = worked()
    await save(store, {KEY: flow, ROUTE: everybody})
    assert (await store.load(VolumeSettings(windows=(30.0,)))).flows == {}


async def test_whoever_does_nothing_for_long_is_forgotten(store: WatchStore) -> None:
    everybody, flow = worked()
    await save(store, {KEY: flow, ROUTE: everybody})
    await store.save({}, {}, (), RULES, NOW + KEPT + 86_400.0)
    learnt = await store.load(RULES)
    assert (learnt.flows, learnt.people, learnt.members) == ({}, {}, {})


async def test_rows_that_do_not_read_are_left_out(store: WatchStore, tmp_path: Path) -> None:
    everybody, flow = worked()
    await save(store, {KEY: flow, ROUTE: everybody})
    with sqlite3.connect(tmp_path / "watch.db") as other:
        other.execute("UPDATE flows SET blob = x'c1' WHERE key = ?", (KEY,))
        other.execute("UPDATE people SET blob = x'00'")
    other.close()
    learnt = await store.load(RULES)
    assert set(learnt.flows) == {ROUTE}
    assert learnt.people == {}


async def test_the_file_is_for_its_user_alone(store: WatchStore, tmp_path: Path) -> None:
    assert (tmp_path / "watch.db").stat().st_mode & 0o777 == 0o600


def alert(number: int, count: int = 1) -> Alert:
    return Alert(1, f"{number:012x}", NOW + number, "volume", "high", "much", "app", "report", count)


async def test_alerts_come_newest_first_a_repetition_in_the_place_of_the_first(
    store: WatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALERTS", 5)
    for number in range(9):
        await store.keep(alert(number))
    await store.keep(alert(7, count=3))
    found = await store.alerts()
    assert [(each.id, each.count) for each in found] == [
        (f"{number:012x}", 3 if number == 7 else 1) for number in (8, 7, 6, 5, 4)
    ]
    assert [each.at for each in await store.alerts(since=NOW + 7)] == [NOW + 8, NOW + 7]
    assert len(await store.alerts(limit=2)) == 2
