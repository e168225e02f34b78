"""What a page's script reports of a person, end to end: it counts as one of their requests would, and no further."""

from tests.lab.proxy import APP
from tests.lab.world import AUTH, ELSEWHERE, HOME, MINUTE, refusal, world

DEVICE = "__Host-zt-device"


async def test_reported_activity_keeps_a_session_awake_where_background_requests_do_not() -> None:
    async with world() as w:
        busy, idle = await w.person(), await w.person()
        for _ in range(3):
            await w.lab.advance(15 * MINUTE)
            assert (await busy.fetch(HOME + "/.zt/activity", "POST")).status == 204
            await idle.fetch(HOME + "/poll")
        assert (await busy.fetch(HOME + "/")).status == 200
        assert (await idle.fetch(HOME + "/")).status == 401


async def test_reported_activity_counts_for_a_route_with_a_shorter_time() -> None:
    async with world(route={"idle_timeout": 5 * MINUTE}) as w:
        browser = await w.person()
        for _ in range(4):
            await w.lab.advance(4 * MINUTE)
            assert (await browser.fetch(HOME + "/.zt/activity", "POST")).status == 204
        assert (await browser.fetch(HOME + "/")).status == 200


async def test_reported_activity_comes_too_late_for_a_route_that_was_idle_by_then() -> None:
    async with world(route={"idle_timeout": 5 * MINUTE}) as w:
        browser = await w.person()
        await w.lab.advance(5 * MINUTE + 1)
        await browser.fetch(HOME + "/.zt/activity", "POST")
        assert refusal(await browser.fetch(HOME + "/")) == "session-idle"
        assert (await browser.visit(ELSEWHERE + "/")).status == 200, "the session itself lives on"
        assert refusal(await browser.fetch(HOME + "/")) == "session-idle"


async def test_another_sites_page_reports_nothing() -> None:
    async with world() as w:
        browser = await w.person()
        await w.lab.advance(20 * MINUTE)
        for site, origin in (("cross-site", "https://evil.example"), ("same-site", "https://other.test")):
            page = await browser.fetch(HOME + "/.zt/activity", "POST", **{"Sec-Fetch-Site": site, "Origin": origin})
            assert page.status == 403
        await w.lab.advance(11 * MINUTE)
        assert (await browser.fetch(HOME + "/")).status == 401


async def test_the_device_cookie_comes_back_to_the_portal_and_never_to_an_app() -> None:
    async with world() as w:
        browser = await w.person()
        cookie = browser.cookies("auth.test")[DEVICE]
        assert DEVICE not in browser.cookies(APP)
        browser.cookies(APP)[DEVICE] = "planted"
        await browser.visit(HOME + "/flows")
        assert not any(
            b"zt-device" in b"".join(b"".join(pair) for pair in seen.headers) for seen in w.lab.upstream.seen
        )
        del browser.cookies(APP)[DEVICE]
        browser.cookies("auth.test").pop("__Host-zt")
        browser.cookies(APP).pop("__Host-zt")
        assert (await browser.visit(HOME + "/")).status == 200
        assert browser.cookies("auth.test")[DEVICE] == cookie
        page = await browser.visit(AUTH + "/.zt/me")
        assert (page.status, page.text.count('action="/.zt/me/device"')) == (200, 1)
