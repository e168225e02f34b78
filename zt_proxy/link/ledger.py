"""What control's side of a link remembers: the changes by number, and what is in force.

The history is bounded in number and bytes; a worker that missed more than it holds is told to drop everything and gets
what is in force instead. Idle notes are not among that: they come with the answer about the session.
"""

import secrets
from collections.abc import Iterable, Iterator

from zt_proxy.link.locks import Lock, LockChange, LockLifted, LockSet
from zt_proxy.link.messages import (
    CHANGED,
    RESYNC,
    Change,
    IdleNote,
    Invalidation,
    RevocationDropped,
    RevocationList,
    SigningKey,
)

HISTORY = 10_000
"""Changes that are kept for workers that were away."""
HISTORY_BYTES = 32 * 1024 * 1024
"""Rough size of the same; revocation lists are the large ones."""
NOTES = 100_000
"""Sessions with idle notes."""
AT_ONCE = 100_000
"""Most sessions that one change names; with more it means all of them."""
LIST_BYTES = 8 * 1024 * 1024
"""Largest revocation list that goes to workers: some 400,000 entries."""


class Notes:
    """Idle notes by session, bounded; the oldest session's go first."""

    __slots__ = ("_by_sid", "_capacity")

    def __init__(self, capacity: int = NOTES) -> None:
        self._capacity = capacity
        self._by_sid: dict[str, dict[str, float]] = {}

    def add(self, note: IdleNote) -> bool:
        """False if as much was known."""
        routes = self._by_sid.get(note.sid)
        if routes is None:
            if len(self._by_sid) >= self._capacity:
                del self._by_sid[next(iter(self._by_sid))]
            routes = self._by_sid[note.sid] = {}
        if routes.get(note.route, 0.0) >= note.at:
            return False
        routes[note.route] = note.at
        return True

    def of(self, sid: str) -> dict[str, float]:
        """Route → time of the note."""
        return self._by_sid.get(sid, {})

    def drop(self, sid: str) -> None:
        """The session is over."""
        self._by_sid.pop(sid, None)

    def __iter__(self) -> Iterator[IdleNote]:
        for sid, routes in self._by_sid.items():
            for route, at in routes.items():
                yield IdleNote(sid, route, at)

    def __len__(self) -> int:
        return len(self._by_sid)


class Ledger:
    """Numbers every change and keeps the last ones. Each method gives the changes to send, in order."""

    def __init__(self, *, history: int = HISTORY) -> None:
        self.boot = secrets.token_hex(8)
        self.number = 0
        """Of the last change; 0 before the first."""
        self.key: SigningKey | None = None
        self.lists: dict[tuple[str, bytes], RevocationList] = {}
        self.locks: dict[str, Lock] = {}
        """By id; who makes them bounds them."""
        self.notes = Notes()
        self._limit = history
        self._history: dict[int, Change] = {}
        self._bytes = 0
        self._store_sequence: int | None = None

    # changes

    def invalidate(self, change: Invalidation) -> list[Change]:
        """A number of the store that was seen before is a repetition and dropped; a gap means that changes were lost,
        and orders every worker to forget everything."""
        last = self._store_sequence
        if last is not None and change.sequence <= last:
            return []
        self._store_sequence = change.sequence
        if last is not None and change.sequence > last + 1:
            change = Invalidation(change.sequence, "", RESYNC)
        elif len(change.more) > AT_ONCE:
            change = Invalidation(change.sequence, "", change.reason)
        if change.reason not in CHANGED:
            for sid in change.sids:
                self.notes.drop(sid)
        return [self._record(change)]

    def signing_key(self, key: SigningKey) -> list[Change]:
        self.key = key
        return [self._record(key)]

    def revocation_lists(self, lists: Iterable[RevocationList]) -> list[Change]:
        """All lists there are now; gives what differs. One that is too large to send is one that cannot be trusted."""
        wanted = {(each.source, each.issuer): _fitting(each) for each in lists}
        gone = [key for key in self.lists if key not in wanted]
        new = [each for key, each in wanted.items() if self.lists.get(key) != each]
        self.lists = wanted
        return [self._record(RevocationDropped(*key)) for key in gone] + [self._record(each) for each in new]

    def idle_note(self, note: IdleNote) -> list[Change]:
        return [self._record(note)] if self.notes.add(note) else []

    def lock(self, lock: Lock) -> list[Change]:
        if self.locks.get(lock.id) == lock:
            return []
        self.locks[lock.id] = lock
        return [self._record(LockSet(lock))]

    def unlock(self, id: str) -> list[Change]:
        return [] if self.locks.pop(id, None) is None else [self._record(LockLifted(id))]

    # what a worker missed

    def in_force(self) -> Iterator[Change]:
        """Everything that a worker needs which knows nothing."""
        if self.key is not None:
            yield Change(0, self.key)
        for each in self.lists.values():
            yield Change(0, each)
        for lock in self.locks.values():
            yield Change(0, LockSet(lock))

    def knows_since(self, boot: str, number: int) -> bool:
        """True if all changes after `number` of that run of control are still here."""
        if boot != self.boot or number > self.number:
            return False
        return number == self.number or number + 1 in self._history

    def change(self, number: int) -> Change | None:
        """None if the history has forgotten it."""
        return self._history.get(number)

    def touched(self, sid: str, since: int) -> bool:
        """True if a change after `since` may have concerned what was known of a session."""
        for number in range(since + 1, self.number + 1):
            change = self._history.get(number)
            if change is None or (isinstance(change.body, Invalidation) and change.body.concerns(sid)):
                return True
        return False

    def _record(
        self, body: Invalidation | SigningKey | RevocationList | RevocationDropped | IdleNote | LockChange
    ) -> Change:
        self.number += 1
        change = self._history[self.number] = Change(self.number, body)
        self._bytes += _size(change)
        while len(self._history) > self._limit or (self._bytes > HISTORY_BYTES and len(self._history) > 1):
            self._bytes -= _size(self._history.pop(next(iter(self._history))))
        return change


def _size(change: Change) -> int:
    if isinstance(change.body, RevocationList):
        return len(change.body.serials) + 256
    if isinstance(change.body, LockSet):
        return 2048
    return 256 + 64 * len(change.body.more) if isinstance(change.body, Invalidation) else 256


def _fitting(one: RevocationList) -> RevocationList:
    if len(one.serials) <= LIST_BYTES:
        return one
    return RevocationList(one.source, one.issuer, b"", one.next_update, "the list has more entries than fit")
