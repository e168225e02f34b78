"""Factors against whatever somebody sends: a code counts once and near its time, and junk proves nothing."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.authenticator import Authenticator
from tests.lab.factors import ALICE, CLIENT, ORIGIN, STEP, FactorWorld
from zt_proxy.control.factors import recovery, totp
from zt_proxy.control.factors.types import FactorRefused, Proved
from zt_proxy.core.errors import ClientError, Reason

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(max_examples=300, deadline=None)


class Rig:
    """A world with one passkey and one app, used by many examples from one loop."""

    def __init__(self, path: Path) -> None:
        self.runner = asyncio.Runner()
        self.phone = Authenticator(step=0)
        self.path = path
        self.run = self.runner.run
        self.world = self.run(FactorWorld(path).open())
        self.run(self.world.enrol_passkey(phone=self.phone))

    def close(self) -> None:
        self.run(self.world.factors.close())
        self.runner.close()


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        yield rig
        rig.close()


@MANY
@given(st.integers(0, 2**33), st.integers(-5, 5), st.floats(0, 29.9))
def test_a_code_is_of_a_step_exactly_within_one_of_now(step: int, offset: int, inside: float) -> None:
    secret = totp.new_secret()
    now = max(0, step) * STEP + inside
    code = pyotp.TOTP(secret).generate_otp(max(0, step + offset))
    found = totp.step_of(secret, code, now)
    if step + offset >= 0 and abs(offset) <= 1:
        assert found is not None
        assert abs(found - step) <= 1
    elif found is not None:  # two steps whose codes happen to be the same
        assert pyotp.TOTP(secret).generate_otp(found) == code


@QUICK
@given(st.lists(st.tuples(st.floats(0, 90), st.integers(-2, 2)), min_size=1, max_size=12))
def test_no_step_counts_twice_and_none_after_a_later_one(tries: list[tuple[float, int]]) -> None:
    async def scenario(folder: str) -> None:
        world = await FactorWorld(Path(folder)).open()
        try:
            _, app = await world.enrol_totp()
            last = int(world.clock.now() // STEP)
            for wait, offset in tries:
                world.clock.advance(wait)
                current = int(world.clock.now() // STEP)
                step = current + offset
                try:
                    await world.factors.verify_code(ALICE, app.generate_otp(step), CLIENT)
                    accepted = True
                except FactorRefused:
                    accepted = False
                if accepted:
                    assert abs(offset) <= 1
                    assert step > last
                    last = step
        finally:
            await world.factors.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(folder))


@MANY
@given(st.text(max_size=200))
def test_whatever_is_typed_is_at_most_one_kind_of_code(text: str) -> None:
    six, letters = totp.code_in(text), recovery.code_in(text)
    assert six is None or letters is None
    assert six is None or (len(six) == 6 and six.isascii() and six.isdecimal())


@MANY
@given(st.sampled_from(recovery.new_codes()), st.lists(st.sampled_from(" -\n"), max_size=5), st.booleans())
def test_a_recovery_code_is_read_however_it_is_grouped(code: str, between: list[str], upper: bool) -> None:
    letters = code.replace("-", "")
    typed = "".join(between).join(letters[at : at + 5] for at in range(0, len(letters), 5))
    assert recovery.code_in(typed.upper() if upper else typed) == letters


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
PARTS = ("id", "rawId", "type", "response", "authenticatorAttachment", "clientExtensionResults")
RESPONSE = ("clientDataJSON", "authenticatorData", "signature", "userHandle", "attestationObject", "transports")


async def refused(what: Any) -> None:
    with pytest.raises(ClientError) as error:
        await what
    known = {Reason.FACTOR_WRONG, Reason.FACTOR_UNKNOWN, Reason.FACTOR_NOT_ACCEPTED}
    assert error.value.reason in known


@QUICK
@given(st.dictionaries(st.sampled_from(PARTS) | st.text(max_size=9), junk, max_size=6), st.text(max_size=80))
def test_junk_in_the_place_of_a_credential_is_refused_as_such(rig: Rig, credential: dict[str, Any], token: str) -> None:
    async def scenario() -> None:
        factors = rig.world.factors
        await refused(factors.verify_passkey(ALICE, token, credential))
        asked = await factors.passkey_request(ALICE)
        await refused(factors.verify_passkey(ALICE, asked.token, credential))
        adding = await factors.begin_passkey(ALICE, "Alice", rig.world.proof())
        await refused(factors.add_passkey(ALICE, adding.token, credential))

    rig.run(scenario())


def flip(text: str, at: int, by: int) -> str:
    from zt_proxy.core.keys import b64decode, b64encode

    raw = bytearray(b64decode(text))
    raw[at % len(raw)] ^= by
    return b64encode(bytes(raw))


@QUICK
@given(st.sampled_from(RESPONSE[:4]), st.integers(0, 4_000), st.integers(1, 255))
def test_an_answer_with_one_byte_changed_proves_nothing(rig: Rig, part: str, at: int, by: int) -> None:
    async def scenario() -> None:
        asked = await rig.world.factors.passkey_request(ALICE)
        answer = rig.phone.get(asked.options_json, ORIGIN)
        answer["response"][part] = flip(answer["response"][part], at, by)
        await refused(rig.world.factors.verify_passkey(ALICE, asked.token, answer))

    rig.run(scenario())


@QUICK
@given(st.sampled_from(RESPONSE), junk | st.text("AQgw-_=", max_size=60_000), st.sampled_from(["get", "create"]))
def test_a_part_of_an_answer_that_is_junk_or_huge_is_refused(rig: Rig, part: str, value: Any, ceremony: str) -> None:
    async def scenario() -> None:
        factors = rig.world.factors
        if ceremony == "get":
            asked = await factors.passkey_request(ALICE)
            answer = rig.phone.get(asked.options_json, ORIGIN)
            before = answer["response"].get(part)
            answer["response"][part] = value
            if part in {"attestationObject", "transports"} or value == before or (part == "userHandle" and not value):
                result = await factors.verify_passkey(ALICE, asked.token, answer)
                assert isinstance(result, Proved)
            else:
                await refused(factors.verify_passkey(ALICE, asked.token, answer))
        elif part in {"clientDataJSON", "attestationObject"}:
            adding = await factors.begin_passkey(ALICE, "Alice", rig.world.proof())
            answer = Authenticator().create(json.loads(adding.options_json), ORIGIN)
            answer["response"][part] = value
            await refused(factors.add_passkey(ALICE, adding.token, answer))

    rig.run(scenario())
