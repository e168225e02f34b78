"""Reading the configuration again, by an operator's order.

POST /reload            {"force": bool, "reason": str} → {"token"}; on record before anything follows
GET  /reload?token=     {"done": false}, or {"done": true, "epoch", "problem"}
"""

import secrets
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from zt_proxy.control.operator import answers
from zt_proxy.control.operator.overview import Overview
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.link import reload_order

REASON = 500
"""Longest reason, in characters."""

log = structlog.get_logger("zt_proxy.operator")


class ReloadOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`force`: whatever `guard` says."""

    force: bool = False
    reason: str = ""


_order = msgspec.json.Decoder(ReloadOrder, strict=True)


class ReloadOrders:
    """`add_to` the operator's application."""

    def __init__(self, overview: Overview, runtime_dir: Path) -> None:
        self._overview = overview
        self._directory = runtime_dir

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/reload", self._reload)
        app.router.add_get("/reload", self._answer)

    async def _reload(self, request: web.Request) -> web.Response:
        order = await answers.order(request, _order)
        if len(order.reason) > REASON:
            raise ClientError(Reason.MALFORMED, f"a reason has at most {REASON} characters")
        uid, token = request[answers.UID], secrets.token_hex(8)
        await self._overview.audit.write(
            "operator",
            action="reload",
            uid=uid,
            who=answers.name_of(uid),
            force=order.force,
            **({"reason": order.reason} if order.reason else {}),
        )
        try:
            reload_order.place(self._directory, reload_order.Order(token, order.force))
        except OSError as error:
            raise UnavailableError(Reason.STORE_UNAVAILABLE, f"{self._directory}: {error}") from error
        log.info("reload ordered", uid=uid, force=order.force)
        return answers.json({"token": token})

    async def _answer(self, request: web.Request) -> web.Response:
        found = reload_order.answered(self._directory, request.query.get("token", ""))
        if found is None:
            return answers.json({"done": False})
        return answers.json({"done": True, "epoch": found.epoch, "problem": found.problem})
