"""The small authority, judged by openssl: what it issues verifies, what it revoked does not."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from zt_proxy.control.integrations import register as register_module
from zt_proxy.control.integrations.authority import DAY, Authority, write_new
from zt_proxy.control.integrations.crl import read, read_authorities, split
from zt_proxy.control.integrations.register import Issued, Register, locked
from zt_proxy.control.integrations.subject import Constraints, alternative_names, request_key, subject_name
from zt_proxy.core.clock import Clock, ManualClock, SystemClock
from zt_proxy.core.errors import ConfigurationError

URI = "spiffe://example.com/crm-sync"
CLOCK = SystemClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Authority.create(tmp_path / "ca", "Example clients", CLOCK)
    return tmp_path / "ca"


def issue(folder: Path, name: str = "crm-sync", uri: str = URI, days: float = 90, clock: Clock = CLOCK) -> Path:
    with Authority.opened(folder, clock) as authority:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        certificate = authority.issue(name, alternative_names([uri], []), key, days)
    path = folder / f"{name}-{certificate.serial_number:x}.pem"
    write_new(path, certificate.public_bytes(Encoding.PEM), 0o644)
    return path


def revoke(folder: Path, what: str | Path, reason: str = "unspecified", clock: Clock = CLOCK) -> None:
    with Authority.opened(folder, clock) as authority:
        authority.revoke(authority.find(str(what)), reason, 7)


def openssl(*words: str | Path) -> str:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def verify(folder: Path, certificate: Path) -> str:
    files = ("-CAfile", folder / "ca.pem", "-CRLfile", folder / "crl.pem")
    return openssl("verify", "-x509_strict", "-crl_check", "-purpose", "sslclient", *files, certificate)


def test_openssl_accepts_what_was_issued(folder: Path) -> None:
    certificate = issue(folder)
    assert verify(folder, certificate).endswith(": OK\n")
    text = openssl("x509", "-in", certificate, "-noout", "-text")
    assert f"URI:{URI}" in text
    assert "TLS Web Client Authentication" in text
    assert "CA:FALSE" in text
    assert "unsuitable certificate purpose" in openssl(
        "verify", "-CAfile", folder / "ca.pem", "-purpose", "sslserver", certificate
    )


def test_openssl_sees_an_authority_that_signs_and_does_nothing_else(folder: Path) -> None:
    text = openssl("x509", "-in", folder / "ca.pem", "-noout", "-text")
    assert "CA:TRUE, pathlen:0" in text
    assert "Certificate Sign, CRL Sign" in text
    assert "NIST CURVE: P-256" in text


def test_the_first_list_is_there_at_once_empty_and_signed(folder: Path) -> None:
    text = openssl("crl", "-in", folder / "crl.pem", "-noout", "-text", "-CAfile", folder / "ca.pem")
    assert "verify OK" in text
    assert "No Revoked Certificates" in text


@pytest.mark.parametrize(
    ("reason", "words"), [("unspecified", ""), ("key-compromise", "Key Compromise"), ("hold", "Certificate Hold")]
)
def test_openssl_refuses_what_was_revoked(folder: Path, reason: str, words: str) -> None:
    certificate, other = issue(folder), issue(folder, "other")
    revoke(folder, "crm-sync", reason)
    assert "certificate revoked" in verify(folder, certificate)
    assert verify(folder, other).endswith(": OK\n")
    assert words in openssl("crl", "-in", folder / "crl.pem", "-noout", "-text")


def test_a_hold_can_be_taken_back_and_nothing_else(folder: Path) -> None:
    certificate = issue(folder)
    revoke(folder, certificate, "hold")
    with Authority.opened(folder, CLOCK) as authority:
        authority.release(authority.find("crm-sync"), 7)
    assert verify(folder, certificate).endswith(": OK\n")
    revoke(folder, certificate, "hold")
    revoke(folder, certificate, "key-compromise")
    with (
        Authority.opened(folder, CLOCK) as authority,
        pytest.raises(ConfigurationError, match=r"for good \(key-compromise\); only a hold can be taken"),
    ):
        authority.release(authority.find("crm-sync"), 7)


def test_what_was_revoked_first_keeps_its_time_and_its_reason(folder: Path) -> None:
    certificate = issue(folder)
    revoke(folder, certificate, "superseded")
    before = Register.load(folder / "issued.jsonl").certificates
    revoke(folder, certificate, "key-compromise")
    assert Register.load(folder / "issued.jsonl").certificates == before


def test_the_lists_are_what_the_proxy_reads_and_their_numbers_rise(folder: Path) -> None:
    signers = read_authorities((folder / "ca.pem").read_bytes())
    numbers = []
    for _ in range(3):
        revoke(folder, issue(folder))
        (der,) = split((folder / "crl.pem").read_bytes())
        found = read(der, signers, CLOCK.now())
        numbers.append((found.number, len(found)))
    assert numbers == [(2, 1), (3, 2), (4, 3)]


def test_certificates_are_found_by_name_by_serial_and_by_file(folder: Path, tmp_path: Path) -> None:
    file = issue(folder)
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    serial = f"{certificate.serial_number:X}"
    colons = openssl("x509", "-in", file, "-noout", "-serial").strip().removeprefix("serial=")
    with Authority.opened(folder, CLOCK) as authority:
        for what in ("crm-sync", serial, serial.lower(), ":".join(colons[i : i + 2] for i in range(0, 40, 2)), file):
            (found,) = authority.find(str(what))
            assert found.name == "crm-sync"
        Authority.create(tmp_path / "other", "Other", CLOCK)
        for what in ("crm", serial[:-1], str(issue(tmp_path / "other"))):
            with pytest.raises(ConfigurationError, match="issued no such certificate"):
                authority.find(what)
        with pytest.raises(ConfigurationError, match="holds no PEM certificate"):
            authority.find(str(folder / "ca.key"))


def test_a_passphrase_keeps_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    Authority.create(folder, "Example", CLOCK, passphrase=b"correct horse")
    assert "ENCRYPTED" in (folder / "ca.key").read_text()
    for passphrase, said in ((None, "has a passphrase; give it"), (b"wrong", "does not open with this passphrase")):
        with pytest.raises(ConfigurationError, match=said), Authority.opened(folder, CLOCK, passphrase):
            raise AssertionError
    with Authority.opened(folder, CLOCK, b"correct horse") as authority:
        authority.sign_list(7)


def test_a_passphrase_for_a_key_without_one_is_a_mistake(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no passphrase"), Authority.opened(folder, CLOCK, b"x"):
        raise AssertionError


def test_only_its_user_may_read_the_key_and_the_register(folder: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (modes["ca.key"], modes["issued.jsonl"]) == (0o600, 0o600)
    assert (modes["ca.pem"], modes["crl.pem"]) == (0o644, 0o644)
    for file in ("ca.key", "issued.jsonl"):
        (folder / file).chmod(0o640)
        with pytest.raises(ConfigurationError, match="others may read"), Authority.opened(folder, CLOCK):
            raise AssertionError
        (folder / file).chmod(0o600)


def test_an_authority_is_made_once(folder: Path) -> None:
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(ConfigurationError, match=r"ca\.pem exists: an authority is made once"):
        Authority.create(folder, "Again", CLOCK)
    assert (folder / "ca.key").read_bytes() == before


def test_a_folder_without_an_authority_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="no authority here; `zt-proxy ca init"),
        Authority.opened(tmp_path, CLOCK),
    ):
        raise AssertionError


def test_a_foreign_key_is_refused(folder: Path, tmp_path: Path) -> None:
    Authority.create(tmp_path / "other", "Other", CLOCK)
    (tmp_path / "other" / "ca.key").rename(folder / "ca.key")
    with pytest.raises(ConfigurationError, match=r"ca\.key is not the key of ca\.pem"), Authority.opened(folder, CLOCK):
        raise AssertionError


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"version":1}\n', b'{"version":2,"list_number":1}\n', b"\xff\n"])
def test_a_damaged_register_is_never_replaced(folder: Path, content: bytes) -> None:
    (folder / "issued.jsonl").write_bytes(content)
    with pytest.raises(ConfigurationError, match="register"), Authority.opened(folder, CLOCK):
        raise AssertionError
    assert (folder / "issued.jsonl").read_bytes() == content


def test_a_certificate_does_not_outlive_its_authority(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="4000 days outlive the authority itself"):
        issue(folder, days=4000)


def test_name_constraints_hold_for_openssl_and_are_refused_before(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    Authority.create(
        folder, "Example", CLOCK, constraints=Constraints(("example.com",), ("example.com", ".example.net"))
    )
    assert verify(folder, issue(folder)).endswith(": OK\n")
    assert verify(folder, issue(folder, "b", "spiffe://a.example.net/b")).endswith(": OK\n")
    for uri in ("spiffe://example.org/x", "spiffe://a.example.com/x", "spiffe://example.net/x"):
        with pytest.raises(ConfigurationError, match="outside of what this authority may name"):
            issue(folder, "c", uri)
    with Authority.opened(folder, CLOCK) as authority:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        authority.issue("d", alternative_names([], ["a.example.com"]), key, 1)
        with pytest.raises(ConfigurationError, match="outside"):
            authority.issue("e", alternative_names([], ["notexample.com"]), key, 1)


def test_constraints_that_are_no_host_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'https://x' is not a host name"):
        Authority.create(tmp_path / "ca", "Example", CLOCK, constraints=Constraints((), ("https://x",)))
    assert not (tmp_path / "ca" / "ca.pem").exists()


@pytest.mark.parametrize(
    ("uris", "hosts", "said"),
    [
        ([], [], "a certificate needs a name"),
        (["a", "b"], [], "one certificate, one URI"),
        (["crm-sync"], [], "is not a URI"),
        (["spiffe://EXAMPLE.com/x"], [], "is not a URI"),
        (["spiffe://example.com/a b"], [], "is not a URI"),
        (["spiffe://example.com\n/x"], [], "is not a URI"),
        (["spiffe:///x"], [], "is not a URI"),
        (["SPIFFE://example.com/x"], [], "is not a URI"),
        (["spiffe://example.com"], [], "a SPIFFE ID has a path"),
        (["spiffe://example.com/x/"], [], "a SPIFFE ID has a path"),
        (["spiffe://example.com/x?y"], [], "a SPIFFE ID has a path"),
        (["https://a@example.com/"], [], "is not a URI"),
        ([], ["*.example.com"], "is not a host name"),
        ([], ["Example.com"], "is not a host name"),
        ([], ["a..b"], "is not a host name"),
        ([], ["a\0b"], "is not a host name"),
    ],
)
def test_names_that_could_be_read_in_two_ways_are_refused(uris: list[str], hosts: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        alternative_names(uris, hosts)


@pytest.mark.parametrize("name", ["", " x", "x" * 65, "a\nb", "a\x7f"])
def test_an_authority_has_a_printable_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="printable"):
        subject_name(name)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "a b", "x" * 65, "ä", "Crm", "a.b"])
def test_the_name_of_an_integration_is_the_name_of_a_file(folder: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="a name is lower-case letters"):
        issue(folder, name)


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(subject_name("x"))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM)


def test_the_key_of_a_request_is_taken_when_it_is_good() -> None:
    good = (
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    )
    for key in good:
        assert request_key(request(key)) == key.public_key()
    for weak in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP224R1())):
        with pytest.raises(ConfigurationError, match="too weak or unusual"):
            request_key(request(weak))


def test_a_request_that_is_not_signed_by_its_key_is_refused() -> None:
    made = x509.load_pem_x509_csr(request(ec.generate_private_key(ec.SECP256R1()))).public_bytes(Encoding.DER)
    changed = made.replace(b"x", b"y", 1)
    pem = x509.load_der_x509_csr(changed).public_bytes(Encoding.PEM)
    with pytest.raises(ConfigurationError, match="not that of its key"):
        request_key(pem)
    with pytest.raises(ConfigurationError, match="no readable certificate request"):
        request_key(b"nonsense")


def test_openssl_accepts_what_was_issued_for_its_own_request(folder: Path, tmp_path: Path) -> None:
    words = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=somebody else")
    openssl("req", "-new", *words, "-keyout", tmp_path / "x.key", "-out", tmp_path / "x.csr")
    with Authority.opened(folder, CLOCK) as authority:
        key = request_key((tmp_path / "x.csr").read_bytes())
        certificate = authority.issue("x", alternative_names([URI], []), key, 1)
    (tmp_path / "x.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    assert verify(folder, tmp_path / "x.pem").endswith(": OK\n")
    assert certificate.subject == subject_name("x")


def test_a_list_is_named_when_it_runs_out_is_behind_or_is_gone(folder: Path) -> None:
    clock = ManualClock(CLOCK.now())
    problem = lambda: Authority.look(folder, clock)[1]  # noqa: E731
    assert problem() == ""
    clock.advance(5.5 * DAY)
    assert problem().startswith("the revocation list is only valid until")
    with Authority.opened(folder, clock) as authority:
        authority.sign_list(7)
    assert problem() == ""
    register = Register.load(folder / "issued.jsonl")
    msgspec.structs.replace(register, list_number=register.list_number + 1).save(folder / "issued.jsonl")
    assert problem() == "the revocation list is behind the register"
    register.save(folder / "issued.jsonl")
    with Authority.opened(folder, clock) as authority:
        authority.sign_list(7)
    register.save(folder / "issued.jsonl")  # as from a backup
    assert problem() == "the revocation list is ahead of the register"
    with Authority.opened(folder, clock) as authority:
        authority.sign_list(7)
    assert problem() == ""
    assert Register.load(folder / "issued.jsonl").list_number == register.list_number + 2
    (folder / "crl.pem").write_bytes(b"")
    assert problem() == "there is no readable revocation list"


def test_a_register_from_a_backup_lets_nobody_back_in(folder: Path) -> None:
    known = issue(folder)
    backup = (folder / "issued.jsonl").read_bytes()
    lost = issue(folder, "issued-since")
    revoke(folder, known, "key-compromise")
    revoke(folder, lost, "hold")
    register_module.replace_privately(folder / "issued.jsonl", backup)
    other = issue(folder, "other")
    revoke(folder, other)
    for certificate in (known, lost, other):
        assert "certificate revoked" in verify(folder, certificate)
    register, problem = Authority.look(folder, CLOCK)
    assert problem == ""
    assert [(each.name, each.reason) for each in register.certificates] == [
        ("crm-sync", "key-compromise"),
        ("other", "unspecified"),
        ("lost", "hold"),
    ]


def test_what_was_issued_after_the_backup_of_the_register_is_revoked_by_its_file(folder: Path, tmp_path: Path) -> None:
    backup = (folder / "issued.jsonl").read_bytes()
    lost = issue(folder, "issued-since")
    register_module.replace_privately(folder / "issued.jsonl", backup)
    Authority.create(tmp_path / "other", "Example clients", CLOCK)
    with pytest.raises(ConfigurationError, match="issued no such certificate"):
        revoke(folder, issue(tmp_path / "other"))
    with pytest.raises(ConfigurationError, match="issued no such certificate"):
        revoke(folder, folder / "ca.pem")
    revoke(folder, lost, "key-compromise")
    assert "certificate revoked" in verify(folder, lost)
    register, _ = Authority.look(folder, CLOCK)
    assert [(each.name, each.reason) for each in register.certificates] == [("lost", "key-compromise")]


def test_a_revocation_is_on_the_register_when_the_list_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = issue(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zt_proxy.control.integrations.authority.replace_file", full)
        with pytest.raises(OSError, match="No space left"):
            revoke(folder, certificate)
    register, problem = Authority.look(folder, CLOCK)
    assert (register.certificates[0].state(CLOCK.now()), problem) == (
        "revoked",
        "the revocation list is behind the register",
    )
    with Authority.opened(folder, CLOCK) as authority:
        authority.sign_list(7)
    assert "certificate revoked" in verify(folder, certificate)


def test_states_of_a_certificate() -> None:
    issued = Issued(serial="1", name="a", names=(), not_before=0, not_after=10, fingerprint="")
    assert (issued.state(10), issued.state(11)) == ("valid", "expired")
    held = msgspec.structs.replace(issued, revoked=5.0, reason="hold")
    assert (held.state(11), msgspec.structs.replace(held, reason="superseded").state(1)) == ("held", "revoked")


def test_commands_at_the_same_time_lose_nothing(folder: Path) -> None:
    for number in range(3):
        issue(folder, f"gone-{number}")
    command = [sys.executable, "-m", "zt_proxy.cli.main", "ca"]
    words = [["issue", f"new-{n}", "--san-uri", URI, "--out", str(folder / "out")] for n in range(3)]
    words += [["revoke", f"gone-{n}", "--yes"] for n in range(3)]
    running = [subprocess.Popen([*command, *each, "--ca", str(folder)], stdout=subprocess.DEVNULL) for each in words]
    assert [process.wait(60) for process in running] == [0] * 6
    register = Register.load(folder / "issued.jsonl")
    assert sorted(each.name for each in register.certificates if each.revoked is None) == ["new-0", "new-1", "new-2"]
    assert register.list_number == 4
    text = openssl("crl", "-in", folder / "crl.pem", "-noout", "-text", "-CAfile", folder / "ca.pem")
    assert text.count("Serial Number:") == 3


def test_a_folder_that_is_held_for_too_long_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register_module, "_PATIENCE", 0.0)
    with locked(folder), pytest.raises(ConfigurationError, match="another command is at work"), locked(folder):
        raise AssertionError


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "x", b"other", 0o600)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "link", b"other", 0o600)
