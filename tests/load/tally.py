"""The pace that everybody keeps, and the tally of what they got."""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field


class Pace:
    """Gives `rate` turns a second to those who wait, in order."""

    def __init__(self, rate: float) -> None:
        self._every = 1 / rate
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if self._timer is None:
            self._timer = loop.call_later(self._every, self._tick, loop.time() + self._every)
        await turn

    def _tick(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and due <= loop.time():
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                due += self._every
        self._timer = loop.call_at(due, self._tick, due) if self._waiting else None


@dataclass
class Tally:
    """What everybody got."""

    answered: int = 0
    echoed: int = 0
    fed: int = 0
    probed: int = 0
    signed_in: int = 0
    signed_out: int = 0
    interrupted: Counter[str] = field(default_factory=Counter)
    """What did not get its answer, and what it got instead: a lost connection, or a 503."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no circumstance excuses."""
    leaks: list[str] = field(default_factory=list)
    """What a probe saw of what is protected."""
    closed: Counter[str] = field(default_factory=Counter)
    """Streams that ended, by how."""
    ids: list[str] = field(default_factory=list)
    """Request ids of every answer that is not a 503."""

    def figures(self) -> str:
        ends = sum(self.interrupted.values()), sum(self.closed.values())
        return (
            f"{self.answered} requests answered, {self.echoed} messages echoed, {self.fed} lines fed, "
            f"{self.signed_in} signed in and {self.signed_out} out; interrupted: {ends[0]} requests, {ends[1]} streams; "
            f"{self.probed} probes saw {len(self.leaks)} protected bytes"
        )
