"""Token buckets: how often each integration may ask, and how much a rule lets one person do.

Each worker counts for itself, with its part of the rate, rounded up: no request waits for a count of another process.
Whoever comes on many connections so gets the rate and at most N - 1 requests a second more; who keeps to a single
connection, and so to a single worker, gets that worker's part.
"""

import math
from collections.abc import Mapping

from zt_proxy.policy.spec import Limit

_WHOLE = 1.0 - 1e-9
"""One request, less what adding up fractions loses."""
AT_ONCE = 16
"""Answers that one person may have under way at once under a limit of bytes."""


class Bucket:
    """One second's worth of requests, filled at `rate` a second; a rate below one holds one request."""

    __slots__ = ("_at", "_capacity", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._capacity = self._tokens = max(1.0, rate)
        self._at = 0.0

    def take(self, now: float) -> float:
        """0.0 if a request may pass at `now` (monotonic seconds), else the seconds until one may."""
        tokens = self._tokens
        if now > self._at:
            tokens = min(self._capacity, tokens + (now - self._at) * self._rate)
            self._at = now
        if tokens >= _WHOLE:
            self._tokens = max(0.0, tokens - 1.0)
            return 0.0
        self._tokens = tokens
        return (1.0 - tokens) / self._rate


class RateLimits:
    """The buckets of one worker, by name of the integration. Who has no rate is not counted."""

    __slots__ = ("_buckets",)

    def __init__(self, rates: Mapping[str, float], shares: int = 1) -> None:
        self._buckets = {name: Bucket(share_of(rate, shares)) for name, rate in rates.items()}

    def of(self, name: str) -> Bucket | None:
        """The bucket of an integration; None: it is not counted."""
        return self._buckets.get(name)


def share_of(rate: float, shares: int) -> float:
    """One worker's part of a rate: whole requests a second, rounded up; slower rates are not rounded."""
    part = rate / shares
    return float(math.ceil(part)) if rate >= 1 else part


class Allowances:
    """What one person may do under one rule, counted by this worker. Bounded; who has the most left goes first.

    Bytes are counted when an answer has gone out, so that one answer may go past the limit, and the next waits for it.
    Until then it has a part of the bytes to itself: of many that are asked for at once, few may go past.
    """

    __slots__ = ("_capacity", "_left", "_limits", "_shares")

    def __init__(self, limits: Mapping[str, Limit], shares: int = 1, *, capacity: int = 20_000) -> None:
        """`limits` by `Obligations.limit`."""
        self._limits = limits
        self._shares = shares
        self._capacity = capacity
        self._left: dict[tuple[str, str], _Left] = {}

    def take(self, key: str, who: str, now: float, *, streams: bool = False) -> float:
        """0.0 if a request may pass at `now` (monotonic seconds), else the seconds until one may. Raises KeyError for a
        key that is no rule's. `spend` has to follow once its answer has gone out, unless it `streams`: it is a message
        in a stream that was counted already."""
        limit = self._limits[key]
        left = self._left.get((key, who))
        if left is None:
            if len(self._left) >= self._capacity:
                self._make_room(now)
            left = self._left[key, who] = _Left(limit, self._shares, now)
        return left.take(now, streams=streams)

    def spend(self, key: str, who: str, size: int) -> None:
        """An answer of so many bytes has gone out, or none will."""
        left = self._left.get((key, who))
        if left is not None:
            left.bytes += left.part - size

    def _make_room(self, now: float) -> None:
        ranked = sorted(self._left, key=lambda one: self._left[one].share(now), reverse=True)
        for key in ranked[: max(1, len(ranked) // 10)]:
            del self._left[key]


class _Left:
    """What is left to one person of one limit; it fills up evenly."""

    __slots__ = ("_at", "_bytes", "_per", "_requests", "bytes", "part", "requests")

    def __init__(self, limit: Limit, shares: int, now: float) -> None:
        self._requests = float(math.ceil(limit.requests / shares))
        self._bytes = limit.bytes / shares
        self._per = limit.per
        self.part = self._bytes / AT_ONCE
        self.requests = self._requests
        self.bytes = self._bytes
        self._at = now

    def take(self, now: float, *, streams: bool) -> float:
        self._fill(now)
        wait = 0.0
        if self._bytes and self.bytes <= 0.0:
            wait = (1.0 - self.bytes) * self._per / self._bytes
        if self._requests and self.requests < _WHOLE:
            wait = max(wait, (1.0 - self.requests) * self._per / self._requests)
        if not wait:
            self.requests -= 1.0
            self.bytes -= 0.0 if streams else self.part
        return wait

    def share(self, now: float) -> float:
        """The smaller part that is left, 0 to 1."""
        self._fill(now)
        return min(
            self.requests / self._requests if self._requests else 1.0, self.bytes / self._bytes if self._bytes else 1.0
        )

    def _fill(self, now: float) -> None:
        if now > self._at:
            part = (now - self._at) / self._per
            self.requests = min(self._requests, self.requests + part * self._requests)
            self.bytes = min(self._bytes, self.bytes + part * self._bytes)
            self._at = now
