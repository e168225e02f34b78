"""Whatever is lost, replaced or late: once a revocation is settled, no worker can use the session (ZT-NET-02).

The model worker does what a real one does with the link: it caches what a look-up gave, forgets what it is told to, and
uses what it has while it has a lease. Long random walks, because what goes wrong takes several steps in a row.
"""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.lab.links import Authority, HearingWorker, UnixLinks, session
from zt_proxy.core.errors import UnavailableError
from zt_proxy.link.messages import Invalidation
from zt_proxy.link.unix import LinkClient

HANDLES = ("s1", "s2")
HOST = "flows.example.com"
LEASE = 0.1
HISTORY = 4


class ModelWorker(HearingWorker):
    """A cache, and the link that fills it."""

    def __init__(self) -> None:
        super().__init__()
        self.link: LinkClient | None = None
        self.cached: set[str] = set()

    def invalidate(self, change: Invalidation) -> None:
        super().invalidate(change)
        if change.sid:
            self.cached.discard(change.sid)
        else:
            self.cached.clear()

    async def look_up(self, handle: str) -> None:
        assert self.link is not None
        try:
            found = await self.link.session(handle.encode(), HOST)
        except UnavailableError:
            return
        if found is not None:
            self.cached.add(found.sid)

    def usable(self) -> set[str]:
        return self.cached if self.link is not None and self.link.alive() else set()


class Scene:
    """One control, two workers, and what may happen to them: each step of a walk is one of these methods."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.links = UnixLinks(self.authority, lease=LEASE, history=HISTORY)
        self.workers: list[ModelWorker] = []
        self.look_ups: set[asyncio.Task[None]] = set()
        self.numbers = itertools.count(1)
        self.names = itertools.count(1)
        self.revoked: set[str] = set()
        self.settled: set[str] = set()

    async def begin(self) -> None:
        for handle in HANDLES:
            self._sign_in(handle)
        await self.links.start()
        for _ in range(2):
            worker = ModelWorker()
            worker.link = await self.links.join(worker)
            self.workers.append(worker)

    async def end(self) -> None:
        self.authority.go.set()
        await asyncio.gather(*self.look_ups)
        await self.links.stop()

    def _sign_in(self, handle: str) -> None:
        self.authority.sessions[handle.encode(), HOST] = session(f"{handle}-{next(self.names)}", HOST)

    # steps

    async def look_up(self, handle: str, which: int) -> None:
        self.authority.go.set()
        await self.workers[which].look_up(handle)

    async def ask(self, handle: str, which: int) -> None:
        """A look-up that control holds back until `answer`."""
        self.authority.go.clear()
        task = asyncio.ensure_future(self.workers[which].look_up(handle))
        self.look_ups.add(task)
        task.add_done_callback(self.look_ups.discard)

    async def answer(self) -> None:
        self.authority.go.set()

    async def turns(self, number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)

    async def cut(self) -> None:
        self.links.cut()

    async def replace_control(self) -> None:
        await self.links.crash()
        await self.links.start()

    async def revoke(self, handle: str) -> None:
        """The handle goes on with another session, so that there is always something to find."""
        ended = self.authority.sessions[handle.encode(), HOST].sid
        self._sign_in(handle)
        self.links.control.invalidate(Invalidation(next(self.numbers), ended, "signed-out"))
        self.revoked.add(ended)

    async def others_change(self) -> None:
        for _ in range(HISTORY + 1):
            self.links.control.invalidate(Invalidation(next(self.numbers), "another", "signed-out"))

    async def settle(self, within: float) -> None:
        if await self.links.control.settled(self.links.control.sequence, within):
            self.settled |= self.revoked
        else:
            assert within == 0.0

    def check(self) -> None:
        for worker in self.workers:
            assert not worker.usable() & self.settled


_WORKER = st.integers(0, 1)
_HANDLE = st.sampled_from(HANDLES)
STEPS = st.one_of(
    st.tuples(st.just("look_up"), _HANDLE, _WORKER),
    st.tuples(st.just("ask"), _HANDLE, _WORKER),
    st.tuples(st.just("answer")),
    st.tuples(st.just("turns"), st.integers(1, 5)),
    st.tuples(st.just("turns"), st.integers(1, 5)),
    st.tuples(st.just("cut")),
    st.tuples(st.just("replace_control")),
    st.tuples(st.just("revoke"), _HANDLE),
    st.tuples(st.just("revoke"), _HANDLE),
    st.tuples(st.just("others_change")),
    st.tuples(st.just("settle"), st.just(0.0)),
    st.tuples(st.just("settle"), st.just(0.0)),
    st.tuples(st.just("settle"), st.just(5.0)),
)


async def walk(steps: list[tuple[Any, ...]]) -> None:
    scene = Scene()
    try:
        async with asyncio.timeout(60):
            await scene.begin()
            for name, *rest in steps:
                await getattr(scene, name)(*rest)
                scene.check()
            scene.authority.go.set()
            await scene.settle(5.0)
            await asyncio.gather(*scene.look_ups)
            scene.check()
    finally:
        await scene.end()


@pytest.mark.case("ZT-NET-02")
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # walks run in real time: shrinking one takes minutes
)
@given(st.lists(STEPS, min_size=30, max_size=80))
def test_no_worker_can_use_a_session_after_its_revocation_is_settled(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(walk(steps))
