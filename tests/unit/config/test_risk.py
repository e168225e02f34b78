"""`risk` in the file: defaults, what it means, and what is wrong."""

from pathlib import Path

import pytest

from tests.unit.config.examples import PLAIN
from zt_proxy.config.build import build
from zt_proxy.config.check import check
from zt_proxy.config.load import load
from zt_proxy.core.clock import ManualClock
from zt_proxy.policy.risk import NETWORKS, WEIGHTS, RiskSettings

NAMED = "networks: {office: [192.0.2.0/24], vpn: [198.51.100.0/24], tor: [203.0.113.0/24]}\n"


def problems(place: Path, more: str) -> list[str]:
    path = place / "zt.yaml"
    path.write_text(PLAIN + more)
    return [problem.text for problem in check(load(path), ManualClock())]


def settings(place: Path, more: str) -> RiskSettings:
    assert problems(place, more) == []
    built = build(load(place / "zt.yaml"))
    assert built.worker.risk == built.control.risk
    return built.worker.risk


def test_without_a_word_about_risk_the_defaults_count(place: Path) -> None:
    assert settings(place, "") == RiskSettings()


def test_what_is_written_replaces_what_it_names_and_nothing_else(place: Path) -> None:
    more = NAMED + (
        "risk:\n"
        "  weights: {new-device: 40, dormant: 0}\n"
        "  networks: {tor: 60}\n"
        "  thresholds: {medium: 35, low_again: 25}\n"
        "  egress: [vpn]\n"
        "  dormant: 30d\n"
    )
    assert settings(place, more) == RiskSettings(
        weights={**WEIGHTS, "new-device": 40, "dormant": 0},
        networks={**NETWORKS, "tor": 60},
        medium=35,
        low_again=25,
        egress=frozenset({"vpn"}),
        dormant=30 * 86_400.0,
    )


@pytest.mark.parametrize(
    ("risk", "message"),
    [
        ("{weights: {new-devise: 25}}", "new-devise"),
        ("{weights: {new-device: 101}}", "100"),
        ("{weights: {new-device: -1}}", "0"),
        ("{networks: {office: -101}}", "-100"),
        ("{networks: {torr: 20}}", "there is no network `torr`"),
        ("{egress: [vnp]}", "did you mean `vpn`?"),
        ("{thresholds: {medium: 60}}", "`high` begins at or below `medium`"),
        ("{thresholds: {low_again: 30}}", "medium would end at or above"),
        ("{thresholds: {medium_again: 60}}", "high would end at or above"),
        ("{thresholds: {medium: 40, low_again: 35, medium_again: 30}}", "medium would end above the score where high"),
        ("{dormant: 90}", "a duration needs a unit"),
    ],
)
def test_what_makes_no_sense_is_a_problem_of_its_line(place: Path, risk: str, message: str) -> None:
    found = problems(place, NAMED + f"risk: {risk}\n")
    assert any(message in text for text in found), found
