"""Token buckets: how often each integration may ask.

Each worker counts for itself, with its part of the rate, rounded up: no request waits for a count of another process.
An integration on many connections so gets its rate and at most N - 1 requests a second more; one that keeps to a single
connection, and so to a single worker, gets that worker's part.
"""

import math
from collections.abc import Mapping

_WHOLE = 1.0 - 1e-9
"""One request, less what adding up fractions loses."""


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
