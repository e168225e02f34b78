"""The portal believes a worker's word and nothing else."""

from pathlib import Path

import pytest

from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.control.portal_verifier import AssertionPortalVerifier, PortalCall
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError
from zt_proxy.core.session import Principal, Session
from zt_proxy.worker.identify.assertion import AssertionSigner

ISSUER = "https://auth.example.com"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keys(tmp_path: Path, clock: ManualClock) -> AssertionKeys:
    return AssertionKeys.load_or_create(tmp_path, clock, 86_400.0, 3_600.0)


def signer_of(keys: AssertionKeys, clock: ManualClock, issuer: str = ISSUER) -> AssertionSigner:
    signer = AssertionSigner(issuer, clock)
    signer.key(keys.current())
    return signer


def word(signer: AssertionSigner, sid: str | None = "s1") -> str:
    return signer.portal_header(host="auth.example.com", client="192.0.2.7", sid=sid, request_id="r-1").decode()


@pytest.mark.parametrize("sid", ["s1", None])
def test_a_workers_word_is_believed(keys: AssertionKeys, clock: ManualClock, sid: str | None) -> None:
    call = AssertionPortalVerifier(keys, ISSUER, clock).verify(word(signer_of(keys, clock), sid))
    assert call == PortalCall("auth.example.com", "192.0.2.7", sid, "r-1")


def test_the_word_of_the_previous_key_is_believed_too(keys: AssertionKeys, clock: ManualClock) -> None:
    clock.advance(86_400.0)
    text = word(signer_of(keys, clock))
    keys.rotate()
    assert AssertionPortalVerifier(keys, ISSUER, clock).verify(text)


def test_it_ends_after_a_minute_and_skew(keys: AssertionKeys, clock: ManualClock) -> None:
    text = word(signer_of(keys, clock))
    verifier = AssertionPortalVerifier(keys, ISSUER, clock)
    clock.advance(89.0)
    verifier.verify(text)
    clock.advance(1.0)
    with pytest.raises(ClientError):
        verifier.verify(text)


def test_what_is_not_a_workers_word_is_refused(tmp_path: Path, keys: AssertionKeys, clock: ManualClock) -> None:
    signer = signer_of(keys, clock)
    others = AssertionKeys.load_or_create(tmp_path / "other", clock, 86_400.0, 3_600.0)
    person = Session("s", "h", Principal("u", "i", "p"), "", (), True, 1.0, 1.0, 1.0, 60.0, clock.now() + 900)
    good = word(signer)
    head, body, signature = good.split(".")
    refused = {
        "an assertion": signer.header(person, "flows", "builder").decode(),
        "another issuer": word(signer_of(keys, clock, "https://evil.example")),
        "another key": word(signer_of(others, clock)),
        "a changed signature": f"{head}.{body}.{signature[:-6]}AAAAAA",
        "no signature": f"{head}.{body}.",
        "alg none": f"eyJhbGciOiJub25lIn0.{body}.",
        "too long": good + "A" * 5_000,
        "nothing": "",
        "not ASCII": "é.é.é",
        "words": "a.b.c",
    }
    verifier = AssertionPortalVerifier(keys, ISSUER, clock)
    verifier.verify(good)
    for name, text in refused.items():
        with pytest.raises(ClientError) as caught:
            verifier.verify(text)
        assert caught.value.status == 403, name
    clock.advance(-31.0)
    with pytest.raises(ClientError):
        verifier.verify(good)
