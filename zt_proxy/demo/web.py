"""What the demo provider and the demo app share: pages, static files, headers and a server that a test can start."""

from __future__ import annotations

import ipaddress
import socket
import ssl as ssl_module
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import jinja2
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_HERE = Path(__file__).parent
STATIC = _HERE / "static"

_pages = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# No form-action: Chromium applies it to every redirect that follows a form, and a sign-in form ends at the client.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def page(template: str, values: Mapping[str, object], status: int = 200) -> web.Response:
    """Render `template` of the demo's folder; values are escaped."""
    text = _pages.get_template(template).render(**values)
    return web.Response(text=text, content_type="text/html", status=status, headers={"Cache-Control": "no-store"})


@web.middleware
async def safe_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the headers of a careful site onto every answer."""
    try:
        response = await handler(request)
    except web.HTTPException as stop:
        _add_safe_headers(stop.headers)
        raise
    if not response.prepared:
        _add_safe_headers(response.headers)
    return response


def _add_safe_headers(headers: Mapping[str, str]) -> None:
    assert hasattr(headers, "setdefault")
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")


class LoopbackResolver(AbstractResolver):
    """Resolves names under `.localhost` to 127.0.0.1 as browsers do (RFC 6761 §6.3); some systems' resolvers do not."""

    def __init__(self) -> None:
        self._others = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of `host`."""
        loopback = host == "localhost" or host.endswith(".localhost")
        found = await self._others.resolve("127.0.0.1" if loopback else host, port, family)
        return [{**entry, "hostname": host} for entry in found] if loopback else found

    async def close(self) -> None:
        """Nothing is kept open."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: where it listens, and its address as a URL without a trailing slash."""

    host: str
    port: int
    url: str


@asynccontextmanager
async def serve(
    app: web.Application, host: str = "127.0.0.1", port: int = 0, ssl: ssl_module.SSLContext | None = None
) -> AsyncIterator[Running]:
    """Serve `app` until the block ends; port 0 takes a free one.

    Raises `ValueError` for plain http on anything but a loopback address, and `OSError` when the port is taken.
    """
    if ssl is None and not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"plain http is for loopback only, not for {host}")
    # Bound here and not by the runner, so that the port is known and a second start of the same port fails at once.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    try:
        await runner.setup()
        site = web.SockSite(runner, listener, ssl_context=ssl)
        await site.start()
        bound = listener.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        yield Running(host, bound, f"{'https' if ssl else 'http'}://{name}:{bound}")
    finally:
        await runner.cleanup()
        listener.close()
