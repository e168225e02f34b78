"""`zt-proxy ca`, as an operator types it."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from cryptography import x509
from typer.testing import CliRunner

from zt_proxy.cli.main import app

URI = "spiffe://example.com/crm-sync"


class Terminal:
    """An operator in a folder of their own."""

    def run(self, *words: str | Path, says: str = "") -> Result:
        return CliRunner().invoke(app, ["ca", *map(str, words)], input=says)

    def done(self, *words: str | Path) -> str:
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return result.output

    def refused(self, *words: str | Path) -> str:
        result = self.run(*words)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        return result.stderr


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal()


def openssl_verify(certificate: str) -> str:
    words = ["-CAfile", "ca/ca.pem", "-CRLfile", "ca/crl.pem", "-crl_check", "-purpose", "sslclient", certificate]
    done = subprocess.run(["openssl", "verify", *words], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_from_nothing_to_a_certificate_that_is_revoked(terminal: Terminal) -> None:
    said = terminal.done("init", "--name", "Example clients")
    assert "client_certificates: {required: true, ca: ca/ca.pem, crl: ca/crl.pem}" in said
    said = terminal.done("issue", "crm-sync", "--san-uri", URI, "--route", "crm", "--url", "https://x:9443/a?b=1&c=2")
    assert f'certificate: {{san_uri: "{URI}"}}' in said
    assert "- {route: crm, methods: [GET, HEAD]" in said
    assert "curl --cert crm-sync.pem --key crm-sync.key 'https://x:9443/a?b=1&c=2'" in said
    assert Path("crm-sync.key").stat().st_mode & 0o777 == 0o600
    assert openssl_verify("crm-sync.pem").endswith(": OK\n")
    assert "revoked: crm-sync" in terminal.done("revoke", "crm-sync.pem", "--reason", "key-compromise", "--yes")
    assert "certificate revoked" in openssl_verify("crm-sync.pem")
    assert "revoked (key-compromise)" in terminal.done("list")


def test_two_authorities_do_not_bear_one_name(terminal: Terminal) -> None:
    terminal.done("init", "one")
    terminal.done("init", "two")
    one, two = (x509.load_pem_x509_certificate(Path(each, "ca.pem").read_bytes()) for each in ("one", "two"))
    assert one.subject != two.subject


def test_nothing_that_is_there_is_overwritten(terminal: Terminal) -> None:
    terminal.done("init")
    terminal.done("issue", "a", "--san-uri", URI)
    key = Path("a.key").read_bytes()
    assert "a.pem exists; nothing is overwritten" in terminal.refused("issue", "a", "--san-uri", URI)
    Path("a.pem").unlink()
    assert "a.key exists; nothing is overwritten" in terminal.refused("issue", "a", "--san-uri", URI)
    assert Path("a.key").read_bytes() == key
    assert len(terminal.done("list").splitlines()) == 1
    assert "ca/ca.pem exists" in terminal.refused("init")


def test_a_renewal_says_that_the_earlier_certificate_still_counts(terminal: Terminal) -> None:
    terminal.done("init")
    terminal.done("issue", "a", "--san-uri", URI)
    said = terminal.done("issue", "a", "--san-uri", URI, "--out", "new")
    assert "an earlier certificate of a stays valid until it is revoked" in said
    assert "a has 2 certificates: give a serial number, or --all" in terminal.refused("revoke", "a", "--yes")
    assert terminal.done("revoke", "a", "--all", "-y").startswith("revoked: a (")
    assert "nothing to revoke" in terminal.refused("revoke", "a", "--yes")


def test_a_hold_is_taken_back(terminal: Terminal) -> None:
    terminal.done("init")
    terminal.done("issue", "a", "--san-dns", "a.example.com")
    assert "nothing to take back: " in terminal.refused("revoke", "a", "--undo", "-y")
    terminal.done("revoke", "a", "--reason", "hold", "-y")
    assert "certificate revoked" in openssl_verify("a.pem")
    assert "held" in terminal.done("list")
    assert terminal.done("revoke", "a", "--undo", "-y").startswith("valid again: a")
    assert openssl_verify("a.pem").endswith(": OK\n")
    terminal.done("revoke", "a", "-y")
    assert "only a hold can be taken back" in terminal.refused("revoke", "a", "--undo", "-y")


def test_nobody_to_ask_revokes_nothing(terminal: Terminal) -> None:
    terminal.done("init")
    terminal.done("issue", "a", "--san-uri", URI)
    assert "without a terminal there is nobody to ask" in terminal.refused("revoke", "a")
    assert " valid " in terminal.done("list")


@pytest.mark.parametrize(("answer", "state"), [("y\n", " revoked "), ("n\n", " valid ")])
def test_on_a_terminal_it_asks(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, answer: str, state: str) -> None:
    terminal.done("init")
    terminal.done("issue", "a", "--san-uri", URI)
    monkeypatch.setattr("zt_proxy.cli.ca._asks", lambda: True)
    assert "Revoke a (" in terminal.run("revoke", "a", says=answer).output
    assert state in terminal.done("list")


def test_a_request_is_signed_and_its_key_stays_away(terminal: Terminal) -> None:
    terminal.done("init")
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "mine.key", "-subj", "/CN=x"]
    subprocess.run(["openssl", "req", "-new", *words, "-out", "a.csr"], check=True, capture_output=True)
    said = terminal.done("issue", "a", "--san-uri", URI, "--csr", "a.csr")
    assert "wrote a.pem\n" in said
    assert not Path("a.key").exists()
    assert openssl_verify("a.pem").endswith(": OK\n")
    assert "b.csr: No such file" in terminal.refused("issue", "b", "--san-uri", URI, "--csr", "b.csr")


def test_a_passphrase_is_read_from_a_file_that_others_cannot_read(terminal: Terminal) -> None:
    Path("pass").write_text("correct horse\n")
    Path("pass").chmod(0o644)
    assert "others may read" in terminal.refused("init", "--passphrase-file", "pass")
    Path("pass").chmod(0o600)
    terminal.done("init", "--passphrase-file", "pass")
    assert "give it with --passphrase-file" in terminal.refused("crl")
    terminal.done("crl", "--passphrase-file", "pass")
    Path("pass").write_text("\n")
    assert "that is no passphrase" in terminal.refused("crl", "--passphrase-file", "pass")
    assert "nothing was issued yet" in terminal.done("list")


def test_the_list_is_signed_anew_and_copied(terminal: Terminal) -> None:
    terminal.done("init", "--list-days", "1")
    result = terminal.run("list")
    assert "the revocation list is only valid until" in result.stderr
    assert "zt-proxy ca crl" in result.stderr
    result = terminal.run("crl", "--out", "clients.crl")
    assert "wrote ca/crl.pem and clients.crl; 0 revoked, valid until" in result.stdout
    assert "sign it daily" in result.stderr
    assert Path("clients.crl").read_bytes() == Path("ca/crl.pem").read_bytes()
    assert Path("clients.crl").stat().st_mode & 0o777 == 0o644
    assert terminal.run("list").stderr == ""


def test_the_register_is_shown_as_json(terminal: Terminal) -> None:
    terminal.done("init", "clients")
    terminal.done("issue", "a", "--san-uri", URI, "--ca", "clients", "--days", "30")
    (line,) = terminal.done("list", "--ca", "clients", "--json").splitlines()
    record = json.loads(line)
    assert (record["state"], record["name"], record["names"]) == ("valid", "a", [f"URI:{URI}"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list"], "ca: no authority here; `zt-proxy ca init ca` makes one"),
        (["crl", "--ca", "elsewhere"], "elsewhere: no authority here"),
        (["issue", "a"], "no authority here"),
        (["revoke", "a", "-y"], "no authority here"),
        (["init", "--name", ""], "1 to 64 printable characters"),
        (["init", "--permit-dns", "https://x"], "is not a host name"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(terminal: Terminal, words: list[str], said: str) -> None:
    output = terminal.refused(*words)
    assert said in output
    assert output.startswith(f"zt-proxy ca {words[0]}: ")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "a certificate needs a name"),
        (["a", "--san-uri", "x"], "is not a URI"),
        (["../a", "--san-uri", URI], "a name is lower-case"),
        (["a", "--san-uri", URI, "--days", "3650"], "outlive"),
    ],
)
def test_what_cannot_be_issued_leaves_nothing(terminal: Terminal, words: list[str], said: str) -> None:
    terminal.done("init")
    assert said in terminal.refused("issue", *words)
    assert [path.name for path in Path().iterdir()] == ["ca"]
    assert "nothing was issued yet" in terminal.done("list")


def test_the_printed_names_cannot_become_anything_else_in_yaml(terminal: Terminal) -> None:
    terminal.done("init")
    said = terminal.done("issue", "a", "--san-uri", 'urn://example.com/"},x:"')
    assert 'san_uri: "urn://example.com/\\"},x:\\""' in said


@pytest.mark.parametrize("command", ["init", "issue", "revoke", "crl", "list"])
def test_every_command_shows_an_example(terminal: Terminal, command: str) -> None:
    assert f"zt-proxy ca {command}" in terminal.done(command, "--help")
