"""Two configurations: a request on which they differ is found, and what is the same is known to be."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zt_proxy.config.diff_search import Searched, search
from zt_proxy.config.worlds import estate

from .examples import PLAIN, POLICY

RULES = """    rules:
      - {id: staff, allow: [{methods: [GET], paths: ["/**"]}], to: {groups: [staff]}}
      - {id: deploy, allow: [{methods: [POST], paths: ["/flows"]}], to: {groups: [releasers]}, require: {reauth: 5m}}
      - {id: health, allow: [{methods: [GET], paths: [/healthz]}], to: public}
"""
HEAD = PLAIN.partition("    rules:\n")[0]


def between(folder: Path, one: str, other: str, budget: int = 20_000) -> Searched:
    for name, text in (("a", one), ("b", other)):
        (folder / f"{name}.yaml").write_text(text)
    (result,) = search(estate(folder / "a.yaml"), estate(folder / "b.yaml"), budget=budget)
    return result


def rules(folder: Path, one: str, other: str) -> Searched:
    return between(folder, HEAD + one, HEAD + other)


def test_the_same_rules_need_no_search(tmp_path: Path) -> None:
    assert between(tmp_path, POLICY, POLICY).how == "same"


def test_rules_in_another_order_and_of_another_name_do_not_differ(tmp_path: Path) -> None:
    lines = RULES.splitlines(keepends=True)
    result = rules(tmp_path, RULES, "".join([lines[0], *reversed(lines[1:])]).replace("id: health", "id: alive"))
    assert (result.how, result.found) == ("every", ())


@pytest.mark.parametrize(
    ("was", "becomes", "request_line", "before", "after"),
    [
        ("/healthz", "/healthy", "GET /healthz", "allow", "challenge:login"),
        ("releasers", "releaser", "POST /flows", "deny", "allow"),
        ("reauth: 5m", "reauth: 4m", "POST /flows", "allow", "challenge:reauth"),
        ("methods: [GET], paths", "methods: [GET, PUT], paths", "PUT /x", "deny", "allow"),
        ("to: public", "to: anyone-signed-in", "GET /healthz", "allow", "challenge:login"),
        ("require: {reauth: 5m}", "require: {mfa: phishing-resistant, reauth: 5m}", "POST /flows", "allow", ""),
        ("to: public}", "to: public}\n      - {id: no, deny: all, when: {network: office}}", "", "", "deny"),
        ("to: {groups: [staff]}", "to: {groups: [staff]}, limit: {requests: 5, per: 1m}", "GET /x", "allow", "allow"),
    ],
)
def test_each_change_is_found(
    tmp_path: Path, was: str, becomes: str, request_line: str, before: str, after: str
) -> None:
    one = "networks: {office: [192.0.2.0/24]}\n" + HEAD + RULES
    assert was in one
    result = between(tmp_path, one, one.replace(was, becomes))
    assert any(
        request_line in found.request and before in found.before.word and after in found.after.word
        for found in result.found
    ), result


CONDITIONS = [
    ("{time: {days: mon-fri, from: '08:00', to: '18:00', zone: Europe/Berlin}}", "'18:00'", "'18:01'"),
    ("{risk: {at_most: medium}}", "medium", "low"),
    ("{country: [DE, FR]}", "FR", "IT"),
    ("{all: [{device_known: true}, {level: multi}, {network: office}]}", "level: multi", "level: phishing-resistant"),
    ("{auth_age: {at_most: 8h}}", "8h", "7h"),
    ("{header: {X-Reason: [audit]}}", "audit", "review"),
    ("{claim: {dept: [ops]}}", "[ops]", "[ops, dev]"),
    ("{not: {user: '*@example.com'}}", "example.com", "example.org"),
    ("{any: [{network: office}, {path: /flows/**}]}", "/flows/**", "/flow/**"),
]


@pytest.mark.parametrize(("condition", "was", "becomes"), CONDITIONS)
def test_both_sides_of_every_border_are_tried(tmp_path: Path, condition: str, was: str, becomes: str) -> None:
    head = ("networks: {office: [192.0.2.0/24]}\n" + HEAD).replace('secret}"', 'secret}", claims: [dept]')
    one = head + f"    rules:\n      - {{id: r, allow: all, to: {{groups: [staff]}}, when: {condition}}}\n"
    assert was in condition
    result = between(tmp_path, one, one.replace(condition, condition.replace(was, becomes)))
    assert result.how == "every"
    assert result.found


def test_another_meaning_of_a_network_is_a_difference(tmp_path: Path) -> None:
    text = HEAD + "    rules:\n      - {id: r, allow: all, to: {groups: [staff]}, when: {network: office}}\n"
    one = "networks: {office: [192.0.2.0/24]}\n" + text
    result = between(tmp_path, one, one.replace("/24", "/25"))
    assert [found.words[-1] for found in result.found] != []
    assert any("--address" in found.words for found in result.found)


def test_masks_are_compared_by_what_they_hide(tmp_path: Path) -> None:
    result = between(tmp_path, POLICY, POLICY.replace('"$..iban", ', ""))
    assert {(found.before.word, found.after.word) for found in result.found} == {("allow", "allow")}


def test_a_route_of_one_file_alone_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + RULES)
    (tmp_path / "b.yaml").write_text((HEAD + RULES).replace("name: builder", "name: maker"))
    results = search(estate(tmp_path / "a.yaml"), estate(tmp_path / "b.yaml"), budget=1000)
    assert [(each.route, each.how) for each in results] == [("builder", "only-before"), ("maker", "only-after")]


def test_too_small_a_budget_is_said(tmp_path: Path) -> None:
    result = between(tmp_path, POLICY, POLICY.replace("at_most: medium", "at_most: low"), budget=1000)
    assert result.how == "part"
    assert result.tried < result.combinations


RULE = st.sampled_from(RULES.splitlines()[1:])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(RULE, min_size=1), st.sets(RULE, min_size=1))
def test_nothing_is_found_only_where_the_same_rules_are_left(tmp_path: Path, one: set[str], other: set[str]) -> None:
    result = rules(tmp_path, "    rules:\n" + "\n".join(sorted(one)), "    rules:\n" + "\n".join(sorted(other)))
    assert bool(result.found) is (one != other)
