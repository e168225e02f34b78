"""A real program that is missing is never passed over in silence."""

import pytest

from tests.real import fixtures


def test_a_missing_program_skips_with_its_reason(monkeypatch):
    monkeypatch.delenv("ZT_REQUIRE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not here"):
        fixtures.missing("not here")


def test_a_missing_program_fails_where_it_is_required(monkeypatch):
    monkeypatch.setenv("ZT_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="not here"):
        fixtures.missing("not here")


def test_a_program_that_ends_at_once_fails_with_what_it_said(tmp_path):
    script = tmp_path / "broken.sh"
    script.write_text("echo the reason; exit 3")
    with (
        pytest.raises(pytest.fail.Exception, match="the reason"),
        fixtures.program(["sh", str(script)], "ready"),
    ):
        pass
