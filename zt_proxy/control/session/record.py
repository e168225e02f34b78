"""A session as control keeps it, and its sealed form at rest."""

import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from zt_proxy.core.keys import KeyRing, Secret
from zt_proxy.core.session import Approval, Level, Principal, Proof, Risk

PURPOSE = "session-record"
PROOFS = 256
"""Step-ups that a session remembers: proofs that are good once have the path of a request in their key."""
GRANTS = 64
"""Justifications that a session remembers, and approvals likewise: the newest."""


class Arrival(msgspec.Struct, frozen=True):
    """What a sign-in came with: for the person's own eyes, and to compare requests with."""

    label: str = ""
    """The browser, coarsely."""
    address: str = ""
    agent: str = ""
    """See `Session.agent`."""
    device_known: bool | None = None
    """See `Session.device_known`."""
    device: str = ""
    """See `Session.device`."""


NOWHERE = Arrival()


class SessionRecord(msgspec.Struct, frozen=True):
    """Everything about a sign-in; the ID token is kept for RP-initiated logout only and never leaves control."""

    sid: str
    principal: Principal
    acr: str
    amr: tuple[str, ...]
    mfa: bool
    auth_time: float
    created: float
    idle_timeout: float
    absolute_deadline: float
    provider: str
    provider_sid: str | None
    id_token: Secret
    level: Level = Level.SINGLE
    """What the sign-in proved; an earlier version of the program did not say."""
    proofs: Mapping[str, Proof] = {}
    """See `Session.proofs`."""
    issued: float = 0.0
    """`iat` of the ID token, by the provider's clock; 0: an earlier version of the program did not keep it."""
    refresh_token: Secret | None = None
    """The one token that the provider takes next (it may change with each use, RFC 9700 §4.14.2)."""
    arrival: Arrival = NOWHERE
    risk: Risk | None = None
    """As it was assessed last."""
    justified: Mapping[str, str] = {}
    """See `Session.justified`."""
    approved: Mapping[str, Approval] = {}
    """See `Session.approved`."""
    break_glass: float = 0.0
    """See `Session.break_glass`."""

    def unlocked(self, key: str, proof: Proof) -> "SessionRecord":
        """With one more proof; at most `PROOFS` are kept, the newest.

        For one rule the newer proof counts, of two at a time the stronger.
        """
        known = self.proofs.get(key)
        if known is not None and (known.at, known.level) > (proof.at, proof.level):
            proof = known
        proofs = sorted({**self.proofs, key: proof}.items(), key=lambda each: each[1].at)
        return msgspec.structs.replace(self, proofs=dict(proofs[-PROOFS:]))

    def said(self, key: str, text: str) -> "SessionRecord":
        """With what the person says when asked why; what they say last counts."""
        kept = {name: each for name, each in self.justified.items() if name != key}
        return msgspec.structs.replace(self, justified=dict([*kept.items(), (key, text)][-GRANTS:]))

    def agreed(self, key: str, approval: Approval) -> "SessionRecord":
        """With somebody's approval, in place of an earlier one for the same."""
        kept = {name: each for name, each in self.approved.items() if name != key}
        return msgspec.structs.replace(self, approved=dict([*kept.items(), (key, approval)][-GRANTS:]))

    def spent(self, key: str) -> "SessionRecord":
        """Without the proof of this key."""
        return msgspec.structs.replace(self, proofs={name: proof for name, proof in self.proofs.items() if name != key})


def encode_secret(value: Any) -> str:
    """For an encoder whose result is sealed."""
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"cannot store a {type(value).__name__}")


def decode_secret(kind: type, value: Any) -> Any:
    """The inverse of `encode_secret`."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError(f"cannot read a {kind.__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=encode_secret)
_decoder = msgspec.msgpack.Decoder(SessionRecord, dec_hook=decode_secret)


def seal_record(ring: KeyRing, record: SessionRecord) -> bytes:
    return ring.seal(PURPOSE, _encoder.encode(record), record.sid.encode())


def open_record(ring: KeyRing, sid: str, blob: bytes) -> SessionRecord:
    """Raises ValueError if the blob was changed, belongs to another record or was sealed with a key that is gone."""
    record = _decoder.decode(ring.open(PURPOSE, blob, sid.encode()))
    if record.sid != sid:
        raise ValueError("sealed record is of another session")
    return record


def sealed_now(ring: KeyRing, blob: bytes) -> bool:
    """Whether the blob is sealed with the ring's current key."""
    return int.from_bytes(blob[:4], "big") == ring.current


def subject_hash(ring: KeyRing, issuer: str, subject: str) -> bytes:
    """By which the store finds a person's sessions without naming them.

    Keyed with the ring's first key, so that rotation does not lose the index; issuer and subject cannot be shifted
    into each other because the issuer's length is part of what is hashed.
    """
    text = f"{len(issuer)}:{issuer}{subject}".encode()
    return hmac.digest(ring.key(1, "subject-index"), text, "sha256")


def name_hash(ring: KeyRing, text: str) -> bytes:
    """By which the store finds the sessions of a subject or an e-mail address (case folded), whoever vouched for them.

    Keyed as `subject_hash`, so that a stolen store does not tell who is signed in.
    """
    return hmac.digest(ring.key(1, "name-index"), text.casefold().encode(), "sha256")


def provider_hash(ring: KeyRing, issuer: str, provider_sid: str) -> bytes:
    """By which the store finds what belongs to a session at the provider (its `sid`). Keyed as `subject_hash`."""
    text = f"{len(issuer)}:{issuer}{provider_sid}".encode()
    return hmac.digest(ring.key(1, "provider-session-index"), text, "sha256")


def names_of(ring: KeyRing, principal: Principal, provider_sid: str | None) -> tuple[bytes, ...]:
    """Every name under which a session is looked for: an operator's for the person, and the provider's own."""
    texts = {principal.subject, *((principal.email,) if principal.email else ())}
    names = {name_hash(ring, text) for text in texts}
    if provider_sid is not None:
        names.add(provider_hash(ring, principal.issuer, provider_sid))
    return tuple(sorted(names))
