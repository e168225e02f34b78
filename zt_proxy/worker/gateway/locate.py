"""Where a request leads: host, target and route belong together, and to this connection.

What was found out once is remembered: a target's place at its host, and the whole way of a head that is repeated from
one address. Both follow from bytes and configuration alone, and are gone with the configuration.
"""

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.http import Target
from zt_proxy.worker.gateway import browser
from zt_proxy.worker.gateway.exchange import Downstream, Exchange, Way
from zt_proxy.worker.gateway.routes import Route, RouteTable
from zt_proxy.worker.wire import forwarded, target
from zt_proxy.worker.wire.head import HeadKind
from zt_proxy.worker.wire.host import normalise_host
from zt_proxy.worker.wire.hygiene import Kind

HOST = int(Kind.HOST)
FORWARDED_FOR = int(Kind.FORWARDED_FOR)
RESERVED_PREFIX = b"/.zt"
REMEMBERED = 4096
"""Targets whose place is remembered, per worker; longer ones than the next figure never are."""
REMEMBERED_TARGET = 256
REMEMBERED_BYTES = 4 * 1024 * 1024
"""Of header blocks whose ways are remembered; what is made of a block takes several times its room."""


def is_own(path: bytes) -> bool:
    """The path is one of the proxy's own places, on whatever host."""
    return path.startswith(RESERVED_PREFIX) and path[4:5] in (b"", b"/")


class Locator:
    """Places and ways of one configuration. `trusted_proxies`: networks whose X-Forwarded-For is believed."""

    __slots__ = ("_places", "_routes", "_trusted", "_way_bytes", "_ways")

    def __init__(self, routes: RouteTable, trusted_proxies: tuple[str, ...]) -> None:
        self._routes = routes
        self._trusted = forwarded.TrustedNetworks(trusted_proxies)
        self._places: dict[tuple[bytes, bytes], tuple[Target, Route]] = {}
        self._ways: dict[tuple[HeadKind, bytes, bytes, str], Way] = {}
        self._way_bytes = 0

    def locate(self, x: Exchange) -> None:
        """Find where a request leads: `x.host`, `x.target`, `x.route` (None: the proxy's own places), `x.client`.

        Raises ClientError (MALFORMED, TARGET_REFUSED, HOST_UNKNOWN, MISDIRECTED or BODY_TOO_LARGE).
        """
        head, connection = x.head, x.connection
        kind = head.kind
        if kind is not None:
            way = self._ways.get((kind, head.method, head.target, x.client))
            if way is not None and way.raw_host == connection.host_memo[0]:
                x.way = way
                x.host, x.target, x.route, x.client = way.host, way.target, way.route, way.client
                return
        raw_host = head.noted[HOST]
        if not raw_host:
            raise ClientError(Reason.MALFORMED, "no Host header, or an empty one", status=400)
        x.host = (
            connection.host_memo[1] if connection.host_memo[0] == raw_host else self._new_host(connection, raw_host)
        )
        x.target, x.route = self._places.get((raw_host, head.target)) or self._find_place(x, raw_host)
        self._place(x, x.route)
        if kind is not None and x.route is not None and not browser.covers_everything(head, x.target.path):
            self._remember_way(x, kind, x.route, x.target)

    def forget(self) -> None:
        """Something that ways remember is so no more."""
        self._ways.clear()
        self._way_bytes = 0

    def _find_place(self, x: Exchange, raw_host: bytes) -> tuple[Target, Route | None]:
        """Where a target leads at a host; remembered when it leads to a route."""
        raw_target = x.head.target
        parsed = target.parse(raw_target)
        if parsed.authority is not None and normalise_host(parsed.authority) != x.host:
            raise ClientError(Reason.TARGET_REFUSED, "the target names another host", status=400)
        path = parsed.target.path
        if is_own(path):
            if parsed.needs:
                target.refuse_unless(parsed.needs, 0)
            return parsed.target, None
        if x.host == self._routes.portal_host:
            return parsed.target, None
        route = x.route = self._routes.match(x.host, path)
        if parsed.needs:
            target.refuse_unless(parsed.needs, route.allowed_paths)
        if not path.startswith(b"/"):
            raise ClientError(Reason.TARGET_REFUSED, "asterisk form", status=400)
        place = (parsed.target, route)
        if parsed.authority is None and len(raw_target) <= REMEMBERED_TARGET:
            if len(self._places) >= REMEMBERED:
                self._places.clear()
            self._places[raw_host, raw_target] = place
        return place

    def _remember_way(self, x: Exchange, kind: HeadKind, route: Route, found: Target) -> None:
        raw_host, raw_target = kind.noted[HOST], x.head.target
        if raw_host is None or not raw_target.startswith(b"/") or len(raw_target) > REMEMBERED_TARGET:
            return
        key = (kind, x.head.method, raw_target, x.connection.peer)
        way = self._ways.get(key)  # known, but new to this connection
        if way is None:
            self._way_bytes += kind.size
            if len(self._ways) >= REMEMBERED or self._way_bytes > REMEMBERED_BYTES:
                self._ways.clear()
                self._way_bytes = kind.size
            way = self._ways[key] = Way(raw_host, x.host, found, route, x.client)
        x.way = way

    def _place(self, x: Exchange, route: Route | None) -> None:
        """What a place asks of the request that was found to be for it."""
        if self._trusted and self._trusted.contains(x.connection.peer):
            values = [value for value in (x.head.noted[FORWARDED_FOR],) if value is not None]
            x.client = forwarded.client_address(x.connection.peer, values, self._trusted)
        if route is not None and x.head.content_length > route.body_limit:
            raise ClientError(Reason.BODY_TOO_LARGE, "Content-Length beyond the route's limit", status=413)

    def _new_host(self, connection: Downstream, raw: bytes) -> str:
        host = normalise_host(raw)
        if not self._routes.knows(host):
            raise ClientError(Reason.HOST_UNKNOWN, "no route for this host", status=404)
        if not connection.serves(host):
            raise ClientError(Reason.MISDIRECTED, "not the host of this connection", status=421)
        connection.host_memo = (raw, host)
        return host
