"""What the file as a whole may and may not say; the wrong files beside this test hold the rest."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from zt_proxy.config import check, load
from zt_proxy.config import names as reading
from zt_proxy.config.build import build
from zt_proxy.core.clock import ManualClock

from .examples import PLAIN


def said(place: Path, text: str, clock: ManualClock | None = None) -> list[str]:
    file = place / "zt-proxy.yaml"
    file.write_text(text)
    return [f"{problem.severity.value}: {problem.text}" for problem in check(load(file), clock or ManualClock())]


def swap(*pairs: tuple[str, str]) -> str:
    text = PLAIN
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def test_a_certificate_that_runs_out_is_told_earlier_the_nearer_it_comes(place: Path) -> None:
    clock = ManualClock()
    assert said(place, PLAIN, clock) == []
    clock.advance(77 * 86_400)
    assert ["warning: certs/site.pem expires" in line for line in said(place, PLAIN, clock)] == [True]
    clock.advance(14 * 86_400)
    assert ["error: certs/site.pem expired" in line for line in said(place, PLAIN, clock)] == [True]


def test_a_wildcard_covers_one_label_and_an_address_needs_its_own_entry(place: Path) -> None:
    wild = swap(("certs/site.pem", "certs/wild.pem"), ("certs/site.key", "certs/wild.key"))
    assert said(place, wild) == []
    assert said(place, wild.replace("host: flows.example.com", 'host: "127.0.0.1"')) == []
    (deep,) = said(place, wild.replace("host: flows.example.com", "host: a.flows.example.com"))
    assert "no certificate of a listener covers `a.flows.example.com`" in deep
    (apex,) = said(place, wild.replace("host: flows.example.com", "host: example.com"))
    assert "covers `example.com`" in apex


def test_a_key_with_a_passphrase_is_refused(place: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (place / "locked.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    (problem,) = said(place, swap(("certs/site.key", "locked.key")))
    assert "must have no passphrase" in problem


@pytest.mark.case("ZT-TLS-04")
@pytest.mark.parametrize(
    "content", [None, b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_file_without_certificates_is_refused_never_replaced_by_the_systems(
    content: bytes | None, place: Path
) -> None:
    if content is not None:
        (place / "ca.pem").write_bytes(content)
    provider = swap(("client_id: zt", "client_id: zt, ca: ca.pem"))
    upstream = swap(("upstream: http://127.0.0.1:1880", "upstream: {url: 'https://127.0.0.1:1880', ca: ca.pem}"))
    for text in (provider, upstream):
        (problem,) = said(place, text)
        assert problem.startswith("error: ")
        assert "ca.pem" in problem
    (place / "folder.pem").mkdir()
    (problem,) = said(place, provider.replace("ca.pem", "folder.pem"))
    assert "Is a directory" in problem


@pytest.mark.parametrize(
    ("allow", "to", "expected"),
    [
        ("all", "public", ["error: rule `x` allows everyone everything"]),
        ('[{paths: ["/**"]}]', "public", ["error: rule `x` allows everyone everything"]),
        ("all", "anyone-signed-in", ["warning: rule `x` allows whoever can sign in everything"]),
        ("all", "{groups: [staff]}", []),
        ("[{methods: [GET]}]", "public", []),
    ],
)
def test_a_rule_for_everyone_and_everything_needs_to_say_so(
    allow: str, to: str, expected: list[str], place: Path
) -> None:
    text = PLAIN[: PLAIN.index("    rules:")] + f"    rules: [{{id: x, allow: {allow}, to: {to}}}]\n"
    lines = said(place, text)
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))


@pytest.mark.parametrize(
    "rule",
    [
        '{id: x, deny: [{paths: ["/flows"]}], to: {groups: [interns]}}',
        '{id: x, deny: [{paths: ["/flows"]}], mode: report}',
        '{id: x, deny: [{paths: ["/flows"]}], mode: "off"}',
        '{id: x, deny: [{methods: [GET], paths: ["/flows"]}]}',
        '{id: x, deny: [{paths: ["/flows/*"]}]}',
        '{id: x, allow: [{paths: ["/flows"]}], to: {groups: [admins]}}',
        '{id: x, allow: [{methods: [POST], paths: ["/flow"]}], to: {groups: [releasers]}}',
    ],
)
def test_a_rule_that_leaves_something_to_another_is_no_problem(rule: str, place: Path) -> None:
    assert said(place, PLAIN + f"      - {rule}\n") == []


def test_two_groups_one_of_which_may_without_a_fresh_proof_is_no_problem(place: Path) -> None:
    rule = "{id: x, allow: [{methods: [POST]}], to: {groups: [admins]}}"
    assert said(place, PLAIN + f"      - {rule}\n") == []


@pytest.mark.parametrize("case", ["sensitive", "insensitive"])
def test_an_upper_case_deny_covers_a_lower_case_allow_only_where_case_is_folded(case: str, place: Path) -> None:
    text = PLAIN.replace("    rules:", f"    paths: {{case: {case}}}\n    rules:")
    lines = said(place, text + '      - {id: x, deny: [{paths: ["/HEALTHZ"]}]}\n')
    assert lines == (
        ["error: rule `health` can never allow: `x` denies all it is about"] if case == "insensitive" else []
    )


def test_a_route_may_shorten_the_session_and_never_lengthen_it(place: Path) -> None:
    shorter = PLAIN.replace("    rules:", "    session: {idle: 10m, absolute: 1h}\n    rules:")
    assert said(place, shorter) == []
    assert len(said(place, shorter.replace("idle: 10m", "idle: 31m"))) == 1
    assert len(said(place, shorter.replace("absolute: 1h", "absolute: 13h"))) == 1


def test_a_loopback_issuer_over_http_needs_the_switch(place: Path) -> None:
    http = swap(('"https://sso.example.com"', '"http://localhost:3000/realm"'))
    assert len(said(place, http)) == 1
    (warning,) = said(place, http.replace("client_id: zt", "client_id: zt, insecure_http: true"))
    assert warning.startswith("warning: ")
    (error,) = said(place, swap(('"https://sso.example.com"', '"http://sso.example.com", insecure_http: true')))
    assert error.startswith("error: ")


@pytest.mark.parametrize(
    "upstream", ["http://127.0.0.1:8443", "https://localhost:8443", "http://[::1]:8443", "http://0.0.0.0:8443"]
)
def test_an_upstream_that_is_the_proxy_itself_is_refused(upstream: str, place: Path) -> None:
    (problem,) = said(place, swap(("http://127.0.0.1:1880", f'"{upstream}"')))
    assert "the proxy's own listener" in problem


def test_checking_changes_nothing(place: Path) -> None:
    before = sorted(place.rglob("*"))
    said(place, PLAIN)
    assert sorted(place.rglob("*")) == sorted([*before, place / "zt-proxy.yaml"])


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("A.Example.com.", "a.example.com", None), ("[::1]:80", "::1", 80), ("10.0.0.1:8443", "10.0.0.1", 8443)],
)
def test_hosts_are_read_one_way(text: str, host: str, port: int | None) -> None:
    assert reading.split(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":80", "a b", "a..b", "-a", "a:b", "a:70000", "::1", "[::1", "[a]", "1.2.3", "é.example", "a/b", "a:٣"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        reading.split(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http://a/b",
        "http://a?b",
        "http://u:p@a",
        "ftp://a",
        "a:80",
        "unix:",
        "unix:a",
        "http://a:0",
        "//a",
        "http://a#b",
    ],
)
def test_what_is_no_upstream_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        reading.upstream(text)


CORP = 'corp: {issuer: "https://sso.example.com", client_id: zt, client_secret: "${file:certs/secret}"}'


@pytest.mark.parametrize("key", ["acr_values", "amr_values"])
@pytest.mark.parametrize("value", ['""', '" "', '"phr phrh"'])
def test_a_value_that_a_missing_claim_would_meet_is_no_second_factor(place: Path, key: str, value: str) -> None:
    (problem,) = said(place, swap((CORP, CORP.replace("client_id: zt", f"client_id: zt, {key}: [mfa, {value}]"))))
    assert problem.startswith("error: ")
    assert f"is no value of `{key}`" in problem


@pytest.mark.parametrize("value", ["pwd", "pin", "kba"])
def test_a_password_is_no_second_factor_under_another_name(place: Path, value: str) -> None:
    (problem,) = said(place, swap((CORP, CORP.replace("client_id: zt", f"client_id: zt, amr_values: [{value}, otp]"))))
    assert problem.startswith(f"error: `{value}` alone is no second factor")


@pytest.mark.parametrize(
    "matches",
    [
        "all",
        '[{paths: ["/**"]}]',
        '[{paths: ["/**/*"]}]',
        '[{paths: ["/*/**", "/"]}]',
        '[{paths: ["/*"]}, {paths: ["/**/*"]}]',
        "[{methods: [GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS]}]",
        '[{methods: [GET, POST], paths: ["/**"]}]',
        "[{methods: [GET]}, {methods: [POST]}]",
        '[{methods: [GET]}, {methods: [POST], paths: ["/**"]}]',
    ],
)
def test_everything_for_everyone_needs_its_switch_however_it_is_spelled(place: Path, matches: str) -> None:
    health = "allow: [{methods: [GET], paths: [/healthz]}], to: public}"
    assert health in PLAIN
    told = said(place, swap((health, f"allow: {matches}, to: public}}")))
    assert any(line.startswith("error: rule `health` allows everyone everything, without a") for line in told), told


@pytest.mark.parametrize("matches", ['[{methods: [GET, HEAD], paths: ["/**"]}]', '[{paths: ["/public/**", "/"]}]'])
def test_reading_or_a_part_for_everyone_needs_none(place: Path, matches: str) -> None:
    health = "allow: [{methods: [GET], paths: [/healthz]}], to: public}"
    said_of_it = said(place, swap((health, f"allow: {matches}, to: public}}")))
    assert not any("everyone everything" in line for line in said_of_it)


def test_no_route_has_the_portals_audience(place: Path) -> None:
    host = "    host: flows.example.com\n"
    (problem,) = said(place, swap((host, host + "    audience: zt-portal\n")))
    assert problem == "error: `zt-portal` is the portal's own audience"


def test_it_is_told_whom_several_providers_can_vouch_for(place: Path) -> None:
    both = CORP + "\n    " + CORP.replace("corp:", "partner:")
    first, *rest = said(place, swap((CORP, both)))
    assert first.startswith("warning: several providers, and `corp` without `domains`")
    assert rest
    assert all("groups of every provider" in line for line in rest)
    both = both.replace("client_id: zt", "client_id: zt, domains: [example.com]", 1)
    both = both.replace("partner: {", "partner: {domains: [example.net], ")
    whose = swap((CORP, both)).replace("    upstream: http", "    provider: corp\n    upstream: http")
    assert said(place, whose) == []


def test_a_subject_is_one_providers_and_an_address_never_a_subject(place: Path) -> None:
    text = swap((CORP, CORP + "\n    " + CORP.replace("corp:", "partner:")))
    text += '      - {id: few, allow: all, to: {users: ["partner:4711", "a:b@c", ann@example.com]}}\n'
    text += '      - {id: own, allow: all, to: {users: ["4711"], providers: [corp]}}\n'
    file = place / "zt-proxy.yaml"
    file.write_text(text)
    few, own = build(load(file)).worker.routes[0].rules.rules[-2:]
    assert (few.users, few.people, few.emails) == ((), (("partner", "4711"),), ("a:b@c", "ann@example.com"))
    assert (own.users, own.people, own.providers) == ((), (("corp", "4711"),), ("corp",))
