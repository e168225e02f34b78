import json
import socket
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import names_of, parse_arguments, require_tools, result_line, scale_of
from benchmarks.bench import FULL, QUICK
from benchmarks.errors import BenchmarkError
from benchmarks.figures import FIGURES
from benchmarks.proxy import declared_routes
from benchmarks.rounds import Outcome
from benchmarks.servers import Server, free_port, large_body, launch, wait_listening


def test_the_gates_are_those_of_the_design() -> None:
    gates = {figure.gate.key: (figure.gate.limit, figure.gate.at_most) for figure in FIGURES.values()}
    assert gates == {
        "ratio_nginx": (2.5, True),
        "download_ratio": (0.7, False),
        "idle_kib": (25.0, True),
        "routes_1000_over_10": (1.1, True),
        "mtls_over_session": (1.1, True),
        "two_workers_cpu": (1.15, True),
        "busier_share": (0.6, True),
        "worker_rss_mib": (60.0, True),
        "sessions_100k_over_1": (1.1, True),
        "decision_us_100": (10.0, True),
        "decision_us_1000": (25.0, True),
        "mask_us_25k": (150.0, True),
        "replay_per_s": (50_000.0, False),
    }


def test_the_last_line_names_every_figure_and_the_gates_missed() -> None:
    outcomes = [
        Outcome(FIGURES["request"].gate, 2.71828, {"request_us": 54.321}),
        Outcome(FIGURES["download"].gate, 0.8),
    ]
    assert json.loads(result_line(outcomes)) == {
        "ratio_nginx": 2.718,
        "download_ratio": 0.8,
        "idle_kib": None,
        "routes_1000_over_10": None,
        "mtls_over_session": None,
        "two_workers_cpu": None,
        "busier_share": None,
        "worker_rss_mib": None,
        "sessions_100k_over_1": None,
        "decision_us_100": None,
        "decision_us_1000": None,
        "mask_us_25k": None,
        "replay_per_s": None,
        "request_us": 54.32,
        "missed": ["ratio_nginx"],
    }


def test_a_full_run_has_at_least_five_rounds_and_a_quick_one_fewer() -> None:
    assert scale_of(parse_arguments([])) is FULL
    assert scale_of(parse_arguments(["--quick"])) is QUICK
    assert FULL.rounds >= 5 > QUICK.rounds


def test_a_quick_run_takes_the_first_figures_unless_others_are_named() -> None:
    assert names_of(parse_arguments([])) == list(FIGURES)
    assert names_of(parse_arguments(["--quick"])) == ["request", "download", "idle", "routes"]
    assert names_of(parse_arguments(["--quick", "--only", "memory"])) == ["memory"]


def test_rounds_can_be_chosen() -> None:
    scale = scale_of(parse_arguments(["--quick", "--rounds", "9"]))
    assert (scale.rounds, scale.idle_rounds, scale.request_seconds) == (9, 9, QUICK.request_seconds)


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--only", "latency"], ["--fast"]])
def test_a_mistaken_option_ends_with_two(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    assert "python -m benchmarks --only request" in capsys.readouterr().out


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match="nginx is missing: apt-get install nginx"):
        require_tools()


def test_the_route_that_is_asked_is_declared_last() -> None:
    routes = declared_routes(1000, 8443)
    assert len(routes) == len(set(routes)) == 1000
    assert routes[-1] == ("localhost:8443", "/")


def test_the_large_body_is_ten_mebibytes() -> None:
    assert len(large_body()) == 10 * 1024 * 1024


def test_a_server_that_ends_before_it_listens_is_reported_with_its_output(tmp_path: Path) -> None:
    process, log = launch([sys.executable, "-c", "raise SystemExit('no such certificate')"], tmp_path, "proxy", 0)
    with pytest.raises(BenchmarkError, match="no such certificate"):
        wait_listening(Server("proxy", process, free_port(), log))


def test_a_server_is_stopped_when_its_block_is_left(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    process, log = launch(command, tmp_path, "app", 0)
    with wait_listening(Server("app", process, port, log)):
        assert process.poll() is None
    assert process.poll() is not None
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
