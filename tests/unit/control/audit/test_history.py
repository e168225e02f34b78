"""The lines of a log from some moment on."""

from pathlib import Path

import pytest

from zt_proxy.control.audit.history import begins, lines


def log(folder: Path, *files: range) -> Path:
    folder.mkdir(exist_ok=True)
    for times in files:
        text = "".join(f'{{"seq":{at},"at":{at}.5,"pad":"{"x" * 200}"}}\n' for at in times)
        (folder / f"audit-{times.start:012d}.jsonl").write_text(text)
    return folder


def test_everything_from_the_moment_on_is_given_and_not_much_before(tmp_path: Path) -> None:
    folder = log(tmp_path / "a", range(1, 5_000), range(5_000, 12_000))
    given = list(lines([folder]))
    assert len(given) == 11_999
    late = list(lines([folder], 9_000))
    assert late[-1] == given[-1]
    assert given[8_998] in late
    assert len(late) < 4_000, "not much of what is older"
    assert given[4_989] in list(lines([folder], 4_990)), "at the end of the first file"


def test_a_line_that_is_being_written_waits_and_progress_comes_to_its_end(tmp_path: Path) -> None:
    folder = log(tmp_path / "a", range(1, 10))
    with (folder / "audit-000000000001.jsonl").open("a") as file:
        file.write('{"seq":10,"at":1')
    said: list[tuple[int, int]] = []
    assert len(list(lines([folder], progress=lambda done, total: said.append((done, total))))) == 9
    assert said[-1][0] == said[-1][1]


def test_where_a_log_begins(tmp_path: Path) -> None:
    folder = log(tmp_path / "a", range(7, 9))
    assert begins([folder]) == 7.5
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "audit-000000000001.jsonl").write_text("nothing\n")
    assert begins([tmp_path / "b"]) is None
    assert list(lines([tmp_path / "b"], 5.0)) == [b"nothing"]
    with pytest.raises(FileNotFoundError):
        begins([tmp_path / "c"])
