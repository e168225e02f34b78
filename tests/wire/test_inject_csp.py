"""What becomes of a Content-Security-Policy so that the proxy's own script gets past it, policy by policy."""

import pytest

from tests.lab.csp import Use, allows
from zt_proxy.worker.protect.inject import csp

OWN = csp.Own(b"https://app.test:8443")
PATH = b"https://app.test:8443/.zt/"
NONCE = b"bm9uY2U"
OURS = b"'nonce-bm9uY2U'"

LEFT = [
    b"",
    b";",
    b"img-src 'none'; style-src 'self'",
    b"default-src 'self'",
    b"default-src *",
    b"Default-Src HTTPS:",
    b"script-src 'self' 'unsafe-inline'; connect-src 'self'",
    b"script-src https://app.test:8443; connect-src app.test:8443",
    b"script-src https://app.test:8443/.zt/; connect-src https://APP.test:8443/",
    b"script-src 'strict-dynamic' 'unsafe-inline' https:; connect-src *",
    b"require-trusted-types-for 'script'; trusted-types 'none'",
    b"frame-ancestors 'none'; form-action 'self'; base-uri 'none'; upgrade-insecure-requests",
    # not understood: a browser blocks the script, and that is all
    b"script-src \xe9; connect-src 'self'",
    b"script_src 'none'; default-src 'none'",
    b"default-src 'none'; \x0cimg-src *",
    b"default-src 'none' \x7f",
]


@pytest.mark.parametrize("policy", LEFT)
def test_what_needs_nothing_or_is_not_understood_stays_byte_for_byte(policy: bytes) -> None:
    assert csp.edited(policy, OWN, NONCE) == policy


EDITED = [
    (b"script-src 'none'", b"script-src PATH"),
    (b"script-src", b"script-src PATH"),
    (b"SCRIPT-SRC 'NONE';connect-src 'none';", b"SCRIPT-SRC PATH;connect-src PATH;"),
    (b"script-src https://cdn.test 'unsafe-inline'", b"script-src https://cdn.test 'unsafe-inline' PATH"),
    (b"script-src 'nonce-x' 'sha256-eA=='", b"script-src 'nonce-x' 'sha256-eA==' PATH"),
    (b"script-src app.test", b"script-src app.test PATH"),
    (b"script-src https://app.test:8443/js/", b"script-src https://app.test:8443/js/ PATH"),
    # script-src-elem before script-src before default-src
    (b"script-src 'none'; script-src-elem cdn.test", b"script-src 'none'; script-src-elem cdn.test PATH"),
    (b"script-src-elem 'self'; script-src 'none'", b"script-src-elem 'self'; script-src 'none'"),
    (b"script-src 'self'; default-src 'none'", b"script-src 'self'; default-src 'none'; connect-src PATH"),
    (b"default-src 'none'", b"default-src 'none'; script-src PATH; connect-src PATH"),
    (b"default-src data: cdn.test;  ", b"default-src data: cdn.test; script-src data: cdn.test PATH; connect-src data: cdn.test PATH"),
    (b"default-src 'none'; connect-src 'self'", b"default-src 'none'; connect-src 'self'; script-src PATH"),
    # the first of a name counts
    (b"script-src 'none'; script-src 'self'", b"script-src PATH; script-src 'self'"),
    # 'strict-dynamic' knows nonces only
    (b"script-src 'strict-dynamic' 'nonce-x' 'unsafe-inline' https:", b"script-src 'strict-dynamic' 'nonce-x' 'unsafe-inline' https: NONCE"),
    (b"script-src 'strict-dynamic' 'self'", b"script-src 'strict-dynamic' 'self' NONCE"),
    (b"default-src 'Strict-Dynamic' 'sha256-eA=='", b"default-src 'Strict-Dynamic' 'sha256-eA=='; script-src 'Strict-Dynamic' 'sha256-eA==' NONCE; connect-src 'Strict-Dynamic' 'sha256-eA==' PATH"),
    # each policy by itself
    (b"script-src 'none', default-src 'self' ,connect-src 'none'", b"script-src PATH, default-src 'self' ,connect-src PATH"),
    (b"\xe9,script-src 'none'", b"\xe9,script-src PATH"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "expected"), EDITED)
def test_what_needs_it_gets_one_source_in_the_directive_that_counts(policy: bytes, expected: bytes) -> None:
    assert csp.edited(policy, OWN, NONCE) == expected.replace(b"PATH", PATH).replace(b"NONCE", OURS)


@pytest.mark.parametrize(("policy", "expected"), EDITED)
def test_the_script_then_passes(policy: bytes, expected: bytes) -> None:
    origin = "https://app.test:8443"
    nonce = NONCE.decode() if csp.wants_nonce(policy) else ""
    after = csp.edited(policy, OWN, nonce.encode())
    assert allows(after, Use("script-elem", origin + "/.zt/session.js", nonce=nonce), origin)
    assert allows(after, Use("connect", origin + "/.zt/preflight"), origin)
    assert not nonce or b"NONCE" in expected


@pytest.mark.parametrize(
    "policy",
    [
        b"script-src 'strict-dynamic' 'unsafe-inline'",
        b"script-src 'unsafe-inline'",
        b"script-src 'none'",
        b"script-src-elem 'self'; script-src 'strict-dynamic' 'nonce-x'",
        b"default-src \xe9 'strict-dynamic' 'nonce-x'",
        b"style-src 'nonce-x' 'strict-dynamic'",
    ],
)
def test_no_nonce_is_given_where_it_would_do_nothing_or_harm(policy: bytes) -> None:
    assert not csp.wants_nonce(policy)
    assert OURS not in csp.edited(policy, OWN, NONCE)


@pytest.mark.parametrize(
    ("policy", "forbidden"),
    [
        (b"sandbox", True),
        (b"default-src 'self'; Sandbox allow-forms", True),
        (b"sandbox allow-scripts", True),
        (b"sandbox allow-same-origin allow-popups", True),
        (b"img-src *, sandbox allow-scripts", True),
        (b"sandbox allow-scripts allow-same-origin allow-forms", False),
        (b"sandbox ALLOW-SCRIPTS Allow-Same-Origin", False),
        (b"sandbox allow-scripts allow-same-origin; sandbox", False),
        (b"report-uri /sandbox; img-src sandbox", False),
    ],
)
def test_a_sandbox_without_scripts_or_an_origin_is_no_place_for_the_script(policy: bytes, forbidden: bool) -> None:
    assert csp.forbids(policy) is forbidden


def test_thousands_of_directives_are_no_burden() -> None:
    policy = b"script-src " + b"https://cdn.test " * 20_000 + b"; x" * 20_000
    assert csp.edited(policy, OWN, NONCE).count(PATH) == 1
