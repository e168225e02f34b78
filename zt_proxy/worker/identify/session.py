"""Session cookie → session, from this worker's cache or from control. The cache holds only what control said.

A worker never ends a session by its own clock alone: when one looks idle here it asks control, which has heard of
activity from every worker. A cookie that this proxy did not make is refused by its MAC and never costs a look-up.
"""

import hashlib

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.keys import CookieMac
from zt_proxy.core.session import Session
from zt_proxy.link.messages import ControlLink

CAPACITY = 50_000
UNKNOWN_FOR = 2.0
"""Seconds for which a dead cookie is not asked about again."""
ATTEMPTS = 8
"""How often control is asked again when some session ended, perhaps this one, while it answered: an answer from before
that end would open a stream that nobody closes any more."""
REPORT_EVERY = 1.0
"""Seconds between two reports of activity in one session."""


class CachedSession:
    """A session as this worker knows it, with what the worker itself has seen of it."""

    __slots__ = ("key", "last_activity", "reported", "session")

    def __init__(self, key: bytes, session: Session) -> None:
        self.key = key
        self.session = session
        self.last_activity = session.last_activity
        self.reported = 0.0


class SessionCache:
    """Sessions by raw cookie value. Bounded; the oldest entry goes first."""

    def __init__(self, mac: CookieMac, link: ControlLink, clock: Clock, *, capacity: int = CAPACITY) -> None:
        self._mac = mac
        self._link = link
        self._clock = clock
        self._capacity = capacity
        self._entries: dict[bytes, CachedSession] = {}
        self._by_sid: dict[str, set[bytes]] = {}
        self._unknown: dict[bytes, float] = {}
        self._gone: dict[bytes, Reason] = {}
        """Cookies of sessions that are over for a reason worth telling, as far as this worker had them."""
        self._epoch = 0
        self.idle_at: dict[tuple[str, str], float] = {}
        """(session id, route) → when the route found the session idle by its own, tighter time-out. It outlives what is
        cached of the session: only a new proof undoes it."""

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, cookie: bytes, host: str, now: float) -> CachedSession | Reason | None:
        """The session, a reason why there is none, or None: ask control with `fetch`."""
        entry = self._entries.get(cookie)
        if entry is not None:
            session = entry.session
            if session.host != host:
                return Reason.SESSION_UNKNOWN
            if now >= session.absolute_deadline:
                return Reason.SESSION_EXPIRED
            if now - entry.last_activity >= session.idle_timeout:
                return None
            return entry
        gone = self._gone.get(cookie)
        if gone is not None:
            return gone
        ignored_until = self._unknown.get(cookie)
        if ignored_until is not None and now < ignored_until:
            return Reason.SESSION_UNKNOWN
        try:
            self._mac.handle_hash(cookie.decode("ascii"))
        except ValueError:
            return Reason.COOKIE_INVALID
        return None

    async def fetch(self, cookie: bytes, host: str) -> CachedSession | Reason:
        """Ask control. Raises UnavailableError when nobody can say, ValueError for a cookie not made here."""
        handle_hash = self._mac.handle_hash(cookie.decode("ascii"))
        before = self._entries.get(cookie)
        for _ in range(ATTEMPTS):
            epoch = self._epoch
            session = await self._link.session(handle_hash, host)
            if epoch == self._epoch or session is None:
                break
        else:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "sessions ended faster than they could be asked about")
        known = self._entries.get(cookie)
        if session is None:
            if known is not None:
                self._drop(known)
            self._remember_unknown(cookie)
            # control ends an idle session when asked, and the cache has heard of that end by now
            idle = before is not None and self._clock.now() - before.last_activity >= before.session.idle_timeout
            return Reason.SESSION_IDLE if idle else Reason.SESSION_UNKNOWN
        if known is not None and known.session.sid == session.sid:
            known.session = session
            known.last_activity = max(known.last_activity, session.last_activity)
            return known
        entry = CachedSession(cookie, session)
        self._keep(entry)  # nothing was invalidated while control answered
        return entry

    def active(self, entry: CachedSession, now: float) -> None:
        """A person did something: control hears of it, at most once a second."""
        entry.last_activity = now
        if now - entry.reported >= REPORT_EVERY:
            entry.reported = now
            self._link.activity(entry.session.sid, now)

    def found_idle(self, sid: str, route: str, now: float) -> None:
        """A route found this session idle: so it is on every worker."""
        self.note_idle(sid, route, now)
        self._link.idle_note(sid, route, now)

    def note_idle(self, sid: str, route: str, at: float) -> None:
        """What this worker, or another, found. The latest counts; bounded, the oldest note goes first."""
        known = self.idle_at.get((sid, route))
        if known is None:
            if len(self.idle_at) >= self._capacity:
                del self.idle_at[next(iter(self.idle_at))]
        elif known >= at:
            return
        self.idle_at[sid, route] = at

    def forget(self, sid: str, why: Reason | None = None) -> None:
        """Drop what is cached of a session; an empty sid drops everything. `why`: it is over, and who comes is told."""
        self._epoch += 1
        if not sid:
            self._entries.clear()
            self._by_sid.clear()
            self._unknown.clear()
            return
        for key in self._by_sid.pop(sid, ()):
            self._entries.pop(key, None)
            if why is not None:
                if len(self._gone) >= self._capacity:
                    self._gone.clear()
                self._gone[key] = why

    def is_current(self, entry: CachedSession) -> bool:
        """The cache still holds this very entry."""
        return self._entries.get(entry.key) is entry

    def _keep(self, entry: CachedSession) -> None:
        if len(self._entries) >= self._capacity:
            self._drop(next(iter(self._entries.values())))
        self._entries[entry.key] = entry
        self._by_sid.setdefault(entry.session.sid, set()).add(entry.key)
        self._unknown.pop(entry.key, None)

    def _drop(self, entry: CachedSession) -> None:
        self._entries.pop(entry.key, None)
        keys = self._by_sid.get(entry.session.sid)
        if keys is not None:
            keys.discard(entry.key)
            if not keys:
                del self._by_sid[entry.session.sid]

    def _remember_unknown(self, cookie: bytes) -> None:
        if len(self._unknown) >= self._capacity:
            self._unknown.clear()
        self._unknown[cookie] = self._clock.now() + UNKNOWN_FOR


def binder_of(login_cookie: bytes) -> bytes:
    """What a hand-off carries of the browser's login cookie: its SHA-256."""
    return hashlib.sha256(login_cookie).digest()
