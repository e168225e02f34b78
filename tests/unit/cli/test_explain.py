"""`zt-proxy explain`, as it is typed, over a configuration without certificates or secrets."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from zt_proxy.cli.main import app
from zt_proxy.core.lines import encode_line

DEPLOY = ("--url", "https://flows.example.com/flows", "-X", "POST", "--group", "releasers")


def explain(config: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["explain", "-c", str(config), *arguments])
    return result.exit_code, result.output


def told(config: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, output = explain(config, "--json", *arguments)
    return code, json.loads(output)


def test_what_is_allowed_is_said_with_the_rule_that_allows_it(config: Path) -> None:
    code, answer = told(config, *DEPLOY, "--network", "office", "--device", "known")
    assert (code, answer["decision"], answer["rule"]) == (0, "allow", "deploy")
    assert answer["means"] == {
        "action": "deploy", "kind": "flow", "object": "all", "matcher": "deploy-flows", "changes": "deployment",
    }  # fmt: skip
    assert answer["obligations"] == {"reauth": "5m"}


def test_an_old_sign_in_is_a_challenge(config: Path) -> None:
    code, answer = told(config, *DEPLOY, "--network", "office", "--device", "known", "--proved-ago", "10m")
    assert (code, answer["challenge"]) == (3, "reauth")


def test_the_first_unmet_condition_of_the_nearest_rule_is_named(config: Path) -> None:
    code, answer = told(config, *DEPLOY, "--network", "outside", "--device", "known")
    assert (code, answer["reason"]) == (4, "no-rule-matched")
    assert answer["first_unmet"] == {"rule": "deploy", "criterion": "condition: network in office"}


def test_what_was_not_said_is_missing(config: Path) -> None:
    code, answer = told(config, *DEPLOY, "--network", "office")
    assert (code, answer["reason"], answer["missing"]) == (4, "fact-missing", ["device_known"])


def test_masks_that_would_apply_are_named(config: Path) -> None:
    _, answer = told(config, "--path", "/diagnostics", "--group", "finance")
    assert (answer["decision"], answer["masks"]) == ("allow", ["pay"])


def test_an_integration_is_judged_by_what_it_may(config: Path) -> None:
    assert told(config, "--path", "/flows", "--integration", "sync")[1]["rule"] == "integration:sync"
    assert told(config, "--path", "/flows", "-X", "POST", "--integration", "sync")[0] == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--route", "bilder"), "did you mean `builder`?"),
        (("--network", "offcie"), "did you mean `office`?"),
        (("--country", "UK"), "did you mean `GB`?"),
        (("--device", "old"), "expected `known` or `new`"),
        (("--at", "2026-11-24T10:00"), "has no zone"),
        (("--proved-ago", "10"), "needs a unit"),
        (("--path", "/a/../b"), "a dot segment"),
        (("--url", "https://other.example.com/"), "no route is at"),
        (("--claim", "dept"), "takes NAME=VALUE"),
    ],
)
def test_a_question_that_makes_no_sense_ends_with_2(config: Path, arguments: tuple[str, ...], says: str) -> None:
    code, output = explain(config, *arguments)
    assert code == 2
    assert says in output


def test_a_misspelt_group_may_be_meant_and_is_noted(config: Path) -> None:
    code, output = explain(config, "--path", "/flows", "--group", "staf")
    assert code == 4
    assert "did you mean `staff`?" in output


def test_whoever_cannot_be_looked_up_is_said_to_be_unknown(config: Path) -> None:
    _, answer = told(config, "--path", "/flows", "--user", "ann@example.com")
    assert "the proxy is not running" in answer["notes"][0]


def test_no_line_is_wider_than_a_hundred_columns(config: Path) -> None:
    _, output = explain(config, *DEPLOY, "--all")
    assert max(map(len, output.splitlines())) <= 100


def test_a_request_of_the_record_is_asked_again(config: Path, tmp_path: Path) -> None:
    log = tmp_path / "state" / "audit"
    log.mkdir(parents=True)
    lines = [
        {"type": "signed-in", "at": 1000.0, "sid": "s1", "user": "4711", "groups": ["releasers"], "auth_level": "multi"},
        {
            "type": "decision", "at": 1060.0, "id": "r1", "route": "builder", "host": "flows.example.com:8443",
            "method": "POST", "path": "/flows", "client": "192.0.2.7", "sub": "4711", "provider": "corp", "sid": "s1",
            "effect": "allow", "reason": "rule-allowed", "rule": "deploy", "action": "deploy", "kind": "flow",
            "object": "all", "zones": ["office"], "device_known": True, "level": "multi",
        },
    ]  # fmt: skip
    (log / "audit-000000000001.jsonl").write_bytes(b"".join(encode_line(line) + b"\n" for line in lines))
    code, answer = told(config, "--request", "r1")
    assert (code, answer["rule"]) == (0, "deploy")
    assert answer["question"]["proved_ago"] == 60.0
    assert "then it was: allow, rule-allowed by rule deploy" in answer["notes"]
    assert explain(config, "--request", "r2")[0] == 2
