"""docs/reasons.md and the enum say the same (FIELD 22: one code per cause, each with a documentation anchor)."""

import re
from pathlib import Path

import pytest

from zt_proxy.core.errors import Reason

TEXT = (Path(__file__).parents[3] / "docs" / "reasons.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_every_reason_has_an_anchor_that_says_who_what_and_what_to_do(reason: Reason) -> None:
    section = SECTIONS.get(reason.value)
    assert section is not None, f"docs/reasons.md has no section '## {reason.value}'"
    for part in ("Status", "Who sees it", "What it means", "What the user can do", "What the operator should check"):
        assert re.search(rf"^- \*\*{part}:\*\* \S", section, re.MULTILINE), part


def test_no_section_explains_a_reason_that_does_not_exist() -> None:
    assert set(SECTIONS) <= {reason.value for reason in Reason}


def test_no_section_comes_twice() -> None:
    assert len(re.findall(r"^## ", TEXT, re.MULTILINE)) == len(SECTIONS)
