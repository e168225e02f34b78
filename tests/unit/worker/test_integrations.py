"""Which integration a certificate is, and when the answer is made again."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.lab.certificates import DAY, Authority, Leaf
from zt_proxy.core.errors import Reason
from zt_proxy.link.messages import RevocationList, pack_serials
from zt_proxy.worker.identify.certificate import parse_name, read_certificate
from zt_proxy.worker.identify.integrations import ClientTerms, Integrations, KnownMachine, Shown
from zt_proxy.worker.settings import CertificateMatch, IntegrationSettings

NOW = 1_800_000_000.0
CA = Authority("Clients")
MAIL = x509.SubjectAlternativeName([x509.RFC822Name("crm.example.com"), x509.RFC822Name("crm@example.com")])
CA_DER = CA.certificate.public_bytes(Encoding.DER)


def integration(name: str, **match: Any) -> IntegrationSettings:
    return IntegrationSettings(name, "ops@example.com", (CertificateMatch(**match),))


def terms(**options: Any) -> ClientTerms:
    root = read_certificate(CA_DER)
    return ClientTerms("ca.pem", {root.subject_key: {root.key}}, **options)


def shown(known: Integrations, leaf: Leaf, **options: Any) -> Shown:
    return known.show(terms(**options), (leaf.der, CA_DER))


def name_of(known: Integrations, leaf: Leaf, now: float = NOW) -> str:
    found = known.identify(shown(known, leaf), now)
    return found.machine.principal.integration if isinstance(found, KnownMachine) else str(found)


def revoking(*serials: int, until: float = DAY, source: str = "ca.pem") -> RevocationList:
    return RevocationList(source, CA.issuer, pack_serials(serials), NOW + until)


@pytest.mark.case("ZT-TLS-06")
def test_each_way_to_know_a_certificate_is_exact() -> None:
    pinned = CA.issue()
    known = Integrations(
        (
            integration("uri", san_uri="spiffe://example.com/crm"),
            integration("dns", san_dns="crm.example.com"),
            integration("name", issuer=parse_name("CN=Clients,O=Example"), subject=parse_name("CN=crm,O=Example")),
            integration("pinned", sha256=pinned.fingerprint),
        )
    )
    unknown = Reason.CERTIFICATE_UNKNOWN
    for leaf, expected in (
        (CA.issue(uris=["spiffe://example.com/crm"]), "uri"),
        (CA.issue(uris=["spiffe://example.com/crm/"]), unknown),
        (CA.issue(uris=["SPIFFE://example.com/crm"]), unknown),
        (CA.issue(uris=["spiffe://example.com/crm\0"]), unknown),
        (CA.issue(dns=["crm.example.com"]), "dns"),
        (CA.issue(dns=["CRM.example.com"]), "dns"),
        (CA.issue(dns=["*.example.com"]), unknown),
        (CA.issue(dns=["crm.example.com\0.evil.example"]), unknown),
        (CA.issue(dns=["x.crm.example.com", "example.com"]), unknown),
        (CA.issue(subject="CN=crm,O=Example"), "name"),
        (CA.issue(subject="O=Example,CN=crm"), unknown),
        (CA.issue(subject="CN=crm.example.com"), unknown),
        (CA.issue(subject="CN=spiffe://example.com/crm"), unknown),
        (CA.issue(subject="", dns=["nobody.example.com"]), unknown),
        (CA.issue(extensions={x509.SubjectAlternativeName: (MAIL, False)}), unknown),
        (pinned, "pinned"),
        (CA.issue(), unknown),
    ):
        assert name_of(known, leaf) == expected, leaf.certificate


@pytest.mark.case("ZT-TLS-06")
def test_a_certificate_that_could_be_two_is_neither() -> None:
    known = Integrations((integration("one", san_uri="urn:one"), integration("two", san_dns="two.example.com")))
    assert name_of(known, CA.issue(uris=["urn:one"], dns=["two.example.com"])) == Reason.CERTIFICATE_AMBIGUOUS
    assert name_of(known, CA.issue(uris=["urn:one", "urn:other"])) == Reason.CERTIFICATE_AMBIGUOUS
    assert name_of(known, CA.issue(uris=["urn:other", "urn:more"], dns=["two.example.com"])) == "two"
    assert name_of(known, CA.issue(uris=["urn:one"], dns=["one.example.com"])) == "one"


def test_a_pinned_issuer_keeps_another_authority_from_giving_the_name_away() -> None:
    known = Integrations((integration("one", san_uri="urn:one", issuer=parse_name("CN=Elsewhere")),))
    assert name_of(known, CA.issue(uris=["urn:one"])) == Reason.CERTIFICATE_UNKNOWN


def test_an_empty_match_matches_nothing() -> None:
    known = Integrations((integration("one"), integration("two", issuer=parse_name("CN=Clients,O=Example"))))
    assert name_of(known, CA.issue()) == Reason.CERTIFICATE_UNKNOWN


def test_two_certificates_of_one_integration_count_while_they_are_changed() -> None:
    old, new = CA.issue(), CA.issue()
    matches = tuple(CertificateMatch(sha256=leaf.fingerprint) for leaf in (old, new))
    known = Integrations((IntegrationSettings("one", "ops", matches),))
    assert [name_of(known, leaf) for leaf in (old, new, CA.issue())] == ["one", "one", Reason.CERTIFICATE_UNKNOWN]


def test_who_shows_nothing_is_refused_only_where_something_is_required() -> None:
    known = Integrations(())
    assert known.identify(known.show(terms(), ()), NOW) is None
    assert known.identify(known.show(terms(required=True), ()), NOW) is Reason.CERTIFICATE_REQUIRED
    assert not known.show(terms(), ()).speaks_for_machine
    assert known.show(terms(required=True), ()).speaks_for_machine
    assert known.show(terms(), (CA.issue().der, CA_DER)).speaks_for_machine


@pytest.mark.case("ZT-TLS-09")
def test_the_end_of_a_certificate_or_of_an_integration_is_seen_on_an_open_connection() -> None:
    leaf = CA.issue(uris=["urn:one"], after=100)
    match = (CertificateMatch(san_uri="urn:one"),)
    for expires, last, reason in (
        (None, 100, Reason.CERTIFICATE_EXPIRED),
        (NOW + 50, 50, Reason.INTEGRATION_EXPIRED),
        (NOW + 500, 100, Reason.CERTIFICATE_EXPIRED),
    ):
        known = Integrations((IntegrationSettings("one", "ops", match, expires),))
        connection = shown(known, leaf)
        found = known.identify(connection, NOW)
        assert isinstance(found, KnownMachine)
        assert found.machine.until == NOW + last
        assert known.identify(connection, NOW + last) is found
        assert known.identify(connection, NOW + last + 1) is reason
        assert known.identify(connection, NOW) is found, "a clock that was wrong and is set right"


@pytest.mark.case("ZT-TLS-08")
def test_a_changed_list_changes_the_answer_on_an_open_connection() -> None:
    leaf = CA.issue(uris=["urn:one"])
    known = Integrations((integration("one", san_uri="urn:one"),))
    connection, unasked = shown(known, leaf, revocation=True), shown(known, leaf)
    answers: list[object] = [known.identify(connection, NOW)]
    for lists in (
        [revoking()], [revoking(leaf.certificate.serial_number)], [revoking(1)], [revoking(source="other.pem")],
        [revoking(until=-1)], [], [revoking(1)],
    ):  # fmt: skip
        known.revocations(lists)
        found = known.identify(connection, NOW)
        answers.append(found.machine.principal.integration if isinstance(found, KnownMachine) else found)
        assert isinstance(known.identify(unasked, NOW), KnownMachine), "lists count where they are configured"
    unknown, revoked = Reason.REVOCATION_UNKNOWN, Reason.CERTIFICATE_REVOKED
    assert answers == [unknown, "one", revoked, "one", unknown, unknown, unknown, "one"]
    assert known.identify(connection, NOW + DAY - 1) is not None
    assert known.identify(connection, NOW + DAY) is Reason.REVOCATION_UNKNOWN, "stale at its next update"


def test_connections_of_one_certificate_share_what_is_said_of_them() -> None:
    known = Integrations((integration("one", san_uri="urn:one"),))
    leaf = CA.issue(uris=["urn:one"])
    first = known.identify(shown(known, leaf), NOW)
    assert first is known.identify(shown(known, leaf), NOW + 1)
    assert isinstance(first, KnownMachine)
    assert (first.machine.principal.subject, first.machine.principal.owner) == ("integration:one", "ops@example.com")
    assert first.machine.fingerprint == leaf.fingerprint


def test_a_chain_that_cannot_be_read_is_refused() -> None:
    known = Integrations(())
    assert known.identify(known.show(terms(), (b"garbage", CA_DER)), NOW) is Reason.CERTIFICATE_UNSUITABLE
