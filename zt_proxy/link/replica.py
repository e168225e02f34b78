"""What a worker's end of the link knows of control, and the worker that it puts it in force on."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from zt_proxy.link.frames import log
from zt_proxy.link.ledger import Notes
from zt_proxy.link.locks import Lock, LockChange, LockLifted, LockSet
from zt_proxy.link.messages import (
    CHANGED,
    UP_BYTES,
    AskHandler,
    Change,
    IdleNote,
    Invalidation,
    Question,
    Reply,
    RevocationDropped,
    RevocationList,
    SigningKey,
    WorkerLink,
)

OWN_NOTES = 10_000
"""Sessions whose idle notes this worker tells to the next control."""

_T = TypeVar("_T")


class NotInForce(Exception):
    """The worker failed to take something in: nothing may be decided here until all of it arrived anew."""


class Replica:
    """Follows control by the numbers of its changes. Methods that reach the worker raise NotInForce if it fails."""

    def __init__(self) -> None:
        self.control = ""
        """The run of control that `number` belongs to; empty: name none, and be told everything."""
        self.number = 0
        self.turns = 0
        """Rises with every invalidation."""
        self._notes = Notes(OWN_NOTES)
        self._key: SigningKey | None = None
        self._lists: dict[tuple[str, bytes], RevocationList] = {}
        self._arriving: dict[tuple[str, bytes], RevocationList] | None = None
        self._locks: dict[str, Lock] = {}
        self._arriving_locks: dict[str, Lock] = {}
        """With `_arriving`."""
        self._locks_in_doubt = False
        """The worker failed to take one in: it has to be told all of them anew."""
        self._worker: WorkerLink | None = None

    def attach(self, worker: WorkerLink) -> None:
        """Tell this worker what is in force, and every change from now on."""
        if self._key is not None:
            worker.signing_key(self._key)
        if self._lists:
            worker.revocation_lists(tuple(self._lists.values()))
        if self._locks:
            worker.locks(tuple(LockSet(lock) for lock in self._locks.values()))
        self._worker = worker

    def begin(self, number: int) -> None:
        """Changes were missed: forget, and take in the state as of `number`. The lists and locks before stay until it
        is all here."""
        self.control = ""
        self.number = number
        self._arriving = {}
        self._arriving_locks = {}

    def abandon(self) -> None:
        """The connection broke: half a state is none."""
        self._arriving = None

    @property
    def whole(self) -> bool:
        return self._arriving is None

    def complete(self, control: str) -> None:
        """All up to `number` has arrived, from this run of control."""
        if self._arriving is not None:
            changed = self._lists != self._arriving
            self._lists, self._arriving = self._arriving, None
            if changed:
                self._tell_lists()
            self._exchange_locks(self._arriving_locks)
        self.control = control

    def apply(self, change: Change) -> None:
        """Put a change in force."""
        body = change.body
        if isinstance(body, Invalidation):
            self.invalidate(body)
        elif isinstance(body, SigningKey):
            self._key = body
            if self._worker is not None:
                _try(self._worker.signing_key, body)
        elif isinstance(body, IdleNote):
            self.idle_note(body)
        elif isinstance(body, (LockSet, LockLifted)):
            self._lock(body)
        else:
            self._revocation(body)
        if change.number:
            self.number = change.number

    def invalidate(self, change: Invalidation) -> None:
        self.turns += 1
        if change.reason not in CHANGED:
            for sid in change.sids:
                self._notes.drop(sid)
        if self._worker is not None:
            _try(self._worker.invalidate, change)

    def idle_note(self, note: IdleNote) -> None:
        """A note of some worker, as control tells it."""
        if self._worker is not None:
            _try(self._worker.idle_note, note)

    def own_note(self, note: IdleNote) -> bool:
        """A note of this worker; False if as much was known."""
        return self._notes.add(note)

    def own_notes(self) -> Iterator[IdleNote]:
        return iter(self._notes)

    def _revocation(self, body: RevocationList | RevocationDropped) -> None:
        lists = self._lists if self._arriving is None else self._arriving
        if isinstance(body, RevocationList):
            lists[body.source, body.issuer] = body
        else:
            lists.pop((body.source, body.issuer), None)
        if self._arriving is None:
            self._tell_lists()

    def _lock(self, body: LockChange) -> None:
        """What the worker was told of, and not of its end, stays in `_locks`, also when telling fails."""
        locks = self._locks if self._arriving is None else self._arriving_locks
        if isinstance(body, LockSet):
            locks[body.lock.id] = body.lock
        if self._arriving is None:
            self._tell_locks((body,))
        if isinstance(body, LockLifted):
            locks.pop(body.id, None)

    def _exchange_locks(self, wanted: dict[str, Lock]) -> None:
        """All locks there are now have arrived. What is new comes first: no moment is freer than before and after."""
        known = self._locks
        new = [LockSet(lock) for lock in wanted.values() if self._locks_in_doubt or known.get(lock.id) != lock]
        gone = [LockLifted(id_) for id_ in known if id_ not in wanted]
        self._locks = {**known, **wanted}
        if new or gone:
            self._tell_locks((*new, *gone))
        self._locks = wanted

    def _tell_locks(self, changes: tuple[LockChange, ...]) -> None:
        if self._worker is not None:
            self._locks_in_doubt = True  # until it is done: a failure is followed by everything anew
            _try(self._worker.locks, changes)
            self._locks_in_doubt = False

    def _tell_lists(self) -> None:
        if self._worker is not None:
            _try(self._worker.revocation_lists, tuple(self._lists.values()))


def reply_to(question: Question, answer: AskHandler | None) -> Reply:
    """What this worker says to control's question; never raises."""
    if answer is None:
        return Reply(question.id, b"", "it is starting")
    try:
        body = answer(question.what)
    except KeyError:
        return Reply(question.id, b"", f"it does not know {question.what}")
    except Exception as error:
        log.exception("a question cannot be answered", what=question.what)
        return Reply(question.id, b"", type(error).__name__)
    if len(body) > UP_BYTES - 1024:
        return Reply(question.id, b"", f"its answer has {len(body)} bytes")
    return Reply(question.id, body)


def _try(call: Callable[[_T], None], change: _T) -> None:
    try:
        call(change)
    except Exception:
        log.exception("a change cannot be put in force", change=type(change).__name__)
        raise NotInForce from None
