"""Alerts: one for each thing worth telling, on the audit record, in the program's log, and to webhooks.

    Finding ──► told a moment ago? counted on that alert ──► lock, if it may ──► webhooks, log, record, list

Nobody waits for an alert: findings wait in a bounded queue, and what finds no room there is counted.
"""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog

from zt_proxy.control.locks.types import LockKeeper, LockOrder
from zt_proxy.control.settings import Respond, WatchSettings
from zt_proxy.control.watch.findings import SHOWN, Finding, shown
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ZtError
from zt_proxy.link.locks import CAUSE, LockEffect, LockKind

WAITING = 1_000
"""Findings in the queue; the next one is dropped and counted. Those that may lock have a queue of their own, as long,
and go first: nobody may keep themselves unlocked by doing much else that is told."""
SHARE = WAITING // 4
"""Findings of one person in the queue: nobody may keep others from being told of."""
EACH = 50
"""Alerts of one person, of one kind and about one kind of change, that are told apart for a while; further findings
count on one that they share. A name that a client chooses, such as an object's, must not make alerts without end."""
OPEN = 10_000
"""Alerts that further findings may be counted on; beyond it the oldest is finished early."""
REQUESTS = 20
"""Request ids that an alert names."""
PARDON = 3_600.0
"""Seconds after an operator has lifted a lock in which the same finding does not lock again."""
PATIENCE = 5.0
"""Seconds for the lock or the record; the alert goes out without waiting longer, and says so."""

log = structlog.get_logger("zt_proxy.watch")


class Suggested(msgspec.Struct, frozen=True, omit_defaults=True):
    """A lock, in force or advised: `zt-proxy lock` takes the same words."""

    kind: str
    value: str
    effect: str
    lasts: float | None = None
    """Seconds; left out: until somebody has reviewed it."""
    provider: str = ""


class Alert(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="alert"):
    """What operators, the audit log and webhooks get. Fields are only ever added; empty ones are left out."""

    v: int
    id: str
    """Twelve hexadecimal digits. An alert that comes again with a higher `count` is the same one."""
    at: float
    """Epoch seconds of the first request."""
    kind: str
    severity: str
    summary: str
    route: str
    respond: str
    """`report`, or `enforce` where a lock was to follow."""
    count: int = 1
    """Findings alike."""
    last_at: float = 0.0
    """Of the last of them, where there are several."""
    user: str = ""
    """Subject."""
    email: str = ""
    provider: str = ""
    integration: str = ""
    sid: str = ""
    client: str = ""
    country: str = ""
    risk: str = ""
    host: str = ""
    action: str = ""
    object: str = ""
    """`KIND:NAME`"""
    changes: str = ""
    rule: str = ""
    path: str = ""
    seen: str = ""
    usual: str = ""
    justification: str = ""
    approved_by: str = ""
    requests: tuple[str, ...] = ()
    """Ids, the first of them."""
    suggested: Suggested | None = None
    lock: str = ""
    """Id of the lock that is in force because of this."""
    not_locked: str = ""
    """Why there is none, though the detector may lock."""


class Recording(Protocol):
    """The audit writer, as far as alerts need it."""

    async def write(self, kind: str, **fields: str | int | float | bool) -> None: ...


class Messenger(Protocol):
    """Takes an alert on its way, at once and without fail."""

    def put(self, alert: Alert) -> None: ...


class _Open:
    """An alert on which more findings are counted until `until` (monotonic seconds)."""

    __slots__ = ("alert", "told", "until")

    def __init__(self, alert: Alert, until: float) -> None:
        self.alert = alert
        self.told = alert.count
        self.until = until


class Alerts:
    """`put` findings; `run` is a task beside it."""

    def __init__(
        self,
        settings: WatchSettings,
        clock: Clock,
        audit: Recording,
        webhooks: Messenger,
        keep: Callable[[Alert], Awaitable[None]],
        locks: LockKeeper | None = None,
    ) -> None:
        self.locks = locks
        self.counts: Counter[tuple[str, str]] = Counter()
        """By kind and severity."""
        self.repeated = 0
        self.dropped = 0
        self.unrecorded = 0
        """Alerts that could not be put on the audit record."""
        self._settings = settings
        self._clock = clock
        self._audit = audit
        self._webhooks = webhooks
        self._keep = keep
        self._waiting: deque[Finding] = deque()
        self._urgent: deque[Finding] = deque()
        self._of: Counter[tuple[str, str]] = Counter()
        """Person → their findings in `_waiting`."""
        self._wake = asyncio.Event()
        self._one_by_one = asyncio.Lock()
        self._open: dict[tuple[str, ...], _Open] = {}
        self._apart: Counter[tuple[str, ...]] = Counter()
        """`_group` → alerts in `_open`."""
        self._locked: dict[tuple[str, ...], tuple[str, float]] = {}

    def configure(self, settings: WatchSettings) -> None:
        self._settings = settings

    def put(self, finding: Finding) -> None:
        """Never waits, never raises."""
        if _may_lock(finding):
            if len(self._urgent) >= WAITING:
                self.dropped += 1
                return
            self._urgent.append(finding)
        else:
            whose = (finding.facts.provider, finding.facts.sub)
            if len(self._waiting) >= WAITING or self._of[whose] >= SHARE:
                self.dropped += 1
                return
            self._of[whose] += 1
            self._waiting.append(finding)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.work_off()

    async def work_off(self) -> None:
        """Everything that waits."""
        async with self._one_by_one:
            while self._urgent or self._waiting:
                finding = self._next()
                try:
                    await self._take(finding)
                except Exception:  # one that cannot be told must not keep the next from being told
                    self.dropped += 1
                    log.exception("alert not told", kind=finding.kind)

    def _next(self) -> Finding:
        if self._urgent:
            return self._urgent.popleft()
        finding = self._waiting.popleft()
        whose = (finding.facts.provider, finding.facts.sub)
        self._of[whose] -= 1
        if not self._of[whose]:
            del self._of[whose]
        return finding

    async def finish(self, *, everything: bool = False) -> None:
        """Tell once more of those alerts whose quiet time is over and that have counted something."""
        async with self._one_by_one:
            await self._finish(everything)

    async def _finish(self, everything: bool = False) -> None:
        now = self._clock.monotonic()
        for key in [key for key, each in self._open.items() if everything or each.until <= now]:
            each = self._close(key)
            if each.alert.count > each.told:
                await self._tell(each.alert)

    async def _take(self, finding: Finding) -> None:
        now = self._clock.monotonic()
        key, finding = self._counted_on(finding)
        known = self._open.get(key)
        if known is not None and known.until > now:
            self.repeated += 1
            alert = known.alert
            requests = alert.requests if len(alert.requests) >= REQUESTS else (*alert.requests, finding.request)
            alert = msgspec.structs.replace(
                alert, count=alert.count + 1, last_at=max(alert.at, finding.at), requests=requests
            )
            if _may_lock(finding):
                alert = await self._respond(key, finding, alert)
            known.alert = alert
            return
        if known is not None:
            await self._finish()
        alert = await self._respond(key, finding, _alert(finding))
        if len(self._open) >= OPEN:
            oldest = self._close(next(iter(self._open)))
            if oldest.alert.count > oldest.told:
                await self._tell(oldest.alert)
        self._apart[_group(finding)] += key not in self._open
        self._open[key] = _Open(alert, now + self._settings.quiet)
        self.counts[alert.kind, alert.severity] += 1
        await self._tell(alert)

    def _counted_on(self, finding: Finding) -> tuple[tuple[str, ...], Finding]:
        """Key in `_open`, and the finding, as one of many where there are too many to tell apart."""
        group = _group(finding)
        key = (*group, finding.alike)
        if key in self._open or self._apart[group] < EACH:
            return key, finding
        said = f"{finding.facts.who} goes on at {finding.facts.route}: {EACH} alerts of the kind {finding.kind} before"
        return (*group, ""), msgspec.structs.replace(finding, summary=said)

    def _close(self, key: tuple[str, ...]) -> _Open:
        group = key[:-1]
        self._apart[group] -= 1
        if self._apart[group] <= 0:
            del self._apart[group]
        return self._open.pop(key)

    async def _respond(self, key: tuple[str, ...], finding: Finding, alert: Alert) -> Alert:
        """Lock, where the detector may; says on the alert what came of it."""
        if alert.suggested is None or not _may_lock(finding):
            return alert
        locked, why = await self._lock(key, finding, alert.suggested)
        return msgspec.structs.replace(alert, lock=locked, not_locked=why)

    async def _lock(self, key: tuple[str, ...], finding: Finding, suggested: Suggested) -> tuple[str, str]:
        """Id of the lock, or why there is none."""
        if self.locks is None:
            return "", "there is nobody here who locks"
        now = self._clock.now()
        before, lifted_until = self._locked.get(key, ("", 0.0))
        if before and now < lifted_until and all(each.id != before for each in self.locks.current()):
            return "", f"an operator has lifted the lock {before}"
        order = LockOrder(
            kind=LockKind(suggested.kind),
            value=suggested.value,
            effect=LockEffect(suggested.effect),
            cause=f"{finding.summary} (usual: {finding.usual or 'nothing alike'})"[:CAUSE],
            by=f"watch:{finding.kind}",
            lasts=suggested.lasts,
            provider=suggested.provider,
            shown=finding.facts.email,
            exact=suggested.kind == LockKind.USER.value,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                made = await self.locks.lock(order)
        except (ZtError, TimeoutError) as error:
            log.error("not locked", kind=finding.kind, problem=str(error) or type(error).__name__)
            return "", str(error)[:SHOWN] or type(error).__name__
        if len(self._locked) >= OPEN:
            self._locked.clear()
        self._locked[key] = (made.id, now + min(PARDON, PARDON if made.expires is None else made.expires - now))
        return made.id, ""

    async def _tell(self, alert: Alert) -> None:
        self._webhooks.put(alert)
        write = log.warning if alert.severity != "low" else log.info
        write("alert", **_flat(alert))
        try:
            async with asyncio.timeout(PATIENCE):
                await self._audit.write("alert", **_flat(alert))
        except (ZtError, TimeoutError) as error:
            self.unrecorded += 1
            log.error("alert not on record", alert=alert.id, problem=str(error) or type(error).__name__)
        try:
            await self._keep(alert)
        except ZtError as error:
            log.error("alert not kept", alert=alert.id, problem=str(error))


def _group(finding: Finding) -> tuple[str, ...]:
    facts = finding.facts
    return finding.kind, facts.provider, facts.sub, facts.changes


def _may_lock(finding: Finding) -> bool:
    return finding.response is not None and finding.response.respond is Respond.ENFORCE


def _alert(finding: Finding) -> Alert:
    facts = finding.facts
    return Alert(
        v=1,
        id=secrets.token_hex(6),
        at=finding.at,
        kind=finding.kind,
        severity=finding.severity,
        summary=finding.summary,
        route=facts.route,
        respond=finding.response.respond.value if finding.response is not None else Respond.REPORT.value,
        user=facts.sub,
        email=facts.email,
        provider=facts.provider,
        integration=facts.integration,
        sid=facts.sid,
        client=facts.client,
        country=facts.country,
        risk=facts.risk,
        host=facts.host,
        action=facts.action,
        object=facts.named,
        changes=facts.changes,
        rule=facts.rule,
        path=finding.path,
        seen=finding.seen,
        usual=finding.usual,
        justification=shown(facts.justification),
        approved_by=facts.approved_by,
        requests=(finding.request,),
        suggested=_suggested(finding),
    )


def _suggested(finding: Finding) -> Suggested | None:
    facts, response = finding.facts, finding.response
    if response is None or not facts.sub:
        return None
    effect, lasts = response.effect.value, response.lasts
    if facts.integration:
        return Suggested(LockKind.INTEGRATION.value, facts.integration, effect, lasts)
    return Suggested(LockKind.USER.value, facts.sub, effect, lasts, facts.provider)


def _flat(alert: Alert) -> dict[str, str | int | float | bool]:
    """For a line of the audit log: `alert` is the id, and what is nested is spelt out."""
    values = msgspec.to_builtins(alert)
    values.pop("type")
    values.pop("v")
    values.pop("at")
    flat: dict[str, str | int | float | bool] = {
        "alert": values.pop("id"),
        "about": values.pop("kind"),
        "first_at": alert.at,
    }
    if (lock := values.pop("suggested", None)) is not None:
        flat["lock_kind"], flat["lock_value"], flat["lock_effect"] = lock["kind"], lock["value"], lock["effect"]
        flat["lock_for"] = lock.get("lasts", "until-reviewed")
    requests = values.pop("requests", ())
    return {**flat, **values, **({"requests": " ".join(requests)} if requests else {})}
