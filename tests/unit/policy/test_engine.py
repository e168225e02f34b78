"""What rules say, one sentence at a time."""

from typing import Any

import pytest

from zt_proxy.core.errors import ConfigurationError, Reason
from zt_proxy.core.session import Level, Principal, Proof, Session, unlock_key
from zt_proxy.core.types import ChallengeKind, Decision, Effect, Facts, Mode
from zt_proxy.policy.compile import compile_rules
from zt_proxy.policy.spec import Audience, RequestMatch, RouteRules, RuleEffect, RuleSpec

NOW = 1_800_000_000.0
ALICE = Principal("alice", "https://idp", "corp", email="alice@ex", groups=frozenset({"staff"}), claims={"level": 3})


def session(principal: Principal = ALICE, **changes: Any) -> Session:
    values: dict[str, Any] = {
        "sid": "s", "host": "app.ex", "principal": principal, "acr": "", "amr": (), "mfa": True, "auth_time": NOW - 600,
        "created": NOW - 600, "last_activity": NOW, "idle_timeout": 1800.0, "absolute_deadline": NOW + 3600,
    }  # fmt: skip
    return Session(**(values | changes))


def facts(path: str = "/", method: str = "GET", who: Session | None = None, *, now: float = NOW) -> Facts:
    return Facts(now, "app", method.encode(), path.encode(), "192.0.2.1", who.principal if who else None, who)


def allow(name: str = "a", audience: Audience = Audience.SIGNED_IN, **more: Any) -> RuleSpec:
    return RuleSpec(name, RuleEffect.ALLOW, audience, **more)


def deny(name: str = "d", audience: Audience = Audience.SIGNED_IN, **more: Any) -> RuleSpec:
    return RuleSpec(name, RuleEffect.DENY, audience, **more)


def on(*paths: str, methods: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"matches": (RequestMatch(methods, paths),)}


def decide(rules: list[RuleSpec], given: Facts, **route: Any) -> Decision:
    return compile_rules(RouteRules("app", tuple(rules), **route)).decide(given)


def outcome(decision: Decision) -> tuple[Effect, Reason, str]:
    return decision.effect, decision.reason, decision.rule


LOGIN = (Effect.CHALLENGE, Reason.LOGIN_REQUIRED, "")
NOTHING = (Effect.DENY, Reason.NO_RULE_MATCHED, "")


def test_an_empty_rule_set_denies_and_tells_strangers_to_sign_in() -> None:
    assert outcome(decide([], facts(who=session()))) == NOTHING
    assert outcome(decide([], facts())) == LOGIN


def test_a_rule_without_matches_matches_nothing() -> None:
    assert outcome(decide([allow(matches=())], facts(who=session()))) == NOTHING


def test_deny_beats_allow_in_any_order() -> None:
    for rules in ([allow(), deny()], [deny(), allow()]):
        assert outcome(decide(rules, facts(who=session()))) == (Effect.DENY, Reason.RULE_DENIED, "d")


def test_public_is_open_to_strangers_and_nothing_else_is() -> None:
    rules = [allow("pub", Audience.PUBLIC, **on("/pub/**")), allow("rest")]
    assert outcome(decide(rules, facts("/pub/x"))) == (Effect.ALLOW, Reason.PUBLIC, "pub")
    assert outcome(decide(rules, facts("/x"))) == LOGIN
    assert outcome(decide(rules, facts("/x", who=session()))) == (Effect.ALLOW, Reason.RULE_ALLOWED, "rest")


def test_a_public_deny_denies_strangers_and_another_deny_lets_login_come_first() -> None:
    assert outcome(decide([deny("d", Audience.PUBLIC)], facts())) == (Effect.DENY, Reason.RULE_DENIED, "d")
    assert outcome(decide([deny("d", Audience.MATCHING, groups=("staff",))], facts())) == LOGIN


def test_public_with_a_list_or_a_proof_is_not_public() -> None:
    assert outcome(decide([allow(audience=Audience.PUBLIC, groups=("staff",))], facts())) == LOGIN
    assert outcome(decide([allow(audience=Audience.PUBLIC, reauth=60.0)], facts())) == LOGIN


def test_a_principal_without_a_session_is_a_stranger() -> None:
    given = Facts(NOW, "app", b"GET", b"/", "192.0.2.1", ALICE, None)
    assert outcome(decide([allow()], given)) == LOGIN


def test_without_a_second_factor_only_what_is_public_is_reached() -> None:
    weak = session(mfa=False)
    rules = [allow("pub", Audience.PUBLIC, **on("/pub")), allow("rest")]
    assert outcome(decide(rules, facts("/pub", who=weak))) == (Effect.ALLOW, Reason.PUBLIC, "pub")
    for path in ("/x", "/none"):
        decision = decide(rules, facts(path, who=weak))
        assert (decision.reason, decision.challenge) == (Reason.MFA_REQUIRED, ChallengeKind.MFA)


@pytest.mark.parametrize(
    ("lists", "applies"),
    [
        ({"users": ("alice",)}, True),
        ({"users": ("alice@ex",)}, True),
        ({"users": ("ALICE",)}, False),
        ({"groups": ("staff", "x")}, True),
        ({"users": ("bob",), "groups": ("staff",)}, True),
        ({"groups": ("x",)}, False),
        ({"claims": {"level": ("3", "4")}}, True),
        ({"claims": {"level": ("4",)}}, False),
        ({"groups": ("staff",), "claims": {"level": ("4",)}}, False),
        ({"groups": ("x",), "claims": {"level": ("3",)}}, False),
    ],
)
def test_users_or_groups_and_every_claim(lists: dict[str, Any], applies: bool) -> None:
    for make, effect in ((allow, Effect.ALLOW), (deny, Effect.DENY)):
        decision = decide([make("r", Audience.MATCHING, **lists)], facts(who=session()))
        assert (decision.rule == "r") is applies
        assert decision.effect is (effect if applies else Effect.DENY)


def test_claims_of_every_kind_are_compared_as_text() -> None:
    claims = {"yes": True, "no": False, "float": 1.5, "list": ("a", "b")}
    who = session(Principal("bob", "https://idp", "corp", roles=frozenset({"dev"}), claims=claims))
    for name, value in (("yes", "true"), ("no", "false"), ("float", "1.5"), ("list", "b"), ("roles", "dev")):
        rule = allow("r", Audience.MATCHING, claims={name: (value,)})
        assert decide([rule], facts(who=who)).effect is Effect.ALLOW
        rule = allow("r", Audience.MATCHING, claims={name: ("other",)})
        assert decide([rule], facts(who=who)).effect is Effect.DENY


def test_what_is_not_known_is_met_for_a_deny_and_not_for_an_allow() -> None:
    nobody = session(Principal("bob", "https://idp", "corp"))
    for lists in ({"claims": {"country": ("XX",)}}, {"users": ("eve@ex",)}):
        assert outcome(decide([allow("a", Audience.MATCHING, **lists)], facts(who=nobody))) == NOTHING
        denied = decide([allow(), deny("d", Audience.MATCHING, **lists)], facts(who=nobody))
        assert outcome(denied) == (Effect.DENY, Reason.FACT_MISSING, "d")
        assert denied.missing == (("claim:country",) if "claims" in lists else ("user",))


def test_a_rule_that_lists_nobody_allows_nobody_and_denies_everybody() -> None:
    assert outcome(decide([allow("a", Audience.MATCHING)], facts(who=session()))) == NOTHING
    assert decide([allow(), deny("d", Audience.MATCHING)], facts(who=session())).rule == "d"


@pytest.mark.case("ZT-PATH-19")
def test_methods_are_exact() -> None:
    rules = [allow(**on(methods=("GET",)))]
    assert decide(rules, facts(method="GET", who=session())).effect is Effect.ALLOW
    for method in ("HEAD", "get", "PROPFIND"):
        assert decide(rules, facts(method=method, who=session())).effect is Effect.DENY


@pytest.mark.case("ZT-PATH-12")
def test_case_is_folded_only_where_the_route_says_so() -> None:
    rules = [allow(), deny(**on("/admin/**"))]
    for path in ("/ADMIN", "/Admin/x"):
        assert decide(rules, facts(path, who=session())).effect is Effect.ALLOW
        assert decide(rules, facts(path, who=session()), case_insensitive=True).effect is Effect.DENY


@pytest.mark.case("ZT-PATH-02")
@pytest.mark.case("ZT-PATH-08")
@pytest.mark.parametrize(
    "path", ["/admin", "/admin/", "/admin/x", "//admin/x", "/%2Fadmin", "/admin%2Fx", "/admin;v=1/x", "/;x/admin",
             "/admin%3Fx=1", "/admin%23", "/admin%3B", "/%2Fadmin%2F/x"]
)  # fmt: skip
def test_a_deny_holds_for_the_readings_of_a_careless_platform(path: str) -> None:
    assert decide([allow(), deny(**on("/admin/**"))], facts(path, who=session())).effect is Effect.DENY


def test_an_allow_holds_for_the_very_bytes_only() -> None:
    rules = [allow(**on("/pub/**"))]
    for path in ("//pub/x", "/%2Fpub", "/pub;x", "/x%2F/pub"):
        assert outcome(decide(rules, facts(path, who=session()))) == NOTHING


class TestReauth:
    RULE = allow("deploy", reauth=300.0)

    def test_an_old_proof_is_challenged_with_its_rule_and_age(self) -> None:
        decision = decide([self.RULE], facts(who=session()))
        assert decision == Decision(
            Effect.CHALLENGE, Reason.REAUTH_REQUIRED, "deploy", ChallengeKind.REAUTH, max_age=300.0
        )

    @pytest.mark.parametrize(("age", "fresh"), [(0, True), (300, True), (301, False), (-30, True), (-31, False)])
    def test_sign_in_or_a_step_up_for_this_rule_is_proof(self, age: float, fresh: bool) -> None:
        for who in (
            session(auth_time=NOW - age),
            session(proofs={unlock_key("app", "deploy"): Proof(NOW - age, Level.SINGLE)}),
        ):
            assert (decide([self.RULE], facts(who=who)).effect is Effect.ALLOW) is fresh

    def test_a_step_up_elsewhere_is_no_proof(self) -> None:
        proof = Proof(NOW, Level.PHISHING_RESISTANT)
        proofs = {unlock_key("app", "other"): proof, unlock_key("other", "deploy"): proof}
        assert decide([self.RULE], facts(who=session(proofs=proofs))).challenge is ChallengeKind.REAUTH

    def test_a_rule_that_is_satisfied_outright_is_preferred(self) -> None:
        assert decide([self.RULE, allow("plain")], facts(who=session())).rule == "plain"

    def test_of_several_the_first_asks(self) -> None:
        assert decide([self.RULE, allow("second", reauth=1.0)], facts(who=session())).rule == "deploy"

    def test_deny_comes_before_it(self) -> None:
        assert decide([self.RULE, deny()], facts(who=session())).effect is Effect.DENY


class TestModes:
    def test_off_is_as_if_it_were_not_there(self) -> None:
        assert outcome(decide([allow(mode=Mode.OFF)], facts(who=session()))) == NOTHING
        assert decide([allow(), deny(mode=Mode.OFF)], facts(who=session())).effect is Effect.ALLOW

    def test_a_route_that_is_off_denies(self) -> None:
        assert outcome(decide([allow()], facts(who=session()), mode=Mode.OFF)) == NOTHING

    def test_report_has_no_effect_and_is_recorded_where_it_would_have_had_one(self) -> None:
        decision = decide([allow(), deny(mode=Mode.REPORT)], facts(who=session()))
        assert (decision.effect, decision.reported) == (Effect.ALLOW, ("d:deny",))
        decision = decide([allow("r", mode=Mode.REPORT)], facts(who=session()))
        assert (decision.effect, decision.reported) == (Effect.DENY, ("r:allow",))
        decision = decide([allow("r", mode=Mode.REPORT, reauth=1.0)], facts(who=session()))
        assert (decision.effect, decision.reported) == (Effect.DENY, ("r:reauth",))

    def test_report_that_changes_nothing_is_not_recorded(self) -> None:
        assert decide([allow(), allow("r", mode=Mode.REPORT)], facts(who=session())).reported == ()
        assert decide([deny("r", mode=Mode.REPORT)], facts(who=session())).reported == ()
        other = deny("r", mode=Mode.REPORT, **on("/other"))
        assert decide([allow(), other], facts(who=session())).reported == ()

    def test_a_report_only_route_stops_nobody_who_signed_in(self) -> None:
        decision = decide([], facts(who=session()), mode=Mode.REPORT)
        assert (decision.effect, decision.reason) == (Effect.ALLOW, Reason.RULE_ALLOWED)
        assert decision.reported == ("route:deny:no-rule-matched",)
        decision = decide([allow(), deny()], facts(who=session()), mode=Mode.REPORT)
        assert (decision.effect, decision.reported) == (Effect.ALLOW, ("route:deny:rule-denied", "d:deny"))
        decision = decide([allow(reauth=1.0)], facts(who=session()), mode=Mode.REPORT)
        assert (decision.effect, decision.reported) == (Effect.ALLOW, ("route:reauth:reauth-required", "a:reauth"))

    def test_a_report_only_route_still_asks_for_sign_in_and_second_factor(self) -> None:
        assert outcome(decide([], facts(), mode=Mode.REPORT)) == LOGIN
        assert outcome(decide([deny("d", Audience.PUBLIC)], facts(), mode=Mode.REPORT)) == LOGIN
        weak = facts(who=session(mfa=False))
        assert decide([deny("d", Audience.PUBLIC)], weak, mode=Mode.REPORT).challenge is ChallengeKind.MFA
        assert decide([allow(audience=Audience.PUBLIC)], facts(), mode=Mode.REPORT).effect is Effect.ALLOW


def test_an_allow_is_the_same_object_every_time() -> None:
    policy = compile_rules(RouteRules("app", (allow(),)))
    assert policy.decide(facts(who=session())) is policy.decide(facts("/x", who=session()))


@pytest.mark.parametrize("template", ["a", "", "/a**", "/**b/c", "/../a", "/a/./b"])
def test_a_template_that_cannot_mean_anything_is_an_error(template: str) -> None:
    with pytest.raises(ConfigurationError):
        compile_rules(RouteRules("app", (allow(**on(template)),)))
