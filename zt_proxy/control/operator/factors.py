"""Second factors by order of an operator: who has which, a fresh start for somebody, a permission to enrol.

    GET  /factors?user=     {"at", "people"}: OwnedFactors of everybody with this subject or e-mail address
    POST /factors/reset     Reset → {"factors", "sessions"}: how many are gone, and what `Revoked` says of the sessions
    POST /factors/grant     Grant → {"until"}

An order is on record before it is carried out. A reset lets somebody in who knows the password and nothing more, so it
ends their sessions first; both together are what to do about a lost phone.
"""

import msgspec
from aiohttp import web

from zt_proxy.control.factors.enrolment import GRANT_LIFETIME
from zt_proxy.control.factors.manager import Factors
from zt_proxy.control.factors.types import OwnedFactors, Person
from zt_proxy.control.operator import answers
from zt_proxy.control.operator.overview import Overview
from zt_proxy.control.operator.revoke import REASON, Ambiguous, confirmed
from zt_proxy.core.errors import ClientError, Reason

LONGEST_GRANT = 30 * 86_400.0
"""Seconds; a permission that nobody remembers is one that anybody may use."""
NAME = 320
"""Characters of a name: an e-mail address has no more (RFC 3696, erratum 1690)."""


class Reset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    user: str
    """Subject or e-mail address."""
    issuer: str = ""
    """Which one, where several providers know somebody by this name."""
    reason: str = ""
    """For the record."""


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    user: str
    lifetime: float = GRANT_LIFETIME
    """Seconds."""
    reason: str = ""


_reset = msgspec.json.Decoder(Reset, strict=True)
_grant = msgspec.json.Decoder(Grant, strict=True)


class FactorOrders:
    """Routes of the operator's server."""

    def __init__(self, overview: Overview, factors: Factors) -> None:
        self._overview = overview
        self._factors = factors

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/factors", self._list)
        app.router.add_post("/factors/reset", self._reset)
        app.router.add_post("/factors/grant", self._grant)

    async def _list(self, request: web.Request) -> web.Response:
        if set(request.query) != {"user"}:
            raise ClientError(Reason.MALFORMED, "say whose: `user`")
        people = await self._factors.named(_name(request.query["user"]))
        return answers.json({"at": self._overview.clock.now(), "people": people})

    async def _reset(self, request: web.Request) -> web.Response:
        order = await answers.order(request, _reset)
        _check_reason(order.reason)
        found = await self._chosen(order)
        sessions = tuple(
            each for each in await self._overview.directory.of_user(found.subject) if each.issuer == found.issuer
        )
        await self._record(
            request,
            "reset-factors",
            user=order.user,
            issuer=found.issuer,
            subject=found.subject,
            factors=len(found.factors),
            sessions=len(sessions),
            reason=order.reason,
        )
        await self._overview.sessions.end_subject(found.issuer, found.subject, "factors-reset")
        count = await self._factors.reset(Person(found.issuer, found.subject, found.email))
        ended = await confirmed(self._overview, len(sessions), sessions)
        return answers.json({"factors": count, "sessions": ended})

    async def _grant(self, request: web.Request) -> web.Response:
        order = await answers.order(request, _grant)
        _check_reason(order.reason)
        if not 0 < order.lifetime <= LONGEST_GRANT:
            raise ClientError(Reason.MALFORMED, f"a grant is good for up to {LONGEST_GRANT / 86_400:g} days")
        until = self._overview.clock.now() + order.lifetime
        user = _name(order.user)
        await self._record(request, "grant-enrolment", user=user, until=until, reason=order.reason)
        await self._factors.grant(user, until)
        return answers.json({"until": until})

    async def _chosen(self, order: Reset) -> OwnedFactors:
        found = await self._factors.named(_name(order.user))
        if order.issuer:
            found = tuple(each for each in found if each.issuer == order.issuer)
        if len(found) > 1:
            raise Ambiguous(order.user, tuple(sorted({each.issuer for each in found})))
        if not found:
            raise ClientError(Reason.FACTOR_UNKNOWN, f"{order.user} has no factors", status=404)
        return found[0]

    async def _record(self, request: web.Request, action: str, **fields: str | float) -> None:
        uid = request[answers.UID]
        await self._overview.audit.write("operator", action=action, uid=uid, who=answers.name_of(uid), **fields)


def _name(text: str) -> str:
    if not text.strip() or len(text) > NAME:
        raise ClientError(Reason.MALFORMED, f"a name has up to {NAME} characters")
    return text.strip()


def _check_reason(text: str) -> None:
    if len(text) > REASON:
        raise ClientError(Reason.MALFORMED, f"a reason has at most {REASON} characters")
