"""What workers and control say to each other, and the two ends as Protocols.

Every change that a worker must not miss (invalidation, keys) carries a rising sequence number. The Protocols are what
the wings program against; `link.memory` joins them in one process, `link.unix` will join them between processes.
"""

from typing import Protocol

import msgspec

from zt_proxy.core.session import Session


class SigningKey(msgspec.Struct, frozen=True):
    """The assertion's current private key (PKCS#8 DER, P-256) and its id. Goes to workers only."""

    kid: str
    private_der: bytes

    def __repr__(self) -> str:
        """Without the private key: messages end up in logs and tracebacks."""
        return f"SigningKey(kid={self.kid!r})"


CHANGED = frozenset(("handle-replaced", "unlocked"))
"""Reasons of invalidations after which the session lives on, and with it its open streams."""


class Invalidation(msgspec.Struct, frozen=True):
    """Forget what is cached. `sid` empty: everything."""

    sequence: int
    sid: str
    reason: str


class ControlLink(Protocol):
    """Control, as a worker sees it."""

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        """The live session of a handle at a host; None if unknown, ended, idle or expired.

        Raises UnavailableError(CONTROL_UNAVAILABLE or STORE_UNAVAILABLE) when nobody can say.
        """

    def activity(self, sid: str, at: float) -> None:
        """A person did something in this session at `at`. Batched; never waits."""

    def alive(self) -> bool:
        """False once the lease ran out: nothing may be decided any more."""


class WorkerLink(Protocol):
    """A worker, as control sees it. Calls return when the change is in force on that worker."""

    def invalidate(self, change: Invalidation) -> None: ...

    def signing_key(self, key: SigningKey) -> None: ...
