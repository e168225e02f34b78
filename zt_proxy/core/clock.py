"""Time is injected everywhere, so that tests can move it and one place answers for skew."""

import time as _time
from typing import Protocol

SKEW = 30.0
"""Seconds of clock difference tolerated towards other machines, both ways."""


class Clock(Protocol):
    """Gives the time in two kinds, both in seconds as float."""

    def now(self) -> float:
        """Seconds since the Unix epoch; jumps when the machine's clock is set."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never jumps. For time-outs."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    now = staticmethod(_time.time)  # noqa: TID251 - the one place that may read the wall clock
    monotonic = staticmethod(_time.monotonic)


class ManualClock:
    """A clock that stands still until a test moves it."""

    __slots__ = ("_monotonic", "_now")

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both kinds of time forward."""
        self._now += seconds
        self._monotonic += seconds
