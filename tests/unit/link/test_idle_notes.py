"""A route's own idle time-out, found by one worker, holds on all of them."""

from collections.abc import AsyncIterator

import pytest

from tests.lab.links import LINKS, RING, SESSION, Authority, HearingWorker, Links
from tests.lab.waiting import until
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import CookieMac
from zt_proxy.link.messages import ControlLink, IdleNote
from zt_proxy.worker.identify.session import CachedSession, SessionCache


class CachingWorker(HearingWorker):
    """A real cache behind what is heard; what came before the cache was there is kept for it."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: SessionCache | None = None

    def serve(self, link: ControlLink, clock: ManualClock) -> SessionCache:
        self.cache = SessionCache(CookieMac(RING), link, clock)
        for note in self.notes:
            self.cache.note_idle(note.sid, note.route, note.at)
        return self.cache

    def idle_note(self, note: IdleNote) -> None:
        super().idle_note(note)
        if self.cache is not None:
            self.cache.note_idle(note.sid, note.route, note.at)


@pytest.fixture(params=sorted(LINKS))
async def links(request: pytest.FixtureRequest) -> AsyncIterator[Links]:
    authority = Authority()
    made = await LINKS[request.param](authority)
    made.authority = authority
    yield made
    await made.stop()


async def caches(links: Links, number: int) -> list[SessionCache]:
    workers = [CachingWorker() for _ in range(number)]
    return [worker.serve(await links.join(worker), ManualClock()) for worker in workers]


async def test_what_one_worker_found_idle_is_idle_on_each_that_serves_and_on_one_that_comes_later(links: Links) -> None:
    first, second = await caches(links, 2)
    first.found_idle(SESSION.sid, "flows", 50.0)
    await until(lambda: second.idle_at.get((SESSION.sid, "flows")) == 50.0)
    (late,) = await caches(links, 1)
    cookie = CookieMac(RING).issue()
    links.authority.sessions[CookieMac(RING).handle_hash(cookie), SESSION.host] = SESSION
    assert isinstance(await late.fetch(cookie.encode(), SESSION.host), CachedSession)
    assert late.idle_at == {(SESSION.sid, "flows"): 50.0}


async def test_an_older_note_that_comes_late_does_not_undo_a_newer_one(links: Links) -> None:
    first, second = await caches(links, 2)
    first.found_idle(SESSION.sid, "flows", 50.0)
    second.found_idle(SESSION.sid, "flows", 40.0)
    first.found_idle(SESSION.sid, "other", 1.0)
    await until(lambda: (SESSION.sid, "other") in second.idle_at)
    assert first.idle_at[SESSION.sid, "flows"] == second.idle_at[SESSION.sid, "flows"] == 50.0
