"""A lock: somebody, something or some place may do less from this moment on, whatever the rules allow.

Control keeps locks in a store of its own and tells every worker; they are part of what is in force for a worker that
connects. A worker reads the clock itself, so that a lock ends at its time also where nobody says so.
"""

from enum import StrEnum

import msgspec

from zt_proxy.core.session import Principal

MOST = 10_000
"""Locks in force at a time."""
CAUSE = 300
"""Characters of a cause."""
VALUE = 320
"""Characters of a target's value: an e-mail address has no more (RFC 3696, erratum 1690)."""


class LockKind(StrEnum):
    """What is locked."""

    USER = "user"
    SESSION = "session"
    DEVICE = "device"
    INTEGRATION = "integration"
    ROUTE = "route"


class LockEffect(StrEnum):
    """What the lock does, the strongest first."""

    BLOCK = "block"
    STEP_UP = "step-up"
    """The person has to prove anew, as strongly as they can here, who they are."""
    READ_ONLY = "read-only"
    NO_EXPORT = "no-export"


STRONGEST_FIRST = tuple(LockEffect)


class Lock(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Times are seconds since the epoch."""

    id: str
    """Eight hexadecimal digits."""
    kind: LockKind
    value: str
    """Of a user the subject, or any name of theirs when the lock was made while nobody knew them; the id of a session
    or device, the name of an integration or route."""
    effect: LockEffect
    cause: str
    """For operators; the person never reads it."""
    by: str
    """Name of the operator, or of the detector (`watch:volume`)."""
    at: float
    expires: float | None = None
    """None: until somebody has reviewed it."""
    provider: str = ""
    """Of a user: whose subject it is. Empty: whoever vouches for somebody of this subject or e-mail address."""
    shown: str = ""
    """How operators know the target: a user's or a session's e-mail address."""
    reviewed: str = ""
    """Who looked into it; empty: nobody has."""
    exact: bool = False
    """Of a user: `value` is what `provider` calls them, and nobody's address. Where people choose what they are called,
    one must not be locked by calling themselves as another's address is."""

    def names(self, who: Principal) -> bool:
        """Of a user: it is about this person. A subject counts as it is spelt, an address in any case."""
        if self.provider and self.provider != who.provider:
            return False
        if self.value == who.subject:
            return True
        return not self.exact and who.email is not None and self.value.casefold() == who.email.casefold()

    def over(self, now: float) -> bool:
        """Its time has come."""
        return self.expires is not None and now >= self.expires


class LockSet(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The lock is in force, in place of any with the same id."""

    lock: Lock


class LockLifted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The lock is in force no more."""

    id: str


LockChange = LockSet | LockLifted
