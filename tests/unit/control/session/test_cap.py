"""One person has at most so many sessions, however they come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.manager import SessionManager, open_sessions
from zt_proxy.control.settings import AuditSettings, ControlSettings, SessionSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.keys import CookieMac, KeyRing, Secret
from zt_proxy.core.session import Principal
from zt_proxy.link.messages import Invalidation

RING = KeyRing({1: b"w" * 32})


class Lab:
    def __init__(self, sessions: SessionManager, clock: ManualClock) -> None:
        self.sessions = sessions
        self.clock = clock
        self.changes: list[Invalidation] = []
        self.notes: list[dict[str, Any]] = []
        sessions.on_change(self.changes.append)
        sessions.note = self.note

    async def note(self, kind: str, **fields: Any) -> None:
        self.notes.append({"type": kind, **fields})

    async def sign_in(self, subject: str = "alice", **options: Any) -> str:
        self.clock.advance(1)
        return (await self.sessions.create(self.login(subject), **options)).sid

    def login(self, subject: str = "alice") -> VerifiedLogin:
        return VerifiedLogin(
            principal=Principal(subject, "https://idp.example", "corp"),
            acr="",
            amr=("pwd", "otp"),
            auth_time=self.clock.now(),
            mfa=True,
            id_token=Secret("t"),
            provider_sid=None,
            provider="corp",
        )

    async def living(self, subject: str = "alice") -> set[str]:
        return {each.sid for each in await self.sessions.of_person("https://idp.example", subject)}


@asynccontextmanager
async def lab(folder: Path, **settings: Any) -> AsyncIterator[Lab]:
    clock = ManualClock()
    sessions = await open_sessions(
        ControlSettings(
            portal_origin="https://auth.example.com",
            portal_host="auth.example.com",
            socket=folder / "portal.sock",
            state_dir=folder / "state",
            runtime_dir=folder / "run",
            providers=(),
            apps={},
            audit=AuditSettings(folder / "audit"),
            session=SessionSettings(**settings),
        ),
        RING,
        clock,
    )
    yield Lab(sessions, clock)
    await sessions.close()


@pytest.mark.case("ZT-SESS-13")
async def test_the_fourth_sign_in_ends_the_oldest_session_and_is_on_record(tmp_path: Path) -> None:
    async with lab(tmp_path, limit=3) as given:
        first, *others = [await given.sign_in() for _ in range(3)]
        handle = await given.sessions.issue_handle(first, "a.example")
        assert given.notes == []
        fourth = await given.sign_in()
        assert await given.living() == {*others, fourth}
        assert [(each.sid, each.reason) for each in given.changes] == [(first, "session-displaced")]
        assert given.notes == [
            {
                "type": "session-limit",
                "action": "end-oldest",
                "user": "alice",
                "issuer": "https://idp.example",
                "limit": 3,
                "sids": first,
            }
        ]
        hashed = CookieMac(RING).handle_hash(handle)
        assert await given.sessions.session(hashed, "a.example") is None
        assert given.sessions.why(hashed, "a.example") is Reason.SESSION_DISPLACED
        assert given.sessions.why(hashed, "b.example") is None


@pytest.mark.case("ZT-SESS-13")
async def test_where_the_limit_refuses_every_session_stays_and_the_refusal_is_on_record(tmp_path: Path) -> None:
    async with lab(tmp_path, limit=3, refuse_beyond=True) as given:
        before = {await given.sign_in() for _ in range(3)}
        with pytest.raises(ClientError) as caught:
            await given.sign_in()
        assert (caught.value.reason, caught.value.status) == (Reason.SESSION_LIMIT, 403)
        assert await given.living() == before
        assert given.changes == []
        assert [(note["action"], note["sids"]) for note in given.notes] == [("refuse", "")]


@pytest.mark.case("ZT-SESS-13")
async def test_fifty_sign_ins_at_once_leave_no_more_than_the_limit(tmp_path: Path) -> None:
    async with lab(tmp_path, limit=3) as given:
        made = await asyncio.gather(*(given.sessions.create(given.login()) for _ in range(50)))
        living = await given.living()
        assert len(living) == 3
        assert living < {record.sid for record in made}
    async with lab(tmp_path / "refusing", limit=3, refuse_beyond=True) as given:
        answers = await asyncio.gather(
            *(given.sessions.create(given.login()) for _ in range(50)), return_exceptions=True
        )
        assert len([each for each in answers if isinstance(each, ClientError)]) == 47
        assert len(await given.living()) == 3


async def test_everybody_is_counted_alone(tmp_path: Path) -> None:
    async with lab(tmp_path, limit=1) as given:
        alice, bob = await given.sign_in("alice"), await given.sign_in("bob")
        assert (await given.living("alice"), await given.living("bob")) == ({alice}, {bob})


async def test_the_session_that_a_sign_in_replaces_does_not_count(tmp_path: Path) -> None:
    async with lab(tmp_path, limit=1, refuse_beyond=True) as given:
        old = await given.sign_in()
        new = await given.sign_in(replaces=old)
        assert await given.living() == {old, new}, "the caller ends the old one next"


async def test_a_session_that_is_over_does_not_count(tmp_path: Path) -> None:
    async with lab(tmp_path, limit=1, refuse_beyond=True, idle=600.0) as given:
        await given.sign_in()
        given.clock.advance(601)
        ended = await given.sign_in()
        await given.sessions.end(ended, "signed-out")
        assert await given.sign_in()


async def test_without_a_limit_nobody_is_counted(tmp_path: Path) -> None:
    async with lab(tmp_path) as given:
        assert len({await given.sign_in() for _ in range(20)}) == len(await given.living()) == 20


async def test_nothing_happens_that_cannot_be_put_on_record(tmp_path: Path) -> None:
    async with lab(tmp_path, limit=1) as given:
        first = await given.sign_in()

        async def full(kind: str, **fields: Any) -> None:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, "the disk is full")

        given.sessions.note = full
        with pytest.raises(UnavailableError):
            await given.sign_in()
        assert await given.living() == {first}
