"""Sessions end to end over the real store, with a clock that only the test moves."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.manager import SessionManager
from zt_proxy.control.session.record import PROOFS
from zt_proxy.control.session.sqlite import SqliteStore
from zt_proxy.control.settings import SessionSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.keys import CookieMac, KeyRing, Secret
from zt_proxy.core.session import Level, Principal, Proof, unlock_key
from zt_proxy.link.messages import Invalidation

HOST = "flows.example.com"
OTHER = "crm.example.com"


class World:
    """A manager over a file, which a test may close and open again."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.path = path
        self.clock = clock
        self.worker_ring = KeyRing({1: b"w" * 32})
        self.store_ring = KeyRing({1: b"s" * 32})
        self.mac = CookieMac(self.worker_ring)
        self.changes: list[Invalidation] = []

    async def open(self) -> None:
        self.store = await SqliteStore.open(self.path)
        settings = SessionSettings(idle=900.0, absolute=43_200.0)
        self.manager = await SessionManager.open(self.store, settings, self.worker_ring, self.store_ring, self.clock)
        self.manager.on_change(self.changes.append)

    async def reopen(self) -> None:
        await self.manager.close()
        await self.open()

    def login(self, subject: str = "alice") -> VerifiedLogin:
        return VerifiedLogin(
            principal=Principal(
                subject=subject,
                issuer="https://idp.example",
                provider="corp",
                groups=frozenset({"staff"}),
                claims={"department": "finance", "sites": ("a", "b")},
            ),
            acr="mfa",
            amr=("pwd", "otp"),
            auth_time=self.clock.now(),
            mfa=True,
            id_token=Secret("eyJ.id-token-of-alice"),
            provider_sid="provider-sid",
            provider="corp",
        )

    async def sign_in(self, host: str = HOST) -> tuple[str, str]:
        record = await self.manager.create(self.login())
        return record.sid, await self.manager.issue_handle(record.sid, host)

    async def look_up(self, cookie: str, host: str = HOST):
        return await self.manager.session(self.mac.handle_hash(cookie), host)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "sessions.db", ManualClock())
    await world.open()
    yield world
    await world.manager.close()


async def test_a_session_is_found_by_its_handle_with_everything_the_login_proved(world: World) -> None:
    sid, cookie = await world.sign_in()
    session = await world.look_up(cookie)
    assert session is not None
    assert (session.sid, session.host, session.mfa, session.acr) == (sid, HOST, True, "mfa")
    assert session.principal == world.login().principal


async def test_a_session_survives_a_restart_whole(world: World) -> None:
    sid, cookie = await world.sign_in()
    before = await world.look_up(cookie)
    await world.reopen()
    assert await world.look_up(cookie) == before
    record = await world.manager.record(sid)
    assert record is not None
    assert record.id_token.reveal() == "eyJ.id-token-of-alice"
    assert "eyJ" not in repr(record)


async def test_a_handle_counts_at_its_own_host_only(world: World) -> None:
    _, cookie = await world.sign_in()
    assert await world.look_up(cookie, OTHER) is None
    assert await world.look_up(cookie, HOST + ":8443") is None
    assert await world.look_up(cookie) is not None


async def test_hosts_of_one_sign_in_share_the_sid_and_not_the_handle(world: World) -> None:
    sid, first = await world.sign_in()
    second = await world.manager.issue_handle(sid, OTHER)
    a, b = await world.look_up(first), await world.look_up(second, OTHER)
    assert first != second
    assert a is not None
    assert b is not None
    assert a.sid == b.sid


@pytest.mark.case("ZT-OIDC-01")
async def test_a_new_handle_kills_the_old_one_and_tells_the_workers(world: World) -> None:
    sid, old = await world.sign_in()
    assert await world.look_up(old) is not None
    world.changes.clear()
    new = await world.manager.issue_handle(sid, HOST)
    assert await world.look_up(old) is None
    assert await world.look_up(new) is not None
    assert [change.sid for change in world.changes] == [sid]
    await world.reopen()
    assert await world.look_up(old) is None


@pytest.mark.case("ZT-OIDC-01")
async def test_each_login_of_the_same_person_has_a_new_session_id(world: World) -> None:
    first, second = await world.sign_in(), await world.sign_in()
    assert first[0] != second[0]
    assert first[1] != second[1]


@pytest.mark.case("ZT-SESS-06")
async def test_the_store_holds_neither_handles_nor_names_nor_tokens_in_the_clear(world: World) -> None:
    _, cookie = await world.sign_in()
    await world.manager.flush()
    with sqlite3.connect(world.path) as db:
        dump = "\n".join(db.iterdump())
    db.close()
    content = b"".join(file.read_bytes() for file in world.path.parent.iterdir())
    for secret in (cookie.encode(), cookie[:43].encode(), b"alice", b"eyJ.id-token", b"idp.example", b"provider-sid"):
        assert secret not in content
        assert secret.hex() not in dump.lower()
    assert world.mac.handle_hash(cookie) in content
    assert world.path.stat().st_mode & 0o077 == 0


@pytest.mark.case("ZT-SESS-06")
async def test_handles_carry_256_random_bits_and_never_repeat(world: World) -> None:
    cookies = {world.mac.issue() for _ in range(5_000)}
    assert len(cookies) == 5_000
    assert {len(cookie) for cookie in cookies} == {64}


@pytest.mark.case("ZT-SESS-08")
async def test_constant_use_does_not_carry_a_session_over_its_absolute_end(world: World) -> None:
    sid, cookie = await world.sign_in()
    for _ in range(11 * 6 + 5):
        world.clock.advance(600)
        world.manager.activity(sid, world.clock.now())
    world.clock.advance(9 * 60)
    world.manager.activity(sid, world.clock.now())
    assert await world.look_up(cookie) is not None  # 11:59
    world.clock.advance(120)
    world.manager.activity(sid, world.clock.now())
    assert await world.look_up(cookie) is None  # 12:01
    assert world.changes[-1].sid == sid
    assert world.changes[-1].reason == Reason.SESSION_EXPIRED.value


@pytest.mark.case("ZT-SESS-09")
async def test_a_session_ends_after_the_idle_time_and_asking_is_no_activity(world: World) -> None:
    _, cookie = await world.sign_in()
    for _ in range(14):
        world.clock.advance(60)
        assert await world.look_up(cookie) is not None
    world.clock.advance(61)
    assert await world.look_up(cookie) is None
    assert world.changes[-1].reason == Reason.SESSION_IDLE.value


@pytest.mark.case("ZT-SESS-09")
async def test_activity_that_arrives_late_does_not_wake_an_idle_session(world: World) -> None:
    sid, cookie = await world.sign_in()
    world.clock.advance(901)
    world.manager.activity(sid, world.clock.now())
    assert await world.look_up(cookie) is None


async def test_activity_reported_late_counts_for_the_time_it_happened(world: World) -> None:
    sid, cookie = await world.sign_in()
    happened = world.clock.now() + 890
    world.clock.advance(905)
    world.manager.activity(sid, happened)
    session = await world.look_up(cookie)
    assert session is not None
    assert session.last_activity == happened


async def test_activity_from_the_future_or_of_an_unknown_session_changes_nothing(world: World) -> None:
    sid, cookie = await world.sign_in()
    before = await world.look_up(cookie)
    world.manager.activity(sid, world.clock.now() + 10_000)
    world.manager.activity("nobody", world.clock.now())
    await world.manager.flush()
    assert await world.look_up(cookie) == before


async def test_activity_reaches_the_disk_in_a_batch_and_only_forward(world: World) -> None:
    sid, cookie = await world.sign_in()
    start = world.clock.now()
    world.clock.advance(300)
    world.manager.activity(sid, start + 250)
    world.manager.activity(sid, start + 100)
    await world.reopen()
    session = await world.look_up(cookie)
    assert session is not None
    assert session.last_activity == start + 250


@pytest.mark.case("ZT-SESS-18")
async def test_a_step_up_opens_one_rule_and_leaves_auth_time_alone(world: World) -> None:
    sid, cookie = await world.sign_in()
    before = await world.look_up(cookie)
    world.clock.advance(60)
    proof = Proof(world.clock.now(), Level.MULTI)
    await world.manager.unlock(sid, "builder", "deploy", proof)
    after = await world.look_up(cookie)
    assert before is not None
    assert after is not None
    assert after == msgspec.structs.replace(before, proofs={unlock_key("builder", "deploy"): proof})
    assert world.changes[-1].sid == sid


async def test_unlocks_made_at_the_same_time_are_all_kept(world: World) -> None:
    sid, cookie = await world.sign_in()
    proof = Proof(world.clock.now(), Level.MULTI)
    await asyncio.gather(*(world.manager.unlock(sid, "builder", f"rule-{n}", proof) for n in range(8)))
    await world.reopen()
    session = await world.look_up(cookie)
    assert session is not None
    assert len(session.proofs) == 8


async def test_a_proof_that_is_good_once_is_spent_by_exactly_one_also_after_a_restart(world: World) -> None:
    sid, cookie = await world.sign_in()
    key = unlock_key("builder", "deploy", "POST /flows")
    await world.manager.unlock(sid, "builder", "deploy", Proof(world.clock.now(), Level.MULTI), "POST /flows")
    found = await world.look_up(cookie)
    assert found is not None
    assert list(found.proofs) == [key]
    spent = await asyncio.gather(*(world.manager.spend(sid, key) for _ in range(8)))
    assert sorted(spent) == [False] * 7 + [True]
    assert world.changes[-1].sid == sid
    await world.reopen()
    assert not await world.manager.spend(sid, key)
    after = await world.look_up(cookie)
    assert after is not None
    assert not after.proofs


async def test_a_session_remembers_no_more_than_its_newest_proofs(world: World) -> None:
    sid, cookie = await world.sign_in()
    for number in range(PROOFS + 3):
        await world.manager.unlock(sid, "builder", f"rule-{number}", Proof(number, Level.MULTI))
    session = await world.look_up(cookie)
    assert session is not None
    assert len(session.proofs) == PROOFS
    assert unlock_key("builder", "rule-2") not in session.proofs


@pytest.mark.case("ZT-SESS-10")
async def test_an_ended_session_is_dead_at_every_host_before_and_after_a_restart(world: World) -> None:
    sid, first = await world.sign_in()
    second = await world.manager.issue_handle(sid, OTHER)
    await world.manager.end(sid, "signed-out")
    assert world.changes[-1] == Invalidation(world.changes[-1].sequence, sid, "signed-out")
    for _ in range(2):
        assert await world.look_up(first) is None
        assert await world.look_up(second, OTHER) is None
        assert await world.manager.record(sid) is None
        await world.reopen()


@pytest.mark.case("ZT-SESS-10")
async def test_every_session_of_a_disabled_person_ends_and_nobody_elses(world: World) -> None:
    (_, a), (_, b) = await world.sign_in(), await world.sign_in()
    bob = await world.manager.create(world.login("bob"))
    c = await world.manager.issue_handle(bob.sid, HOST)
    await world.reopen()
    assert await world.manager.end_subject("https://idp.example", "alice", "disabled") == 2
    assert await world.look_up(a) is None
    assert await world.look_up(b) is None
    assert await world.look_up(c) is not None


async def test_nothing_can_be_done_with_a_session_that_is_over(world: World) -> None:
    sid, _ = await world.sign_in()
    await world.manager.end(sid, "signed-out")
    with pytest.raises(ClientError, match="session-unknown"):
        await world.manager.issue_handle(sid, HOST)
    with pytest.raises(ClientError, match="session-unknown"):
        await world.manager.unlock(sid, "builder", "deploy", world.clock.now())


async def test_an_end_that_overtakes_a_look_up_wins(world: World) -> None:
    sid, cookie = await world.sign_in()
    await world.reopen()  # so that the look-up has to read the store
    look_up = asyncio.ensure_future(world.look_up(cookie))
    await asyncio.sleep(0)
    await world.manager.end(sid, "signed-out")
    await look_up
    assert await world.look_up(cookie) is None


async def test_changes_are_numbered_without_gaps_also_over_a_restart(world: World) -> None:
    sid, _ = await world.sign_in()
    await world.manager.issue_handle(sid, HOST)
    await world.reopen()
    await world.manager.unlock(sid, "builder", "deploy", Proof(world.clock.now(), Level.MULTI))
    await asyncio.gather(world.manager.end(sid, "a"), world.manager.issue_handle((await world.sign_in())[0], OTHER))
    numbers = [change.sequence for change in world.changes]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_sweep_ends_idle_sessions_and_spares_the_active(world: World) -> None:
    idle, _ = await world.sign_in()
    active, cookie = await world.sign_in()
    world.clock.advance(800)
    world.manager.activity(active, world.clock.now())
    world.clock.advance(200)
    world.changes.clear()
    await world.manager.sweep()
    assert [change.sid for change in world.changes] == [idle]
    assert await world.look_up(cookie) is not None


async def test_a_record_changed_on_disk_or_moved_to_another_session_does_not_open(world: World) -> None:
    (first, a), (second, b) = await world.sign_in(), await world.sign_in()
    await world.manager.close()
    with sqlite3.connect(world.path) as db:
        blob = db.execute("SELECT blob FROM sessions WHERE sid=?", (first,)).fetchone()[0]
        db.execute("UPDATE sessions SET blob=? WHERE sid=?", (blob, second))
        db.execute("UPDATE sessions SET blob=? WHERE sid=?", (blob[:-1] + bytes([blob[-1] ^ 1]), first))
    db.close()
    await world.open()
    assert await world.look_up(a) is None
    assert await world.look_up(b) is None


async def test_after_a_rotation_old_records_open_and_are_sealed_anew(world: World) -> None:
    sid, cookie = await world.sign_in()
    world.store_ring = world.store_ring.rotated()
    await world.reopen()
    assert await world.look_up(cookie) is not None
    await world.manager.sweep()
    row = await world.store.session(sid)
    assert row is not None
    assert int.from_bytes(row.blob[:4], "big") == world.store_ring.current


async def test_a_locked_store_is_unavailable_and_never_an_answer_from_nowhere(world: World) -> None:
    sid, cookie = await world.sign_in()
    await world.store._run(lambda db: db.execute("PRAGMA busy_timeout=1").fetchall())
    other = sqlite3.connect(world.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(UnavailableError) as caught:
            await world.manager.create(world.login())
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
        with pytest.raises(UnavailableError):
            await world.manager.issue_handle(sid, HOST)
        with pytest.raises(UnavailableError):
            await world.manager.end(sid, "signed-out")
        # Dead all the same, and workers were told.
        assert await world.look_up(cookie) is None
        assert world.changes[-1].sid == sid
    finally:
        other.execute("ROLLBACK")
        other.close()
    await world.manager.sweep()
    assert await world.store.session(sid) is None


async def test_a_full_disk_is_unavailable_and_the_session_before_it_still_counts(world: World) -> None:
    _, cookie = await world.sign_in()

    def fill(db: sqlite3.Connection) -> int:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        return int(db.execute(f"PRAGMA max_page_count={pages}").fetchone()[0])

    await world.store._run(fill)
    with pytest.raises(UnavailableError) as caught:
        await asyncio.gather(*(world.manager.create(world.login()) for _ in range(100)))
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert await world.look_up(cookie) is not None


async def test_activity_before_and_after_the_old_deadline_in_one_batch_outlives_a_restart(world: World) -> None:
    sid, cookie = await world.sign_in()
    for seconds in (899, 2):
        world.clock.advance(seconds)
        world.manager.activity(sid, world.clock.now())
    await world.reopen()
    session = await world.look_up(cookie)
    assert session is not None
    assert session.last_activity == world.clock.now()


async def test_activity_that_cannot_be_written_is_kept_for_the_next_time(world: World) -> None:
    sid, cookie = await world.sign_in()
    world.clock.advance(100)
    world.manager.activity(sid, world.clock.now())
    await world.store._run(lambda db: db.execute("PRAGMA busy_timeout=1").fetchall())
    other = sqlite3.connect(world.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError):
        await world.manager.flush()
    other.execute("ROLLBACK")
    other.close()
    await world.reopen()
    session = await world.look_up(cookie)
    assert session is not None
    assert session.last_activity == world.clock.now()


async def test_upkeep_goes_on_after_the_store_failed_once(world: World) -> None:
    pauses = 0
    done = asyncio.Event()

    async def pause(seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        world.clock.advance(seconds)
        if pauses == 2:
            await world.store.close()
        if pauses == 4:
            done.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(world.manager.run(pause))
    await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert pauses == 4
    await world.open()
