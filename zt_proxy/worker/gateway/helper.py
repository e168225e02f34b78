"""`helper: inject`: the relay of a route whose pages get the script `/.zt/session.js` (DESIGN §7).

Only such a route has one of these; every other keeps the plain relay and pays nothing.
"""

import secrets

import structlog

from zt_proxy.core.errors import UpstreamError, ZtError
from zt_proxy.worker.gateway import browser
from zt_proxy.worker.metrics import Metrics
from zt_proxy.worker.protect.inject import csp, page
from zt_proxy.worker.protect.inject.page import Outcome, Page
from zt_proxy.worker.protect.inject.stream import GzipRewriter, Rewriter
from zt_proxy.worker.settings import RouteSettings
from zt_proxy.worker.upstream.permit import Internal, Permitted
from zt_proxy.worker.upstream.pool import UpstreamPool
from zt_proxy.worker.upstream.relay import Client, Owner, Phase, Relay
from zt_proxy.worker.wire.h1_response import ResponseHead
from zt_proxy.worker.wire.head import RequestHead

METHODS = frozenset((b"GET", b"POST"))
SURPRISES = frozenset((Outcome.CODING, Outcome.CHARSET, Outcome.SANDBOX, Outcome.NO_PLACE))

log = structlog.get_logger("zt_proxy.helper")


class Helper:
    """What one route needs to put the script into its pages. Lives as long as the route."""

    __slots__ = ("_metrics", "_own", "_route", "_said", "_script")

    def __init__(self, route: RouteSettings, script: str, metrics: Metrics) -> None:
        """`script` is the path of the script with its version, such as `/.zt/session.js?v=0123456789abcdef`."""
        self._route = route.name
        self._own = csp.Own(b"https://" + route.host.encode())
        self._script = script.encode()
        self._metrics = metrics
        self._said: set[Outcome] = set()

    def request_lines(self, head: RequestHead) -> list[bytes]:
        """The header lines of a request as they go to the platform."""
        return page.request_lines(head.lines) if is_for_a_page(head) else head.lines

    def relay(
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
    ) -> Relay:
        """What carries a request of this route; as the constructor of Relay."""
        relay = PageRelay(permit, owner, client, pool, head, request, extra, body_limit, own_cookies)
        relay.helper = self
        return relay

    def consider(self, request: RequestHead, head: ResponseHead) -> Page | ResponseHead:
        """What the client gets of an answer: a page with the script, or the answer, with or without `Vary`."""
        if head.status < 200 or not page.is_html(head):
            return head
        if not is_for_a_page(request):
            return page.varied(head)
        found = page.consider(head, self._own, self._script, secrets.token_urlsafe(16).encode())
        if isinstance(found, Page):
            return found
        if found is not None:
            self.report(found)
        return page.varied(head)

    def report(self, outcome: Outcome) -> None:
        """Count what came of a page, and say once for each route why pages are left without the script."""
        self._metrics.page(self._route, outcome.value)
        if outcome in SURPRISES and outcome not in self._said:
            self._said.add(outcome)
            log.warning("a page was left without the helper", route=self._route, why=outcome.value)


def is_for_a_page(head: RequestHead) -> bool:
    """The answer will be a document of its own, not a fragment that a script asked for."""
    if head.method not in METHODS or head.websocket:
        return False
    destination = head.noted[browser.FETCH_DEST]
    return browser.is_navigation(head) if destination is None else destination in page.DOCUMENTS


class PageRelay(Relay):
    """A relay that puts the script into the page that it carries, if it carries one."""

    helper: Helper
    _rewriter: Rewriter | None = None

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        found = self.helper.consider(self.head, head)
        if found is head:
            super().on_whole(head, body)
            return
        self._begin(found)
        if body:
            self.on_response_body(body)
        self.on_response_end()

    def on_response(self, head: ResponseHead) -> None:
        self._begin(self.helper.consider(self.head, head))

    def _begin(self, found: Page | ResponseHead) -> None:
        if isinstance(found, ResponseHead):
            super().on_response(found)
            return
        self._rewriter = (GzipRewriter if found.gzip else Rewriter)(found.tag)
        super().on_response(found.head)

    def on_response_body(self, data: bytes) -> None:
        if self._rewriter is not None:
            data = self._rewriter.feed(data)
        if data:
            super().on_response_body(data)

    def on_response_end(self) -> None:
        rewriter = self._rewriter
        if rewriter is not None:
            try:
                rest = rewriter.end()
            except UpstreamError as error:  # not raised: the platform may have ended its connection with the page
                self.fail(error)
                return
            if rest:
                super().on_response_body(rest)
            self.helper.report(Outcome.INJECTED if rewriter.inserter.placed else Outcome.NO_PLACE)
        super().on_response_end()

    def upstream_fed(self) -> None:
        """A page that the platform sends bit by bit reaches its reader bit by bit."""
        if self._rewriter is not None and self.phase == Phase.STREAMING and not self._response_ended:
            coded = self._rewriter.flush()
            if coded:
                super().on_response_body(coded)
        super().upstream_fed()

    def fail(self, error: ZtError) -> None:
        self._rewriter = None
        super().fail(error)
