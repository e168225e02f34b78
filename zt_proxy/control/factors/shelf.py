"""Factors and challenges in the store, opened and sealed on the way."""

import hashlib
import hmac
import secrets

import structlog

from zt_proxy.control.factors.store import ChallengeRow, FactorRow, FactorStore
from zt_proxy.control.factors.types import LEVELS, Factor, FactorKind, FactorRefused, Person, unknown
from zt_proxy.control.factors.vault import Kept, Pending, Vault
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import Reason
from zt_proxy.core.keys import b64encode, new_id

NAME = 64
"""Characters of a name."""
NAMES = {FactorKind.PASSKEY: "Passkey", FactorKind.TOTP: "Authenticator app", FactorKind.RECOVERY: "Recovery codes"}

log = structlog.get_logger("zt_proxy.control.factors.manager")


class Shelf:
    """Knows which kinds are accepted, and gives nothing out that does not open."""

    def __init__(self, store: FactorStore, vault: Vault, clock: Clock) -> None:
        self.store = store
        self.vault = vault
        self._clock = clock
        self.accepted: frozenset[FactorKind] = frozenset()

    def row(self, who: Person, kind: FactorKind, kept: Kept, counter: int, credential: bytes | None) -> FactorRow:
        factor, person = new_id(12), self.vault.person(who)
        blob = self.vault.seal(factor, person, kept)
        return FactorRow(factor, person, kind, self._clock.now(), None, counter, False, credential, blob)

    async def put(self, person: bytes, kind: str, pending: Pending, lifetime: float) -> str:
        token, now = b64encode(secrets.token_bytes(32)), self._clock.now()
        key = hash_of(token)
        blob = self.vault.seal_pending(key, person, pending)
        await self.store.put_challenge(
            ChallengeRow(key, person, _asked(kind, pending.purpose), now + lifetime, blob), now
        )
        return token

    async def take(self, person: bytes, kind: str, token: str, purpose: bytes) -> Pending:
        row = await self.store.take_challenge(hash_of(token), person, str(kind), self._clock.now())
        pending = self._open_pending(row, purpose)
        if pending is None:
            raise FactorRefused(Reason.FACTOR_WRONG, "the challenge is too old, was used, or is for something else")
        return pending

    async def peek_totp(self, who: Person, token: str, purpose: bytes) -> Pending:
        person = self.vault.person(who)
        row = await self.store.challenge(hash_of(token), person, FactorKind.TOTP.value, self._clock.now())
        pending = self._open_pending(row, purpose)
        if pending is None:
            raise unknown("this enrolment took too long, or it is done")
        return pending

    def _open_pending(self, row: ChallengeRow | None, purpose: bytes) -> Pending | None:
        if row is None:
            return None
        try:
            pending = self.vault.open_pending(row)
        except ValueError as error:
            log.error("challenge does not open", detail=str(error))
            return None
        return pending if hmac.compare_digest(pending.purpose, purpose) else None

    async def usable(self, person: bytes, kind: FactorKind) -> list[tuple[FactorRow, Kept]]:
        if kind not in self.accepted:
            return []
        rows = [row for row in await self.store.of(person) if row.kind is kind and not row.disabled]
        opened = [(row, self.open(row)) for row in rows]
        return [(row, kept) for row, kept in opened if kept is not None]

    def open(self, row: FactorRow) -> Kept | None:
        try:
            return self.vault.open(row)
        except ValueError as error:
            log.error("factor does not open", factor=row.id, detail=str(error))
            return None

    def factor(self, row: FactorRow) -> Factor:
        kept = self.open(row)
        spent = row.kind is FactorKind.RECOVERY and not row.remaining
        return Factor(
            id=row.id,
            kind=row.kind,
            name=kept.name if kept is not None else NAMES[row.kind],
            created=row.created,
            last_used=row.last_used,
            level=LEVELS[row.kind],
            aaguid=kept.passkey.aaguid if kept is not None and kept.passkey is not None else "",
            remaining=row.remaining,
            disabled=row.disabled,
            usable=kept is not None and not row.disabled and not spent and row.kind in self.accepted,
        )


def _asked(kind: str, purpose: bytes) -> str:
    """Keeps challenges for one purpose from pushing out those for another."""
    return f"{kind!s}:{hashlib.sha256(purpose).hexdigest()}"


def hash_of(token: str) -> bytes:
    """By which the store knows a challenge."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def label(text: str, otherwise: str) -> str:
    """What somebody calls something: printable, and short enough to show."""
    return "".join(char for char in text[: 4 * NAME] if char.isprintable()).strip()[:NAME] or otherwise[:NAME]
