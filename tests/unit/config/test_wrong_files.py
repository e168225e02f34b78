"""Deliberately wrong files: every problem is named, with line and column, and nothing else is."""

import re
from pathlib import Path

import pytest

from zt_proxy.config import check, load
from zt_proxy.core.clock import ManualClock

WRONG = Path(__file__).parent / "wrong"
FILES = sorted(path.stem for path in WRONG.glob("*.yaml"))
_EXPECTED = re.compile(r"(\d+):(\d+): (error|warning): (.+)")


def test_there_are_ten_wrong_files_with_several_problems_each() -> None:
    assert sum(len((WRONG / f"{name}.expected").read_text().splitlines()) > 4 for name in FILES) >= 10


@pytest.mark.parametrize("name", FILES)
def test_every_problem_of_a_wrong_file_is_named_with_its_place(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZT_TEST_NOT_SET", raising=False)
    file = place / f"{name}.yaml"
    file.write_bytes((WRONG / file.name).read_bytes())
    problems = check(load(file), ManualClock())
    said = [f"{one.line}:{one.column}: {one.severity.value}: {one.text}".replace(f"{place}/", "") for one in problems]
    expected = (WRONG / f"{name}.expected").read_text().splitlines()
    assert all(_EXPECTED.fullmatch(line) for line in expected)
    assert said == expected
    assert all(str(problem).startswith(f"{file}:{problem.line}:{problem.column}: ") for problem in problems)
    assert "canary" not in "".join(map(str, problems))
