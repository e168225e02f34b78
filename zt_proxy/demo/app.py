"""A small low-code app to stand behind the proxy: records, an editor with Deploy, and a live log over a WebSocket.

It has no login of its own. Every request must carry a valid assertion of the proxy (`assertion`); without one the
answer is 401. What a person may do is not its business: that is the proxy's policy.
"""

from __future__ import annotations

import asyncio
import json
import ssl as ssl_module
from dataclasses import asdict, dataclass, field

from aiohttp import WSMsgType, web

from zt_proxy.core.clock import Clock, SystemClock
from zt_proxy.demo.app_state import FIELD_TYPES, AppState, Invalid, Stale
from zt_proxy.demo.assertion import HEADER, AssertionVerifier, Caller, NotProven
from zt_proxy.demo.orders import MOST_YEARS, old_orders
from zt_proxy.demo.web import STATIC, Handler, page, safe_headers

__all__ = ["AppConfig", "build_app"]

CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)


@dataclass(frozen=True, slots=True)
class AppConfig:
    """What the app must know of the proxy: where its keys are, its issuer, and the audience of the app's route.

    `tls` verifies the host of `jwks_url`; None takes the system's CAs.
    """

    jwks_url: str
    issuer: str
    audience: str
    tls: ssl_module.SSLContext | None = None
    clock: Clock = field(default_factory=SystemClock)


def build_app(config: AppConfig) -> web.Application:
    """The app as an aiohttp application; serve it with `zt_proxy.demo.web.serve` on a loopback address."""
    verifier = AssertionVerifier(config.jwks_url, config.issuer, config.audience, config.clock, config.tls)

    @web.middleware
    async def who_asks(request: web.Request, handler: Handler) -> web.StreamResponse:
        tokens = request.headers.getall(HEADER, [])
        try:
            if len(tokens) > 1:
                raise NotProven("more than one assertion")
            request[CALLER] = await verifier.verify(tokens[0] if tokens else None)
        except NotProven as problem:
            return _problem(401, "This app answers only through its proxy.", str(problem))
        return await handler(request)

    handlers = _App(AppState(config.clock))
    app = web.Application(middlewares=[safe_headers, who_asks], client_max_size=256 * 1024)
    app.on_shutdown.append(handlers.close)
    app.add_routes(
        [
            web.get("/", handlers.records_page),
            web.get("/editor", handlers.editor_page),
            web.get("/confirm", handlers.confirm_page),
            web.get("/welcome", handlers.confirm_page),
            web.get("/live", handlers.live),
            web.get("/api/me", handlers.me),
            web.get("/api/form", handlers.form),
            web.get("/api/records", handlers.records),
            web.get("/api/export", handlers.export),
            web.post("/api/records", handlers.add),
            web.put(r"/api/records/{number:\d{1,9}}", handlers.change),
            web.delete(r"/api/records/{number:\d{1,9}}", handlers.remove),
            web.post("/api/deploy", handlers.deploy),
            web.static("/static", STATIC),
        ]
    )
    return app


class _App:
    """The handlers."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._sockets: set[web.WebSocketResponse] = set()

    async def records_page(self, request: web.Request) -> web.Response:
        """The table; works without JavaScript, which adds editing and the live log."""
        values = {"caller": request[CALLER], "here": "records", "fields": self._state.fields}
        return page("app_records.html", values | {"rows": self._state.rows(), "events": list(self._state.events)[::-1]})

    async def editor_page(self, request: web.Request) -> web.Response:
        """The form's editor."""
        values = {"caller": request[CALLER], "here": "editor", "types": FIELD_TYPES, "version": self._state.version}
        return page("app_editor.html", values | {"fields": self._state.fields})

    async def confirm_page(self, request: web.Request) -> web.Response:
        """Says that the person is through.

        The proxy guards `/confirm` by the rule of the deploy, `/welcome` by a sign-in. A page that waits in
        another tab with unsaved work sends people here, and loses nothing.
        """
        return page("app_confirm.html", {"caller": request[CALLER], "here": ""})

    async def me(self, request: web.Request) -> web.Response:
        """What the proxy says of who asks."""
        return _json(asdict(request[CALLER]))

    async def form(self, request: web.Request) -> web.Response:
        """The deployed form."""
        return _json(self._state.form())

    async def records(self, request: web.Request) -> web.Response:
        """All records."""
        return _json(self._state.rows())

    async def export(self, request: web.Request) -> web.Response:
        """Old orders with the accounts that they were paid to: of one year, or of `years` at once."""
        asked = request.query.get("years", "1")
        if not asked.isascii() or not asked.isdecimal() or not 1 <= int(asked[:3]) <= MOST_YEARS:
            return _problem(422, f"1 to {MOST_YEARS} years, please.")
        self._state.tell("export", f"exported {asked} year{'s' * (asked != '1')} of orders", request[CALLER].name)
        answer = _json({"orders": old_orders(int(asked[:3]))})
        answer.headers["Content-Disposition"] = 'attachment; filename="orders.json"'
        return answer

    async def add(self, request: web.Request) -> web.Response:
        """A new record."""
        try:
            return _json(self._state.add(await _body(request), request[CALLER].name), 201)
        except Invalid as problem:
            return _problem(422, str(problem))

    async def change(self, request: web.Request) -> web.Response:
        """Another content for a record."""
        number = int(request.match_info["number"])
        try:
            return _json(self._state.change(number, await _body(request), request[CALLER].name))
        except Invalid as problem:
            return _problem(422, str(problem))
        except KeyError:
            return _problem(404, f"There is no record {number}.")

    async def remove(self, request: web.Request) -> web.Response:
        """One record less."""
        number = int(request.match_info["number"])
        try:
            self._state.remove(number, request[CALLER].name)
        except KeyError:
            return _problem(404, f"There is no record {number}.")
        return web.Response(status=204)

    async def deploy(self, request: web.Request) -> web.Response:
        """The edited form becomes the one in use."""
        try:
            version = self._state.deploy(await _body(request), request[CALLER].name)
        except Invalid as problem:
            return _problem(422, str(problem))
        except Stale as problem:
            return _problem(409, str(problem))
        return _json({"version": version})

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Events as JSON text frames: first what is kept, then each as it happens. `ping` is answered with `pong`."""
        socket = web.WebSocketResponse(heartbeat=30, max_msg_size=4096)
        if not socket.can_prepare(request).ok:
            return _problem(426, "This address speaks WebSocket only.")
        await socket.prepare(request)
        self._sockets.add(socket)
        events = self._state.listen()
        for event in tuple(self._state.events):
            await socket.send_str(json.dumps(asdict(event)))
        self._state.tell("live", "is watching", request[CALLER].name)

        async def pass_on() -> None:
            while True:
                await socket.send_str(json.dumps(asdict(await events.get())))

        sender = asyncio.create_task(pass_on())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and message.data == "ping":
                    await socket.send_str(json.dumps({"kind": "pong"}))
        finally:
            self._state.unlisten(events)
            self._sockets.discard(socket)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return socket

    async def close(self, app: web.Application) -> None:
        """Send every watcher away, so that a stop does not wait for them."""
        for socket in tuple(self._sockets):
            await socket.close(code=1001)


async def _body(request: web.Request) -> object:
    if request.content_type != "application/json":
        raise Invalid("Send JSON, please.")
    try:
        body: object = await request.json()
    except ValueError:
        raise Invalid("That is not JSON.") from None
    return body


def _json(value: object, status: int = 200) -> web.Response:
    return web.json_response(value, status=status, headers={"Cache-Control": "no-store"})


def _problem(status: int, title: str, detail: str = "") -> web.Response:
    """An error as RFC 9457 has it."""
    body = {"type": "about:blank", "title": title, "status": status} | ({"detail": detail} if detail else {})
    text = json.dumps(body)
    return web.Response(
        status=status, text=text, content_type="application/problem+json", headers={"Cache-Control": "no-store"}
    )
