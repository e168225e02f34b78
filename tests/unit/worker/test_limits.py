"""Token buckets: the rate over any time, one second's worth at once, and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.policy.spec import Limit
from zt_proxy.worker.protect.limits import Allowances, Bucket, RateLimits, share_of


def test_one_seconds_worth_passes_at_once_and_then_one_by_one() -> None:
    bucket = Bucket(20)
    assert [bucket.take(100.0) for _ in range(20)] == [0.0] * 20
    assert bucket.take(100.0) == pytest.approx(0.05)
    assert bucket.take(100.05) == 0.0
    assert bucket.take(100.05) > 0


def test_a_slow_rate_lets_one_through_and_says_how_long_to_wait() -> None:
    bucket = Bucket(1 / 60)
    assert bucket.take(5.0) == 0.0
    assert bucket.take(5.0) == pytest.approx(60)
    assert bucket.take(35.0) == pytest.approx(30)
    assert bucket.take(65.5) == 0.0


@given(st.floats(0.1, 200), st.lists(st.floats(0, 3), max_size=80))
def test_no_pattern_of_asking_gets_more_than_rate_and_burst(rate: float, pauses: list[float]) -> None:
    bucket, now, passed = Bucket(rate), 1000.0, 0
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        passed += wait == 0.0
        assert wait >= 0.0
        assert wait <= 1 / rate + 1e-6
    assert passed <= max(1.0, rate) + rate * (now - 1000.0) + 1e-6


@given(st.floats(0.1, 50))
def test_whoever_waits_as_long_as_told_gets_through(rate: float) -> None:
    bucket, now = Bucket(rate), 0.0
    for _ in range(60):
        wait = bucket.take(now)
        if wait:
            now += wait + 1e-6
            assert bucket.take(now) == 0.0


def test_a_clock_that_stands_still_fills_nothing() -> None:
    bucket = Bucket(1)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(9.0) > 0
    assert bucket.take(10.0) > 0.0


def test_each_worker_gets_its_part_rounded_up() -> None:
    assert [share_of(20, workers) for workers in (1, 2, 3, 8, 32)] == [20, 10, 7, 3, 1]
    assert share_of(1 / 60, 2) == 1 / 120
    limits = RateLimits({"one": 20.0}, shares=2)
    bucket = limits.of("one")
    assert bucket is not None
    assert sum(bucket.take(0.0) == 0.0 for _ in range(30)) == 10
    assert limits.of("other") is None, "no rate, no limit"


def test_a_person_may_do_so_much_under_a_rule_and_again_as_time_goes_by() -> None:
    allowances = Allowances({"app\x1fexport": Limit(requests=3, per=60)})
    assert [allowances.take("app\x1fexport", "ada", 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert allowances.take("app\x1fexport", "ada", 100.0) == pytest.approx(20.0)
    assert allowances.take("app\x1fexport", "bob", 100.0) == 0.0
    assert allowances.take("app\x1fexport", "ada", 119.0) == pytest.approx(1.0)
    assert allowances.take("app\x1fexport", "ada", 120.0) == 0.0


def test_bytes_that_went_out_count_for_the_next_request() -> None:
    allowances = Allowances({"k": Limit(bytes=1000, per=10)})
    assert allowances.take("k", "ada", 0.0) == 0.0
    allowances.spend("k", "ada", 5_999)
    wait = allowances.take("k", "ada", 0.0)
    assert wait == pytest.approx(50.0)
    assert allowances.take("k", "ada", wait - 0.1) > 0.0
    assert allowances.take("k", "ada", wait + 0.1) == 0.0


def test_workers_share_an_allowance() -> None:
    allowances = Allowances({"k": Limit(requests=5, per=60)}, shares=2)
    assert [bool(allowances.take("k", "ada", 0.0)) for _ in range(4)] == [False, False, False, True]


def test_those_who_have_used_most_are_remembered_when_there_are_many() -> None:
    allowances = Allowances({"k": Limit(requests=2, per=60)}, capacity=100)
    for _ in range(2):
        assert allowances.take("k", "greedy", 0.0) == 0.0
    for number in range(1_000):
        allowances.take("k", f"person-{number}", 0.0)
    assert allowances.take("k", "greedy", 0.0) > 0.0
