"""What the store may not read: factors, their owners and challenges, sealed and bound to whom they belong to."""

import hmac

import msgspec

from zt_proxy.control.factors.passkeys import Known
from zt_proxy.control.factors.store import ChallengeRow, FactorRow, PersonRow
from zt_proxy.control.factors.types import Person
from zt_proxy.control.session.record import name_hash, sealed_now, subject_hash
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Level


class Kept(msgspec.Struct, frozen=True):
    """A factor's secret part. Which fields count depends on its kind."""

    name: str
    passkey: Known | None = None
    secret: str = ""
    """Of one-time passwords, base32."""

    def __repr__(self) -> str:
        return f"Kept(name={self.name!r})"


class Pending(msgspec.Struct, frozen=True):
    """A challenge that a browser has in hand."""

    purpose: bytes
    """What the caller binds it to."""
    challenge: bytes = b""
    secret: str = ""
    account: str = ""
    level: Level = Level.SINGLE
    """Of an enrolment: the proof that permitted it."""

    def __repr__(self) -> str:
        return "Pending(…)"


_encode = msgspec.msgpack.encode
_kept = msgspec.msgpack.Decoder(Kept).decode
_pending = msgspec.msgpack.Decoder(Pending).decode
_person = msgspec.msgpack.Decoder(Person).decode


class Vault:
    """Over the ring that never leaves control. What does not open raises ValueError."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    def person(self, who: Person) -> bytes:
        """By which the store knows a person."""
        return subject_hash(self.ring, who.issuer, who.subject)

    def handle(self, person: bytes) -> bytes:
        """The user handle of their passkeys: the same for all, and it tells nobody anything (WebAuthn §14.6.1)."""
        return hmac.digest(self.ring.key(1, "passkey-user"), person, "sha256")

    def names(self, who: Person) -> tuple[bytes, ...]:
        """Under which an administrator may speak of them."""
        return tuple(sorted({name_hash(self.ring, text) for text in (who.subject, who.email) if text}))

    def owner(self, who: Person) -> PersonRow:
        person = self.person(who)
        return PersonRow(person, self.ring.seal("factor-owner", _encode(who), person), self.names(who))

    def open_owner(self, person: bytes, blob: bytes) -> Person:
        return _person(self.ring.open("factor-owner", blob, person))

    def opens(self, person: bytes, blob: bytes) -> bool:
        """Whether an owner was sealed with a key of this ring."""
        try:
            self.open_owner(person, blob)
        except ValueError:
            return False
        return True

    def seal(self, factor: str, person: bytes, kept: Kept) -> bytes:
        return self.ring.seal("factor", _encode(kept), _bound(factor, person))

    def open(self, row: FactorRow) -> Kept:
        return _kept(self.ring.open("factor", row.blob, _bound(row.id, row.person)))

    def seal_pending(self, token: bytes, person: bytes, pending: Pending) -> bytes:
        return self.ring.seal("factor-challenge", _encode(pending), token + person)

    def open_pending(self, row: ChallengeRow) -> Pending:
        return _pending(self.ring.open("factor-challenge", row.blob, row.token + row.person))

    def resealed(self, factor: str, person: bytes, blob: bytes) -> bytes | None:
        """The same under the ring's current key; None if it is, or if it does not open."""
        if sealed_now(self.ring, blob):
            return None
        purpose, bound = ("factor", _bound(factor, person)) if factor else ("factor-owner", person)
        try:
            return self.ring.seal(purpose, self.ring.open(purpose, blob, bound), bound)
        except ValueError:
            return None


def _bound(factor: str, person: bytes) -> bytes:
    return factor.encode("ascii") + b"\0" + person
