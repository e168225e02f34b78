"""Sessions as an operator finds and ends them, over the real store."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.lab.waiting import until
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.ending import TOGETHER
from zt_proxy.control.session.manager import SessionManager, open_sessions
from zt_proxy.control.session.record import SessionRecord
from zt_proxy.control.settings import AuditSettings, ControlSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, UnavailableError
from zt_proxy.core.keys import CookieMac, KeyRing, Secret
from zt_proxy.core.session import Principal
from zt_proxy.link.messages import Invalidation

APP, CRM = "app.test", "crm.test"


class World:
    def __init__(self, folder: Path) -> None:
        self.settings = ControlSettings(
            "https://auth.test", "auth.test", folder / "p.sock", folder / "state", folder / "run", (), {},
            AuditSettings(folder / "audit"),
        )  # fmt: skip
        self.clock = ManualClock()
        self.ring = KeyRing({1: b"w" * 32})
        self.changes: list[Invalidation] = []

    async def open(self) -> None:
        self.manager: SessionManager = await open_sessions(self.settings, self.ring, self.clock)
        self.manager.on_change(self.changes.append)
        self.directory = self.manager.directory()

    async def sign_in(
        self,
        user: str,
        *hosts: str,
        provider: str = "corp",
        email: str | None = None,
        provider_sid: str | None = None,
    ) -> tuple[SessionRecord, list[str]]:
        who = Principal(user, f"https://{provider}.test", provider, email=email or f"{user}@example.com", name=user)
        login = VerifiedLogin(
            principal=who, acr="mfa", amr=("otp",), auth_time=self.clock.now(), mfa=True, id_token=Secret("token"),
            provider_sid=provider_sid, provider=provider,
        )  # fmt: skip
        record = await self.manager.create(login)
        return record, [await self.manager.issue_handle(record.sid, host) for host in hosts or (APP,)]

    async def alive(self, cookie: str, host: str = APP) -> bool:
        return await self.manager.session(CookieMac(self.ring).handle_hash(cookie), host) is not None

    async def found(self, user: str) -> set[str]:
        return {each.sid for each in await self.directory.of_user(user)}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.open()
    yield world
    await world.manager.close()


async def test_a_listed_session_says_who_where_and_until_when(world: World) -> None:
    record, _ = await world.sign_in("alice", APP, CRM)
    begun = world.clock.now()
    world.clock.advance(60)
    world.manager.activity(record.sid, world.clock.now())
    (listed,) = (await world.directory.page()).sessions
    assert (listed.sid, listed.subject, listed.email, listed.provider) == (
        record.sid, "alice", "alice@example.com", "corp",
    )  # fmt: skip
    assert listed.hosts == (APP, CRM)
    assert listed.created == begun
    assert listed.last_activity == begun + 60
    assert listed.idle_deadline == begun + 60 + 1800
    assert listed.absolute_deadline == begun + 43_200


async def test_a_person_is_found_by_subject_and_by_e_mail_in_any_case(world: World) -> None:
    mine, _ = await world.sign_in("alice")
    await world.sign_in("bob")
    for name in ("alice", "alice@example.com", "Alice@Example.COM"):
        assert await world.found(name) == {mine.sid}
    assert await world.found("carol") == set()
    assert "alice" not in Path(world.settings.state_dir, "sessions.db").read_bytes().decode("latin-1")


async def test_people_of_the_same_name_at_two_providers_are_both_found(world: World) -> None:
    await world.sign_in("alice", provider="corp")
    await world.sign_in("4711", provider="guests", email="alice@example.com")
    found = await world.directory.of_user("alice@example.com")
    assert {each.provider for each in found} == {"corp", "guests"}


async def test_pages_give_every_session_once_newest_first(world: World) -> None:
    made = []
    for number in range(7):
        made.append((await world.sign_in(f"user{number}"))[0].sid)
        world.clock.advance(1)
    seen: list[str] = []
    after = ""
    while True:
        page = await world.directory.page(after, limit=3)
        seen += [each.sid for each in page.sessions]
        after = page.following
        if not after:
            break
    assert seen == made[::-1]


async def test_pages_of_one_host_hold_its_sessions_only(world: World) -> None:
    there = {(await world.sign_in(f"user{number}", CRM))[0].sid for number in range(5)}
    await world.sign_in("bob", APP)
    first = await world.directory.page(host=CRM, limit=3)
    second = await world.directory.page(first.following, host=CRM, limit=3)
    assert {each.sid for each in (*first.sessions, *second.sessions)} == there
    assert second.following == ""
    with pytest.raises(ClientError):
        await world.directory.page("nonsense")


async def test_what_is_idle_or_ended_is_not_listed(world: World) -> None:
    idle, _ = await world.sign_in("alice")
    world.clock.advance(1700)
    ended, _ = await world.sign_in("bob")
    living, _ = await world.sign_in("carol")
    await world.manager.end(ended.sid, "x")
    world.clock.advance(200)
    assert [each.sid for each in (await world.directory.page()).sessions] == [living.sid]
    assert await world.directory.one(idle.sid) is None
    assert await world.directory.one(living.sid) is not None


async def test_ending_many_is_one_change_that_names_each(world: World) -> None:
    sids = [(await world.sign_in("alice"))[0].sid for _ in range(3)]
    other, (cookie,) = await world.sign_in("bob")
    before = world.manager.sequence
    await world.manager.end_many(sids, "revoked")
    assert [(change.sequence, change.sids) for change in world.changes] == [(before + 1, tuple(sids))]
    assert await world.found("alice") == set()
    assert await world.alive(cookie)
    assert other.sid in await world.found("bob")


async def test_ending_everything_is_one_change_and_leaves_nobody(world: World) -> None:
    cookies = [(await world.sign_in(f"user{number}"))[1][0] for number in range(3)]
    assert await world.manager.end_all("revoked") == 3
    assert [change.sid for change in world.changes] == [""]
    assert not any([await world.alive(cookie) for cookie in cookies])
    _, (again,) = await world.sign_in("alice")
    assert await world.alive(again)
    await world.manager.close()
    await world.open()
    assert await world.alive(again)
    assert not any([await world.alive(cookie) for cookie in cookies])
    assert await world.directory.count() == 1


async def test_ending_everything_empties_the_store_in_small_commits(world: World) -> None:
    for number in range(TOGETHER // 100):
        await world.sign_in(f"user{number}")
    await world.manager.end_all("revoked")
    await until(lambda: not world.manager._ended._tasks)
    assert await world.directory.count() == 0


async def test_an_end_that_cannot_be_written_counts_at_once_and_is_finished_later(world: World) -> None:
    record, (cookie,) = await world.sign_in("alice")
    blocker = sqlite3.connect(world.settings.state_dir / "sessions.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError):
        await world.manager.end_all("revoked")
    assert not await world.alive(cookie)
    assert [change.sid for change in world.changes] == [""]
    assert (await world.directory.page()).sessions == ()
    blocker.execute("ROLLBACK")
    blocker.close()
    await world.manager.sweep()
    assert await world.directory.count() == 0
    assert await world.directory.one(record.sid) is None


async def test_sessions_of_a_version_without_names_are_found_after_the_start(world: World) -> None:
    record, _ = await world.sign_in("alice")
    await world.manager.close()
    database = sqlite3.connect(world.settings.state_dir / "sessions.db")
    database.execute("DELETE FROM names")
    database.execute("UPDATE sessions SET blob=zeroblob(40) WHERE sid<>?", (record.sid,))
    database.commit()
    database.close()
    await world.open()
    assert await world.found("alice") == {record.sid}


async def test_a_store_of_the_first_version_is_taken_over_whole(world: World) -> None:
    record, (cookie,) = await world.sign_in("alice", APP)
    before = await world.directory.one(record.sid)
    await world.manager.close()
    path = world.settings.state_dir / "sessions.db"
    database = sqlite3.connect(path)
    database.executescript(
        """
        CREATE TABLE first (
          sid TEXT PRIMARY KEY, subject BLOB NOT NULL, last_activity REAL NOT NULL, idle_timeout REAL NOT NULL,
          absolute_deadline REAL NOT NULL, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;
        INSERT INTO first SELECT * FROM sessions;
        DROP TABLE names;
        DROP TABLE sessions;
        ALTER TABLE first RENAME TO sessions;
        CREATE INDEX sessions_subject ON sessions(subject);
        PRAGMA user_version=1;
        """
    )
    database.close()
    await world.open()
    assert await world.alive(cookie)
    assert await world.directory.one(record.sid) == before
    assert await world.found("alice@example.com") == {record.sid}
    await world.manager.end(record.sid, "x")
    database = sqlite3.connect(path)
    assert database.execute("SELECT COUNT(*) FROM handles").fetchone() == (0,)
    assert database.execute("PRAGMA user_version").fetchone() == (3,)
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()


async def test_a_store_of_the_second_version_finds_sessions_by_the_providers_id_from_now_on(world: World) -> None:
    record, (cookie,) = await world.sign_in("alice", provider_sid="theirs")
    other, _ = await world.sign_in("alice", provider_sid="another")
    await world.manager.close()
    path = world.settings.state_dir / "sessions.db"
    database = sqlite3.connect(path)
    names = database.execute("SELECT name FROM names WHERE sid=?", (other.sid,)).fetchall()
    for (name,) in database.execute("SELECT name FROM names WHERE sid=?", (record.sid,)).fetchall():
        if (name,) not in names:
            database.execute("DELETE FROM names WHERE name=?", (name,))
    database.executescript("DROP TABLE renewals; PRAGMA user_version=2;")
    database.close()
    await world.open()
    assert await world.alive(cookie)
    assert await world.manager.at_provider.end("https://corp.test", "theirs") == 1
    assert await world.found("alice@example.com") == {other.sid}
    assert not await world.alive(cookie)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (3,)
    database.close()


async def test_every_page_and_look_up_uses_an_index(world: World) -> None:
    database = sqlite3.connect(world.settings.state_dir / "sessions.db")
    for sql in (
        "SELECT sid FROM handles JOIN sessions USING (sid) WHERE handle_hash=x'00'",
        "SELECT sid FROM sessions WHERE subject=x'00'",
        "SELECT sid FROM names WHERE name=x'00'",
        "SELECT sid FROM sessions WHERE absolute_deadline<=1",
        "SELECT sid FROM sessions WHERE last_activity+idle_timeout<=1",
        "SELECT blob FROM sessions WHERE (absolute_deadline, sid) < (1, 'x') ORDER BY absolute_deadline DESC, sid DESC",
        "SELECT blob FROM handles JOIN sessions USING (sid) WHERE host='h' AND sid>'x' ORDER BY handles.sid",
        "SELECT sid FROM renewals WHERE provider='p' AND due<=1 ORDER BY due LIMIT 5",
        "DELETE FROM sessions WHERE sid='x'",
    ):
        plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "SEARCH" in plan, (sql, plan)
        assert "SCAN" not in plan, (sql, plan)
        assert "TEMP B-TREE" not in plan, (sql, plan)
    database.close()


def test_a_listed_session_goes_into_json() -> None:
    from zt_proxy.control.session.directory import Listed

    listed = Listed("s", "a", "i", "p", None, None, True, 1.0, 1.0, 2.0, 3.0, (APP,))
    assert msgspec.json.decode(msgspec.json.encode(listed))["hosts"] == [APP]
