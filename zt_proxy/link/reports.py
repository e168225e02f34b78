"""Activity on its way from a worker to control: gathered, sent a few times a second, kept until it has surely arrived.

    add ──► waiting ──flush──► sent ──next beat──► asked ──lease renewed──► gone
               ▲─────────── connection lost ─────────┘

Control reads in order: when it answers a beat it has read what was sent before. What was sent twice does no harm,
because activity only moves forward. Each of the three holds at most `CAPACITY` sessions; the oldest go first.
"""

import asyncio
from collections.abc import Callable

import msgspec

from zt_proxy.link.messages import BATCH, Activity

FLUSH_EVERY = 0.25
"""Seconds that activity waits for company."""
CAPACITY = 10_000


class Reports:
    """`send` must not wait and may drop; `resume` and `pause` say when it is of use."""

    __slots__ = ("_asked", "_asked_at", "_flowing", "_send", "_sent", "_timer", "_waiting", "dropped")

    def __init__(self, send: Callable[[msgspec.Struct], None]) -> None:
        self._send = send
        self._waiting: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._asked_at = 0.0
        self._flowing = False
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0
        """Reports that found no room."""

    def add(self, sid: str, at: float) -> None:
        """A person did something in this session at `at`."""
        self._merge(self._waiting, sid, at)
        if self._timer is None and self._flowing:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_EVERY, self.flush)

    def flush(self) -> None:
        """Send what waits, if there is a connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._flowing or not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        if len(waiting) <= BATCH:
            self._send(Activity(waiting))
        else:
            entries = list(waiting.items())
            for start in range(0, len(entries), BATCH):
                self._send(Activity(dict(entries[start : start + BATCH])))
        if self._sent:
            for sid, at in waiting.items():
                self._merge(self._sent, sid, at)
        else:
            self._sent = waiting

    def asked(self, at: float) -> None:
        """The beat of this moment goes out: its answer says that all before it arrived."""
        if self._asked:
            for sid, seen in self._sent.items():
                self._merge(self._asked, sid, seen)
        else:
            self._asked = self._sent
        self._sent = {}
        self._asked_at = at

    def received(self, at: float) -> None:
        """Control answered the beat of that moment."""
        if at == self._asked_at:
            self._asked = {}

    def resume(self) -> None:
        """There is a connection: what was kept goes out."""
        self._flowing = True
        self.flush()

    def pause(self) -> None:
        """The connection is lost, and perhaps what was sent over it."""
        self._flowing = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kept in (self._sent, self._asked):
            for sid, at in kept.items():
                self._merge(self._waiting, sid, at)
        self._sent, self._asked = {}, {}

    def close(self) -> None:
        """Nothing more goes out."""
        self.pause()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent) + len(self._asked)

    def _merge(self, into: dict[str, float], sid: str, at: float) -> None:
        known = into.get(sid)
        if known is not None:
            if known < at:
                into[sid] = at
            return
        if len(into) >= CAPACITY:
            del into[next(iter(into))]
            self.dropped += 1
        into[sid] = at
