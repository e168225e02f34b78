"""Locks on a worker's side of the link: through lost connections, another control, and a worker that fails."""

import pytest

from tests.lab.links import Authority, HearingWorker, UnixLinks, in_force
from tests.lab.waiting import until
from zt_proxy.link.ledger import Ledger
from zt_proxy.link.locks import Lock, LockChange, LockEffect, LockKind, LockLifted, LockSet
from zt_proxy.link.messages import Change
from zt_proxy.link.replica import NotInForce, Replica


def lock(id_: str, effect: LockEffect = LockEffect.BLOCK) -> Lock:
    return Lock(id_, LockKind.SESSION, "s1", effect, "cause", "root", 1.0)


class Held:
    """The locks of a worker by id, as its changes leave them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Lock] = {}
        self.fails = False

    def locks(self, changes: tuple[LockChange, ...]) -> None:
        if self.fails:
            raise RuntimeError("cannot take it in")
        for change in changes:
            if isinstance(change, LockSet):
                self.by_id[change.lock.id] = change.lock
            else:
                self.by_id.pop(change.id, None)


def arrive(replica: Replica, *locks: Lock) -> None:
    replica.begin(9)
    for each in locks:
        replica.apply(Change(0, LockSet(each)))
    replica.complete("boot")


def test_what_is_in_force_takes_the_place_of_all_there_was() -> None:
    replica, worker = Replica(), Held()
    replica.attach(worker)
    arrive(replica, lock("a"), lock("b"))
    arrive(replica, lock("b", LockEffect.READ_ONLY), lock("c"))
    assert worker.by_id == {"b": lock("b", LockEffect.READ_ONLY), "c": lock("c")}


def test_locks_before_stay_until_all_there_are_now_have_arrived() -> None:
    replica, worker = Replica(), Held()
    replica.attach(worker)
    arrive(replica, lock("a"))
    replica.begin(12)
    replica.apply(Change(0, LockSet(lock("b"))))
    assert set(worker.by_id) == {"a"}
    replica.abandon()
    assert set(worker.by_id) == {"a"}


def test_a_worker_that_attaches_after_they_arrived_has_them() -> None:
    replica, worker = Replica(), Held()
    arrive(replica, lock("a"))
    replica.attach(worker)
    assert set(worker.by_id) == {"a"}


@pytest.mark.parametrize(
    "change", [LockSet(lock("b")), LockLifted("a"), LockSet(lock("a", LockEffect.NO_EXPORT))], ids=str
)
def test_after_a_failure_the_worker_is_told_everything_anew(change: LockChange) -> None:
    replica, worker = Replica(), Held()
    replica.attach(worker)
    arrive(replica, lock("a"))
    worker.fails = True
    with pytest.raises(NotInForce):
        replica.apply(Change(10, change))
    worker.fails = False
    wanted = {"b": lock("b"), "c": lock("c")}
    arrive(replica, *wanted.values())
    assert worker.by_id == wanted


def test_the_history_forgets_and_what_is_in_force_does_not() -> None:
    ledger = Ledger(history=2)
    for number in range(5):
        ledger.lock(lock(f"{number}"))
    ledger.unlock("3")
    assert not ledger.knows_since(ledger.boot, 0)
    assert [change.body for change in ledger.in_force()] == [LockSet(lock(id_)) for id_ in ("0", "1", "2", "4")]


async def test_another_control_without_a_lock_takes_it_from_the_worker() -> None:
    links = await UnixLinks(Authority()).start()
    worker = HearingWorker()
    try:
        links.control.lock(lock("a"))
        await links.join(worker)
        await links.crash()
        await links.start()
        links.control.lock(lock("b"))
        await until(lambda: worker.locked[-1:] == [LockLifted("a")])
        assert worker.locked == [LockSet(lock("a")), LockSet(lock("b")), LockLifted("a")]
    finally:
        await links.stop()


async def test_a_lock_made_while_the_connection_was_broken_comes_with_the_next() -> None:
    links = await UnixLinks(Authority()).start()
    worker = HearingWorker()
    try:
        await links.join(worker)
        links.cut()
        links.control.lock(lock("a"))
        await in_force(links)
        assert worker.locked == [LockSet(lock("a"))]
    finally:
        await links.stop()
