"""`zt-proxy suggest`: what nobody used, and the patch that takes it back."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.lab.logs import Log
from tests.unit.policy.test_replay import asks, session
from zt_proxy.cli.main import app
from zt_proxy.config.worlds import worlds
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.types import Act, Action

FILE = """version: 1
listen:
  - {name: web, address: "127.0.0.1:8443", tls: {certificate: none.pem, key: none.key}}
portal: {url: "https://auth.test"}
identity:
  providers:
    corp: {issuer: "https://idp.test", client_id: zt, client_secret: "${env:ZT_NONE}", acr: {multi: [urn:mfa]}}
routes:
  - name: app  # the builder
    host: app.test
    upstream: http://127.0.0.1:1880
    profile: node-red
    rules:
      - {id: staff, allow: [view, use, export], to: {groups: [staff, "old team"], users: [zoe@example.com]}}
      - id: makers
        allow: [build]
        to:
          groups:
            - makers   # few
            - staff
      - {id: leavers, allow: [deploy], to: {groups: [leavers]}, mode: report}
      - id: auditors
        allow: [export]
        to: {groups: [auditors]}
      - {id: no-export, deny: [export], to: {groups: [interns]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "zt-proxy.yaml").write_text(FILE)
    return tmp_path


def log(folder: Path, age: float = 0.0) -> str:
    route = worlds(folder / "zt-proxy.yaml")["app"]
    now, made = SystemClock().now(), Log()
    alice, olga = session("alice", "staff"), session("olga", "old team", "auditors")
    made.signs_in(alice, at=now - age)
    made.signs_in(olga, at=now - age)
    made.decides(route, asks(alice, b"/flows", act=Act(Action.VIEW, matcher="flows"), now=now - age))
    for action in (Action.VIEW, Action.USE, Action.BUILD):
        made.decides(route, asks(alice, b"/flows", act=Act(action, matcher="flows"), now=now - 5))
    return str(made.write(folder / "audit"))


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["suggest", "-c", str(folder / "zt-proxy.yaml"), *arguments])
    return result.exit_code, result.output


def suggested(answer: dict[str, Any]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {(each["rule"], each["kind"], each["name"], tuple(each["losers"])) for each in answer["suggestions"]}


def test_what_nobody_used_is_named_with_who_would_lose_it(folder: Path) -> None:
    code, text = run(folder, "--log", log(folder), "--json")
    answer = json.loads(text)
    assert code == 0
    assert suggested(answer) == {
        ("staff", "action", "export", ("alice@example.com", "olga@example.com")),
        ("staff", "group", "old team", ("olga@example.com",)),
        ("staff", "user", "zoe@example.com", ()),
        ("makers", "group", "makers", ()),
        ("leavers", "rule", "leavers", ()),
        ("auditors", "rule", "auditors", ("olga@example.com",)),
    }
    assert "\n-      - {id: no-export" not in answer["patch"], "what denies stays"


def test_the_patch_applies_and_leaves_everything_else_as_it_was(folder: Path) -> None:
    code, text = run(folder, "--log", log(folder))
    assert code == 0
    if shutil.which("patch") is None:
        pytest.skip("needs patch")
    subprocess.run(["patch", "-p1"], input=text, cwd=folder, text=True, check=True, capture_output=True)
    after = (folder / "zt-proxy.yaml").read_text()
    expected = (
        FILE.replace('[view, use, export], to: {groups: [staff, "old team"], users: [zoe@example.com]}',
                     '[view, use], to: {groups: [staff], users: [zoe@example.com]}')
        .replace("            - makers   # few\n", "")
        .replace("mode: report}", "mode: off}")
        .replace("      - id: auditors\n", "      - id: auditors\n        mode: off\n")
    )  # fmt: skip
    assert after == expected
    worlds(folder / "zt-proxy.yaml")


def test_a_log_that_does_not_cover_the_window_is_warned_of(folder: Path) -> None:
    folder_of_log = log(folder)
    assert "# WARNING: the log begins" in run(folder, "--log", folder_of_log)[1]
    assert "WARNING" not in run(folder, "--log", log(folder, age=40 * 86_400.0))[1]
    assert run(folder, "--log", str(folder / "nowhere"))[0] == 2
