"""Who has signed in, and what it was like: bounded, sealed, and gone after its time."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from zt_proxy.control.factors.types import Person
from zt_proxy.control.risk.people import FRESH, KnownPeople
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, ConfigurationError
from zt_proxy.core.session import Principal
from zt_proxy.core.types import Origin
from zt_proxy.policy.geo import Place
from zt_proxy.policy.habits import KEPT, NO_HISTORY, History

GERMANY = Place(Origin("81.2.69.1", frozenset(), "DE", 64500))


def principal(name: str = "alice", **more: Any) -> Principal:
    return Principal(name, "https://idp.example", "corp", email=f"{name}@example.com", name=name.title(), **more)


def person(name: str = "alice") -> Person:
    return Person.of(principal(name))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def people(tmp_path: Path, clock: ManualClock) -> AsyncIterator[KnownPeople]:
    known = await KnownPeople.open(tmp_path / "state", clock, most=5)
    yield known
    await known.close()


async def come(people: KnownPeople, clock: ManualClock, who: Principal | None = None) -> None:
    now = clock.now()
    await people.signed_in(who or principal(), lambda history: history.after(GERMANY, now, egress=False))


async def test_a_stranger_has_no_history_and_is_on_no_list(people: KnownPeople) -> None:
    assert await people.history(person()) == NO_HISTORY
    assert await people.amend(person(), lambda history: history.failed(1.0)) is None
    assert not await people.renewed(principal())
    assert (await people.page()).people == ()


async def test_sign_ins_add_up_and_the_providers_last_word_counts(people: KnownPeople, clock: ManualClock) -> None:
    begin = clock.now()
    await come(people, clock)
    clock.advance(60)
    await come(people, clock, principal(groups=frozenset({"staff"}), roles=frozenset({"r"}), claims={"dept": "ops"}))
    history = await people.history(person())
    assert (history.seen, dict(history.countries)) == (begin + 60, {"DE": begin + 60})
    [alice] = (await people.page()).people
    assert (alice.subject, alice.email, alice.groups, alice.roles) == ("alice", "alice@example.com", ("staff",), ("r",))
    assert (alice.claims, alice.first_seen, alice.last_seen) == ({"dept": "ops"}, begin, begin + 60)


async def test_a_failed_attempt_is_part_of_the_history(people: KnownPeople, clock: ManualClock) -> None:
    await come(people, clock)
    now = clock.now()
    await people.amend(person(), lambda history: history.failed(now))
    history = await people.amend(person(), lambda history: history.failed(now))
    assert history == await people.history(person())
    assert history is not None
    assert history.failures_by(clock.now()) == 2


async def test_a_refresh_says_whether_somebody_is_another_now(people: KnownPeople, clock: ManualClock) -> None:
    await come(people, clock)
    assert not await people.renewed(principal())
    clock.advance(FRESH + 1)
    assert not await people.renewed(principal())
    assert await people.renewed(principal(groups=frozenset({"leads"})))
    [alice] = (await people.page()).people
    assert (alice.groups, alice.last_seen) == (("leads",), clock.now())


async def test_the_list_comes_in_pages_and_each_person_once(people: KnownPeople, clock: ManualClock) -> None:
    for number in range(5):
        await come(people, clock, principal(f"p{number}"))
    seen, after = [], ""
    for _ in range(4):
        page = await people.page(after, 2)
        seen += [each.subject for each in page.people]
        after = page.following
        if not after:
            break
    assert sorted(seen) == [f"p{number}" for number in range(5)]
    with pytest.raises(ClientError):
        await people.page("no position")


async def test_whoever_was_not_seen_for_longest_gives_way(people: KnownPeople, clock: ManualClock) -> None:
    for number in range(6):
        await come(people, clock, principal(f"p{number}"))
        clock.advance(1)
    assert {each.subject for each in (await people.page()).people} == {f"p{number}" for number in range(1, 6)}


async def test_people_are_forgotten_after_their_time(people: KnownPeople, clock: ManualClock) -> None:
    await come(people, clock)
    clock.advance(KEPT + 1)
    assert (await people.page()).people == ()
    await come(people, clock, principal("bob"))
    assert await people.history(person()) == NO_HISTORY


async def test_the_file_names_nobody(people: KnownPeople, clock: ManualClock, tmp_path: Path) -> None:
    await come(people, clock, principal(groups=frozenset({"secret-group"})))
    await people.close()
    for path in (tmp_path / "state").glob("people.db*"):
        assert path.stat().st_mode & 0o077 == 0
        content = path.read_bytes()
        for word in (b"alice", b"secret-group", b"idp.example", b"81.2.69"):
            assert word not in content


async def test_what_is_known_survives_a_restart(people: KnownPeople, clock: ManualClock, tmp_path: Path) -> None:
    await come(people, clock)
    before = await people.history(person())
    await people.close()
    again = await KnownPeople.open(tmp_path / "state", clock)
    assert await again.history(person()) == before != History()
    await again.close()


async def test_without_the_keys_people_are_strangers_again(clock: ManualClock, tmp_path: Path) -> None:
    first = await KnownPeople.open(tmp_path / "state", clock)
    await come(first, clock)
    await first.close()
    (tmp_path / "state" / "store.keys").unlink()
    again = await KnownPeople.open(tmp_path / "state", clock)
    assert await again.history(person()) == NO_HISTORY
    assert (await again.page()).people == ()
    await again.close()


async def test_a_file_that_others_may_read_is_not_used(clock: ManualClock, tmp_path: Path) -> None:
    await (await KnownPeople.open(tmp_path / "state", clock)).close()
    (tmp_path / "state" / "people.db").chmod(0o644)
    with pytest.raises(ConfigurationError):
        await KnownPeople.open(tmp_path / "state", clock)
