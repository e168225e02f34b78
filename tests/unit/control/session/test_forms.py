"""Forms that wait for a proof: sealed, bounded, good once, for one session and one place."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session import form_rows, forms
from zt_proxy.control.session.forms import KeptForms
from zt_proxy.control.session.manager import SessionManager
from zt_proxy.control.session.sqlite import SqliteStore
from zt_proxy.control.settings import SessionSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.keys import KeyRing, Secret
from zt_proxy.core.session import Principal
from zt_proxy.link.proofs import KeptForm

RING = KeyRing({1: b"w" * 32})
HOST, TARGET = "app.example.com", "/edit?x=1"
FORM = KeptForm("text/plain", "https://app.example.com", "https://app.example.com/edit", b"nobody reads this")


class Lab:
    def __init__(self, folder: Path, store: SqliteStore, sessions: SessionManager, clock: ManualClock) -> None:
        self.folder = folder
        self.store = store
        self.sessions = sessions
        self.forms: KeptForms = sessions.forms
        self.clock = clock

    async def sign_in(self, subject: str = "alice") -> str:
        login = VerifiedLogin(
            Principal(subject, "https://idp.example", "corp"), "", ("pwd", "otp"), 1.0, True, Secret("t"), None, "corp"
        )
        return (await self.sessions.create(login)).sid

    async def keep(self, sid: str, body: bytes = b"x") -> str:
        async def pieces() -> AsyncIterator[bytes]:
            yield body

        whole = await self.forms.read(sid, pieces(), len(body))
        return await self.forms.keep(sid, HOST, TARGET, KeptForm("text/plain", "", "", whole))

    async def sizes(self) -> dict[str, int]:
        query = "SELECT sid, COUNT(*) FROM forms GROUP BY sid"
        return dict(await self.store._run(lambda db: db.execute(query).fetchall(), reads=True))


@asynccontextmanager
async def lab(folder: Path) -> AsyncIterator[Lab]:
    clock = ManualClock()
    store = await SqliteStore.open(folder / "sessions.db")
    sessions = await SessionManager.open(store, SessionSettings(), RING, KeyRing({1: b"s" * 32}), clock)
    yield Lab(folder, store, sessions, clock)
    await sessions.close()


async def test_a_form_is_given_out_once_and_only_after_its_release(tmp_path: Path) -> None:
    async with lab(tmp_path) as given:
        sid = await given.sign_in()
        name = await given.forms.keep(sid, HOST, TARGET, FORM)
        assert await given.sessions.kept(sid, name, HOST, TARGET) is None
        token = await given.forms.release(sid, name, HOST, TARGET)
        assert token is not None
        assert len(token) == 43
        assert await given.forms.release(sid, name, HOST, TARGET) is None
        taken = await asyncio.gather(*(given.sessions.kept(sid, token, HOST, TARGET) for _ in range(8)))
        assert [form for form in taken if form is not None] == [FORM]


async def test_a_form_is_for_its_session_host_and_target_alone(tmp_path: Path) -> None:
    async with lab(tmp_path) as given:
        sid, other = await given.sign_in(), await given.sign_in("bob")
        name = await given.forms.keep(sid, HOST, TARGET, FORM)
        wrong = (
            (other, HOST, TARGET),
            (sid, "other.example.com", TARGET),
            (sid, HOST, "/edit"),
            (sid, HOST + "\n/edit", "?x=1"),
        )
        for who, host, target in wrong:
            assert await given.forms.release(who, name, host, target) is None
        token = await given.forms.release(sid, name, HOST, TARGET)
        assert token is not None
        for who, host, target in wrong:
            assert await given.sessions.kept(who, token, host, target) is None
        assert await given.sessions.kept(sid, token, HOST, TARGET) == FORM


async def test_a_form_ends_with_its_time_and_with_its_session(tmp_path: Path) -> None:
    async with lab(tmp_path) as given:
        sid, other = await given.sign_in(), await given.sign_in("bob")
        old = await given.keep(sid)
        given.clock.advance(601)
        assert await given.forms.release(sid, old, HOST, TARGET) is None
        name = await given.keep(sid)
        token = await given.forms.release(sid, name, HOST, TARGET)
        assert token is not None
        kept = await given.keep(other)
        await given.sessions.end(sid, "signed-out")
        assert await given.sessions.kept(sid, token, HOST, TARGET) is None
        assert await given.sizes() == {other: 1}
        with pytest.raises(UnavailableError) as refused:
            await given.keep(sid)
        assert refused.value.reason is Reason.FORM_NOT_KEPT
        given.clock.advance(601)
        await given.store.sweep(given.clock.now())
        assert await given.sizes() == {}
        assert await given.forms.release(other, kept, HOST, TARGET) is None


async def test_what_somebody_wrote_is_not_in_the_file(tmp_path: Path) -> None:
    async with lab(tmp_path) as given:
        sid = await given.sign_in()
        name = await given.forms.keep(sid, HOST, TARGET, FORM)
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        for secret in (FORM.body, name.encode(), TARGET.encode()):
            assert secret not in content


async def test_who_fills_the_table_pays_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "TOTAL", 10_000)
    monkeypatch.setattr(forms, "EACH", 6_000)
    async with lab(tmp_path) as given:
        greedy, honest, third = await given.sign_in(), await given.sign_in("bob"), await given.sign_in("carol")
        mine = await given.keep(honest, secrets.token_bytes(1_500))
        for _ in range(20):
            await given.keep(greedy, secrets.token_bytes(1_500))
        assert (await given.sizes())[greedy] <= 3
        for _ in range(3):
            await given.keep(third, secrets.token_bytes(1_500))
        assert (await given.sizes())[honest] == 1
        assert await given.forms.release(honest, mine, HOST, TARGET) is not None
        with pytest.raises(UnavailableError):
            await given.keep(greedy, secrets.token_bytes(7_000))


async def test_who_sends_slowly_holds_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "HELD", 1_000)
    monkeypatch.setattr(forms, "HELD_EACH", 400)
    async with lab(tmp_path) as given:
        slow, honest, go = await given.sign_in(), await given.sign_in("bob"), asyncio.Event()

        async def stalls(size: int) -> AsyncIterator[bytes]:
            yield b"x" * size
            await go.wait()

        reading = [asyncio.ensure_future(given.forms.read(slow, stalls(200), 1_000)) for _ in range(5)]
        await asyncio.sleep(0)
        assert await given.keep(honest, b"x" * 400)
        go.set()
        ends = [isinstance(each, UnavailableError) for each in await asyncio.gather(*reading, return_exceptions=True)]
        assert ends == [False, False, True, True, True]


async def test_small_forms_are_bounded_by_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form_rows, "ROWS", 3)
    async with lab(tmp_path) as given:
        greedy, honest = await given.sign_in(), await given.sign_in("bob")
        mine = await given.keep(honest)
        names = [await given.keep(greedy) for _ in range(5)]
        assert await given.sizes() == {greedy: 3, honest: 1}
        released = [await given.forms.release(greedy, name, HOST, TARGET) is not None for name in names]
        assert released == [False, False, True, True, True], "the oldest gave way"
        assert await given.forms.release(honest, mine, HOST, TARGET) is not None


async def test_forms_that_come_at_once_are_bounded_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "HELD", 1_000)
    async with lab(tmp_path) as given:
        sid, go = await given.sign_in(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"x" * 900
            await go.wait()

        async def quick(size: int) -> AsyncIterator[bytes]:
            yield b"x" * size

        reading = asyncio.ensure_future(given.forms.read(sid, slow(), 1_000))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError) as refused:
            await given.forms.read(sid, quick(200), 1_000)
        assert refused.value.reason is Reason.FORM_NOT_KEPT
        with pytest.raises(ClientError) as large:
            await given.forms.read(sid, quick(60), 50)
        assert large.value.status == 413
        go.set()
        await given.forms.keep(sid, HOST, TARGET, KeptForm("", "", "", await reading))
        assert len(await given.forms.read(sid, quick(1_000), 1_000)) == 1_000, "nothing is counted any more"
