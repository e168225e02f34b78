"""docs/how-to/risk.md names every signal with its weight and every condition."""

import re
from pathlib import Path

from zt_proxy.config.schema_when import When
from zt_proxy.policy import habits, travel
from zt_proxy.policy.risk import NEARBY, NETWORKS, SPEED, WEIGHTS, RiskSettings

TEXT = (Path(__file__).parents[3] / "docs" / "how-to" / "risk.md").read_text("utf-8")


def rows(heading: str) -> dict[str, tuple[str, ...]]:
    """First cell → the others, of the first table under a heading."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {cells[0]: tuple(cells[1:]) for cells in lines[1:]}


def test_every_signal_is_told_of_with_its_weight() -> None:
    told = {name.strip("`"): cells[0] for name, cells in rows("Signals").items()}
    networks = ", ".join(f"`{name}` {weight:+d}".replace("-", "−") for name, weight in NETWORKS.items())
    assert told.pop("network-NAME") == networks
    assert {name: int(re.sub(r"\D", "", adds)) for name, adds in told.items()} == WEIGHTS


def test_every_condition_is_told_of() -> None:
    told = {name for cell in rows("What is looked at when") for name in re.findall(r"`(\w+)`", cell)}
    assert told == {field.alias or name for name, field in When.model_fields.items()}
    assert {cells[0] for cells in rows("What is looked at when").values()} == {"at login", "continuously"}


def test_figures_are_those_of_the_code() -> None:
    settings = RiskSettings()
    assert f"Medium from {settings.medium}, high from {settings.high}" in TEXT
    assert f"low again at {settings.low_again}" in TEXT
    assert (SPEED, NEARBY, travel.ACCURACY) == (1_000.0, 300.0, 100.0)
    assert f"({habits.COUNTRIES}) and autonomous systems ({habits.NETWORKS})" in TEXT
    assert (habits.KEPT, habits.HALF_LIFE, habits.ENOUGH) == (400 * habits.DAY, 60 * habits.DAY, 10.0)
