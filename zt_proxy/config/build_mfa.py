"""The second factor, as control declares it."""

from pathlib import Path

from zt_proxy.config import names, session_presets
from zt_proxy.config.requirements import LEVELS
from zt_proxy.config.schema import Schema
from zt_proxy.control.settings import FactorSettings


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
