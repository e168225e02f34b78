"""The portal's HTTP server: bounds wider than the workers', and no answer that quotes a request.

Workers have parsed and bounded every request before it comes here. aiohttp's own bounds are tighter (8,190 bytes of a
header), and its own answer to what passes them shows the header: a page of an app that pads its cookies would read the
session cookie in it, which HttpOnly keeps from scripts (ZT-APP-03, ZT-ERR-01).
"""

from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from zt_proxy.control.portal.answers import problem
from zt_proxy.core.errors import Reason

LONGEST = 16 * 1024 * 1024
"""Bytes of a line or a header: more than any worker lets through."""
HEADERS = 100_000
GRACE = 1.0
"""Seconds for an answer under way at the end, and as many again once it is cancelled. Control has a few in all, and
what it still has to write comes after this."""


class PortalRunner(web.AppRunner):
    """Runs the portal's application without an access log: targets carry one-time codes (ZT-LOG-02)."""

    def __init__(self, portal: web.Application) -> None:
        super().__init__(
            portal,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=GRACE,
            max_line_size=LONGEST,
            max_field_size=LONGEST,
            max_headers=HEADERS,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, loop=made._loop, **made._kwargs)


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Protocol(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp itself refuses gets an answer of ours. Raises ConnectionError if one was already begun."""
        theirs: Any = super().handle_error(request, status, exc, message)
        reason = Reason.MALFORMED if theirs.status == 400 else Reason.INTERNAL_ERROR
        ours = problem(theirs.status, reason, "")
        ours.force_close()
        return ours
