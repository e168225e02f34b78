"""Masks: what a file says about them, and what becomes of it."""

from pathlib import Path

import pytest

from zt_proxy.config import build, check, load
from zt_proxy.config.build import insecure_switches
from zt_proxy.core.clock import ManualClock
from zt_proxy.policy.spec import All, Any, Not
from zt_proxy.policy.spec import Test as Is
from zt_proxy.worker.settings import AnswerSettings, MaskSpec

from .examples import PLAIN

INTEGRATIONS = """integrations:
  crm-sync:
    owner: ops@example.com
    certificate: {san_uri: "spiffe://example.com/crm-sync"}
    allow: [{route: builder, methods: [GET], paths: ["/api/contacts/**"]}]
"""


def text(masks: str, answers: str = "", rule: str = "") -> str:
    more = f"    mask: [{masks}]\n" if masks else ""
    more += f"    answers: {answers}\n" if answers else ""
    written = PLAIN + more
    return written.replace("require: {reauth: 5m}}", f"require: {{reauth: 5m}}{rule}}}")


def said(place: Path, written: str) -> list[str]:
    file = place / "zt-proxy.yaml"
    file.write_text(written)
    return [f"{one.line}:{one.column}: {one.text}" for one in check(load(file), ManualClock())]


def masks_of(place: Path, written: str) -> tuple[tuple[MaskSpec, ...], AnswerSettings]:
    assert said(place, written) == []
    route = build(load(place / "zt-proxy.yaml")).worker.routes[0]
    return route.masks, route.answers


def test_a_mask_with_nothing_but_fields_is_for_everybody(place: Path) -> None:
    masks, answers = masks_of(place, text('{fields: ["$..iban"]}'))
    assert masks == (MaskSpec("mask-1", ("$..iban",)),)
    assert answers == AnswerSettings()


def test_whoever_is_named_under_unless_is_spared(place: Path) -> None:
    masks, _ = masks_of(
        place,
        text(
            '{name: salaries, fields: ["$..iban", "$..salary"], unless: {groups: [finance], users: [a@example.com],'
            " when: {risk: {at_most: low}}}, with: last4}"
        ),
    )
    finance = Any((Is("group", "in", ("finance",)), Is("user", "in", ("a@example.com",))))
    spared = All((finance, Is("risk", "at_most", ("low",))))
    assert masks == (MaskSpec("salaries", ("$..iban", "$..salary"), "last4", applies=Not(spared)),)


def test_only_and_unless_count_together(place: Path) -> None:
    masks, _ = masks_of(place, text('{fields: ["$..iban"], only: {roles: [guest]}, unless: {groups: [finance]}}'))
    assert masks[0].applies == All((Is("role", "in", ("guest",)), Not(Is("group", "in", ("finance",)))))


def test_everything_that_can_be_said_arrives(place: Path) -> None:
    masks, answers = masks_of(
        place,
        text(
            '{name: pay, fields: ["$.a"], with: fixed, value: n/a, case: insensitive, only_by_rule: true,'
            " headers: [X-Iban]}",
            "{limit: 4MiB, uninspectable: refuse, pass_types: [Text/CSV], websocket: refuse}",
            ", mask: [pay]",
        ),
    )
    expected = MaskSpec("pay", ("$.a",), "fixed", '"n/a"', None, True, True, ("x-iban",))
    assert masks == (expected,)
    assert answers == AnswerSettings(4 * 1024**2, ("text/csv",))


def test_integrations_are_spared_by_name(place: Path) -> None:
    written = text('{fields: ["$..iban"], unless: {integrations: [crm-sync]}}') + INTEGRATIONS
    written = written.replace("certs/site.key}}", "certs/site.key}, client_certificates: {ca: certs/ca.pem}}")
    masks, _ = masks_of(place, written)
    assert masks[0].applies == Not(Is("user", "in", ("integration:crm-sync",)))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ('{fields: ["iban"]}', "17:22: `iban`: a path begins with `$`, such as `$..iban`"),
        ('{fields: ["$.a", "$.a[0]"]}', "17:29: `$.a[0]`: `[0]` is not understood at character 4"),
        ('{fields: ["$"]}', "17:22: `$`: a path names a member, such as `$..iban`"),
        ('{fields: ["$.."]}', "17:22: `$..`: `..` is not understood at character 2"),
        ('{fields: ["$.a."]}', "17:22: `$.a.`: `.` is not understood at character 4"),
        ("{fields: []}", "17:21: `fields` is empty: nothing is masked"),
        ('{name: a, fields: ["$.a"]}, {name: a, fields: ["$.b"]}', "17:47: the mask name `a` is used twice"),
        ('{name: "A b", fields: ["$.a"]}', "17:19: `A b` is no name"),
        ('{fields: ["$.a"], with: last5}', "did you mean `last4`?"),
        ('{fields: ["$.a"], with: last4, value: x}', "17:50: `value` says nothing with `with: last4`"),
        ('{fields: ["$.a"], unless: {}}', "17:38: `unless` spares nobody: it is empty"),
        ('{fields: ["$.a"], unless: {groups: ["fin*"]}}', "17:48: `fin*` fits nothing: names are compared exactly"),
        ('{fields: ["$.a"], unless: {claims: {dept: [x]}}}', "no provider hands on the claim `dept`"),
        ('{fields: ["$.a"], unless: {integrations: [crm]}}', "17:54: `crm` is no integration"),
        ('{fields: ["$.a"], unless: {when: {netwrok: office}}}', "did you mean `network`?"),
        ('{fields: ["$.a"], only_by_rule: true}', "17:44: no rule of the route names the mask: nothing is masked"),
        ('{fields: ["$.a"], headers: ["x y"]}', "17:40: `x y` is no header name"),
        ('{fields: ["$.a"], headers: [Content-Type]}', "an answer without `Content-Type` is none"),
        ('{fields: ["$.a", "$.a"]}', "17:29: `$.a` is there twice"),
    ],
)
def test_a_mask_that_means_nothing_is_told_with_its_place(place: Path, masks: str, message: str) -> None:
    problems = said(place, text(masks))
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("{pass_types: [application/json]}", "`application/json` is what masks are for"),
        ("{pass_types: ['application/*']}", "`application/*` is what masks are for"),
        ("{pass_types: [csv]}", "`csv` is no media type"),
        ("{limit: 0B}", "`limit` is zero"),
        ("{limit: 64MiB}", "hold up a worker"),
        ("{uninspectable: insecure_pass}", "what cannot be looked into is let through unmasked"),
        ("{websocket: pass}", "nothing is masked in WebSockets"),
    ],
)
def test_what_is_let_through_unmasked_is_told(place: Path, answers: str, message: str) -> None:
    problems = said(place, text('{fields: ["$.a"]}', answers))
    assert any(message in problem for problem in problems), problems


def test_answers_without_a_mask_say_nothing(place: Path) -> None:
    assert "`answers` says nothing without `mask`" in said(place, text("", "{limit: 2MiB}"))[0]


def test_a_rule_names_masks_of_its_route_alone(place: Path) -> None:
    assert said(place, text('{name: pay, fields: ["$.a"]}', rule=", mask: [pay]")) == []
    problems = said(place, text('{name: pay, fields: ["$.a"]}', rule=", mask: [pays]"))
    assert "`pays` is no mask of the route (did you mean `pay`?)" in problems[0]


def test_letting_answers_through_is_an_insecure_switch(place: Path) -> None:
    file = place / "zt-proxy.yaml"
    file.write_text(text('{fields: ["$.a"]}', "{uninspectable: insecure_pass}"))
    schema = load(file).schema
    assert schema is not None
    assert insecure_switches(schema) == ["routes.builder.answers.uninspectable.insecure_pass"]
