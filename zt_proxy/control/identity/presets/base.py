"""What a preset can say about its provider. The defaults are those of a provider that keeps to the standard."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from zt_proxy.core.errors import ProviderError, Reason
from zt_proxy.core.session import Level

Claims = Mapping[str, Any]
Derive = Callable[[Mapping[str, str]], str]


def refused(detail: str) -> ProviderError:
    """A token that verifies and is still not for here; `detail` must not quote it."""
    return ProviderError(Reason.LOGIN_TOKEN_INVALID, f"ID token: {detail}", status=401)


def verified_by_word(claims: Claims, email: str) -> bool:
    """`email_verified` is true: neither 1 nor "true" (ZT-OIDC-10)."""
    return claims.get("email_verified") is True


def no_more_checks(_claims: Claims, _tenant: str) -> None:
    """What OpenID Connect asks for is enough."""


class Preset(msgspec.Struct, frozen=True):
    """Defaults and checks of one kind of provider."""

    name: str
    keys: tuple[str, ...] = ()
    """Keys of the configuration that it takes; `derive` makes the issuer of all of them."""
    checked: bool = False
    """Whether `check` needs them, so that they are needed also where the issuer is written."""
    derive: Derive | None = None
    """Raises ValueError that says what is wrong with them."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    acr: Mapping[str, Level] = {}
    amr: Mapping[str, Level] | None = None
    """None: by RFC 8176, see `identity.levels`."""
    acr_claim: str = "acr"
    """The claim that says which demands were met."""
    one_acr_value: bool = False
    """Whether a request can name one value only."""
    claims_parameter: bool = False
    """Whether it understands the `claims` parameter, though its metadata do not say so."""
    always_essential: bool = False
    """Whether it takes no wishes: what is asked for by `claims` is then asked for as essential."""
    assertion_audience: str = "issuer"
    sends_iss: bool = True
    """Whether its answers may carry `iss` (RFC 9207); the metadata say whether they do."""
    request: Callable[[str], Mapping[str, str]] = lambda _tenant: {}
    """Further parameters of an authorization request, by tenant."""
    check: Callable[[Claims, str], None] = no_more_checks
    """Claims and tenant; raises ProviderError(LOGIN_TOKEN_INVALID)."""
    email_is_verified: Callable[[Claims, str], bool] = verified_by_word
    roles: Callable[[Claims], object] = lambda claims: claims.get("roles")
    directory: Callable[[str], str] = lambda _issuer: ""
    """Origin, by issuer, of the interface that is asked for groups that do not fit a token; empty: there is none."""

    def issuer(self, given: Mapping[str, str], written: str | None) -> str:
        """The issuer, as written or as the preset's keys make it. Raises ValueError."""
        foreign = sorted(set(given) - set(self.keys))
        if foreign:
            raise ValueError(f"`{foreign[0]}` says nothing with `preset: {self.name}`")
        missing = [key for key in self.keys if key not in given]
        if written is None and self.derive is None:
            raise ValueError("`issuer` is missing")
        if missing and (written is None or self.checked):
            raise ValueError(f"`{missing[0]}` is missing, which `preset: {self.name}` needs")
        derived = self.derive(given) if self.derive is not None and not missing else ""
        return written or derived
