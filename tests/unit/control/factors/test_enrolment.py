"""Who may add a factor, and what is left when one goes."""

import asyncio
from pathlib import Path

import msgspec
import pyotp
import pytest

from tests.lab.authenticator import BE, BS, UP, UV, Authenticator
from tests.lab.factors import ALICE, BOB, CLIENT, ORIGIN, SETTINGS, STEP, FactorWorld
from zt_proxy.control.factors.types import Factor, FactorKind, Person
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.session import Level, Proof

GRANTED = msgspec.structs.replace(SETTINGS, enrolment="grant")


async def refusal(what: object) -> Reason:
    with pytest.raises(ClientError) as refused:
        await what  # type: ignore[misc]
    return refused.value.reason


async def test_a_first_factor_is_added_from_a_fresh_sign_in_only(world: FactorWorld) -> None:
    single = world.proof(Level.SINGLE)
    assert await world.factors.may_enrol(ALICE, single) is None
    world.clock.advance(300)
    assert await world.factors.may_enrol(ALICE, single) is None
    world.clock.advance(1)
    assert await world.factors.may_enrol(ALICE, single) is Reason.ENROLMENT_NOT_FRESH
    assert await world.factors.may_enrol(ALICE, single, this_login=True) is None
    assert await refusal(world.factors.begin_passkey(ALICE, "Alice", single)) is Reason.ENROLMENT_NOT_FRESH
    assert await refusal(world.factors.begin_totp(ALICE, "Alice", single)) is Reason.ENROLMENT_NOT_FRESH
    await world.factors.begin_totp(ALICE, "Alice", single, this_login=True)


async def test_whoever_has_a_factor_shows_one_to_add_another(world: FactorWorld) -> None:
    await world.enrol_totp()
    single, multi = world.proof(Level.SINGLE), world.proof(Level.MULTI)
    assert await world.factors.enrolment_level(ALICE) is Level.MULTI
    assert await world.factors.may_enrol(ALICE, single, this_login=True) is Reason.MFA_REQUIRED
    assert await world.factors.may_enrol(ALICE, multi) is None
    assert await world.factors.may_enrol(BOB, single) is None
    assert await refusal(world.factors.begin_passkey(ALICE, "Alice", single)) is Reason.MFA_REQUIRED


async def test_whoever_has_a_passkey_uses_it_to_add_another_factor(world: FactorWorld) -> None:
    await world.enrol_passkey()
    multi = world.proof(Level.MULTI)
    assert await world.factors.enrolment_level(ALICE) is Level.PHISHING_RESISTANT
    assert await world.factors.may_enrol(ALICE, multi) is Reason.MFA_REQUIRED
    assert await world.factors.may_enrol(ALICE, world.proof(Level.PHISHING_RESISTANT)) is None


async def test_whoever_began_with_a_password_does_not_end_it_after_the_owner_has_a_factor(world: FactorWorld) -> None:
    single = world.proof(Level.SINGLE)
    passkey = await world.factors.begin_passkey(ALICE, "Alice", single)
    app = await world.factors.begin_totp(ALICE, "Alice", single)
    credential = Authenticator().create(passkey.options_json, ORIGIN)
    code = pyotp.TOTP(app.secret_base32.replace(" ", "")).at(world.clock.now())
    owners = await world.enrol_passkey()
    assert await refusal(world.factors.add_passkey(ALICE, passkey.token, credential)) is Reason.MFA_REQUIRED
    assert await refusal(world.factors.add_totp(ALICE, app.token, code)) is Reason.MFA_REQUIRED
    assert [factor.id for factor in await world.factors.of(ALICE)] == [owners.id]


async def test_of_several_first_factors_at_once_one_is_the_first(world: FactorWorld) -> None:
    single = world.proof(Level.SINGLE)
    begun = [await world.factors.begin_passkey(ALICE, "Alice", single) for _ in range(8)]
    made = [(each.token, Authenticator().create(each.options_json, ORIGIN)) for each in begun]
    adding = (world.factors.add_passkey(ALICE, token, credential) for token, credential in made)
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert sum(isinstance(result, Factor) for result in results) == 1
    assert len(await world.factors.of(ALICE)) == 1


async def test_an_administrator_helps_somebody_who_lost_their_passkey_once(world: FactorWorld) -> None:
    await world.enrol_passkey()
    await world.factors.grant("ALICE@example.com", world.clock.now() + 3_600)
    multi = world.proof(Level.MULTI)
    assert await world.factors.may_enrol(ALICE, world.proof(Level.SINGLE)) is Reason.MFA_REQUIRED
    assert await world.factors.may_enrol(ALICE, multi) is None
    both = [await world.factors.begin_passkey(ALICE, "Alice", multi) for _ in range(2)]
    new = [Authenticator().create(each.options_json, ORIGIN) for each in both]
    await world.factors.add_passkey(ALICE, both[0].token, new[0])
    assert await refusal(world.factors.add_passkey(ALICE, both[1].token, new[1])) is Reason.MFA_REQUIRED
    assert await world.factors.may_enrol(ALICE, multi) is Reason.MFA_REQUIRED


async def test_a_disabled_factor_does_not_open_the_door_to_a_password(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    phone.credentials[0].counter = -1
    challenge = await world.factors.passkey_request(ALICE)
    answer = phone.get(challenge.options_json, ORIGIN)
    assert await refusal(world.factors.verify_passkey(ALICE, challenge.token, answer)) is Reason.FACTOR_WRONG
    assert await world.factors.may_enrol(ALICE, world.proof(Level.SINGLE), this_login=True) is Reason.MFA_REQUIRED
    assert await world.factors.reset(ALICE) == 1
    assert await world.factors.may_enrol(ALICE, world.proof(Level.SINGLE), this_login=True) is None


async def test_neither_does_a_factor_that_is_not_accepted_any_more(world: FactorWorld) -> None:
    await world.enrol_totp()
    world.factors.configure(msgspec.structs.replace(SETTINGS, accept=frozenset({"provider", "passkey"})))
    assert await world.factors.reach(ALICE) is None
    assert await world.factors.may_enrol(ALICE, world.proof(Level.SINGLE)) is Reason.MFA_REQUIRED
    assert await world.factors.may_enrol(ALICE, world.proof(Level.MULTI)) is None


async def test_where_grants_are_needed_each_is_good_for_one_factor(tmp_path: Path) -> None:
    world = await FactorWorld(tmp_path, GRANTED).open()
    assert await world.factors.may_enrol(ALICE, world.proof(), this_login=True) is Reason.ENROLMENT_NOT_GRANTED
    assert await refusal(world.enrol_passkey()) is Reason.ENROLMENT_NOT_GRANTED
    await world.factors.grant("alice", world.clock.now() + 3_600)
    assert await world.factors.may_enrol(BOB, world.proof(), this_login=True) is Reason.ENROLMENT_NOT_GRANTED
    await world.reopen()
    assert (await world.enrol_passkey()).usable
    assert await refusal(world.enrol_passkey()) is Reason.ENROLMENT_NOT_GRANTED
    assert len(await world.factors.new_recovery_codes(ALICE)) == 10
    await world.factors.close()


async def test_a_grant_runs_out(tmp_path: Path) -> None:
    world = await FactorWorld(tmp_path, GRANTED).open()
    await world.factors.grant("alice", world.clock.now() + 60)
    challenge = await world.factors.begin_passkey(ALICE, "Alice", world.proof())
    world.clock.advance(60)
    credential = Authenticator().create(challenge.options_json, ORIGIN)
    adding = world.factors.add_passkey(ALICE, challenge.token, credential)
    assert await refusal(adding) is Reason.ENROLMENT_NOT_GRANTED
    assert await world.factors.may_enrol(ALICE, world.proof()) is Reason.ENROLMENT_NOT_GRANTED
    await world.factors.close()


async def test_of_two_that_use_one_grant_exactly_one_wins(tmp_path: Path) -> None:
    world = await FactorWorld(tmp_path, GRANTED).open()
    await world.factors.grant("alice", world.clock.now() + 60)
    await world.factors.grant("alice@example.com", world.clock.now() - 1)
    challenges = [await world.factors.begin_passkey(ALICE, "Alice", world.proof()) for _ in range(5)]
    made = [(each.token, Authenticator().create(each.options_json, ORIGIN)) for each in challenges]
    adding = (world.factors.add_passkey(ALICE, token, credential) for token, credential in made)
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert sum(isinstance(result, Factor) for result in results) == 1
    assert len(await world.factors.of(ALICE)) == 1
    await world.factors.close()


async def test_a_name_of_two_people_finds_both_and_a_new_address_is_learned(world: FactorWorld) -> None:
    other = Person("https://other.example", "alice", "alice@other.example")
    await world.enrol_passkey()
    _, app = await world.enrol_totp(other)
    assert {found.issuer for found in await world.factors.named("ALICE")} == {ALICE.issuer, other.issuer}
    (found,) = await world.factors.named("alice@OTHER.example")
    assert [factor.kind for factor in found.factors] == [FactorKind.TOTP]
    world.clock.advance(STEP)
    moved = other._replace(email="a.smith@other.example")
    await world.factors.verify_code(moved, app.at(world.clock.now()), CLIENT)
    assert await world.factors.named("alice@other.example") == ()
    (found,) = await world.factors.named("a.smith@other.example")
    assert (found.subject, found.email) == ("alice", "a.smith@other.example")


async def test_a_factor_is_renamed_by_its_owner_to_something_that_can_be_shown(world: FactorWorld) -> None:
    factor = await world.enrol_passkey(name="phone\x1b[31m\u202e\n")
    assert factor.name == "phone[31m"
    await world.factors.rename(ALICE, factor.id, "x" * 500)
    assert (await world.factors.of(ALICE))[0].name == "x" * 64
    await world.factors.rename(ALICE, factor.id, " \n ")
    assert (await world.factors.of(ALICE))[0].name == "x" * 64
    assert await refusal(world.factors.rename(BOB, factor.id, "mine")) is Reason.FACTOR_UNKNOWN


async def test_the_last_factor_goes_only_when_that_is_said(world: FactorWorld) -> None:
    first, second = await world.enrol_passkey(), await world.enrol_passkey()
    await world.factors.new_recovery_codes(ALICE)
    assert await refusal(world.factors.remove(BOB, first.id)) is Reason.FACTOR_UNKNOWN
    removing = (world.factors.remove(ALICE, each.id) for each in (first, second))
    results = await asyncio.gather(*removing, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ClientError]
    assert await refusal(world.factors.remove(ALICE, second.id)) is Reason.FACTOR_LAST
    await world.factors.remove(ALICE, second.id, last=True)
    (left,) = await world.factors.of(ALICE)
    assert left.kind is FactorKind.RECOVERY
    assert await world.factors.may_enrol(ALICE, world.proof(Level.SINGLE)) is Reason.MFA_REQUIRED
    await world.factors.remove(ALICE, left.id, last=True)
    assert await world.factors.of(ALICE) == ()
    assert await world.factors.named("alice") == ()


async def test_recovery_codes_can_go_while_something_else_is_left(world: FactorWorld) -> None:
    await world.enrol_totp()
    await world.factors.new_recovery_codes(ALICE)
    await world.factors.remove(ALICE, (await world.factors.of(ALICE))[1].id)
    assert [factor.kind for factor in await world.factors.of(ALICE)] == [FactorKind.TOTP]


async def test_a_reset_forgets_factors_codes_challenges_and_wrong_codes(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    await world.enrol_totp()
    codes = await world.factors.new_recovery_codes(ALICE)
    await world.enrol_totp(BOB)
    challenge = await world.factors.passkey_request(ALICE)
    assert await world.factors.reset(ALICE) == 3
    assert await world.factors.of(ALICE) == ()
    assert len(await world.factors.of(BOB)) == 1
    answer = phone.get(challenge.options_json, ORIGIN)
    assert await refusal(world.factors.verify_passkey(ALICE, challenge.token, answer)) is Reason.FACTOR_WRONG
    assert await refusal(world.factors.verify_code(ALICE, codes[0], CLIENT)) is Reason.FACTOR_WRONG


async def test_where_no_own_factor_is_accepted_none_can_be_added_or_shown(world: FactorWorld) -> None:
    await world.enrol_passkey()
    codes = await world.factors.new_recovery_codes(ALICE)
    world.factors.configure(msgspec.structs.replace(SETTINGS, accept=frozenset({"provider"})))
    assert await refusal(world.enrol_passkey(BOB)) is Reason.FACTOR_NOT_ACCEPTED
    assert await refusal(world.enrol_totp(BOB)) is Reason.FACTOR_NOT_ACCEPTED
    assert await refusal(world.factors.new_recovery_codes(BOB)) is Reason.FACTOR_NOT_ACCEPTED
    assert await refusal(world.factors.verify_code(ALICE, codes[0], CLIENT)) is Reason.FACTOR_WRONG


async def test_a_passkey_of_a_password_manager_is_told_from_one_that_stays(world: FactorWorld) -> None:
    phone = Authenticator(flags=UP | UV | BE | BS, step=0)
    await world.enrol_passkey(phone=phone)
    phone.flags = UP | UV | BE
    challenge = await world.factors.passkey_request(ALICE)
    shown = await world.factors.verify_passkey(ALICE, challenge.token, phone.get(challenge.options_json, ORIGIN))
    assert shown.proof == Proof(world.clock.now(), Level.PHISHING_RESISTANT)
