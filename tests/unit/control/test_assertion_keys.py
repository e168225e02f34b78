"""The assertion's keys: on disk, published, exchanged."""

import json
import os
from pathlib import Path

import jwt
import pytest

from zt_proxy.control.assertion_keys import FILE, JWKS_MAX_AGE, MINIMUM_OVERLAP, AssertionKeys
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError

DAY = 86_400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keys(tmp_path: Path, clock: ManualClock) -> AssertionKeys:
    return AssertionKeys.load_or_create(tmp_path, clock, DAY, 3_600.0)


def published(keys: AssertionKeys) -> list[str]:
    return [jwk["kid"] for jwk in keys.jwks()["keys"]]


@pytest.mark.case("ZT-JWT-16")
def test_only_public_members_are_published(keys: AssertionKeys) -> None:
    for jwk in keys.jwks()["keys"]:
        assert jwk.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("EC", "P-256", "sig", "ES256")


@pytest.mark.case("ZT-JWT-16")
def test_a_key_is_published_before_it_signs_and_until_nothing_needs_it(keys: AssertionKeys, clock: ManualClock) -> None:
    old, new = published(keys)
    assert keys.current().kid == old
    clock.advance(DAY)
    keys.rotate()
    assert keys.current().kid == new
    # The last assertion of the old key lives 120 s; an app fetched the JWKS just before the change, and skew.
    clock.advance(3_599.0)
    assert {old, new} <= set(published(keys))
    clock.advance(1.0)
    assert old not in published(keys)
    assert new in published(keys)


@pytest.mark.case("ZT-JWT-16")
def test_an_overlap_too_short_for_assertion_and_cache_is_raised(tmp_path: Path, clock: ManualClock) -> None:
    keys = AssertionKeys.load_or_create(tmp_path, clock, DAY, 1.0)
    old = keys.current().kid
    clock.advance(DAY)
    keys.rotate()
    clock.advance(120 + JWKS_MAX_AGE)
    assert old in published(keys)
    clock.advance(MINIMUM_OVERLAP - 120 - JWKS_MAX_AGE)
    assert old not in published(keys)


@pytest.mark.case("ZT-JWT-16")
def test_a_key_no_app_can_have_seen_does_not_sign(keys: AssertionKeys, clock: ManualClock) -> None:
    before = published(keys)
    clock.advance(JWKS_MAX_AGE - 1.0)
    with pytest.raises(ConfigurationError):
        keys.rotate()
    assert published(keys) == before
    clock.advance(1.0)
    keys.rotate()


def test_two_rotations_within_the_overlap_keep_both_old_keys(keys: AssertionKeys, clock: ManualClock) -> None:
    seen = []
    for _ in range(2):
        seen.append(keys.current().kid)
        clock.advance(JWKS_MAX_AGE)
        keys.rotate()
    assert set(seen) <= set(published(keys))


def test_a_rotation_is_due_at_its_age_and_once(keys: AssertionKeys, clock: ManualClock) -> None:
    assert not keys.due(clock.now() + DAY - 1.0)
    assert keys.due(clock.now() + DAY)
    clock.advance(DAY)
    keys.rotate()
    assert not keys.due(clock.now())


def test_a_leaked_file_is_withdrawn_whole(keys: AssertionKeys) -> None:
    before = set(published(keys))
    keys.rotate(compromised=True)
    assert not before & set(published(keys))
    assert keys.current().kid in published(keys)


def test_the_kid_is_the_thumbprint_of_rfc_7638(keys: AssertionKeys) -> None:
    for jwk in keys.jwks()["keys"]:
        assert jwk["kid"] == _thumbprint(jwk)


def _thumbprint(jwk: dict[str, str]) -> str:
    import base64
    import hashlib

    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()


def test_restarting_keeps_the_keys_and_their_ages(tmp_path: Path, keys: AssertionKeys, clock: ManualClock) -> None:
    clock.advance(DAY)
    keys.rotate()
    again = AssertionKeys.load_or_create(tmp_path, clock, DAY, 3_600.0)
    assert again.current() == keys.current()
    assert again.jwks() == keys.jwks()
    assert not again.due(clock.now())


def test_the_file_is_for_its_owner_alone_and_nothing_is_left_beside_it(
    tmp_path: Path, keys: AssertionKeys, clock: ManualClock
) -> None:
    clock.advance(DAY)
    keys.rotate()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [FILE]


def test_keys_that_others_may_read_are_refused(tmp_path: Path, keys: AssertionKeys, clock: ManualClock) -> None:
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(ConfigurationError, match="600"):
        AssertionKeys.load_or_create(tmp_path, clock, DAY, 3_600.0)


def test_a_damaged_file_is_an_error_and_stays_as_it_is(tmp_path: Path, keys: AssertionKeys, clock: ManualClock) -> None:
    path = tmp_path / FILE
    good = path.read_text()
    stored = json.loads(good)
    key = stored["current"]["private"]
    for damaged in (
        "",
        "{}",
        good[:-9],
        good.replace(key, key[:-8]),
        good.replace(key, key[::-1]),
        good.replace('"version":1', '"version":2'),
        json.dumps({**stored, "extra": 1}),
    ):
        path.write_text(damaged)
        with pytest.raises(ConfigurationError) as caught:
            AssertionKeys.load_or_create(tmp_path, clock, DAY, 3_600.0)
        assert key[:16] not in str(caught.value)
        assert path.read_text() == damaged


def test_loading_makes_no_keys(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError):
        AssertionKeys.load(tmp_path, clock)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError):
        AssertionKeys.load_or_create(tmp_path / "file", clock, DAY, 3_600.0)


def test_the_signing_key_belongs_to_the_published_one(keys: AssertionKeys) -> None:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    key = keys.current()
    token = jwt.encode({"sub": "x"}, load_der_private_key(key.private_der, None), algorithm="ES256")
    assert jwt.decode(token, keys.verification_keys()[key.kid], algorithms=["ES256"]) == {"sub": "x"}
