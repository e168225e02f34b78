"""Sessions: who is signed in, at which hosts, until when. The one authority; workers only cache what it says.

    create ──► record ──issue_handle(host)──► cookie   (the store knows its hash only)
                  │
                  ├─ idle deadline      last activity + idle_timeout; moved by `activity`, forward only
                  └─ absolute deadline  fixed at `create`; nothing moves it (FIELD 15, ZT-SESS-08)

Every change that a worker may not miss is committed with a rising number and then announced as an Invalidation. If the
store cannot commit the end of a session, the session is dead all the same in this process, and `sweep` tries again.

It is one file, past the usual length: all of it reads and changes the same memory of live sessions under one lock. What
has memory of its own is beside it: `cap`, `ending`, `floor`, `forms`, `grants`, `logins`, `provider_side`.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog
from cachetools import LRUCache

from zt_proxy.control.identity.logout import KEPT
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.cap import Cap, Note, unrecorded
from zt_proxy.control.session.directory import Listed, SessionDirectory
from zt_proxy.control.session.ending import Changes, Endings
from zt_proxy.control.session.floor import Floor
from zt_proxy.control.session.forms import KeptForms
from zt_proxy.control.session.grants import Grants
from zt_proxy.control.session.live import Live
from zt_proxy.control.session.logins import PendingLogins
from zt_proxy.control.session.provider_side import ProviderSide
from zt_proxy.control.session.record import (
    NOWHERE,
    Arrival,
    SessionRecord,
    names_of,
    open_record,
    seal_record,
    sealed_now,
    subject_hash,
)
from zt_proxy.control.session.sqlite import SqliteStore
from zt_proxy.control.session.store import HandleRow, RenewalRow, SessionRow, SessionStore
from zt_proxy.control.settings import ControlSettings, SessionSettings
from zt_proxy.core.clock import SKEW, Clock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.keys import CookieMac, KeyRing, new_id
from zt_proxy.core.private import private_directory
from zt_proxy.core.session import Proof, Risk, Session, unlock_key
from zt_proxy.link.messages import RENEWED, Invalidation
from zt_proxy.link.proofs import KeptForm

CACHED = 100_000
"""Sessions and handles kept in memory in front of the store."""
FLUSH_EVERY = 5.0
SWEEP_EVERY = 60.0

log = structlog.get_logger(__name__)


async def open_sessions(settings: ControlSettings, worker_ring: KeyRing, clock: Clock) -> "SessionManager":
    """The manager over `sessions.db` and `store.keys` of the state directory, made where missing (mode 0700, 0600).

    Raises ConfigurationError if either cannot be used: there is no start without the store (FIELD 16).
    """
    private_directory(settings.state_dir)
    store_ring = KeyRing.load_or_create(settings.state_dir / "store.keys")
    store = await SqliteStore.open(settings.state_dir / "sessions.db")
    manager = await SessionManager.open(store, settings.session, worker_ring, store_ring, clock)
    await manager.directory().name_old()
    return manager


class SessionManager:
    """Use `await SessionManager.open(...)`; run `run()` as a task beside it, and `close()` at the end."""

    def __init__(
        self,
        *,
        store: SessionStore,
        settings: SessionSettings,
        worker_ring: KeyRing,
        store_ring: KeyRing,
        clock: Clock,
        sequence: int = 0,
    ) -> None:
        self._store = store
        self._settings = settings
        self._mac = CookieMac(worker_ring)
        self._ring = store_ring
        self._clock = clock
        self._changes = Changes(sequence)
        self._ended = Endings(store, self._changes, clock)
        self._live: LRUCache[str, Live] = LRUCache(CACHED)
        self._handles: LRUCache[bytes, tuple[str, str]] = LRUCache(CACHED)
        self._moved: dict[str, float] = {}
        self._old_seal: set[str] = set()
        self.forms = KeptForms(store, store_ring, clock)
        self.at_provider = ProviderSide(self, store, self._live, self._changes, store_ring, clock)
        """What providers say of sessions after the sign-in."""
        self.grants = Grants(self, store, self._live, self._changes, store_ring)
        """What people say, and agree to, that opens a rule."""
        self.cap = Cap(self)
        self._floor = Floor()
        self.note: Note = unrecorded
        """Where events go that are worth a line in the audit log (`AuditWriter.write`)."""

    @classmethod
    async def open(
        cls, store: SessionStore, settings: SessionSettings, worker_ring: KeyRing, store_ring: KeyRing, clock: Clock
    ) -> "SessionManager":
        """A manager that goes on counting where the store stopped. Raises UnavailableError."""
        return cls(
            store=store,
            settings=settings,
            worker_ring=worker_ring,
            store_ring=store_ring,
            clock=clock,
            sequence=await store.sequence(),
        )

    def logins(self, settings: ControlSettings) -> PendingLogins:
        """The logins under way, in the same store."""
        self.at_provider.logouts.kept = max(KEPT, 2 * settings.login_lifetime)
        return PendingLogins(self._store, self._ring, settings, self._clock)

    def configure(self, settings: SessionSettings) -> None:
        """Time-outs of sessions made from now on; those that live keep the deadlines they were made with."""
        self._settings = settings

    async def tighten(self, before: ControlSettings | None, settings: ControlSettings) -> None:
        """What sessions have to have proved from now on; workers ask anew about each when that changes. `before` None:
        the program starts, and workers know none."""
        floor = self._floor.after(before, settings, self._clock.now())
        changed, self._floor = floor != self._floor and before is not None, floor
        if changed:
            async with self._changes.lock:
                self._changes.tell("", RENEWED)

    def directory(self) -> SessionDirectory:
        """The sessions as an operator looks for them."""
        return SessionDirectory(self, self._store, self._ring, self._clock)

    def on_change(self, announce: Callable[[Invalidation], None]) -> None:
        """Where invalidations go (`MemoryLink.invalidate`): after the commit, before the change counts as done."""
        self._changes.announce = announce

    # a sign-in begins

    async def create(
        self, login: VerifiedLogin, arrival: Arrival = NOWHERE, *, replaces: str = "", risk: Risk | None = None
    ) -> SessionRecord:
        """A new session with a new id for a verified login (ZT-OIDC-01). `replaces`: the caller ends that one next.

        Raises UnavailableError, ClientError: SESSION_LIMIT, LOGIN_ENDED if its provider announced its end meanwhile.
        """
        async with self.cap.room(self._settings, login.principal, replaces):
            return await self._create(login, arrival, risk)

    async def _create(self, login: VerifiedLogin, arrival: Arrival, risk: Risk | None) -> SessionRecord:
        self.at_provider.refuse(login)
        now = self._clock.now()
        record = SessionRecord(
            sid=new_id(16),
            principal=login.principal,
            acr=login.acr,
            amr=login.amr,
            mfa=login.mfa,
            auth_time=login.auth_time,
            created=now,
            idle_timeout=self._settings.idle,
            absolute_deadline=now + self._settings.absolute,
            level=login.level,
            provider=login.provider,
            provider_sid=login.provider_sid,
            id_token=login.id_token,
            issued=login.issued,
            refresh_token=login.refresh_token,
            arrival=arrival,
            risk=risk,
        )
        renewal = None
        if login.refresh_token is not None:
            renewal = RenewalRow(record.sid, login.provider, now + login.renew_in)
        await self._store.insert_session(
            SessionRow(
                sid=record.sid,
                subject=subject_hash(self._ring, login.principal.issuer, login.principal.subject),
                last_activity=now,
                idle_timeout=record.idle_timeout,
                absolute_deadline=record.absolute_deadline,
                blob=seal_record(self._ring, record),
            ),
            names_of(self._ring, login.principal, login.provider_sid),
            renewal,
        )
        self._live[record.sid] = Live(record, now)
        return record

    async def issue_handle(self, sid: str, host: str) -> str:
        """A new cookie value for a session at a host; the one it had there before is dead when this returns.

        Raises ClientError(SESSION_UNKNOWN) if the session is over, UnavailableError.
        """
        if await self.record(sid) is None:
            raise ClientError(Reason.SESSION_UNKNOWN, "the session is over", status=401)
        cookie = self._mac.issue()
        handle = self._mac.handle_hash(cookie)
        async with self._changes.lock:
            old = await self._store.replace_handle(HandleRow(handle, sid, host), self._changes.sequence + 1)
            if old:
                for hash_ in old:
                    self._handles.pop(hash_, None)
                self._changes.tell(sid, "handle-replaced")
        if old is None or sid in self._ended:
            raise ClientError(Reason.SESSION_UNKNOWN, "the session is over", status=401)
        self._handles[handle] = (sid, host)
        return cookie

    # a request asks

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        """The live session of a handle at the one host it was issued for; None if unknown, ended, idle or expired.

        Asking is not activity. Raises UnavailableError(STORE_UNAVAILABLE).
        """
        known = self._handles.get(handle_hash)
        if known is None or known[0] not in self._live:
            found = await self._store.session_of_handle(handle_hash)
            if found is None:
                return None
            handle, row = found
            known = (handle.sid, handle.host)
            if self._remember(row) is None:
                return None
            self._handles[handle_hash] = known
        sid, own_host = known
        live = await self._alive(sid)
        if live is None or own_host != host:
            return None
        return live.session(host)

    def why(self, handle_hash: bytes, host: str) -> Reason | None:
        """Why the session of a dead handle ended, where a person should be told and it is still known."""
        known = self._handles.get(handle_hash)
        if known is None or known[1] != host or not self.cap.displaced(known[0]):
            return None
        return Reason.SESSION_DISPLACED

    async def record(self, sid: str) -> SessionRecord | None:
        """What is known of a live session beyond what workers may see; None if it is over. Raises UnavailableError."""
        live = await self._alive(sid)
        return live.record if live is not None else None

    def activity(self, sid: str, at: float) -> None:
        """A person did something at `at`: moves the idle deadline, forward only, never beyond either deadline.

        What a worker reports late still counts for its time; it cannot bring a session back that was idle by then.
        """
        now = self._clock.now()
        if at > now + SKEW or sid in self._ended:
            return
        at = min(at, now)
        live = self._live.get(sid)
        if live is not None:
            if at <= live.last_activity or live.dead(at) is not None:
                return
            live.last_activity = at
        if at > self._moved.get(sid, 0.0):
            self._moved[sid] = at

    # a session changes

    async def unlock(self, sid: str, route: str, rule: str, proof: Proof, request: str = "") -> None:
        """A step-up opens one rule of one route in this session (ZT-SESS-18), with `request` for that request once.

        The session's own `auth_time` stays. Raises ClientError(SESSION_UNKNOWN), UnavailableError.
        """
        if await self._alive(sid) is None:
            raise ClientError(Reason.SESSION_UNKNOWN, "the session is over", status=401)
        async with self._changes.lock:
            live = self._live.get(sid)
            saved = False
            if live is not None:
                record = live.record.unlocked(unlock_key(route, rule, request), proof)
                saved = await self._store.save_blob(sid, seal_record(self._ring, record), self._changes.sequence + 1)
                live.record = record
                self._changes.tell(sid, "unlocked")
        if not saved or sid in self._ended:
            raise ClientError(Reason.SESSION_UNKNOWN, "the session is over", status=401)

    async def spend(self, sid: str, key: str) -> bool:
        """Take a proof that is good once out of the session: of any number of callers exactly one gets True, once it
        is durable that nobody gets it again. Raises UnavailableError."""
        if await self._alive(sid) is None:
            return False
        async with self._changes.lock:
            live = self._live.get(sid)
            if live is None or key not in live.record.proofs or sid in self._ended:
                return False
            record = live.record.spent(key)
            saved = await self._store.save_blob(sid, seal_record(self._ring, record), self._changes.sequence + 1)
            live.record = record
            self._changes.tell(sid, "proof-spent")
        return saved and sid not in self._ended

    async def judged(self, sid: str, risk: Risk) -> bool:
        """A session looks another way by now; workers decide anew. False if it is over, or if that is known already.

        Raises UnavailableError; it counts in this process all the same.
        """
        if await self._alive(sid) is None:
            return False
        async with self._changes.lock:
            live = self._live.get(sid)
            if live is None or live.record.risk == risk:
                return False
            live.record = record = msgspec.structs.replace(live.record, risk=risk)
            try:
                return await self._store.save_blob(sid, seal_record(self._ring, record), self._changes.sequence + 1)
            finally:
                self._changes.tell(sid, RENEWED)

    async def kept(self, sid: str, token: str, host: str, target: str) -> KeptForm | None:
        """See `Proofs.kept`: a form of a session that still lives."""
        return await self.forms.take(sid, token, host, target) if await self._alive(sid) is not None else None

    async def end(self, sid: str, reason: str) -> None:
        """End a session everywhere: its cookies and codes are dead when this returns, even if it raises.

        Raises UnavailableError if the end could not be made durable; it is dead in this process and tried again.
        """
        await self.end_many((sid,), reason)

    async def end_many(self, sids: Sequence[str], reason: str) -> None:
        """End several sessions, as `end`."""
        for sid in sids:
            self._live.pop(sid, None)
            self._moved.pop(sid, None)
        await self._ended.end(sids, reason)

    async def end_all(self, reason: str) -> int:
        """End every session there is; gives how many. As `end`."""
        sids = await self._store.sids()
        self._forget_all()
        await self._ended.end_all(sids, reason, self._forget_all)
        return len(sids)

    async def end_subject(self, issuer: str, subject: str, reason: str) -> int:
        """End every session of a person; gives how many. Raises UnavailableError."""
        sids = await self._store.sessions_of(subject_hash(self._ring, issuer, subject))
        await self.end_many(sids, reason)
        return len(sids)

    def _forget_all(self) -> None:
        self._live.clear()
        self._handles.clear()

    # an operator looks, and a person

    async def of_person(self, issuer: str, subject: str) -> tuple[Listed, ...]:
        """Every live session of a person. Raises UnavailableError."""
        sids = await self._store.sessions_of(subject_hash(self._ring, issuer, subject))
        return await self.directory().of_sids(sids)

    @property
    def sequence(self) -> int:
        """Number of the last change."""
        return self._changes.sequence

    def last_activity(self, sid: str, stored: float) -> float:
        """When a person was last active, as far as anybody knows by now; `stored` is what the store says."""
        live = self._live.get(sid)
        return max(stored, live.last_activity if live is not None else 0.0, self._moved.get(sid, 0.0))

    def ended(self, sid: str) -> bool:
        """The session is over, also when the store does not know it yet."""
        return sid in self._ended

    # upkeep

    async def flush(self) -> None:
        """Write gathered activity. What cannot be written is kept for the next time. Raises UnavailableError."""
        moved, self._moved = self._moved, {}
        if not moved:
            return
        # Two moments in one batch may be longer apart from what is written than the time-out: the first kept it awake.
        alive = {sid for sid, at in moved.items() if (live := self._live.get(sid)) and live.last_activity == at}
        try:
            await self._store.touch(moved, alive)
        except BaseException:
            self._moved = {**moved, **self._moved}
            raise

    async def sweep(self) -> None:
        """End what is idle or past its time, drop stale logins, finish ends that could not be written."""
        now = self._clock.now()
        await self._ended.finish()
        await self.flush()
        overdue = [sid for sid in await self._store.overdue(now) if self._over(sid, now)]
        if overdue:
            await self.end_many(overdue, Reason.SESSION_EXPIRED.value)
        await self._store.sweep(now)
        await self._reseal()
        self._ended.prune(now - SWEEP_EVERY)

    def _over(self, sid: str, now: float) -> bool:
        """Whether a session that the store calls overdue really is: someone may have been active since it was asked."""
        live = self._live.get(sid)
        if sid in self._ended or sid in self._moved:
            return False
        return live is None or live.dead(now) is not None

    async def _reseal(self) -> None:
        """After a rotation of the key ring, records that were read are written back under the new key."""
        async with self._changes.lock:
            for sid in tuple(self._old_seal):
                live = self._live.get(sid)
                if live is not None:
                    await self._store.save_blob(sid, seal_record(self._ring, live.record), self._changes.sequence)
                self._old_seal.discard(sid)

    async def run(self, pause: Callable[[float], Awaitable[None]]) -> None:
        """Flush and sweep until cancelled; `pause(seconds)` is asyncio.sleep. A store that fails is tried again."""
        next_sweep = self._clock.monotonic()
        while True:
            await pause(FLUSH_EVERY)
            try:
                if self._clock.monotonic() >= next_sweep:
                    next_sweep = self._clock.monotonic() + SWEEP_EVERY
                    await self.sweep()
                else:
                    await self.flush()
            except UnavailableError as error:
                log.error("session store unavailable", detail=error.detail)

    async def close(self) -> None:
        """Write what is left and close the store; the store is closed even if writing fails."""
        try:
            await self.flush()
        finally:
            await self._store.close()

    async def _alive(self, sid: str) -> Live | None:
        """The session if both deadlines allow it; a dead one is ended here and now."""
        if sid in self._ended:
            return None
        live = self._live.get(sid)
        if live is None:
            row = await self._store.session(sid)
            live = self._remember(row) if row is not None else None
        if live is None:
            return None
        reason = live.dead(self._clock.now())
        if reason is not None:
            await self.end(sid, reason.value)
            return None
        if self._floor.above(live.record):
            await self.end(sid, Reason.MFA_REQUIRED.value)
            return None
        return live

    def _remember(self, row: SessionRow) -> Live | None:
        """Put a row into the cache, unless its session ended while it was read or its blob does not open."""
        if row.sid in self._ended:
            return None
        known = self._live.get(row.sid)
        if known is not None:
            return known
        try:
            record = open_record(self._ring, row.sid, row.blob)
        except ValueError as error:
            log.error("session record does not open", sid=row.sid, detail=str(error))
            return None
        if not sealed_now(self._ring, row.blob):
            self._old_seal.add(row.sid)
        live = Live(record, row.last_activity)
        moved = self._moved.get(row.sid)
        if moved is not None and moved > live.last_activity and live.dead(moved) is None:
            live.last_activity = moved
        self._live[row.sid] = live
        return live
