"""Makes locks and ends them: on record first, then durable, then on its way to every worker.

    operator ─┐                 ┌─► audit log ─► locks.db ─► link ─► every worker
    detector ─┴─► LockManager ──┤
    clock ──────────────────────┘

An order that was begun is carried out whole, whoever stops waiting for it. Nothing here can lock the operator's socket:
it is no route, and who may use it is the kernel's word.
"""

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Protocol, TypeVar

import structlog
from msgspec.structs import replace

from zt_proxy.control.locks.store import LockStore, Past
from zt_proxy.control.locks.types import NO_OPERATOR, LockOrder
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError, ZtError
from zt_proxy.core.session import Principal, Session
from zt_proxy.link.locks import CAUSE, MOST, VALUE, Lock, LockKind

SWEEP = 1.0
"""Seconds between looks whether a lock's time has come."""
LONGEST = 10 * 365 * 86_400.0
"""Seconds that a lock lasts at most, unless it waits for a review."""

log = structlog.get_logger("zt_proxy.locks")
T = TypeVar("T")


class Write(Protocol):
    """`AuditWriter.write`."""

    def __call__(self, kind: str, **fields: str | int | float | bool) -> Awaitable[None]: ...


class Link(Protocol):
    """The part of `WorkersLink` that locks travel by."""

    def lock(self, lock: Lock) -> None: ...

    def unlock(self, id: str) -> None: ...


class LockManager:
    """`LockKeeper`. `start` before workers connect; run `run()` beside it."""

    def __init__(self, store: LockStore, link: Link, write: Write, clock: Clock) -> None:
        self._store = store
        self._link = link
        self._write = write
        self._clock = clock
        self._locks: dict[str, Lock] = {}
        self._told: set[str] = set()
        """Locks that ran out and are on record as that, and whose end is not in the store yet."""
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    async def start(self) -> None:
        """Put in force what the store has. Raises ConfigurationError, UnavailableError."""
        now = self._clock.now()
        for lock in await self._store.in_force():
            self._locks[lock.id] = lock
            if not lock.over(now):
                self._link.lock(lock)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """End locks whose time has come, until cancelled."""
        while True:
            await sleep(SWEEP)
            try:
                await self.sweep()
            except ZtError as error:  # they have no effect any more; their end is put on record later
                log.warning("locks that ran out are not ended yet", detail=str(error))

    async def close(self) -> None:
        """What was begun is done first."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._store.close()

    # ---- LockKeeper

    async def lock(self, order: LockOrder) -> Lock:
        _check(order)
        return await self._whole(self._lock(order))

    async def lift(self, id: str, by: str, reason: str, *, uid: int = NO_OPERATOR) -> Lock:
        _check_text("reason", reason)
        return await self._whole(self._lift(id, by, reason, uid, "unlock"))

    async def review(self, id: str, by: str, reason: str, *, uid: int = NO_OPERATOR) -> Lock:
        """Somebody looked into it: a lock that waited for that is lifted, one with a time runs on and says so.

        Raises as `lift`.
        """
        _check_text("reason", reason)
        return await self._whole(self._review(id, by, reason, uid))

    def current(self) -> tuple[Lock, ...]:
        now = self._clock.now()
        return tuple(lock for lock in self._locks.values() if not lock.over(now))

    # ---- to look at

    async def past(self) -> tuple[Past, ...]:
        """Those that are over, the latest first. Raises UnavailableError."""
        return await self._store.past()

    def on_person(self, who: Principal) -> tuple[Lock, ...]:
        """Locks of this very user, for pages that a lock does not stop by itself."""
        return tuple(lock for lock in self.current() if lock.kind is LockKind.USER and lock.names(who))

    def on_session(self, session: Session) -> bool:
        """Whether a lock on this very user, session or device is in force, whatever its effect."""
        places = {(LockKind.SESSION, session.sid), (LockKind.DEVICE, session.device)}
        return bool(self.on_person(session.principal)) or any(
            (lock.kind, lock.value) in places for lock in self.current()
        )

    async def sweep(self) -> None:
        """End what is over now. Raises UnavailableError; nothing has changed then."""
        if any(lock.over(self._clock.now()) for lock in self._locks.values()):
            await self._whole(self._sweep())

    # ---- one after the other

    async def _whole(self, work: Coroutine[object, object, T]) -> T:
        """A caller that goes away must not leave a lock that is durable and that no worker knows."""
        task = asyncio.ensure_future(self._in_turn(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, work: Coroutine[object, object, T]) -> T:
        async with self._one:
            return await work

    async def _lock(self, order: LockOrder) -> Lock:
        now = self._clock.now()
        known = self._same(order)
        if known is None and len(self._locks) >= MOST:
            raise UnavailableError(Reason.STORE_UNAVAILABLE, f"there are {MOST} locks; lift some first")
        expires = None if order.lasts is None else now + order.lasts
        if known is not None:
            expires = None if expires is None or known.expires is None else max(expires, known.expires)
        lock = Lock(
            id=known.id if known is not None else self._new_id(),
            kind=order.kind,
            value=order.value,
            effect=order.effect,
            cause=order.cause,
            by=order.by,
            at=now,
            expires=expires,
            provider=order.provider,
            shown=order.shown,
            exact=order.exact,
        )
        await self._on_record("lock", lock, lock.by, order.cause, order.uid)
        await self._store.put(lock)
        self._in_force(lock)
        return lock

    async def _lift(self, id_: str, by: str, reason: str, uid: int, action: str) -> Lock:
        lock = self._known(id_)
        await self._on_record(action, lock, by, reason, uid)
        await self._store.end((lock,), self._clock.now(), by, reason)
        self._over(lock)
        return lock

    async def _review(self, id_: str, by: str, reason: str, uid: int) -> Lock:
        lock = self._known(id_)
        if lock.expires is None:
            return await self._lift(id_, by, reason, uid, "review-lock")
        lock = replace(lock, reviewed=by)
        await self._on_record("review-lock", lock, by, reason, uid)
        await self._store.put(lock)
        self._in_force(lock)
        return lock

    async def _sweep(self) -> None:
        now = self._clock.now()
        over = [lock for lock in self._locks.values() if lock.over(now)]
        for lock in over:
            if lock.id not in self._told:
                await self._on_record("expire", lock, "", "", NO_OPERATOR)
                self._told.add(lock.id)
        await self._store.end(over, now, "", "")
        self._told.clear()
        for lock in over:
            self._over(lock)

    def _in_force(self, lock: Lock) -> None:
        self._locks[lock.id] = lock
        log.info("locked", lock=lock.id, kind=lock.kind.value, effect=lock.effect.value, by=lock.by)
        self._link.lock(lock)

    def _over(self, lock: Lock) -> None:
        self._locks.pop(lock.id, None)
        log.info("lock ended", lock=lock.id, kind=lock.kind.value)
        self._link.unlock(lock.id)

    async def _on_record(self, action: str, lock: Lock, by: str, reason: str, uid: int) -> None:
        """An operator's order is one of theirs; the rest is the proxy's own doing. Raises UnavailableError."""
        fields: dict[str, str | int | float | bool] = {
            "lock": lock.id,
            "target": lock.kind.value,
            "value": lock.value,
            "effect": lock.effect.value,
            "reason": reason,
        }
        for name, text in (("provider", lock.provider), ("shown", lock.shown)):
            if text:
                fields[name] = text
        if lock.expires is not None:
            fields["expires"] = lock.expires
        if uid == NO_OPERATOR:
            await self._write("lock", action=action, by=by, **fields)
        else:
            await self._write("operator", action=action, uid=uid, who=by, **fields)

    def _known(self, id_: str) -> Lock:
        lock = self._locks.get(id_)
        if lock is None or lock.over(self._clock.now()):
            raise ClientError(Reason.MALFORMED, f"no lock in force has the id {id_}", status=404)
        return lock

    def _same(self, order: LockOrder) -> Lock | None:
        now = self._clock.now()
        wanted = (order.kind, order.value, order.provider, order.effect, order.by, order.exact)
        for lock in self._locks.values():
            known = (lock.kind, lock.value, lock.provider, lock.effect, lock.by, lock.exact)
            if known == wanted and not lock.over(now):
                return lock
        return None

    def _new_id(self) -> str:
        while (id_ := secrets.token_hex(4)) in self._locks:
            pass
        return id_


def _check(order: LockOrder) -> None:
    """Raises ClientError(MALFORMED)."""
    if not order.value.strip() or len(order.value) > VALUE:
        raise ClientError(Reason.MALFORMED, f"what is locked has a name of up to {VALUE} characters")
    if order.provider and order.kind is not LockKind.USER:
        raise ClientError(Reason.MALFORMED, "`provider` goes with a user")
    if order.lasts is not None and not (math.isfinite(order.lasts) and 0 < order.lasts <= LONGEST):
        raise ClientError(Reason.MALFORMED, "a lock lasts longer than nothing, and up to ten years")
    _check_text("cause", order.cause)


def _check_text(name: str, text: str) -> None:
    if len(text) > CAUSE:
        raise ClientError(Reason.MALFORMED, f"a {name} has at most {CAUSE} characters")
