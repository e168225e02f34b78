"""What the rest of control sees of factors. Times are seconds since the epoch."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.session import Level, Principal, Proof


class FactorKind(StrEnum):
    PASSKEY = "passkey"
    TOTP = "totp"
    RECOVERY = "recovery"


LEVELS = {
    FactorKind.PASSKEY: Level.PHISHING_RESISTANT,
    FactorKind.TOTP: Level.MULTI,
    FactorKind.RECOVERY: Level.MULTI,
}
"""What each kind proves after a sign-in at the provider. A passkey verifies its user: it is two factors in one."""


class Person(NamedTuple):
    """Whose factors. Issuer and subject are the identity; the address is a name by which an operator knows them."""

    issuer: str
    subject: str
    email: str | None = None

    @classmethod
    def of(cls, principal: Principal) -> "Person":
        """The person that a provider vouched for."""
        return cls(principal.issuer, principal.subject, principal.email)


class Factor(msgspec.Struct, frozen=True):
    id: str
    kind: FactorKind
    name: str
    created: float
    last_used: float | None
    level: Level
    """What using it proves."""
    aaguid: str = ""
    """Of a passkey: the make of its authenticator, as a UUID."""
    remaining: int = 0
    """Of recovery codes: how many are left."""
    disabled: bool = False
    """Of a passkey: its counter once did not rise, so there may be two of it. It stays to be seen and removed."""
    usable: bool = True
    """Not disabled, not used up, and of a kind that `identity.mfa.accept` accepts."""


class Proved(msgspec.Struct, frozen=True):
    """A factor was shown; nothing else makes one."""

    factor: Factor
    proof: Proof


class PasskeyChallenge(msgspec.Struct, frozen=True):
    """For the browser: what to hand to `navigator.credentials`, and the token to send back with its answer."""

    options_json: str
    """`PublicKeyCredentialRequestOptionsJSON` or `…CreationOptionsJSON` (WebAuthn L3 §5.1.8, §5.1.9)."""
    token: str


class NewTotp(msgspec.Struct, frozen=True):
    """A one-time-password secret that counts once a code of it was shown. For one page, not to be kept anywhere."""

    token: str
    secret_base32: str
    """In groups of four, for typing."""
    uri: str
    """`otpauth://totp/…`"""
    qr_svg: str
    """The URI as an SVG element without script, style or XML declaration; dark on light whatever the page's colours."""

    def __repr__(self) -> str:
        return "NewTotp(…)"


class OwnedFactors(msgspec.Struct, frozen=True):
    """A person as the operator finds them, and what they have enrolled."""

    issuer: str
    subject: str
    email: str | None
    factors: tuple[Factor, ...]


class FactorRefused(ClientError):
    """A factor was shown and not accepted (FACTOR_WRONG, 401), or not looked at (FACTOR_LOCKED, 429)."""

    def __init__(self, reason: Reason, detail: str, *, retry_after: float = 0.0, used: bool = False) -> None:
        super().__init__(reason, detail, status=429 if reason is Reason.FACTOR_LOCKED else 401)
        self.retry_after = retry_after
        """Seconds until the next try is looked at; 0: at once."""
        self.used = used
        """The code was right and had been used: the next one will do."""


def unknown(detail: str) -> ClientError:
    """No such factor, or none of this kind."""
    return ClientError(Reason.FACTOR_UNKNOWN, detail, status=404)
