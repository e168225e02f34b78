"""Time-outs and step-up end to end: when a session is not enough any more."""

import pytest

from tests.lab.browser import SESSION
from tests.lab.proxy import APP
from tests.lab.world import (
    AUTH,
    ELSEWHERE,
    HOME,
    HOUR,
    MINUTE,
    STEP_UP,
    refusal,
    world,
)
from zt_proxy.control.settings import SessionSettings

# ---- time-outs ----


@pytest.mark.case("ZT-SESS-08")
async def test_constant_use_does_not_move_the_absolute_limit() -> None:
    async with world(session=SessionSettings(idle=4 * HOUR, absolute=12 * HOUR)) as w:
        browser = await w.person()
        for hours in (3, 3, 3, 2):
            await w.lab.advance(hours * HOUR)
            assert (await browser.request(HOME + "/")).status == 200
        await w.lab.advance(59 * MINUTE)
        assert (await browser.request(HOME + "/")).status == 200, "11:59 h"
        await w.lab.advance(2 * MINUTE)
        page = await browser.fetch(HOME + "/")
        assert (page.status, refusal(page)) == (401, "session-expired"), "12:01 h"
        again = await browser.visit(HOME + "/")
        assert (again.status, w.visits) == (200, 2)


@pytest.mark.case("ZT-SESS-09")
async def test_fifteen_idle_minutes_end_a_strict_session_everywhere() -> None:
    async with world(session=SessionSettings(idle=15 * MINUTE, absolute=12 * HOUR)) as w:
        browser = await w.person()
        await browser.visit(ELSEWHERE + "/")
        await w.lab.advance(14 * MINUTE)
        assert (await browser.request(HOME + "/")).status == 200
        await w.lab.advance(14 * MINUTE)
        assert (await browser.request(ELSEWHERE + "/")).status == 200, "activity counts for the whole session"
        await w.lab.advance(15 * MINUTE + 1)
        assert refusal(await browser.fetch(HOME + "/")) in {"session-idle", "session-unknown"}
        assert (await browser.fetch(ELSEWHERE + "/")).status == 401
        assert (await browser.visit(HOME + "/")).status == 200
        assert w.visits == 2


async def test_what_a_page_does_by_itself_keeps_no_session_awake() -> None:
    async with world() as w:
        browser = await w.person()
        for _ in range(4):
            await w.lab.advance(7 * MINUTE)
            assert (await browser.fetch(HOME + "/poll")).status == 200
        await w.lab.advance(3 * MINUTE)
        assert refusal(await browser.fetch(HOME + "/poll")) == "session-idle"


async def test_an_unsafe_request_is_activity_unless_the_route_ignores_its_path() -> None:
    async with world(route={"idle_ignore": ("/heartbeat",)}) as w:
        busy, idle = await w.person(), await w.person()
        for _ in range(3):
            await w.lab.advance(15 * MINUTE)
            assert (await busy.fetch(HOME + "/save", "POST")).status == 200
            await idle.fetch(HOME + "/heartbeat", "POST")
        assert refusal(await idle.fetch(HOME + "/")) in {"session-idle", "session-unknown"}
        assert (await busy.fetch(HOME + "/")).status == 200


@pytest.mark.parametrize("way_around", ["none", "portal", "other app", "cookie deleted"])
async def test_a_route_that_finds_a_session_idle_wants_a_new_proof_whatever_happens_meanwhile(way_around: str) -> None:
    async with world(route={"idle_timeout": 5 * MINUTE}) as w:
        browser = await w.person()
        await browser.visit(ELSEWHERE + "/")
        await w.lab.advance(5 * MINUTE + 1)
        assert refusal(await browser.fetch(HOME + "/")) == "session-idle"
        if way_around == "portal":
            assert (await browser.visit(AUTH + "/")).status == 200
        elif way_around == "other app":
            assert (await browser.visit(ELSEWHERE + "/")).status == 200
        elif way_around == "cookie deleted":
            del browser.cookies(APP)[SESSION]
        assert (await browser.fetch(HOME + "/")).status == 401
        assert w.visits == 1
        page = await browser.visit(HOME + "/")
        assert (page.status, w.visits) == (200, 2)
        assert w.idp.authorizations[-1].query.get("prompt") == "login"
        assert (await browser.fetch(HOME + "/")).status == 200


async def test_a_routes_absolute_limit_only_tightens() -> None:
    async with world(route={"absolute_timeout": HOUR}) as w:
        browser = await w.person()
        for _ in range(3):
            await w.lab.advance(19 * MINUTE)
            assert (await browser.request(HOME + "/")).status == 200
        await w.lab.advance(4 * MINUTE)
        assert refusal(await browser.fetch(HOME + "/")) == "session-expired"
        assert (await browser.visit(ELSEWHERE + "/")).status == 200, "the other route has no such limit"
        assert w.visits == 1
        assert (await browser.visit(HOME + "/")).status == 200
        assert w.visits == 2


# ---- step-up ----


@pytest.mark.case("ZT-APP-02")
@pytest.mark.case("ZT-SESS-18")
async def test_a_step_up_unlocks_one_rule_of_one_route_in_one_session_for_its_time() -> None:
    async with world(STEP_UP, other=STEP_UP) as w:
        browser, second = await w.person(), await w.person()
        await browser.visit(ELSEWHERE + "/")
        await w.lab.advance(10 * MINUTE)
        asked = await browser.fetch(HOME + "/deploy", "POST")
        assert (asked.status, refusal(asked)) == (401, "reauth-required")
        assert 'max_age="300"' in (asked.reply.header("www-authenticate") or "")
        page = await browser.visit(HOME + "/deploy")
        assert (page.status, w.visits) == (200, 3)
        assert w.idp.authorizations[-1].query["prompt"] == "login"
        assert w.idp.authorizations[-1].query["max_age"] == "0"
        assert (await browser.fetch(HOME + "/deploy", "POST")).status == 200
        for url, who in (
            (HOME + "/export", browser),
            (ELSEWHERE + "/deploy", browser),
            (HOME + "/deploy", second),
        ):
            assert refusal(await who.fetch(url, "POST")) == "reauth-required", url
        await w.lab.advance(5 * MINUTE + 1)
        assert refusal(await browser.fetch(HOME + "/deploy", "POST")) == "reauth-required"
        assert w.reached.count(b"/export") == 0


@pytest.mark.case("ZT-SESS-18")
async def test_a_stale_answer_of_the_provider_unlocks_nothing() -> None:
    async with world(STEP_UP) as w:
        browser = await w.person()
        await w.lab.advance(10 * MINUTE)
        w.idp.claims = {"auth_time": int(w.clock.now() - 9 * MINUTE)}
        page = await browser.visit(HOME + "/deploy")
        assert page.status in {401, 403}
        assert "login-not-fresh" in page.text
        assert refusal(await browser.fetch(HOME + "/deploy", "POST")) == "reauth-required"
        assert (await browser.fetch(HOME + "/")).status == 200, "the session itself goes on"
        assert b"/deploy" not in w.reached


@pytest.mark.case("ZT-SESS-18")
async def test_another_person_cannot_answer_a_step_up() -> None:
    async with world(STEP_UP) as w:
        browser = await w.person()
        await w.lab.advance(10 * MINUTE)
        w.idp.user = "bob"
        page = await browser.visit(HOME + "/deploy")
        assert page.status == 403
        assert "login-other-subject" in page.text
        assert refusal(await browser.fetch(HOME + "/deploy", "POST")) == "reauth-required"
        assert b"/deploy" not in w.reached
