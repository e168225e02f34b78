"""Failed attempts by client address, in memory: who fails is often nobody that is known."""

from cachetools import LRUCache

from zt_proxy.core.clock import Clock
from zt_proxy.policy.geo import parse_address
from zt_proxy.policy.habits import FAILURE_LIFE, FAILURES

REMEMBERED = 10_000
"""Addresses; the one that has not failed for longest gives way."""


class Attempts:
    """Counts. An IPv6 address counts as its /64: whoever has one has all of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: LRUCache[str, tuple[float, ...]] = LRUCache(REMEMBERED)

    def failed(self, address: str) -> None:
        """One more."""
        key = _key(address)
        self._failed[key] = (*self._recent(key), self._clock.now())[-FAILURES:]

    def of(self, address: str) -> int:
        """Those that still count."""
        return len(self._recent(_key(address)))

    def _recent(self, key: str) -> tuple[float, ...]:
        since = self._clock.now() - FAILURE_LIFE
        return tuple(at for at in self._failed.get(key, ()) if at > since)


def _key(address: str) -> str:
    parsed = parse_address(address)
    if parsed is None or parsed.version == 4:
        return address
    return f"{int(parsed) >> 64:x}/64"
