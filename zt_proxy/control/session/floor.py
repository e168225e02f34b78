"""What every session has to have proved by the configuration in force, not by the one that it began under.

A reload can ask for more (`identity.mfa.level`), believe less (`identity.mfa.accept`), or take `insecure_no_mfa` back.
Sessions that would not begin like that any more end with it; how a person has proved themselves is not kept apart, so
that of those who showed a second factor everybody shows one anew.
"""

from collections.abc import Mapping

import msgspec

from zt_proxy.control.session.record import SessionRecord
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core.session import Level


class Floor(msgspec.Struct, frozen=True):
    """Times: epoch seconds of the reload since which something counts no more."""

    level: Level = Level.SINGLE
    doubted: float = 0.0
    """A way to prove a second factor was taken off `accept`."""
    asked: Mapping[str, float] = {}
    """Provider → `insecure_no_mfa` was taken off it."""

    def after(self, before: ControlSettings | None, now: ControlSettings, at: float) -> "Floor":
        """With what a reload changes; `before` None: the program starts."""
        doubted, asked = self.doubted, dict(self.asked)
        if before is not None:
            if before.factors.accept - now.factors.accept:
                doubted = at
            asked |= dict.fromkeys(_unasked(before) - _unasked(now), at)
        return Floor(now.factors.level, doubted, asked)

    def above(self, record: SessionRecord) -> bool:
        """Whether this session would not begin like that any more. With one factor it began by `insecure_no_mfa`."""
        second = record.level > Level.SINGLE
        if second and record.level < self.level:
            return True
        if not second and record.created <= self.asked.get(record.principal.provider, -1.0):
            return True
        shown = second or any(proof.level > Level.SINGLE for proof in record.proofs.values())
        return shown and record.created <= self.doubted


def _unasked(settings: ControlSettings) -> set[str]:
    return {each.name for each in settings.providers if each.insecure_no_mfa}
