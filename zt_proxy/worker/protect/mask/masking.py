"""The masks of one route: who is masked, and what carries their requests."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from zt_proxy.core.errors import ClientError, ConfigurationError, Reason, ZtError
from zt_proxy.core.types import Facts, Obligations
from zt_proxy.policy.conditions import Vocabulary, compile_condition
from zt_proxy.policy.nodes import Ask
from zt_proxy.worker.protect.mask import paths, ways
from zt_proxy.worker.protect.mask.answers import Types, whole_request
from zt_proxy.worker.protect.mask.document import Editor
from zt_proxy.worker.protect.mask.relay import MaskRelay, Plan, SparedRelay
from zt_proxy.worker.protect.mask.scan import Target
from zt_proxy.worker.protect.mask.ways import Way
from zt_proxy.worker.settings import MaskSpec, RouteSettings
from zt_proxy.worker.upstream.permit import Internal, Permitted
from zt_proxy.worker.upstream.pool import UpstreamPool
from zt_proxy.worker.upstream.relay import Client, Owner, Relay
from zt_proxy.worker.wire.head import RequestHead

R_co = TypeVar("R_co", covariant=True)


class New(Protocol[R_co]):
    """What makes a relay, from the arguments of Relay's constructor."""

    def __call__(
        self,
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
    ) -> R_co: ...


PURPOSE = "mask-hash"
"""Of the subkey that hashes values: `ring.key(min(ring.export()), PURPOSE)`."""
PLANS = 256
"""Combinations of masks that are kept ready."""
RANK = {"remove": 0, "fixed": 1, "hash": 2, "last4": 3}
"""Where two masks name one value, the one that shows least counts."""


class Mask:
    """One mask, compiled."""

    __slots__ = ("ask", "folds", "headers", "name", "named_only", "rank", "targets")

    def __init__(self, spec: MaskSpec, words: Vocabulary, key: bytes) -> None:
        """Raises ConfigurationError for paths, ways and conditions that cannot be read."""
        self.name = spec.name
        self.named_only = spec.named_only
        self.folds = spec.case_insensitive
        self.headers = frozenset(name.encode() for name in spec.headers)
        self.rank = RANK.get(spec.way, -1)
        self.ask: Ask | None = None if spec.applies is None else compile_condition(spec.applies, words).ask
        way = _way(spec, key)
        try:
            self.targets: tuple[Target, ...] = tuple((paths.parse(text), way) for text in spec.fields)
        except ValueError as error:
            raise ConfigurationError(f"mask {spec.name!r}: {error}") from None

    def concerns(self, facts: Facts) -> bool:
        """This reader is masked: always, unless it is known that they are not. Not known is masked."""
        return not self.named_only and (self.ask is None or self.ask(facts) is not False)


def _way(spec: MaskSpec, key: bytes) -> Way | None:
    match spec.way:
        case "remove":
            return None
        case "fixed":
            return ways.fixed(spec.value.encode())
        case "last4":
            return ways.LAST4
        case "hash":
            return ways.hashed(key)
    raise ConfigurationError(f"mask {spec.name!r}: {spec.way!r} is no way to mask")


class Masking:
    """One route's masks. Lives as long as the route."""

    __slots__ = ("_by_name", "_make", "_masks", "_plans", "_settings", "_spare", "_types")

    def __init__(
        self, route: RouteSettings, key: bytes, make: New[MaskRelay] = MaskRelay, spare: New[SparedRelay] = SparedRelay
    ) -> None:
        """`key`: for `with: hash`, see `PURPOSE`. `make` and `spare`: kinds of relay that do more, such as for pages.

        Raises ConfigurationError for masks that cannot be.
        """
        words = Vocabulary(route.rules)
        self._masks = tuple(Mask(spec, words, key) for spec in route.masks)
        self._by_name: Mapping[str, Mask] = {mask.name: mask for mask in self._masks}
        self._settings = route.answers
        self._types = Types(route.answers)
        self._make = make
        self._spare = spare
        self._plans: dict[tuple[Mask, ...], Plan] = {}

    @property
    def leaves_websockets(self) -> bool:
        """The operator lets WebSockets pass unread, whoever reads them."""
        return self._settings.websocket

    def masks_for(self, facts: Facts, obligations: Obligations | None) -> tuple[Mask, ...]:
        """The masks for this reader and request, in the order of the configuration: what the rule names, and what
        applies by itself.

        Raises ZtError(INTERNAL_ERROR) when a rule names one that the route does not have.
        """
        named = obligations.masks if obligations is not None else ()
        for name in named:
            if name not in self._by_name:
                raise ZtError(Reason.INTERNAL_ERROR, f"a rule names the mask {name!r}, which the route does not have")
        return tuple(mask for mask in self._masks if mask.name in named or mask.concerns(facts))

    def relay(
        self,
        masks: tuple[Mask, ...],
        permit: Permitted | Internal,
        owner: Owner,
        client: Client,
        pool: UpstreamPool,
        head: RequestHead,
        request: bytes,
        extra: bytes,
        body_limit: int,
        own_cookies: frozenset[bytes],
    ) -> Relay:
        """What carries a request of a reader whom `masks` concern, or none; the rest as the constructor of Relay.

        Raises ClientError(ANSWER_NOT_INSPECTABLE, 403) for a WebSocket, unless the route lets them pass.
        """
        if not masks:
            spared = self._spare(permit, owner, client, pool, head, request, extra, body_limit, own_cookies)
            spared.types = self._types
            return spared
        if head.websocket and not self._settings.websocket:
            detail = "nobody looks into a WebSocket, and the reader may not see everything"
            raise ClientError(Reason.ANSWER_NOT_INSPECTABLE, detail, status=403)
        if not head.websocket:
            request = whole_request(request, head.method)
        relay = self._make(permit, owner, client, pool, head, request, extra, body_limit, own_cookies)
        relay.plan = self._plan(masks)
        return relay

    def _plan(self, masks: tuple[Mask, ...]) -> Plan:
        plan = self._plans.get(masks)
        if plan is None:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            plan = self._plans[masks] = self._compiled(masks)
        return plan

    def _compiled(self, masks: tuple[Mask, ...]) -> Plan:
        ordered = sorted(masks, key=lambda mask: mask.rank)
        exact = [target for mask in ordered if not mask.folds for target in mask.targets]
        folding = [target for mask in ordered if mask.folds for target in mask.targets]
        hidden = frozenset(name for mask in masks for name in mask.headers)
        return Plan(self._settings, self._types, Editor(exact, folding), hidden)
