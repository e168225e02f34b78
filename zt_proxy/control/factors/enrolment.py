"""Who may add a factor: the rules, as a function of what is known.

Adding a factor is as strong as the weakest proof that suffices for it: whoever can do it with a password alone needs no
second factor at all, and whoever can do it with a code that was phished needs no passkey (NIST SP 800-63B-4 §4.1).
"""

from collections.abc import Sequence
from typing import NamedTuple

from zt_proxy.control.factors.types import Factor, FactorKind
from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level, Proof

FRESH = 300.0
"""Seconds that a proof of identity permits an enrolment for."""
GRANT_LIFETIME = 86_400.0
"""Seconds that a permission is good for, unless the administrator says otherwise."""


class Verdict(NamedTuple):
    refused: Reason | None
    needs_grant: bool = False
    """Permitted because of a grant, which adding the factor has to use up."""


def judge(
    have: Sequence[Factor], proof: Proof, *, this_login: bool, granted: bool, must_be_granted: bool, now: float
) -> Verdict:
    """`have`: all that the person has enrolled, usable or not; `this_login`: the proof is of the sign-in under way.

    Somebody with factors shows one: also when all they have was disabled, or is not accepted any more. Then only an
    administrator can make a fresh start (`zt-proxy factors reset`), or anybody who knows the password could.
    """
    if not this_login and now - proof.at > FRESH:
        return Verdict(Reason.ENROLMENT_NOT_FRESH)
    if have and proof.level < Level.MULTI:
        return Verdict(Reason.MFA_REQUIRED)
    if must_be_granted and not granted:
        return Verdict(Reason.ENROLMENT_NOT_GRANTED)
    if proof.level < level_for(have):
        return Verdict(None, needs_grant=True) if granted else Verdict(Reason.MFA_REQUIRED)
    return Verdict(None, needs_grant=must_be_granted)


def level_for(have: Sequence[Factor]) -> Level:
    """How strong a proof adds a factor without anybody's permission."""
    if any(each.usable and each.kind is FactorKind.PASSKEY for each in have):
        return Level.PHISHING_RESISTANT
    return Level.MULTI if have else Level.SINGLE
