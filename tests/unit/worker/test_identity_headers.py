"""Which identity headers go upstream, with which bytes, and which names are taken from clients."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.session import Principal, Session
from zt_proxy.policy.spec import RouteRules
from zt_proxy.worker.identify.assertion import AssertionSigner
from zt_proxy.worker.identify.headers import PRESETS, IdentityHeaders, header_text, reserved_names
from zt_proxy.worker.settings import RouteSettings, UpstreamSettings
from zt_proxy.worker.wire import hygiene


@pytest.fixture
def signer(tmp_path: Path) -> AssertionSigner:
    clock = ManualClock()
    signer = AssertionSigner("https://auth.example.com", clock)
    signer.key(AssertionKeys.load_or_create(tmp_path, clock, 86_400.0, 3_600.0).current())
    return signer


def route(preset: str = "assertion", secret: tuple[str, str] | None = None) -> RouteSettings:
    return RouteSettings(
        name="builder",
        host="app.example",
        prefix=b"/",
        upstream=UpstreamSettings("http", "127.0.0.1", 1880),
        rules=RouteRules("builder", ()),
        audience="flows",
        identity_headers=preset,
        shared_secret_header=secret,
    )


def session(principal: Principal) -> Session:
    return Session("sid", "app.example", principal, "", (), True, 1.0, 1.0, 1.0, 60.0, 1_900_000_000.0)


def lines(signer: AssertionSigner, preset: str, principal: Principal) -> dict[str, str]:
    raw = IdentityHeaders(route(preset), signer).lines(session(principal))
    assert raw.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in raw.decode("ascii").removesuffix("\r\n").split("\r\n"))


ALICE = Principal(
    "u-17",
    "https://idp.example",
    "corp",
    "alice@example.com",
    "Alice Doe",
    frozenset(("staff", "makers")),
    claims={"preferred_username": "alice"},
)

EXPECTED = {
    "assertion": {},
    "remote-user": {
        "Remote-User": "u-17",
        "Remote-Email": "alice@example.com",
        "Remote-Name": "Alice Doe",
        "Remote-Groups": "makers,staff",
    },
    "x-forwarded-user": {
        "X-Forwarded-User": "u-17",
        "X-Forwarded-Email": "alice@example.com",
        "X-Forwarded-Groups": "makers,staff",
        "X-Forwarded-Preferred-Username": "alice",
    },
    "x-auth-request": {
        "X-Auth-Request-User": "u-17",
        "X-Auth-Request-Email": "alice@example.com",
        "X-Auth-Request-Groups": "makers,staff",
        "X-Auth-Request-Preferred-Username": "alice",
    },
}


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_sends_its_headers_beside_the_assertion(signer: AssertionSigner, preset: str) -> None:
    got = lines(signer, preset, ALICE)
    assert got.pop("X-ZT-Assertion").count(".") == 2
    assert got == EXPECTED[preset]


@pytest.mark.case("ZT-HDR-04")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_value_that_is_missing_sends_no_header(signer: AssertionSigner, preset: str) -> None:
    got = lines(signer, preset, Principal("u-17", "i", "corp", email="", groups=frozenset(("",))))
    assert {name for name in got if name != "X-ZT-Assertion"} <= {
        "Remote-User",
        "X-Forwarded-User",
        "X-Auth-Request-User",
    }


@pytest.mark.case("ZT-HDR-04")
@pytest.mark.parametrize("preset", PRESETS)
def test_every_header_of_every_preset_is_taken_from_clients_in_any_spelling(preset: str) -> None:
    for name in ("X-ZT-Assertion", "X-Auth-Groups", *(name.decode() for name, _ in PRESETS[preset])):
        for spelling in (name, name.upper(), name.lower(), name.replace("-", "_"), name.replace("-", ".")):
            assert hygiene.is_reserved(spelling.encode())


def test_the_shared_secret_is_sent_and_its_name_taken_from_clients(signer: AssertionSigner) -> None:
    guarded = route("remote-user", ("X-Proxy_Secret", "s3cret"))
    headers = IdentityHeaders(guarded, signer)
    assert headers.lines(session(ALICE)).endswith(b"\r\nX-Proxy_Secret: s3cret\r\n")
    assert headers.anonymous() == b"X-Proxy_Secret: s3cret\r\n"
    assert reserved_names([guarded, route()]) - reserved_names() == {b"x-proxy-secret"}


@pytest.mark.parametrize(
    "secret", [("X Secret", "v"), ("X:", "v"), ("", "v"), ("X", ""), ("X", "a\r\nb"), ("X", " a"), ("X", "ä")]
)
def test_a_shared_secret_that_is_no_header_is_refused_and_not_repeated(
    signer: AssertionSigner, secret: tuple[str, str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        IdentityHeaders(route("assertion", secret), signer)
    assert secret[1] != caught.value.detail


def test_an_unknown_preset_is_refused(signer: AssertionSigner) -> None:
    with pytest.raises(ConfigurationError):
        IdentityHeaders(route("x-user"), signer)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("a\r\nX-Admin: 1", "a%0D%0AX-Admin: 1"),
        ("Zoë", "Zo%C3%AB"),
        ("100%", "100%25"),
        (" admins", "%20admins"),
        ("admins ", "admins%20"),
        ("a\x00b\x7f\t", "a%00b%7F%09"),
        ("  ", "%20%20"),
    ],
)
def test_values_are_printable_ascii_and_nothing_ends_a_line(value: str, sent: str) -> None:
    assert header_text(value) == sent


def test_a_comma_in_a_group_does_not_make_two_groups(signer: AssertionSigner) -> None:
    got = lines(signer, "remote-user", Principal("u", "i", "p", groups=frozenset(("x,admins", "staff"))))
    assert got["Remote-Groups"] == "staff,x%2Cadmins"


@given(st.text())
def test_any_value_comes_back_whole(value: str) -> None:
    sent = header_text(value)
    assert sent == sent.strip()
    assert all(0x20 <= ord(letter) < 0x7F for letter in sent)
    assert unquote(sent, errors="strict") == value


@given(st.characters(categories=("Cs",)))
def test_a_lone_surrogate_is_escaped_too(value: str) -> None:
    assert header_text(value).isascii()


def test_the_lines_are_joined_once_for_each_assertion(signer: AssertionSigner) -> None:
    headers, person = IdentityHeaders(route("remote-user"), signer), session(ALICE)
    assert headers.lines(person) is headers.lines(person)
