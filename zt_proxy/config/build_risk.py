"""Risk, as control and workers declare it."""

from zt_proxy.config.schema import Schema
from zt_proxy.policy.risk import NETWORKS, WEIGHTS, RiskSettings


def risk(schema: Schema) -> RiskSettings:
    """Networks that the file does not rate count as they do without a file."""
    chosen = schema.risk
    thresholds = chosen.thresholds
    return RiskSettings(
        weights={name: getattr(chosen.weights, name.replace("-", "_")) for name in WEIGHTS},
        networks={**NETWORKS, **chosen.networks},
        medium=thresholds.medium,
        high=thresholds.high,
        low_again=thresholds.low_again,
        medium_again=thresholds.medium_again,
        egress=frozenset(chosen.egress),
        dormant=chosen.dormant,
    )
