"""The link inside one process: direct calls, with the same promises that a link between processes must keep.

    worker ──session, activity, idle note──►  MemoryLink  ──►  SessionAuthority (control)
    worker ◄──invalidation, key, list, note─  MemoryLink  ◄──  control

What `session` gives was still true after the last invalidation that workers have seen: a look-up that was overtaken by
one is made again, so that a revoked session can never be cached after its own revocation (ZT-NET-02).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.session import Session
from zt_proxy.link.ledger import Ledger
from zt_proxy.link.locks import Lock, LockLifted, LockSet
from zt_proxy.link.messages import (
    CLOSED,
    LOOKUPS,
    OVERTAKEN,
    PATIENCE,
    AskHandler,
    Change,
    IdleNote,
    Invalidation,
    Question,
    RevocationList,
    SessionAuthority,
    SigningKey,
    WorkerLink,
    WorkerState,
)
from zt_proxy.link.proofs import KeptForm
from zt_proxy.link.replica import reply_to

_T = TypeVar("_T")


class _Attached:
    """A worker, and how far it has come."""

    __slots__ = ("answer", "applied", "boot", "link", "number")

    def __init__(self, link: WorkerLink, number: int, boot: str, answer: AskHandler | None) -> None:
        self.link = link
        self.number = number
        self.boot = boot
        self.answer = answer
        self.applied = 0

    def apply(self, change: Change, lists: tuple[RevocationList, ...]) -> None:
        """Put one change in force here. `lists`: all that count now."""
        body = change.body
        if isinstance(body, Invalidation):
            self.link.invalidate(body)
        elif isinstance(body, SigningKey):
            self.link.signing_key(body)
        elif isinstance(body, IdleNote):
            self.link.idle_note(body)
        elif isinstance(body, (LockSet, LockLifted)):
            self.link.locks((body,))
        else:
            self.link.revocation_lists(lists)

    def state(self) -> WorkerState:
        return WorkerState(self.number, self.boot, os.getpid(), True, self.applied, 0.0)


class MemoryLink:
    """`ControlLink` for the workers of this process, and `WorkersLink` for control."""

    def __init__(self, authority: SessionAuthority) -> None:
        self._authority = authority
        self._workers: list[_Attached] = []
        self._ledger = Ledger()
        self._look_ups = 0
        self._open = True

    # towards control

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        """See `ControlLink.session`. Waits at most `PATIENCE` seconds; raises once the link is closed."""
        return await self._asked(lambda: self._true_now(handle_hash, host))

    async def spend(self, sid: str, key: str) -> bool:
        """See `Proofs.spend`."""
        return await self._asked(lambda: self._authority.spend(sid, key))

    async def kept(self, sid: str, token: str, host: str, target: str) -> KeptForm | None:
        """See `Proofs.kept`."""
        return await self._asked(lambda: self._authority.kept(sid, token, host, target))

    async def _asked(self, answer: Callable[[], Awaitable[_T]]) -> _T:
        if not self._open:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "the link is closed")
        if self._look_ups >= LOOKUPS:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "too many look-ups at a time")
        self._look_ups += 1
        try:
            async with asyncio.timeout(PATIENCE):
                return await answer()
        except TimeoutError:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "control takes too long to answer") from None
        finally:
            self._look_ups -= 1

    async def _true_now(self, handle_hash: bytes, host: str) -> Session | None:
        ledger = self._ledger
        for _ in range(OVERTAKEN):
            number = ledger.number
            if not self._open:
                break
            session = await self._authority.session(handle_hash, host)
            if self._open and (session is None or not ledger.touched(session.sid, number)):
                return session
        raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "the link is closed or never quiet")

    def activity(self, sid: str, at: float) -> None:
        if self._open:
            self._authority.activity(sid, at)

    def idle_note(self, sid: str, route: str, at: float) -> None:
        if self._open:
            self._tell(self._ledger.idle_note(IdleNote(sid, route, at)))

    def alive(self) -> bool:
        return self._open

    # towards the workers

    def attach(self, worker: WorkerLink, *, number: int = 0, boot: str = "", answer: AskHandler | None = None) -> None:
        """From now on this worker hears every change; it gets what is in force at once. `answer`: what `ask` asks."""
        ledger = self._ledger
        attached = _Attached(worker, number, boot, answer)
        for change in ledger.in_force():
            if isinstance(change.body, SigningKey):
                worker.signing_key(change.body)
        if ledger.lists:
            worker.revocation_lists(tuple(ledger.lists.values()))
        if ledger.locks:
            worker.locks(tuple(LockSet(lock) for lock in ledger.locks.values()))
        for note in ledger.notes:
            worker.idle_note(note)
        attached.applied = ledger.number
        self._workers.append(attached)

    def detach(self, worker: WorkerLink) -> None:
        """The worker drains and need not hear any more. Raises ValueError if it was not attached."""
        for attached in self._workers:
            if attached.link is worker:
                self._workers.remove(attached)
                return
        raise ValueError("this worker is not attached")

    def invalidate(self, change: Invalidation) -> None:
        """Put a change in force on every worker before returning.

        A number seen before is a repetition and dropped; a gap means that changes were lost, and orders every worker
        to forget everything. Raises what a worker raised, after telling the others.
        """
        self._tell(self._ledger.invalidate(change))

    def signing_key(self, key: SigningKey) -> None:
        """Hand a new signing key to every worker, and to each that attaches later."""
        self._tell(self._ledger.signing_key(key))

    def revocation_lists(self, lists: Iterable[RevocationList]) -> None:
        """Hand the lists to every worker, if they differ from those before, and to each that attaches later."""
        self._tell(self._ledger.revocation_lists(lists))

    def lock(self, lock: Lock) -> None:
        """In force on every worker when this returns, and on each that attaches later."""
        self._tell(self._ledger.lock(lock))

    def unlock(self, id: str) -> None:
        """The same for its end."""
        self._tell(self._ledger.unlock(id))

    @property
    def sequence(self) -> int:
        return self._ledger.number

    async def settled(self, sequence: int, within: float) -> bool:
        """See `WorkersLink.settled`. At once: a change is in force when the call that made it returned."""
        return not self._open or all(worker.applied >= sequence for worker in self._workers)

    def workers(self) -> list[WorkerState]:
        return [worker.state() for worker in sorted(self._workers, key=lambda each: each.number)]

    async def ask(self, worker: WorkerState, what: str, within: float = 1.0) -> bytes:
        for attached in self._workers:
            if attached.state().key == worker.key:
                reply = reply_to(Question(0, what), attached.answer)
                if not reply.problem:
                    return reply.body
        raise UnavailableError(Reason.CONTROL_UNAVAILABLE, f"worker {worker.key} does not say {what}")

    def close(self) -> None:
        """Control goes away: `alive` turns false, nothing may be decided any more, and workers forget everything."""
        if self._open:
            self._open = False
            self._each(Change(self._ledger.number, Invalidation(self._ledger.number, "", CLOSED)))

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            self._each(change)

    def _each(self, change: Change) -> None:
        """A worker that fails to take a change in must not keep it from the others; the first failure is raised."""
        failure: Exception | None = None
        lists = tuple(self._ledger.lists.values())
        for worker in tuple(self._workers):
            try:
                worker.apply(change, lists)
            except Exception as error:
                failure = failure or error
            else:
                if worker.applied >= change.number - 1:  # one that failed before has not caught up since
                    worker.applied = max(worker.applied, change.number)
        if failure is not None:
            raise failure
