"""Cases beside a configuration: what is wrong in them has a place, and what comes out otherwise is told."""

from pathlib import Path

import pytest

from zt_proxy.config.case_runs import Ran, coverage, run
from zt_proxy.config.cases import LoadedCases, beside, load_cases
from zt_proxy.config.worlds import Estate, estate

from .examples import POLICY

NOW = 1_795_000_000.0
DEFAULTS = 'defaults: {network: office, device: known, country: DE, risk: low, at: "2026-11-24T10:00+01:00"}\n'


@pytest.fixture
def whole(tmp_path: Path) -> Estate:
    path = tmp_path / "zt-proxy.yaml"
    path.write_text(POLICY)
    return estate(path)


def loaded(whole: Estate, text: str) -> LoadedCases:
    path = whole.path.parent / "zt-proxy.tests.yaml"
    path.write_text(text)
    assert beside(whole.path) == [path]
    return load_cases(path, whole)


def ran(whole: Estate, case: str, top: str = DEFAULTS) -> Ran:
    found = loaded(whole, f"{top}cases:\n  - {{name: one, {case}}}\n")
    assert not found.errors
    return run(found.cases[0], whole, NOW)


def test_a_case_that_comes_out_as_expected_passes(whole: Estate) -> None:
    assert ran(whole, "groups: [staff], path: /flows, expect: allow, reason: rule-allowed, rule: staff").passed


def test_a_case_that_comes_out_otherwise_says_what_and_what_is_lacking(whole: Estate) -> None:
    one = ran(whole, "groups: [staff], method: POST, path: /flows, expect: allow, rule: staff")
    assert [(each.what, each.expected, each.got) for each in one.differences] == [
        ("expect", "allow", "deny"),
        ("rule", "staff", "none"),
    ]
    assert one.hint == "deploy: first unmet: subject: roles releaser"


def test_obligations_are_compared_as_far_as_they_are_written(whole: Estate) -> None:
    asked = "groups: [releasers], method: POST, path: /flows, expect: challenge:reauth, obligations: "
    assert ran(whole, asked + "{mfa: phishing-resistant, reauth: 300s, approve: leads, limit: true}").passed
    one = ran(whole, asked + "{mfa: multi, masks: [salaries]}")
    assert [each.what for each in one.differences] == ["obligations.mfa", "obligations.masks"]
    assert not ran(whole, asked + "none").passed


def test_what_is_not_said_is_missing(whole: Estate) -> None:
    one = ran(whole, "groups: [releasers], method: POST, path: /flows, expect: deny, missing: [device_known]", "")
    assert one.passed
    assert one.by_the_clock


def test_a_person_has_a_name_and_a_stranger_has_none(whole: Estate) -> None:
    top = "people: {rita: {user: rita@example.com}}\ndefaults: {who: rita, network: office, risk: low}\n"
    assert ran(whole, "path: /flows, expect: deny", top).passed
    assert ran(whole, "who: stranger, path: /flows, expect: challenge:login", top).passed


def test_a_request_that_the_proxy_refuses_is_no_case(whole: Estate) -> None:
    found = loaded(whole, "cases:\n  - {name: dots, path: /a/../b, expect: deny}\n")
    assert [problem.line for problem in found.errors] == [2]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{name: x, pth: /, expect: deny}", "3:15: error: unknown key `pth` (did you mean `path`?)"),
        ("{name: x, network: offcie, expect: deny}", "did you mean `office`?"),
        ("{name: x, expect: alow}", "did you mean `allow`?"),
        ("{name: x, expect: deny, reason: rule-deny}", "did you mean `rule-denied`?"),
        ("{name: x, expect: deny, rule: deplyo}", "did you mean `deploy`?"),
        ("{name: x, expect: deny, who: rit}", "did you mean `rita`?"),
        ("{name: x, expect: deny, proved_ago: 10}", "needs a unit"),
        ("{name: x, expect: deny, at: yesterday}", "is no moment"),
        ("{name: x, expect: deny, websocket: maybe}", "expected `true` or `false`"),
        ("{name: x, expect: deny, obligations: {mask: [a]}}", "did you mean `masks`?"),
        ("{name: x, path: /}", "`expect` is missing"),
        ("{expect: deny}", "`name` is missing"),
        ("just text", "a case is no mapping"),
    ],
)
def test_every_mistake_is_told_at_its_place(whole: Estate, line: str, says: str) -> None:
    found = loaded(whole, f"people: {{rita: {{groups: [releasers]}}}}\ncases:\n  - {line}\n")
    assert not found.cases
    assert any(says in str(problem) and problem.line == 3 for problem in found.errors), found.errors


def test_a_misspelt_group_is_a_warning(whole: Estate) -> None:
    found = loaded(whole, "cases:\n  - {name: x, groups: [staf], expect: deny}\n")
    assert [(each.line, each.column, each.hint) for each in found.problems] == [(2, 24, "did you mean `staff`?")]


def test_coverage_names_the_rules_that_decided_in_no_case(whole: Estate) -> None:
    covered = coverage([ran(whole, "groups: [staff], path: /flows, expect: allow")], whole)
    assert covered.decided == (("builder", "staff"),)
    assert ("builder", "deploy", 32) in covered.never
    assert 0 < covered.percent < 50
