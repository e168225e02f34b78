"""How many sessions one person may have at once (ASVS 7.1.2, ZT-SESS-13).

Who counts and who adds are one: of any number of sign-ins at the same moment none slips in beyond the limit. The new
session has no cookie before the old one has ended.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from cachetools import LRUCache

from zt_proxy.control.session.directory import Listed
from zt_proxy.control.settings import SessionSettings
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.lines import Value
from zt_proxy.core.session import Principal

REMEMBERED = 10_000
"""Displaced sessions whose people can still be told why."""


class Note(Protocol):
    """Puts an event on record, durably. Raises UnavailableError: then what was to be recorded is not done."""

    def __call__(self, kind: str, **fields: Value) -> Awaitable[None]: ...


class Sessions(Protocol):
    """What the cap needs of the sessions."""

    note: Note

    async def of_person(self, issuer: str, subject: str) -> tuple[Listed, ...]: ...

    async def end_many(self, sids: Sequence[str], reason: str) -> None: ...


class Cap:
    """Counts, and knows for a while which sessions had to give way."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = asyncio.Lock()
        self._displaced: LRUCache[str, None] = LRUCache(REMEMBERED)

    def displaced(self, sid: str) -> bool:
        """Whether this session gave way to a newer one; in memory alone, for a friendly word."""
        return sid in self._displaced

    @asynccontextmanager
    async def room(self, settings: SessionSettings, principal: Principal, replaces: str) -> AsyncIterator[None]:
        """Around the making of one more session. `replaces`: one that will end anyway, and does not count.

        Raises ClientError(SESSION_LIMIT, 403) where the limit refuses, UnavailableError.
        """
        if settings.limit <= 0:
            yield
            return
        async with self._lock:
            found = await self._sessions.of_person(principal.issuer, principal.subject)
            others = sorted((each for each in found if each.sid != replaces), key=lambda each: each.created)
            beyond = [each.sid for each in others[: max(0, len(others) + 1 - settings.limit)]]
            if beyond:
                await self._sessions.note(
                    "session-limit",
                    action="refuse" if settings.refuse_beyond else "end-oldest",
                    user=principal.subject,
                    issuer=principal.issuer,
                    limit=settings.limit,
                    sids="" if settings.refuse_beyond else " ".join(beyond),
                )
            if beyond and settings.refuse_beyond:
                raise ClientError(Reason.SESSION_LIMIT, f"{len(others)} sessions of one person", status=403)
            yield
            if beyond:
                for sid in beyond:
                    self._displaced[sid] = None
                await self._sessions.end_many(beyond, Reason.SESSION_DISPLACED.value)


async def unrecorded(kind: str, **fields: Value) -> None:
    """Before anyone keeps a record."""
