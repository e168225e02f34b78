"""What one configuration makes of a worker: routes, policies, pools, terms. A reload builds another beside it.

Everything in a world belongs to it alone, but for the connections to platforms: they are taken over where nothing about
the platform changed, so that a reload does not make every request of the next second dial and shake hands.
"""

from collections.abc import Mapping

from zt_proxy.core.clock import Clock
from zt_proxy.core.keys import KeyRing
from zt_proxy.link.messages import ControlLink, SigningKey
from zt_proxy.pages.scripts import SESSION_JS_URL
from zt_proxy.policy.compile import compile_machines, compile_rules
from zt_proxy.policy.geo import COPIES
from zt_proxy.worker.edge.sockets import Key, key_of
from zt_proxy.worker.edge.tls import TermsTable
from zt_proxy.worker.gateway.facts import Witness
from zt_proxy.worker.gateway.helper import Helper
from zt_proxy.worker.gateway.masked import masking_of
from zt_proxy.worker.gateway.pipeline import Gateway
from zt_proxy.worker.gateway.respond import Responder
from zt_proxy.worker.gateway.routes import Route, RouteTable
from zt_proxy.worker.identify.assertion import AssertionSigner
from zt_proxy.worker.identify.headers import IdentityHeaders, reserved_names
from zt_proxy.worker.identify.origin import Origins
from zt_proxy.worker.identify.session import SessionCache
from zt_proxy.worker.metrics import Metrics
from zt_proxy.worker.protect.locks import Locks
from zt_proxy.worker.protect.mask import PURPOSE
from zt_proxy.worker.record import Recorder
from zt_proxy.worker.settings import RouteSettings, UpstreamSettings, WorkerSettings
from zt_proxy.worker.upstream.pool import UpstreamPool


class Parts:
    """What lives as long as the worker and is shared by all its worlds."""

    __slots__ = ("clock", "link", "locks", "metrics", "recorder", "ring", "sessions")

    def __init__(
        self,
        link: ControlLink,
        ring: KeyRing,
        sessions: SessionCache,
        recorder: Recorder,
        metrics: Metrics,
        clock: Clock,
        locks: Locks,
    ) -> None:
        self.link = link
        self.ring = ring
        self.sessions = sessions
        self.recorder = recorder
        self.metrics = metrics
        self.clock = clock
        self.locks = locks


class World:
    """Build one, then `Worker.adopt` it. Building has no effect on what is in force.

    Raises ConfigurationError when certificates, keys or rules do not make a world.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        parts: Parts,
        key: SigningKey | None = None,
        pools: Mapping[UpstreamSettings, UpstreamPool] = {},
    ) -> None:
        self.settings = settings
        self.reserved = reserved_names(settings.routes)
        self.signer = AssertionSigner(settings.issuer, parts.clock)
        if key is not None:
            self.signer.key(key)
        self.pools: dict[UpstreamSettings, UpstreamPool] = {}
        self.terms: dict[Key, TermsTable] = {key_of(each): TermsTable(each) for each in settings.listeners}
        hashing = parts.ring.key(min(parts.ring.export()), PURPOSE)
        routes = tuple(self._route(route, parts, pools, hashing) for route in settings.routes)
        portal = UpstreamPool(UpstreamSettings("unix", path=str(settings.portal.socket)), parts.clock)
        self.gateway = Gateway(
            settings,
            RouteTable(routes, settings.portal.host),
            parts.sessions,
            self.signer,
            parts.link,
            parts.recorder,
            Responder(settings, parts.ring, parts.clock),
            portal,
            parts.metrics,
            parts.clock,
            parts.locks,
            Witness(
                Origins(settings.origins, settings.runtime_dir / COPIES),
                settings.risk,
                settings.origins.insecure_origin_header.lower().encode(),
            ),
        )

    def _route(
        self, route: RouteSettings, parts: Parts, pools: Mapping[UpstreamSettings, UpstreamPool], hashing: bytes
    ) -> Route:
        helper = Helper(route, SESSION_JS_URL, parts.metrics) if route.helper else None
        return Route(
            route,
            self._pool(route.upstream, parts.clock, pools),
            compile_rules(route.rules),
            compile_machines(route.rules),
            IdentityHeaders(route, self.signer),
            helper,
            masking_of(route, hashing, helper),
        )

    def every_pool(self) -> tuple[UpstreamPool, ...]:
        return (*self.pools.values(), self.gateway.portal_pool)

    def _pool(
        self, settings: UpstreamSettings, clock: Clock, before: Mapping[UpstreamSettings, UpstreamPool]
    ) -> UpstreamPool:
        """Routes with the same upstream share its connections."""
        pool = self.pools.get(settings)
        if pool is None:
            # What a file holds may be new though its name is not: then connections begin anew.
            same = before.get(settings) if settings.ca is None and settings.certificate is None else None
            pool = self.pools[settings] = same or UpstreamPool(settings, clock)
        return pool
