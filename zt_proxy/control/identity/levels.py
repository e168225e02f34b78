"""What a verified ID token says about how strongly somebody proved who they are (OpenID Connect Core §2, RFC 8176).

What is missing, empty or of another shape attests nothing: the result is then SINGLE, whatever the lists say.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from zt_proxy.control.identity.presets import PRESETS
from zt_proxy.control.identity.strict import string_list
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.session import Level

_KNOWLEDGE = frozenset({"pwd", "pin", "kba"})
_POSSESSION = frozenset({"otp", "sms", "tel", "hwk", "swk", "sc", "pop"})
_INHERENCE = frozenset({"face", "fpt", "iris", "retina", "vbm"})
KINDS = (_KNOWLEDGE, _POSSESSION, _INHERENCE)
"""RFC 8176 §2 by kind of factor. The others of its values (geo, rba, user, wia, mca) are none by themselves."""


class Attested(msgspec.Struct, frozen=True):
    """What the token said, and what that means here."""

    acr: str
    """Empty when there was none."""
    amr: tuple[str, ...]
    level: Level


def attested(claims: Mapping[str, Any], settings: ProviderSettings) -> Attested:
    """Read the claims of a verified token; the strongest of what they attest counts."""
    acr_claim = PRESETS[settings.preset].acr_claim
    said = claims.get(acr_claim)
    met = [said] if isinstance(said, str) else []
    if acr_claim != "acr":  # Entra's `acrs` is a list of the contexts that were satisfied
        met = met or string_list(said) or []
    methods = string_list(claims.get("amr")) or []
    levels = [settings.acr[value] for value in met if value and value in settings.acr]
    levels.append(_by_methods(methods, settings.amr))
    acr = claims.get("acr")
    shown = acr if isinstance(acr, str) else max(met, key=lambda value: settings.acr.get(value, 0), default="")
    return Attested(acr=shown, amr=tuple(methods), level=max(levels))


def _by_methods(methods: list[str], listed: Mapping[str, Level] | None) -> Level:
    """With a list of the operator's each value counts alone. Without one it takes two kinds of factor, or the word
    `mfa`, to attest two; nothing in RFC 8176 says that a proof is bound to the origin it was made for."""
    if listed is not None:
        return max((listed[method] for method in methods if method and method in listed), default=Level.SINGLE)
    kinds = sum(not kind.isdisjoint(methods) for kind in KINDS)
    return Level.MULTI if kinds >= 2 or "mfa" in methods else Level.SINGLE


def wanted(settings: ProviderSettings, level: Level) -> tuple[str, ...]:
    """The values of `acr` that attest `level` or more: the weakest of them first, as the operator wrote them."""
    fitting = [value for value, attests in settings.acr.items() if value and attests >= level]
    ordered = tuple(sorted(fitting, key=lambda value: settings.acr[value]))
    return ordered[:1] if PRESETS[settings.preset].one_acr_value else ordered
