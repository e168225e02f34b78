"""Revocation lists: what counts, and in which words everything else is refused."""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.lists import NOW, ListAuthority
from zt_proxy.control.integrations import crl
from zt_proxy.control.integrations.crl import ListError, SignedList, read, read_authorities, split
from zt_proxy.link.messages import RevocationList, pack_serials

AUTHORITY = ListAuthority()
SIGNERS = read_authorities(AUTHORITY.pem)
LIST = AUTHORITY.der_list([5, 1 << 159, 77], entry=[(x509.CRLReason(x509.ReasonFlags.key_compromise), False)])
URI = x509.UniformResourceIdentifier("http://crl.example/part.crl")


def refusal(der: bytes, authority: ListAuthority = AUTHORITY) -> str:
    with pytest.raises(ListError) as error:
        read(der, read_authorities(authority.pem), NOW)
    return str(error.value)


def test_a_list_gives_its_serials_its_number_and_its_end() -> None:
    found = read(LIST, SIGNERS, NOW)
    assert (found.number, found.this_update, found.next_update) == (1, NOW, NOW + 7 * 86_400)
    assert found.serials == pack_serials([5, 77, 1 << 159])
    assert found.issuer == AUTHORITY.issuer
    assert len(found) == 3


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["rsa", "ed25519", "p384"],
)
def test_lists_of_each_kind_of_key_are_verified(key: rsa.RSAPrivateKey) -> None:
    authority = ListAuthority(key=key)
    signers = read_authorities(authority.pem)
    der = authority.der_list([9])
    assert len(read(der, signers, NOW)) == 1
    with pytest.raises(ListError, match="not its signature"):
        read(der[:-1] + bytes([der[-1] ^ 1]), signers, NOW)


def test_a_list_of_another_authority_is_refused() -> None:
    assert refusal(LIST, ListAuthority("Somebody else")) == "is of another authority (CN=Test clients)"


def test_a_list_with_the_right_name_and_the_wrong_key_is_refused() -> None:
    assert refusal(LIST, ListAuthority()) == "has the name of CN=Test clients, but not its signature"


def test_an_authority_that_may_not_sign_lists_signs_none() -> None:
    authority = ListAuthority(crl_sign=False)
    assert "not its signature" in refusal(authority.der_list(), authority)


def test_a_weak_signature_is_refused() -> None:
    authority = ListAuthority(key=rsa.generate_private_key(65537, 2048))
    der = authority.crl().public_bytes(Encoding.DER)
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert refusal(der.replace(sha256, sha1), authority) == "is signed with sha1, which proves nothing any more"


def test_two_signature_algorithms_in_one_list_are_refused() -> None:
    inner, outer = bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d040303")
    der = AUTHORITY.der_list()
    at = der.rindex(inner)
    assert refusal(der[:at] + outer + der[at + len(outer) :]).startswith(
        "is not a readable revocation list (Inner and outer"
    )


@pytest.mark.parametrize(
    ("extension", "critical", "said"),
    [
        (x509.DeltaCRLIndicator(1), True, "is a delta list; give the base list"),
        (
            x509.IssuingDistributionPoint(None, None, False, False, None, True, False),
            True,
            "is an indirect list; give the authority's own whole list",
        ),
        (
            x509.IssuingDistributionPoint([URI], None, True, False, None, False, False),
            True,
            "is a partial list (issuingDistributionPoint); give the authority's own whole list",
        ),
        (
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"),
            True,
            "has a critical extension that is not understood (1.3.6.1.4.1.99999.1)",
        ),
    ],
    ids=["delta", "indirect", "partial", "unknown"],
)
def test_a_list_that_is_not_a_whole_base_list_is_refused(
    extension: x509.ExtensionType, critical: bool, said: str
) -> None:
    assert refusal(AUTHORITY.der_list([1], extra=[(extension, critical)])) == said


def test_an_unknown_extension_that_is_not_critical_is_passed_over() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    assert len(read(AUTHORITY.der_list([1], extra=[(unknown, False)]), SIGNERS, NOW)) == 1


def test_an_entry_that_speaks_for_another_authority_makes_the_list_indirect() -> None:
    other = x509.CertificateIssuer([x509.DirectoryName(ListAuthority("Other").subject)])
    assert "indirect" in refusal(AUTHORITY.der_list([1], entry=[(other, True)]))


def test_an_entry_with_an_unknown_critical_extension_is_refused() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    assert refusal(AUTHORITY.der_list([1], entry=[(unknown, True)])).startswith(
        "has an entry with a critical extension"
    )


def test_a_list_of_the_future_waits_for_its_time() -> None:
    der = AUTHORITY.der_list(at=NOW + 31)
    assert "is of the future" in refusal(der)
    assert read(der, SIGNERS, NOW + 1).this_update == NOW + 31


def test_a_list_that_is_over_is_still_read_so_that_its_end_can_be_told() -> None:
    assert read(AUTHORITY.der_list(until=NOW + 1), SIGNERS, NOW + 100).next_update == NOW + 1


def test_pem_may_hold_several_lists_and_words_between() -> None:
    raw = b"first\n" + AUTHORITY.pem_list([1]) + b"second\n" + AUTHORITY.pem_list([2], number=2)
    assert [read(der, SIGNERS, NOW).number for der in split(raw)] == [1, 2]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hello", "holds neither DER nor whole PEM blocks; it may be cut off"),
        (AUTHORITY.pem_list()[:-10], "holds neither DER nor whole PEM blocks; it may be cut off"),
        (
            AUTHORITY.pem_list() + AUTHORITY.pem_list()[:100],
            "holds neither DER nor whole PEM blocks; it may be cut off",
        ),
        (AUTHORITY.pem_list() + b"-----BEGIN X509", "holds neither DER nor whole PEM blocks; it may be cut off"),
        (AUTHORITY.pem, "holds a CERTIFICATE where revocation lists belong"),
        (b"-----BEGIN X509 CRL-----\nabc\n-----END X509 CRL-----\n", "holds a PEM block that is not base64"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(ListError) as error:
        split(raw)
    assert str(error.value) == said


def test_a_file_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crl, "LARGEST", 10)
    with pytest.raises(ListError, match="is larger than"):
        split(LIST)


def test_what_follows_a_list_in_der_is_refused() -> None:
    assert "not a readable revocation list" in refusal(LIST + b"\0")


def test_authorities_are_read_and_other_certificates_are_none() -> None:
    assert [signer.name for signer in SIGNERS] == ["CN=Test clients"]
    for raw in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ListError, match="holds no readable PEM certificates"):
            read_authorities(raw)


def test_lists_by_openssl_are_read_as_openssl_reads_them(tmp_path: Path) -> None:
    """A hundred thousand entries, made by another program: none may be lost."""
    count = 100_000
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    key = AUTHORITY.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "ca.key").write_bytes(key)
    serials = range(0x10000000, 0x10000000 + 2 * count, 2)
    lines = (f"R\t401231235959Z\t261101000000Z\t{serial:X}\tunknown\t/CN=c{serial}\n" for serial in serials)
    (tmp_path / "index").write_text("".join(lines))
    (tmp_path / "number").write_text("07\n")
    (tmp_path / "conf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={tmp_path}/index\ncrlnumber={tmp_path}/number\ndefault_md=sha256\n"
        "default_crl_days=7\n"
    )
    command = ["openssl", "ca", "-gencrl", "-config", "conf", "-cert", "ca.pem", "-keyfile", "ca.key", "-out", "c.pem"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr[-500:]
    made = x509.load_pem_x509_crl((tmp_path / "c.pem").read_bytes()).last_update_utc.timestamp()
    (der,) = split((tmp_path / "c.pem").read_bytes())
    found = read(der, SIGNERS, made)
    assert found.number == 7
    assert found.serials == pack_serials(serials)
    message = RevocationList("ca.pem", found.issuer, found.serials, found.next_update)
    assert message.revokes(serials[-1])
    assert not message.revokes(serials[-1] + 1)


BASE = bytearray(LIST)
MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "insert", "repeat"]), st.integers(0, len(BASE)), st.binary(max_size=4)),
    min_size=1,
    max_size=6,
)


def mutated(changes: list[tuple[str, int, bytes]], base: bytes) -> bytes:
    raw = bytearray(base)
    for kind, at, what in changes:
        if kind == "set":
            raw[at : at + len(what)] = what
        elif kind == "cut":
            del raw[at : at + len(what) + 1]
        elif kind == "insert":
            raw[at:at] = what
        else:
            raw[at:at] = raw[at : at + 16]
    return bytes(raw)


@given(MUTATIONS)
def test_a_changed_list_is_refused_and_raises_nothing_else(changes: list[tuple[str, int, bytes]]) -> None:
    raw = mutated(changes, LIST)
    try:
        found: SignedList | None = read(raw, SIGNERS, NOW)
    except ListError:
        found = None
    assert found is None or raw == LIST


@given(MUTATIONS)
def test_a_signed_list_of_any_shape_raises_nothing_else(changes: list[tuple[str, int, bytes]]) -> None:
    """As if the authority itself signed nonsense: the signature is made anew after the change."""
    signed = crl._signed_part(LIST)
    tbs = mutated([change for change in changes if change[1] < len(signed)], signed)
    signature = AUTHORITY.key.sign(tbs, ec.ECDSA(hashes.SHA256()))  # type: ignore[union-attr, call-arg, arg-type]
    body = tbs + bytes.fromhex("300a06082a8648ce3d040302") + b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
    raw = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    try:
        found = read(raw, SIGNERS, NOW)
    except ListError:
        return
    assert found.next_update >= found.this_update


@given(st.binary(max_size=200) | MUTATIONS.map(lambda changes: mutated(changes, AUTHORITY_PEM)))
def test_no_file_makes_the_splitting_fail_in_another_way(raw: bytes) -> None:
    try:
        blocks = split(raw)
    except ListError:
        return
    assert blocks


AUTHORITY_PEM = AUTHORITY.pem_list([3])
