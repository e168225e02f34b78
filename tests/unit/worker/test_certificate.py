"""What a chain is worth at a moment: plain values in, a verdict out."""

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.certificates import DAY, Authority, Leaf, common_name, dsa_key, key_usage, rsa_key
from zt_proxy.core.errors import Reason
from zt_proxy.link.messages import RevocationList, pack_serials
from zt_proxy.worker.identify.certificate import (
    CertificateFacts,
    Verdict,
    judge_chain,
    name_key,
    parse_name,
    read_certificate,
)

NOW = 1_800_000_000.0
ROOT = Authority("Root")
LOWER = Authority("Lower", ROOT)


def facts(*certificates: x509.Certificate) -> tuple[CertificateFacts, ...]:
    return tuple(read_certificate(one.public_bytes(Encoding.DER)) for one in certificates)


def chain_of(leaf: Leaf, root: Authority = ROOT) -> tuple[CertificateFacts, ...]:
    return facts(leaf.certificate, *leaf.chain, root.certificate)


def judge(
    leaf: Leaf,
    now: float = NOW,
    lists: list[RevocationList] | None = None,
    authorities: tuple[Authority, ...] = (ROOT,),
    root: Authority = ROOT,
) -> Verdict:
    known = {one.subject_key: {one.key} for one in facts(*(each.certificate for each in authorities))}
    by_issuer = None if lists is None else {one.issuer: one for one in lists}
    return judge_chain(chain_of(leaf, root), known, by_issuer, now)


def listed(ca: Authority, *serials: int, until: float = 7 * DAY, problem: str = "") -> RevocationList:
    return RevocationList("ca.pem", ca.issuer, pack_serials(serials), NOW + until, problem)


def test_an_ordinary_certificate_counts_until_the_first_of_its_chain_ends() -> None:
    leaf = LOWER.issue(after=9 * DAY, before=-2 * DAY)
    assert judge(leaf) == Verdict(None, "", NOW - DAY, NOW + 9 * DAY)


@pytest.mark.case("ZT-TLS-07")
def test_only_certificates_for_tls_clients_count() -> None:
    for usages in (
        (Usage.SERVER_AUTH,),
        (Usage.ANY_EXTENDED_KEY_USAGE,),
        (),
        (Usage.EMAIL_PROTECTION, Usage.SERVER_AUTH),
    ):
        assert judge(ROOT.issue(usages=usages)).reason is Reason.CERTIFICATE_UNSUITABLE, usages
    for usages in ((Usage.CLIENT_AUTH,), (Usage.SERVER_AUTH, Usage.CLIENT_AUTH)):
        assert judge(ROOT.issue(usages=usages)).reason is None
    authority = Authority(
        "Client", ROOT, extensions={x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage([Usage.CLIENT_AUTH]), False)}
    )
    assert judge(Leaf(authority.certificate, authority.key)).detail == "an authority's own certificate"
    silent = ROOT.issue(extensions={x509.KeyUsage: (key_usage(signs=False, certifies=False), True)})
    assert judge(silent).reason is Reason.CERTIFICATE_UNSUITABLE
    assert judge(ROOT.issue(extensions={x509.KeyUsage: None})).reason is None


def test_weak_keys_and_signatures_count_for_nothing() -> None:
    for key in (rsa_key(1024), ec.generate_private_key(ec.SECP224R1()), dsa_key()):
        assert judge(ROOT.issue(key=key)).reason is Reason.CERTIFICATE_UNSUITABLE
    for key in (rsa_key(2048), ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        assert judge(ROOT.issue(key=key)).reason is None
    assert "SHA" not in judge(Authority("Old", ROOT, key=rsa_key(1024)).issue()).detail
    assert judge(Authority("Old", ROOT, key=rsa_key(1024)).issue()).reason is Reason.CERTIFICATE_UNSUITABLE


@pytest.mark.case("ZT-TLS-09")
def test_every_certificate_of_the_chain_has_to_be_valid_at_the_moment() -> None:
    leaf = LOWER.issue(before=-10, after=10)
    for now, reason in (
        (NOW - 10.5, Reason.CERTIFICATE_NOT_YET_VALID),
        (NOW - 10, None),
        (NOW + 10, None),
        (NOW + 10.5, Reason.CERTIFICATE_EXPIRED),
        (NOW + 11, Reason.CERTIFICATE_EXPIRED),
    ):
        assert judge(leaf, now).reason is reason, now - NOW
    for authority in (Authority("Lower", ROOT, after=-1), Authority("Lower", ROOT, before=1)):
        assert judge(authority.issue()).reason in {Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NOT_YET_VALID}
    old = Authority("Root", after=-1)
    assert judge(old.issue(), authorities=(old,), root=old).reason is Reason.CERTIFICATE_EXPIRED


@pytest.mark.case("ZT-TLS-08")
def test_a_list_revokes_the_certificate_or_the_authority_above_it() -> None:
    leaf = LOWER.issue()
    lower, root = listed(LOWER, 1, 2), listed(ROOT, 3)
    assert judge(leaf, lists=[lower, root]).reason is None
    assert judge(leaf, lists=[listed(LOWER, leaf.certificate.serial_number), root]).reason is Reason.CERTIFICATE_REVOKED
    above = listed(ROOT, LOWER.certificate.serial_number)
    assert judge(leaf, lists=[lower, above]).reason is Reason.CERTIFICATE_REVOKED
    assert judge(leaf, lists=[above]).reason is Reason.CERTIFICATE_REVOKED, "what is known to be revoked is said to be"


@pytest.mark.case("ZT-TLS-08")
def test_without_a_list_in_force_of_every_issuer_nothing_counts() -> None:
    leaf = LOWER.issue()
    lower, root = listed(LOWER), listed(ROOT)
    for lists in (
        [],
        [root],
        [lower],
        [listed(LOWER, problem="damaged"), root],
        [listed(LOWER, leaf.certificate.serial_number, problem="signed by another"), root],
        [listed(LOWER, until=0), root],
        [lower, listed(ROOT, until=-1)],
        [listed(Authority("Another")), root],
    ):
        assert judge(leaf, lists=lists).reason is Reason.REVOCATION_UNKNOWN
    verdict = judge(leaf, lists=[listed(LOWER, until=60), root])
    assert verdict.reason is None
    assert NOW + 59 < verdict.until < NOW + 60, "at its next update the list says nothing any more"


def test_an_intermediate_may_not_take_the_name_of_an_authority_of_the_file() -> None:
    partner = Authority("Partner")
    impostor = Authority("Root", partner)
    chain = facts(impostor.issue().certificate, impostor.certificate, partner.certificate)
    known = {one.subject_key: {one.key} for one in facts(ROOT.certificate, partner.certificate)}
    assert judge_chain(chain, known, None, NOW).reason is Reason.CERTIFICATE_UNSUITABLE
    renewed = Authority("Root", partner, key=ROOT.key)
    chain = facts(renewed.issue().certificate, renewed.certificate, partner.certificate)
    assert judge_chain(chain, known, None, NOW).reason is None, "the same key under another signature is no impostor"


@pytest.mark.case("ZT-TLS-06")
def test_names_are_what_the_certificate_says_byte_for_byte() -> None:
    leaf = ROOT.issue(
        uris=["spiffe://example.com/crm", "SPIFFE://example.com/crm"],
        dns=["CRM.example.com", "a\0.example.com"],
        subject="CN=x,O=Ex",
    )
    (read,) = facts(leaf.certificate)
    assert read.uris == ("spiffe://example.com/crm", "SPIFFE://example.com/crm")
    assert read.dns == ("crm.example.com", "a\0.example.com")
    assert read.subject_key == parse_name("CN=x,O=Ex")
    assert read.fingerprint == leaf.fingerprint == hashlib.sha256(leaf.der).hexdigest()


@pytest.mark.case("ZT-TLS-06")
def test_a_distinguished_name_is_its_values_whatever_string_type_they_have() -> None:
    kinds = [name_key(common_name(kind, "crm-sync")) for kind in (_ASN1Type.UTF8String, _ASN1Type.PrintableString)]
    assert kinds[0] == kinds[1] == parse_name("CN=crm-sync")
    for other in (
        "CN=crm-sync,O=Ex",
        "CN=CRM-sync",
        "CN=crm-sync ",
        "O=crm-sync",
        "CN=crm,CN=sync",
        "CN=crm+CN=sync",
        "CN=crm-sync\0",
    ):
        try:
            parsed = parse_name(other)
        except ValueError:
            continue
        assert parsed != kinds[0] or other == "CN=crm-sync ", other
    assert name_key(common_name(_ASN1Type.UTF8String, "crm-sync\0admin")) != kinds[0]
    assert parse_name("CN=a,O=b") != parse_name("O=b,CN=a")
    assert parse_name("CN=a+O=b") == parse_name("O=b+CN=a"), "one set has no order"
    for bad in ("", "crm-sync", "CN", "=x", "CN=x,,O=y"):
        with pytest.raises(ValueError):
            parse_name(bad)


text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(st.lists(st.tuples(st.sampled_from(["CN", "O", "OU", "L"]), text), min_size=1, max_size=4))
def test_what_openssl_prints_of_a_name_is_read_back_as_that_name(parts: list[tuple[str, str]]) -> None:
    oids = {"CN": x509.NameOID.COMMON_NAME, "O": x509.NameOID.ORGANIZATION_NAME, "OU": x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "L": x509.NameOID.LOCALITY_NAME}  # fmt: skip
    try:
        name = x509.Name([x509.NameAttribute(oids[kind], value) for kind, value in parts])
        written = name.rfc4514_string()
        again = parse_name(written)
    except ValueError:
        return  # longer than the attribute may be
    assert again == name_key(name)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_certificate_are_never_read_as_one(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_certificate(data)


GOOD = ROOT.issue(uris=["spiffe://example.com/crm"]).der


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_certificate_is_read_or_refused_and_nothing_else(place: int, value: int) -> None:
    try:
        read_certificate(GOOD[:place] + bytes((value,)) + GOOD[place + 1 :])
    except ValueError:
        return


def test_an_extension_that_comes_twice_makes_a_certificate_unreadable() -> None:
    key_identifiers = bytes.fromhex("0603551d23"), bytes.fromhex("0603551d0e")
    assert GOOD.count(key_identifiers[0]) == GOOD.count(key_identifiers[1]) == 1
    with pytest.raises(ValueError):
        read_certificate(GOOD.replace(*key_identifiers))


@given(
    st.floats(-20, 20, allow_nan=False),
    st.integers(-9, 9),
    st.integers(-9, 9),
    st.sampled_from([None, -5, 0, 5, 100]),
    st.booleans(),
)
def test_what_a_verdict_says_holds_for_all_of_its_time(
    at: float, before: int, length: int, ends: int | None, revoked: bool
) -> None:
    leaf = LEAVES.setdefault((before, length), ROOT.issue(before=before, after=before + abs(length)))
    lists = None
    if ends is not None:
        lists = [listed(ROOT, *([leaf.certificate.serial_number] if revoked else []), until=ends)]
    verdict = judge(leaf, NOW + at, lists)
    assert verdict.since <= NOW + at
    for inside in {max(verdict.since, NOW - 1e6), min(verdict.until, NOW + 1e6), NOW + at}:
        if verdict.reason is None:
            assert judge(leaf, inside, lists).reason is None, inside - NOW
        assert verdict.reason is not None or not revoked or ends is None


LEAVES: dict[tuple[int, int], Leaf] = {}


def test_a_signature_over_a_broken_digest_is_weak() -> None:
    der = Authority("Old", key=rsa_key(2048)).issue().der
    for last, fault in ((b"\x0b", ""), (b"\x05", "signed with sha1"), (b"\x04", "signed with md5")):
        assert read_certificate(der.replace(RSA_SHA256, RSA_SHA256[:-1] + last)).fault == fault


RSA_SHA256 = bytes.fromhex("2a864886f70d01010b")


def test_a_chain_counts_no_longer_than_its_root_is_among_the_authorities() -> None:
    leaf = LOWER.issue()
    assert judge(leaf).reason is None
    for authorities in ((), (LOWER,), (Authority("Root"),)):
        assert judge(leaf, authorities=authorities).reason is Reason.CERTIFICATE_UNSUITABLE
