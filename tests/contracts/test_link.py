"""What every link between control and workers must keep, whatever carries it.

An implementation is added to `LINKS`; each test then runs over it.
"""

import asyncio
from collections.abc import Callable

import pytest

from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.session import Principal, Session
from zt_proxy.link.memory import MemoryLink, SessionAuthority
from zt_proxy.link.messages import Invalidation, SigningKey

LINKS: dict[str, Callable[[SessionAuthority], MemoryLink]] = {"memory": MemoryLink}

HANDLE = b"h" * 32
KEY = SigningKey("k1", b"der")
SESSION = Session(
    sid="s1",
    host="flows.example.com",
    principal=Principal(subject="alice", issuer="https://idp.example", provider="corp"),
    acr="",
    amr=(),
    mfa=True,
    auth_time=1.0,
    created=1.0,
    last_activity=1.0,
    idle_timeout=900.0,
    absolute_deadline=43_201.0,
)


class Authority:
    """Control's side at the edge of the link: answers from a table, and can be held back."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[bytes, str], Session] = {(HANDLE, SESSION.host): SESSION}
        self.heard: list[tuple[str, float]] = []
        self.asked = 0
        self.fault: UnavailableError | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        self.asked += 1
        found = self.sessions.get((handle_hash, host))
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return found

    def activity(self, sid: str, at: float) -> None:
        self.heard.append((sid, at))


class Worker:
    def __init__(self) -> None:
        self.changes: list[Invalidation] = []
        self.keys: list[SigningKey] = []
        self.fault: Exception | None = None

    def invalidate(self, change: Invalidation) -> None:
        if self.fault is not None:
            raise self.fault
        self.changes.append(change)

    def signing_key(self, key: SigningKey) -> None:
        self.keys.append(key)


@pytest.fixture(params=sorted(LINKS))
def make(request: pytest.FixtureRequest) -> Callable[[SessionAuthority], MemoryLink]:
    return LINKS[request.param]


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def link(make: Callable[[SessionAuthority], MemoryLink], authority: Authority) -> MemoryLink:
    return make(authority)


async def test_a_look_up_gives_what_control_says(link: MemoryLink) -> None:
    assert await link.session(HANDLE, SESSION.host) == SESSION
    assert await link.session(HANDLE, "other.example.com") is None


async def test_activity_reaches_control(link: MemoryLink, authority: Authority) -> None:
    link.activity("s1", 5.0)
    assert authority.heard == [("s1", 5.0)]


async def test_a_fault_of_the_store_is_a_fault_and_not_an_unknown_session(
    link: MemoryLink, authority: Authority
) -> None:
    authority.fault = UnavailableError(Reason.STORE_UNAVAILABLE)
    with pytest.raises(UnavailableError) as caught:
        await link.session(HANDLE, SESSION.host)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_an_invalidation_is_in_force_on_every_worker_when_it_returns(link: MemoryLink) -> None:
    workers = [Worker(), Worker()]
    for worker in workers:
        link.attach(worker)
    change = Invalidation(1, "s1", "signed-out")
    link.invalidate(change)
    assert [worker.changes for worker in workers] == [[change], [change]]
    assert link.sequence == 1


async def test_a_worker_that_fails_does_not_keep_a_change_from_the_others(link: MemoryLink) -> None:
    broken, sound = Worker(), Worker()
    broken.fault = RuntimeError("worker is stuck")
    link.attach(broken)
    link.attach(sound)
    with pytest.raises(RuntimeError, match="stuck"):
        link.invalidate(Invalidation(1, "s1", "signed-out"))
    assert len(sound.changes) == 1


@pytest.mark.case("ZT-NET-02")
async def test_a_repeated_number_is_dropped_and_a_gap_drops_every_cache(link: MemoryLink) -> None:
    worker = Worker()
    link.attach(worker)
    for sequence in (7, 7, 8, 11, 10):
        link.invalidate(Invalidation(sequence, f"s{sequence}", "signed-out"))
    assert [(change.sequence, change.sid) for change in worker.changes] == [(7, "s7"), (8, "s8"), (11, "")]


@pytest.mark.case("ZT-NET-02")
async def test_a_session_revoked_while_it_was_looked_up_is_asked_for_again(
    link: MemoryLink, authority: Authority
) -> None:
    authority.go.clear()
    look_up = asyncio.ensure_future(link.session(HANDLE, SESSION.host))
    await asyncio.sleep(0)
    authority.sessions.clear()
    link.invalidate(Invalidation(1, "s1", "signed-out"))
    authority.go.set()
    assert await look_up is None
    assert authority.asked == 2


async def test_a_worker_gets_the_current_key_when_it_attaches_and_each_new_one(link: MemoryLink) -> None:
    early, late = Worker(), Worker()
    link.attach(early)
    link.signing_key(KEY)
    link.attach(late)
    new = SigningKey("k2", b"der2")
    link.signing_key(new)
    assert early.keys == [KEY, new]
    assert late.keys == [KEY, new]


async def test_a_detached_worker_hears_nothing(link: MemoryLink) -> None:
    worker = Worker()
    link.attach(worker)
    link.detach(worker)
    link.invalidate(Invalidation(1, "s1", "signed-out"))
    assert worker.changes == []


async def test_a_closed_link_is_not_alive_answers_nothing_and_empties_every_cache(
    link: MemoryLink, authority: Authority
) -> None:
    worker = Worker()
    link.attach(worker)
    assert link.alive()
    authority.go.clear()
    look_up = asyncio.ensure_future(link.session(HANDLE, SESSION.host))
    await asyncio.sleep(0)
    link.close()
    authority.go.set()
    assert not link.alive()
    assert [change.sid for change in worker.changes] == [""]
    with pytest.raises(UnavailableError):
        await look_up
    with pytest.raises(UnavailableError) as caught:
        await link.session(HANDLE, SESSION.host)
    assert caught.value.reason is Reason.CONTROL_UNAVAILABLE
