"""Host and path → route. Compiled once; a look-up costs one dict access per path segment, however many routes."""

from collections.abc import Callable, Iterable

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.types import Mode
from zt_proxy.policy.actions import Profile
from zt_proxy.policy.engine import Policy
from zt_proxy.policy.machines import MachineRules
from zt_proxy.policy.templates import compile_paths
from zt_proxy.worker.gateway.helper import Helper
from zt_proxy.worker.identify.headers import IdentityHeaders
from zt_proxy.worker.protect.mask import Masking
from zt_proxy.worker.settings import RouteSettings
from zt_proxy.worker.upstream.permit import Internal, Permitted
from zt_proxy.worker.upstream.pool import UpstreamPool
from zt_proxy.worker.upstream.relay import Client, Owner, Relay
from zt_proxy.worker.wire.head import RequestHead
from zt_proxy.worker.wire.target import allowed_flags

NewRelay = Callable[
    [Permitted | Internal, Owner, Client, UpstreamPool, RequestHead, bytes, bytes, int, frozenset[bytes]], Relay
]
"""What makes the relay of a request: `Relay` itself, or what a route puts in its place."""


class Route:
    """One route, compiled: everything that a request needs of it, ready to use."""

    __slots__ = (
        "absolute_timeout",
        "allowed_paths",
        "audience",
        "body_limit",
        "cors_origins",
        "forward_authorization",
        "helper",
        "host",
        "identity",
        "idle_timeout",
        "ignore",
        "limits_session",
        "machines",
        "masking",
        "name",
        "origin",
        "policy",
        "pool",
        "prefix",
        "preserve_host",
        "profile",
        "relay",
        "reports",
        "root_service_worker",
        "settings",
        "strip_prefix",
        "upstream_host",
    )

    def __init__(
        self,
        settings: RouteSettings,
        pool: UpstreamPool,
        policy: Policy,
        machines: MachineRules,
        identity: IdentityHeaders,
        helper: Helper | None = None,
        masking: Masking | None = None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.host = settings.host
        self.origin = f"https://{settings.host}".encode()
        self.prefix = settings.prefix
        self.pool = pool
        self.policy = policy
        self.machines = machines
        self.identity = identity
        self.helper = helper
        self.masking = masking
        self.relay: NewRelay = Relay if helper is None else helper.relay
        self.reports = settings.rules.mode is Mode.REPORT
        self.audience = settings.audience
        self.body_limit = settings.body_limit
        self.strip_prefix = settings.strip_prefix
        self.root_service_worker = settings.insecure_root_service_worker
        self.preserve_host = settings.preserve_host
        self.profile = Profile(settings.profile, settings.prefix) if settings.profile is not None else None
        self.forward_authorization = settings.forward_authorization
        self.limits_session = settings.idle_timeout is not None or settings.absolute_timeout is not None
        self.allowed_paths = allowed_flags(settings.paths)
        self.idle_timeout = settings.idle_timeout
        self.absolute_timeout = settings.absolute_timeout
        self.ignore = compile_paths(settings.idle_ignore) if settings.idle_ignore else None
        self.cors_origins = frozenset(origin.encode() for origin in settings.cors_origins)
        upstream = settings.upstream
        default = {"http": 80, "https": 443}.get(upstream.scheme, 0)
        authority = upstream.host if upstream.port in {0, default} else f"{upstream.host}:{upstream.port}"
        self.upstream_host = (authority or "localhost").encode()


class RouteTable:
    """All routes of a worker."""

    __slots__ = ("_hosts", "portal_host", "routes")

    def __init__(self, routes: tuple[Route, ...], portal_host: str) -> None:
        self.portal_host = portal_host
        self.routes = routes
        self._hosts: dict[str, dict[bytes, Route]] = {}
        for route in routes:
            self._hosts.setdefault(route.host, {})[route.prefix.rstrip(b"/")] = route

    def knows(self, host: str) -> bool:
        return host in self._hosts or host == self.portal_host

    def at(self, host: str) -> Iterable[Route]:
        """Every route of a host; none for a host that is not known."""
        return self._hosts.get(host, {}).values()

    def match(self, host: str, path: bytes) -> Route:
        """The route with the longest prefix of whole segments.

        Raises ClientError(HOST_UNKNOWN or PATH_UNKNOWN, 404): without a hint which.
        """
        prefixes = self._hosts.get(host)
        if prefixes is None:
            raise ClientError(Reason.HOST_UNKNOWN, "no route for this host", status=404)
        route = prefixes.get(path)
        end = len(path)
        while route is None:
            end = path.rfind(b"/", 0, end)
            if end < 0:
                raise ClientError(Reason.PATH_UNKNOWN, "no route for this path", status=404)
            route = prefixes.get(path[:end])
        return route
