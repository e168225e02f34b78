"""Somebody is asked why, or waits for another's word, and their work goes on: through the whole proxy."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.integration.test_step_up import handoff_in, onward, send_on, submit
from tests.lab.asked import APP, AUTH, CONTROL, HOME, ROUTE, RULES, WHY, decide, lines, say, somebody, stated
from tests.lab.waiting import until
from tests.lab.world import HOUR, MINUTE, World, refusal, world


@pytest.fixture
async def w() -> AsyncIterator[World]:
    async with world(RULES, route=ROUTE, control=CONTROL) as w:
        yield w


# ---- why


async def test_a_person_is_asked_why_says_it_and_the_application_is_told(w: World) -> None:
    bob = await somebody(w)
    page = await bob.visit(HOME + "/export/all?format=csv")
    assert (page.status, urlsplit(page.url).path) == (200, "/.zt/why"), page
    assert "GET /export/all" in page.text
    assert b"/export/all?format=csv" not in w.reached
    came = await say(bob, page)
    assert (came.status, came.url) == (200, HOME + "/export/all?format=csv")
    assert stated(w)["justification"] == WHY
    assert (await bob.visit(HOME + "/export")).status == 200, "it is asked once in a session"
    (line,) = await lines(w, "justified")
    assert (line["user"], line["route"], line["rule"], line["justification"]) == ("sub-bob", "app", "export", WHY)
    decisions = [each for each in await w.lab.decisions() if each["path"] == "/export/all"]
    assert [each["reason"] for each in decisions] == ["justification-required", "rule-allowed"]
    assert decisions[1]["justification"] == WHY


async def test_a_script_is_told_where_to_say_why_and_the_window_comes_back(w: World) -> None:
    bob = await somebody(w)
    asked = await bob.fetch(HOME + "/export", "POST")
    problem = asked.reply.problem
    assert (asked.status, problem["reason"], problem["rule"]) == (401, "justification-required", "export")
    challenge = asked.reply.header("zt-challenge") or ""
    assert challenge.startswith('step-up; url="/.zt/step-up?to=')
    assert challenge.endswith('; ask="justify"')
    assert 'error="insufficient_user_authentication"' in (asked.reply.header("www-authenticate") or "")
    handoff = handoff_in(w, problem["step_up_url"])
    assert (handoff.ask, handoff.method, handoff.path, handoff.host) == ("justify", "POST", "/export", APP)
    page = await bob.visit(problem["step_up_url"] + "&window=1")
    assert urlsplit(page.url).path == "/.zt/why"
    assert (await say(bob, page)).url == HOME + "/.zt/confirmed"
    assert (await bob.fetch(HOME + "/export", "POST")).status == 200


async def test_each_thing_that_a_rule_asks_for_has_a_scope_of_its_own(w: World) -> None:
    bob = await somebody(w)
    first = (await bob.fetch(HOME + "/both", "POST")).reply
    page = await bob.visit(first.problem["step_up_url"] + "&window=1")
    assert (await say(bob, page)).status == 200
    second = (await bob.fetch(HOME + "/both", "POST")).reply
    assert (first.problem["reason"], second.problem["reason"]) == ("justification-required", "approval-required")
    scopes = [(reply.header("zt-challenge") or "").partition("scope=")[2] for reply in (first, second)]
    assert scopes[0].partition(";")[0] != scopes[1].partition(";")[0]


async def test_a_form_waits_until_its_sender_has_said_why(w: World) -> None:
    bob = await somebody(w)
    kept = await submit(bob, HOME + "/export", b"name=all")
    page = await bob.visit(onward(kept))
    assert urlsplit(page.url).path == "/.zt/why"
    back = await say(bob, page)
    assert urlsplit(back.url).path == "/.zt/resume"
    assert (await send_on(bob, back)).status == 200
    assert (w.lab.upstream.seen[-1].method, w.lab.upstream.seen[-1].body) == (b"POST", b"name=all")
    assert stated(w)["justification"] == WHY


async def test_who_lost_the_portals_cookie_comes_through_the_provider_and_says_why(w: World) -> None:
    bob = await somebody(w)
    bob.jar.pop("auth.test")
    page = await bob.visit(HOME + "/export")
    assert urlsplit(page.url).path == "/.zt/why"
    assert urlsplit(page.url).query.startswith("login=")
    came = await say(bob, page)
    assert (came.status, came.url) == (200, HOME + "/export")
    assert stated(w)["justification"] == WHY


async def test_a_reason_counts_in_the_session_that_was_asked_alone(w: World) -> None:
    bob, elsewhere = await somebody(w), await somebody(w)
    asked = (await bob.visit(HOME + "/export", until="/.zt/sign-in")).location
    page = await elsewhere.visit(asked)
    # The same person in another browser: through the provider, and what they say leads nowhere.
    assert urlsplit(page.url).path == "/.zt/why"
    refused = await say(elsewhere, page)
    assert refused.status == 403
    assert "login-other-browser" in refused.text
    assert (await bob.visit(HOME + "/export", until="/.zt/sign-in")).status == 302
    assert await lines(w, "justified") == []


@pytest.mark.parametrize("text", ["", "too short", "x" * 501, "An \x1b[31malarm\x1b[0m in red", "turned \u202e round"])
async def test_what_is_no_reason_is_asked_again(w: World, text: str) -> None:
    bob = await somebody(w)
    page = await bob.visit(HOME + "/export")
    again = await say(bob, page, text)
    assert again.status == 400
    assert 'role="alert"' in again.text
    assert (await bob.visit(HOME + "/export", until="/.zt/sign-in")).status == 302
    assert (await say(bob, page)).status == 200


# ---- somebody else's word


async def test_another_person_agrees_and_the_request_goes_through(w: World) -> None:
    bob = await somebody(w)
    page = await bob.visit(HOME + "/deploy/7")
    assert (page.status, urlsplit(page.url).path) == (200, "/.zt/approval")
    assert "admins" in page.text
    waits = await say(bob, page, "Please look at flow 7")
    assert urlsplit(waits.url).query.startswith("id=")
    assert 'http-equiv="refresh"' in waits.text
    alice = await somebody(w, "alice")
    shown = await alice.visit(AUTH + "/.zt/approvals")
    for said in ("bob@example.test", "GET /deploy/7", "Please look at flow 7"):
        assert said in shown.text
    assert "1 request waits for your word" in (await alice.visit(AUTH + "/")).text
    assert (await decide(alice)).url == AUTH + "/.zt/approvals?done=approved"
    came = await bob.visit(waits.url)
    assert (came.status, came.url) == (200, HOME + "/deploy/7"), came
    assert stated(w)["approved_by"] == "alice@example.test"
    asked, agreed = await lines(w, "approval")
    assert (asked["action"], asked["user"], asked["reason"]) == ("asked", "sub-bob", "Please look at flow 7")
    assert (agreed["action"], agreed["user"], agreed["by"]) == ("approved", "sub-bob", "alice@example.test")
    assert agreed["until"] == w.clock.now() + 24 * HOUR


async def test_who_lost_the_portals_cookie_asks_and_waits_all_the_same(w: World) -> None:
    bob = await somebody(w)
    bob.jar.pop("auth.test")
    page = await bob.visit(HOME + "/deploy")
    waits = await say(bob, page, "From a browser that forgets")
    assert urlsplit(waits.url).query.startswith("login=")
    assert 'http-equiv="refresh"' in waits.text
    assert (await decide(await somebody(w, "alice"))).status == 200
    assert (await bob.visit(waits.url)).url == HOME + "/deploy"
    assert stated(w)["approved_by"] == "alice@example.test"


async def test_a_form_waits_until_somebody_agrees(w: World) -> None:
    bob = await somebody(w)
    page = await bob.visit(onward(await submit(bob, HOME + "/deploy", b"name=all")))
    waits = await say(bob, page, "")
    assert (await decide(await somebody(w, "alice"))).status == 200
    back = await bob.visit(waits.url)
    assert urlsplit(back.url).path == "/.zt/resume"
    assert (await send_on(bob, back)).status == 200
    assert (w.lab.upstream.seen[-1].method, w.lab.upstream.seen[-1].body) == (b"POST", b"name=all")


async def test_nobody_agrees_with_themselves(w: World) -> None:
    alice = await somebody(w, "alice")
    page = await alice.visit(HOME + "/deploy")
    waits = await say(alice, page, "")
    again = await somebody(w, "alice")  # another session of the same person
    for browser in (alice, again):
        shown = await browser.visit(AUTH + "/.zt/approvals")
        assert "Nobody waits for your word" in shown.text
        form = {"id": parse_qs(urlsplit(waits.url).query)["id"][0], "answer": "approve"}
        form["token"] = (await browser.visit(AUTH + "/.zt/sign-out")).input("token")
        answer = await browser.submit(shown, "/.zt/approvals", form)
        assert (answer.status, "approval-unknown" in answer.text) == (404, True)
    assert (await alice.visit(waits.url)).url == waits.url


async def test_who_is_not_named_sees_nothing_and_decides_nothing(w: World) -> None:
    alice = await somebody(w, "alice")
    waits = await say(alice, await alice.visit(HOME + "/deploy"), "")
    bob = await somebody(w)
    assert "Nobody waits" in (await bob.visit(AUTH + "/.zt/approvals")).text
    page = await bob.visit(AUTH + "/.zt/sign-out")
    form = {"token": page.input("token"), "id": parse_qs(urlsplit(waits.url).query)["id"][0], "answer": "approve"}
    assert (await bob.submit(page, "/.zt/approvals", form)).status == 404
    stranger = w.browser()
    assert (await stranger.request(waits.url)).status == 401
    assert (await stranger.request(AUTH + "/.zt/approvals")).status in {200, 303}
    assert (await stranger.submit(page, "/.zt/approvals", form)).status == 401


async def test_a_request_is_refused_and_can_be_made_again(w: World) -> None:
    bob = await somebody(w)
    waits = await say(bob, await bob.visit(HOME + "/deploy"), "")
    alice = await somebody(w, "alice")
    assert (await decide(alice, "refuse")).url.endswith("done=refused")
    told = await bob.visit(waits.url)
    assert "alice@example.test" in told.text
    assert "did not agree" in told.text
    assert (await bob.visit(HOME + "/deploy", until="/.zt/sign-in")).status == 302
    again = await say(bob, told, "We talked about it")
    assert again.url != waits.url
    assert (await decide(alice)).status == 200
    assert (await bob.visit(again.url)).url == HOME + "/deploy"


async def test_an_approval_ends_at_its_time(w: World) -> None:
    bob = await somebody(w)
    await say(bob, await bob.visit(HOME + "/short"), "")
    alice = await somebody(w, "alice")
    assert (await decide(alice)).status == 200
    assert (await bob.fetch(HOME + "/short")).status == 200
    await w.lab.advance(5 * MINUTE)
    assert refusal(await bob.fetch(HOME + "/short")) == "approval-required"
    page = await bob.visit(HOME + "/short")
    assert "Somebody else has to agree" in page.text
    assert urlsplit((await say(bob, page, "")).url).query.startswith("id=")


async def test_a_request_ends_with_the_session_that_made_it(w: World) -> None:
    bob = await somebody(w)
    await say(bob, await bob.visit(HOME + "/deploy"), "")
    alice = await somebody(w, "alice")
    page = await alice.visit(AUTH + "/.zt/approvals")
    form = {"token": page.input("token"), "id": page.input("id"), "answer": "approve"}
    control = w.lab.proxy.control
    assert control is not None
    await control.sessions.end_subject(w.idp.issuer, "sub-bob", "revoked")
    assert (await alice.submit(page, "/.zt/approvals", form)).status == 404
    assert "Nobody waits" in (await alice.visit(AUTH + "/.zt/approvals")).text
    assert [each["action"] for each in await lines(w, "approval")] == ["asked", "expired"]


async def test_who_decides_has_just_proved_who_they_are(w: World) -> None:
    bob = await somebody(w)
    await say(bob, await bob.visit(HOME + "/deploy"), "")
    alice = await somebody(w, "alice")
    page = await alice.visit(AUTH + "/.zt/approvals")
    form = {"token": page.input("token"), "id": page.input("id"), "answer": "approve"}
    await w.lab.advance(6 * MINUTE)
    assert "Confirm it is you, to decide" in (await alice.visit(AUTH + "/.zt/approvals")).text
    answer = await alice.submit(page, "/.zt/approvals", form)  # and through the provider, who proves it anew
    assert urlsplit(answer.url).path == "/.zt/approvals"
    assert "done=" not in answer.url
    assert [each["action"] for each in await lines(w, "approval")] == ["asked"]
    assert (await decide(alice)).url.endswith("done=approved")


async def test_a_decision_is_sent_by_our_own_page_alone(w: World) -> None:
    bob = await somebody(w)
    await say(bob, await bob.visit(HOME + "/deploy"), "")
    alice = await somebody(w, "alice")
    for token in ("", "x" * 43, "ä"):
        assert (await decide(alice, token=token)).status == 403
    page = await alice.visit(AUTH + "/.zt/approvals")
    form = {"token": page.input("token"), "id": page.input("id"), "answer": "approve"}
    page.url = HOME + "/"  # a form of the app's own page, sent to the portal
    assert (await alice.submit(page, AUTH + "/.zt/approvals", form)).status == 403
    assert len(await lines(w, "approval")) == 1


async def test_a_hand_off_is_good_for_what_it_asks_alone(w: World) -> None:
    bob = await somebody(w)
    why = (await bob.visit(HOME + "/export", until="/.zt/sign-in")).location.partition("to=")[2]
    agree = (await bob.visit(HOME + "/deploy", until="/.zt/sign-in")).location.partition("to=")[2]
    for path, sealed in (("why", agree), ("approval", why), ("confirm", why), ("confirm", agree)):
        page = await bob.request(f"{AUTH}/.zt/{path}?to={sealed}")
        assert (page.status, "handoff-invalid" in page.text) == (400, True), path
    for forged in (why[:-6] + "AAAAAA", quote("x" * 60), ""):
        assert (await bob.request(f"{AUTH}/.zt/why?to={forged}")).status == 400
    await w.lab.advance(11 * MINUTE)
    assert (await bob.request(f"{AUTH}/.zt/why?to={why}")).status == 400


# ---- the broken glass


async def test_a_named_account_breaks_the_glass_and_ends_it(w: World) -> None:
    bob = await somebody(w)
    assert (await bob.visit(HOME + "/secret")).status == 403
    page = await bob.visit(AUTH + "/.zt/break-glass")
    me = await say(bob, page, "The line in hall 3 stands still")
    assert (me.url, "You broke the glass" in me.text) == (AUTH + "/.zt/me", True)
    assert (await bob.visit(HOME + "/secret")).status == 200
    assert stated(w)["break_glass"] is True
    assert stated(w)["justification"] == "The line in hall 3 stands still"
    ended = await bob.submit(me, "/.zt/break-glass", {"token": me.input("token"), "answer": "end"})
    assert "You broke the glass" not in ended.text
    assert (await bob.visit(HOME + "/secret")).status == 403
    await until(lambda: "broke the glass" in "".join(p.read_text() for p in w.lab.directory.rglob("*.jsonl")))
    begun, over = await lines(w, "break-glass")
    assert (begun["action"], begun["user"], begun["until"]) == ("begun", "sub-bob", w.clock.now() + 30 * MINUTE)
    assert over["action"] == "ended"


async def test_a_broken_glass_ends_by_itself_and_is_one_sessions_alone(w: World) -> None:
    bob, elsewhere = await somebody(w), await somebody(w)
    await say(bob, await bob.visit(AUTH + "/.zt/break-glass"), "The line in hall 3 stands still")
    assert (await bob.visit(HOME + "/secret")).status == 200
    assert (await elsewhere.visit(HOME + "/secret")).status == 403
    await w.lab.advance(29 * MINUTE)
    assert (await bob.visit(HOME + "/secret")).status == 200
    await w.lab.advance(MINUTE)
    assert (await bob.visit(HOME + "/secret")).status == 403


async def test_nobody_else_learns_that_there_is_a_glass(w: World) -> None:
    alice = await somebody(w, "alice")
    assert (await alice.request(AUTH + "/.zt/break-glass")).status == 404
    page = await alice.visit(AUTH + "/.zt/me")
    assert "Break the glass" not in page.text
    form = {"token": page.input("token"), "said": "The line in hall 3 stands still"}
    assert (await alice.submit(page, "/.zt/break-glass", form)).status == 404
    assert (await alice.visit(HOME + "/secret")).status == 403
