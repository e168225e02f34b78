"""A server on loopback that takes webhooks and keeps what came, byte for byte."""

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from tests.lab.waiting import until


@dataclass
class Message:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def alert(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


@dataclass
class HookServer:
    """`async with HookServer() as server`. `statuses` are answered in turn, the last one for ever."""

    statuses: list[int] = field(default_factory=lambda: [204])
    headers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    hold: asyncio.Event | None = None
    """When set to an Event, answers wait for it."""
    messages: list[Message] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.hold is not None:
            self.hold.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook"

    async def received(self, count: int = 1) -> Message:
        """The last message, once so many have come."""
        await until(lambda: len(self.messages) >= count)
        return self.messages[-1]

    async def _take(self, request: web.Request) -> web.Response:
        self.messages.append(Message(request.path_qs, dict(request.headers), await request.read()))
        if self.hold is not None:
            await self.hold.wait()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, headers=self.headers)
