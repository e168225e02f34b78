"""What the organisation and groups of routes say: on each route, before its own rules, and never loosened."""

from pathlib import Path

import pytest

from zt_proxy.config import stages
from zt_proxy.config.load import load_text
from zt_proxy.control.settings import ApprovalSettings, BreakGlassSettings
from zt_proxy.core.session import Level
from zt_proxy.core.types import Mode
from zt_proxy.policy.spec import Approve, Limit, RequestMatch, RoleSpec, RuleSpec
from zt_proxy.policy.spec import Test as Compare

from .examples import PLAIN
from .test_build import built
from .test_check import said

GROUPED = PLAIN.replace(
    "    rules:", "    group: lowcode\n    profile: directus\n    paths: {case: insensitive}\n    rules:"
)
DEPLOY = "to: {groups: [releasers]}, require: {reauth: 5m}"
SHARED = """rules:
  - {id: org-export, deny: [export], when: {country: [KP]}}
route_groups:
  lowcode:
    require: {reauth: 1h}
    rules: [{id: group-build, deny: [build, "manage-*", {objects: "table:*"}], to: {groups: [guests]}}]
    mask: [{fields: ["$..ssn"]}]
"""


def rules(place: Path, text: str) -> dict[str, RuleSpec]:
    return {rule.id: rule for rule in built(place, text).worker.routes[0].rules.rules}


def test_rules_from_above_come_with_where_they_were_written(place: Path) -> None:
    found = rules(place, GROUPED + SHARED)
    assert list(found)[:3] == ["org-export", "group-build", "staff"]
    assert [found[name].inherited for name in ("org-export", "group-build", "staff")] == ["organisation", "lowcode", ""]
    assert found["org-export"].matches == (RequestMatch(actions=("export",)),)
    assert found["org-export"].when == Compare("country", "in", ("KP",))


def test_actions_alone_are_one_match_and_wild_cards_are_written_out(place: Path) -> None:
    acts, tables = rules(place, GROUPED + SHARED)["group-build"].matches
    assert acts.actions == ("build", "manage-access", "manage-integrations")
    assert tables == RequestMatch(objects=("table:*",))


def test_every_route_has_the_rules_of_the_organisation(place: Path) -> None:
    other = '  - {name: other, host: app.example.com, upstream: "http://127.0.0.1:1881", profile: n8n, rules: []}\n'
    routes = built(place, GROUPED + other + SHARED).worker.routes
    assert [[rule.id for rule in route.rules.rules if rule.inherited] for route in routes] == [
        ["org-export", "group-build"],
        ["org-export"],
    ]


def test_what_is_asked_tightens_from_the_organisation_down_to_the_rule(place: Path) -> None:
    text = GROUPED.replace(
        DEPLOY, "to: {groups: [releasers]}, require: {reauth: 5m, approve: {groups: [leads], for: 2h}}"
    )
    top = (
        "require: {mfa: multi, justify: true, approve: {users: [ann@example.com], groups: [leads, owners], for: 12h}}\n"
    )
    found = rules(place, text + top + SHARED)
    staff, deploy = found["staff"], found["deploy"]
    assert (staff.level, staff.reauth, staff.justify) == (Level.MULTI, 3_600, True)
    assert staff.approve == Approve(("ann@example.com",), ("leads", "owners"), 43_200)
    assert (deploy.level, deploy.reauth, deploy.justify) == (Level.MULTI, 300, True)
    assert deploy.approve == Approve((), ("leads",), 7_200)
    assert not found["health"].justify
    assert found["health"].approve is None


def test_an_approval_keeps_the_time_of_above_when_it_says_none(place: Path) -> None:
    text = GROUPED.replace(DEPLOY, "to: {groups: [releasers]}, require: {approve: {groups: [leads]}}")
    top = "require: {approve: {groups: [leads, owners], for: 1h}}\n"
    assert rules(place, text + top + SHARED)["deploy"].approve == Approve((), ("leads",), 3_600)


def test_control_learns_who_may_agree_to_what(place: Path) -> None:
    text = GROUPED.replace(DEPLOY, "to: {groups: [releasers]}, require: {approve: {groups: [leads]}}")
    control = built(place, text + SHARED).control
    assert control.approvals == (ApprovalSettings("builder", "deploy", Approve((), ("leads",), 86_400)),)
    assert control.break_glass == BreakGlassSettings()


def test_accounts_for_emergencies_reach_routes_and_control_and_are_called_to_mind(place: Path) -> None:
    text = GROUPED + SHARED + "break_glass: {accounts: [root@example.com], for: 30m}\n"
    made = built(place, text)
    assert made.worker.routes[0].rules.break_glass == ("root@example.com",)
    assert made.control.break_glass == BreakGlassSettings(("root@example.com",), 1_800)
    assert [line for line in said(place, text) if "1 account may do what rules deny" in line]


def test_roles_and_attributes_reach_the_policy(place: Path) -> None:
    text = GROUPED.replace("client_id: zt", "client_id: zt, claims: [dept]").replace(DEPLOY, "to: {roles: [releaser]}")
    made = built(
        place,
        text
        + SHARED
        + "attributes: {department: dept}\nroles: {releaser: {groups: [releasers], when: {department: ops}}}\n",
    )
    found = made.worker.routes[0].rules
    assert found.attributes == {"department": "dept"}
    assert found.roles == (RoleSpec("releaser", (), ("releasers",), Compare("department", "in", ("ops",))),)
    assert {rule.id: rule for rule in found.rules}["deploy"].roles == ("releaser",)


def test_what_comes_with_an_answer_reaches_the_policy(place: Path) -> None:
    text = GROUPED.replace(
        DEPLOY,
        "to: {groups: [releasers]}, mask: [lowcode-mask-1], notify: true, limit: {requests: 5, bytes: 1MB, per: 1m}",
    )
    made = built(place, text + SHARED)
    deploy = {rule.id: rule for rule in made.worker.routes[0].rules.rules}["deploy"]
    assert (deploy.masks, deploy.notify, deploy.limit) == (("lowcode-mask-1",), True, Limit(5, 1_000_000, 60))
    assert [mask.name for mask in made.worker.routes[0].masks] == ["lowcode-mask-1"]


def test_a_group_of_routes_may_not_loosen_the_organisation_nor_a_route_its_group(place: Path) -> None:
    text = GROUPED.replace("    group: lowcode\n", "    group: lowcode\n    require: {reauth: 2h}\n")
    told = said(place, text + SHARED + "require: {reauth: 30m}\n")
    assert told == [
        "error: `2h` is less than the top level asks; expected `30m` or shorter",
        "error: `2h` is less than the group of routes asks; expected `1h` or shorter",
        "error: `1h` is less than the top level asks; expected `30m` or shorter",
    ]


@pytest.mark.parametrize(
    ("more", "route", "rules_mode", "watch_mode"),
    [
        ("", "enforce", Mode.ENFORCE, Mode.ENFORCE),
        ("mode: report\n", "enforce", Mode.REPORT, Mode.REPORT),
        ("stage: identity\n", "enforce", Mode.REPORT, Mode.REPORT),
        ("stage: least-privilege\n", "enforce", Mode.ENFORCE, Mode.REPORT),
        ("stage: monitor\n", "enforce", Mode.ENFORCE, Mode.ENFORCE),
        ("stage: monitor\n", "report", Mode.REPORT, Mode.ENFORCE),
        ("stage: identity\n", '"off"', Mode.OFF, Mode.REPORT),
    ],
)
def test_stages_and_modes_say_what_is_enforced(
    more: str, route: str, rules_mode: Mode, watch_mode: Mode, place: Path
) -> None:
    text = GROUPED.replace("    group: lowcode\n", f"    group: lowcode\n    mode: {route}\n") + SHARED + more
    assert built(place, text).worker.routes[0].rules.mode is rules_mode
    schema = load_text(text, place / "zt-proxy.yaml").schema
    assert schema is not None
    assert stages.watch(schema) is watch_mode


def test_places_reach_worker_and_control(place: Path) -> None:
    text = GROUPED + SHARED + "networks: {office: [192.0.2.0/24, 192.0.2.7]}\ngeoip: {asn: certs/asn.mmdb}\n"
    made = built(place, text)
    assert made.worker.origins == made.control.origins
    assert made.worker.origins.zones == (("office", ("192.0.2.0/24", "192.0.2.7/32")),)
    assert made.worker.origins.asn_database == place / "certs/asn.mmdb"
    assert made.worker.origins.country_database is None
    assert place / "certs/asn.mmdb" not in made.files  # control watches it on its own


def test_a_rule_in_report_is_called_to_mind_after_thirty_days(place: Path) -> None:
    trial = GROUPED.replace("mode: report}", "mode: report, since: 2026-12-16}") + SHARED
    assert said(place, trial) == []
    (told,) = said(place, trial.replace("2026-12-16", "2026-12-15"))
    assert told.startswith("warning: rule `no-settings` only reports since 2026-12-15: 30 days")


def test_a_denial_that_asks_about_people_is_told_where_integrations_would_be_denied(place: Path) -> None:
    text = PLAIN.replace("key: certs/site.key}}", "key: certs/site.key}, client_certificates: {ca: certs/ca.pem}}")
    machines = (
        "integrations: {crm: {owner: ops, certificate: {san_dns: crm.example.com}, "
        "allow: [{route: builder, methods: [GET], paths: [/api]}]}}\n"
    )
    rule = "rules: [{id: org, deny: [{paths: [/x]}], when: {device_known: false}}]\n"
    assert said(place, text + rule) == []
    (told,) = said(place, text + rule + machines)
    assert "`device_known` is never known of integrations" in told


def test_a_group_that_is_nearly_spelled_as_another_is_told_wherever_it_stands(place: Path) -> None:
    text = GROUPED.replace(DEPLOY, "to: {groups: [releasers]}, when: {any: [{group: relaesers}, {network: office}]}")
    masked = SHARED.replace('"$..ssn"]', '"$..ssn"], unless: {groups: [releaser]}') + "networks: {office: 192.0.2.7}\n"
    again = "roles: {r: {groups: [releasers]}}\n"
    told = [line for line in said(place, text + masked + again) if "nearly" in line]
    assert told == [
        "warning: the group `relaesers` is nearly spelled as `releasers` (did you mean `releasers`?)",
        "warning: the group `releaser` is nearly spelled as `releasers` (did you mean `releasers`?)",
    ]
