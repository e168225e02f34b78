"""What locks leave of a decision. A lock never allows anything: it turns an allow, or a way to one, into less.

    block       nothing goes through
    step-up     only who has proved anew, since the lock was made, who they are; an integration cannot, nothing does
    read-only   looking. With a profile: what it calls `view`, and `use` by a safe method; without one: safe methods.
                No WebSocket that the profile does not call `view`: whatever is sent over it may change something
    no-export   all but exports. What nobody can tell from an export is one: without a profile nothing goes through

Rules in report mode, routes in report mode and break-glass change nothing about a lock. The proxy's own places are no
route: who is locked can still sign out, and prove who they are.
"""

from collections.abc import Mapping

from zt_proxy.core.clock import SKEW
from zt_proxy.core.errors import Reason
from zt_proxy.core.http import SAFE_METHODS
from zt_proxy.core.session import Level, Session
from zt_proxy.core.types import Act, Action, ChallengeKind, Decision, Effect
from zt_proxy.link.locks import Lock, LockEffect
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.protect.locks import Locks

_BEST = Level.PHISHING_RESISTANT
_ALLOW = Decision(Effect.ALLOW, Reason.INTERNAL)


def judge(
    lock: Lock,
    act: Act,
    method: bytes,
    session: Session | None,
    decision: Decision,
    now: float,
    *,
    websocket: bool = False,
    machine: bool = False,
    strongest: Level = _BEST,
) -> Decision | None:
    """What takes the place of `decision` under this lock; None: the lock does not mind it.

    `session` None: nobody is signed in, or an integration asks (`machine`). `strongest`: the highest level that
    this person can prove here.
    """
    if decision.effect is Effect.DENY or decision.challenge in (ChallengeKind.LOGIN, ChallengeKind.MFA):
        return None  # no way in as it is; a stranger does not learn of locks
    match lock.effect:
        case LockEffect.BLOCK:
            return _no(lock, Reason.LOCKED, decision)
        case LockEffect.STEP_UP:
            return _step_up(lock, session, decision, now, machine, strongest)
        case LockEffect.READ_ONLY:
            return None if _looks(act, method, websocket) else _no(lock, Reason.LOCKED_READ_ONLY, decision)
        case LockEffect.NO_EXPORT:
            exports = act.action is None or act.action is Action.EXPORT
            return _no(lock, Reason.LOCKED_NO_EXPORT, decision) if exports else None


def _looks(act: Act, method: bytes, websocket: bool) -> bool:
    if act.action is Action.VIEW:
        return True
    return act.action in (None, Action.USE) and method in SAFE_METHODS and not websocket


def _step_up(
    lock: Lock, session: Session | None, decision: Decision, now: float, machine: bool, strongest: Level
) -> Decision | None:
    if machine:
        return _no(lock, Reason.LOCKED, decision)
    if session is None:
        return Decision(
            Effect.CHALLENGE,
            Reason.LOGIN_REQUIRED,
            challenge=ChallengeKind.LOGIN,
            reported=decision.reported,
            lock=lock.id,
        )
    if proved_since(session, lock.at, now, strongest):
        return None
    return Decision(
        Effect.CHALLENGE,
        Reason.LOCKED_STEP_UP,
        challenge=ChallengeKind.REAUTH,
        reported=decision.reported,
        level=strongest,
        lock=lock.id,
    )


def proved_since(session: Session, at: float, now: float, level: Level) -> bool:
    """The person has proved who they are after `at`, this strongly: in a step-up, or by signing in anew."""
    if session.level >= level and at < min(session.auth_time, session.created) <= now + SKEW:
        return True
    return any(proof.level >= level and at < proof.at <= now + SKEW for proof in session.proofs.values())


def _no(lock: Lock, reason: Reason, decision: Decision) -> Decision:
    return Decision(Effect.DENY, reason, reported=decision.reported, lock=lock.id)


def applied(
    locks: Locks,
    x: Exchange,
    route: str,
    decision: Decision,
    strongest: Mapping[str, Level],
    *,
    now: float = 0.0,
    method: bytes = b"",
    act: Act | None = None,
) -> Decision:
    """The decision on this exchange, under all locks on it. `now`: if not 0, another time than that of its arrival.
    `method`, `act`: of the request that it is about, if that is not the exchange's own."""
    now = now or x.at
    level = _BEST
    session = x.session.session if x.session is not None else None
    if session is not None:
        level = strongest.get(session.principal.provider, _BEST)
    machine = x.machine.machine if x.machine is not None else None
    for lock in locks.on(session, machine, route, now):
        other = judge(
            lock,
            x.act if act is None else act,
            method or x.head.method,
            session,
            decision,
            now,
            websocket=x.head.websocket and not method,
            machine=machine is not None,
            strongest=level,
        )
        if other is not None:
            return other
    return decision


def turned(locks: Locks, x: Exchange, strongest: Mapping[str, Level], now: float) -> Reason | None:
    """Why what is open may not go on under the locks there are now; None: they do not mind."""
    opened = x.decision
    if x.route is None or x.relay is None or opened is None or opened.effect is not Effect.ALLOW:
        return None  # the portal's, or not decided yet, or a form on its way to be kept
    decision = applied(locks, x, x.route.name, _ALLOW, strongest, now=now)
    return None if decision.effect is Effect.ALLOW else decision.reason
