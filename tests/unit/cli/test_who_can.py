"""`zt-proxy who-can`: everybody of a file, or of the running proxy, against one action or request."""

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from zt_proxy.cli.main import app

OFFICE = ("--network", "office", "--device", "known")


def who_can(config: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = ["who-can", *arguments, "-c", str(config), "--json"]
    if "--socket" not in arguments:
        command += ["--people", str(config.parent / "people.yaml")]
    result = CliRunner().invoke(app, command)
    return result.exit_code, json.loads(result.output) if result.output.startswith("{") else {"said": result.output}


def test_everybody_is_told_of_with_what_comes_with_it_or_lacks(config: Path) -> None:
    code, told = who_can(config, "POST:/flows", "builder", *OFFICE)
    assert code == 0
    assert [(each["who"], each["may"], each["duties"]) for each in told["may"]] == [
        ("rita@example.com", "yes", ["proof of the last 5m"])
    ]
    assert [(each["who"], each["why"]) for each in told["may_not"]] == [
        ("4711", "deploy: subject: roles releaser"),
        ("ann@example.com", "deploy: subject: roles releaser"),
    ]


def test_an_old_proof_is_somebody_who_may_afterwards(config: Path) -> None:
    _, told = who_can(config, "deploy", "builder", *OFFICE, "--proved-ago", "1h", "--object", "flow:all")
    assert [(each["who"], each["may"]) for each in told["may"]] == [("rita@example.com", "after")]


def test_nobody_is_another_exit_code(config: Path) -> None:
    assert who_can(config, "manage-access", "builder", *OFFICE)[0] in {1, 2}
    assert who_can(config, "POST:/flows", "builder", "--network", "outside", "--device", "known")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("delpoy", "builder"), "did you mean `deploy`?"),
        (("deploy", "bilder"), "did you mean `builder`?"),
        (("deploy", "builder", "--object", "flow"), "expected KIND:NAME"),
        (("deploy", "builder", "--object", "table:x"), "nothing on `builder` is `deploy` of `table:x`"),
        (("deploy", "builder", "--people", "/nowhere.yaml"), "No such file"),
    ],
)
def test_a_question_that_makes_no_sense_ends_with_2(config: Path, arguments: tuple[str, ...], says: str) -> None:
    command = ["who-can", *arguments, "-c", str(config)]
    if "--people" not in arguments:
        command += ["--people", str(config.parent / "people.yaml")]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, says in result.output) == (2, True), result.output


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        person = {"subject": "1", "email": "rita@example.com", "provider": "corp", "groups": ["releasers"]}
        people = [person] if "after" not in self.path else [{**person, "subject": "2", "email": "ann@example.com"}]
        body = json.dumps({"at": 0, "people": people, "following": "" if "after" in self.path else "aa"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return ""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "operator.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def test_the_running_proxy_is_asked_page_by_page(config: Path, proxy: Path) -> None:
    _, told = who_can(config, "POST:/flows", "builder", *OFFICE, "--socket", str(proxy))
    assert [each["who"] for each in told["may"]] == ["ann@example.com", "rita@example.com"]


def test_explain_takes_groups_from_the_running_proxy(config: Path, proxy: Path) -> None:
    asked = ["explain", "-c", str(config), "--socket", str(proxy), "--json", *OFFICE, "-X", "POST", "--path", "/flows"]
    result = CliRunner().invoke(app, [*asked, "--user", "rita@example.com"])
    answer = json.loads(result.output)
    assert (result.exit_code, answer["rule"], answer["question"]["subject"]) == (0, "deploy", "1")
