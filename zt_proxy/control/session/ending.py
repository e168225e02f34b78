"""The end of sessions: at once in this process, then in the store, then on every worker.

    bury ──► end ──► committed ──► told
                 └─ the store cannot: told all the same, and `finish` tries again

Whoever asked may go away in between; the end reaches the store and the workers nevertheless.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from zt_proxy.control.session.store import SessionStore
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import UnavailableError
from zt_proxy.link.messages import Invalidation

TOGETHER = 500
"""Sessions ended in one commit: look-ups wait no longer than for that."""

log = structlog.get_logger("zt_proxy.control.session.manager")


class Changes:
    """The numbers under which changes are committed and told. Hold `lock` from the one to the other: workers must hear
    of changes in the order of the commits."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        """Of the last change."""
        self.lock = asyncio.Lock()
        self.announce: Callable[[Invalidation], None] = _nobody

    def tell(self, sid: str, reason: str, more: tuple[str, ...] = ()) -> None:
        """Announce the next change, which is in the store or cannot be brought there now."""
        self.sequence += 1
        self.announce(Invalidation(self.sequence, sid, reason, more))


class Endings:
    """Knows which sessions are over, also where the store does not know it yet."""

    def __init__(self, store: SessionStore, changes: Changes, clock: Clock) -> None:
        self._store = store
        self._changes = changes
        self._clock = clock
        self._buried: dict[str, float] = {}
        self._unwritten: set[str] = set()
        self._tasks: set[asyncio.Future[None]] = set()

    def __contains__(self, sid: str) -> bool:
        return sid in self._buried

    async def end(self, sids: Sequence[str], reason: str) -> None:
        """End these. Raises UnavailableError if that could not be made durable yet, or what a worker raised."""
        self._bury(sids)
        await asyncio.shield(self._go_on(self._end(tuple(sids), reason)))

    async def end_all(self, sids: Sequence[str], reason: str, forget: Callable[[], None]) -> None:
        """End these, and what began while they were counted; `forget` drops every cache of sessions. As `end`."""
        self._bury(sids)
        await asyncio.shield(self._go_on(self._end_all(len(sids), reason, forget)))

    async def finish(self) -> None:
        """Bring ends into the store that are not there yet. Raises UnavailableError."""
        unwritten = tuple(self._unwritten)
        for first in range(0, len(unwritten), TOGETHER):
            some = unwritten[first : first + TOGETHER]
            await self._store.end_sessions(some, self._changes.sequence)
            self._unwritten.difference_update(some)

    def prune(self, before: float) -> None:
        """Forget ends that the store has, and that are so old that no look-up from before them is still under way."""
        for sid, at in tuple(self._buried.items()):
            if at < before and sid not in self._unwritten:
                del self._buried[sid]

    def _bury(self, sids: Sequence[str]) -> None:
        now = self._clock.now()
        for sid in sids:
            self._buried[sid] = now
        self._unwritten.update(sids)

    def _go_on(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end(self, sids: tuple[str, ...], reason: str) -> None:
        failure: Exception | None = None
        for first in range(0, len(sids), TOGETHER):
            some = sids[first : first + TOGETHER]
            async with self._changes.lock:
                try:
                    await self._store.end_sessions(some, self._changes.sequence + 1)
                    self._unwritten.difference_update(some)
                except UnavailableError as error:
                    failure = error  # the workers hear of all of them all the same
                try:
                    self._changes.tell(some[0], reason, some[1:])
                except Exception as error:
                    failure = failure or error
        log.info("sessions ended", sessions=len(sids), sid=sids[0] if len(sids) == 1 else "", reason=reason)
        if failure is not None:
            raise failure

    async def _end_all(self, count: int, reason: str, forget: Callable[[], None]) -> None:
        """Without handles and codes nobody comes in: that is one quick commit. The sessions themselves follow."""
        async with self._changes.lock:
            try:
                await self._store.drop_handles(self._changes.sequence + 1)
                forget()
            finally:
                self._changes.tell("", reason)
        self._go_on(self._finish_quietly())
        log.info("sessions ended", sessions=count, sid="all", reason=reason)

    async def _finish_quietly(self) -> None:
        try:
            await self.finish()
        except UnavailableError as error:  # the next sweep tries again
            log.error("session store unavailable", detail=error.detail)


def _nobody(change: Invalidation) -> None:
    """Before anyone listens, nobody has cached anything."""
