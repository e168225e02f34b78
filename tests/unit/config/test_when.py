"""Conditions: what each key means to the policy, and what is seen of those that can never, or only, be met."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_proxy.config import load_text, logic
from zt_proxy.config.build_when import KEYS, READERS, condition, days
from zt_proxy.config.countries import CODES
from zt_proxy.core.session import Principal, Risk, RiskLevel
from zt_proxy.core.types import Act, Action, Change, Facts, Origin
from zt_proxy.policy.conditions import Vocabulary, compile_condition
from zt_proxy.policy.spec import All, Any, Cel, Condition, Hours, Named, Not, RouteRules
from zt_proxy.policy.spec import Test as Compare

from .examples import PLAIN
from .test_check import said, swap

HEALTH = "to: public}"
LEVELS = "networks: {office: [192.0.2.0/24]}\naccess_levels: {inside: {network: office}}\n"


def read(when: str) -> Condition:
    """What the policy reads of a condition that stands in a rule."""
    text = PLAIN.replace(HEALTH, f"to: public, when: {when}}}") + LEVELS
    loaded = load_text(text, Path("/nonexistent/zt-proxy.yaml"))
    assert loaded.problems == ()
    assert loaded.schema is not None
    written = loaded.schema.routes[0].rules[3].when
    assert written is not None
    return condition(written, loaded.schema.access_levels)


@pytest.mark.parametrize(
    ("when", "meant"),
    [
        ("{user: ann@example.com}", Compare("user", "in", ("ann@example.com",))),
        ('{user: "*@example.com"}', Compare("user", "like", ("*@example.com",))),
        ("{group: [staff, makers]}", Compare("group", "in", ("staff", "makers"))),
        ("{role: releaser}", Compare("role", "in", ("releaser",))),
        ("{claim: {team: [a, b]}}", Compare("claim:team", "in", ("a", "b"))),
        (
            "{claim: {team: a, cost: b}}",
            All((Compare("claim:team", "in", ("a",)), Compare("claim:cost", "in", ("b",)))),
        ),
        ("{department: ops}", Compare("department", "in", ("ops",))),
        ("{location: Berlin}", Compare("location", "in", ("Berlin",))),
        ("{network: office}", Compare("network", "in", ("office",))),
        ("{country: [DE, NO]}", Compare("country", "in", ("DE", "NO"))),
        ("{asn: [3320, AS64496]}", Compare("asn", "in", (3320, 64496))),
        ("{time: {zone: UTC}}", Hours((0, 1, 2, 3, 4, 5, 6), 0, 1440, "UTC")),
        (
            '{time: {days: [mon-wed, sun], from: "22:00", to: "06:30", zone: Europe/Berlin}}',
            Hours((0, 1, 2, 6), 1320, 390, "Europe/Berlin"),
        ),
        ("{device_known: true}", Compare("device_known", "is", (True,))),
        ("{level: multi}", Compare("level", "at_least", ("multi",))),
        ("{auth_age: {at_most: 8h}}", Compare("auth_age", "at_most", (28_800.0,))),
        ("{provider: corp}", Compare("provider", "in", ("corp",))),
        ("{risk: {at_most: medium}}", Compare("risk", "at_most", ("medium",))),
        ("{sensitivity: {at_least: confidential}}", Compare("sensitivity", "at_least", ("confidential",))),
        ("{clearance: sufficient}", Compare("clearance", "is", (True,))),
        ("{owner: self}", Compare("owner", "is", (True,))),
        ("{method: [PUT, POST]}", Compare("method", "in", ("PUT", "POST"))),
        ("{path: /flows/**}", Compare("path", "fits", ("/flows/**",))),
        ("{header: {X-Reason: [a]}}", Compare("header:x-reason", "in", ("a",))),
        ('{header: {X-Reason: [a, "b*"]}}', Compare("header:x-reason", "like", ("a", "b*"))),
        ('{action: [deploy, "manage-*"]}', Compare("action", "in", ("deploy", "manage-access", "manage-integrations"))),
        ('{object: "flow:*"}', Compare("object", "like", ("flow:*",))),
        ("{changes: deployment}", Compare("changes", "in", ("deployment",))),
        ('{cel: "true"}', Cel("true")),
        ("{access_level: inside}", Named("inside", Compare("network", "in", ("office",)))),
        ("{not: {country: DE}}", Not(Compare("country", "in", ("DE",)))),
        ("{all: [{country: DE}]}", All((Compare("country", "in", ("DE",)),))),
        ("{any: [{country: DE}]}", Any((Compare("country", "in", ("DE",)),))),
        (
            "{country: DE, device_known: false}",
            All((Compare("country", "in", ("DE",)), Compare("device_known", "is", (False,)))),
        ),
    ],
)
def test_each_key_means_one_comparison(when: str, meant: Condition) -> None:
    assert read(when) == meant


@pytest.mark.parametrize(("email", "verdict"), [("ann@example.com", True), ("ann@example.net", False), (None, None)])
def test_a_pattern_of_addresses_leaves_open_whom_nobody_vouches_for(email: str | None, verdict: bool | None) -> None:
    node = compile_condition(read('{user: "*@example.com"}'), Vocabulary(RouteRules("builder", ())))
    who = Principal("4711", "https://sso.example.com", "corp", email=email)
    assert node.ask(Facts(0.0, "builder", b"GET", b"/", "192.0.2.1", who, None)) is verdict


def test_every_key_has_a_function() -> None:
    assert set(READERS) == set(KEYS)


def test_days_go_over_the_end_of_the_week() -> None:
    assert days(["fri-mon"]) == (0, 4, 5, 6)
    assert days(["Mon", "mon-tue"]) == (0, 1)


def test_the_list_of_countries_is_that_of_iso_3166_and_kosovo() -> None:
    assert len(CODES) == 250
    assert all(len(code) == 2 and code.isupper() for code in CODES)


def test_an_expression_that_cannot_be_read_is_told_where_it_stands(place: Path) -> None:
    told = said(place, swap(("to: anyone-signed-in,", 'to: anyone-signed-in, when: {cel: "groups.exists("},')))
    assert len(told) == 1
    assert told[0].startswith("error: `cel`: ")
    assert "Syntax error" in told[0]


def test_what_must_be_known_of_strangers_is_an_error_also_within_an_access_level(place: Path) -> None:
    text = swap((HEALTH, "to: public, when: {access_level: known}}"))
    assert said(place, text + "access_levels: {known: {device_known: true}}\n") == [
        "error: an access level that asks for `device_known` on a rule for `public`: of strangers it is never known"
    ]


# ---- what is told of conditions is true of how they are judged ----

_KNOWN = {
    "country": ("DE", "FR", "IT"),
    "risk": ("low", "medium", "high"),
    "device_known": (True, False),
    "action": ("view", "export"),
    "changes": ("access-control", "integration", "data-handling", "deployment"),
}


def comparisons() -> st.SearchStrategy[Condition]:
    listed = st.sampled_from(["country", "action", "changes"]).flatmap(
        lambda fact: st.lists(st.sampled_from(_KNOWN[fact]), min_size=1, max_size=4, unique=True).map(
            lambda values: Compare(fact, "in", tuple(values))
        )
    )
    risk = st.builds(
        lambda op, value: Compare("risk", op, (value,)),
        st.sampled_from(["at_least", "at_most"]),
        st.sampled_from(_KNOWN["risk"]),
    )
    device = st.booleans().map(lambda value: Compare("device_known", "is", (value,)))
    hours = st.builds(
        lambda found, start, length: Hours(tuple(sorted(found)), start, (start + length) % 1440, "UTC"),
        st.sets(st.integers(0, 6), min_size=1),
        st.sampled_from([0, 480, 1320]),
        st.sampled_from([60, 600, 1000]),
    )
    return st.one_of(listed, risk, device, hours)


CONDITIONS = st.recursive(
    comparisons(),
    lambda below: st.one_of(
        st.lists(below, min_size=1, max_size=3).map(lambda items: All(tuple(items))),
        st.lists(below, min_size=1, max_size=3).map(lambda items: Any(tuple(items))),
        below.map(Not),
        below.map(lambda item: Named("level", item)),
    ),
    max_leaves=6,
)
FACTS = st.builds(
    lambda now, country, level, device, act: Facts(
        now=now,
        route="builder",
        method=b"GET",
        path=b"/",
        client="192.0.2.1",
        principal=None,
        session=None,
        act=act,
        origin=Origin("192.0.2.1", country=country),
        risk=Risk(0, level),
    ),
    st.integers(1_800_000_000, 1_800_000_000 + 7 * 86_400),
    st.sampled_from([*_KNOWN["country"], "US", None]),
    st.sampled_from(RiskLevel),
    st.booleans(),
    st.sampled_from([Act(), Act(Action.VIEW), Act(Action.EXPORT, changes=Change.DEPLOYMENT)]),
)


@settings(max_examples=300, deadline=None)
@given(CONDITIONS, st.lists(FACTS, min_size=1, max_size=8))
def test_what_is_called_never_met_or_always_met_is(asked: Condition, many: list[Facts]) -> None:
    node = compile_condition(asked, Vocabulary(RouteRules("builder", ())))
    verdicts = {node.ask(facts) for facts in many}
    assert not (logic.never(asked) and True in verdicts)
    assert not (logic.always(asked) and False in verdicts)


def test_a_condition_with_too_many_combinations_is_left_alone() -> None:
    either = Any(tuple(Compare("country", "in", (code,)) for code in ("DE", "FR", "IT", "ES")))
    both = All((either,) * 12)
    assert not logic.never(both)
    assert not logic.always(Not(both))


def test_zones_are_not_compared_with_each_other() -> None:
    assert ZoneInfo("Asia/Tokyo") != ZoneInfo("UTC")
    day, night = Hours((0,), 0, 720, "UTC"), Hours((0,), 720, 1440, "UTC")
    assert logic.never(All((day, night)))
    assert not logic.never(All((day, Hours((0,), 720, 1440, "Asia/Tokyo"))))
