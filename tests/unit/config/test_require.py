"""What rules ask in the end: the floor of the file, the route's, and their own, merged."""

from pathlib import Path

from zt_proxy.core.session import Level
from zt_proxy.policy.spec import RuleSpec

from .examples import PLAIN
from .test_build import built
from .test_check import said

DEPLOY = "to: {groups: [releasers]}, require: {reauth: 5m}"
ROUTE = "    upstream: http://127.0.0.1:1880\n"
MACHINES = """integrations:
  crm-sync: {owner: ops@example.com, certificate: {san_dns: crm.example.com}, allow: [{route: builder, methods: [GET], paths: [/api]}]}
"""


def rules_of(place: Path, *, top: str = "", route: str = "", deploy: str = DEPLOY, more: str = "") -> list[RuleSpec]:
    text = PLAIN.replace(DEPLOY, deploy) + more
    if more:
        text = text.replace("key: certs/site.key}}", "key: certs/site.key}, client_certificates: {ca: certs/ca.pem}}")
    if top:
        text += f"require: {top}\n"
    if route:
        text = text.replace(ROUTE, f"{ROUTE}    require: {route}\n")
    return list(built(place, text).worker.routes[0].rules.rules)


def asked(rule: RuleSpec) -> tuple[Level, float | None, bool]:
    return rule.level, rule.reauth, rule.once


def test_without_a_floor_a_rule_asks_what_it_says(place: Path) -> None:
    staff, deploy, _, _ = rules_of(place)
    assert asked(staff) == (Level.SINGLE, None, False)
    assert asked(deploy) == (Level.SINGLE, 300, False)


def test_the_strongest_level_and_the_shortest_time_count_wherever_they_stand(place: Path) -> None:
    staff, deploy, _, _ = rules_of(
        place,
        top="{mfa: multi, reauth: 2h}",
        route="{reauth: 1h}",
        deploy="to: {groups: [releasers]}, require: {mfa: phishing-resistant}",
    )
    assert asked(staff) == (Level.MULTI, 3600, False)
    assert asked(deploy) == (Level.PHISHING_RESISTANT, 3600, False)


def test_a_floor_holds_for_a_rule_that_names_nobody_but_a_provider(place: Path) -> None:
    staff, deploy, _, _ = rules_of(place, top="{mfa: multi}", route="{reauth: 1h}", deploy="to: {providers: [corp]}")
    assert asked(staff) == asked(deploy) == (Level.MULTI, 3600, False)


def test_once_of_a_route_holds_for_all_its_rules(place: Path) -> None:
    staff, deploy, _, _ = rules_of(place, route="{reauth: once}", deploy="to: {groups: [releasers]}")
    assert asked(staff) == asked(deploy) == (Level.SINGLE, None, True)


def test_a_floor_asks_nothing_of_strangers_and_turns_no_denial_around(place: Path) -> None:
    _, _, refused, health = rules_of(place, top="{mfa: multi, reauth: 5m}")
    assert asked(refused) == asked(health) == (Level.SINGLE, None, False)


def test_a_floor_asks_nothing_of_integrations(place: Path) -> None:
    both = "to: {groups: [releasers], integrations: [crm-sync]}"
    _, people, machines, _, _, _ = rules_of(place, top="{reauth: 5m}", deploy=both, more=MACHINES)
    assert (people.id, people.groups, people.integrations, people.reauth) == ("deploy", ("releasers",), (), 300)
    assert (machines.id, machines.groups, machines.integrations) == ("deploy", (), ("crm-sync",))
    assert asked(machines) == (Level.SINGLE, None, False)


def test_a_rule_that_a_lesser_one_makes_void_is_told(place: Path) -> None:
    text = PLAIN.replace(DEPLOY, "to: {groups: [staff]}, require: {mfa: multi}").replace(
        'methods: [GET], paths: ["/**"]', 'paths: ["/**"]'
    )
    (problem,) = said(place, text)
    assert problem == "error: rule `deploy` can never ask for a fresh proof: `staff` allows the same with none"
    assert said(place, text + "require: {mfa: multi}\n") == [
        "warning: rule `deploy` adds nothing: `staff` allows all of it already"
    ]


def test_what_forms_are_kept_reaches_both_sides_and_may_be_nothing(place: Path) -> None:
    made = built(place, PLAIN + "session: {form_limit: 0B}\n")
    assert made.worker.form_limit == made.control.form_limit == 0
