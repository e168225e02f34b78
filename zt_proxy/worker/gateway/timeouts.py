"""A route's own idle and absolute time-outs, which only tighten the session's.

Once a route found a session idle, that stays true until the person proved themselves for this route: activity
elsewhere, or on the way to the portal, does not undo it.
"""

from collections.abc import Iterable

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level, Proof, unlock_key
from zt_proxy.core.types import ChallengeKind, Decision, Effect
from zt_proxy.worker.gateway.routes import Route
from zt_proxy.worker.identify.session import CachedSession, SessionCache

NEVER = Proof(0.0, Level.SINGLE)
_IDLE = Decision(Effect.CHALLENGE, Reason.SESSION_IDLE, challenge=ChallengeKind.REAUTH)
_EXPIRED = Decision(Effect.CHALLENGE, Reason.SESSION_EXPIRED, challenge=ChallengeKind.REAUTH)


def route_challenge(route: Route, entry: CachedSession, sessions: SessionCache, now: float) -> Decision | None:
    """The challenge that a route's tighter time-outs demand, or None."""
    session = entry.session
    proven = session.proofs.get(unlock_key(route.name, ""), NEVER).at
    if route.absolute_timeout is not None and now - max(session.created, proven) >= route.absolute_timeout:
        return _EXPIRED
    if route.idle_timeout is None:
        return None
    idle_since = sessions.idle_at.get((session.sid, route.name))
    if idle_since is None:
        if now - max(entry.last_activity, proven) < route.idle_timeout:
            return None
        sessions.found_idle(session.sid, route.name, now)
        return _IDLE
    if proven >= idle_since:
        del sessions.idle_at[session.sid, route.name]
        return None
    return _IDLE


def reported(routes: Iterable[Route], entry: CachedSession, sessions: SessionCache, now: float) -> None:
    """A page of this host says that a person is active: so they are, except for a route that was idle by then."""
    for route in routes:
        if route.limits_session:
            route_challenge(route, entry, sessions, now)
    sessions.active(entry, now)
