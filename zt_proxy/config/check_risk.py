"""Risk: that levels are in order, and that networks exist."""

from zt_proxy.config.check import Checking
from zt_proxy.config.problems import nearest


def check(checking: Checking) -> None:
    schema, problems = checking.schema, checking.problems
    risk = schema.risk
    thresholds = risk.thresholds
    if thresholds.medium >= thresholds.high:
        problems.error(thresholds.at("high"), "`high` begins at or below `medium`")
    if thresholds.low_again >= thresholds.medium:
        problems.error(thresholds.at("low_again"), "medium would end at or above the score where it begins")
    if thresholds.medium_again >= thresholds.high:
        problems.error(thresholds.at("medium_again"), "high would end at or above the score where it begins")
    if thresholds.low_again > thresholds.medium_again:
        problems.error(thresholds.at("low_again"), "medium would end above the score where high does")
    if not schema.complete("networks"):
        return
    named = [(name, risk.at("networks", name)) for name in risk.networks] if risk.written("networks") else []
    named += [(name, risk.at("egress", index)) for index, name in enumerate(risk.egress)]
    for name, at in named:
        if name not in schema.networks:
            problems.error(
                at, f"there is no network `{name}`", "a name under `networks`", nearest(name, schema.networks)
            )
