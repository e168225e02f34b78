"""The commands that lock and unlock: what they refuse before asking anybody, and when they ask first."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from zt_proxy.cli import locks
from zt_proxy.cli.main import app

SHOWN = {
    "id": "3f9a2c01", "kind": "user", "value": "00u1", "provider": "corp", "shown": "alice@example.com",
    "effect": "block", "cause": "stolen", "by": "root", "at": 1_000_000.0, "expires": 1_003_600.0,
}  # fmt: skip
DONE = {"lock": SHOWN, "known": True, "in_force": True, "waiting": [], "certain_in": 0.0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What the proxy was asked."""
    found: list[tuple[str, Any]] = []

    def answer(_path: Path, _method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        found.append((target, body))
        if target == "/status":
            return {"sessions": 12}
        return DONE if target == "/locks" else {**DONE, "locks": [SHOWN]}

    monkeypatch.setattr(locks, "ask", answer)
    return found


def run(*arguments: str, **more: Any) -> Any:
    return CliRunner().invoke(app, [*arguments, "--socket", "/nowhere"], **more)


def test_a_lock_says_whom_how_and_how_to_undo_it(asked: list[tuple[str, Any]]) -> None:
    result = run("lock", "user", "alice@example.com", "--reason", "stolen")
    assert result.exit_code == 0, result.output
    for piece in (
        "locked 3f9a2c01",
        "alice@example.com (00u1, corp)",
        "for 1 h 0 min",
        "every worker",
        "unlock 3f9a2c01",
    ):
        assert piece in result.output
    assert asked[0][1]["lasts"] == 3600.0


@pytest.mark.parametrize(
    "arguments",
    [
        ["lock", "user", "alice", "--for", "tomorrow"],
        ["lock", "user", "alice", "--for", "1h", "--until-reviewed"],
        ["lock", "planet", "mars"],
        ["lock", "user", "alice", "--effect", "explode"],
        ["unlock"],
        ["unlock", "3f9a2c01", "--user", "alice"],
        ["unlock", "--user", "alice", "--route", "flows"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_asked_of_nobody(asked: list[tuple[str, Any]], arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
    assert asked == []


def test_only_a_route_is_asked_about_first(asked: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("lock", "route", "flows").exit_code == 2
    assert asked == []
    monkeypatch.setattr(locks, "_asks_a_person", lambda: True)
    result = run("lock", "route", "flows", input="n\n")
    assert (result.exit_code, "12 sessions" in result.output) == (2, True)
    assert [target for target, _ in asked] == ["/status"]
    assert run("lock", "route", "flows", input="y\n").exit_code == 0
    assert run("lock", "route", "flows", "--yes").exit_code == 0
    assert [target for target, _ in asked] == ["/status", "/status", "/locks", "/locks"]


def test_an_unlock_says_what_was_lifted(asked: list[tuple[str, Any]]) -> None:
    result = run("unlock", "--user", "alice", "--provider", "corp", "--reason", "her")
    assert (result.exit_code, "unlocked 3f9a2c01" in result.output) == (0, True)
    assert asked == [("/locks/lift", {"reason": "her", "kind": "user", "value": "alice", "provider": "corp"})]


def test_a_worker_that_has_yet_to_confirm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = [{"worker": 1, "connected": True, "lease_ends_in": 3.2}]
    late = {**DONE, "in_force": False, "waiting": waiting, "certain_in": 3.2}
    monkeypatch.setattr(locks, "ask", lambda *_: late)
    result = run("lock", "session", "s1")
    assert result.exit_code == 3
    assert "Worker 1 has not confirmed; its lease ends in 3.2 s." in result.output
    assert json.loads(run("lock", "session", "s1", "--json").output)["waiting"] == waiting
