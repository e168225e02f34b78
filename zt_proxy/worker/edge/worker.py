"""One worker, put together from its settings: listeners in front, pools behind, the gateway between."""

import asyncio
import socket
from collections.abc import Coroutine, Iterator, Mapping

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.keys import CookieMac, KeyRing
from zt_proxy.link.locks import LockChange, LockSet
from zt_proxy.link.messages import (
    CHANGED,
    CLOSED,
    LEASE_LOST,
    RENEWED,
    RESYNC,
    ControlLink,
    IdleNote,
    Invalidation,
    RevocationList,
    SigningKey,
)
from zt_proxy.link.ring import RingWriter, ring_path
from zt_proxy.worker.edge.listener import Listener
from zt_proxy.worker.edge.sockets import Key, bind, key_of
from zt_proxy.worker.edge.world import Parts, World
from zt_proxy.worker.gateway import locked, streams
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.pipeline import Gateway
from zt_proxy.worker.identify.assertion import AssertionSigner
from zt_proxy.worker.identify.session import CachedSession, SessionCache
from zt_proxy.worker.metrics import Metrics
from zt_proxy.worker.protect.locks import Locks
from zt_proxy.worker.record import Recorder
from zt_proxy.worker.settings import UpstreamSettings, WorkerSettings
from zt_proxy.worker.upstream.pool import UpstreamPool
from zt_proxy.worker.wire import hygiene

TEND = 1.0
"""Seconds between looks at worlds that are not in force any more."""

TOGETHER = 100
"""Sessions asked about at a time, when all have to be."""
ASKED = 4
"""How often, before what is open of a session that nobody can speak for is cut."""

Sockets = Mapping[Key, socket.socket]


class Prepared:
    """A world that waits to be put in force, with the sockets of its new listeners."""

    def __init__(self, world: World, fresh: dict[Key, socket.socket]) -> None:
        self.world = world
        self.fresh = fresh

    def abandon(self) -> None:
        """It will not be put in force."""
        for listening in self.fresh.values():
            listening.close()


class Worker:
    """Serves until `stop`. It is the `WorkerLink` that control speaks to."""

    def __init__(
        self, settings: WorkerSettings, link: ControlLink, ring: KeyRing, clock: Clock, *, number: int, boot: str
    ) -> None:
        self.metrics = Metrics()
        self.sessions = SessionCache(CookieMac(ring), link, clock)
        self.ports: dict[str, int] = {}
        """Port of each listener by name, once started."""
        self.revoked: tuple[RevocationList, ...] = ()
        """The certificates that authorities have revoked, as control read their lists last."""
        path = ring_path(settings.runtime_dir, number, boot)
        self._ring = RingWriter.create(path, settings.ring_bytes, worker=number, boot=boot)
        self.recorder = Recorder(self._ring, worker=number, boot=boot, clock=clock)
        self._locks = Locks()
        self._parts = Parts(link, ring, self.sessions, self.recorder, self.metrics, clock, self._locks)
        self._key: SigningKey | None = None
        self.world = World(settings, self._parts)
        self._retired: list[World] = []
        self.settled = asyncio.Event()
        """Set while nothing is under way in a world that is not in force any more."""
        self.settled.set()
        self._tending: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        hygiene.reserve(self.world.reserved)
        self._listeners: dict[Key, Listener] = {
            key_of(each): Listener(each, settings.limits, self.gateway, clock) for each in settings.listeners
        }
        self._leaving: list[Listener] = []
        """Listeners that the configuration has no more, while they have connections."""
        self._export()

    @property
    def settings(self) -> WorkerSettings:
        return self.world.settings

    @property
    def gateway(self) -> Gateway:
        return self.world.gateway

    @property
    def signer(self) -> AssertionSigner:
        return self.world.signer

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return (*self._listeners.values(), *self._leaving)

    @property
    def _pools(self) -> dict[UpstreamSettings, UpstreamPool]:
        return self.world.pools

    def exchanges(self) -> Iterator[Exchange]:
        """Every request under way."""
        for listener in self.listeners:
            yield from listener.exchanges()

    async def start(self, sockets: Sockets | None = None) -> None:
        """Listen everywhere, on the sockets given if any are.

        Raises OSError if an address is taken, after letting go of those that were not.
        """
        given = sockets or {}
        try:
            for key, listener in self._listeners.items():
                self.ports[listener.settings.name] = await listener.start(given.get(key))
        except OSError:
            await self.stop(0)
            raise

    async def stop(self, drain: float, *, refuse: bool = False) -> None:
        """Stop accepting, let what runs end within `drain` seconds, close everything.

        A connection may have its next request answered, and ends then; with `refuse` not even that.
        """
        self._draining = True
        for world in (self.world, *self._retired):
            world.gateway.draining = True
            world.gateway.refusing = world.gateway.refusing or refuse
        await asyncio.gather(*(listener.drain(drain) for listener in self.listeners))
        for world in (self.world, *self._retired):
            await world.gateway.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tending is not None:
            self._tending.cancel()
        for pool in dict.fromkeys(pool for world in (self.world, *self._retired) for pool in world.every_pool()):
            await pool.close()
        self.recorder.close()

    # ---- another slot's sockets ----

    async def lend(self, slot: int, sockets: Sockets) -> None:
        """Serve the sockets of a slot whose worker is gone; what no listener here is for is closed."""
        for key, listening in sockets.items():
            listener = self._listeners.get(key)
            if listener is None or self._draining:
                listening.close()
            else:
                await listener.serve(slot, listening)

    def give_back(self, slot: int) -> None:
        """The slot has a worker again. Connections stay where they are."""
        for listener in self.listeners:
            listener.leave(slot)

    # ---- reload ----

    def prepare(self, settings: WorkerSettings, sockets: Sockets | None = None) -> Prepared:
        """Build the world of new settings beside the one in force, whose nothing changes.

        New listeners take their sockets from `sockets`; without any they are bound here. Raises ConfigurationError,
        OSError, with nothing left behind.
        """
        fresh: dict[Key, socket.socket] = dict(sockets or {})
        try:
            world = World(settings, self._parts, self._key, self.world.pools)
            if sockets is None:
                for each in settings.listeners:
                    if key_of(each) not in self._listeners:
                        fresh[key_of(each)] = bind(each.host, each.port)
        except BaseException:
            for listening in fresh.values():
                listening.close()
            raise
        return Prepared(world, fresh)

    async def adopt(self, prepared: Prepared) -> None:
        """Put a prepared world in force. Connections stay, and requests under way keep the world they began in; what
        is still open of them is decided again by the new rules."""
        world, old = prepared.world, self.world
        if self._key is not None:
            world.signer.key(self._key)  # it may have been rotated since the world was built
        world.gateway.draining, world.gateway.refusing = self._draining, old.gateway.refusing
        world.gateway.machines.integrations.revocations(self.revoked)
        self.world = world
        self._retire(old)
        if world.reserved != old.reserved:
            hygiene.reserve(world.reserved)
            for listener in self.listeners:
                listener.heads.blocks.clear()
        settings = world.settings
        starting: list[tuple[Listener, socket.socket | None]] = []
        kept: dict[Key, Listener] = {}
        for each in settings.listeners:
            key = key_of(each)
            known = self._listeners.pop(key, None)
            if known is not None:
                known.adopt(each, settings.limits, world.gateway, world.terms[key])
                kept[key] = known
            else:
                kept[key] = Listener(each, settings.limits, world.gateway, self._parts.clock)
                starting.append((kept[key], prepared.fresh.pop(key, None)))
        gone = list(self._listeners.values())
        self._listeners = kept
        self._leaving += gone
        for exchange in list(self.exchanges()):
            self._decide_again(exchange, world.gateway)
        for listener in gone:
            listener.gateway = world.gateway
            listener.stop_accepting()
            self._spawn(self._close(listener, settings.drain))
        prepared.abandon()  # sockets that no listener wanted
        for listener, listening in starting:
            if self._draining:
                continue
            self.ports[listener.settings.name] = await listener.start(listening)
        names = {each.name for each in settings.listeners}
        self.ports = {name: port for name, port in self.ports.items() if name in names}

    def _decide_again(self, exchange: Exchange, gateway: Gateway) -> None:
        """What is open stays exactly if the new rules allow it, at the route that is its own now."""
        if exchange.route is None or exchange.target is None or exchange.done:
            return
        try:
            exchange.route = gateway.routes.match(exchange.host, exchange.target.path)
            exchange.way = None  # what was remembered of its head was so by the rules of before
            gateway.at_new_route(exchange, exchange.route)
        except ClientError as error:
            if exchange.relay is not None:
                streams.cut(exchange, error.reason)
            elif exchange.waiting:
                exchange.connection.abort()  # control is being asked who sends it: it goes nowhere any more
            return
        if exchange.relay is None:
            return  # not decided yet; it will be, by the rules of the route it has now
        reason = gateway.still_allowed(exchange)
        if reason is not None:
            streams.cut(exchange, reason)

    async def _close(self, listener: Listener, drain: float) -> None:
        """Let a listener's connections end, then forget it."""
        await listener.drain(drain)
        self._leaving.remove(listener)

    def _retire(self, world: World) -> None:
        self._retired.append(world)
        self.settled.clear()
        if self._tending is None:
            self._tending = asyncio.get_running_loop().call_later(TEND, self._tend)

    def _tend(self) -> None:
        """Close the pools of worlds in which nothing is under way any more."""
        self._tending = None
        busy = {id(exchange.spine) for exchange in self.exchanges()}
        now = self._parts.clock.monotonic()
        for world in list(self._retired):
            if id(world.gateway) in busy:
                for pool in world.every_pool():
                    pool.sweep(now)
                continue
            self._retired.remove(world)
            used = {id(pool) for other in (self.world, *self._retired) for pool in other.every_pool()}
            for pool in world.every_pool():
                if id(pool) not in used:
                    self._spawn(pool.close())
        if not self._retired:
            self.settled.set()
        else:
            self._tending = asyncio.get_running_loop().call_later(TEND, self._tend)

    # ---- WorkerLink ----

    def invalidate(self, change: Invalidation) -> None:
        """Forget what is cached; cut what a session that ended still has running."""
        sids = frozenset(change.sids)
        displaced = Reason.SESSION_DISPLACED if change.reason == Reason.SESSION_DISPLACED else None
        for sid in sids or ("",):
            self.sessions.forget(sid, displaced)
        for world in (self.world, *self._retired):
            world.signer.forget(*sids)
        if change.reason in (RESYNC, RENEWED):
            self._spawn(self._ask_again(sids))
        elif change.reason not in CHANGED:
            nobody_knows = change.reason in (LEASE_LOST, CLOSED)
            reason = Reason.CONTROL_UNAVAILABLE if nobody_knows else displaced or Reason.SESSION_UNKNOWN
            for listener in self.listeners:
                listener.cut_sessions(sids, reason)

    async def _ask_again(self, sids: frozenset[str]) -> None:
        """Changes were missed (of these sessions; none given: of all), or who the person is changed: what is open of a
        session stays only if control still knows the session, and what it says now allows it."""
        streams_of: dict[tuple[bytes, str], list[Exchange]] = {}
        for exchange in self.exchanges():
            entry = exchange.session
            if entry is not None and exchange.route is not None and (not sids or entry.session.sid in sids):
                streams_of.setdefault((entry.key, entry.session.host), []).append(exchange)
        for some in _in_groups(list(streams_of)):
            answers = await asyncio.gather(*(self._ask(cookie, host) for cookie, host in some))
            for key, found in zip(some, answers, strict=True):
                for exchange in streams_of[key]:
                    if isinstance(found, Reason):
                        streams.cut(exchange, found)
                    elif not exchange.done:
                        exchange.session = found

    async def _ask(self, cookie: bytes, host: str) -> CachedSession | Reason:
        for _ in range(ASKED):
            try:
                return await self.sessions.fetch(cookie, host)
            except UnavailableError:
                await asyncio.sleep(TEND / 4)
        return Reason.CONTROL_UNAVAILABLE

    def signing_key(self, key: SigningKey) -> None:
        self._key = key
        for world in (self.world, *self._retired):
            world.signer.key(key)

    def revocation_lists(self, lists: tuple[RevocationList, ...]) -> None:
        self.revoked = lists
        for world in (self.world, *self._retired):
            world.gateway.machines.integrations.revocations(lists)
        for listener in self.listeners:
            listener.judge_certificates()

    def idle_note(self, note: IdleNote) -> None:
        """A route of some worker found a session idle: it is so here, too."""
        self.sessions.note_idle(note.sid, note.route, note.at)

    def locks(self, changes: tuple[LockChange, ...]) -> None:
        """See `WorkerLink.locks`; what may not go on any more is cut."""
        locks = self._locks
        for change in changes:
            if isinstance(change, LockSet):
                locks.set(change.lock)
            else:
                locks.lift(change.id)
        now, strongest = self._parts.clock.now(), self.settings.strongest
        for exchange in list(self.exchanges()) if locks else ():
            reason = locked.turned(locks, exchange, strongest, now)
            if reason is not None:
                streams.cut(exchange, reason)

    # ---- parts ----

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _export(self) -> None:
        metrics = self.metrics
        metrics.gauge("sessions_cached", "Sessions in this worker's cache.", lambda: len(self.sessions))
        metrics.gauge("locks", "Locks that this worker keeps to.", lambda: len(self._locks))
        metrics.gauge("record_ring_used_ratio", "Share of the record ring that is unread.", self.recorder.used)
        metrics.gauge(
            "requests_in_flight",
            "Requests being worked on, open streams among them.",
            lambda: sum(1 for _ in self.exchanges()),
        )
        metrics.gauge("connections", "Client connections.", lambda: sum(len(one.connections) for one in self.listeners))
        metrics.counter(
            "connections_refused", "Connections over a limit.", lambda: sum(one.refused for one in self.listeners)
        )
        metrics.counter("end_records_lost", "End records that found no room in the ring.", lambda: self.recorder.lost)
        metrics.gauges(
            "upstream_connections",
            "Connections to platforms.",
            "state",
            lambda: {
                "idle": sum(pool.idle for pool in self._pools.values()),
                "open": sum(pool.open for pool in self._pools.values()),
            },
        )


def _in_groups(keys: list[tuple[bytes, str]]) -> Iterator[list[tuple[bytes, str]]]:
    for start in range(0, len(keys), TOGETHER):
        yield keys[start : start + TOGETHER]
