"""What each condition says: yes, no, or that it is not known."""

import subprocess
import sys
from datetime import datetime
from typing import Any as Anything
from zoneinfo import ZoneInfo

import msgspec
import pytest

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.session import Level, Principal, Risk, RiskLevel, Session
from zt_proxy.core.types import Act, Action, Change, Facts, Origin, Sensitivity
from zt_proxy.policy import spec
from zt_proxy.policy.conditions import Vocabulary, compile_condition
from zt_proxy.policy.spec import All, Any, Cel, Condition, Hours, Named, Not, RoleSpec, RouteRules
from zt_proxy.policy.templates import wildcards

NOW = 1_800_000_000.0
BERLIN = ZoneInfo("Europe/Berlin")
replace = msgspec.structs.replace
ALICE = Principal(
    "alice", "https://idp", "corp", email="alice@ex", groups=frozenset({"staff"}), roles=frozenset({"dev"}),
    claims={"dept": "ops", "location": ("berlin", "office"), "clearance": "internal", "grade": 7, "active": True,
            "preferred_username": "al"},
)  # fmt: skip
BARE = Principal("bob", "https://idp", "corp")
ROUTE = RouteRules(
    "app",
    (),
    roles=(
        RoleSpec("releaser", users=("carol",), groups=("leads",)),
        RoleSpec("ops", when=spec.Test("department", "in", ("ops",))),
    ),
    attributes={"department": "dept"},
)


def person(principal: Principal | None = ALICE, **more: Anything) -> Facts:
    session = None
    if principal is not None:
        session = Session(
            "s", "app.ex", principal, "", (), True, NOW - 600, NOW - 600, NOW, 1800.0, NOW + 3600, Level.MULTI,
            device_known=True,
        )  # fmt: skip
    values: dict[str, Anything] = {
        "act": Act(Action.DEPLOY, "flow", "orders", Sensitivity.INTERNAL, Change.DEPLOYMENT, owner="al"),
        "origin": Origin("192.0.2.1", frozenset({"office"}), "DE", 64500),
        "risk": Risk(45, RiskLevel.MEDIUM),
        "headers": {"x-tenant": "a", "x-gone": None},
    }
    return Facts(NOW, "app", b"POST", b"/flows/7", "192.0.2.1", principal, session, **(values | more))


NOTHING = person(None, act=Act(), origin=None, risk=None, headers={})
"""A stranger, of whom and of whose request nothing is known but what every request has."""


def ask(condition: Condition, facts: Facts) -> bool | None:
    return compile_condition(condition, Vocabulary(ROUTE)).ask(facts)


def missing(condition: Condition, facts: Facts) -> set[str]:
    return compile_condition(condition, Vocabulary(ROUTE)).missing(facts)


def holds(fact: str, op: str, *values: Anything) -> spec.Test:
    return spec.Test(fact, op, values)


@pytest.mark.parametrize(
    ("met", "unmet"),
    [
        (holds("user", "in", "alice"), holds("user", "in", "bob")),
        (holds("user", "is", "alice@ex"), holds("user", "in", "eve@ex")),
        (holds("group", "in", "x", "staff"), holds("group", "in", "x")),
        (holds("role", "in", "dev"), holds("role", "in", "releaser")),
        (holds("role", "is", "ops"), holds("role", "in", "other")),
        (holds("department", "in", "ops"), holds("department", "in", "sales")),
        (holds("location", "in", "office"), holds("location", "in", "paris")),
        (holds("clearance", "in", "internal"), holds("clearance", "in", "restricted")),
        (holds("claim:grade", "in", 7), holds("claim:grade", "in", "8")),
        (holds("claim:grade", "at_least", 7), holds("claim:grade", "at_most", 6.5)),
        (holds("claim:active", "is", True), holds("claim:active", "is", False)),
        (holds("claim:dept", "like", "o*s"), holds("claim:dept", "like", "*x*")),
        (holds("network", "in", "office"), holds("network", "in", "hosting")),
        (holds("country", "in", "de"), holds("country", "in", "FR")),
        (holds("asn", "in", 64500), holds("asn", "in", "AS1")),
        (holds("device_known", "is", True), holds("device_known", "is", False)),
        (holds("level", "at_least", "multi"), holds("level", "at_least", "phishing-resistant")),
        (holds("level", "in", "single"), holds("level", "in", "phishing-resistant")),
        (holds("auth_age", "at_most", 600), holds("auth_age", "at_most", 599)),
        (holds("auth_age", "at_least", 600), holds("auth_age", "at_least", 601)),
        (holds("provider", "in", "corp"), holds("provider", "in", "partner")),
        (holds("risk", "at_most", "medium"), holds("risk", "at_most", "low")),
        (holds("risk", "at_least", "medium"), holds("risk", "in", "high")),
        (holds("sensitivity", "at_most", "internal"), holds("sensitivity", "at_most", "public")),
        (holds("clearance", "is", True), holds("clearance", "is", False)),
        (holds("owner", "is", True), holds("owner", "is", False)),
        (holds("method", "in", "POST"), holds("method", "in", "post")),
        (holds("path", "fits", "/flows/*"), holds("path", "fits", "/flows")),
        (holds("action", "in", "deploy"), holds("action", "in", "build")),
        (holds("action", "like", "dep*"), holds("action", "like", "manage-*")),
        (holds("object", "in", "flow:orders"), holds("object", "in", "flow:order")),
        (holds("object", "like", "flow:*"), holds("object", "like", "app:*")),
        (holds("changes", "in", "deployment"), holds("changes", "in", "integration")),
        (holds("header:X-Tenant", "in", "a"), holds("header:x-tenant", "in", "b")),
        (Not(holds("header:x-gone", "in", "a")), holds("header:x-gone", "like", "*")),
        (Cel('"staff" in groups && country == "DE"'), Cel("risk > 50")),
        (Named("x", holds("country", "in", "DE")), Named("x", holds("country", "in", "FR"))),
    ],
)
def test_a_condition_is_met_or_not_and_says_so_in_a_trace(met: Condition, unmet: Condition) -> None:
    facts = person()
    assert ask(met, facts) is True
    assert ask(unmet, facts) is False
    assert ask(Not(met), facts) is False
    assert missing(met, facts) == missing(unmet, facts) == set()
    for condition in (met, unmet):
        node = compile_condition(condition, Vocabulary(ROUTE))
        assert node.label
        assert node.actual(facts) or node.children


@pytest.mark.parametrize(
    "condition",
    [
        holds("user", "in", "alice"), holds("group", "in", "staff"), holds("role", "in", "dev"),
        holds("department", "in", "ops"), holds("claim:grade", "at_least", 1), holds("claim:grade", "in", 1),
        holds("network", "in", "office"), holds("country", "in", "DE"), holds("asn", "in", 1),
        holds("device_known", "is", True), holds("level", "at_least", "multi"), holds("auth_age", "at_most", 1),
        holds("provider", "in", "corp"), holds("risk", "at_most", "low"), holds("sensitivity", "at_most", "public"),
        holds("action", "in", "view"), holds("object", "like", "flow:*"), holds("changes", "in", "deployment"),
        holds("header:x-tenant", "in", "a"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_neither_and_is_named(condition: spec.Test) -> None:
    assert ask(condition, NOTHING) is None
    assert ask(Not(condition), NOTHING) is None
    assert missing(condition, NOTHING) == {condition.fact if condition.fact != "role" else "user"}


def test_clearance_and_owner_name_what_they_lack() -> None:
    clearance, owner = holds("clearance", "is", True), holds("owner", "is", True)
    assert missing(clearance, person(BARE)) == {"clearance"}
    assert missing(clearance, person(act=Act(Action.VIEW))) == {"sensitivity"}
    odd = replace(ALICE, claims={"clearance": "cosmic"})
    assert ask(clearance, person(odd)) is None
    assert ask(clearance, person(act=Act(Action.VIEW, sensitivity=Sensitivity.RESTRICTED))) is False
    assert missing(owner, person(act=Act(Action.VIEW))) == {"owner"}
    assert missing(owner, person(None)) == {"user"}
    assert ask(owner, person(BARE)) is False


def test_an_address_that_is_not_verified_leaves_open_whose_it_is() -> None:
    condition = holds("user", "in", "alice@ex")
    assert ask(condition, person(BARE)) is None
    assert missing(condition, person(BARE)) == {"user"}
    assert ask(holds("user", "in", "alice"), person(BARE)) is False


def test_a_request_that_is_understood_and_names_nothing_names_nothing() -> None:
    facts = person(act=Act(Action.VIEW))
    assert ask(holds("object", "like", "*"), facts) is False
    assert ask(holds("changes", "in", "deployment"), facts) is False


def test_a_path_that_only_a_careless_platform_reads_so_is_neither() -> None:
    condition = holds("path", "fits", "/admin/**")
    for path in (b"/%61dmin/x", b"//admin/x", b"/admin;v=1/x"):
        facts = replace(person(), path=path)
        assert ask(condition, facts) is None
        assert missing(condition, facts) == {"path"}
    assert ask(condition, replace(person(), path=b"/other%20")) is False


def test_a_proof_from_the_future_has_no_age() -> None:
    facts = replace(person(), now=NOW - 700)
    assert ask(holds("auth_age", "at_most", 600), facts) is None
    assert ask(holds("auth_age", "at_most", 600), replace(person(), now=NOW - 620)) is True


YES, NO, OPEN = holds("country", "in", "DE"), holds("country", "in", "FR"), holds("claim:none", "in", "1")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (All((YES, YES)), True), (All((YES, OPEN)), None), (All((OPEN, NO)), False), (All((NO, OPEN)), False),
        (Any((NO, NO)), False), (Any((OPEN, YES)), True), (Any((YES, OPEN)), True), (Any((NO, OPEN)), None),
        (Not(All((YES, OPEN))), None), (Not(Any((OPEN, YES))), False), (Not(Not(OPEN)), None), (Not(NO), True),
    ],
)  # fmt: skip
def test_all_any_and_not_are_kleenes(condition: Condition, said: bool | None) -> None:
    assert ask(condition, person()) is said
    assert missing(condition, person()) == ({"claim:none"} if said is None else set())


def local(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        (Hours((0, 1, 2, 3, 4), 480, 1080, "Europe/Berlin"),
         ["2026-11-23T08:00:00", "2026-11-27T17:59:59"],
         ["2026-11-23T07:59:59", "2026-11-23T18:00:00", "2026-11-28T12:00:00"]),
        (Hours((4,), 1320, 360, "Europe/Berlin"),
         ["2026-11-27T22:00:00", "2026-11-28T05:59:59"],
         ["2026-11-27T05:00:00", "2026-11-28T06:00:00", "2026-11-28T22:00:00", "2026-11-26T23:00:00"]),
        (Hours((6,), 0, 1440, "Europe/Berlin"), ["2026-11-29T00:00:00", "2026-11-29T23:59:59"], ["2026-11-30T00:00:00"]),
        (Hours((6,), 120, 180, "Europe/Berlin"), ["2026-10-25T02:30:00"], ["2026-10-25T03:00:00", "2026-03-29T03:10:00"]),
        (Hours((6,), 720, 720, "Europe/Berlin"), ["2026-11-29T12:00:00", "2026-11-30T11:59:00"], ["2026-11-30T12:00:00"]),
    ],
)  # fmt: skip
def test_hours_are_by_the_clock_on_the_wall(hours: Hours, inside: list[str], outside: list[str]) -> None:
    for texts, said in ((inside, True), (outside, False)):
        for text in texts:
            assert ask(hours, replace(person(), now=local(text))) is said, text
            assert text[11:16] in compile_condition(hours, Vocabulary(ROUTE)).actual(replace(person(), now=local(text)))


def test_an_hour_that_winter_repeats_counts_both_times_and_one_that_summer_skips_never_comes() -> None:
    hours = Hours((6,), 120, 180, "Europe/Berlin")
    for fold in (0, 1):
        assert ask(hours, replace(person(), now=local("2026-10-25T02:30:00", fold))) is True
    before = local("2026-03-29T01:59:00")
    node = compile_condition(hours, Vocabulary(ROUTE))
    assert [node.ask(replace(person(), now=before + 60 * minute)) for minute in range(3)] == [False] * 3


def test_hours_that_were_asked_before_are_asked_anew_in_the_next_minute() -> None:
    node = compile_condition(Hours((0,), 480, 481, "UTC"), Vocabulary(ROUTE))
    monday = datetime(2026, 11, 23, 8, tzinfo=ZoneInfo("UTC")).timestamp()
    said = [node.ask(replace(person(), now=monday + second)) for second in (-1, 0, 59, 60, 59, -1)]
    assert said == [False, True, True, False, True, False]


@pytest.mark.parametrize(
    "condition",
    [
        holds("colour", "in", "red"), holds("group", "at_least", 1), holds("country", "in"), holds("claim:", "in", "x"),
        holds("level", "at_least", "strong"), holds("risk", "at_most", "low", "high"), holds("risk", "at_most", 50),
        holds("auth_age", "at_most", "8h"), holds("clearance", "is", "yes"), holds("role", "like", "a*"),
        holds("path", "fits", "no-slash"), holds("auth_age", "in", 3), All(()), Any(()),
        Hours((), 0, 1, "UTC"), Hours((7,), 0, 1, "UTC"), Hours((0,), -1, 1, "UTC"), Hours((0,), 0, 1441, "UTC"),
        Hours((0,), 0, 1, "Europe/Nowhere"), Hours((0,), 0, 1, "../etc/passwd"), Hours((0,), 0, 1, ""),
        Cel('headers["X-A"] == "1"'), Cel("user =="), Cel("user == 3"), Cel("colour == 'red'"), Cel("user"), Cel("claims.x"),
    ],
)  # fmt: skip
def test_a_condition_that_can_mean_nothing_is_refused_at_load(condition: Condition) -> None:
    with pytest.raises(ConfigurationError):
        ask(condition, person())


def test_roles_that_define_one_another_are_refused_at_load() -> None:
    route = replace(
        ROUTE,
        roles=(
            RoleSpec("a", when=holds("role", "in", "b")),
            RoleSpec("b", when=holds("role", "in", "a")),
        ),
    )
    with pytest.raises(ConfigurationError, match="a → b → a"):
        compile_condition(holds("role", "in", "a"), Vocabulary(route))


class TestExpressions:
    @pytest.mark.parametrize(
        "text",
        [
            "user == 'alice' && email.endsWith('@ex')", "claims.grade > 6 && has(claims.dept)", "asn == 64500",
            "'office' in networks || country == 'FR'", "'ops' in roles && 'dev' in roles", "level >= 2 && device_known",
            "auth_age < 601.0 && risk == 45 && risk_level == 'medium'", "path.startsWith('/flows/') && method == 'POST'",
            "headers['x-tenant'] == 'a'", "action == 'deploy' && object == 'flow:orders' && changes == 'deployment'",
            "owner == claims.preferred_username", "sensitivity == 'internal'", "'berlin' in claims.location",
            "provider == 'corp' && address == '192.0.2.1'", "now > 1.0",
        ],
    )  # fmt: skip
    def test_every_fact_has_a_name(self, text: str) -> None:
        assert ask(Cel(text), person()) is True

    def test_what_is_not_known_has_no_value_and_only_matters_where_it_decides(self) -> None:
        assert ask(Cel("country == 'DE'"), NOTHING) is None
        assert missing(Cel("country == 'DE' && method == 'POST'"), NOTHING) == {"country"}
        assert ask(Cel("country == 'DE' || method == 'POST'"), NOTHING) is True
        assert ask(Cel("claims.nothing == 'x'"), person()) is None
        assert missing(Cel("claims.nothing == 'x'"), person()) == {"cel"}

    def test_the_message_says_what_is_wrong_and_where(self) -> None:
        with pytest.raises(ConfigurationError, match="undeclared reference to 'colour'"):
            ask(Cel("colour == 'red'"), person())
        with pytest.raises(ConfigurationError, match="is STRING, not true or false"):
            ask(Cel("user"), person())

    def test_without_the_extra_it_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cel_expr_python", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'zt-proxy\[cel\]'"):
            ask(Cel("true"), person())

    def test_the_library_is_loaded_with_the_first_expression_and_not_before(self) -> None:
        code = (
            "import sys\n"
            "from zt_proxy.policy.compile import compile_rules\n"
            "from zt_proxy.policy.spec import *\n"
            "def load(when):\n"
            "    compile_rules(RouteRules('app', (RuleSpec('a', RuleEffect.ALLOW, Audience.SIGNED_IN, when=when),)))\n"
            "    return 'cel_expr_python.cel' in sys.modules\n"
            "print(load(Test('country', 'in', ('DE',))), load(Cel('true')))\n"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert said.split() == ["False", "True"]

    def test_headers_are_found_in_it(self) -> None:
        node = compile_condition(Cel('headers["x-a"] == "1" || headers.b == "2"'), Vocabulary(ROUTE))
        assert node.headers == {"x-a", "b"}


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("*", ["", "a", "a\nb"], []),
        ("a*", ["a", "ab"], ["", "ba"]),
        ("*a", ["a", "ba", "aa"], ["ab"]),
        ("a*b*c", ["abc", "axbxbxc", "abbcc"], ["ac", "abcx"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_a_star_is_any_run_of_characters(pattern: str, fits: list[str], others: list[str]) -> None:
    matches = wildcards([pattern])
    assert all(matches(text) for text in fits)
    assert not any(matches(text) for text in others)
