"""The locks in force on this worker: who, what and which route may do less than the rules allow.

Looked up at every request, so that a lock counts from the moment it is told: a few look-ups in dicts, and nothing at
all while there is no lock (`if locks:`). A lock that ran out counts no more, whether or not anybody has said so.
"""

from collections.abc import Iterable

from zt_proxy.core.session import Machine, Principal, Session
from zt_proxy.link.locks import STRONGEST_FIRST, Lock, LockKind

_RANK = {effect: rank for rank, effect in enumerate(STRONGEST_FIRST)}
_Found = dict[str, Lock]
_NONE: _Found = {}
NOTHING: tuple[Lock, ...] = ()


class Locks:
    """One worker's locks, shared by all its worlds. Whoever makes locks bounds them (`link.locks.MOST`)."""

    __slots__ = ("_by", "by_id", "epoch")

    def __init__(self) -> None:
        self.by_id: dict[str, Lock] = {}
        """For a look whether there are any (`if locks.by_id:`), which each request takes."""
        self._by: dict[tuple[LockKind, str], _Found] = {}
        """Kind and name of the target → its locks by id. A user has as many names as they are known by."""
        self.epoch = 0
        """Raised by every change."""

    def __bool__(self) -> bool:
        return bool(self.by_id)

    def __len__(self) -> int:
        return len(self.by_id)

    def set(self, lock: Lock) -> None:
        """In force, in place of any with the same id."""
        self._forget(lock.id)
        self.by_id[lock.id] = lock
        for key in _keys(lock):
            self._by.setdefault(key, {})[lock.id] = lock
        self.epoch += 1

    def lift(self, id: str) -> None:
        """In force no more, if it was."""
        if self._forget(id):
            self.epoch += 1

    def effect_on(self, session: Session | None, machine: Machine | None, route: str, now: float) -> Lock | None:
        """The strongest lock on a request: of who sends it, and of the route that it goes to."""
        found = self.on(session, machine, route, now)
        return found[0] if found else None

    def on(self, session: Session | None, machine: Machine | None, route: str, now: float) -> tuple[Lock, ...]:
        """All of them, the strongest first: one that asks for a proof is over for who gave it, and the next counts."""
        by = self._by
        found: list[Lock] = [*by.get((LockKind.ROUTE, route), _NONE).values()]
        if session is not None:
            found += by.get((LockKind.SESSION, session.sid), _NONE).values()
            if session.device:
                found += by.get((LockKind.DEVICE, session.device), _NONE).values()
            found += self._of_user(session.principal)
        if machine is not None:
            found += by.get((LockKind.INTEGRATION, machine.principal.integration), _NONE).values()
        if not found:
            return NOTHING
        return tuple(sorted((lock for lock in found if not lock.over(now)), key=_rank))

    def of_route(self, route: str, now: float) -> tuple[Lock, ...]:
        """Those of the route itself, the strongest first."""
        return self.on(None, None, route, now)

    def _of_user(self, who: Principal) -> Iterable[Lock]:
        found = self._by.get((LockKind.USER, who.subject), _NONE)
        if who.email is not None:
            found = {**found, **self._by.get((LockKind.USER, who.email.casefold()), _NONE)}
        return [lock for lock in found.values() if lock.names(who)]

    def _forget(self, id: str) -> bool:
        lock = self.by_id.pop(id, None)
        if lock is None:
            return False
        for key in _keys(lock):
            held = self._by[key]
            del held[id]
            if not held:
                del self._by[key]
        return True


def _keys(lock: Lock) -> frozenset[tuple[LockKind, str]]:
    """An e-mail address is known in lower case; `Lock.names` tells it from a subject that is spelt so."""
    names = {lock.value, lock.value.casefold()} if lock.kind is LockKind.USER else {lock.value}
    return frozenset((lock.kind, name) for name in names)


def _rank(lock: Lock) -> tuple[int, float, str]:
    return _RANK[lock.effect], lock.at, lock.id
