"""The assertion: what it says, that others can verify it, and how long one is used."""

import base64
import json
import subprocess
from pathlib import Path

import jwt
import msgspec
import pytest

from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, ConfigurationError, UnavailableError
from zt_proxy.core.session import Machine, Principal, Session
from zt_proxy.link.messages import SigningKey
from zt_proxy.worker.identify.assertion import AssertionSigner

ISSUER = "https://auth.example.com"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keys(tmp_path: Path, clock: ManualClock) -> AssertionKeys:
    return AssertionKeys.load_or_create(tmp_path, clock, 86_400.0, 3_600.0)


@pytest.fixture
def signer(keys: AssertionKeys, clock: ManualClock) -> AssertionSigner:
    signer = AssertionSigner(ISSUER, clock)
    signer.key(keys.current())
    return signer


def session(clock: ManualClock, sid: str = "s1", deadline: float = 40_000.0) -> Session:
    now = clock.now()
    principal = Principal(
        subject="u-17",
        issuer="https://idp.example",
        provider="corp",
        email="alice@example.com",
        name="Ælice",
        groups=frozenset(("staff", "makers")),
        roles=frozenset(("admin",)),
    )
    return Session(
        sid, "app.example", principal, "urn:mfa", ("pwd", "otp"), True, now - 10.7, now, now, 1800.0, now + deadline
    )


def claims_of(token: bytes, keys: AssertionKeys, audience: str = "flows") -> dict[str, object]:
    kid = jwt.get_unverified_header(token)["kid"]
    key = next(jwt.PyJWK(jwk) for jwk in keys.jwks()["keys"] if jwk["kid"] == kid)
    return jwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience=audience,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "strict_aud": True},
    )


def test_pyjwt_verifies_it_with_the_published_key(
    signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock
) -> None:
    now = int(clock.now())
    assert claims_of(signer.header(session(clock), "flows", "builder"), keys) == {
        "iss": ISSUER,
        "aud": "flows",
        "sub": "u-17",
        "email": "alice@example.com",
        "name": "Ælice",
        "groups": ["makers", "staff"],
        "roles": ["admin"],
        "acr": "urn:mfa",
        "amr": ["pwd", "otp"],
        "auth_time": int(clock.now() - 10.7),
        "sid": "s1",
        "iat": now,
        "nbf": now,
        "exp": now + 120,
    }


def test_node_verifies_it_with_the_published_key(
    signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock
) -> None:
    script = """
      const {createPublicKey, verify} = require('node:crypto');
      const {jwk, token} = JSON.parse(process.argv[1]);
      const [h, p, s] = token.split('.');
      const key = {key: createPublicKey({key: jwk, format: 'jwk'}), dsaEncoding: 'ieee-p1363'};
      console.log(verify('sha256', Buffer.from(h + '.' + p), key, Buffer.from(s, 'base64url')));
    """
    token = signer.header(session(clock), "flows", "builder").decode()
    for given, expected in ((token, "true"), (token[:-4] + "AAAA", "false")):
        argument = json.dumps({"jwk": keys.jwks()["keys"][0], "token": given})
        done = subprocess.run(["node", "-e", script, argument], capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout.strip() == expected


def test_missing_values_are_left_out_and_lists_are_always_there(
    signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock
) -> None:
    bare = Session("s", "h", Principal("u", "i", "p"), "", (), False, 1.0, 1.0, 1.0, 60.0, clock.now() + 900)
    claims = claims_of(signer.header(bare, "flows", "builder"), keys)
    assert not {"email", "name", "acr"} & claims.keys()
    assert (claims["groups"], claims["roles"], claims["amr"]) == ([], [], [])


def test_one_is_sent_again_for_sixty_seconds_and_no_longer(signer: AssertionSigner, clock: ManualClock) -> None:
    person = session(clock)
    first = signer.header(person, "flows", "builder")
    clock.advance(59.0)
    assert signer.header(person, "flows", "builder") is first
    clock.advance(1.0)
    assert signer.header(person, "flows", "builder") != first


def test_a_clock_set_back_does_not_stretch_the_reuse(signer: AssertionSigner, clock: ManualClock) -> None:
    person = session(clock)
    first = signer.header(person, "flows", "builder")
    clock.advance(-5.0)
    assert signer.header(person, "flows", "builder") != first


def test_no_assertion_outlives_its_session(signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock) -> None:
    person = session(clock, deadline=30.0)
    first = signer.header(person, "flows", "builder")
    assert claims_of(first, keys)["exp"] == int(clock.now()) + 30
    clock.advance(15.0)
    assert signer.header(person, "flows", "builder") != first


def test_a_changed_session_is_signed_anew(signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock) -> None:
    first = signer.header(session(clock), "flows", "builder")
    clock.advance(2.0)
    second = signer.header(session(clock), "flows", "builder")
    assert claims_of(first, keys)["auth_time"] != claims_of(second, keys)["auth_time"]


def test_each_route_gets_its_own_audience(signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock) -> None:
    person = session(clock)
    for audience in ("flows", "crm"):
        assert claims_of(signer.header(person, audience, audience), keys, audience)["aud"] == audience


def test_a_new_key_signs_at_once(signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock) -> None:
    person = session(clock)
    first = signer.header(person, "flows", "builder")
    clock.advance(86_400.0)
    keys.rotate()
    signer.key(keys.current())
    second = signer.header(person, "flows", "builder")
    assert jwt.get_unverified_header(first)["kid"] != jwt.get_unverified_header(second)["kid"]
    assert claims_of(first, keys)
    assert claims_of(second, keys)


def test_the_cache_is_bounded_and_drops_the_oldest(keys: AssertionKeys, clock: ManualClock) -> None:
    signer = AssertionSigner(ISSUER, clock, capacity=3)
    signer.key(keys.current())
    people = [session(clock, f"s{number}") for number in range(5)]
    tokens = [signer.header(person, "flows", "builder") for person in people]
    assert len(signer) == 3
    assert signer.header(people[4], "flows", "builder") is tokens[4]
    assert signer.header(people[0], "flows", "builder") != tokens[0]


def test_ended_entries_are_dropped_with_the_next_signature(signer: AssertionSigner, clock: ManualClock) -> None:
    for number in range(5):
        signer.header(session(clock, f"s{number}"), "flows", "builder")
    clock.advance(61.0)
    signer.header(session(clock, "another"), "flows", "builder")
    assert len(signer) == 1


def test_forget_drops_one_session_on_all_routes(signer: AssertionSigner, clock: ManualClock) -> None:
    kept, gone = session(clock, "kept"), session(clock, "gone")
    first = signer.header(kept, "flows", "builder")
    for route in ("builder", "crm"):
        signer.header(gone, "flows", route)
    signer.forget("gone")
    assert len(signer) == 1
    assert signer.header(kept, "flows", "builder") is first


def test_without_a_key_nothing_is_signed(clock: ManualClock) -> None:
    signer = AssertionSigner(ISSUER, clock)
    with pytest.raises(UnavailableError):
        signer.header(session(clock), "flows", "builder")
    with pytest.raises(UnavailableError):
        signer.portal_header(host="h", client="c", sid=None, request_id="r")


def test_a_key_that_is_none_is_refused_and_the_old_one_stays(signer: AssertionSigner, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError):
        signer.key(SigningKey("kid", b"no key"))
    assert signer.header(session(clock), "flows", "builder")


def test_no_route_may_have_the_portal_as_audience(signer: AssertionSigner, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError):
        signer.header(session(clock), "zt-portal", "builder")


def test_the_signature_is_sixty_four_bytes_whatever_its_numbers(signer: AssertionSigner, clock: ManualClock) -> None:
    # r or s begins with a zero byte once in 128: a DER that was cut naively would be short.
    for _ in range(300):
        signature = signer.portal_header(host="h", client="c", sid=None, request_id="r").rsplit(b".", 1)[1]
        assert len(base64.urlsafe_b64decode(signature + b"==")) == 64


def machine(clock: ManualClock, until: float = 40_000.0) -> Machine:
    principal = Principal("integration:crm", "", "", name="crm", integration="crm", owner="ops@example.com")
    return Machine(principal, "ab" * 32, clock.now() + until)


def test_an_integration_is_named_and_has_no_session(
    signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock
) -> None:
    one = machine(clock)
    signed = signer.machine(one, "flows", "builder")
    now = int(clock.now())
    assert claims_of(signed.token, keys) == {
        "iss": ISSUER, "aud": "flows", "sub": "integration:crm", "name": "crm", "integration": "crm",
        "groups": [], "roles": [], "amr": [], "iat": now, "nbf": now, "exp": now + 120,
    }  # fmt: skip
    assert signer.machine(one, "flows", "builder") is signed
    assert signer.machine(machine(clock, 9.0), "flows", "builder") is not signed, "another certificate, or another end"


def test_a_statement_about_a_machine_ends_with_its_certificate(
    signer: AssertionSigner, keys: AssertionKeys, clock: ManualClock
) -> None:
    claims = claims_of(signer.machine(machine(clock, 30.0), "flows", "builder").token, keys)
    assert claims["exp"] == int(clock.now()) + 30
    clock.advance(16)
    assert signer.machine(machine(clock), "flows", "builder").signed_at == int(clock.now())


def test_a_person_whose_provider_calls_them_like_a_machine_gets_no_statement(
    signer: AssertionSigner, clock: ManualClock
) -> None:
    person = msgspec.structs.replace(
        session(clock), principal=Principal("integration:crm", "https://idp.example", "corp")
    )
    with pytest.raises(ClientError, match="credentials-mixed"):
        signer.header(person, "flows", "builder")


def test_the_portals_audience_is_for_no_machine(signer: AssertionSigner, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError):
        signer.machine(machine(clock), "zt-portal", "builder")
