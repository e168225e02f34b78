"""How many sign-ins may be with a provider at once: the rest wait in order, and beyond that are told to come back.

A provider that hangs holds everybody who signs in there for as long as its time-out. Without a bound they would take
every connection to the portal, and with it the sign-outs, the keys and the other providers' sign-ins.
"""

import asyncio
from collections.abc import Mapping

from zt_proxy.control.identity.types import IdentityProvider, LogoutNotice, VerifiedLogin
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level

PATIENCE = 10.0
"""Seconds that somebody waits for a turn: a person would not look at an empty page for longer."""


class WaitingRoom:
    """Seats for those whose turn it is not, over all providers."""

    __slots__ = ("free",)

    def __init__(self, seats: int) -> None:
        self.free = seats


class Turns:
    """`async with turns:` is one exchange with a provider. First come, first served.

    Raises UnavailableError(LOGIN_BUSY) when the room is full, or after `patience` seconds.
    """

    __slots__ = ("_exchanges", "_patience", "_room")

    def __init__(self, at_once: int, room: WaitingRoom, patience: float = PATIENCE) -> None:
        self._exchanges = asyncio.Semaphore(at_once)
        self._room = room
        self._patience = patience

    async def __aenter__(self) -> None:
        if not self._exchanges.locked():
            await self._exchanges.acquire()
            return
        if self._room.free <= 0:
            raise UnavailableError(Reason.LOGIN_BUSY, "too many wait for their turn")
        self._room.free -= 1
        try:
            async with asyncio.timeout(self._patience):
                await self._exchanges.acquire()
        except TimeoutError:
            raise UnavailableError(Reason.LOGIN_BUSY, "no turn came in time") from None
        finally:
            self._room.free += 1

    async def __aexit__(self, *_: object) -> None:
        self._exchanges.release()


class InTurn(IdentityProvider):
    """A provider that is asked by so many at once and no more."""

    def __init__(self, provider: IdentityProvider, turns: Turns) -> None:
        self.name = provider.name
        self.display_name = provider.display_name
        self.issuer = provider.issuer
        self._provider = provider
        self._turns = turns

    async def authorization_url(
        self,
        *,
        state: str,
        nonce: str,
        verifier: str,
        max_age: float | None,
        force: bool,
        login_hint: str | None = None,
        level: Level | None = None,
        essential: bool = False,
    ) -> str:
        """See IdentityProvider. Raises UnavailableError(LOGIN_BUSY) as well."""
        async with self._turns:
            return await self._provider.authorization_url(
                state=state,
                nonce=nonce,
                verifier=verifier,
                max_age=max_age,
                force=force,
                login_hint=login_hint,
                level=level,
                essential=essential,
            )

    async def finish(
        self,
        *,
        parameters: Mapping[str, str],
        nonce: str,
        verifier: str,
        max_age: float | None,
        forced_after: float | None,
    ) -> VerifiedLogin:
        """See IdentityProvider. Raises UnavailableError(LOGIN_BUSY) before anything was sent."""
        async with self._turns:
            return await self._provider.finish(
                parameters=parameters, nonce=nonce, verifier=verifier, max_age=max_age, forced_after=forced_after
            )

    async def logout_url(self, *, id_token: Secret | None, post_logout_redirect_uri: str, state: str) -> str | None:
        """See IdentityProvider. Who signs out here never fails or queues for the provider's sake."""
        try:
            async with self._turns:
                return await self._provider.logout_url(
                    id_token=id_token, post_logout_redirect_uri=post_logout_redirect_uri, state=state
                )
        except UnavailableError:
            return None

    async def logout_notice(self, token: str) -> LogoutNotice:
        """See IdentityProvider. Asks for keys at most, and for those once for all who wait."""
        return await self._provider.logout_notice(token)

    def frame_origins(self) -> tuple[str, ...]:
        """See IdentityProvider."""
        return self._provider.frame_origins()

    async def close(self) -> None:
        """See IdentityProvider."""
        await self._provider.close()
