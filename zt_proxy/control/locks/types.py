"""What an order to lock says, and who carries it out: the two that detectors and operators program against."""

from typing import Protocol

import msgspec

from zt_proxy.link.locks import Lock, LockEffect, LockKind

NO_OPERATOR = -1


class LockOrder(msgspec.Struct, frozen=True):
    """See `Lock` for what is not said here."""

    kind: LockKind
    value: str
    effect: LockEffect
    cause: str
    by: str
    """Name of the operator, or of the detector."""
    lasts: float | None
    """Seconds; None: until somebody has reviewed it."""
    provider: str = ""
    shown: str = ""
    exact: bool = False
    uid: int = NO_OPERATOR
    """Of the operator, as the kernel says; `NO_OPERATOR` for a detector."""


class LockKeeper(Protocol):
    """Whoever makes and lifts locks. On record first, then durable, then on its way to every worker."""

    async def lock(self, order: LockOrder) -> Lock:
        """Gives the lock when it is durable and sent; `WorkersLink.settled` says when every worker has it.

        Another lock of the same target and effect by the same maker takes the place of the one there is, under its
        id, and ends no sooner. Raises ClientError(MALFORMED) for an order that makes no sense, UnavailableError
        (RECORD_UNAVAILABLE or STORE_UNAVAILABLE) when nothing was done.
        """

    async def lift(self, id: str, by: str, reason: str) -> Lock:
        """Gives what it was. Raises ClientError(MALFORMED, 404) if there is no such lock in force; else as `lock`."""

    def current(self) -> tuple[Lock, ...]:
        """Those in force now, the oldest first."""
