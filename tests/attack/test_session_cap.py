"""The limit of sessions, end to end: who had to give way is told so, and stays out until they choose to come back."""

import pytest

from tests.lab.world import HOME, MINUTE, refusal, world
from zt_proxy.control.settings import SessionSettings


@pytest.mark.case("ZT-SESS-13")
async def test_the_displaced_browser_hears_why_and_does_not_displace_in_turn_by_itself() -> None:
    async with world(session=SessionSettings(idle=30 * MINUTE, absolute=720 * MINUTE, limit=1)) as w:
        first = await w.person()
        await w.lab.advance(1.0)
        second = await w.person()
        page = await first.fetch(HOME + "/")
        assert (page.status, refusal(page)) == (401, "session-displaced")
        visits = w.visits
        seen = await first.visit(HOME + "/")
        assert (seen.status, w.visits) == (200, visits), "a page of the portal, and no sign-in by itself"
        assert "You signed in somewhere else" in seen.text
        assert (await second.fetch(HOME + "/")).status == 200
