"""What opens a rule though nobody proves anything by it: why somebody wants it, who agreed, and the broken glass.

Each is part of one session and ends with it. Whoever calls this has put it on record first.
"""

from collections.abc import Callable, MutableMapping
from typing import Protocol

from msgspec.structs import replace

from zt_proxy.control.session.ending import Changes
from zt_proxy.control.session.live import Live
from zt_proxy.control.session.record import SessionRecord, seal_record
from zt_proxy.control.session.store import SessionStore
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Approval
from zt_proxy.policy.engine import BREAK_GLASS


class Authority(Protocol):
    """The part of the session manager that this needs."""

    async def record(self, sid: str) -> SessionRecord | None: ...

    def ended(self, sid: str) -> bool: ...


class Grants:
    """Every method raises ClientError(SESSION_UNKNOWN, 401) if the session is over, and UnavailableError; what it
    gives counts, on every worker, when it returns."""

    def __init__(
        self,
        authority: Authority,
        store: SessionStore,
        live: MutableMapping[str, Live],
        changes: Changes,
        ring: KeyRing,
    ) -> None:
        self._authority = authority
        self._store = store
        self._live = live
        self._changes = changes
        self._ring = ring

    async def justify(self, sid: str, key: str, text: str) -> None:
        """The person says why; `key` is the rule's `unlock_key`."""
        await self._change(sid, lambda record: record.said(key, text))

    async def approve(self, sid: str, key: str, approval: Approval) -> None:
        """Somebody agreed; `key` is the rule's `unlock_key`."""
        await self._change(sid, lambda record: record.agreed(key, approval))

    async def break_glass(self, sid: str, until: float, text: str) -> None:
        """What rules deny is open until then (epoch seconds), and why."""
        await self._change(sid, lambda record: replace(record.said(BREAK_GLASS, text), break_glass=until))

    async def mend_glass(self, sid: str) -> None:
        """It is over before its time."""
        await self._change(sid, lambda record: replace(record, break_glass=0.0))

    async def _change(self, sid: str, change: Callable[[SessionRecord], SessionRecord]) -> None:
        saved = False
        if await self._authority.record(sid) is not None:
            async with self._changes.lock:
                live = self._live.get(sid)
                if live is not None:
                    record = change(live.record)
                    number = self._changes.sequence + 1
                    saved = await self._store.save_blob(sid, seal_record(self._ring, record), number)
                    live.record = record
                    self._changes.tell(sid, "unlocked")
        if not saved or self._authority.ended(sid):
            raise ClientError(Reason.SESSION_UNKNOWN, "the session is over", status=401)
