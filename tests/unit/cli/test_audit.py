"""`zt-proxy audit` as an operator calls it."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_proxy.cli.main import app
from zt_proxy.control.audit.chain import Chain, log_files
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.lines import encode_line


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    return result.exit_code, result.output


def decision(request: str, effect: str, sub: str = "alice", **more: object) -> bytes:
    return encode_line(
        {
            "type": "decision", "v": 1, "at": 1.8e9, "id": request, "method": "GET", "host": "app.example",
            "path": "/x", "client": "192.0.2.1", "effect": effect, "reason": "r", "sub": sub, **more,
        }
    )  # fmt: skip


def end(request: str) -> bytes:
    return encode_line(
        {"type": "end", "v": 1, "at": 1.8e9, "id": request, "status": 200, "bytes_out": 5, "duration": 0.1}
    )


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    chain = Chain.open(tmp_path / "audit", clock=ManualClock(), rotate_bytes=600)
    for record in (decision("1", "allow"), end("1"), decision("2", "deny", "bob", email="bob@example.com"), end("2")):
        chain.append([record])
    yield chain
    chain.close()


@pytest.fixture
def log(chain: Chain, tmp_path: Path) -> Path:
    return tmp_path / "audit"


def test_verify_of_a_sound_log_exits_0_and_prints_the_head(log: Path, chain: Chain) -> None:
    code, output = run("verify", log)
    assert code == 0
    assert "The chain holds: 4 lines in" in output
    assert f"Head 4:{chain.head.hash}" in output
    assert run("verify", log, "--expect", f"4:{chain.head.hash}")[0] == 0


def test_verify_of_a_changed_log_exits_1_and_names_file_line_and_kind(log: Path) -> None:
    path = log_files(log)[0]
    path.write_bytes(path.read_bytes().replace(b"allow", b"alloW"))
    code, output = run("verify", log)
    assert code == 1
    assert f"{path.name}:1: edited:" in output


def test_verify_as_json_is_one_object(log: Path) -> None:
    code, output = run("verify", "--json", log)
    report = json.loads(output)
    assert code == 0
    assert (report["ok"], report["lines"], report["problem"]) == (True, 4, None)


def test_verify_of_what_cannot_be_read_exits_2(tmp_path: Path) -> None:
    assert run("verify", tmp_path / "nowhere")[0] == 2
    code, output = run("verify", tmp_path, "--expect", "nonsense")
    assert code == 2
    assert "SEQ:HASH" in output


def test_follow_shows_readable_lines(log: Path) -> None:
    code, output = run("follow", log, "--once")
    assert code == 0
    assert len(output.splitlines()) == 4
    assert re.search(r"deny +bob@example.com GET app.example/x r", output)
    assert "200 5 B 100.0 ms" in output


def test_follow_filters_by_field_and_by_person_with_the_ends_of_their_requests(log: Path) -> None:
    assert [
        json.loads(line)["id"]
        for line in run("follow", log, "--once", "--json", "--filter", "effect=deny")[1].splitlines()
    ] == ["2"]
    for user in ("bob", "bob@example.com"):
        lines = run("follow", log, "--once", "--json", "--user", user)[1].splitlines()
        assert [(json.loads(line)["id"], json.loads(line)["type"]) for line in lines] == [
            ("2", "decision"),
            ("2", "end"),
        ]


def test_follow_shows_the_last_lines_only(log: Path) -> None:
    assert len(run("follow", log, "--once", "-n", 1)[1].splitlines()) == 1
    assert run("follow", log, "--once", "-n", 0)[1] == ""


def test_follow_refuses_a_filter_without_a_value(log: Path) -> None:
    assert run("follow", log, "--filter", "effect")[0] == 2
    assert run("follow", log / "nowhere")[0] == 2


@pytest.mark.case("ZT-LOG-01")
def test_zt_log_01_follow_sends_no_control_characters_to_the_terminal(log: Path, chain: Chain) -> None:
    chain.append([decision("3", "deny", "\x1b]0;owned\x07\u202e\u2028\x9b", path="/\x1b[2J")])
    chain.append([encode_line({"type": "login", "v": 1, "at": 1.8e9, "sub": "\x1b[31m"})])
    for options in ([], ["--json"]):
        output = run("follow", log, "--once", "-n", 2, *options)[1]
        assert len(output.splitlines()) == 2
        assert output.replace("\n", "").isprintable()
        assert output.isascii()


def test_follow_goes_on_over_a_rotation(log: Path, chain: Chain) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "zt_proxy.cli.main", "audit", "follow", "--json", "-n", "1", str(log)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        assert json.loads(process.stdout.readline())["id"] == "2"
        before = len(log_files(log))
        for number in range(10, 20):
            chain.append([decision(str(number), "allow")])
            assert json.loads(process.stdout.readline())["id"] == str(number)
        assert len(log_files(log)) > before + 1
    finally:
        watchdog.cancel()
        process.terminate()
        process.wait()
        process.stdout.close()
