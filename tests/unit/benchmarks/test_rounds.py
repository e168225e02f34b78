import math

import pytest

from benchmarks.rounds import Gate, Outcome, interleave, paired_ratios, summarise


def test_the_median_of_an_even_number_of_rounds_lies_between_the_middle_two() -> None:
    assert summarise([4.0, 1.0, 3.0, 2.0]).median == 2.5


def test_a_single_outlier_does_not_move_the_median() -> None:
    assert summarise([10.0, 11.0, 10.5, 90.0, 10.2]).median == 10.5


def test_the_spread_is_the_range_over_the_median() -> None:
    summary = summarise([8.0, 10.0, 12.0])
    assert (summary.least, summary.greatest) == (8.0, 12.0)
    assert summary.spread == pytest.approx(0.4)


def test_a_median_of_nothing_has_an_infinite_spread() -> None:
    assert summarise([0.0, 0.0]).spread == math.inf


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarise([])


def test_a_drift_of_the_whole_machine_leaves_paired_ratios_alone() -> None:
    assert paired_ratios([20.0, 40.0, 60.0], [10.0, 20.0, 30.0]) == [2.0, 2.0, 2.0]


def test_series_of_different_length_are_not_paired() -> None:
    with pytest.raises(ValueError, match="unpaired rounds: 2 against 1"):
        paired_ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize("nothing", [0.0, -1.0])
def test_a_round_without_a_positive_divisor_is_an_error(nothing: float) -> None:
    with pytest.raises(ValueError, match="nothing to divide by"):
        paired_ratios([1.0], [nothing])


def test_sides_are_measured_in_turn_in_every_round() -> None:
    order: list[str] = []
    rows: list[tuple[int, dict[str, float]]] = []

    def measuring(side: str, value: float) -> float:
        order.append(side)
        return value

    samples = interleave(
        {"proxy": lambda: measuring("proxy", 3.0), "nginx": lambda: measuring("nginx", 2.0)},
        2,
        before=lambda number, side: order.append(f"{number}:{side}"),
        after=lambda number, row: rows.append((number, dict(row))),
    )

    assert order == ["1:proxy", "proxy", "1:nginx", "nginx", "2:proxy", "proxy", "2:nginx", "nginx"]
    assert rows == [(1, {"proxy": 3.0, "nginx": 2.0}), (2, {"proxy": 3.0, "nginx": 2.0})]
    assert samples == {"proxy": [3.0, 3.0], "nginx": [2.0, 2.0]}


@pytest.mark.parametrize(("value", "passed"), [(2.4, True), (2.5, True), (2.501, False), (math.nan, False)])
def test_a_cost_passes_up_to_its_gate(value: float, passed: bool) -> None:
    assert Gate("ratio_nginx", 2.5).passes(value) is passed


@pytest.mark.parametrize(("value", "passed"), [(0.71, True), (0.7, True), (0.699, False), (math.nan, False)])
def test_a_yield_passes_from_its_gate_on(value: float, passed: bool) -> None:
    assert Gate("download_ratio", 0.7, at_most=False).passes(value) is passed


def test_a_missed_gate_is_named_with_its_limit_and_value() -> None:
    assert Gate("idle_kib", 25.0).verdict(31.25) == "FAIL  idle_kib = 31.250, gate ≤ 25"
    assert Gate("download_ratio", 0.7, at_most=False).verdict(0.9) == "pass  download_ratio = 0.900, gate ≥ 0.7"


def test_a_value_is_judged_before_it_is_rounded() -> None:
    assert not Outcome(Gate("routes_1000_over_10", 1.1), 1.1004).passed
