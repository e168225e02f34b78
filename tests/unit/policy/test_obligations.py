"""Actions, objects, roles, obligations, break-glass: what a rule asks beyond who somebody is, and what comes with it."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from zt_proxy.core.errors import ConfigurationError, Reason
from zt_proxy.core.session import Approval, Level, Principal, Proof, Risk, RiskLevel, Session, unlock_key
from zt_proxy.core.types import (
    NO_ACT,
    Act,
    Action,
    ChallengeKind,
    Decision,
    Effect,
    Facts,
    Mode,
    Obligations,
    Origin,
)
from zt_proxy.policy import spec
from zt_proxy.policy.compile import compile_machines, compile_rules
from zt_proxy.policy.spec import (
    All,
    Approve,
    Audience,
    Hours,
    Limit,
    Not,
    RequestMatch,
    RoleSpec,
    RouteRules,
    RuleEffect,
    RuleSpec,
)

NOW = 1_800_000_000.0
replace = msgspec.structs.replace
ALICE = Principal("alice", "https://idp", "corp", email="alice@ex", groups=frozenset({"staff"}))
ABROAD = spec.Test("country", "in", ("FR",))
RISKY = spec.Test("risk", "at_least", ("high",))


def session(principal: Principal = ALICE, **changes: Any) -> Session:
    values: dict[str, Any] = {
        "sid": "s", "host": "app.ex", "principal": principal, "acr": "", "amr": (), "mfa": True, "auth_time": NOW - 600,
        "created": NOW - 600, "last_activity": NOW, "idle_timeout": 1800.0, "absolute_deadline": NOW + 3600,
    }  # fmt: skip
    return Session(**(values | changes))


def facts(who: Session | None = None, act: Act = NO_ACT, path: str = "/", **more: Any) -> Facts:
    given = session() if who is None else who
    return Facts(NOW, "app", b"POST", path.encode(), "192.0.2.1", given.principal, given, act, **more)


STRANGER = Facts(NOW, "app", b"GET", b"/", "192.0.2.1", None, None)


def allow(name: str = "a", audience: Audience = Audience.SIGNED_IN, **more: Any) -> RuleSpec:
    return RuleSpec(name, RuleEffect.ALLOW, audience, **more)


def deny(name: str = "d", audience: Audience = Audience.SIGNED_IN, **more: Any) -> RuleSpec:
    return RuleSpec(name, RuleEffect.DENY, audience, **more)


def on(**match: Any) -> dict[str, Any]:
    return {"matches": (RequestMatch(**match),)}


def decide(rules: list[RuleSpec], given: Facts, **route: Any) -> Decision:
    return compile_rules(RouteRules("app", tuple(rules), **route)).decide(given)


def applies(rule: RuleSpec, given: Facts) -> bool:
    return decide([rule], given).effect is Effect.ALLOW


class TestActionsAndObjects:
    @pytest.mark.parametrize(
        ("words", "fits"),
        [(("deploy",), True), (("build", "deploy"), True), (("*",), True), (("d*",), True), (("manage-*",), False)],
    )
    def test_actions_are_named_or_have_wild_cards(self, words: tuple[str, ...], fits: bool) -> None:
        assert applies(allow(**on(actions=words)), facts(act=Act(Action.DEPLOY))) is fits

    def test_a_request_without_action_fits_no_rule_that_names_one(self) -> None:
        assert not applies(allow(**on(actions=("*",))), facts())
        assert applies(allow(), facts())

    @pytest.mark.parametrize(
        ("objects", "fits"),
        [
            (("flow:orders",), True), (("flow:*",), True), (("*:orders",), True), (("*:*",), True), (("fl*:o*s",), True),
            (("flow:o*d*",), True), (("flow:order",), False), (("app:orders",), False), (("flow:x*", "app:*"), False),
        ],
    )  # fmt: skip
    def test_objects_are_kind_and_name_each_with_wild_cards(self, objects: tuple[str, ...], fits: bool) -> None:
        assert applies(allow(**on(objects=objects)), facts(act=Act(Action.VIEW, "flow", "orders"))) is fits

    def test_a_request_that_names_no_object_fits_no_rule_that_names_one(self) -> None:
        assert not applies(allow(**on(objects=("*:*",))), facts(act=Act(Action.VIEW)))

    def test_method_path_action_and_object_all_have_to_fit(self) -> None:
        rule = allow(**on(methods=("POST",), paths=("/f/**",), actions=("deploy",), objects=("flow:*",)))
        act = Act(Action.DEPLOY, "flow", "x")
        assert applies(rule, facts(act=act, path="/f/1"))
        assert not applies(rule, facts(act=act, path="/g/1"))
        assert not applies(rule, facts(act=Act(Action.VIEW, "flow", "x"), path="/f/1"))
        assert not applies(rule, facts(act=Act(Action.DEPLOY, "app", "x"), path="/f/1"))
        assert not applies(rule, replace(facts(act=act, path="/f/1"), method=b"GET"))

    @pytest.mark.parametrize("match", [{"actions": ("deply",)}, {"actions": ("x*",)}, {"objects": ("flow",)}, {"objects": (":x",)}])  # fmt: skip
    def test_what_can_fit_nothing_is_refused_at_load(self, match: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            compile_rules(RouteRules("app", (deny(**on(**match)),)))

    def test_what_the_profile_refuses_is_allowed_by_a_rule_that_names_its_path_alone(self) -> None:
        unknown = facts(act=Act(refused=True), path="/odd")
        for rule in (allow(), allow(**on(methods=("POST",))), allow(**on(actions=("*",), paths=("/odd",)))):
            decision = decide([rule], unknown)
            assert (decision.effect, decision.reason) == (Effect.DENY, Reason.ACTION_UNKNOWN)
        assert applies(allow(**on(paths=("/odd",))), unknown)
        assert decide([allow(**on(paths=("/odd",))), deny()], unknown).reason is Reason.RULE_DENIED


class TestWhatIsNotKnown:
    def test_an_allow_does_not_apply_and_the_decision_names_the_fact(self) -> None:
        decision = decide([allow(when=ABROAD), allow("b", when=RISKY)], facts())
        assert (decision.reason, decision.missing) == (Reason.NO_RULE_MATCHED, ("country", "risk"))

    def test_a_deny_applies_and_the_decision_names_the_fact(self) -> None:
        decision = decide([allow(), deny(when=ABROAD)], facts())
        assert (decision.effect, decision.reason, decision.rule) == (Effect.DENY, Reason.FACT_MISSING, "d")
        assert decision.missing == ("country",)

    def test_a_deny_that_is_sure_is_named_before_one_that_is_not(self) -> None:
        decision = decide([deny("a", when=ABROAD), deny("b")], facts())
        assert (decision.reason, decision.rule, decision.missing) == (Reason.RULE_DENIED, "b", ())

    def test_a_stranger_signs_in_before_anything_is_said_that_depends_on_who_it_is(self) -> None:
        about_people = spec.Test("group", "in", ("guests",))
        rules = [allow("p", Audience.PUBLIC), deny("d", Audience.PUBLIC, when=about_people)]
        assert decide(rules, STRANGER).reason is Reason.LOGIN_REQUIRED
        origin = Origin("192.0.2.1", country="FR")
        rules = [allow("p", Audience.PUBLIC, when=Not(ABROAD)), deny("d", Audience.PUBLIC, when=ABROAD)]
        assert decide(rules, replace(STRANGER, origin=origin)).reason is Reason.RULE_DENIED
        assert decide(rules, replace(STRANGER, origin=replace(origin, country="DE"))).reason is Reason.PUBLIC
        assert decide(rules, STRANGER).reason is Reason.LOGIN_REQUIRED

    def test_without_the_second_factor_nothing_is_public_that_a_deny_might_be_about(self) -> None:
        rules = [allow("p", Audience.PUBLIC), deny("d", when=ABROAD)]
        decision = decide(rules, facts(session(mfa=False)))
        assert decision.challenge is ChallengeKind.MFA
        home = Origin("192.0.2.1", country="DE")
        assert decide(rules, facts(session(mfa=False), origin=home)).reason is Reason.PUBLIC

    def test_a_deny_for_the_risk_alone_says_so(self) -> None:
        high = facts(risk=Risk(80, RiskLevel.HIGH))
        for when in (RISKY, All((RISKY, Not(ABROAD))), Not(spec.Test("risk", "at_most", ("medium",)))):
            given = replace(high, origin=Origin("192.0.2.1", country="DE"))
            assert decide([allow(), deny(when=when)], given).reason is Reason.RISK_TOO_HIGH
        assert decide([allow(), deny(when=RISKY)], facts(risk=Risk(0, RiskLevel.LOW))).effect is Effect.ALLOW


class TestRoles:
    ROLES = (
        RoleSpec("releaser", users=("carol@ex",), groups=("leads",)),
        RoleSpec("senior", when=spec.Test("claim:years", "at_least", (5,))),
    )

    @pytest.mark.parametrize(
        ("changes", "role", "has"),
        [
            ({"groups": frozenset({"leads"})}, "releaser", True),
            ({"email": "carol@ex"}, "releaser", True),
            ({"roles": frozenset({"releaser"})}, "releaser", True),
            ({}, "releaser", False),
            ({"claims": {"years": 7}}, "senior", True),
            ({"claims": {"years": 3}}, "senior", False),
            ({"claims": {"years": 3}, "roles": frozenset({"senior"})}, "senior", True),
            ({"roles": frozenset({"auditor"})}, "auditor", True),
        ],
    )
    def test_a_role_is_the_configurations_or_the_providers(self, changes: Any, role: str, has: bool) -> None:
        given = facts(session(replace(ALICE, **changes)))
        rule = allow(audience=Audience.MATCHING, roles=(role,))
        assert (decide([rule], given, roles=self.ROLES).effect is Effect.ALLOW) is has

    def test_a_role_that_nobody_can_tell_is_missing_a_fact(self) -> None:
        rules = [allow("x"), deny(audience=Audience.MATCHING, roles=("senior",))]
        decision = decide(rules, facts(), roles=self.ROLES)
        assert (decision.reason, decision.missing) == (Reason.FACT_MISSING, ("claim:years",))

    def test_roles_stand_beside_users_and_groups(self) -> None:
        rule = allow(audience=Audience.MATCHING, roles=("releaser", "senior"), groups=("staff",))
        assert decide([rule], facts(), roles=self.ROLES).effect is Effect.ALLOW


KEY = unlock_key("app", "a")


class TestDemands:
    RULE = allow(level=Level.MULTI, reauth=60.0, justify=True, approve=Approve(groups=("leads",)))

    def test_proofs_come_first_then_why_then_somebody_elses_approval(self) -> None:
        steps: list[tuple[dict[str, Any], Reason, ChallengeKind]] = [
            ({}, Reason.MFA_REQUIRED, ChallengeKind.REAUTH),
            ({"level": Level.MULTI}, Reason.REAUTH_REQUIRED, ChallengeKind.REAUTH),
            ({"proofs": {KEY: Proof(NOW, Level.MULTI)}}, Reason.JUSTIFICATION_REQUIRED, ChallengeKind.JUSTIFY),
            ({"justified": {KEY: "for the audit"}}, Reason.APPROVAL_REQUIRED, ChallengeKind.APPROVE),
        ]
        known: dict[str, Any] = {}
        for step, reason, kind in steps:
            known |= step
            decision = decide([self.RULE], facts(session(**known)))
            assert (decision.effect, decision.reason, decision.challenge) == (Effect.CHALLENGE, reason, kind)
            assert decision.rule == "a"
        known["approved"] = {KEY: Approval("bob", NOW + 1)}
        decision = decide([self.RULE], facts(session(**known)))
        assert decision.effect is Effect.ALLOW
        assert decision.obligations == Obligations(justification="for the audit", approved_by="bob")

    @pytest.mark.parametrize(
        ("approval", "good"),
        [(Approval("bob", NOW + 1), True), (Approval("bob", NOW), False), (Approval("alice", NOW + 1), False),
         (Approval("alice@ex", NOW + 1), False), (Approval("", NOW + 1), False)],
    )  # fmt: skip
    def test_an_approval_is_anothers_and_ends(self, approval: Approval, good: bool) -> None:
        given = facts(session(approved={KEY: approval}))
        assert applies(allow(approve=Approve()), given) is good

    def test_reasons_and_approvals_are_for_one_rule(self) -> None:
        other = unlock_key("app", "b")
        given = facts(session(justified={other: "x"}, approved={other: Approval("bob", NOW + 1)}))
        assert decide([allow(justify=True)], given).challenge is ChallengeKind.JUSTIFY
        assert decide([allow(approve=Approve())], given).challenge is ChallengeKind.APPROVE

    def test_of_several_rules_the_one_with_the_least_burden_asks(self) -> None:
        why, fresh, strong, others = (
            allow("z-why", justify=True), allow("y-fresh", reauth=1.0), allow("x-strong", level=Level.MULTI),
            allow("w-others", approve=Approve()),
        )  # fmt: skip
        for rules, taken in (
            ([others, strong, fresh, why], "z-why"),
            ([others, strong, fresh], "y-fresh"),
            ([others, strong], "x-strong"),
            ([others], "w-others"),
            ([others, allow("v-both", approve=Approve(), justify=True)], "w-others"),
        ):
            for each in (rules, rules[::-1]):
                assert decide(each, facts()).rule == taken

    def test_a_strangers_reason_is_never_asked(self) -> None:
        for more in ({"justify": True}, {"approve": Approve()}):
            assert decide([allow(audience=Audience.PUBLIC, **more)], STRANGER).reason is Reason.LOGIN_REQUIRED

    def test_a_stream_outlives_its_proof_and_no_approval(self) -> None:
        policy = compile_rules(RouteRules("app", (allow(reauth=1.0, approve=Approve(), justify=True),)))
        known: dict[str, Any] = {"justified": {KEY: "x"}, "approved": {KEY: Approval("bob", NOW + 1)}}
        assert policy.allows_at_any_age(facts(session(**known)), Level.SINGLE)
        assert not policy.allows_at_any_age(facts(session(**known | {"justified": {}})), Level.SINGLE)
        over = {"approved": {KEY: Approval("bob", NOW - 1)}}
        assert not policy.allows_at_any_age(facts(session(**known | over)), Level.SINGLE)


class TestWhatComesWithAPermission:
    FULL = allow("full", masks=("salaries", "iban"), limit=Limit(requests=5), notify=True)

    def test_masks_limit_and_notice_come_with_it(self) -> None:
        duties = decide([self.FULL], facts()).obligations
        assert duties == Obligations(("salaries", "iban"), notify=True, limit=unlock_key("app", "full"))

    def test_the_rule_with_the_fewest_is_taken_in_any_order(self) -> None:
        masked = allow("masked", masks=("salaries",))
        for rules in ([self.FULL, masked], [masked, self.FULL]):
            assert decide(rules, facts()).rule == "masked"
        assert decide([self.FULL, masked, allow("z")], facts()).obligations is None

    def test_a_rule_in_report_mode_tells_what_would_come_with_it(self) -> None:
        two, three = ("salaries", "iban"), ("salaries", "iban", "phone")
        for enforced, tried, word in (
            ({"masks": three}, {"masks": two}, "mask"),
            ({"masks": two}, {"limit": Limit(requests=1)}, "limit"),
            ({"masks": two}, {"notify": True}, "notify"),
            ({"masks": two}, {}, "allow"),
        ):
            rules = [allow("enforced", **enforced), allow("r", mode=Mode.REPORT, **tried)]
            decision = decide(rules, facts())
            assert (decision.rule, decision.reported) == ("enforced", (f"r:{word}",))

    def test_a_route_in_report_mode_masks_and_limits_nothing(self) -> None:
        decision = decide([self.FULL], facts(), mode=Mode.REPORT)
        assert (decision.effect, decision.obligations) == (Effect.ALLOW, None)
        assert decision.reported == ("full:mask", "full:limit", "full:notify")


class TestBreakGlass:
    BROKEN = session(break_glass=NOW + 60, justified={"break-glass": "the site is down"})

    @pytest.mark.parametrize(
        ("rules", "named"),
        [([], ""), ([deny()], "d"), ([deny(when=ABROAD)], "d"), ([allow(approve=Approve())], "a"),
         ([allow(reauth=1.0)], "a"), ([allow(justify=True)], "a")],
    )  # fmt: skip
    def test_what_rules_deny_is_allowed_and_marked(self, rules: list[RuleSpec], named: str) -> None:
        decision = decide(rules, facts(self.BROKEN), break_glass=("alice@ex",))
        assert (decision.effect, decision.reason, decision.rule) == (Effect.ALLOW, Reason.BREAK_GLASS, named)
        assert decision.obligations == Obligations(break_glass=True, justification="the site is down")

    def test_nobody_else_breaks_it_and_not_for_ever(self) -> None:
        assert decide([], facts(self.BROKEN)).effect is Effect.DENY
        assert decide([], facts(self.BROKEN), break_glass=("bob",)).effect is Effect.DENY
        assert decide([], replace(facts(self.BROKEN), now=NOW + 60), break_glass=("alice",)).effect is Effect.DENY
        assert decide([], facts(), break_glass=("alice",)).effect is Effect.DENY

    def test_what_is_allowed_anyway_is_not_marked(self) -> None:
        decision = decide([allow()], facts(self.BROKEN), break_glass=("alice",))
        assert (decision.reason, decision.obligations) == (Reason.RULE_ALLOWED, None)

    def test_who_somebody_is_has_to_be_proved_all_the_same(self) -> None:
        weak = facts(replace(self.BROKEN, mfa=False))
        assert decide([deny()], weak, break_glass=("alice",)).challenge is ChallengeKind.MFA
        strong = allow(level=Level.PHISHING_RESISTANT)
        assert decide([strong], facts(self.BROKEN), break_glass=("alice",)).reason is Reason.MFA_REQUIRED

    def test_what_the_profile_does_not_know_is_let_through_too(self) -> None:
        decision = decide([allow()], facts(self.BROKEN, Act(refused=True)), break_glass=("alice",))
        assert decision.reason is Reason.BREAK_GLASS


class TestTimeless:
    @pytest.mark.parametrize(
        "more",
        [
            {"reauth": 60.0}, {"once": True}, {"approve": Approve()}, {"limit": Limit(requests=1)}, {"when": RISKY},
            {"when": Hours((0,), 0, 1, "UTC")}, {"when": spec.Cel("true")},
            {"when": Not(All((spec.Test("auth_age", "at_most", (60,)),)))},
        ],
    )  # fmt: skip
    def test_what_ends_by_itself_is_not(self, more: dict[str, Any]) -> None:
        policy = compile_rules(RouteRules("app", (allow("a"), allow("b", **more))))
        assert not policy.is_timeless(facts())
        elsewhere = allow("b", **more, **on(paths=("/else",)))
        assert compile_rules(RouteRules("app", (allow("a"), elsewhere))).is_timeless(facts())
        for_others = replace(allow("b", **more), audience=Audience.MATCHING, groups=("others",))
        assert compile_rules(RouteRules("app", (allow("a"), for_others))).is_timeless(facts())

    @pytest.mark.parametrize(
        "more",
        [{"justify": True}, {"level": Level.MULTI}, {"masks": ("m",)}, {"notify": True}, {"when": ABROAD},
         {"when": spec.Test("device_known", "is", (True,))}, {"when": spec.Test("header:x", "in", ("1",))}],
    )  # fmt: skip
    def test_what_stays_with_session_and_way_is(self, more: dict[str, Any]) -> None:
        assert compile_rules(RouteRules("app", (allow("b", **more),))).is_timeless(facts())

    def test_a_role_that_depends_on_time_is_not(self) -> None:
        roles = (RoleSpec("day", when=Hours((0,), 0, 1, "UTC")),)
        rule = allow(audience=Audience.MATCHING, roles=("day",))
        assert not compile_rules(RouteRules("app", (rule,), roles=roles)).is_timeless(facts())

    def test_a_broken_glass_is_not(self) -> None:
        policy = compile_rules(RouteRules("app", (allow(),), break_glass=("alice",)))
        assert policy.is_timeless(facts())
        assert not policy.is_timeless(facts(TestBreakGlass.BROKEN))

    def test_a_request_about_another_object_is_another_request(self) -> None:
        policy = compile_rules(RouteRules("app", (allow(**on(objects=("flow:mine",))),)))
        for name, effect in (("mine", Effect.ALLOW), ("yours", Effect.DENY), ("mine", Effect.ALLOW)):
            assert policy.decide(facts(act=Act(Action.VIEW, "flow", name))).effect is effect

    def test_what_is_remembered_of_requests_stays_bounded(self) -> None:
        policy = compile_rules(RouteRules("app", (allow(),)))
        for number in range(10_000):
            policy.decide(facts(act=Act(Action.VIEW, "flow", f"f{number}")))
        assert len(policy._book.request._remembered) <= 4096


def test_headers_that_any_rule_asks_for_are_wanted() -> None:
    tenant = spec.Test("header:X-Tenant", "in", ("a",))
    machine = spec.Test("header:x-crm", "in", ("a",))
    rules = (
        allow("a", when=All((Not(tenant), spec.Cel("headers['x-b'] == '1'")))),
        allow("m", Audience.MATCHING, integrations=("crm",), when=machine),
        allow("off", mode=Mode.OFF, when=RISKY),
    )
    assert compile_rules(RouteRules("app", rules)).headers_wanted == {"x-tenant", "x-b", "x-crm"}


class TestIntegrations:
    CRM = Principal("integration:crm", "", "", integration="crm")

    def ask(self, rules: list[RuleSpec], **more: Any) -> Decision:
        machines = compile_machines(RouteRules("app", tuple(rules)))
        return machines.decide("crm", Facts(NOW, "app", b"GET", b"/x", "192.0.2.1", self.CRM, None, **more))

    def rule(self, **more: Any) -> RuleSpec:
        return allow("crm", Audience.MATCHING, integrations=("crm",), **more)

    def test_conditions_actions_and_objects_are_theirs_too(self) -> None:
        rule = self.rule(when=Not(ABROAD), **on(actions=("export",), objects=("table:*",)), masks=("iban",))
        act, home = Act(Action.EXPORT, "table", "people"), Origin("192.0.2.1", country="DE")
        decision = self.ask([rule], act=act, origin=home)
        assert (decision.effect, decision.obligations) == (Effect.ALLOW, Obligations(("iban",)))
        assert self.ask([rule], act=Act(Action.VIEW, "table", "people"), origin=home).effect is Effect.DENY
        assert self.ask([rule], act=act, origin=replace(home, country="FR")).effect is Effect.DENY
        assert self.ask([rule], act=act).missing == ("country",)

    def test_what_only_a_person_has_is_not_known(self) -> None:
        assert self.ask([self.rule(when=RISKY)]).missing == ("risk",)
        decision = self.ask([self.rule(), deny("d", Audience.MATCHING, integrations=("crm",), when=RISKY)])
        assert (decision.reason, decision.missing) == (Reason.FACT_MISSING, ("risk",))

    def test_what_a_rule_asks_of_a_person_no_integration_can_give(self) -> None:
        for more in ({"justify": True}, {"approve": Approve()}, {"level": Level.MULTI}):
            assert self.ask([self.rule(**more)]).effect is Effect.DENY

    def test_only_what_is_timeless_is_remembered_and_by_all_that_counts(self) -> None:
        header = spec.Test("header:x", "in", ("1",))
        rules = (
            self.rule(when=Not(ABROAD), **on(paths=("/x",))),
            self.rule(when=Hours((4,), 480, 481, "UTC"), **on(paths=("/y",))),
            self.rule(when=header, **on(paths=("/z",))),
        )
        machines = compile_machines(RouteRules("app", tuple(replace(one, id=f"r{n}") for n, one in enumerate(rules))))
        base = Facts(NOW, "app", b"GET", b"/x", "192.0.2.1", self.CRM, None)
        for country, effect in (("DE", Effect.ALLOW), ("FR", Effect.DENY), ("DE", Effect.ALLOW)):
            origin = Origin("192.0.2.1", country=country)
            assert machines.decide("crm", replace(base, origin=origin)).effect is effect
        friday = datetime(2026, 11, 27, 8, tzinfo=UTC).timestamp()
        for later, effect in ((0, Effect.ALLOW), (60, Effect.DENY), (59, Effect.ALLOW)):
            assert machines.decide("crm", replace(base, path=b"/y", now=friday + later)).effect is effect
        for value, effect in (("1", Effect.ALLOW), ("2", Effect.DENY), ("1", Effect.ALLOW)):
            assert machines.decide("crm", replace(base, path=b"/z", headers={"x": value})).effect is effect
        assert machines.is_timeless("crm", base)
        assert not machines.is_timeless("crm", replace(base, path=b"/y"))


class TestTraces:
    def test_each_rule_says_what_it_wanted_and_what_there_was(self) -> None:
        rules = (
            allow("deploy", Audience.MATCHING, groups=("leads",), **on(actions=("deploy",), paths=("/flows",))),
            allow("home", when=All((spec.Test("network", "in", ("office",)), Not(ABROAD)))),
            deny("off", mode=Mode.OFF),
            deny("trial", mode=Mode.REPORT, inherited="organisation"),
        )
        given = facts(act=Act(Action.DEPLOY), path="/flows", origin=Origin("192.0.2.1", country="DE"))
        trace = compile_rules(RouteRules("app", rules)).explain(given)
        assert trace.decision.reason is Reason.NO_RULE_MATCHED
        by_id = {rule.id: rule for rule in trace.rules}
        assert by_id["deploy"].unmet == "subject: groups leads"
        assert [(one.kind, one.said) for one in by_id["deploy"].criteria] == [
            ("path", "hit"), ("action", "hit"), ("subject", "miss"),
        ]  # fmt: skip
        assert by_id["home"].unmet == "condition: network in office"
        assert [(one.wanted, one.said, one.actual) for one in by_id["home"].criteria if one.depth] == [
            ("network in office", "miss", "none"),
            ("not (country in FR)", "hit", ""),
            ("country in FR", "miss", "DE"),
        ]
        assert (by_id["off"].mode, by_id["off"].said) == (Mode.OFF, "hit")
        assert (by_id["trial"].mode, by_id["trial"].inherited) == (Mode.REPORT, "organisation")
        assert msgspec.json.decode(msgspec.json.encode(trace))["decision"]["reason"] == "no-rule-matched"

    def test_what_is_outstanding_and_what_is_missing_is_named(self) -> None:
        rules = (allow("a", justify=True), allow("b", when=ABROAD))
        trace = compile_rules(RouteRules("app", rules)).explain(facts())
        by_id = {rule.id: rule for rule in trace.rules}
        assert (by_id["a"].said, by_id["a"].unmet, by_id["a"].decides) == ("hit", "requirement: a reason", True)
        assert (by_id["b"].said, by_id["b"].missing) == ("unknown", ("country",))

    def test_roles_and_a_second_factor_that_was_not_shown_are_named(self) -> None:
        rules = (allow(audience=Audience.MATCHING, roles=("releaser",)),)
        who = replace(ALICE, groups=frozenset({"leads"}), roles=frozenset({"dev"}))
        trace = compile_rules(RouteRules("app", rules, roles=TestRoles.ROLES)).explain(facts(session(who, mfa=False)))
        assert trace.roles == ("dev", "releaser")
        assert trace.rules[0].unmet == "requirement: a second factor at the sign-in"

    def test_of_several_matches_the_nearest_is_shown(self) -> None:
        rule = allow(matches=(RequestMatch(("GET",), ("/x",)), RequestMatch(("POST",), ("/y",), ("deploy",))))
        trace = compile_rules(RouteRules("app", (rule,))).explain(facts(path="/y"))
        assert [(one.wanted, one.said) for one in trace.rules[0].criteria[:3]] == [
            ("POST", "hit"), ("/y", "hit"), ("deploy", "miss"),
        ]  # fmt: skip

    def test_an_integrations_rules_are_traced_alike(self) -> None:
        rule = allow("crm", Audience.MATCHING, integrations=("crm",), when=ABROAD)
        machines = compile_machines(RouteRules("app", (rule,)))
        trace = machines.explain("crm", Facts(NOW, "app", b"GET", b"/", "192.0.2.1", TestIntegrations.CRM, None))
        assert (trace.rules[0].said, trace.rules[0].missing) == ("unknown", ("country",))
        assert trace.decision.missing == ("country",)
