"""What a person can do about a "no": prove themselves where that helps, or become somebody else."""

from tests.attack.test_sessions import HOME, MINUTE, STEP_UP, world
from tests.lab.browser import LOGIN, NAVIGATE
from tests.lab.proxy import APP, ProxyLab, allow, lab_route


async def test_a_background_request_that_needs_a_fresh_proof_names_where_to_give_it() -> None:
    async with world(STEP_UP) as w:
        browser = await w.person()
        await w.lab.advance(10 * MINUTE)
        browser.cookies(APP).pop(LOGIN)
        asked = await browser.fetch(HOME + "/deploy", "POST")
        assert (asked.status, asked.reply.problem["reason"]) == (401, "reauth-required")
        assert LOGIN not in browser.cookies(APP), "the way back is bound to the session"
        page = await browser.visit(asked.reply.problem["login_url"])
        assert (page.status, page.url) == (200, HOME + "/")
        assert (await browser.fetch(HOME + "/deploy", "POST")).status == 200


async def test_that_address_is_of_no_use_to_another_browser() -> None:
    async with world(STEP_UP) as w:
        browser, other = await w.person(), await w.person()
        await w.lab.advance(10 * MINUTE)
        asked = await browser.fetch(HOME + "/deploy", "POST")
        page = await other.visit(asked.reply.problem["login_url"])
        assert (page.status, page.hosts[-1]) == (403, APP)
        assert (await browser.fetch(HOME + "/deploy", "POST")).reply.problem["reason"] == "reauth-required"


async def test_a_form_that_needs_a_fresh_proof_is_answered_with_a_link_to_give_it() -> None:
    async with world(STEP_UP) as w:
        browser = await w.person()
        await w.lab.advance(10 * MINUTE)
        headers = {**NAVIGATE, "Sec-Fetch-Site": "same-origin", "Origin": HOME}
        page = await browser.request(HOME + "/deploy", "POST", headers)
        assert page.status == 401
        link = page.text.partition('class="go" href="')[2].partition('"')[0]
        assert (await browser.visit(link)).url == HOME + "/"
        assert (await browser.fetch(HOME + "/deploy", "POST")).status == 200


async def test_a_machines_refusal_carries_neither_link_nor_cookie() -> None:
    rules = (allow(reauth=0.0),)
    async with ProxyLab(routes=(lab_route("app", APP, rules, machines_only=True),)) as lab:
        reply = await lab.get("/", await lab.sign_in(auth_time=0.0), b"Sec-Fetch-Mode: navigate\r\n")
        assert (reply.status, reply.all("set-cookie")) == (401, [])


async def test_a_person_who_may_not_is_offered_to_sign_out() -> None:
    async with ProxyLab(rules=(allow(groups=("admins",)),)) as lab:
        navigation = b"Sec-Fetch-Mode: navigate\r\nAccept: text/html\r\n"
        reply = await lab.get("/", await lab.sign_in(), navigation)
        assert reply.status == 403
        assert b'<a class="go quiet" href="/.zt/sign-out">Sign out</a>' in reply.body
