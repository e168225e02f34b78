"""`guard`: how much a reload may turn."""

from pathlib import Path

import pytest

from tests.unit.config.examples import PLAIN
from zt_proxy.config import Problem, check, load_text
from zt_proxy.config.build import GuardSettings, guard

HERE = Path(__file__).parent / "zt-proxy.yaml"


def problems(written: str) -> list[Problem]:
    return [each for each in check(load_text(f"{PLAIN}\nguard: {written}\n", HERE)) if "guard" in str(each) or
            "max_changed" in each.text or "window" in each.text or "bound" in each.text]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ("{max_changed: 100}", GuardSettings(100, 0.0, 7 * 86_400.0)),
        ("{max_changed: 5%, window: 2d}", GuardSettings(None, 0.05, 2 * 86_400.0)),
        ("{max_changed: 0}", GuardSettings(0, 0.0, 7 * 86_400.0)),
        ("{max_changed: 0%}", GuardSettings(0, 0.0, 7 * 86_400.0)),
        ('{max_changed: "0.5%"}', GuardSettings(None, 0.005, 7 * 86_400.0)),
    ],
)
def test_a_bound_is_a_number_or_a_share(written: str, settings: GuardSettings) -> None:
    assert problems(written) == []
    loaded = load_text(f"{PLAIN}\nguard: {written}\n", HERE)
    assert loaded.schema is not None
    assert guard(loaded.schema) == settings


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{max_changed: 120%}", "not a bound; expected a number of decisions such as `100`, or a share such as `5%`"),
        ("{max_changed: -1}", "not a bound"),
        ("{max_changed: true}", "not a bound"),
        ("{max_changed: 1.5}", "not a bound"),
        ("{window: 7d}", "`max_changed` is missing"),
        ("{max_changed: 5%, window: 0s}", "`window` is zero"),
        ("{max_changed: 5%, window: 400d}", "longer than any replay"),
        ("{max_changed: 100%}", "refuses nothing"),
    ],
)
def test_what_is_no_bound_is_named(written: str, said: str) -> None:
    found = problems(written)
    assert len(found) == 1, found
    assert said in found[0].text
