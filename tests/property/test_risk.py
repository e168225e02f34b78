"""Whatever happens, risk stays in bounds, goes up with what is unusual, and history stays small."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.core.session import Principal, Risk, RiskLevel, Session
from zt_proxy.core.types import Origin
from zt_proxy.policy.geo import Place
from zt_proxy.policy.habits import CELLS, COUNTRIES, FAILURES, NETWORKS, NO_HISTORY, History
from zt_proxy.policy.risk import (
    WEIGHTS,
    Circumstances,
    RiskSettings,
    Signal,
    assess,
    level_of,
    of_request,
    renewed,
    signals,
)
from zt_proxy.policy.travel import Spot, apart

SETTINGS = RiskSettings()
LEVELS = st.sampled_from(RiskLevel)
SCORES = st.integers(0, 100)
TIMES = st.floats(1.0, 4e9)
PLACES = st.builds(
    Place,
    st.builds(
        Origin,
        st.just("192.0.2.1"),
        st.frozensets(st.sampled_from(["office", "home", "hosting", "vpn"])),
        st.none() | st.sampled_from(["DE", "FR", "BR", "US", "XX"]),
        st.none() | st.integers(1, 50),
    ),
)
FOUND = st.lists(st.builds(Signal, st.sampled_from(sorted(WEIGHTS)), st.integers(-100, 100)), max_size=12)
RISKS = st.builds(lambda found, level: assess(found, Risk(0, level), SETTINGS), FOUND, LEVELS)


@st.composite
def histories(draw: st.DrawFn) -> History:
    history = NO_HISTORY
    for at in draw(st.lists(TIMES, max_size=12)):
        if draw(st.booleans()):
            history = history.failed(at)
        else:
            history = history.after(draw(PLACES), at, egress=draw(st.booleans()))
    return history


@given(FOUND, st.none() | RISKS)
def test_a_score_is_between_0_and_100_and_says_why(found: list[Signal], before: Risk | None) -> None:
    risk = assess(found, before, SETTINGS)
    assert 0 <= risk.score <= 100
    assert len(risk.reasons) == len(found)


@given(SCORES, SCORES, LEVELS, LEVELS)
def test_more_score_or_a_higher_level_before_never_make_a_level_lower(
    one: int, other: int, before: RiskLevel, earlier: RiskLevel
) -> None:
    low, high = sorted((one, other))
    assert level_of(low, before, SETTINGS) <= level_of(high, before, SETTINGS)
    assert level_of(low, min(before, earlier), SETTINGS) <= level_of(low, max(before, earlier), SETTINGS)


@given(SCORES, LEVELS)
def test_a_level_that_was_reached_stays_while_the_score_does(score: int, before: RiskLevel) -> None:
    level = level_of(score, before, SETTINGS)
    assert level_of(score, level, SETTINGS) is level


@given(FOUND, FOUND, st.none() | RISKS)
def test_one_more_unusual_thing_never_lowers_the_level(
    found: list[Signal], more: list[Signal], before: Risk | None
) -> None:
    raising = [signal for signal in more if signal.weight > 0]
    assert assess(found, before, SETTINGS).level <= assess([*found, *raising], before, SETTINGS).level


@given(RISKS, st.integers(0, 30))
def test_renewing_twice_is_renewing_once(risk: Risk, failures: int) -> None:
    once = renewed(risk, failures, SETTINGS)
    assert renewed(once, failures, SETTINGS) == once


@given(histories(), PLACES, TIMES, st.none() | st.booleans(), st.integers(0, 99))
def test_every_sign_in_can_be_assessed(
    history: History, place: Place, now: float, device_known: bool | None, failures: int
) -> None:
    seen = Circumstances(now, place, device_known, history, failures)
    found = signals(seen, SETTINGS)
    assert len({signal.name for signal in found}) == len(found)
    risk = assess(found, None, SETTINGS)
    assert device_known is not False or any(reason.startswith("new-device") for reason in risk.reasons)


@given(RISKS, PLACES, PLACES, st.sampled_from(["", "mark", "other"]), st.floats(-10.0, 1e6))
def test_a_request_never_looks_better_than_its_sign_in(
    base: Risk, before: Place, now: Place, agent: str, seconds: float
) -> None:
    at = msgspec.structs.replace(now.origin, address="198.51.100.1")
    session = Session(
        "s", "h", Principal("a", "i", "p"), "", (), True, 0.0, 0.0, 0.0, 900.0, 9e9,
        address="192.0.2.1", agent="mark", risk=base,
    )  # fmt: skip
    risk = of_request(session, at, agent, seconds, SETTINGS, lambda _: before.origin)
    assert risk is not None
    assert risk.score >= base.score
    assert risk.level >= base.level
    assert risk.reasons[: len(base.reasons)] == base.reasons
    if agent == "mark" and before.origin.country == at.country and before.origin.zones == at.zones:
        assert risk is base


@given(histories(), PLACES)
def test_a_place_that_is_forgotten_is_nowhere_in_the_history(history: History, place: Place) -> None:
    left = history.without(place.origin)
    assert place.origin.country not in left.countries
    assert place.origin.asn not in left.networks
    assert left.hours == history.hours


@given(histories())
def test_history_stays_small_and_survives_being_stored(history: History) -> None:
    assert len(history.countries) <= COUNTRIES
    assert len(history.networks) <= NETWORKS
    assert len(history.failures) <= FAILURES
    assert len(history.hours.cells) == CELLS
    stored = msgspec.msgpack.encode(history)
    assert len(stored) < 4096
    assert msgspec.msgpack.decode(stored, type=History) == history


@given(
    st.sampled_from(["DE", "FR", "BR", "RU", "FJ", "KI"]),
    st.sampled_from(["DE", "FR", "BR", "RU", "FJ", "KI"]),
)
def test_distance_is_the_same_both_ways_and_nothing_at_home(one: str, other: str) -> None:
    assert apart(Spot(one), Spot(other)) == apart(Spot(other), Spot(one)) >= 0.0
    assert apart(Spot(one), Spot(one)) == 0.0
