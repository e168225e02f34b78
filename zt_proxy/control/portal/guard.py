"""How much work strangers can make with made-up logout tokens: the provider's own are never counted."""

import asyncio

AT_ONCE = 64
"""Logout tokens under way: a provider that is slow to give its keys must not take every connection."""
REFUSED = 20
"""Tokens from one address that may be refused within `WINDOW`; after that few at a time are looked at until it is over.
Some always are: the provider may share its address with strangers, behind a load balancer or a container's network."""
DOUBTFUL = 4
WINDOW = 60.0
ADDRESSES = 4_096


class LogoutGuard:
    """`busy` bounds the tokens under way, `doubtful` those of addresses that `waits`. Times: monotonic seconds."""

    def __init__(self) -> None:
        self.busy = asyncio.Semaphore(AT_ONCE)
        self.doubtful = asyncio.Semaphore(DOUBTFUL)
        self._refused: dict[str, tuple[float, int]] = {}

    def waits(self, client: str, now: float) -> bool:
        """Whether this address has shown too many tokens that do not verify."""
        since, count = self._refused.get(client, (now, 0))
        return count >= REFUSED and now - since < WINDOW

    def refused(self, client: str, now: float) -> None:
        since, count = self._refused.pop(client, (now, 0))
        if now - since >= WINDOW:
            since, count = now, 0
        if len(self._refused) >= ADDRESSES:
            del self._refused[next(iter(self._refused))]
        self._refused[client] = (since, count + 1)
