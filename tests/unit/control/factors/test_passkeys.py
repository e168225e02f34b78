"""Passkeys from the page's challenge to the proof, with an authenticator that can lie."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.lab.authenticator import AT, BE, BS, UP, UV, Authenticator
from tests.lab.factors import ALICE, BOB, ORIGIN, SETTINGS, FactorWorld
from zt_proxy.control.factors.manager import CHALLENGE_LIFETIME
from zt_proxy.control.factors.types import FactorKind, FactorRefused, Person, Proved
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import b64decode, b64encode
from zt_proxy.core.session import Level


async def show(world: FactorWorld, phone: Authenticator, who: Person = ALICE, **lies: Any) -> Proved:
    challenge = await world.factors.passkey_request(who)
    origin = lies.pop("origin", ORIGIN)
    return await world.factors.verify_passkey(who, challenge.token, phone.get(challenge.options_json, origin, **lies))


async def refusal(what: Any) -> Reason:
    with pytest.raises(ClientError) as refused:
        await what
    return refused.value.reason


async def test_a_passkey_is_added_and_proves_the_highest_level(world: FactorWorld) -> None:
    phone = Authenticator()
    added = await world.enrol_passkey(phone=phone, name="my phone")
    assert (added.kind, added.name, added.usable, added.last_used) == (FactorKind.PASSKEY, "my phone", True, None)
    world.clock.advance(60)
    shown = await show(world, phone)
    assert shown.proof.level is Level.PHISHING_RESISTANT
    assert shown.proof.at == shown.factor.last_used == world.clock.now()
    assert shown.factor.id == added.id
    assert await world.factors.reach(ALICE) is Level.PHISHING_RESISTANT


async def test_the_options_ask_for_what_the_server_will_insist_on(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    create = json.loads((await world.factors.begin_passkey(ALICE, "Alice", world.proof())).options_json)
    get = json.loads((await world.factors.passkey_request(ALICE)).options_json)
    known = [b64encode(credential.id) for credential in phone.credentials]
    assert create["rp"] == {"id": "auth.example.com", "name": "zt-proxy"}
    assert create["authenticatorSelection"]["userVerification"] == get["userVerification"] == "required"
    assert create["authenticatorSelection"]["residentKey"] == "preferred"
    assert create["attestation"] == "none"
    assert [each["id"] for each in create["excludeCredentials"]] == known
    assert [each["id"] for each in get["allowCredentials"]] == known
    assert get["allowCredentials"][0]["transports"] == ["hybrid", "internal"]
    assert get["rpId"] == "auth.example.com"
    assert "alice" not in b64decode(create["user"]["id"]).decode("latin-1")


@pytest.mark.parametrize(
    "lies",
    [
        {"origin": "https://auth.example.com"},
        {"origin": "https://evil.example"},
        {"rp_id": "evil.example"},
        {"type": "webauthn.create"},
        {"challenge": b64encode(b"x" * 32)},
        {"crossOrigin": True},
        {"crossOrigin": "false"},
        {"topOrigin": "https://evil.example"},
        {"topOrigin": None},
    ],
    ids=str,
)
async def test_an_answer_made_elsewhere_or_for_something_else_is_refused(
    world: FactorWorld, lies: dict[str, Any]
) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    assert await refusal(show(world, phone, **lies)) is Reason.FACTOR_WRONG
    assert (await show(world, phone)).factor.usable


@pytest.mark.parametrize("flags", [UP, UV, 0, UP | UV | BE, UP | UV | BS], ids=["no UV", "no UP", "none", "BE", "BS"])
async def test_an_answer_without_user_verification_or_of_another_kind_of_key_is_refused(
    world: FactorWorld, flags: int
) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    phone.flags = flags
    assert await refusal(show(world, phone)) is Reason.FACTOR_WRONG


@pytest.mark.parametrize(
    "lies",
    [{"rp_id": "evil.example"}, {"crossOrigin": True}, {"topOrigin": "https://a.example"}, {"type": "webauthn.get"}],
)
async def test_no_passkey_is_added_from_elsewhere(world: FactorWorld, lies: dict[str, Any]) -> None:
    challenge = await world.factors.begin_passkey(ALICE, "Alice", world.proof())
    credential = Authenticator().create(challenge.options_json, ORIGIN, **lies)
    assert await refusal(world.factors.add_passkey(ALICE, challenge.token, credential)) is Reason.FACTOR_WRONG
    assert await world.factors.of(ALICE) == ()


async def test_no_passkey_is_added_without_user_verification(world: FactorWorld) -> None:
    assert await refusal(world.enrol_passkey(phone=Authenticator(flags=UP))) is Reason.FACTOR_WRONG
    assert await refusal(world.enrol_passkey(phone=Authenticator(flags=UP | UV | AT | BS))) is Reason.FACTOR_WRONG


async def test_a_counter_that_does_not_rise_disables_the_passkey_for_good(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    await show(world, phone)
    phone.credentials[0].counter -= 1
    assert await refusal(show(world, phone)) is Reason.FACTOR_WRONG
    await world.reopen()
    (factor,) = await world.factors.of(ALICE)
    assert (factor.disabled, factor.usable) == (True, False)
    assert await refusal(world.factors.passkey_request(ALICE)) is Reason.FACTOR_UNKNOWN
    assert await world.factors.reach(ALICE) is None


async def test_a_counter_that_goes_back_to_nothing_is_no_missing_counter(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    phone.step, phone.credentials[0].counter = 0, 0
    assert await refusal(show(world, phone)) is Reason.FACTOR_WRONG
    assert (await world.factors.of(ALICE))[0].disabled


async def test_a_forged_answer_with_an_old_counter_disables_nothing(world: FactorWorld) -> None:
    phone, forger = Authenticator(), Authenticator()
    await world.enrol_passkey(phone=phone)
    await world.enrol_passkey(BOB, forger)
    forger.credentials[0].id = phone.credentials[0].id
    forger.credentials[0].user = phone.credentials[0].user
    forger.credentials[0].counter = -1
    assert await refusal(show(world, forger)) is Reason.FACTOR_WRONG
    assert (await show(world, phone)).factor.usable


async def test_a_passkey_without_a_counter_works_again_and_again(world: FactorWorld) -> None:
    phone = Authenticator(step=0, flags=UP | UV | BE | BS)
    await world.enrol_passkey(phone=phone)
    for _ in range(3):
        assert (await show(world, phone)).factor.usable


async def test_of_two_uses_of_one_challenge_exactly_one_wins(world: FactorWorld) -> None:
    phone = Authenticator(step=0)
    await world.enrol_passkey(phone=phone)
    challenge = await world.factors.passkey_request(ALICE)
    answer = phone.get(challenge.options_json, ORIGIN)
    tries = [world.factors.verify_passkey(ALICE, challenge.token, answer) for _ in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, Proved) for result in results) == 1
    assert sum(isinstance(result, FactorRefused) for result in results) == 9


async def test_a_challenge_lasts_five_minutes_and_over_a_restart(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    good, late = await world.factors.passkey_request(ALICE), await world.factors.passkey_request(ALICE)
    await world.reopen()
    world.clock.advance(CHALLENGE_LIFETIME - 1)
    await world.factors.verify_passkey(ALICE, good.token, phone.get(good.options_json, ORIGIN))
    world.clock.advance(1)
    answer = phone.get(late.options_json, ORIGIN)
    assert await refusal(world.factors.verify_passkey(ALICE, late.token, answer)) is Reason.FACTOR_WRONG


async def test_a_challenge_is_for_its_purpose_and_person_only(world: FactorWorld) -> None:
    phone, other = Authenticator(), Authenticator()
    await world.enrol_passkey(phone=phone)
    await world.enrol_passkey(BOB, other)
    factors = world.factors
    challenge = await factors.passkey_request(ALICE, purpose=b"sid-1|deploy")
    answer = phone.get(challenge.options_json, ORIGIN)
    assert await refusal(factors.verify_passkey(BOB, challenge.token, answer)) is Reason.FACTOR_WRONG
    assert (await factors.verify_passkey(ALICE, challenge.token, answer, purpose=b"sid-1|deploy")).factor.usable
    challenge = await factors.passkey_request(ALICE, purpose=b"sid-1|deploy")
    answer = phone.get(challenge.options_json, ORIGIN)
    spent = factors.verify_passkey(ALICE, challenge.token, answer, purpose=b"sid-2|deploy")
    assert await refusal(spent) is Reason.FACTOR_WRONG
    again = factors.verify_passkey(ALICE, challenge.token, answer, purpose=b"sid-1|deploy")
    assert await refusal(again) is Reason.FACTOR_WRONG


async def test_a_challenge_for_adding_proves_nothing_and_the_other_way_round(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    adding = await world.factors.begin_passkey(ALICE, "Alice", world.proof())
    asked = {"challenge": json.loads(adding.options_json)["challenge"]}
    answer = phone.get(asked, ORIGIN)
    assert await refusal(world.factors.verify_passkey(ALICE, adding.token, answer)) is Reason.FACTOR_WRONG
    asking = await world.factors.passkey_request(ALICE)
    options = {**json.loads(adding.options_json), "challenge": json.loads(asking.options_json)["challenge"]}
    new = Authenticator().create(options, ORIGIN)
    assert await refusal(world.factors.add_passkey(ALICE, asking.token, new)) is Reason.FACTOR_WRONG


async def test_a_passkey_of_somebody_else_is_unknown(world: FactorWorld) -> None:
    phone, other = Authenticator(), Authenticator()
    await world.enrol_passkey(phone=phone)
    await world.enrol_passkey(BOB, other)
    challenge = await world.factors.passkey_request(ALICE)
    answer = other.get({"challenge": json.loads(challenge.options_json)["challenge"]}, ORIGIN)
    assert await refusal(world.factors.verify_passkey(ALICE, challenge.token, answer)) is Reason.FACTOR_UNKNOWN


async def test_a_user_handle_of_another_account_is_refused(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    phone.credentials[0].user = b"somebody else"
    assert await refusal(show(world, phone)) is Reason.FACTOR_WRONG


async def test_one_credential_belongs_to_one_person(world: FactorWorld) -> None:
    phone, thief = Authenticator(), Authenticator()
    await world.enrol_passkey(phone=phone)
    challenge = await world.factors.begin_passkey(BOB, "Bob", world.proof())
    stolen = phone.credentials[0].id
    credential = thief.create(challenge.options_json, ORIGIN)
    attestation = b64decode(credential["response"]["attestationObject"])
    forged = attestation.replace(thief.credentials[0].id, stolen)
    credential["response"]["attestationObject"] = b64encode(forged)
    credential["id"] = credential["rawId"] = b64encode(stolen)
    assert await refusal(world.factors.add_passkey(BOB, challenge.token, credential)) is Reason.FACTOR_NOT_ACCEPTED
    assert await world.factors.of(BOB) == ()


async def test_an_authenticator_is_not_added_twice(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    with pytest.raises(LookupError, match="registered already"):
        await world.enrol_passkey(phone=phone)


async def test_a_removed_passkey_proves_nothing(world: FactorWorld) -> None:
    phone = Authenticator()
    factor = await world.enrol_passkey(phone=phone)
    await world.enrol_passkey()
    challenge = await world.factors.passkey_request(ALICE)
    await world.factors.remove(ALICE, factor.id)
    answer = phone.get(challenge.options_json, ORIGIN)
    assert await refusal(world.factors.verify_passkey(ALICE, challenge.token, answer)) is Reason.FACTOR_UNKNOWN


async def test_a_person_has_twenty_passkeys_at_most(world: FactorWorld) -> None:
    for _ in range(20):
        await world.enrol_passkey()
    assert await refusal(world.enrol_passkey()) is Reason.FACTOR_TOO_MANY
    await world.enrol_passkey(BOB)


async def test_where_passkeys_are_not_accepted_none_is_added_or_asked_for(tmp_path: Path) -> None:
    world = await FactorWorld(tmp_path).open()
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    world.factors.configure(msgspec.structs.replace(SETTINGS, accept=frozenset({"provider", "totp"})))
    assert await refusal(world.enrol_passkey()) is Reason.FACTOR_NOT_ACCEPTED
    assert await refusal(world.factors.passkey_request(ALICE)) is Reason.FACTOR_UNKNOWN
    assert [factor.usable for factor in await world.factors.of(ALICE)] == [False]
    await world.factors.close()
