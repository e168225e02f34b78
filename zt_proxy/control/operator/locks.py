"""Locks by order of an operator: what is locked, a new lock, the end of one.

    GET  /locks?past=1      {"at", "locks", "past"}: LockShown, oldest first; those that are over only when asked for
    POST /locks             Set → {"lock", "known", …}: LockShown, and whether anybody knows the target
    POST /locks/lift        Lift → {"locks", …}: what was lifted
    POST /locks/review      Lift → {"locks", …}: what was looked into

With `…`: `in_force`, `waiting`, `certain_in` of `Settled`. A person is locked by what their provider calls them, if
anybody knows it: from a live session, or from their factors; else by the name that was given, whoever comes with it.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
from aiohttp import web

from zt_proxy.control.factors.manager import Factors
from zt_proxy.control.locks.manager import LockManager
from zt_proxy.control.locks.store import Past
from zt_proxy.control.locks.types import LockOrder
from zt_proxy.control.operator import answers
from zt_proxy.control.operator.overview import Overview
from zt_proxy.control.operator.revoke import Ambiguous, settled
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.link.locks import Lock, LockEffect, LockKind


class Set(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: LockKind
    value: str
    effect: LockEffect = LockEffect.BLOCK
    lasts: float | None = None
    """Seconds; None: until somebody has reviewed it."""
    provider: str = ""
    """With a user: which one, where several providers know somebody by this name."""
    reason: str = ""


class Lift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By id, or every lock of a target."""

    id: str = ""
    kind: LockKind | None = None
    value: str = ""
    provider: str = ""
    reason: str = ""


class LockShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """A lock with the names of its fields."""

    id: str
    kind: LockKind
    value: str
    effect: LockEffect
    cause: str
    by: str
    at: float
    expires: float | None
    provider: str = ""
    shown: str = ""
    reviewed: str = ""
    exact: bool = False
    ended: float | None = None
    ended_by: str = ""
    """Empty with `ended`: its time had come."""
    ended_reason: str = ""


class _Act(Protocol):
    async def __call__(self, id: str, by: str, reason: str, *, uid: int) -> Lock: ...


class _Target(NamedTuple):
    value: str
    provider: str = ""
    shown: str = ""
    known: bool = True
    exact: bool = False


_set = msgspec.json.Decoder(Set, strict=True)
_lift = msgspec.json.Decoder(Lift, strict=True)


class LockOrders:
    """Routes of the operator's server."""

    def __init__(
        self, overview: Overview, locks: LockManager, factors: Factors, settings: Callable[[], ControlSettings]
    ) -> None:
        self._overview = overview
        self._locks = locks
        self._factors = factors
        self._settings = settings

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/locks", self._list)
        app.router.add_post("/locks", self._lock)
        app.router.add_post("/locks/lift", self._unlock)
        app.router.add_post("/locks/review", self._review)

    async def _list(self, request: web.Request) -> web.Response:
        if set(request.query) - {"past"}:
            raise ClientError(Reason.MALFORMED, "locks can be asked for with `past` alone")
        past = await self._locks.past() if request.query.get("past") else ()
        shown = [_shown(lock) for lock in self._locks.current()]
        return answers.json({"at": self._overview.clock.now(), "locks": shown, "past": [_over(each) for each in past]})

    async def _lock(self, request: web.Request) -> web.Response:
        order = await answers.order(request, _set)
        target = await self._target(order.kind, order.value.strip(), order.provider)
        uid = request[answers.UID]
        lock = await self._locks.lock(
            LockOrder(
                kind=order.kind,
                value=target.value,
                effect=order.effect,
                cause=order.reason,
                by=_operator(uid),
                lasts=order.lasts,
                provider=target.provider,
                shown=target.shown,
                exact=target.exact,
                uid=uid,
            )
        )
        return await self._done({"lock": _shown(lock), "known": target.known})

    async def _unlock(self, request: web.Request) -> web.Response:
        return await self._each(request, self._locks.lift)

    async def _review(self, request: web.Request) -> web.Response:
        return await self._each(request, self._locks.review)

    async def _each(self, request: web.Request, act: _Act) -> web.Response:
        order = await answers.order(request, _lift)
        uid = request[answers.UID]
        done = [await act(lock.id, _operator(uid), order.reason, uid=uid) for lock in await self._chosen(order)]
        return await self._done({"locks": [_shown(lock) for lock in done]})

    async def _done(self, body: dict[str, object]) -> web.Response:
        return answers.json({**body, **msgspec.structs.asdict(await settled(self._overview))})

    async def _chosen(self, order: Lift) -> list[Lock]:
        """Raises ClientError: 400 for an order that makes no sense, 404 if nothing is locked by it."""
        value = order.value.strip()
        if bool(order.id) == (order.kind is not None and bool(value)):
            raise ClientError(Reason.MALFORMED, "say either the id of a lock, or the kind and value of its target")
        current = self._locks.current()
        if order.id:
            found = [lock for lock in current if lock.id == order.id]
        else:
            found = [
                lock
                for lock in current
                if lock.kind is order.kind
                and _is_called(lock, value)
                and (not order.provider or lock.provider in ("", order.provider))
            ]
            providers = tuple(sorted({lock.provider for lock in found if lock.provider}))
            if len(providers) > 1:
                raise Ambiguous(order.value, providers)
        if not found:
            raise ClientError(Reason.MALFORMED, f"no lock in force on {order.id or order.value}", status=404)
        return found

    # ---- whom or what

    async def _target(self, kind: LockKind, value: str, provider: str) -> _Target:
        """Raises ClientError: 404 for what does not exist, 409 for several people of one name."""
        settings = self._settings()
        if kind is LockKind.USER:
            if provider and provider not in {each.name for each in settings.providers}:
                raise _unknown("provider", provider)
            return await self._user(value, provider)
        if kind is LockKind.SESSION:
            session = await self._overview.directory.one(value)
            if session is None:
                raise ClientError(Reason.SESSION_UNKNOWN, f"no session has the id {value}", status=404)
            return _Target(value, shown=session.email or session.subject)
        if kind is LockKind.ROUTE and value not in {name for app in settings.apps.values() for name in app.route_names}:
            raise _unknown("route", value)
        if kind is LockKind.INTEGRATION and value not in settings.integrations:
            raise _unknown("integration", value)
        return _Target(value)

    async def _user(self, value: str, provider: str) -> _Target:
        people = {
            (each.provider, each.subject): each.email or ""
            for each in await self._overview.directory.of_user(value)
            if not provider or each.provider == provider
        }
        if not people:
            people = await self._enrolled(value, provider)
        if len(people) > 1:
            raise Ambiguous(value, tuple(sorted({name for name, _ in people})))
        for (name, subject), email in people.items():
            return _Target(subject, name, email, exact=True)
        return _Target(value, provider, known=False)

    async def _enrolled(self, value: str, provider: str) -> dict[tuple[str, str], str]:
        """People without a session, who have factors of ours."""
        found = await self._factors.named(value)
        return {
            (one.name, each.subject): each.email or ""
            for each in found
            for one in self._settings().providers
            if one.issuer == each.issuer and (not provider or one.name == provider)
        }


def _is_called(lock: Lock, name: str) -> bool:
    if lock.kind is not LockKind.USER:
        return lock.value == name
    if name == lock.value or (lock.shown and name.casefold() == lock.shown.casefold()):
        return True
    return not lock.exact and name.casefold() == lock.value.casefold()


def _unknown(kind: str, value: str) -> ClientError:
    return ClientError(Reason.MALFORMED, f"there is no {kind} {value} in the configuration in force", status=404)


def _operator(uid: int) -> str:
    return answers.name_of(uid) or f"uid {uid}"


def _shown(lock: Lock) -> LockShown:
    return LockShown(**msgspec.structs.asdict(lock))


def _over(past: Past) -> LockShown:
    fields = msgspec.structs.asdict(past.lock)
    return LockShown(**fields, ended=past.ended, ended_by=past.by, ended_reason=past.reason)
