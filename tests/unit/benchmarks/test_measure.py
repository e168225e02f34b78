import os
import subprocess
import sys

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Load, Resource, check_report, cpu_seconds, parse_report, parse_stat, resident_kib, tree

SMALL = Resource("/api/items", 1024, "")
REPORT = {
    "requests": 1000,
    "bytes": 1_200_000,
    "error_connect": 0,
    "error_read": 0,
    "error_write": 0,
    "error_status": 0,
    "error_timeout": 0,
}


def test_cpu_time_is_that_of_the_process_and_of_its_reaped_children() -> None:
    line = "42 (a) S (b) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 30 4 20 0 1 0 555 1000000 250 184467 1 1 0 0 0 0 0 0"
    stat = parse_stat(line)
    assert (stat.pid, stat.parent, stat.ticks, stat.resident_pages) == (42, 7, 154, 250)


def test_a_tree_holds_the_children_and_their_children() -> None:
    grandchild = "import os; print(os.getpid(), flush=True); input()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        members = {stat.pid for stat in tree(process.pid)}
        assert {process.pid, pid} <= members
        assert os.getpid() not in members
        assert resident_kib(process.pid) > resident_kib(pid) > 0


def test_cpu_time_of_a_child_that_ended_stays_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert cpu_seconds(process.pid) >= 0.2


def test_a_process_that_is_gone_is_an_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(BenchmarkError, match="is gone"):
        cpu_seconds(process.pid)


def test_a_load_is_divided_by_its_answers_and_by_its_cpu_time() -> None:
    load = Load(requests=50_000, bytes=60_000_000, cpu=2.0)
    assert load.microseconds_per_request == pytest.approx(40.0)
    assert load.megabytes_per_cpu_second == pytest.approx(30.0)


def test_the_report_is_found_among_the_other_output_of_wrk() -> None:
    output = 'Running 1s test @ https://localhost:1/\n\nzt-report {"requests":5,"bytes":6,"error_status":1}\n'
    assert parse_report(output) == {"requests": 5, "bytes": 6, "error_status": 1}


def test_output_without_a_report_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="no report"):
        parse_report("unable to connect")


def test_a_load_in_which_the_upstream_answered_everything_is_believed() -> None:
    check_report(REPORT, SMALL, 1016, "proxy")


@pytest.mark.parametrize("kind", ["connect", "read", "write", "status", "timeout"])
def test_one_failed_answer_spoils_the_load(kind: str) -> None:
    with pytest.raises(BenchmarkError, match=f"proxy answered wrongly under load.*error_{kind}"):
        check_report(REPORT | {f"error_{kind}": 1}, SMALL, 1000, "proxy")


def test_answers_that_did_not_come_from_the_upstream_spoil_the_load() -> None:
    with pytest.raises(BenchmarkError, match="1000 requests, but 900 reached the upstream"):
        check_report(REPORT, SMALL, 900, "proxy")


def test_answers_shorter_than_the_body_spoil_the_load() -> None:
    with pytest.raises(BenchmarkError, match="1000 answers of 1024"):
        check_report(REPORT | {"bytes": 1_000_000}, SMALL, 1000, "proxy")


def test_a_load_without_an_answer_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="answered no request"):
        check_report(REPORT | {"requests": 0, "bytes": 0}, SMALL, 0, "proxy")
