"""What a worker asks of control beyond whose session a handle is: proofs that are good once, and forms that were kept.

Both are in control's store, where exactly one of any number of workers gets them.
"""

from typing import Protocol

import msgspec


class KeptForm(msgspec.Struct, frozen=True, array_like=True):
    """A form that was sent before its sender had proven enough, as the browser sent it."""

    content_type: str
    origin: str
    referer: str
    body: bytes

    def __repr__(self) -> str:
        """Without what somebody wrote: messages end up in logs and tracebacks."""
        return f"KeptForm(content_type={self.content_type!r}, bytes={len(self.body)})"


class Spend(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A worker wants to use a proof that is good once."""

    id: int
    sid: str
    key: str


class TakeForm(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A browser came back for the form it had sent."""

    id: int
    sid: str
    token: str
    host: str
    target: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"TakeForm(id={self.id}, sid={self.sid!r})"


class Proofs(Protocol):
    """What control answers, and what a link carries."""

    async def spend(self, sid: str, key: str) -> bool:
        """Take a proof that is good once out of the session: of any number of callers exactly one gets True.

        Raises UnavailableError(CONTROL_UNAVAILABLE or STORE_UNAVAILABLE) when nobody can say; it may be spent then.
        """

    async def kept(self, sid: str, token: str, host: str, target: str) -> KeptForm | None:
        """The form that this token releases, once, to the session that sent it, at its host and target.

        None if there is none. Raises as `spend`.
        """
