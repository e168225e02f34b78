"""Volume against history, and first use: values in, findings out."""

from collections.abc import Iterable
from math import isclose

from hypothesis import given, settings
from hypothesis import strategies as st

from zt_proxy.control.settings import VolumeSettings
from zt_proxy.control.watch.detectors import (
    DAY,
    ENOUGH,
    GROWTH,
    PEERS,
    Baseline,
    Excess,
    FirstUse,
    Flow,
    Person,
    first_use,
    new_flow,
)

START = 1_800_000_000.0
MB = 1_000_000
RULES = VolumeSettings(floor=20 * MB, learn=DAY, windows=(60.0,))


def at_work(flow: Flow, days: int, each: int, rules: VolumeSettings, *, begin: float = START, times: int = 20) -> float:
    """So many days with windows of `each` bytes; gives the time after them. Nothing may be told."""
    for day in range(days):
        for number in range(times):
            assert flow.add(each, begin + day * DAY + number * 120.0, rules) is None, (day, number)
    return begin + days * DAY


def person(rules: VolumeSettings = RULES, *, days: int = 3, each: int = 5 * MB) -> tuple[Flow, float]:
    flow = new_flow(new_flow(None, START, rules), START, rules)
    return flow, at_work(flow, days, each, rules)


def test_ten_times_the_usual_is_told_in_the_window_in_which_it_happens() -> None:
    flow, now = person()
    found = [flow.add(5 * MB, now + second, RULES) for second in range(12)]
    assert found[:10] == [None] * 10, "the usual, and up to ten times of it"
    excess = next(each for each in found if each is not None)
    assert excess.what == "bytes"
    assert not excess.peers
    assert isclose(excess.usual, 5 * MB, rel_tol=0.01)
    assert excess.seen > 10 * excess.usual * 0.99
    assert sum(each is not None for each in found) == 1, "once a window"


def test_one_answer_of_ten_times_the_usual_is_told_at_once() -> None:
    flow, now = person()
    assert flow.add(51 * MB, now, RULES) is not None


def test_the_next_window_is_told_again() -> None:
    flow, now = person()
    assert flow.add(60 * MB, now, RULES) is not None
    assert flow.add(60 * MB, now + 30, RULES) is None
    assert flow.add(60 * MB, now + 61, RULES) is not None


def test_many_requests_are_told_too() -> None:
    rules = VolumeSettings(requests_floor=50, learn=0.0, windows=(60.0,))
    flow = new_flow(None, START, rules)
    found = [flow.add(100, START + number / 100, rules) for number in range(51)]
    assert found[:50] == [None] * 50
    assert found[50] == Excess("requests", 51.0, 0.0, 50.0, 60.0)


def test_a_longer_window_finds_what_is_spread_over_short_ones() -> None:
    rules = VolumeSettings(floor=20 * MB, learn=DAY, windows=(60.0, 600.0))
    flow = new_flow(None, START, rules)
    now = at_work(flow, 5, 3 * MB, rules, times=12)
    found = [flow.add(19 * MB, now + number * 61.0, rules) for number in range(9)]
    excess = next(each for each in found if each is not None)
    assert excess.window == 600.0


def test_without_history_and_without_peers_nothing_is_told() -> None:
    flow = new_flow(None, START, RULES)
    assert flow.add(1_000_000 * MB, START, RULES) is None
    for number in range(ENOUGH - 2):
        flow.add(1, START + DAY + number * 61.0, RULES)
    assert flow.add(1_000_000 * MB, START + 2 * DAY, RULES) is None, "long ago, and too few windows"


def test_a_newcomer_is_compared_with_everybody_at_the_route() -> None:
    everybody = new_flow(None, START, RULES)
    now = at_work(new_flow(everybody, START, RULES), 3, 5 * MB, RULES)
    newcomer = new_flow(everybody, now, RULES)
    excess = newcomer.add(60 * MB, now, RULES)
    assert excess is not None
    assert excess.peers


def test_a_burst_does_not_make_the_next_one_usual() -> None:
    flow, now = person()
    for minute in range(30):
        assert flow.add(110 * MB, now + minute * 61.0, RULES) is not None, minute


def test_history_rises_by_a_factor_a_day_at_most() -> None:
    flow, now = person()
    before = flow.levels[0].usual_sent.mean
    for number in range(600):
        flow.add(15 * MB, now + number * 61.0, RULES)  # always within what is not told
    assert flow.levels[0].usual_sent.mean <= GROWTH * before * 1.001


def test_slow_growth_of_everyday_work_is_never_told() -> None:
    flow, now = person()
    each = 5.0 * MB
    for day in range(60):
        each *= 1.05
        at_work(flow, 1, int(each), RULES, begin=now + day * DAY)


def test_a_clock_that_is_asked_twice_for_the_same_moment_closes_no_window() -> None:
    flow = new_flow(None, START, RULES)
    for _ in range(5):
        flow.add(10, START, RULES)
    assert flow.levels[0].usual_sent.count == 0
    assert flow.taken() == (50, 5)


@given(st.lists(st.integers(0, 20 * MB), min_size=1, max_size=200))
@settings(deadline=None)
def test_what_stays_under_the_floor_is_never_told(sizes: list[int]) -> None:
    rules = VolumeSettings(floor=20 * MB, learn=0.0, windows=(60.0,))
    flow = new_flow(None, START, rules)
    for number, size in enumerate(sizes):
        assert flow.add(size, START + number * 61.0, rules) is None


@given(st.lists(st.integers(0, 100 * MB), min_size=ENOUGH, max_size=100), st.floats(1.5, 20.0))
@settings(deadline=None)
def test_the_factor_times_the_largest_window_so_far_is_always_told(sizes: list[int], factor: float) -> None:
    rules = VolumeSettings(factor=max(factor, 3.0), floor=1, requests_floor=10**9, learn=DAY, windows=(60.0,))
    flow = new_flow(None, START, rules)
    for number, size in enumerate(sizes):
        flow.add(size, START + number * 61.0, rules)
    assert flow.add(int(rules.factor * max(sizes)) + 10, START + 2 * DAY, rules) is not None


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 10**6)), max_size=100))
@settings(deadline=None)
def test_a_baseline_is_never_negative_nor_above_what_was_seen(values: Iterable[tuple[int, float]]) -> None:
    baseline, largest = Baseline(), 0
    for value, later in values:
        baseline.learn(value, START + later, 1.0, settled=baseline.count >= ENOUGH)
        largest = max(largest, value)
        assert 0.0 <= baseline.mean <= largest * 1.000001
        assert baseline.variance >= 0.0
        assert baseline.most(10.0, 5.0) >= max(5.0, 10.0 * baseline.mean)


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.floats(0.0, 50.0)), max_size=60),
    st.lists(st.booleans(), min_size=60, max_size=60),
)
@settings(deadline=None)
def test_nothing_that_was_added_is_lost_between_tally_and_levels(
    steps: list[tuple[int, float]], looks: list[bool]
) -> None:
    rules = VolumeSettings(floor=10**9, learn=0.0, windows=(10_000.0, 20_000.0))
    flow, now, total = new_flow(None, START, rules), START, 0
    for (size, later), look in zip(steps, looks, strict=False):
        now += later
        flow.add(size, now, rules)
        total += size
        if look:
            flow.excess(now, rules)
        if now < START + 10_000.0:
            assert [level.sent + flow.taken()[0] for level in flow.levels] == [total, total]


# ---- first use ----

LEARN = 14 * DAY
VIEW, EXPORT = ("crm", "view"), ("crm", "export")


def somebody() -> Person:
    return Person(START, {VIEW: START + DAY})


def test_while_somebody_is_new_nothing_is_unusual() -> None:
    assert first_use(somebody(), EXPORT, START + LEARN - 1, LEARN, ()) is None


def test_a_habit_is_usual() -> None:
    assert first_use(somebody(), VIEW, START + LEARN, LEARN, ()) is None


def test_an_action_that_is_new_to_somebody_is_told() -> None:
    found = first_use(somebody(), EXPORT, START + LEARN, LEARN, ({VIEW: START},))
    assert found == FirstUse(new_route=False, usual=("crm:view",), peers=0)


def test_an_application_that_is_new_to_somebody_is_told_as_one() -> None:
    found = first_use(somebody(), ("payroll", ""), START + LEARN, LEARN, ())
    assert found is not None
    assert found.new_route


def test_what_enough_peers_use_is_usual_for_the_group() -> None:
    peers = [{EXPORT: START}] * PEERS
    assert first_use(somebody(), EXPORT, START + LEARN, LEARN, peers) is None
    found = first_use(somebody(), EXPORT, START + LEARN, LEARN, peers[1:])
    assert found is not None
    assert found.peers == PEERS - 1


uses = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "use", "export"]))


@given(st.sets(uses), uses, st.lists(st.sets(uses), max_size=4), uses)
def test_more_habits_and_more_peers_never_make_more_unusual(
    own: set[tuple[str, str]], use: tuple[str, str], peers: list[set[tuple[str, str]]], another: tuple[str, str]
) -> None:
    def told(mine: set[tuple[str, str]], others: list[set[tuple[str, str]]]) -> bool:
        who = Person(START, dict.fromkeys(mine, START))
        return first_use(who, use, START + LEARN, LEARN, [dict.fromkeys(each, START) for each in others]) is not None

    if not told(own, peers):
        assert not told(own | {another}, peers)
        assert not told(own, [*peers, {another}])
