"""`zt-proxy impact`: what report mode would have done."""

import json
from pathlib import Path

from typer.testing import CliRunner

from tests.lab.logs import Log
from tests.unit.policy.test_replay import NOW, allow, asks, deny, place, session
from zt_proxy.cli.main import app
from zt_proxy.core.types import Mode


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["impact", "--since", "", *arguments])
    return result.exit_code, result.output


def log(folder: Path) -> str:
    rules = place(
        allow(), deny("abroad", paths=("/x",), mode=Mode.REPORT), allow("soon", notify=True, mode=Mode.REPORT)
    )
    made = Log()
    for who, times in (("alice", 3), ("bob", 1)):
        made.signs_in(session(who))
        for number in range(times):
            made.decides(rules, asks(session(who), b"/x", now=NOW + 86_400 * number))
    made.decides(rules, asks(session("carol"), b"/y"))
    return str(made.write(folder))


def test_rules_in_report_mode_are_told_with_how_many_they_would_have_hit(tmp_path: Path) -> None:
    code, text = run("--log", log(tmp_path))
    assert code == 0
    assert "5 decisions from 2027-01-15 08:00 UTC" in text
    assert (
        "app: rule abroad would have denied 4 requests of 2 people (alice@example.com, bob@example.com), "
        "such as request-000000000000"
    ) in text


def test_by_person_and_day_and_as_json(tmp_path: Path) -> None:
    folder = log(tmp_path)
    code, text = run("--log", folder, "--by", "person", "--json")
    rows = json.loads(text)["rows"]
    assert [(row["subject"], row["would"], row["requests"]) for row in rows if row["would"] == "deny"] == [
        ("alice@example.com", "deny", 3),
        ("bob@example.com", "deny", 1),
    ]
    code, text = run("--log", folder, "--by", "day")
    assert code == 0
    assert "2027-01-15" in text
    assert "2027-01-17" in text


def test_a_route_in_report_mode_names_what_nothing_allows(tmp_path: Path) -> None:
    rules = place(allow(paths=("/a",)), deny("closed", paths=("/a/b",)), mode=Mode.REPORT)
    made = Log()
    made.signs_in(session())
    for path in (b"/a", b"/b", b"/a/b"):
        made.decides(rules, asks(session(), path))
    _, text = run("--log", str(made.write(tmp_path)))
    assert "app: nothing allows it (no-rule-matched) would have denied 1 request of 1 person" in text
    assert "app: rule closed would have denied 1 request of 1 person" in text


def test_nothing_reported_is_said_with_since_when_the_log_goes(tmp_path: Path) -> None:
    made = Log()
    made.decides(place(allow()), asks(session()))
    folder = str(made.write(tmp_path))
    _, text = run("--log", folder)
    assert "Nothing was reported in 1 decision from 2027-01-15 08:00 UTC" in text
    result = CliRunner().invoke(app, ["impact", "--log", folder, "--since", "36500d"])
    assert "the log begins 2027-01-15 08:00 UTC" in result.output
    assert CliRunner().invoke(app, ["impact", "--log", str(tmp_path / "none")]).exit_code == 2
