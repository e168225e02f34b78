"""The chain through restarts and crashes, and what verification finds."""

import hashlib
import json
from pathlib import Path

import pytest

from zt_proxy.control.audit.chain import GENESIS, Chain, Head, link, log_files, parse
from zt_proxy.control.audit.verify import Kind, Report, verify
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError


def opened(log: Path, rotate: int = 1 << 30) -> Chain:
    return Chain.open(log, clock=ManualClock(), rotate_bytes=rotate)


def written(log: Path, count: int, rotate: int = 1 << 30) -> Path:
    chain = opened(log, rotate)
    for number in range(count):
        chain.append([b'{"type":"end","n":%d}' % number])
    chain.close()
    return log_files(log)[-1]


def found(log: Path) -> tuple[Kind, str, int]:
    problem = verify([log]).problem
    assert problem is not None
    return problem.kind, problem.file, problem.line


def test_the_format_is_the_documented_one() -> None:
    """An independent reading of docs/reference/audit-log.md, with nothing of ours."""
    head, previous = Head(), "0" * 64
    for number in (1, 2, 3):
        line, head = link(head, b'{"type":"end","n":%d}' % number)
        assert line.endswith(b"\n")
        body, separator, rest = line[:-1].rpartition(b',"hash":"')
        assert separator
        assert rest == hashlib.sha256(body).hexdigest().encode() + b'"}'
        value = json.loads(line)
        assert list(value) == ["seq", "prev", "type", "n", "hash"]
        assert (value["seq"], value["prev"]) == (number, previous)
        previous = value["hash"]


@pytest.mark.parametrize("record", [b"", b"{}", b"[]", b'{"a":1}\n', b'{"a":\n1}', b'"text"'])
def test_what_is_not_an_object_on_one_line_cannot_be_linked(record: bytes) -> None:
    with pytest.raises(ValueError):
        link(Head(), record)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"seq":1}', b"x" * 500, b'{"seq":x,"prev":"' + b"0" * 64 + b'","a":1'])
def test_other_lines_do_not_parse(line: bytes) -> None:
    assert parse(line) is None


def test_a_whole_log_holds_over_rotation_and_restart(tmp_path: Path) -> None:
    written(tmp_path, 5, rotate=400)
    written(tmp_path, 5, rotate=400)
    assert len(log_files(tmp_path)) > 2
    report = verify([tmp_path])
    assert report == Report(True, len(log_files(tmp_path)), 10, 1, 10, report.last_hash, None, ())
    assert log_files(tmp_path)[0].name == "audit-000000000001.jsonl"


@pytest.mark.case("ZT-LOG-04")
def test_zt_log_04_an_edited_line_is_found_at_its_number(tmp_path: Path) -> None:
    path = written(tmp_path, 9)
    path.write_bytes(path.read_bytes().replace(b'"n":4}', b'"n":7}').replace(b'"n":4,', b'"n":7,'))
    assert found(tmp_path) == (Kind.EDITED, path.name, 5)


@pytest.mark.case("ZT-LOG-04")
def test_zt_log_04_a_deleted_line_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, 9)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    assert found(tmp_path) == (Kind.DELETED, path.name, 4)
    assert "line 4 is missing" in str(verify([tmp_path]).problem)


@pytest.mark.case("ZT-LOG-04")
def test_zt_log_04_reordered_lines_are_found(tmp_path: Path) -> None:
    path = written(tmp_path, 9)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3], lines[6] = lines[6], lines[3]
    path.write_bytes(b"".join(lines))
    assert found(tmp_path) == (Kind.REORDERED, path.name, 4)


@pytest.mark.case("ZT-LOG-04")
def test_zt_log_04_a_repeated_line_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, 9)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5] + lines[2:]))
    assert found(tmp_path) == (Kind.INSERTED, path.name, 6)


@pytest.mark.case("ZT-LOG-04")
def test_zt_log_04_a_line_made_anew_with_a_right_hash_is_found_at_the_next(tmp_path: Path) -> None:
    path = written(tmp_path, 9)
    lines = path.read_bytes().splitlines(keepends=True)
    before = parse(lines[3][:-1])
    assert before is not None
    lines[4], _ = link(Head(before.seq, before.hash), b'{"type":"end","n":99}')
    path.write_bytes(b"".join(lines))
    assert found(tmp_path) == (Kind.RELINKED, path.name, 6)


@pytest.mark.case("ZT-LOG-04")
def test_zt_log_04_lines_cut_off_the_end_are_missed(tmp_path: Path) -> None:
    path = written(tmp_path, 9)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert found(tmp_path) == (Kind.TRUNCATED, path.name, 7)


def test_lines_cut_off_while_the_writer_was_down_stay_on_record(tmp_path: Path) -> None:
    path = written(tmp_path, 9)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    written(tmp_path, 5)
    assert found(tmp_path) == (Kind.TRUNCATED, path.name, 8)


def test_an_edit_of_the_last_line_while_the_writer_was_down_is_still_found_there(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    path.write_bytes(path.read_bytes().replace(b'"n":2,', b'"n":5,'))
    written(tmp_path, 3)
    assert found(tmp_path) == (Kind.EDITED, path.name, 3)


def test_a_missing_file_in_the_middle_is_found(tmp_path: Path) -> None:
    written(tmp_path, 12, rotate=400)
    files = log_files(tmp_path)
    files[1].unlink()
    assert found(tmp_path) == (Kind.DELETED, files[2].name, 1)


def test_earlier_files_may_be_archived_elsewhere_and_that_is_said(tmp_path: Path) -> None:
    written(tmp_path, 12, rotate=400)
    log_files(tmp_path)[0].unlink()
    report = verify([tmp_path])
    assert report.ok
    assert "what came before was not given" in report.notes[0]


def test_a_whole_chain_made_anew_is_found_with_a_hash_noted_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path / "a", 9)
    noted = verify([tmp_path / "a"])
    written(tmp_path / "b", 4)
    lines = log_files(tmp_path / "b")[0].read_bytes()
    chain = opened(tmp_path / "b")
    chain.append([b'{"type":"end","n":1000}'] * 5)
    chain.close()
    assert lines != path.read_bytes()
    expect = Head(noted.last_seq, noted.last_hash)
    assert verify([tmp_path / "a"], expect=expect).ok
    forged = verify([tmp_path / "b"], expect=expect).problem
    assert forged is not None
    assert forged.kind is Kind.RELINKED
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    cut = verify([path], expect=expect).problem
    assert cut is not None
    assert cut.kind is Kind.TRUNCATED


@pytest.mark.parametrize("torn", [b'{"seq":4,"prev":"12', b'{"seq":4', b"\0" * 4096, b"x", b'{"seq":4}\n{"se'])
def test_what_a_crash_tore_is_set_aside_noted_and_the_chain_goes_on(torn: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    with path.open("ab") as file:
        file.write(torn)
    written(tmp_path, 2)
    report = verify([tmp_path])
    assert report.ok
    assert report.lines == 3 + 1 + 2
    (aside,) = tmp_path.glob("*.torn-*")
    assert aside.read_bytes() == torn
    note = json.loads(path.read_bytes().splitlines()[3])
    assert (note["type"], note["event"], note["file"], note["bytes"]) == ("log", "torn", aside.name, len(torn))
    assert note["sha256"] == hashlib.sha256(torn).hexdigest()
    assert "torn" in report.notes[0]


def test_a_crash_right_after_a_rotation_leaves_no_hole(tmp_path: Path) -> None:
    written(tmp_path, 3)
    (tmp_path / "audit-000000000004.jsonl").write_bytes(b"")
    written(tmp_path, 1)
    report = verify([tmp_path])
    assert report.ok
    assert report.lines == 4


def test_a_file_taken_away_under_the_writer_does_not_swallow_lines(tmp_path: Path) -> None:
    chain = opened(tmp_path)
    chain.append([b'{"n":1}'])
    log_files(tmp_path)[0].unlink()
    chain.append([b'{"n":2}'])
    chain.close()
    assert [path.name for path in log_files(tmp_path)] == ["audit-000000000002.jsonl"]


def test_only_one_writer_may_have_a_log(tmp_path: Path) -> None:
    chain = opened(tmp_path)
    with pytest.raises(ConfigurationError):
        opened(tmp_path)
    chain.close()
    opened(tmp_path).close()


def test_the_first_line_of_all_must_begin_a_chain(tmp_path: Path) -> None:
    line, _ = link(Head(0, "1" * 64), b'{"n":1}')
    (tmp_path / "x.jsonl").write_bytes(line)
    problem = verify([tmp_path / "x.jsonl"]).problem
    assert problem is not None
    assert problem.kind is Kind.RELINKED
    assert GENESIS != "1" * 64


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    written(tmp_path, 5)
    seen: list[tuple[int, int]] = []
    verify([tmp_path], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == log_files(tmp_path)[0].stat().st_size


def test_a_path_without_a_log_is_an_error_not_a_clean_result(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify([tmp_path])
    with pytest.raises(FileNotFoundError):
        verify([tmp_path / "nowhere"])
