"""One worker, put together from its settings: listeners in front, pools behind, the gateway between."""

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import Reason
from zt_proxy.core.keys import CookieMac, KeyRing
from zt_proxy.link.messages import CHANGED, ControlLink, Invalidation, SigningKey
from zt_proxy.link.ring import RingWriter, ring_path
from zt_proxy.policy.compile import compile_rules
from zt_proxy.worker.edge.listener import Listener
from zt_proxy.worker.gateway.pipeline import Gateway
from zt_proxy.worker.gateway.respond import Responder
from zt_proxy.worker.gateway.routes import Route, RouteTable
from zt_proxy.worker.identify.assertion import AssertionSigner
from zt_proxy.worker.identify.headers import IdentityHeaders, reserved_names
from zt_proxy.worker.identify.session import SessionCache
from zt_proxy.worker.metrics import Metrics
from zt_proxy.worker.record import Recorder
from zt_proxy.worker.settings import UpstreamSettings, WorkerSettings
from zt_proxy.worker.upstream.pool import UpstreamPool
from zt_proxy.worker.wire import hygiene


class Worker:
    """Serves until `stop`. It is the `WorkerLink` that control speaks to."""

    def __init__(
        self, settings: WorkerSettings, link: ControlLink, ring: KeyRing, clock: Clock, *, number: int, boot: str
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.signer = AssertionSigner(settings.issuer, clock)
        self.sessions = SessionCache(CookieMac(ring), link, clock)
        self.ports: dict[str, int] = {}
        """Port of each listener by name, once started."""
        path = ring_path(settings.runtime_dir, number, boot)
        self._ring = RingWriter.create(path, settings.ring_bytes, worker=number, boot=boot)
        self.recorder = Recorder(self._ring, worker=number, boot=boot, clock=clock)
        self._pools: dict[UpstreamSettings, UpstreamPool] = {}
        hygiene.reserve(reserved_names(settings.routes))
        routes = tuple(
            Route(
                route,
                self._pool(route.upstream, clock),
                compile_rules(route.rules),
                IdentityHeaders(route, self.signer),
            )
            for route in settings.routes
        )
        portal = UpstreamPool(UpstreamSettings("unix", path=str(settings.portal.socket)), clock)
        self.gateway = Gateway(
            settings,
            RouteTable(routes, settings.portal.host),
            self.sessions,
            self.signer,
            link,
            self.recorder,
            Responder(settings, ring, clock),
            portal,
            self.metrics,
            clock,
        )
        self.listeners = tuple(
            Listener(listener, settings.limits, self.gateway, clock) for listener in settings.listeners
        )
        self._export()

    async def start(self) -> None:
        """Listen everywhere. Raises OSError if an address is taken, after letting go of those that were not."""
        try:
            for listener in self.listeners:
                self.ports[listener.settings.name] = await listener.start()
        except OSError:
            await self.stop(0)
            raise

    async def stop(self, drain: float) -> None:
        """Stop accepting, let what runs end within `drain` seconds, close everything."""
        self.gateway.draining = True
        for listener in self.listeners:
            await listener.drain(drain)
        for pool in (*self._pools.values(), self.gateway.portal_pool):
            await pool.close()
        self.recorder.close()

    # ---- WorkerLink ----

    def invalidate(self, change: Invalidation) -> None:
        """Forget what is cached; cut what a session that ended still has running."""
        self.sessions.forget(change.sid)
        self.signer.forget(change.sid)
        if change.reason not in CHANGED:
            for listener in self.listeners:
                listener.cut_session(change.sid, Reason.SESSION_UNKNOWN)

    def signing_key(self, key: SigningKey) -> None:
        self.signer.key(key)

    # ---- parts ----

    def _pool(self, settings: UpstreamSettings, clock: Clock) -> UpstreamPool:
        """Routes with the same upstream share its connections."""
        pool = self._pools.get(settings)
        if pool is None:
            pool = self._pools[settings] = UpstreamPool(settings, clock)
        return pool

    def _export(self) -> None:
        metrics = self.metrics
        metrics.gauge("sessions_cached", "Sessions in this worker's cache.", lambda: len(self.sessions))
        metrics.gauge("record_ring_used_ratio", "Share of the record ring that is unread.", self.recorder.used)
        metrics.gauge(
            "requests_in_flight",
            "Requests being worked on, open streams among them.",
            lambda: sum(1 for one in self.listeners for _ in one.exchanges()),
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
