"""Each signal of risk, the score and level they make, and what a single request adds."""

import pytest

from zt_proxy.core.session import Principal, Risk, RiskLevel, Session
from zt_proxy.core.types import Origin
from zt_proxy.policy.geo import Place
from zt_proxy.policy.habits import DAY, ENOUGH, HOUR, NO_HISTORY, History
from zt_proxy.policy.risk import (
    Circumstances,
    RiskSettings,
    Signal,
    agent_mark,
    assess,
    level_of,
    of_request,
    renewed,
    signals,
)
from zt_proxy.policy.travel import COUNTRIES, Spot, apart, great_circle

NOW = 1_800_000_000.0  # a Friday, 8:00 UTC
SETTINGS = RiskSettings()
BERLIN, PARIS, SAO_PAULO = (52.5, 13.4), (48.9, 2.3), (-23.5, -46.6)


def place(
    country: str | None = "DE",
    *zones: str,
    asn: int | None = None,
    at: tuple[float, float] | None = None,
    address: str = "81.2.69.1",
) -> Place:
    return Place(Origin(address, frozenset(zones), country, asn), *(at or (None, None)))


def known(where: Place | None = None, *, ago: float = DAY, times: int = 1) -> History:
    """Somebody who has signed in before."""
    history = NO_HISTORY
    for number in range(times):
        history = history.after(where or place(), NOW - ago - (times - 1 - number) * 7 * DAY, egress=False)
    return history


def found(settings: RiskSettings = SETTINGS, **seen: object) -> tuple[str, ...]:
    values: dict[str, object] = {"now": NOW, "place": place(), "device_known": True, "history": known()}
    circumstances = Circumstances(**{**values, **seen})  # type: ignore[arg-type]
    return tuple(signal.reason for signal in signals(circumstances, settings))


def test_a_sign_in_like_those_before_has_nothing_unusual() -> None:
    assert found() == ()


def test_the_first_sign_in_of_a_person_has_a_new_device_and_nothing_else() -> None:
    assert found(device_known=False, history=NO_HISTORY, place=place("BR", asn=1)) == ("new-device+25",)


@pytest.mark.parametrize(("device_known", "reasons"), [(True, ()), (False, ("new-device+25",)), (None, ())])
def test_a_device_is_new_only_if_somebody_looked(device_known: bool | None, reasons: tuple[str, ...]) -> None:
    assert found(device_known=device_known) == reasons


@pytest.mark.parametrize(("country", "reasons"), [("DE", ()), (None, ()), ("FR", ("new-country+25",))])
def test_a_country_is_new_if_the_person_was_never_there(country: str | None, reasons: tuple[str, ...]) -> None:
    assert found(place=place(country)) == reasons


def test_a_country_that_the_person_has_been_to_is_not_new() -> None:
    history = known(place("FR"), ago=9 * DAY).after(place("DE"), NOW - DAY, egress=False)
    assert found(place=place("FR"), history=history) == ()


def test_the_first_known_country_of_somebody_who_was_always_inside_is_new() -> None:
    assert found(place=place("DE"), history=known(place(None))) == ("new-country+25",)


def test_nobody_gets_from_germany_to_brazil_in_an_hour() -> None:
    assert found(place=place("BR"), history=known(ago=HOUR)) == ("new-country+25", "impossible-travel+40")
    assert found(place=place("BR"), history=known(ago=DAY)) == ("new-country+25",)


def test_neighbours_are_no_distance_apart() -> None:
    assert found(place=place("PL"), history=known(ago=60.0)) == ("new-country+25",)


def test_coordinates_tell_a_journey_inside_a_country() -> None:
    west, east = (37.8, -122.4), (40.7, -74.0)
    history = known(place("US", at=west), ago=HOUR)
    assert found(place=place("US", at=east), history=history) == ("impossible-travel+40",)
    assert found(place=place("US", at=east), history=known(place("US", at=west), ago=6 * HOUR)) == ()
    assert found(place=place("US"), history=history) == ()


def test_a_network_that_the_person_has_used_may_be_anywhere() -> None:
    history = known(place("DE", asn=64500), ago=HOUR)
    assert found(place=place("BR", asn=64500), history=history) == ("new-country+25",)
    assert "impossible-travel+40" in found(place=place("BR", asn=64501), history=history)


def test_who_comes_by_the_companys_exit_may_be_anywhere() -> None:
    settings = RiskSettings(egress=frozenset({"vpn"}))
    history = known(ago=HOUR)
    assert found(settings, place=place("BR", "vpn"), history=history) == ()
    after = history.after(place("BR", "vpn"), NOW - 60.0, egress=True)
    assert after.visit == history.visit
    assert "BR" not in after.countries
    assert found(settings, place=place("DE"), history=after) == ()


@pytest.mark.parametrize(
    ("zones", "reasons"),
    [
        ((), ()),
        (("home",), ()),
        (("office",), ("network-office-20",)),
        (("hosting",), ("network-hosting+20",)),
        (("office", "hosting"), ("network-hosting+20",)),
        (("tor",), ("network-tor+50",)),
    ],
)
def test_networks_count_as_the_operator_rates_them(zones: tuple[str, ...], reasons: tuple[str, ...]) -> None:
    settings = RiskSettings(networks={**SETTINGS.networks, "tor": 50})
    assert found(settings, place=place("DE", *zones)) == reasons


def test_an_hour_is_unusual_once_enough_is_known() -> None:
    night = NOW - 5 * HOUR
    assert found(now=night, history=known(times=int(ENOUGH) // 2)) == ()
    assert found(now=night, history=known(times=4 * int(ENOUGH))) == ("unusual-hour+10",)
    assert found(now=NOW + HOUR, history=known(times=4 * int(ENOUGH))) == ()


def test_habits_fade() -> None:
    hours = known(times=4 * int(ENOUGH)).hours
    assert hours.unusual(NOW - 5 * HOUR)
    assert not hours.unusual(NOW + 700 * DAY - 5 * HOUR)


@pytest.mark.parametrize(
    ("failures", "reasons"),
    [(0, ()), (1, ()), (2, ("failed-attempts+8",)), (5, ("failed-attempts+20",)), (99, ("failed-attempts+20",))],
)
def test_one_wrong_code_is_a_slip_and_more_are_not(failures: int, reasons: tuple[str, ...]) -> None:
    assert found(failures=failures) == reasons


def test_failed_attempts_are_forgotten_after_an_hour() -> None:
    history = NO_HISTORY.failed(NOW).failed(NOW + 60.0)
    assert [history.failures_by(NOW + at) for at in (60.0, HOUR + 30.0, HOUR + 90.0)] == [2, 1, 0]


def test_an_account_that_nobody_used_for_long_is_dormant() -> None:
    assert found(history=known(ago=89 * DAY)) == ()
    assert found(history=known(ago=91 * DAY)) == ("dormant+20",)


def test_a_weight_of_nothing_switches_a_signal_off() -> None:
    settings = RiskSettings(weights={**SETTINGS.weights, "new-device": 0})
    assert found(settings, device_known=False) == ()


def test_a_known_device_in_the_office_is_low_and_a_new_one_abroad_is_not() -> None:
    office = Circumstances(NOW, place("DE", "office"), True, known())
    assert assess(signals(office, SETTINGS), None, SETTINGS) == Risk(0, RiskLevel.LOW, ("network-office-20",))
    abroad = Circumstances(NOW, place("FR"), False, known())
    assert assess(signals(abroad, SETTINGS), None, SETTINGS) == Risk(
        50, RiskLevel.MEDIUM, ("new-device+25", "new-country+25")
    )
    far = Circumstances(NOW, place("BR"), False, known(ago=HOUR))
    assert assess(signals(far, SETTINGS), None, SETTINGS).level is RiskLevel.HIGH


@pytest.mark.parametrize(
    ("before", "score", "after"),
    [
        ("LOW", 29, "LOW"),
        ("LOW", 30, "MEDIUM"),
        ("LOW", 60, "HIGH"),
        ("MEDIUM", 21, "MEDIUM"),
        ("MEDIUM", 20, "LOW"),
        ("MEDIUM", 59, "MEDIUM"),
        ("HIGH", 51, "HIGH"),
        ("HIGH", 50, "MEDIUM"),
        ("HIGH", 21, "MEDIUM"),
        ("HIGH", 20, "LOW"),
    ],
)
def test_a_level_goes_up_at_once_and_comes_down_late(before: str, score: int, after: str) -> None:
    assert level_of(score, RiskLevel[before], SETTINGS) is RiskLevel[after]


def test_a_renewed_assessment_keeps_what_was_unusual_and_counts_failures_anew() -> None:
    before = assess([Signal("new-device", 25)], None, SETTINGS)
    worse = renewed(before, 5, SETTINGS)
    assert worse == Risk(45, RiskLevel.MEDIUM, ("new-device+25", "failed-attempts+20"))
    assert renewed(worse, 5, SETTINGS) is worse
    assert renewed(worse, 0, SETTINGS) == Risk(25, RiskLevel.MEDIUM, ("new-device+25",))


# ---- one request


BASE = Risk(10, RiskLevel.LOW, ("unusual-hour+10",))
AGENT = agent_mark(b"Mozilla/5.0")
HOME = Origin("81.2.69.1", frozenset({"home"}), "DE", 64500)


def session(risk: Risk | None = BASE, **fields: object) -> Session:
    values: dict[str, object] = {
        "sid": "s", "host": "app.test", "principal": Principal("alice", "https://idp.test", "corp"), "acr": "",
        "amr": (), "mfa": True, "auth_time": NOW - HOUR, "created": NOW - HOUR, "last_activity": NOW,
        "idle_timeout": HOUR, "absolute_deadline": NOW + DAY, "address": HOME.address, "agent": AGENT, "risk": risk,
    }  # fmt: skip
    return Session(**{**values, **fields})  # type: ignore[arg-type]


def request(
    origin: Origin, agent: str = AGENT, settings: RiskSettings = SETTINGS, who: Session | None = None
) -> Risk | None:
    return of_request(who or session(), origin, agent, NOW, settings, {HOME.address: HOME}.__getitem__)


def test_a_request_like_the_sign_in_has_the_sessions_very_own_risk() -> None:
    assert request(HOME) is BASE


def test_nobody_knows_the_risk_of_a_request_if_nobody_assessed_the_session() -> None:
    assert request(Origin("8.8.8.8", frozenset(), "US"), who=session(None)) is None


@pytest.mark.parametrize(
    "origin",
    [
        Origin("81.2.69.9", frozenset(), "DE", 1),
        Origin("8.8.8.8", frozenset(), "US", 64500),
        Origin("8.8.8.8", frozenset({"home"}), "US", 1),
    ],
)
def test_another_address_in_the_same_country_network_or_zone_says_nothing(origin: Origin) -> None:
    assert request(origin) is BASE


def test_an_address_elsewhere_counts_and_a_journey_too_fast_counts_more() -> None:
    assert request(Origin("1.1.1.1", frozenset(), "PL", 1)) == Risk(
        25, RiskLevel.LOW, ("unusual-hour+10", "address-changed+15")
    )
    assert request(Origin("1.1.1.1", frozenset(), "BR", 1)) == Risk(
        65, RiskLevel.HIGH, ("unusual-hour+10", "address-changed+15", "impossible-travel+40")
    )


def test_from_a_known_country_to_nowhere_is_elsewhere() -> None:
    assert "address-changed+15" in request(Origin("10.0.0.1")).reasons  # type: ignore[union-attr]


def test_a_session_that_moves_to_a_hosting_provider_counts_what_that_is_worse() -> None:
    risk = request(Origin("81.2.69.9", frozenset({"hosting"}), "DE", 1))
    assert risk == Risk(30, RiskLevel.MEDIUM, ("unusual-hour+10", "network-hosting+20"))


def test_moving_by_the_companys_exit_says_nothing() -> None:
    settings = RiskSettings(egress=frozenset({"vpn"}))
    assert request(Origin("1.1.1.1", frozenset({"vpn"}), "BR", 1), settings=settings) is BASE


def test_another_browser_counts() -> None:
    assert request(HOME, agent_mark(b"curl/8")) == Risk(35, RiskLevel.MEDIUM, ("unusual-hour+10", "agent-changed+25"))
    assert request(HOME, agent_mark(b"")) == Risk(35, RiskLevel.MEDIUM, ("unusual-hour+10", "agent-changed+25"))


def test_a_session_of_before_that_knows_neither_is_compared_with_nothing() -> None:
    assert request(Origin("1.1.1.1", frozenset(), "BR", 1), "other", who=session(address="", agent="")) is BASE


def test_a_medium_session_stays_medium_in_a_request_that_adds_nothing_much() -> None:
    risk = Risk(25, RiskLevel.MEDIUM, ())
    moved = request(Origin("1.1.1.1", frozenset(), "PL", 1), who=session(risk))
    assert moved == Risk(40, RiskLevel.MEDIUM, ("address-changed+15",))


# ---- distances


def test_great_circles_are_those_of_the_earth() -> None:
    assert great_circle(BERLIN, PARIS) == pytest.approx(880, abs=15)
    assert great_circle(BERLIN, SAO_PAULO) == pytest.approx(10_240, abs=60)
    assert great_circle((0.0, 179.0), (0.0, -179.0)) == pytest.approx(222, abs=2)


def test_countries_are_apart_by_their_nearest_parts() -> None:
    assert apart(Spot("DE"), Spot("AT")) == 0.0
    assert apart(Spot("DE"), Spot("US")) < great_circle((50.0, 8.6), (40.7, -74.0))
    assert apart(Spot("DE"), Spot("??")) == apart(Spot(None), Spot("DE")) == 0.0
    assert apart(Spot("DE", *BERLIN), Spot("BR")) > 5_000


def test_every_country_has_a_place_on_earth() -> None:
    assert len(COUNTRIES) > 240
    for code, (latitude, longitude, radius) in COUNTRIES.items():
        assert len(code) == 2, code
        assert -90 <= latitude <= 90, code
        assert -180 <= longitude <= 180.5, code
        assert 0 < radius <= 4000, code
