"""Presets of session lengths, after NIST SP 800-63B §4.2.3 and §4.3.3. What is written beside one only tightens."""

from typing import NamedTuple

from zt_proxy.config.schema import Schema, Session
from zt_proxy.config.schema_rules import Require
from zt_proxy.core.session import Level


class Preset(NamedTuple):
    """Seconds, and the least that everybody proves."""

    idle: float
    absolute: float
    level: Level


PRESETS = {
    "aal2": Preset(1_800.0, 43_200.0, Level.SINGLE),
    "aal3": Preset(900.0, 43_200.0, Level.PHISHING_RESISTANT),
}


def preset_of(session: Session) -> Preset | None:
    """What the operator chose."""
    return PRESETS[session.preset] if session.preset is not None else None


def idle(session: Session) -> float:
    """Seconds without activity after which a session ends."""
    preset = preset_of(session)
    return session.idle if preset is None or session.written("idle") else preset.idle


def absolute(session: Session) -> float:
    """Seconds after the sign-in at which a session ends."""
    preset = preset_of(session)
    return session.absolute if preset is None or session.written("absolute") else preset.absolute


def least(session: Session) -> Level:
    """How strongly everybody has to prove who they are, whatever else is written; SINGLE: nothing is said here."""
    preset = preset_of(session)
    return Level.SINGLE if preset is None else preset.level


def floor(schema: Schema) -> Require:
    """The organisation's `require`, tightened by the preset."""
    level = least(schema.session)
    if level is not Level.PHISHING_RESISTANT:
        return schema.require
    return schema.require.model_copy(update={"mfa": level.word})
