"""A canary in every place a secret can stand, and nowhere in what is printed."""

import logging
from pathlib import Path

import pytest

from zt_proxy import config
from zt_proxy.config.secrets import parse, resolve
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import Secret

from .examples import EVERYTHING, PLAIN

CANARY = "canary-5e1d"


def everything_said(place: Path, text: str) -> str:
    file = place / "zt-proxy.yaml"
    file.write_text(text)
    loaded = config.load(file)
    problems = config.check(loaded, ManualClock())
    said = [repr(loaded), str(loaded), repr(problems), *map(str, problems), repr(loaded.schema), str(loaded.schema)]
    try:
        made = config.build(loaded)
    except config.ConfigurationProblems as error:
        said += [str(error), repr(error), repr(error.args)]
    else:
        said += [repr(made), str(made), repr(made.control), repr(made.worker), repr(made.worker.routes)]
    return "\n".join(said)


@pytest.mark.parametrize(
    "written",
    [
        f"client_secret: {CANARY}",
        f'client_secret: "{CANARY}"',
        f'client_secret: "${{env:{CANARY}"',
        f"client_secret: [{CANARY}]",
        f"client_secret: {{{CANARY}: 1}}",
        f"client_secret: *{CANARY}",
        f"client_secret: !{CANARY} x",
        f'client_secret: "{CANARY}',
        f"client_secret: '{CANARY}' '{CANARY}'",
        f"client_secret: %{CANARY}",
        f"client_secret: @{CANARY}",
        f"client_secret: {CANARY}, client_secret: {CANARY}",
        f"client_secrets: {CANARY}",
        f"client_secret: {CANARY}, client_auth: none",
    ],
)
def test_a_secret_in_the_file_is_never_printed(written: str, place: Path) -> None:
    said = everything_said(place, PLAIN.replace('client_secret: "${file:certs/secret}"', written))
    if written.startswith(("client_secret: {", 'client_secret: "${')):
        said = said.replace(f"`{CANARY}`", "")  # a key, or the name of a variable
    assert CANARY not in said


def test_a_resolved_secret_is_never_printed(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ZT_TEST_SECRET", CANARY)
    assert CANARY not in everything_said(place, EVERYTHING)
    assert CANARY not in caplog.text


def test_a_literal_secret_is_a_warning_and_works(place: Path) -> None:
    file = place / "zt-proxy.yaml"
    file.write_text(PLAIN.replace("${file:certs/secret}", CANARY))
    (problem,) = config.check(config.load(file), ManualClock())
    assert problem.severity is config.Severity.WARNING
    assert (problem.line, problem.column) == (7, 77)
    assert config.build(config.load(file)).control.providers[0].client_secret == Secret(CANARY)


def test_a_secret_file_may_end_in_one_newline(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("abc\r\n")
    (tmp_path / "two").write_text("abc\n\n")
    (tmp_path / "none").write_text("\n")
    assert resolve(parse("${file:one}"), tmp_path).reveal() == "abc"
    for name, said in (("two", "more than one line"), ("none", "is empty"), ("missing", "cannot be read")):
        with pytest.raises(LookupError, match=said):
            resolve(parse(f"${{file:{name}}}"), tmp_path)


def test_a_variable_that_is_not_set_is_a_problem_with_its_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZT_TEST_SECRET", raising=False)
    file = place / "zt-proxy.yaml"
    file.write_text(PLAIN.replace("${file:certs/secret}", "${env:ZT_TEST_SECRET}"))
    (problem,) = config.check(config.load(file), ManualClock())
    assert str(problem) == f"{file}:7:77: error: the client secret: the environment variable ZT_TEST_SECRET is not set"
