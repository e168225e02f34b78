"""Every case of the catalogue is answered by a test, or says which part will answer it; never both, never neither."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

TESTS = Path(__file__).parent.parent
CASE = re.compile(r"ZT-[A-Z]+-\d+")


def read(name: str) -> Any:
    return YAML(typ="safe").load((TESTS / "attack" / name).read_text())


def marked(tree: ast.Module) -> Iterator[str]:
    """Ids in `mark.case(...)`; where a table gives them (`mark.case(case)`), the ids that are keys of its dicts."""
    from_table = False
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "case"):
            continue
        for argument in node.args:
            if isinstance(argument, ast.Constant):
                yield str(argument.value)
            else:
                from_table = True
    if from_table:
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                for key in node.keys:
                    if isinstance(key, ast.Constant) and isinstance(key.value, str) and CASE.fullmatch(key.value):
                        yield key.value


def answered() -> dict[str, list[str]]:
    """Case → the files whose tests carry it."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        if "node_modules" in path.parts:
            continue
        text = path.read_text()
        if "mark.case(" in text:
            for case in set(marked(ast.parse(text))):
                found.setdefault(case, []).append(str(path.relative_to(TESTS)))
    return found


def test_every_case_is_tested_or_pending_and_none_is_both() -> None:
    cases = [case["id"] for case in read("cases.yaml")]
    pending: dict[str, str] = read("pending.yaml") or {}
    found = answered()
    assert len(cases) == len(set(cases)), "an id names two cases"
    assert sorted(set(found) - set(cases)) == [], "tests name cases that the catalogue does not know"
    assert sorted(set(pending) - set(cases)) == [], "pending.yaml names cases that the catalogue does not know"
    assert sorted(set(pending) & set(found)) == [], "these have a test by now: take them out of pending.yaml"
    assert sorted(set(cases) - set(found) - set(pending)) == [], "these have neither a test nor a part to wait for"
    assert all(isinstance(part, str) and part for part in pending.values())
    assert len(found) >= 100


def test_a_case_says_what_is_done_and_what_must_come_of_it() -> None:
    for case in read("cases.yaml"):
        assert CASE.fullmatch(case["id"]), case
        assert case["category"] == case["id"].split("-")[1], case
        for field in ("source", "setup", "input", "expected"):
            assert case.get(field), (case["id"], field)
