"""Notices a browser that is signed in and at once asked again (FIELD 7).

A turn is complete when its code was redeemed. The next sign-in of the same browser for the same host belongs to a loop
only if its hand-off was made *after* that: ten tabs that are restored together also ask ten times within a second, but
with hand-offs from before. Hand-offs live equally long, so the difference of their expiry is the difference of their
making.
"""

import msgspec
from cachetools import TTLCache

from zt_proxy.core.clock import Clock

WINDOW = 60.0
TURNS = 3
REMEMBERED = 10_000


class _Turn(msgspec.Struct, frozen=True):
    arrived: float
    redeemed: float
    handoff_expires: float


class LoopGuard:
    """Completed turns of the last minute, per browser and host; in memory, bounded, good for a friendly page only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns: TTLCache[tuple[bytes, str], list[_Turn]] = TTLCache(REMEMBERED, WINDOW, timer=clock.monotonic)

    def completed(self, browser: bytes, host: str, *, arrived: float, handoff_expires: float) -> None:
        """A code was redeemed; `arrived` is when its hand-off came to the portal."""
        now = self._clock.now()
        turns = [turn for turn in self._turns.get((browser, host), ()) if turn.redeemed > now - WINDOW]
        self._turns[browser, host] = [*turns[-TURNS:], _Turn(arrived, now, handoff_expires)]

    def looping(self, browser: bytes, host: str, *, handoff_expires: float) -> bool:
        """Whether this hand-off would be the third turn within a minute."""
        now = self._clock.now()
        before = [
            turn
            for turn in self._turns.get((browser, host), ())
            if turn.redeemed > now - WINDOW
            and handoff_expires - turn.handoff_expires >= turn.redeemed - turn.arrived
            and handoff_expires > turn.handoff_expires
        ]
        return len(before) >= TURNS - 1

    def forget(self, browser: bytes) -> None:
        """The person signed out or started over: count anew."""
        for key in [key for key in self._turns if key[0] == browser]:
            del self._turns[key]
