"""Asking providers again: one at a time, in the background, kept before it is used, and never a reason to let go on."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from tests.lab.idp import ABSENT, CLIENT_ID, CLIENT_SECRET, MockIdp
from tests.lab.jose import rsa_key
from tests.lab.relying_party import SignInLab
from tests.lab.waiting import until
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.identity.refresh import AT_ONCE, LONGEST_REST, Refresher, renew_in
from zt_proxy.control.identity.types import LoginRefused, Renewed
from zt_proxy.control.session.manager import SessionManager, open_sessions
from zt_proxy.control.session.record import SessionRecord
from zt_proxy.control.settings import AuditSettings, ControlSettings, ProviderSettings, SessionSettings
from zt_proxy.core.errors import ProviderError, Reason, UnavailableError
from zt_proxy.core.keys import CookieMac, KeyRing, Secret
from zt_proxy.core.session import Principal, Session
from zt_proxy.link.messages import CHANGED, Invalidation

APP = "app.test"
WEEK = 7 * 86_400.0


class World:
    """Sessions, a provider whose refresh tokens rotate, and a clock of the test's own."""

    def __init__(self, folder: Path, lab: SignInLab) -> None:
        self.lab = lab
        self.idp = lab.idp
        self.clock = lab.clock
        self.ring = KeyRing({1: b"w" * 32})
        self.changes: list[Invalidation] = []
        self.settings = ControlSettings(
            "https://auth.test", "auth.test", folder / "p.sock", folder / "state", folder / "run", (), {},
            AuditSettings(folder / "audit"), session=SessionSettings(idle=WEEK, absolute=WEEK),
        )  # fmt: skip

    async def open(self) -> None:
        self.manager: SessionManager = await open_sessions(self.settings, self.ring, self.clock)
        self.manager.on_change(self.changes.append)
        self.refresher = Refresher(self.manager.at_provider, self.clock)
        self.refresher.use([self.lab.provider])

    async def close(self) -> None:
        await self.refresher.close()
        await self.manager.close()

    async def sign_in(self, user: str = "alice") -> tuple[SessionRecord, str]:
        self.idp.user = user
        record = await self.manager.create(await self.lab.sign_in())
        return record, await self.manager.issue_handle(record.sid, APP)

    async def session(self, cookie: str) -> Session | None:
        return await self.manager.session(CookieMac(self.ring).handle_hash(cookie), APP)

    async def later(self, seconds: float = 301.0) -> None:
        """Time goes by, and whoever is due is refreshed."""
        self.clock.advance(seconds)
        await self.refresher.tick()
        await self.refresher.settled()

    @property
    def refreshes(self) -> int:
        return self.idp.requests["refresh"]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with SignInLab() as lab:
        lab.idp.rotates = True
        world = World(tmp_path, lab)
        await world.open()
        yield world
        await world.close()


@pytest.mark.case("ZT-OIDC-13")
async def test_a_group_that_the_provider_took_away_is_gone_within_five_minutes(here: World) -> None:
    record, cookie = await here.sign_in()
    here.idp.users["alice"]["groups"] = ["staff"]
    await here.later(300.0)
    session = await here.session(cookie)
    assert session is not None
    assert session.principal.groups == {"staff"}
    assert [(change.sid, change.reason in CHANGED) for change in here.changes][-1] == (record.sid, True)


async def test_nothing_is_announced_when_the_person_is_the_same(here: World) -> None:
    await here.sign_in()
    before = len(here.changes)
    await here.later()
    assert (here.refreshes, len(here.changes)) == (1, before)


@pytest.mark.case("ZT-OIDC-18")
async def test_fifty_requests_and_as_many_looks_at_expiry_make_one_refresh_and_sign_nobody_out(here: World) -> None:
    _, cookie = await here.sign_in()
    here.clock.advance(301)
    *sessions, _ = await asyncio.gather(
        *(here.session(cookie) for _ in range(50)), asyncio.gather(*(here.refresher.tick() for _ in range(50)))
    )
    await here.refresher.settled()
    assert here.refreshes == 1
    assert all(sessions)
    await here.later()
    assert (here.refreshes, await here.session(cookie) is not None) == (2, True)


async def test_a_token_that_rotated_is_in_the_store_when_the_process_ends(here: World) -> None:
    _, cookie = await here.sign_in()
    for _ in range(3):
        await here.later()
        await here.close()
        await here.open()
    await here.later()
    assert here.refreshes == 4
    assert await here.session(cookie) is not None


@pytest.mark.case("ZT-OIDC-19")
async def test_a_refused_refresh_ends_the_session(here: World) -> None:
    record, cookie = await here.sign_in()
    here.idp._families.clear()
    await here.later()
    assert await here.session(cookie) is None
    assert (here.changes[-1].sid, here.changes[-1].reason) == (record.sid, "refresh-refused")


@pytest.mark.case("ZT-OIDC-19")
@pytest.mark.parametrize("status", [500, 503, 429, 400, 401, 302])
async def test_a_provider_that_is_down_ends_no_session_before_its_own_deadline(here: World, status: int) -> None:
    _, cookie = await here.sign_in()
    here.idp.replies["token"] = lambda: web.Response(status=status)
    for _ in range(20):
        await here.later()
    assert here.idp.requests["token"] > 3
    assert await here.session(cookie) is not None
    del here.idp.replies["token"]
    await here.later(LONGEST_REST)
    await here.later()
    assert here.refreshes >= 1
    here.idp.replies["token"] = lambda: web.Response(status=status)
    here.clock.advance(WEEK)
    assert await here.session(cookie) is None


@pytest.mark.case("ZT-OIDC-19")
async def test_a_provider_that_hangs_holds_no_request_up(here: World) -> None:
    _, cookie = await here.sign_in()
    asked, going_on = asyncio.Event(), asyncio.Event()

    async def hang() -> web.Response:
        asked.set()
        await going_on.wait()
        return web.Response(status=500)

    here.idp.replies["token"] = hang
    here.clock.advance(301)
    await here.refresher.tick()
    await asked.wait()
    assert await here.session(cookie) is not None
    going_on.set()
    await here.refresher.settled()
    assert await here.session(cookie) is not None


async def test_a_refresh_moves_neither_the_proof_nor_a_deadline(here: World) -> None:
    record, cookie = await here.sign_in()
    before = await here.session(cookie)
    here.idp.claims.update({"auth_time": int(here.clock.now()) + 250, "acr": "stronger", "amr": ["hwk", "pin"]})
    here.idp.users["alice"]["name"] = "Alice Married"
    await here.later()
    after = await here.session(cookie)
    assert before is not None
    assert after is not None
    assert after.principal.name == "Alice Married"
    assert msgspec.structs.replace(after, principal=before.principal) == before
    assert record.absolute_deadline == after.absolute_deadline


async def test_another_persons_id_token_ends_the_session(here: World) -> None:
    _, cookie = await here.sign_in()
    here.idp.claims["sub"] = "sub-mallory"
    await here.later()
    assert await here.session(cookie) is None


async def test_what_one_provider_gave_is_never_sent_to_another(here: World) -> None:
    _, cookie = await here.sign_in()
    async with MockIdp(clock=here.clock) as other:
        provider = OidcProvider(
            ProviderSettings("lab", "Lab", other.issuer, CLIENT_ID, Secret(CLIENT_SECRET)),
            redirect_uri="https://portal.example.test/.zt/callback",
            clock=here.clock,
        )
        here.refresher.use([provider])
        await here.later()
        assert other.requests.total() == 0
        await provider.close()
    assert await here.session(cookie) is not None


async def test_groups_that_cannot_be_known_any_more_end_the_session(here: World) -> None:
    _, cookie = await here.sign_in()
    here.idp.claims.update({"groups": ABSENT, "hasgroups": True})
    await here.later()
    assert await here.session(cookie) is None


@pytest.mark.parametrize(
    "wrong",
    [{"iss": "https://elsewhere.test"}, {"aud": "another"}, {"exp": 1}, {"iat": 1}, {"at_hash": "wrong"}, None],
    ids=str,
)
async def test_an_id_token_that_does_not_verify_changes_nothing_and_its_refresh_token_counts(
    here: World, wrong: dict[str, Any] | None
) -> None:
    _, cookie = await here.sign_in()
    before = await here.session(cookie)
    here.idp.users["alice"]["groups"] = ["staff", "admins", "root"]
    if wrong is None:
        here.idp.id_token = lambda claims: rsa_key(here.idp.keys[0].kid, number=1).sign(claims)
    else:
        here.idp.claims.update(wrong)
    await here.later()
    assert await here.session(cookie) == before
    here.idp.id_token = None
    for name in wrong or ():
        del here.idp.claims[name]
    await here.later()
    after = await here.session(cookie)
    assert after is not None
    assert after.principal.groups == {"staff", "admins", "root"}


async def test_a_refresh_without_an_id_token_keeps_what_is_known(here: World) -> None:
    _, cookie = await here.sign_in()
    before = await here.session(cookie)
    here.idp.token_response["id_token"] = ABSENT
    await here.later()
    await here.later()
    assert (here.refreshes, await here.session(cookie)) == (2, before)


async def test_a_session_that_is_over_is_not_refreshed(here: World) -> None:
    record, _ = await here.sign_in()
    await here.manager.end(record.sid, "signed-out")
    await here.later()
    assert here.refreshes == 0


async def test_an_idle_session_is_ended_and_not_kept_alive(tmp_path: Path, here: World) -> None:
    here.manager.configure(SessionSettings(idle=200.0, absolute=WEEK))
    _, cookie = await here.sign_in()
    await here.later()
    assert here.refreshes == 0
    assert await here.session(cookie) is None


async def test_no_token_is_kept_where_the_operator_wants_none(here: World) -> None:
    here.lab.configure(refresh=False, scopes=("openid", "offline_access"))
    record, _ = await here.sign_in()
    assert record.refresh_token is None
    assert "offline_access" not in here.idp.authorizations[-1].query["scope"]
    here.lab.configure(scopes=("openid", "offline_access"))
    record, _ = await here.sign_in()
    assert record.refresh_token is not None
    assert here.idp.authorizations[-1].query["scope"] == "openid offline_access"


async def test_a_refresh_token_is_nowhere_in_the_clear(here: World) -> None:
    record, _ = await here.sign_in()
    assert record.refresh_token is not None
    secret = record.refresh_token.reveal()
    assert secret not in repr(record)
    await here.close()
    files = [path.read_bytes() for path in here.settings.state_dir.iterdir()]
    assert files
    assert all(secret.encode() not in content for content in files)
    await here.open()


async def test_a_store_that_cannot_write_gets_the_token_later_and_it_is_not_used_again_before(here: World) -> None:
    _, cookie = await here.sign_in()
    store, failing = here.manager._store, asyncio.Event()
    save = store.save_renewed
    answers = iter([True, True, False])

    async def sometimes(*given: Any) -> bool:
        if next(answers, False):
            failing.set()
            raise UnavailableError(Reason.STORE_UNAVAILABLE, "disk full")
        return await save(*given)

    store.save_renewed = sometimes  # type: ignore[method-assign]
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        await here.refresher.tick()

    here.refresher._pause = pause
    await here.later()
    assert failing.is_set()
    assert (len(waits), here.refreshes) == (2, 1)
    await here.close()
    await here.open()
    await here.later()
    assert await here.session(cookie) is not None


# the refresher alone, with a provider of the test's own


class Crowd:
    """A thousand sessions that are all due, and a provider that says when it has had enough."""

    name = "corp"

    def __init__(self, count: int) -> None:
        self.tokens = {f"s{number}": Secret("t0") for number in range(count)}
        self.waiting = set(self.tokens)
        self.most = self.now = 0
        self.tries: Counter[str] = Counter()
        self.down = False
        self.going_on = asyncio.Event()

    async def due(self, provider: str, limit: int) -> tuple[str, ...]:
        return tuple(sorted(self.waiting))[:limit]

    async def record(self, sid: str) -> Any:
        class Record:
            principal = Principal(sid, "https://idp.test", "corp")
            refresh_token = self.tokens[sid]

        return Record()

    async def postpone(self, sid: str, provider: str, seconds: float) -> None:
        """Stays due: the provider's rest alone keeps it from being asked."""

    async def renewed(self, sid: str, answer: Renewed) -> bool:
        self.waiting.discard(sid)
        return True

    async def refused(self, sid: str, used: Secret, reason: str) -> bool:
        self.waiting.discard(sid)
        return True

    async def renew(self, token: Secret, who: Principal) -> Renewed:
        self.tries[who.subject] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await self.going_on.wait()
        await asyncio.sleep(0)
        self.now -= 1
        if self.down:
            raise ProviderError(Reason.PROVIDER_UNREACHABLE, "down", status=503)
        if who.subject == "s7":
            raise LoginRefused("invalid_grant")
        return Renewed(token, token, None, None, 300.0)


async def test_all_at_once_are_asked_few_at_a_time(here: World) -> None:
    crowd = Crowd(1_000)
    crowd.going_on.set()
    refresher = Refresher(crowd, here.clock)
    refresher.use([crowd])
    while crowd.waiting:
        await refresher.tick()
        await refresher.settled()
    assert crowd.most == AT_ONCE
    assert set(crowd.tries.values()) == {1}


async def test_a_provider_that_is_down_is_asked_by_one_ever_more_rarely(here: World) -> None:
    crowd = Crowd(1_000)
    crowd.down = True
    crowd.going_on.set()
    refresher = Refresher(crowd, here.clock)
    refresher.use([crowd])
    for _ in range(3_600):
        await refresher.tick()
        await refresher.settled()
        here.clock.advance(1.0)
    assert crowd.tries.total() < AT_ONCE + 30
    assert refresher.problems() == ("provider corp does not answer: groups are as they were",)
    crowd.down = False
    here.clock.advance(LONGEST_REST)
    await refresher.tick()
    await refresher.settled()
    await refresher.tick()
    await refresher.settled()
    assert len(crowd.waiting) == 1_000 - 1 - AT_ONCE
    assert refresher.problems() == ()


async def test_a_reload_asks_about_nobody_twice(here: World) -> None:
    crowd = Crowd(1)
    refresher = Refresher(crowd, here.clock)
    refresher.use([crowd])
    await refresher.tick()
    await until(lambda: crowd.now == 1)
    refresher.use([crowd])
    await refresher.tick()
    assert crowd.now == 1
    refresher.use([])
    crowd.going_on.set()
    await refresher.settled()
    assert crowd.tries == {"s0": 1}


async def test_the_end_of_control_waits_for_an_answer_that_is_on_its_way(here: World) -> None:
    crowd = Crowd(1)
    refresher = Refresher(crowd, here.clock)
    refresher.use([crowd])
    await refresher.tick()
    await until(lambda: crowd.now == 1)
    closing = asyncio.create_task(refresher.close())
    crowd.going_on.set()
    await closing
    assert crowd.waiting == set()


@pytest.mark.parametrize(
    ("lifetime", "longest"), [(None, 300.0), (0.0, 300.0), (3_600.0, 300.0), (100.0, 80.0), (1.0, 10.0)]
)
async def test_the_time_of_a_refresh_is_before_the_end_and_not_the_same_for_all(
    here: World, lifetime: float | None, longest: float
) -> None:
    times = {renew_in(here.lab.provider._settings, lifetime) for _ in range(200)}
    assert max(times) <= longest
    assert min(times) >= min(longest * 0.8, 10.0)
    assert len(times) > 100 or longest == 10.0
