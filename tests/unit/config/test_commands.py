"""`zt-proxy check`, `init` and `schema`, and the files that are made from the schema."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_proxy.cli.init import Platform, render
from zt_proxy.cli.main import app
from zt_proxy.config import Severity, check, load, load_text
from zt_proxy.config.reference import json_schema, markdown
from zt_proxy.core.clock import ManualClock

from .examples import EVERYTHING, PLAIN, POLICY

ROOT = Path(__file__).parents[3]
FLAGS = [
    "--host",
    "flows.example.com",
    "--upstream",
    "http://127.0.0.1:1880",
    "--portal",
    "https://auth.example.com:8443",
    "--issuer",
    "https://sso.example.com/realms/main",
    "--client-id",
    "zt",
]


def write(place: Path, text: str) -> str:
    file = place / "zt-proxy.yaml"
    file.write_text(text)
    return str(file)


def test_check_of_a_right_file_shows_what_it_would_serve(place: Path) -> None:
    result = CliRunner().invoke(app, ["check", write(place, PLAIN)])
    assert result.exit_code == 0
    for piece in (
        "0.0.0.0:8443",
        "flows.example.com",
        "http://127.0.0.1:1880",
        "deploy",
        "signed in within 5m",
        "[report]",
        "fine",
    ):
        assert piece in result.stdout


def test_check_of_a_policy_shows_who_may_do_what_when_and_what_is_asked(place: Path) -> None:
    result = CliRunner().invoke(app, ["check", write(place, POLICY)])
    assert result.exit_code == 0, result.stdout
    for piece in (
        "deny export to everyone, when not  (organisation)",
        "deny build, deploy to everyone, when device_known  (lowcode)",
        "allow view, use to staff, multi, signed in within 8h",
        "allow deploy flow:* POST to role releaser, when access_level and time and risk, phishing-resistant, "
        "signed in within 5m, with a reason, approved by leads",
        "0 errors, 2 warnings",
    ):
        assert piece in result.stdout


def test_check_of_a_wrong_file_names_the_place_and_fails(place: Path) -> None:
    file = write(place, PLAIN.replace("reauth: 5m", "reauth: 5"))
    result = CliRunner().invoke(app, ["check", file])
    assert result.exit_code == 1
    assert f"{file}:14:" in result.stdout
    assert "1 error, 0 warnings" in result.stdout


def test_warnings_fail_only_when_strict(place: Path) -> None:
    file = write(
        place,
        PLAIN.replace(
            'allow: [{methods: [GET], paths: ["/**"]}], to: {groups: [staff]}', "allow: all, to: anyone-signed-in"
        ),
    )
    assert CliRunner().invoke(app, ["check", file]).exit_code == 1  # deploy can never ask for a proof
    file = write(place, PLAIN.replace("${file:certs/secret}", "written here"))
    assert CliRunner().invoke(app, ["check", file]).exit_code == 0
    assert CliRunner().invoke(app, ["check", "--strict", file]).exit_code == 1


def test_check_tells_machines_in_json(place: Path) -> None:
    result = CliRunner().invoke(app, ["check", "--json", write(place, PLAIN.replace("mode: report", "mode: reprot"))])
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["ok"], answer["errors"]) == (1, False, 1)
    assert answer["problems"][0]["line"] == 15
    assert answer["problems"][0]["hint"] == "did you mean `report`?"


def test_check_of_a_missing_file_fails(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["check", str(tmp_path / "none.yaml")]).exit_code == 1


@pytest.mark.parametrize("platform", list(Platform))
def test_what_init_writes_is_right_but_for_secrets_and_certificates(
    platform: Platform, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZT_OIDC_SECRET", "s3cret")
    file = place / "made.yaml"
    result = CliRunner().invoke(app, ["init", "--platform", platform.value, *FLAGS, "-o", str(file)])
    assert result.exit_code == 0, result.output
    assert [str(problem) for problem in check(load(file), ManualClock())] == []
    (place / "certs").unlink()
    monkeypatch.delenv("ZT_OIDC_SECRET")
    problems = check(load(file), ManualClock())
    assert len(problems) == 3
    assert all("cannot be read" in problem.message or "is not set" in problem.message for problem in problems)
    assert "not built yet" not in file.read_text()


def test_every_rule_that_init_suggests_in_a_comment_is_right_as_well(place: Path) -> None:
    for platform in Platform:
        text = render(
            platform,
            host="flows.example.com",
            upstream="http://127.0.0.1:1880",
            portal="https://auth.example.com:8443",
            issuer="https://sso.example.com",
            client_id="zt",
            certificate="certs/site.pem",
            key="certs/site.key",
            file=Path("a.yaml"),
        )
        commented = re.compile(r"^( +)# (?=(- |  )?(id|allow|deny|to|when|require|mode):)", re.MULTILINE)
        loaded = load_text(
            commented.sub(r"\1", text).replace("${env:ZT_OIDC_SECRET}", "${file:certs/secret}"), place / "a"
        )
        assert loaded.schema is not None
        assert len(loaded.schema.routes[0].rules) > text.count("\n      - id:")
        problems = check(loaded, ManualClock())
        told = [str(problem) for problem in problems if problem.severity is Severity.ERROR]
        assert all("fresh proof" in problem for problem in told)  # of which the comment beside it speaks


def test_init_does_not_overwrite_without_force(tmp_path: Path) -> None:
    file = tmp_path / "zt-proxy.yaml"
    file.write_text("mine")
    result = CliRunner().invoke(app, ["init", *FLAGS, "-o", str(file)])
    assert (result.exit_code, file.read_text()) == (2, "mine")
    assert CliRunner().invoke(app, ["init", *FLAGS, "-o", str(file), "--force"]).exit_code == 0
    assert file.read_text() != "mine"


def test_init_without_a_terminal_says_which_flags_are_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", "--host", "a.example.com", "-o", str(tmp_path / "a.yaml")])
    assert result.exit_code == 2
    assert "--portal --issuer" in result.stderr


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--portal", "http://auth.example.com"),
        ("--host", "https://x"),
        ("--upstream", "127.0.0.1"),
        ("--issuer", "sso"),
    ],
)
def test_init_refuses_an_answer_that_cannot_be_right(flag: str, value: str, tmp_path: Path) -> None:
    flags = list(FLAGS)
    flags[flags.index(flag) + 1] = value
    result = CliRunner().invoke(app, ["init", *flags, "-o", str(tmp_path / "a.yaml")])
    assert result.exit_code == 2
    assert not (tmp_path / "a.yaml").exists()


def test_an_answer_of_init_can_be_nothing_but_a_value(place: Path) -> None:
    file = place / "a.yaml"
    evil = 'zt"\n  evil: {x: 1} # <KEY>'
    flags = [*FLAGS[:-1], evil]
    assert CliRunner().invoke(app, ["init", *flags, "-o", str(file)]).exit_code == 0
    schema = load(file).schema
    assert schema is not None
    assert schema.identity.providers["corp"].client_id == evil


def test_init_asks_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    answers = "node-red\nflows.example.com\n\nhttps://auth.example.com\nhttps://sso.example.com\n\n"
    program = [sys.executable, "-m", "zt_proxy.cli.main", "init", "-o", str(tmp_path / "asked.yaml")]
    with subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT) as process:
        os.close(theirs)
        os.write(ours, answers.encode())
        said = b""
        try:
            while chunk := os.read(ours, 4096):
                said += chunk
        except OSError:  # how Linux says that the other end has gone
            pass
        assert process.wait() == 0, said
    os.close(ours)
    schema = load(tmp_path / "asked.yaml").schema
    assert schema is not None
    assert schema.routes[0].upstream.url == "http://127.0.0.1:1880"
    assert schema.identity.providers["corp"].client_id == "zt-proxy"


@pytest.mark.parametrize(
    ("name", "platform", "host", "port"),
    [
        ("generic-oidc.yaml", Platform.GENERIC, "app.example.com", 8080),
        ("node-red.yaml", Platform.NODE_RED, "flows.example.com", 1880),
    ],
)
def test_the_ready_configurations_are_what_init_writes(name: str, platform: Platform, host: str, port: int) -> None:
    file = ROOT / "config" / name
    made = render(
        platform,
        host=host,
        upstream=f"http://127.0.0.1:{port}",
        portal="https://auth.example.com",
        issuer="https://sso.example.com/realms/main",
        client_id="zt-proxy",
        certificate="certs/site.pem",
        key="certs/site.key",
        file=file,
    )
    assert file.read_text() == made
    assert load(file).problems == ()


def test_the_reference_is_current() -> None:
    kept = (ROOT / "docs/reference/configuration.md").read_text()
    assert kept == markdown(), "python -m zt_proxy.config.reference > docs/reference/configuration.md"


def test_the_schema_in_the_documentation_is_current(tmp_path: Path) -> None:
    kept = ROOT / "docs/reference/schema.json"
    made = tmp_path / "schema.json"
    assert CliRunner().invoke(app, ["schema", "--output", str(made)]).exit_code == 0
    assert kept.read_bytes() == made.read_bytes(), "zt-proxy schema --output docs/reference/schema.json"


def test_a_schema_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["schema", "--output", str(tmp_path / "none" / "schema.json")])
    assert result.exit_code == 1
    assert "No such file or directory" in result.output


def test_every_key_is_explained() -> None:
    assert all(line.rstrip(" |").count("|") >= 4 for line in markdown().splitlines() if line.startswith("| `"))


def test_the_json_schema_speaks_units() -> None:
    result = CliRunner().invoke(app, ["schema"])
    schema = json.loads(result.stdout)
    assert schema == json.loads(json.dumps(json_schema()))
    assert schema["$defs"]["Session"]["properties"]["idle"]["default"] == "30m"
    assert schema["$defs"]["Limits"]["properties"]["header_bytes"]["default"] == "32KiB"
    assert schema["additionalProperties"] is False
    assert "redis" not in json.dumps(schema)


def test_the_examples_of_these_tests_use_every_key() -> None:
    for model in (json_schema(), *json_schema()["$defs"].values()):
        for key in model["properties"]:
            assert re.search(rf"\b{key}:", EVERYTHING + PLAIN), key


@pytest.mark.parametrize("command", ["check", "init", "schema"])
def test_help_has_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout
