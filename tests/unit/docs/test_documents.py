"""The documents: their links lead somewhere, ready configurations are valid, and what they name exists."""

import re
from pathlib import Path

import pytest

import zt_proxy
from zt_proxy.config.check import check
from zt_proxy.config.load import load
from zt_proxy.core.errors import Reason

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, link


def test_every_decision_has_its_number_once() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_ready_configuration_lacks_only_its_certificate(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZT_OIDC_SECRET", "secret")
    copy = tmp_path / file.name
    copy.write_text(file.read_text("utf-8"))
    problems = [str(problem) for problem in check(load(copy))]
    assert problems
    assert all("certs/site" in problem for problem in problems), problems


def test_the_architecture_page_names_modules_that_exist() -> None:
    assert zt_proxy.__doc__ is not None
    package = ROOT / "zt_proxy"
    for name in re.findall(
        r"\b((?:core|link|policy|worker|wire|edge|gateway|upstream|control|processes|identify)\.[a-z0-9_.]+)",
        zt_proxy.__doc__,
    ):
        parts = name.rstrip(".").split(".")
        found = any(
            (base.joinpath(*parts[:depth])).is_dir() or base.joinpath(*parts[:depth]).with_suffix(".py").is_file()
            for base in (package, package / "worker")
            for depth in range(2, len(parts) + 1)
        )
        assert found, name


def test_the_reasons_that_the_readme_explains_exist() -> None:
    explained = (ROOT / "README.md").read_text("utf-8").partition("### If something")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([a-z-]+)`", explained, re.MULTILINE)
    assert named
    assert set(named) <= {reason.value for reason in Reason}
