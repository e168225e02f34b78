"""`zt-proxy diff` and `zt-proxy test`, as they are typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_proxy.cli.main import app

CHANGES = [
    ("network: office", "network: home"),
    ("reauth: 5m", "reauth: 4m"),
    ("device_known: false", "device_known: true"),
    ("[view, use], to: {groups: [staff]}", "[view], to: {groups: [staff]}"),
    ("groups: [releasers]", "groups: [releaser]"),
    ("mask: [pay]", "mask: [pay], limit: {requests: 3, per: 1m}"),
    ('paths: ["/flows"]', 'paths: ["/nodes"]'),
]


@pytest.mark.parametrize(("was", "becomes"), CHANGES)
def test_the_question_that_diff_gives_has_the_answer_that_diff_says(config: Path, was: str, becomes: str) -> None:
    text = config.read_text()
    assert was in text
    other = config.with_name("other.yaml")
    other.write_text(text.replace(was, becomes))
    result = CliRunner().invoke(app, ["diff", str(config), str(other), "--json", "--budget", "20000"])
    assert result.exit_code == 1
    found = [each for route in json.loads(result.output)["routes"] for each in route["found"]]
    assert found
    for each in [each for each in found if each["certain"]]:
        for file, said in ((config, each["before"]), (other, each["after"])):
            asked = CliRunner().invoke(app, ["explain", "-c", str(file), "--json", *each["words"]])
            answer = json.loads(asked.output)
            word = f"challenge:{answer['challenge']}" if answer["challenge"] else answer["decision"]
            assert (word, answer["rule"] or "") == (said["word"], said.get("rule", "")), each


def test_two_files_that_decide_alike_end_with_0(config: Path) -> None:
    other = config.with_name("other.yaml")
    other.write_text(config.read_text().replace("id: staff", "id: employees"))
    result = CliRunner().invoke(app, ["diff", str(config), str(other)])
    assert result.exit_code == 0
    assert "No difference was found." in result.output
    assert "every combination" in result.output


def test_a_file_that_is_wrong_ends_with_2(config: Path) -> None:
    other = config.with_name("other.yaml")
    other.write_text(config.read_text().replace("network: office", "network: offcie"))
    result = CliRunner().invoke(app, ["diff", str(config), str(other)])
    assert result.exit_code == 2
    assert "did you mean `office`?" in result.output


def run(config: Path, cases: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    config.with_name("zt-proxy.tests.yaml").write_text(f"defaults: {{device: known}}\ncases:\n{cases}")
    command = [sys.executable, "-m", "zt_proxy.cli.main", "test", *arguments]
    return subprocess.run(command, cwd=config.parent, capture_output=True, text=True, check=False, timeout=60)


def test_cases_beside_the_configuration_are_found_and_run(config: Path) -> None:
    right = "  - {name: staff look, groups: [staff], path: /flows, expect: allow}\n"
    fine = run(config, right)
    assert (fine.returncode, "1 of 1 cases as expected." in fine.stdout) == (0, True), fine.stderr
    short = run(config, right, "--min-coverage", "80")
    assert (short.returncode, "wanted 80 %" in short.stdout) == (1, True)


def test_a_failing_case_is_told_as_a_difference(config: Path) -> None:
    failed = run(
        config, "  - {name: staff deploy, groups: [staff], method: POST, path: /flows, expect: allow}\n", "--json"
    )
    assert failed.returncode == 1
    (one,) = json.loads(failed.stdout)["failed"]
    assert one["differences"] == [{"what": "expect", "expected": "allow", "got": "deny"}]
    assert one["place"] == "zt-proxy.tests.yaml:3:5"


def test_cases_that_cannot_be_read_end_with_2_and_their_place(config: Path) -> None:
    wrong = run(config, "  - {name: x, network: offcie, expect: deny}\n")
    assert wrong.returncode == 2
    assert "zt-proxy.tests.yaml:3:24: error: `offcie` is no network" in wrong.stderr


def test_no_cases_at_all_is_no_success(config: Path) -> None:
    result = CliRunner().invoke(app, ["test", "-c", str(config)])
    assert (result.exit_code, "no cases" in result.output) == (2, True)
