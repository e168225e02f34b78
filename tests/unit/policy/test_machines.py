"""What integrations may do: apart from people, deny first, each by its own scopes."""

from typing import Any

import pytest

from zt_proxy.core.errors import ConfigurationError, Reason
from zt_proxy.core.session import Principal, Session
from zt_proxy.core.types import Decision, Effect, Facts, Mode
from zt_proxy.policy.compile import compile_machines, compile_rules
from zt_proxy.policy.machines import MachineRules
from zt_proxy.policy.spec import Audience, RequestMatch, RouteRules, RuleEffect, RuleSpec

NOW = 1_800_000_000.0
DENIED = (Effect.DENY, Reason.NO_RULE_MATCHED, "")


def rule(name: str, effect: RuleEffect, audience: Audience = Audience.MATCHING, *paths: str, **more: Any) -> RuleSpec:
    methods = more.pop("methods", ())
    return RuleSpec(name, effect, audience, matches=(RequestMatch(methods, paths),), **more)


def allow(
    name: str, *paths: str, to: tuple[str, ...] = (), audience: Audience = Audience.MATCHING, **more: Any
) -> RuleSpec:
    return rule(name, RuleEffect.ALLOW, audience, *paths, integrations=to, **more)


def deny(
    name: str, *paths: str, to: tuple[str, ...] = (), audience: Audience = Audience.MATCHING, **more: Any
) -> RuleSpec:
    return rule(name, RuleEffect.DENY, audience, *paths, integrations=to, **more)


def ask(machines: MachineRules, name: str, path: str = "/", method: str = "GET") -> Decision:
    who = Principal(f"integration:{name}", "", "", integration=name)
    return machines.decide(name, Facts(NOW, "app", method.encode(), path.encode(), "192.0.2.1", who, None))


def outcome(
    rules: list[RuleSpec], name: str, path: str = "/", method: str = "GET", **route: Any
) -> tuple[Effect, Reason, str]:
    decision = ask(compile_machines(RouteRules("app", tuple(rules), **route)), name, path, method)
    return decision.effect, decision.reason, decision.rule


def person(rules: list[RuleSpec], path: str = "/", subject: str = "alice") -> tuple[Effect, Reason, str]:
    who = Principal(subject, "https://idp", "corp", groups=frozenset({"staff"}))
    session = Session("s", "app.ex", who, "", (), True, NOW, NOW, NOW, 1800.0, NOW + 3600)
    decision = compile_rules(RouteRules("app", tuple(rules))).decide(
        Facts(NOW, "app", b"GET", path.encode(), "192.0.2.1", who, session)
    )
    return decision.effect, decision.reason, decision.rule


def test_an_integration_does_what_its_scopes_name_and_nothing_else() -> None:
    rules = [allow("crm", "/api/contacts/**", to=("crm",), methods=("GET",))]
    assert outcome(rules, "crm", "/api/contacts/7") == (Effect.ALLOW, Reason.RULE_ALLOWED, "crm")
    assert outcome(rules, "crm", "/api/contacts/7", "POST") == DENIED
    assert outcome(rules, "crm", "/api/contactsx") == DENIED
    assert outcome(rules, "other", "/api/contacts/7") == DENIED
    assert outcome([], "crm") == DENIED


def test_rules_for_people_are_not_for_integrations() -> None:
    for audience, more in (
        (Audience.SIGNED_IN, {}),
        (Audience.MATCHING, {"users": ("crm", "integration:crm")}),
        (Audience.MATCHING, {"groups": ("staff",)}),
        (Audience.MATCHING, {}),
    ):
        rules = [rule("people", RuleEffect.ALLOW, audience, **more)]
        assert outcome(rules, "crm") == DENIED, audience


@pytest.mark.case("ZT-SESS-12")
def test_rules_for_integrations_are_not_for_people() -> None:
    rules = [allow("crm", to=("crm",)), deny("not-crm", to=("crm",))]
    for subject in ("alice", "crm", "integration:crm"):
        assert person(rules, subject=subject) == DENIED
    assert person([*rules, allow("staff", groups=("staff",))]) == (Effect.ALLOW, Reason.RULE_ALLOWED, "staff")


def test_a_rule_may_name_people_and_integrations() -> None:
    rules = [allow("both", to=("crm",), groups=("staff",))]
    assert person(rules) == outcome(rules, "crm") == (Effect.ALLOW, Reason.RULE_ALLOWED, "both")
    rules = [deny("both", "/x", to=("crm",), groups=("staff",)), allow("rest", to=("crm",), groups=("staff",))]
    assert person(rules, "/x") == outcome(rules, "crm", "/x") == (Effect.DENY, Reason.RULE_DENIED, "both")


def test_a_deny_wins_over_scopes_in_any_order() -> None:
    scope = allow("integration:crm", to=("crm",))
    for denying in (
        deny("d", "/secret/**", to=("crm", "erp")),
        deny("d", "/secret/**", audience=Audience.PUBLIC),
        deny("d", "/secret/**", audience=Audience.SIGNED_IN),
        deny("d", "/secret/**"),
    ):
        for rules in ([scope, denying], [denying, scope]):
            assert outcome(rules, "crm", "/secret/1") == (Effect.DENY, Reason.RULE_DENIED, "d")
            assert outcome(rules, "crm", "/open")[0] is Effect.ALLOW
    for denying in (deny("d", to=("erp",)), deny("d", groups=("staff",)), deny("d", users=("alice",))):
        assert outcome([scope, denying], "crm")[0] is Effect.ALLOW, "about others"


def test_a_deny_holds_for_the_path_as_a_careless_platform_reads_it() -> None:
    rules = [allow("all", to=("crm",)), deny("d", "/admin/**", to=("crm",))]
    for path in ("/admin/x", "/%61dmin/x", "//admin/x", "/admin;v=1/x"):
        assert outcome(rules, "crm", path)[0] is Effect.DENY, path


def test_what_is_public_is_public_to_integrations_too() -> None:
    rules = [allow("open", "/healthz", audience=Audience.PUBLIC)]
    assert outcome(rules, "crm", "/healthz") == (Effect.ALLOW, Reason.PUBLIC, "open")
    assert outcome(rules, "crm", "/else") == DENIED


def test_a_rule_that_asks_for_a_fresh_proof_allows_no_integration() -> None:
    assert outcome([allow("again", to=("crm",), reauth=300.0)], "crm") == DENIED


def test_rules_in_report_mode_say_what_they_would_have_done() -> None:
    rules = [allow("crm", to=("crm",)), deny("strict", "/x", to=("crm",), mode=Mode.REPORT)]
    machines = compile_machines(RouteRules("app", tuple(rules)))
    for _ in range(2):
        decision = ask(machines, "crm", "/x")
        assert (decision.effect, decision.reported) == (Effect.ALLOW, ("strict:deny",))
    assert ask(machines, "crm", "/y").reported == ()
    assert outcome([allow("off", to=("crm",), mode=Mode.OFF)], "crm") == DENIED


def test_a_route_in_report_mode_stops_no_integration_that_it_names() -> None:
    rules = [allow("crm", "/a", to=("crm",)), deny("d", "/d", to=("crm",))]
    machines = compile_machines(RouteRules("app", tuple(rules), mode=Mode.REPORT))
    other = ask(machines, "crm", "/else")
    assert (other.effect, other.reported) == (Effect.ALLOW, ("route:deny:no-rule-matched",))
    denied = ask(machines, "crm", "/d")
    assert (denied.effect, denied.reported) == (Effect.ALLOW, ("route:deny:rule-denied", "d:deny"))
    assert ask(machines, "stranger", "/a").effect is Effect.DENY
    assert outcome(rules, "crm", "/a", mode=Mode.OFF) == DENIED


def test_an_unreadable_template_allows_nothing() -> None:
    with pytest.raises(ConfigurationError):
        outcome([allow("bad", "no-slash", to=("crm",))], "crm", "/x")


def test_a_request_is_held_against_the_scopes_of_one_integration_alone() -> None:
    rules = [allow(f"i{number}", "/mine/**", to=(f"i{number}",)) for number in range(500)]
    machines = compile_machines(RouteRules("app", tuple(rules)))
    assert ask(machines, "i7", "/mine/x").rule == "i7"
    compiled = [rule.id for book in machines._books.values() for rule in book.rules]
    assert compiled == ["i7"]
    for number in range(10_000):
        ask(machines, "i7", f"/mine/{number}")
    assert len(machines._remembered) <= 4096
    assert len(compile_rules(RouteRules("app", tuple(rules)))._book.rules) == 0, "people's requests never see them"
