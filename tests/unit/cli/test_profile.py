"""`zt-proxy profile` as an operator calls it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_proxy.cli.main import app
from zt_proxy.config.profiles import read_file
from zt_proxy.control.audit.chain import Head, extend
from zt_proxy.core.lines import encode_line
from zt_proxy.core.types import Action


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["profile", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def request(number: int, method: str, path: str, **more: object) -> bytes:
    return encode_line(
        {
            "type": "decision", "v": 1, "at": 1.8e9, "id": f"r{number}", "route": "builder", "method": method,
            "path": path, "effect": "allow", "sub": f"person{number % 3}", **more,
        }
    )  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "audit"
    folder.mkdir()
    lines = [
        *(request(n, "POST", f"/orders/{n}/pay") for n in range(5)),
        *(request(n, "GET", f"/things/{word}") for n, word in enumerate("abcdefghij")),
        request(1, "GET", "/things/6fd8a2bc-0000-4000-8000-0123456789ab"),
        request(2, "GET", "/reports/q1.csv"),
        request(3, "DELETE", "/things/a"),
        request(4, "GET", "/live", protocol="websocket"),
        request(5, "PATCH", "/api/users/ann@example.com"),
        request(6, "POST", "/known", matcher="known"),
        request(7, "POST", "/elsewhere", route="other"),
        request(8, "GET", '/we"ird%20*'),
    ]
    (folder / "audit-000000000001.jsonl").write_bytes(extend(Head(), lines)[0])
    return folder


def test_list_names_every_profile_and_how_it_was_verified() -> None:
    code, out, _ = run("list")
    assert code == 0
    assert "node-red       Node-RED, 4.1.15" in out
    told = json.loads(run("list", "--json")[1])
    assert told["superset"]["title"] == "Apache Superset"
    assert all(each["matchers"] for each in told.values())


def test_list_with_a_configuration_names_the_operators_own(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "ours.yaml").write_text("name: ours\nextends: n8n\ntitle: Our n8n\n")
    (tmp_path / "profiles" / "broken.yaml").write_text("name: broken\n")
    _, out, _ = run("list", "--config", tmp_path / "zt-proxy.yaml")
    assert "Our n8n" in out
    assert "broken         3 errors" in out


def test_show_tells_what_requests_mean_in_order() -> None:
    code, out, _ = run("show", "node-red")
    assert code == 0
    assert out.index("[deploy-flows]") < out.index("[flows]")
    assert "deploy               POST  /flows  → flow:all  changes deployment  [deploy-flows]" in out
    assert "deny                 otherwise: unsafe methods" in out
    assert json.loads(run("show", "node-red", "--json")[1])["name"] == "node-red"


def test_check_tells_problems_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nextends: n8n\nmatchers: [{id: a, action: deplyo, paths: [/x]}]\n")
    code, out, _ = run("check", path)
    assert code == 1
    assert f"{path}:3:28: error: `action` is `deplyo`" in out
    told = json.loads(run("check", path, "--json")[1])
    assert told["ok"] is False
    assert told["problems"][0]["line"] == 3


def test_check_of_a_right_file_counts_its_matchers() -> None:
    code, out, _ = run("check", "generic-web")
    assert code == 0
    assert "fine; matchers: 2 use, 2 build" in out


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_profile_that_is_not_there_is_told_with_those_that_are(command: str) -> None:
    code, _, err = run(command, "nope")
    assert code == 2
    assert "known: appsmith" in err


def test_record_drafts_a_profile_that_can_be_read(log: Path, tmp_path: Path) -> None:
    code, out, _ = run("record", "builder", "--log", log)
    assert code == 0
    draft = tmp_path / "draft.yaml"
    draft.write_text(out)
    loaded = read_file(draft)
    assert loaded.problems == ()
    assert loaded.spec is not None
    found = {(matcher.paths, matcher.methods): matcher for matcher in loaded.spec.matchers}
    assert found[("/orders/{order}/pay",), ("POST",)].action is Action.BUILD
    assert found[("/things/{thing}",), ("GET",)].action is Action.USE
    assert found[("/reports/q1.csv",), ("GET",)].action is Action.EXPORT
    assert found[("/api/users/{user}",), ("PATCH",)].action is Action.MANAGE_ACCESS
    assert found[("/live",), ()].websocket
    assert found[("/things/a",), ("DELETE",)].action is Action.BUILD
    assert not any("known" in path or "elsewhere" in path for paths, _ in found for path in paths)
    assert "# 11 requests, 3 people: GET /things/" in out
    assert "# 5 requests, 3 people: POST /orders/0/pay" in out


def test_record_leaves_out_what_was_asked_too_seldom(log: Path) -> None:
    _, out, _ = run("record", "builder", "--log", log, "--at-least", 5)
    assert "/orders/{order}/pay" in out
    assert "/reports" not in out


def test_record_says_when_there_is_nothing_to_draft(log: Path) -> None:
    code, out, err = run("record", "unheard", "--log", log)
    assert (code, out) == (0, "")
    assert "without a matcher" in err


def test_record_without_a_log_fails(tmp_path: Path) -> None:
    assert run("record", "builder", "--log", tmp_path)[0] == 2
    assert run("record", "builder")[0] == 2
