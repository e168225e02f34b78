"""The operator's socket: `runtime_dir/operator.sock`, for the user that runs the proxy and for root alone.

    GET  /status                                     zt_proxy.control.operator.overview.Status
    GET  /sessions?user=&provider=&host=&after=&limit=    {"at", "sessions", "integrations", "following"}
                                                     a session is a Listed with `open`, what it has under way
    POST /sessions/revoke                            Order → Revoked
    /factors…                                        zt_proxy.control.operator.factors
    /locks…                                          zt_proxy.control.operator.locks
    /alerts…                                         zt_proxy.control.operator.alerts
    GET  /people?after=&limit=                       zt_proxy.control.operator.people
    /reload…                                         zt_proxy.control.operator.reload

Two locks: the file has mode 0600, and the kernel is asked who is at the other end (SO_PEERCRED), which also holds where
somebody widened the mode or the folder's.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
from aiohttp import web

from zt_proxy.control.factors.manager import Factors
from zt_proxy.control.operator import answers
from zt_proxy.control.operator.factors import FactorOrders
from zt_proxy.control.operator.overview import Overview, words
from zt_proxy.control.operator.revoke import Ambiguous, Order, revoke
from zt_proxy.control.session.directory import PAGE, Page
from zt_proxy.core.errors import ClientError, Reason, ZtError

SOCKET = "operator.sock"
_CREDENTIALS = struct.Struct("3i")
DIGITS = 9
"""Longest `limit`; Python refuses to read numbers of thousands of digits (CVE-2020-10735)."""
_LARGEST = 64 * 1024
"""Bytes of an order."""
GRACE = 0.5
"""Seconds for a request under way when control ends, and as many again once it is cancelled: who stops talking in the
middle of one must not keep control from leaving in order."""
_order = msgspec.json.Decoder(Order, strict=True)

log = structlog.get_logger("zt_proxy.operator")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Orders(Protocol):
    """Further routes of the socket."""

    def add_to(self, app: web.Application) -> None: ...


class OperatorServer:
    """`start` when control serves; `stop` before it ends."""

    def __init__(self, directory: Path, overview: Overview, factors: Factors, *orders: Orders) -> None:
        self.path = directory / SOCKET
        self._overview = overview
        self._factors = FactorOrders(overview, factors)
        self._orders = orders
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen in the place of whoever listened before. Raises OSError."""
        app = web.Application(middlewares=[_answer_problems, _admit], client_max_size=_LARGEST)
        app.router.add_get("/status", self._status)
        app.router.add_get("/sessions", self._sessions)
        app.router.add_post("/sessions/revoke", self._revoke)
        self._factors.add_to(app)
        for orders in self._orders:
            orders.add_to(app)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=GRACE)
        await runner.setup()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            listening.bind(str(self.path))
            self.path.chmod(0o600)  # before it listens: until then nobody can connect
            await web.SockSite(runner, listening).start()
        except BaseException:
            listening.close()
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Does nothing if it never began."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            self.path.unlink(missing_ok=True)

    async def _status(self, _request: web.Request) -> web.Response:
        return answers.json(await self._overview.status())

    async def _sessions(self, request: web.Request) -> web.Response:
        query = request.query
        unknown = set(query) - {"user", "provider", "host", "after", "limit"}
        limit = query.get("limit", str(PAGE))
        if unknown or not limit.isdecimal() or len(limit) > DIGITS:
            raise ClientError(Reason.MALFORMED, f"cannot be asked for: {', '.join(sorted(unknown)) or 'limit'}")
        host, provider = query.get("host"), query.get("provider")
        if query.get("user"):
            found = await self._overview.directory.of_user(query["user"])
            page = Page(tuple(each for each in found if host is None or host in each.hosts), "")
        else:
            page = await self._overview.directory.page(query.get("after", ""), limit=int(limit), host=host)
        streams = await self._overview.streams()
        sessions = [
            {**msgspec.to_builtins(each), "open": streams.sessions.get(each.sid, 0)}
            for each in page.sessions
            if provider is None or each.provider == provider
        ]
        return answers.json(
            {
                "at": self._overview.clock.now(),
                "sessions": sessions,
                "integrations": streams.integrations,
                "following": page.following,
            }
        )

    async def _revoke(self, request: web.Request) -> web.Response:
        order = await answers.order(request, _order)
        uid = request[answers.UID]
        done = await revoke(self._overview, order, uid, answers.name_of(uid))
        log.info("sessions revoked", sessions=done.revoked, uid=uid, in_force=done.in_force)
        return answers.json(done)


@web.middleware
async def _admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only this user and root (403)."""
    request[answers.UID] = uid = _peer(request)
    if uid not in {os.geteuid(), 0}:
        log.warning("operator socket refused", uid=uid)
        raise ClientError(Reason.RULE_DENIED, f"this socket is for uid {os.geteuid()}, you are {uid}", status=403)
    return await handler(request)


@web.middleware
async def _answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Ambiguous as error:
        return answers.json({"problem": words(error), "providers": error.providers}, error.status)
    except ZtError as error:
        return answers.json({"problem": words(error), "reason": error.reason.value}, error.status)
    except web.HTTPException as error:
        return answers.json({"problem": error.reason}, error.status)
    except Exception:
        log.exception("operator request failed", path=request.path)
        return answers.json({"problem": "this failed; the log says more"}, 500)


def _peer(request: web.Request) -> int:
    """Uid of the process at the other end; of nobody, if it is gone already."""
    end = None if request.transport is None else request.transport.get_extra_info("socket")
    if end is None:
        return -1
    _, uid, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
