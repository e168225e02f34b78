"""docs/reference/profiles.md: its table is of the profiles that come along, and its examples can be loaded."""

import re
from pathlib import Path

import pytest

from zt_proxy.config.profile_reader import MATCHER_KEYS, PROFILE_KEYS
from zt_proxy.config.profiles import known_profiles, load_profile, read_file
from zt_proxy.core.types import Action, Change, Sensitivity

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "profiles.md").read_text("utf-8")
EXAMPLES = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if block.startswith("name:")]


def table() -> str:
    lines = ["| name | platform | written against | verified |", "|---|---|---|---|"]
    for name in sorted(known_profiles()):
        spec = load_profile(name)
        lines.append(f"| `{name}` | {spec.title} | {spec.written_against} | {spec.verified} |")
    return "\n".join(lines)


def test_the_table_is_of_the_profiles_that_come_along() -> None:
    written = re.search(r"<!-- profiles -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert written is not None
    assert written[1] == table(), f"write this into the page:\n{table()}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_a_profile_has_no_problem(example: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(example)
    assert read_file(path).problems == ()


def test_every_key_and_every_word_is_on_the_page() -> None:
    assert len(EXAMPLES) == 2
    for word in (*PROFILE_KEYS, *MATCHER_KEYS, *Action, *Change, *Sensitivity):
        assert re.search(rf"[`{{ \n]{re.escape(word)}[`:,}} ]", PAGE), word
