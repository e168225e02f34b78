"""What every link between control and workers must keep, whatever carries it.

An implementation is added to `LINKS` of the lab; each test then runs over it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.lab.links import HANDLE, LINKS, SESSION, Authority, HearingWorker, Links, in_force, session
from tests.lab.waiting import until
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.link.locks import Lock, LockEffect, LockKind, LockLifted, LockSet
from zt_proxy.link.messages import CLOSED, LOOKUPS, IdleNote, Invalidation, RevocationList, SigningKey, pack_serials
from zt_proxy.link.proofs import KeptForm

KEY = SigningKey("k1", b"der")
LOCK = Lock("00000001", LockKind.USER, "alice", LockEffect.BLOCK, "laptop stolen", "root", 1.0, provider="corp")
OTHER_LOCK = Lock("00000002", LockKind.ROUTE, "flows", LockEffect.READ_ONLY, "incident", "root", 2.0, 4_000_000_000.0)
REVOKED = RevocationList("/etc/ca.pem", b"name", pack_serials([7, 1 << 159]), 2_000_000_000.0)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture(params=sorted(LINKS))
async def links(request: pytest.FixtureRequest, authority: Authority) -> AsyncIterator[Links]:
    made = await LINKS[request.param](authority)
    yield made
    authority.go.set()
    await made.stop()


async def test_a_look_up_gives_what_control_says(links: Links) -> None:
    link = await links.join(HearingWorker())
    assert await link.session(HANDLE, SESSION.host) == SESSION
    assert await link.session(HANDLE, "other.example.com") is None


async def test_activity_reaches_control(links: Links, authority: Authority) -> None:
    link = await links.join(HearingWorker())
    link.activity("s1", 5.0)
    await until(lambda: ("s1", 5.0) in authority.heard)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (UnavailableError(Reason.STORE_UNAVAILABLE), Reason.STORE_UNAVAILABLE),
        (UnavailableError(Reason.CONTROL_UNAVAILABLE), Reason.CONTROL_UNAVAILABLE),
    ],
)
async def test_a_fault_of_the_store_is_a_fault_and_not_an_unknown_session(
    links: Links, authority: Authority, fault: UnavailableError, reason: Reason
) -> None:
    link = await links.join(HearingWorker())
    authority.fault = fault
    with pytest.raises(UnavailableError) as caught:
        await link.session(HANDLE, SESSION.host)
    assert caught.value.reason is reason


async def test_an_invalidation_is_in_force_on_every_worker_once_it_is_settled(links: Links) -> None:
    workers = [HearingWorker(), HearingWorker()]
    for worker in workers:
        await links.join(worker)
    change = Invalidation(1, "s1", "signed-out")
    links.control.invalidate(change)
    assert await links.control.settled(links.control.sequence, 5.0)
    assert [worker.changes for worker in workers] == [[change], [change]]
    assert links.control.sequence == 1


async def test_a_worker_that_fails_does_not_keep_a_change_from_the_others(links: Links) -> None:
    broken, sound = HearingWorker(), HearingWorker()
    await links.join(broken)
    await links.join(sound)
    broken.stuck = True
    change = Invalidation(1, "s1", "signed-out")
    with contextlib.suppress(RuntimeError):  # the caller may hear of it, where it can
        links.control.invalidate(change)
    await until(lambda: sound.changes == [change])
    assert not await links.control.settled(1, 0.0)
    broken.stuck = False


@pytest.mark.case("ZT-NET-02")
async def test_a_repeated_number_is_dropped_and_a_gap_drops_every_cache(links: Links) -> None:
    worker = HearingWorker()
    await links.join(worker)
    for sequence in (7, 7, 8, 11, 10):
        links.control.invalidate(Invalidation(sequence, f"s{sequence}", "signed-out"))
    await in_force(links)
    assert [(change.sequence, change.sid) for change in worker.changes] == [(7, "s7"), (8, "s8"), (11, "")]


async def test_a_change_of_more_sessions_than_fit_into_one_message_is_a_change_of_all(links: Links) -> None:
    worker = HearingWorker()
    await links.join(worker)
    links.control.invalidate(Invalidation(1, "s", "signed-out", tuple(f"s{number}" for number in range(100_001))))
    await in_force(links)
    assert worker.changes == [Invalidation(1, "", "signed-out")]


@pytest.mark.case("ZT-NET-02")
async def test_a_session_revoked_while_it_was_looked_up_is_asked_for_again(links: Links, authority: Authority) -> None:
    link = await links.join(HearingWorker())
    authority.go.clear()
    look_up = asyncio.ensure_future(link.session(HANDLE, SESSION.host))
    await until(lambda: authority.asked == 1)
    authority.sessions.clear()
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    authority.go.set()
    assert await look_up is None
    assert authority.asked == 2


async def test_one_change_may_end_many_sessions_and_concerns_each_of_them(links: Links, authority: Authority) -> None:
    worker = HearingWorker()
    link = await links.join(worker)
    link.idle_note("s1", "flows", 50.0)
    await until(lambda: len(worker.notes) == 1)
    authority.go.clear()
    look_up = asyncio.ensure_future(link.session(HANDLE, SESSION.host))
    await until(lambda: authority.asked == 1)
    links.control.invalidate(Invalidation(1, "a", "revoked", ("b", "s1", "c")))
    authority.go.set()
    assert await look_up == SESSION
    assert authority.asked == 2
    await in_force(links)
    assert worker.changes[-1].sids == ("a", "b", "s1", "c")
    late = HearingWorker()
    await (await links.join(late)).session(HANDLE, SESSION.host)
    assert late.notes == []


async def test_a_look_up_is_not_asked_again_because_another_session_ended(links: Links, authority: Authority) -> None:
    link = await links.join(HearingWorker())
    authority.go.clear()
    look_up = asyncio.ensure_future(link.session(HANDLE, SESSION.host))
    await until(lambda: authority.asked == 1)
    for sequence in range(1, 101):
        links.control.invalidate(Invalidation(sequence, "another", "signed-out"))
    await in_force(links)
    authority.go.set()
    assert await look_up == SESSION
    assert authority.asked == 1


async def test_a_session_that_changes_with_every_look_up_is_a_fault_in_the_end(
    links: Links, authority: Authority
) -> None:
    link = await links.join(HearingWorker())
    numbers = iter(range(1, 10_000))
    answered = authority.session

    async def ends_meanwhile(handle_hash: bytes, host: str):
        found = await answered(handle_hash, host)
        links.control.invalidate(Invalidation(next(numbers), "s1", "unlocked"))
        return found

    authority.session = ends_meanwhile
    with pytest.raises(UnavailableError) as caught:
        await link.session(HANDLE, SESSION.host)
    assert caught.value.reason is Reason.CONTROL_UNAVAILABLE
    assert authority.asked < 1_000


async def test_a_worker_gets_the_current_key_when_it_joins_and_each_new_one(links: Links) -> None:
    early, late = HearingWorker(), HearingWorker()
    await links.join(early)
    links.control.signing_key(KEY)
    await in_force(links)
    await links.join(late)
    new = SigningKey("k2", b"der2")
    links.control.signing_key(new)
    await in_force(links)
    assert early.keys == [KEY, new]
    assert late.keys == [KEY, new]


async def test_a_worker_gets_all_revocation_lists_when_it_joins_and_when_one_changes(links: Links) -> None:
    early, late = HearingWorker(), HearingWorker()
    await links.join(early)
    links.control.revocation_lists([REVOKED])
    links.control.revocation_lists([REVOKED])
    await in_force(links)
    await links.join(late)
    other = RevocationList("/etc/ca.pem", b"another", b"", 1.0, "it is stale")
    links.control.revocation_lists([REVOKED, other])
    await in_force(links)
    links.control.revocation_lists([other])
    await in_force(links)
    for worker in (early, late):
        assert [set(lists) for lists in worker.lists] == [{REVOKED}, {REVOKED, other}, {other}]


async def test_a_list_too_large_to_send_refuses_the_whole_authority(links: Links) -> None:
    worker = HearingWorker()
    await links.join(worker)
    links.control.revocation_lists([RevocationList("a", b"name", b"\1" * 20 * 500_000, 1.0)])
    await in_force(links)
    assert worker.lists[0][0].problem


async def test_a_lock_is_in_force_on_every_worker_once_it_is_settled_and_so_is_its_end(links: Links) -> None:
    workers = [HearingWorker(), HearingWorker()]
    for worker in workers:
        await links.join(worker)
    links.control.lock(LOCK)
    links.control.lock(LOCK)
    await in_force(links)
    for worker in workers:
        assert worker.locked == [LockSet(LOCK)]
    links.control.unlock(LOCK.id)
    links.control.unlock("nobody knows")
    await in_force(links)
    for worker in workers:
        assert worker.locked == [LockSet(LOCK), LockLifted(LOCK.id)]
    assert links.control.sequence == 2


async def test_a_worker_that_joins_later_has_the_locks_in_force_and_no_others(links: Links) -> None:
    links.control.lock(LOCK)
    links.control.lock(OTHER_LOCK)
    links.control.unlock(LOCK.id)
    late = HearingWorker()
    await links.join(late)
    await in_force(links)
    assert late.locked == [LockSet(OTHER_LOCK)]


async def test_a_lock_that_a_worker_cannot_take_in_is_not_in_force(links: Links) -> None:
    broken, sound = HearingWorker(), HearingWorker()
    await links.join(broken)
    await links.join(sound)
    broken.stuck = True
    with contextlib.suppress(RuntimeError):  # the caller may hear of it, where it can
        links.control.lock(LOCK)
    await until(lambda: sound.locked == [LockSet(LOCK)])
    assert not await links.control.settled(1, 0.0)
    broken.stuck = False


async def test_an_idle_note_of_one_worker_reaches_every_worker(links: Links) -> None:
    first, second, late = HearingWorker(), HearingWorker(), HearingWorker()
    link = await links.join(first)
    await links.join(second)
    link.idle_note("s1", "flows", 50.0)
    note = IdleNote("s1", "flows", 50.0)
    await until(lambda: note in second.notes)
    late_link = await links.join(late)
    assert await late_link.session(HANDLE, SESSION.host) == SESSION
    assert note in late.notes


async def test_idle_notes_end_with_their_session_and_outlive_a_step_up(links: Links, authority: Authority) -> None:
    first, late = HearingWorker(), HearingWorker()
    link = await links.join(first)
    authority.sessions[b"2" * 32, SESSION.host] = session("s2")
    link.idle_note("s1", "flows", 50.0)
    link.idle_note("s2", "flows", 50.0)
    await until(lambda: len(first.notes) == 2)
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    links.control.invalidate(Invalidation(2, "s2", "unlocked"))
    late_link = await links.join(late)
    await late_link.session(HANDLE, SESSION.host)
    await late_link.session(b"2" * 32, SESSION.host)
    assert late.notes == [IdleNote("s2", "flows", 50.0)]


async def test_control_asks_a_worker_and_gets_its_answer(links: Links) -> None:
    def answer(what: str) -> bytes:
        if what == "broken":
            raise RuntimeError("the handler is broken")
        return {"status": b"all is well"}[what]

    await links.join(HearingWorker(), answer=answer)
    await links.join(HearingWorker())
    able, mute = links.control.workers()
    assert await links.control.ask(able, "status") == b"all is well"
    for worker, what in ((able, "weather"), (able, "broken"), (mute, "status")):
        with pytest.raises(UnavailableError) as caught:
            await links.control.ask(worker, what)
        assert caught.value.reason is Reason.CONTROL_UNAVAILABLE


async def test_control_knows_its_workers_and_how_far_they_are(links: Links) -> None:
    workers = [HearingWorker(), HearingWorker()]
    for worker in workers:
        await links.join(worker)
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    await in_force(links)
    states = links.control.workers()
    assert [(state.worker, state.applied, state.connected) for state in states] == [(1, 1, True), (2, 1, True)]
    assert len({state.key for state in states}) == 2


async def test_a_worker_that_left_hears_nothing_and_nobody_waits_for_it(links: Links) -> None:
    worker = HearingWorker()
    await links.join(worker)
    await links.leave(worker)
    await until(lambda: not links.control.workers())
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    assert await links.control.settled(1, 0.0)
    assert not any(change.sid == "s1" for change in worker.changes)


@pytest.mark.case("ZT-NET-04")
async def test_a_worker_with_too_many_look_ups_is_told_no_and_not_queued(links: Links, authority: Authority) -> None:
    link = await links.join(HearingWorker())
    authority.go.clear()
    asked = [asyncio.ensure_future(link.session(HANDLE, SESSION.host)) for _ in range(LOOKUPS + 5)]
    await until(lambda: sum(look_up.done() for look_up in asked) == 5)
    authority.go.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(answer == SESSION for answer in answers) == LOOKUPS
    assert sum(isinstance(answer, UnavailableError) for answer in answers) == 5


async def test_a_closed_link_is_not_alive_answers_nothing_and_empties_every_cache(
    links: Links, authority: Authority
) -> None:
    worker = HearingWorker()
    link = await links.join(worker)
    assert link.alive()
    authority.go.clear()
    look_up = asyncio.ensure_future(link.session(HANDLE, SESSION.host))
    await until(lambda: authority.asked == 1)
    await links.close()
    authority.go.set()
    await until(lambda: not link.alive())
    assert [(change.sid, change.reason) for change in worker.changes] == [("", CLOSED)]
    with pytest.raises(UnavailableError):
        await look_up
    with pytest.raises(UnavailableError) as caught:
        await link.session(HANDLE, SESSION.host)
    assert caught.value.reason is Reason.CONTROL_UNAVAILABLE


FORM = KeptForm("text/plain", "https://flows.example.com", "https://flows.example.com/edit", b"x" * 8 * 1024 * 1024)


@pytest.mark.case("ZT-SESS-18")
async def test_of_any_number_of_workers_exactly_one_spends_a_proof(links: Links, authority: Authority) -> None:
    workers = [await links.join(HearingWorker()), await links.join(HearingWorker())]
    authority.proofs["s1", "route\x1frule\x1fPOST /flows"] = True
    authority.go.clear()
    asking = [
        asyncio.ensure_future(worker.spend("s1", "route\x1frule\x1fPOST /flows"))
        for worker in workers
        for _ in range(5)
    ]
    await asyncio.sleep(0)
    authority.go.set()
    assert sorted(await asyncio.gather(*asking)) == [False] * 9 + [True]
    assert not await workers[0].spend("s2", "route\x1frule\x1fPOST /flows")


async def test_a_kept_form_of_the_largest_size_arrives_whole_and_once(links: Links, authority: Authority) -> None:
    link = await links.join(HearingWorker())
    for number in range(3):
        authority.forms["s1", f"token{number}", SESSION.host, "/edit"] = FORM
    taken = await asyncio.gather(*(link.kept("s1", f"token{number}", SESSION.host, "/edit") for number in (0, 1, 2, 2)))
    assert taken == [FORM, FORM, FORM, None]
    assert await link.session(HANDLE, SESSION.host) == SESSION


@pytest.mark.parametrize("reason", [Reason.STORE_UNAVAILABLE, Reason.CONTROL_UNAVAILABLE])
async def test_a_fault_of_the_store_spends_nothing_and_gives_no_form(
    links: Links, authority: Authority, reason: Reason
) -> None:
    link = await links.join(HearingWorker())
    authority.fault = UnavailableError(reason)
    for asked in (link.spend("s1", "key"), link.kept("s1", "token", SESSION.host, "/")):
        with pytest.raises(UnavailableError) as caught:
            await asked
        assert caught.value.reason is reason


async def test_a_link_that_is_closed_spends_nothing(links: Links, authority: Authority) -> None:
    worker = HearingWorker()
    link = await links.join(worker)
    authority.proofs["s1", "key"] = True
    await links.close()
    await until(lambda: not link.alive())
    with pytest.raises(UnavailableError):
        await link.spend("s1", "key")
    assert authority.proofs
