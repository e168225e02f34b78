"""Client certificates and integrations: what a file says about them, and what becomes of it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.lab.certificates import Authority
from zt_proxy.config import build, check, load
from zt_proxy.control.settings import RevocationSource
from zt_proxy.core.clock import ManualClock
from zt_proxy.policy.spec import RequestMatch, RuleEffect
from zt_proxy.worker.identify.certificate import parse_name
from zt_proxy.worker.settings import CertificateMatch, ClientCertificateSettings

from .examples import PLAIN

LISTENER = "certs/site.key}}"
MACHINES = """integrations:
  crm-sync:
    owner: ops@example.com
    certificate: {san_uri: "spiffe://example.com/crm-sync"}
    allow: [{route: builder, methods: [GET], paths: ["/api/contacts/**"]}]
"""


def text(terms: str = "{ca: certs/ca.pem}", machines: str = MACHINES) -> str:
    assert LISTENER in PLAIN
    asked = f"certs/site.key}}, client_certificates: {terms}}}" if terms else LISTENER
    return PLAIN.replace(LISTENER, asked) + machines


def said(place: Path, written: str) -> list[str]:
    file = place / "zt-proxy.yaml"
    file.write_text(written)
    return [
        f"{one.line}:{one.column}: {one.severity.value}: {one.text}".replace(f"{place}/", "")
        for one in check(load(file), ManualClock())
    ]


def test_one_mapping_or_a_list_say_the_same(place: Path) -> None:
    alone = "{ca: certs/ca.pem, required: true, crl: certs/list-fresh.pem}"
    for terms in (alone, f"[{alone}]"):
        assert said(place, text(terms)) == []
        built = build(load(place / "zt-proxy.yaml"))
        ca = place / "certs/ca.pem"
        assert built.worker.listeners[0].client_certificates == (ClientCertificateSettings(ca, True, (), True),)
        assert built.control.revocation == (RevocationSource(ca, (place / "certs/list-fresh.pem",)),)


def test_terms_of_several_listeners_with_the_same_authorities_share_their_lists(place: Path) -> None:
    terms = "[{ca: certs/ca.pem, crl: certs/list-fresh.pem}, {ca: certs/ca.pem, crl: certs/list-stale.pem, hosts: [flows.example.com]}]"
    said(place, text(terms))
    (source,) = build(load(place / "zt-proxy.yaml")).control.revocation
    assert [file.name for file in source.crls] == ["list-fresh.pem", "list-stale.pem"]


def test_mistakes_in_a_single_mapping_are_told_where_they_stand(place: Path) -> None:
    column = text("{").splitlines()[2].index("client_certificates: {") + len("client_certificates: ") + 1
    assert said(place, text("{ca: certs/ca.pem, requird: true}")) == [
        f"3:{column + 19}: error: unknown key `requird` (did you mean `required`?)"
    ]
    assert said(place, text("{ca: certs/ca.pem, required: 1}")) == [
        f"3:{column + 29}: error: `required` is a number; expected `true` or `false`"
    ]
    assert said(place, text("{required: true}")) == [f"3:{column}: error: `ca` is missing in `client_certificates`"]
    (problem,) = said(place, text("{ca: certs/ca.pem, crl: 7}"))
    assert "`crl` is a number; expected a list" in problem


def test_integrations_become_rules_of_their_routes_and_a_table_of_certificates(place: Path) -> None:
    machines = """integrations:
  one:
    owner: ops
    expires: 2029-06-30
    certificate: [{san_uri: "urn:one", issuer: "CN=CA,O=Ex"}, {sha256: "AA:%s"}]
    allow: [{route: builder, methods: [GET], paths: [/a]}, {route: builder, methods: [POST]}]
    limits: {rate: 90/m}
""" % ("bb" * 31)
    assert said(place, text(machines=machines)) == []
    built = build(load(place / "zt-proxy.yaml"))
    (one,) = built.worker.integrations
    assert (one.name, one.owner, one.rate) == ("one", "ops", 1.5)
    assert one.expires == datetime(2029, 7, 1, tzinfo=UTC).timestamp()
    assert one.certificates == (
        CertificateMatch(san_uri="urn:one", issuer=parse_name("CN=CA,O=Ex")),
        CertificateMatch(sha256="aa" + "bb" * 31),
    )
    rule = built.worker.routes[0].rules.rules[-1]
    assert (rule.id, rule.effect, rule.integrations) == ("integration:one", RuleEffect.ALLOW, ("one",))
    assert rule.matches == (RequestMatch(("GET",), ("/a",)), RequestMatch(("POST",), ()))


def test_an_integration_that_nobody_asks_for_its_certificate_is_an_error(place: Path) -> None:
    (problem,) = said(place, text(""))
    assert "error: no listener asks for client certificates" in problem


def test_required_certificates_without_any_integration_are_a_warning(place: Path) -> None:
    (problem,) = said(place, text("{ca: certs/ca.pem, required: true}", ""))
    assert "warning: certificates are required, and there are no `integrations`" in problem
    assert said(place, text("{ca: certs/ca.pem}", "")) == []


def test_misspelt_routes_and_integrations_are_named_with_the_nearest_right_one(place: Path) -> None:
    wrong = MACHINES.replace("route: builder", "route: buildr")
    assert [line.partition("error: ")[2] for line in said(place, text(machines=wrong))] == [
        "`buildr` is no route (did you mean `builder`?)"
    ]
    rule = text().replace(
        "{id: health,", "{id: no-sync, deny: all, to: {integrations: [crm-snc]}}\n      - {id: health,"
    )
    assert [line.partition("error: ")[2] for line in said(place, rule)] == [
        "`crm-snc` is no integration (did you mean `crm-sync`?)"
    ]


def test_two_integrations_that_one_certificate_could_be_are_an_error(place: Path) -> None:
    def other(certificate: str) -> list[str]:
        more = f"  other: {{owner: ops, certificate: {certificate}, allow: [{{route: builder, methods: [GET]}}]}}\n"
        return [line.partition(": ")[2] for line in said(place, text(machines=MACHINES + more))]

    told = ["error: `other` and `crm-sync` would match the same certificate: it would be refused"]
    assert other('{san_uri: "spiffe://example.com/crm-sync"}') == told
    assert other('{san_uri: "spiffe://example.com/crm-sync", issuer: "CN=A"}') == told
    assert other('{san_uri: "spiffe://example.com/other"}') == []
    assert other("{san_dns: crm.example.com}") == []


def test_an_end_that_has_passed_is_a_warning_so_that_nothing_else_stops(place: Path) -> None:
    for end, expected in (("2026-12-31", "has expired"), ("2027-01-20", "expires within 14 days")):
        (problem,) = said(place, text(machines=MACHINES + f"    expires: {end}\n"))
        assert f"warning: integration `crm-sync` {expected}" in problem
    assert said(place, text(machines=MACHINES + '    expires: "2027-06-30T12:00:00+02:00"\n')) == []
    (problem,) = said(place, text(machines=MACHINES + '    expires: "2027-06-30T12:00:00"\n'))
    assert "a moment without its zone" in problem


@pytest.mark.case("ZT-TLS-04")
def test_authorities_that_are_none_are_an_error(place: Path) -> None:
    (place / "empty.pem").write_bytes(b"")
    (place / "garbage.pem").write_bytes(b"\x00garbage" * 9)
    (place / "folder.pem").mkdir()
    for file, expected in (
        ("missing.pem", "cannot be read"),
        ("empty.pem", "holds no readable PEM certificate"),
        ("garbage.pem", "holds no readable PEM certificate"),
        ("folder.pem", "cannot be read"),
        ("certs/site.key", "holds no readable PEM certificate"),
        ("certs/site.pem", "is no authority's (CA:TRUE is missing)"),
    ):
        (problem,) = said(place, text(f"{{ca: {file}}}"))
        assert expected in problem, file


@pytest.mark.case("ZT-TLS-08")
def test_lists_are_wrong_for_good_or_for_now(place: Path) -> None:
    for file, expected in (
        ("certs/list-fresh.pem", ""),
        ("certs/list-stale.pem", "warning: certs/list-stale.pem is past its next update"),
        ("certs/list-other.pem", "error: certs/list-other.pem is of another authority"),
        ("certs/site.pem", "error: certs/site.pem holds a CERTIFICATE where revocation lists belong"),
        ("certs/none.pem", "error: certs/none.pem cannot be read"),
    ):
        lines = said(place, text(f"{{ca: certs/ca.pem, crl: {file}}}"))
        assert len(lines) == bool(expected), lines
        assert not expected or expected in lines[0]


def test_two_keys_under_one_name_are_told(place: Path) -> None:
    one = Authority("Clients")
    (place / "both.pem").write_bytes(one.pem + Authority("Clients").pem)
    (problem,) = said(place, text("{ca: both.pem}"))
    assert "warning: both.pem has one name with two keys" in problem
    (place / "both.pem").write_bytes(one.pem + Authority("Others").pem)
    assert said(place, text("{ca: both.pem}")) == []


@pytest.mark.case("ZT-TLS-08")
def test_a_list_that_is_not_whole_or_not_yet_valid_stops_no_start(place: Path) -> None:
    """Lists are written while the proxy runs: a start in that moment is not refused to everybody."""
    whole = (place / "certs/list-fresh.pem").read_bytes()
    for raw, expected in (
        (b"", "is empty"),
        (whole[:200], "it may be cut off"),
        (whole.replace(b"\n", b"\n!", 3), "not base64"),
        (b"\x30\x82\x10\x00", "is not a readable revocation list"),
    ):
        (place / "now.crl").write_bytes(raw)
        (line,) = said(place, text("{ca: certs/ca.pem, crl: now.crl}"))
        assert ": warning: now.crl " in line
        assert expected in line
    file = place / "zt-proxy.yaml"
    file.write_text(text("{ca: certs/ca.pem, crl: certs/list-fresh.pem}"))
    early = ManualClock(ManualClock().now() - 10 * 86_400)
    (problem,) = (one for one in check(load(file), early) if "list-fresh" in one.text)
    assert problem.severity.value == "warning"
    assert "of the future" in problem.text


def test_each_authority_needs_a_list_when_any_has_one(place: Path) -> None:
    import trustme

    both = (place / "certs/ca.pem").read_bytes() + trustme.CA().cert_pem.bytes()
    (place / "both.pem").write_bytes(both)
    (problem,) = said(place, text("{ca: both.pem, crl: certs/list-fresh.pem}"))
    assert "every certificate it issued would be refused" in problem


def test_a_route_at_a_port_where_nobody_is_asked_is_a_warning_that_names_the_right_one(place: Path) -> None:
    second = (
        '  - {name: machines, address: "0.0.0.0:9443", tls: {certificate: certs/site.pem, key: certs/site.key},'
        " client_certificates: {ca: certs/ca.pem, required: true}}\nportal:"
    )
    two = text("").replace("portal:", second)
    (problem,) = said(place, two)
    assert "warning: nobody is asked for a certificate at `flows.example.com` on port 8443" in problem
    assert "`host: flows.example.com:9443`" in problem
    assert said(place, two.replace("host: flows.example.com", 'host: "flows.example.com:9443"')) == []
    assert said(place, text("{ca: certs/ca.pem, hosts: [flows.example.com]}")) == []
    (problem,) = said(place, text("{ca: certs/ca.pem, hosts: [auth.example.com]}"))
    assert "no integration gets to `builder`" in problem


def test_an_intermediate_authority_needs_its_root_beside_it(place: Path) -> None:
    import trustme

    root = trustme.CA()
    lower = root.create_child_ca()
    (place / "lower.pem").write_bytes(lower.cert_pem.bytes())
    (problem,) = said(place, text("{ca: lower.pem}"))
    assert "error: lower.pem has an intermediate authority without the one above it" in problem
    (place / "both.pem").write_bytes(lower.cert_pem.bytes() + root.cert_pem.bytes())
    assert said(place, text("{ca: both.pem}")) == []
