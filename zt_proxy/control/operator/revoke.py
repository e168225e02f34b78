"""Ending sessions by order of an operator: on record first, then done, then confirmed by every worker."""

from typing import Literal

import msgspec

from zt_proxy.control.operator.overview import Overview, lease_left
from zt_proxy.control.session.directory import Listed
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.link.messages import LEASE

CONFIRM = 2.0
"""Seconds to wait for every worker to say that it has the end of the sessions in force."""
NAMED = 100
"""Sessions that the record names one by one."""
REASON = 200
"""Longest reason."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to end: exactly one of `sid`, `user` and `everything`."""

    sid: str = ""
    user: str = ""
    """Subject or e-mail address."""
    provider: str = ""
    """With `user`: only sessions that this provider vouched for."""
    everything: bool = False
    reason: str = ""
    """For the record."""


class Waiting(msgspec.Struct, frozen=True):
    """A worker that has not confirmed."""

    worker: int
    connected: bool
    lease_ends_in: float
    """Seconds after which it can let nothing through any more, whatever it has heard."""


class Revoked(msgspec.Struct, frozen=True):
    revoked: int
    sessions: tuple[Listed, ...]
    """Which; empty when it was everything."""
    in_force: bool
    """Every worker refuses these sessions and has cut what they had open."""
    waiting: tuple[Waiting, ...]
    certain_in: float
    """Seconds after which it is in force in any case; 0 when it is."""


class Ambiguous(ClientError):
    """Several providers know somebody by this name."""

    def __init__(self, user: str, providers: tuple[str, ...]) -> None:
        super().__init__(Reason.MALFORMED, f"several providers know {user}: {', '.join(providers)}; say which one")
        self.status = 409
        self.providers = providers


async def revoke(overview: Overview, order: Order, uid: int, who: str) -> Revoked:
    """Carry out an order of the person with this uid.

    Raises ClientError for an order that makes no sense (400, 404, 409) and UnavailableError: either nothing was done
    because it cannot be put on record, or the sessions are over, and their end will be in the store later.
    """
    kind = _kind(order)
    sessions = await _chosen(overview, order, kind)
    count = await overview.directory.count() if kind == "everything" else len(sessions)
    await overview.audit.write(
        "operator",
        action="revoke-sessions",
        uid=uid,
        who=who,
        by=kind,
        **({kind: order.user or order.sid} if kind != "everything" else {}),
        **({"provider": order.provider} if order.provider else {}),
        sessions=count,
        **({"sids": " ".join(each.sid for each in sessions[:NAMED])} if sessions else {}),
        reason=order.reason,
    )
    if kind == "everything":
        count = await overview.sessions.end_all("revoked")
    else:
        await overview.sessions.end_many([each.sid for each in sessions], "revoked")
    return await confirmed(overview, count, sessions)


def _kind(order: Order) -> Literal["sid", "user", "everything"]:
    if len(order.reason) > REASON:
        raise ClientError(Reason.MALFORMED, f"a reason has at most {REASON} characters")
    if order.provider and not order.user:
        raise ClientError(Reason.MALFORMED, "`provider` goes with `user`")
    match bool(order.sid), bool(order.user), order.everything:
        case True, False, False:
            return "sid"
        case False, True, False:
            return "user"
        case False, False, True:
            return "everything"
    raise ClientError(Reason.MALFORMED, "say exactly one of `sid`, `user` and `everything`")


async def _chosen(overview: Overview, order: Order, kind: str) -> tuple[Listed, ...]:
    if kind == "sid":
        one = await overview.directory.one(order.sid)
        if one is None:
            raise ClientError(Reason.SESSION_UNKNOWN, f"no session has the id {order.sid}", status=404)
        return (one,)
    if kind == "user":
        found = await overview.directory.of_user(order.user)
        if order.provider:
            found = tuple(each for each in found if each.provider == order.provider)
        providers = tuple(sorted({each.provider for each in found}))
        if len(providers) > 1:
            raise Ambiguous(order.user, providers)
        if not found:
            at = f" from {order.provider}" if order.provider else ""
            raise ClientError(Reason.SESSION_UNKNOWN, f"{order.user}{at} has no session", status=404)
        return found
    return ()


class Settled(msgspec.Struct, frozen=True):
    """Whether every worker has the last change in force."""

    in_force: bool
    waiting: tuple[Waiting, ...]
    certain_in: float
    """Seconds after which it is in force in any case; 0 when it is."""


async def confirmed(overview: Overview, count: int, sessions: tuple[Listed, ...]) -> Revoked:
    """What there is to say once these sessions are over here: whether every worker knows it."""
    found = await settled(overview)
    return Revoked(count, sessions, found.in_force, found.waiting, found.certain_in)


async def settled(overview: Overview) -> Settled:
    """Wait for every worker to have the last change in force, at most `CONFIRM` seconds."""
    sequence = overview.link.sequence
    if await overview.link.settled(sequence, CONFIRM):
        return Settled(True, (), 0.0)
    waiting = tuple(
        Waiting(state.worker, state.connected, lease_left(state))
        for state in overview.link.workers()
        if state.applied < sequence
    )
    # Without a name to give, it is workers of a control that ran before this one and may live on its last word.
    return Settled(False, waiting, max((each.lease_ends_in for each in waiting), default=LEASE))
