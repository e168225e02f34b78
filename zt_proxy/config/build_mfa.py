"""The second factor, as control declares it."""

from collections.abc import Iterable
from pathlib import Path

from zt_proxy.config import names, session_presets
from zt_proxy.config.requirements import LEVELS
from zt_proxy.config.schema import Schema
from zt_proxy.control.settings import FactorSettings, ProviderSettings
from zt_proxy.core.session import Level


def factors(schema: Schema, base: Path) -> FactorSettings:
    """For a portal whose URL was checked."""
    mfa = schema.identity.mfa
    _, host, port = names.origin(schema.portal.url)
    authorities = mfa.passkeys.attestation_ca
    return FactorSettings(
        rp_id=host,
        origin=f"https://{names.join(host, port)}",
        accept=frozenset(mfa.accept),
        level=max(LEVELS[mfa.level], session_presets.least(schema.session)),
        enrolment=mfa.enrolment,
        aaguids=frozenset(text.lower() for text in mfa.passkeys.aaguids),
        attestation_ca=base / Path(authorities).expanduser() if authorities else None,
    )


def strongest(providers: Iterable[ProviderSettings], factors: FactorSettings) -> dict[str, Level]:
    """Provider → the best proof that its people can give: a lock must not ask for one that nobody can."""
    return {each.name: max(_own(factors), _from(each, factors)) for each in providers}


def _own(factors: FactorSettings) -> Level:
    if "passkey" in factors.accept:
        return Level.PHISHING_RESISTANT
    return Level.MULTI if "totp" in factors.accept else Level.SINGLE


def _from(provider: ProviderSettings, factors: FactorSettings) -> Level:
    if "provider" not in factors.accept:
        return Level.SINGLE
    # Left out, `amr` is read as RFC 8176 says, which attests two factors at most.
    said = (Level.MULTI,) if provider.amr is None and not provider.insecure_no_mfa else (provider.amr or {}).values()
    return max((*provider.acr.values(), *said), default=Level.SINGLE)
