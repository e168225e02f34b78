"""Stages of a roll-out: what is enforced yet, and what only reports."""

from zt_proxy.config.schema import Schema
from zt_proxy.core.types import Mode


def rules(schema: Schema) -> Mode:
    """What the file as a whole says about rules."""
    return Mode.REPORT if schema.mode == "report" or schema.stage == "identity" else Mode.ENFORCE


def watch(schema: Schema) -> Mode:
    """What the file as a whole says about locks that detectors ask for."""
    waits = schema.stage in {"identity", "least-privilege"} or schema.mode == "report"
    return Mode.REPORT if waits else Mode.ENFORCE
