"""Routes that mask answers and put the helper into pages: pages go through the one, data through the other."""

from zt_proxy.worker.gateway.helper import Helper, PageRelay
from zt_proxy.worker.protect.mask import Masking, MaskRelay, SparedRelay
from zt_proxy.worker.settings import RouteSettings
from zt_proxy.worker.upstream.permit import Internal, Permitted
from zt_proxy.worker.upstream.pool import UpstreamPool
from zt_proxy.worker.upstream.relay import Client, Owner
from zt_proxy.worker.wire.head import RequestHead


class MaskedPageRelay(MaskRelay, PageRelay):
    """Masks what is data; what passes, and may be a page, comes to PageRelay as if from the platform."""


class SparedPageRelay(SparedRelay, PageRelay):
    """For a reader whom no mask concerns."""


def masking_of(route: RouteSettings, key: bytes, helper: Helper | None) -> Masking | None:
    """The masks of a route; None: it has none. `key`: see `protect.mask.PURPOSE`.

    Raises ConfigurationError for masks that cannot be.
    """
    if not route.masks:
        return None
    if helper is None:
        return Masking(route, key)

    def make(
        permit: Permitted | Internal,
        owner: Owner,
        client: Client,
        pool: UpstreamPool,
        head: RequestHead,
        request: bytes,
        extra: bytes,
        body_limit: int,
        own_cookies: frozenset[bytes],
        /,
    ) -> MaskedPageRelay:
        relay = MaskedPageRelay(permit, owner, client, pool, head, request, extra, body_limit, own_cookies)
        relay.helper = helper
        return relay

    def spare(
        permit: Permitted | Internal,
        owner: Owner,
        client: Client,
        pool: UpstreamPool,
        head: RequestHead,
        request: bytes,
        extra: bytes,
        body_limit: int,
        own_cookies: frozenset[bytes],
        /,
    ) -> SparedPageRelay:
        relay = SparedPageRelay(permit, owner, client, pool, head, request, extra, body_limit, own_cookies)
        relay.helper = helper
        return relay

    return Masking(route, key, make, spare)
