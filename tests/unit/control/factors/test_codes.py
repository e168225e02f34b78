"""One-time passwords and recovery codes: each once, and not too many wrong ones."""

import asyncio
import re
import sqlite3
from typing import Any

import pytest

from tests.lab.authenticator import Authenticator
from tests.lab.factors import ALICE, BOB, CLIENT, ORIGIN, STEP, FactorWorld
from zt_proxy.control.factors.throttle import ADDRESS_PATIENCE, LAST, PATIENCE
from zt_proxy.control.factors.types import FactorKind, FactorRefused, Person, Proved
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Level


async def try_code(world: FactorWorld, code: str, who: Person = ALICE, client: str = CLIENT) -> Proved | FactorRefused:
    try:
        return await world.factors.verify_code(who, code, client)
    except FactorRefused as refused:
        return refused


def reason(result: object) -> Reason:
    assert isinstance(result, FactorRefused)
    return result.reason


async def test_a_one_time_password_is_added_and_proves_two_factors(world: FactorWorld) -> None:
    factor, app = await world.enrol_totp(name="work phone")
    assert (factor.kind, factor.name, factor.level) == (FactorKind.TOTP, "work phone", Level.MULTI)
    world.clock.advance(STEP)
    code = app.at(world.clock.now())
    shown = await world.factors.verify_code(ALICE, f" {code[:3]} {code[3:]} ", CLIENT)
    assert (shown.factor.id, shown.proof.level, shown.proof.at) == (factor.id, Level.MULTI, world.clock.now())
    assert (await world.factors.of(ALICE))[0].last_used == world.clock.now()


async def test_the_enrolment_page_gets_a_secret_of_160_bits_and_a_picture_without_script(world: FactorWorld) -> None:
    new = await world.factors.begin_totp(ALICE, 'al"ice<script>', world.proof())
    secret = new.secret_base32.replace(" ", "")
    assert re.fullmatch(r"[A-Z2-7]{32}", secret)
    assert new.uri.startswith("otpauth://totp/zt-proxy:al%22ice%3Cscript%3E?")
    assert f"secret={secret}" in new.uri
    assert "issuer=zt-proxy" in new.uri
    assert new.qr_svg.startswith("<svg ")
    assert not re.search(r"script|style=|<\?xml|xmlns:xlink|href", new.qr_svg)
    assert secret not in repr(new)


async def test_a_mistyped_code_leaves_the_enrolment_as_it_was(world: FactorWorld) -> None:
    new = await world.factors.begin_totp(ALICE, "alice", world.proof())
    with pytest.raises(FactorRefused):
        await world.factors.add_totp(ALICE, new.token, "000 0000")
    again = await world.factors.pending_totp(ALICE, new.token)
    assert (again.uri, again.token) == (new.uri, new.token)
    with pytest.raises(ClientError) as refused:
        await world.factors.pending_totp(BOB, new.token)
    assert refused.value.reason is Reason.FACTOR_UNKNOWN


async def test_of_two_that_end_one_enrolment_exactly_one_wins(world: FactorWorld) -> None:
    import pyotp

    new = await world.factors.begin_totp(ALICE, "alice", world.proof())
    code = pyotp.TOTP(new.secret_base32.replace(" ", "")).at(world.clock.now())
    tries = [world.factors.add_totp(ALICE, new.token, code) for _ in range(5)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert len(await world.factors.of(ALICE)) == 1


@pytest.mark.case("ZT-SESS-17")
async def test_a_code_counts_one_step_either_way_and_no_further(world: FactorWorld) -> None:
    _, app = await world.enrol_totp()
    world.clock.advance(10 * STEP)
    now = world.clock.now()
    for offset, accepted in ((-2, False), (2, False), (-1, True), (0, True), (1, True)):
        result = await try_code(world, app.at(now + offset * STEP))
        assert isinstance(result, Proved) is accepted, offset


@pytest.mark.case("ZT-SESS-17")
async def test_a_code_counts_once_and_none_before_it_counts_after_it(world: FactorWorld) -> None:
    _, app = await world.enrol_totp()
    world.clock.advance(10 * STEP)
    now = world.clock.now()
    assert isinstance(await try_code(world, app.at(now)), Proved)
    again = await try_code(world, app.at(now))
    assert isinstance(again, FactorRefused)
    assert (again.reason, again.used) == (Reason.FACTOR_WRONG, True)
    assert reason(await try_code(world, app.at(now - STEP))) is Reason.FACTOR_WRONG
    await world.reopen()
    assert reason(await try_code(world, app.at(now))) is Reason.FACTOR_WRONG


async def test_the_code_of_the_enrolment_is_used_up_by_it(world: FactorWorld) -> None:
    _, app = await world.enrol_totp()
    assert reason(await try_code(world, app.at(world.clock.now()))) is Reason.FACTOR_WRONG


@pytest.mark.case("ZT-SESS-17")
async def test_of_fifty_at_once_with_one_code_exactly_one_wins(world: FactorWorld) -> None:
    _, app = await world.enrol_totp()
    world.clock.advance(STEP)
    code = app.at(world.clock.now())
    results = await asyncio.gather(*(try_code(world, code, client=f"192.0.2.{n}") for n in range(50)))
    assert sum(isinstance(result, Proved) for result in results) == 1


@pytest.mark.case("ZT-SESS-17")
async def test_five_wrong_codes_lock_for_five_minutes_then_ten_then_fifteen(world: FactorWorld) -> None:
    _, app = await world.enrol_totp()
    world.clock.advance(STEP)
    for _ in range(PATIENCE):
        last = await try_code(world, world.wrong_code(app))
        assert reason(last) is Reason.FACTOR_WRONG
    assert isinstance(last, FactorRefused)
    assert last.retry_after == 300.0
    for minutes in (5, 10, 15, 15):
        world.clock.advance(60 * minutes - 1)
        locked = await try_code(world, app.at(world.clock.now()))
        assert isinstance(locked, FactorRefused)
        assert (locked.reason, locked.status, locked.retry_after) == (Reason.FACTOR_LOCKED, 429, 1.0)
        world.clock.advance(1)
        assert reason(await try_code(world, world.wrong_code(app))) is Reason.FACTOR_WRONG
    world.clock.advance(900)
    assert isinstance(await try_code(world, app.at(world.clock.now())), Proved)
    assert reason(await try_code(world, world.wrong_code(app))) is Reason.FACTOR_WRONG


@pytest.mark.case("ZT-SESS-17")
async def test_however_many_guess_at_once_five_are_looked_at(world: FactorWorld) -> None:
    _, app = await world.enrol_totp()
    world.clock.advance(STEP)
    wrong = world.wrong_code(app)
    guesses = [wrong] * 60 + [app.at(world.clock.now())]
    results = await asyncio.gather(*(try_code(world, code, client=f"198.51.100.{n}") for n, code in enumerate(guesses)))
    assert [reason(result) for result in results].count(Reason.FACTOR_WRONG) == PATIENCE


async def test_after_a_hundred_wrong_codes_in_a_row_only_another_factor_helps(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    _, app = await world.enrol_totp()
    for n in range(LAST):
        world.clock.advance(900)
        assert reason(await try_code(world, world.wrong_code(app), client=f"192.0.2.{n}")) is Reason.FACTOR_WRONG
    world.clock.advance(30 * 86_400)
    assert reason(await try_code(world, app.at(world.clock.now()))) is Reason.FACTOR_LOCKED
    challenge = await world.factors.passkey_request(ALICE)
    await world.factors.verify_passkey(ALICE, challenge.token, phone.get(challenge.options_json, ORIGIN))
    assert isinstance(await try_code(world, app.at(world.clock.now())), Proved)


@pytest.mark.case("ZT-SESS-16")
@pytest.mark.parametrize("restart", [False, True])
async def test_a_person_is_counted_once_by_whatever_name_they_come(world: FactorWorld, restart: bool) -> None:
    _, app = await world.enrol_totp()
    world.clock.advance(STEP)
    names = (
        "alice@example.com",
        "ALICE@example.com",
        "alice@EXAMPLE.com",
        None,
        "ａlice@example.com",
        "alice@example.net",
    )
    counted = []
    for name in names:
        result = await try_code(world, world.wrong_code(app), ALICE._replace(email=name))
        counted.append(reason(result))
        if restart:
            await world.reopen()
    assert counted == [Reason.FACTOR_WRONG] * PATIENCE + [Reason.FACTOR_LOCKED]
    assert reason(await try_code(world, app.at(world.clock.now()))) is Reason.FACTOR_LOCKED


async def test_a_lock_is_of_one_person_and_of_codes_that_can_be_guessed(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone)
    _, app = await world.enrol_totp()
    _, bobs = await world.enrol_totp(BOB)
    codes = await world.factors.new_recovery_codes(ALICE)
    world.clock.advance(STEP)
    for _ in range(PATIENCE):
        await try_code(world, world.wrong_code(app))
    assert reason(await try_code(world, app.at(world.clock.now()))) is Reason.FACTOR_LOCKED
    assert isinstance(await try_code(world, bobs.at(world.clock.now()), BOB), Proved)
    challenge = await world.factors.passkey_request(ALICE)
    answer = phone.get(challenge.options_json, ORIGIN)
    assert (await world.factors.verify_passkey(ALICE, challenge.token, answer)).proof.level is Level.PHISHING_RESISTANT
    for _ in range(PATIENCE):
        await try_code(world, world.wrong_code(app))
    assert isinstance(await try_code(world, codes[0]), Proved)


@pytest.mark.parametrize("addresses", [("192.0.2.7", "::ffff:192.0.2.7"), ("2001:db8::1", "2001:db8::ffff:2")])
async def test_thirty_wrong_codes_lock_their_address_for_ten_minutes(
    world: FactorWorld, addresses: tuple[str, str]
) -> None:
    _, app = await world.enrol_totp()
    people = [Person("https://idp.example", f"user-{n}") for n in range(ADDRESS_PATIENCE)]
    for n, who in enumerate(people):
        assert reason(await try_code(world, "000000", who, addresses[n % 2])) is Reason.FACTOR_WRONG
    world.clock.advance(STEP)
    code = app.at(world.clock.now())
    await world.reopen()
    locked = await try_code(world, code, client=addresses[1])
    assert isinstance(locked, FactorRefused)
    assert (locked.reason, locked.retry_after) == (Reason.FACTOR_LOCKED, 600.0 - STEP)
    assert isinstance(await try_code(world, code, client="203.0.113.9"), Proved)
    world.clock.advance(600.0 - STEP)
    assert isinstance(await try_code(world, app.at(world.clock.now()), client=addresses[0]), Proved)


async def test_a_clock_that_is_set_back_locks_nobody_for_long(world: FactorWorld) -> None:
    _, app = await world.enrol_totp()
    world.clock.advance(86_400)
    for _ in range(PATIENCE):
        await try_code(world, world.wrong_code(app))
    world.clock.advance(-86_400)
    locked = await try_code(world, "000000", client="203.0.113.9")
    assert isinstance(locked, FactorRefused)
    assert locked.retry_after <= 900.0


async def test_recovery_codes_are_shown_once_and_each_counts_once(world: FactorWorld) -> None:
    await world.enrol_passkey()
    codes = await world.factors.new_recovery_codes(ALICE)
    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"([0-9a-z]{4}-){5}[0-9a-z]{4}", code) for code in codes)
    for left, code in enumerate(reversed(codes)):
        typed = code.upper().replace("-", " ").replace("0", "O").replace("1", "l")
        shown = await world.factors.verify_code(ALICE, typed, CLIENT)
        assert (shown.factor.kind, shown.proof.level) == (FactorKind.RECOVERY, Level.MULTI)
        assert shown.factor.remaining == 9 - left
        assert reason(await try_code(world, code)) is Reason.FACTOR_WRONG
    recovery = (await world.factors.of(ALICE))[-1]
    assert (recovery.remaining, recovery.usable) == (0, False)


async def test_of_many_at_once_with_one_recovery_code_exactly_one_wins(world: FactorWorld) -> None:
    await world.enrol_passkey()
    (code, *_) = await world.factors.new_recovery_codes(ALICE)
    results = await asyncio.gather(*(try_code(world, code) for _ in range(20)))
    assert sum(isinstance(result, Proved) for result in results) == 1


async def test_new_recovery_codes_end_the_old_and_are_of_one_person(world: FactorWorld) -> None:
    for person in (ALICE, BOB):
        await world.enrol_totp(person)
    old = await world.factors.new_recovery_codes(ALICE)
    new = await world.factors.new_recovery_codes(ALICE)
    await world.factors.new_recovery_codes(BOB)
    assert reason(await try_code(world, old[0])) is Reason.FACTOR_WRONG
    assert reason(await try_code(world, new[0], BOB)) is Reason.FACTOR_WRONG
    assert isinstance(await try_code(world, new[0]), Proved)
    kinds = [factor.kind for factor in await world.factors.of(ALICE)]
    assert kinds == [FactorKind.TOTP, FactorKind.RECOVERY]


async def test_there_are_no_recovery_codes_for_somebody_with_nothing_to_recover(world: FactorWorld) -> None:
    with pytest.raises(ClientError) as caught:
        await world.factors.new_recovery_codes(ALICE)
    assert caught.value.reason is Reason.FACTOR_UNKNOWN
    assert await world.factors.of(ALICE) == ()


async def test_nothing_secret_is_in_the_file_in_the_clear(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone, name="a name of a phone")
    new = await world.factors.begin_totp(ALICE, "alice", world.proof())
    _, app = await world.enrol_totp()
    codes = await world.factors.new_recovery_codes(ALICE)
    await world.factors.close()
    stored = b"".join(path.read_bytes() for path in world.path.iterdir())
    secrets = [app.secret, app.secret.lower(), new.secret_base32.replace(" ", ""), new.token, *codes]
    secrets += ["alice", "idp.example", "a name of a phone", *(code.replace("-", "") for code in codes)]
    assert [secret for secret in secrets if secret.encode() in stored] == []
    assert phone.credentials[0].id not in stored
    assert (world.path / "factors.db").stat().st_mode & 0o777 == 0o600
    await world.open()


async def test_a_row_moved_to_somebody_else_proves_nothing_there(world: FactorWorld) -> None:
    _, app = await world.enrol_totp()
    await world.enrol_totp(BOB)
    await world.factors.close()
    with sqlite3.connect(world.path / "factors.db") as db:
        (bob,) = db.execute("SELECT person FROM factors ORDER BY rowid DESC LIMIT 1").fetchone()
        db.execute("UPDATE factors SET person=? WHERE person<>?", (bob, bob))
    db.close()
    await world.open()
    world.clock.advance(STEP)
    assert reason(await try_code(world, app.at(world.clock.now()), BOB)) is Reason.FACTOR_WRONG
    assert [factor.usable for factor in await world.factors.of(BOB)] == [False, True]


async def test_a_rotation_of_the_keys_keeps_everything_and_seals_it_anew(world: FactorWorld) -> None:
    phone = Authenticator()
    await world.enrol_passkey(phone=phone, name="phone")
    _, app = await world.enrol_totp()
    codes = await world.factors.new_recovery_codes(ALICE)
    old = world.ring
    world.ring = old.rotated()
    await world.reopen()
    world.ring = KeyRing({1: old.export()[1], 2: world.ring.export()[2]})
    await world.reopen()
    with sqlite3.connect(world.path / "factors.db") as db:
        sealed = [blob for (blob,) in db.execute("SELECT blob FROM factors UNION ALL SELECT blob FROM people")]
    db.close()
    assert {blob[:4] for blob in sealed} == {(2).to_bytes(4, "big")}
    world.clock.advance(STEP)
    assert isinstance(await try_code(world, app.at(world.clock.now())), Proved)
    assert isinstance(await try_code(world, codes[3]), Proved)
    challenge = await world.factors.passkey_request(ALICE)
    shown = await world.factors.verify_passkey(ALICE, challenge.token, phone.get(challenge.options_json, ORIGIN))
    assert shown.factor.name == "phone"


async def test_somebody_without_factors_is_refused_like_somebody_with(world: FactorWorld) -> None:
    stranger = Person("https://idp.example", "stranger")
    for code in ("123456", "", "x" * 500, "7k2m-9xqp-4tw0-hn6d-r8vb-3cyz"):
        result = await try_code(world, code, stranger, "203.0.113.1")
        assert reason(result) is Reason.FACTOR_WRONG


async def test_a_store_that_is_gone_proves_nothing(world: FactorWorld) -> None:
    from zt_proxy.core.errors import UnavailableError

    await world.enrol_totp()
    await world.factors.close()
    calls: list[Any] = [world.factors.verify_code(ALICE, "123456", CLIENT), world.factors.of(ALICE)]
    for call in calls:
        with pytest.raises(UnavailableError):
            await call
    await world.open()
