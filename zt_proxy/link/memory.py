"""The link inside one process: direct calls, with the same promises that a link between processes must keep.

    worker ──session, activity──►  MemoryLink  ──►  SessionAuthority (control)
    worker ◄──invalidate, key────  MemoryLink  ◄──  control

What `session` gives was still true after the last invalidation that workers have seen: a look-up that was overtaken by
one is made again, so that a revoked session can never be cached after its own revocation (ZT-NET-02).
"""

from typing import Protocol

from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.session import Session
from zt_proxy.link.messages import Invalidation, SigningKey, WorkerLink

OVERTAKEN = 16
"""Look-ups that may be overtaken in a row before the link gives up and says so."""


class SessionAuthority(Protocol):
    """The part of control that knows which sessions live."""

    async def session(self, handle_hash: bytes, host: str) -> Session | None: ...

    def activity(self, sid: str, at: float) -> None: ...


class MemoryLink:
    """`ControlLink` for the workers of this process, and the way for control to reach them."""

    def __init__(self, authority: SessionAuthority) -> None:
        self._authority = authority
        self._workers: list[WorkerLink] = []
        self._key: SigningKey | None = None
        self._sequence: int | None = None
        self._turns = 0
        self._open = True

    # towards control

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        """See `ControlLink.session`. Raises UnavailableError(CONTROL_UNAVAILABLE) once the link is closed."""
        for _ in range(OVERTAKEN):
            turns = self._turns
            if not self._open:
                break
            session = await self._authority.session(handle_hash, host)
            if self._open and (session is None or turns == self._turns):
                return session
        raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "the link is closed or never quiet")

    def activity(self, sid: str, at: float) -> None:
        if self._open:
            self._authority.activity(sid, at)

    def alive(self) -> bool:
        return self._open

    # towards the workers

    def attach(self, worker: WorkerLink) -> None:
        """From now on this worker hears every change; it gets the current signing key at once."""
        self._workers.append(worker)
        if self._key is not None:
            worker.signing_key(self._key)

    def detach(self, worker: WorkerLink) -> None:
        """The worker drains and need not hear any more. Raises ValueError if it was not attached."""
        self._workers.remove(worker)

    def invalidate(self, change: Invalidation) -> None:
        """Put a change in force on every worker before returning.

        A number seen before is a repetition and dropped; a gap means that changes were lost, and orders every worker
        to forget everything.
        """
        if self._sequence is not None and change.sequence <= self._sequence:
            return
        gap = self._sequence is not None and change.sequence > self._sequence + 1
        self._sequence = change.sequence
        self._turns += 1
        told = Invalidation(change.sequence, "", "resync") if gap else change
        self._tell(told)

    def signing_key(self, key: SigningKey) -> None:
        """Hand a new signing key to every worker, and to each that attaches later."""
        self._key = key
        for worker in tuple(self._workers):
            worker.signing_key(key)

    @property
    def sequence(self) -> int:
        """Number of the last change that every worker has in force; 0 before the first."""
        return self._sequence or 0

    def close(self) -> None:
        """Control goes away: `alive` turns false, nothing may be decided any more, and workers forget everything."""
        if self._open:
            self._open = False
            self._turns += 1
            self._tell(Invalidation(self.sequence + 1, "", "closed"))

    def _tell(self, change: Invalidation) -> None:
        """A worker that fails to take a change in must not keep it from the others; the first failure is raised."""
        failure: Exception | None = None
        for worker in tuple(self._workers):
            try:
                worker.invalidate(change)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
