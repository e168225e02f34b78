"""What people are asked besides proofs: that it counts where it was asked, for whom, and never unrecorded."""

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.lab.portal import APP, NAVIGATION, ORIGIN, OTHER, OWN_PAGE, PORTAL, Answer, Browser, PortalLab
from tests.lab.smtp import SmtpServer
from zt_proxy.control.approvals import manager
from zt_proxy.control.settings import AppHost, ApprovalSettings, BreakGlassSettings, MailSettings, MailTls
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.handoff import Purpose
from zt_proxy.core.session import Principal
from zt_proxy.policy.engine import BREAK_GLASS
from zt_proxy.policy.spec import Approve

NAMED = Approve(users=("carol@example.com",), groups=("leads",), valid=3_600.0)
KEY = "builder\x1fdeploy"
WHY = "Ticket 4711 asks for it"
SETTINGS: dict[str, Any] = {
    "approvals": (ApprovalSettings("builder", "deploy", NAMED),),
    "break_glass": BreakGlassSettings(("alice",), 1_800.0),
}


def lab_at(folder: Path, **more: Any) -> PortalLab:
    return PortalLab(folder, **{**SETTINGS, **more})


async def signed_in(lab: PortalLab, subject: str, *groups: str, email: str | None = "", **more: Any) -> Browser:
    mail = f"{subject}@example.com" if email == "" else email
    values = {"issuer": "https://idp.example", "provider": "corp", "name": subject.title(), **more}
    lab.provider.principal = Principal(subject=subject, email=mail, groups=frozenset(groups), **values)
    browser = lab.browser()
    await browser.sign_in()
    return browser


async def asked(browser: Browser, ask: str, **more: Any) -> str:
    """The hand-off that a worker sends this browser to the portal with."""
    values = {"route": "builder", "rule": "deploy", "method": "POST", "path": "/flows", "action": "deploy", **more}
    return await browser.asked(purpose=Purpose.REAUTH, ask=ask, **values)


async def request(browser: Browser, said: str = "") -> str:
    """Ask for an approval; gives the id of the request."""
    to = await asked(browser, "approve")
    page = f"/.zt/approval?to={to}"
    answer = await browser.post(page, token=await browser.form_token(page), said=said)
    assert answer.status == 303, answer.text
    assert answer.location.startswith("/.zt/approval?id="), answer.location
    return answer.location.partition("id=")[2].partition("&")[0]


async def decide(browser: Browser, id: str, answer: str = "approve") -> Answer:
    token = await browser.form_token("/.zt/sign-out")
    return await browser.post("/.zt/approvals", token=token, id=id, answer=answer)


async def shown(browser: Browser) -> list[str]:
    """Ids of the requests that somebody may decide."""
    text = (await browser.get(PORTAL, "/.zt/approvals")).text
    return re.findall(r'name="id" value="([^"]+)"', text)


# ---- why


async def test_what_was_said_counts_once_the_code_is_at_the_apps_host(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        page = f"/.zt/why?to={await asked(alice, 'justify')}"
        went = await alice.post(page, token=await alice.form_token(page), said=f"  {WHY}\r\n and\tmore ")
        session = await alice.session()
        assert session is not None
        assert session.justified == {}, "the app's host has not seen it"
        assert (await alice.follow(went)).location == "/red/?a=1"
        session = await alice.session()
        assert session is not None
        assert session.justified == {KEY: f"{WHY} and more"}
        assert lab.changes[-1].reason == "unlocked"
        assert next(line for line in lab.lines if line["type"] == "justified")["justification"] == f"{WHY} and more"
        assert (await alice.follow(went)).status in {303, 400}, "a code is good once"


async def test_nothing_counts_that_is_not_on_record(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice, carol = await signed_in(lab, "alice"), await signed_in(lab, "carol")
        id_ = await request(alice)
        page = f"/.zt/why?to={await asked(alice, 'justify')}"
        went = await alice.post(page, token=await alice.form_token(page), said=WHY)
        lab.record_fault = UnavailableError(Reason.RECORD_UNAVAILABLE, "full")
        assert (await alice.follow(went)).status == 503
        assert (await decide(carol, id_)).status == 503
        glass = await alice.post("/.zt/break-glass", token=await alice.form_token("/.zt/break-glass"), said=WHY)
        assert glass.status == 503
        session = await alice.session()
        assert session is not None
        assert (session.justified, session.approved, session.break_glass) == ({}, {}, 0.0)
        lab.record_fault = None
        assert await shown(carol) == [id_]


async def test_a_form_of_another_page_says_nothing(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        other = await signed_in(lab, "alice")
        for ask, path in (("justify", "why"), ("approve", "approval")):
            page = f"/.zt/{path}?to={await asked(alice, ask)}"
            token = await alice.form_token(page)
            assert token
            assert (await alice.post(page, token="", said=WHY)).status == 403
            assert (await alice.post(page, token=await other.form_token("/.zt/me"), said=WHY)).status == 403
            foreign = {**NAVIGATION, **OWN_PAGE, "Content-Type": "application/x-www-form-urlencoded"}
            foreign |= {"Sec-Fetch-Site": "same-site", "Origin": f"https://{APP}"}
            answer = await alice.request("POST", PORTAL, page, headers=foreign, data=f"token={token}&said={WHY}")
            assert answer.status == 403
            assert (await other.get(PORTAL, page)).status == 401, "the session of another browser"
            assert (await other.post(page, token=await other.form_token("/.zt/me"), said=WHY)).status == 401
        assert lab.approvals.of_session((await alice.session()).sid) == ()  # type: ignore[union-attr]


@pytest.mark.case("ZT-APP-01")
async def test_none_of_these_places_exists_at_an_apps_host(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        for path in ("why", "approval", "approvals", "break-glass"):
            for method in ("GET", "POST"):
                headers = {**NAVIGATION, "Sec-Fetch-Site": "same-origin", "Origin": f"https://{APP}"}
                answer = await alice.request(method, APP, f"/.zt/{path}", headers=headers)
                assert (answer.status, "path-unknown" in answer.text) == (404, True)


async def test_a_background_request_opens_none_of_these_pages(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        script = {"Sec-Fetch-Mode": "cors", "Accept": "*/*"}
        for ask, path in (("justify", "why"), ("approve", "approval")):
            answer = await alice.get(PORTAL, f"/.zt/{path}?to={await asked(alice, ask)}", headers=script)
            assert answer.status == 401


async def test_who_came_through_the_provider_to_answer_can_answer_and_nothing_else(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        alice.jar.pop(PORTAL)
        sent = await alice.get(PORTAL, f"/.zt/sign-in?to={await asked(alice, 'justify')}")
        page = (await alice.back(sent.location.partition("state=")[2])).location
        assert page.startswith("/.zt/why?login=")
        login = page.partition("?")[2]
        for place in ("confirm", "enrol", "approval"):
            answer = await alice.get(PORTAL, f"/.zt/{place}?{login}")
            assert (answer.status, "handoff-invalid" in answer.text) == (400, True), place
        assert (await alice.post(f"/.zt/confirm/code?{login}", code="123456")).status == 400
        assert (await alice.post(f"/.zt/enrol/done?{login}")).status == 400
        assert await alice.session(PORTAL) is None, "it is no sign-in"
        other = lab.browser()
        assert (await other.get(PORTAL, page)).status == 400, "the browser that came back alone"
        assert (await alice.follow(await alice.post(page, said=WHY))).location == "/red/?a=1"
        assert (await alice.post(page, said=WHY)).status == 400, "once"


async def test_another_person_at_the_provider_answers_for_nobody(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        alice.jar.pop(PORTAL)
        sent = await alice.get(PORTAL, f"/.zt/sign-in?to={await asked(alice, 'justify')}")
        lab.provider.principal = Principal("bob", "https://idp.example", "corp", email="bob@example.com")
        answer = await alice.back(sent.location.partition("state=")[2])
        assert (answer.status, "login-other-subject" in answer.text) == (403, True)


# ---- who may agree


@pytest.mark.parametrize(
    ("who", "groups", "more", "may"),
    [
        ("carol", (), {}, True),
        ("dave", ("leads",), {}, True),
        ("dave", ("leads", "staff"), {"email": None}, True),
        ("dave", ("staff",), {}, False),
        ("dave", ("Leads",), {}, False),
        ("mallory", (), {"email": None, "name": "carol@example.com"}, False),
        ("alice", ("leads",), {}, False),
        ("alice", ("leads",), {"issuer": "https://other.example"}, False),
        ("dave", ("leads",), {"email": "ALICE@example.com"}, False),
        ("alice@example.com", ("leads",), {"email": None}, False),
    ],
)
async def test_those_may_agree_whom_the_rule_names_and_never_the_same_person(
    tmp_path: Path, who: str, groups: tuple[str, ...], more: dict[str, Any], may: bool
) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        id_ = await request(alice)
        other = await signed_in(lab, who, *groups, **more)
        assert (await shown(other) == [id_]) == may
        answer = await decide(other, id_)
        assert (answer.status == 303) == may
        assert may or "approval-unknown" in answer.text
        session = await alice.session()
        assert session is not None
        assert (KEY in session.approved) == may


async def test_an_approval_is_of_the_session_that_asked_for_as_long_as_the_rule_says(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice, again = await signed_in(lab, "alice"), await signed_in(lab, "alice")
        carol = await signed_in(lab, "carol")
        id_ = await request(alice)
        assert (await decide(carol, id_)).status == 303
        session, elsewhere = await alice.session(), await again.session()
        assert session is not None
        assert elsewhere is not None
        assert session.approved[KEY].until == lab.clock.now() + 3_600.0
        assert (session.approved[KEY].by, elsewhere.approved) == ("carol@example.com", {})
        assert (await decide(carol, id_)).status == 404, "once"
        went = await alice.get(PORTAL, f"/.zt/approval?id={id_}")
        assert (await alice.follow(went)).location == "/red/?a=1"
        assert (await again.get(PORTAL, f"/.zt/approval?id={id_}")).status == 404


async def test_who_is_locked_agrees_to_nothing_and_breaks_no_glass(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice, carol = await signed_in(lab, "alice"), await signed_in(lab, "carol")
        id_ = await request(alice)
        lab.locked |= {"carol", "alice"}
        assert await shown(carol) == []
        answer = await decide(carol, id_)
        assert (answer.status, "locked" in answer.text) == (403, True)
        token = await alice.form_token("/.zt/sign-out")
        assert (await alice.post("/.zt/break-glass", token=token, said=WHY)).status == 403
        lab.locked.clear()
        assert (await decide(carol, id_)).status == 303


async def test_people_of_another_provider_than_the_routes_agree_to_nothing(tmp_path: Path) -> None:
    apps = {
        APP: AppHost(APP, f"https://{APP}", ("builder",), {"builder": "corp"}),
        OTHER: AppHost(OTHER, f"https://{OTHER}", ("crm",)),
    }
    async with lab_at(tmp_path, apps=apps, providers=("corp", "guests")) as lab:
        lab.provider = lab.providers["corp"]
        alice = lab.browser()
        page = await alice.get(PORTAL, "/.zt/sign-in?with=corp&to=" + await alice.asked())
        await alice.follow(await alice.back(page.location.partition("state=")[2]))
        id_ = await request(alice)
        lab.providers["guests"].principal = Principal(
            "carol", "https://guests.example", "guests", email="carol@example.com", groups=frozenset({"leads"})
        )
        guest = lab.browser()
        page = await guest.get(PORTAL, "/.zt/sign-in?with=guests")
        await guest.back(page.location.partition("state=")[2])
        assert (await guest.get(PORTAL, "/.zt/approvals")).status == 200
        assert await shown(guest) == []
        assert (await decide(guest, id_)).status == 404


async def test_another_providers_subject_is_nobodys_address(tmp_path: Path) -> None:
    settings = {"break_glass": BreakGlassSettings(("carol@example.com",), 60.0), "providers": ("corp", "guests")}
    async with lab_at(tmp_path, **settings) as lab:
        alice = lab.browser()
        page = await alice.get(PORTAL, "/.zt/sign-in?with=corp&to=" + await alice.asked())
        await alice.follow(await alice.back(page.location.partition("state=")[2]))
        id_ = await request(alice)
        for email, may in ((None, False), ("carol@example.com", True)):
            lab.providers["guests"].principal = Principal(
                "carol@example.com", "https://guests.example", "guests", email=email
            )
            guest = lab.browser()
            page = await guest.get(PORTAL, "/.zt/sign-in?with=guests")
            await guest.back(page.location.partition("state=")[2])
            assert (await shown(guest) == [id_]) == may
            assert ((await guest.get(PORTAL, "/.zt/break-glass")).status == 200) == may


async def test_a_decision_needs_a_proof_of_just_now(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice, carol = await signed_in(lab, "alice"), await signed_in(lab, "carol")
        id_ = await request(alice)
        lab.clock.advance(301.0)
        answer = await decide(carol, id_)
        assert (answer.status, answer.location) == (303, "/.zt/confirm?for=approvals")
        assert 'name="id"' not in (await carol.get(PORTAL, "/.zt/approvals")).text
        token = await alice.form_token("/.zt/break-glass")
        broken = await alice.post("/.zt/break-glass", token=token or await alice.form_token("/.zt/me"), said=WHY)
        assert broken.location == "/.zt/confirm?for=break-glass"
        session = await alice.session()
        assert session is not None
        assert (session.approved, session.break_glass) == ({}, 0.0)


async def test_of_two_who_decide_at_once_one_does(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        carol, dave = await signed_in(lab, "carol"), await signed_in(lab, "dave", "leads")
        id_ = await request(alice)
        answers = await asyncio.gather(decide(carol, id_), decide(dave, id_, "refuse"))
        assert sorted(answer.status for answer in answers) == [303, 404]
        assert len([line for line in lab.lines if line["type"] == "approval"]) == 2


# ---- requests


async def test_a_request_is_one_however_often_it_is_made(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        id_ = await request(alice, "first of all")
        page = f"/.zt/approval?to={await asked(alice, 'approve')}"
        found = await alice.get(PORTAL, page)
        assert (found.status, found.location.partition("&")[0]) == (303, f"/.zt/approval?id={id_}")
        token = await alice.form_token(f"/.zt/approval?id={id_}") or await alice.form_token("/.zt/me")
        assert (await alice.post(page, token=token, said="second of all")).location.startswith(
            f"/.zt/approval?id={id_}&"
        )


async def test_a_person_comes_back_to_where_they_came_from_last(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice, carol = await signed_in(lab, "alice"), await signed_in(lab, "carol")
        id_ = await request(alice)
        window = f"/.zt/approval?to={await asked(alice, 'approve', window=True, target='/.zt/confirmed')}"
        waits = (await alice.get(PORTAL, window)).location
        other = await asked(alice, "approve", rule="other", target="/other")
        assert (await decide(carol, id_)).status == 303
        assert (await alice.follow(await alice.get(PORTAL, waits))).location == "/.zt/confirmed"
        for address in (
            f"/.zt/approval?id={id_}",
            f"/.zt/approval?id={id_}&to={other}",
            f"/.zt/approval?id={id_}&to=x",
        ):
            assert (await alice.follow(await alice.get(PORTAL, address))).location == "/red/?a=1"
        lab.clock.advance(601.0)
        assert (await alice.follow(await alice.get(PORTAL, waits))).location == "/red/?a=1", "an old one leads nowhere"


async def test_requests_survive_a_restart_and_what_was_agreed_does(tmp_path: Path) -> None:
    async with lab_at(tmp_path, port=0) as lab:
        alice, carol = await signed_in(lab, "alice"), await signed_in(lab, "carol")
        id_ = await request(alice, "before the restart")
        jars = alice.jar, carol.jar
    again = lab_at(tmp_path)
    async with again:
        alice, carol = again.browser(), again.browser()
        alice.jar, carol.jar = jars
        assert await shown(carol) == [id_]
        assert (await decide(carol, id_)).status == 303
    last = lab_at(tmp_path)
    async with last:
        alice.lab = last
        session = await alice.session()
        assert session is not None
        assert session.approved[KEY].by == "carol@example.com"


async def test_what_is_kept_of_a_request_tells_nobody_who_finds_the_file(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        await request(alice, "the words of somebody")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("approvals.db*"))
    assert kept
    for told in (b"alice", b"words of", b"deploy", b"/flows"):
        assert told not in kept


async def test_requests_are_bounded_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "EACH", 1)
    rules = tuple(ApprovalSettings("builder", rule, NAMED) for rule in ("deploy", "other"))
    async with lab_at(tmp_path, approvals=rules) as lab:
        alice, carol = await signed_in(lab, "alice"), await signed_in(lab, "carol")
        await request(alice)
        page = f"/.zt/approval?to={await asked(alice, 'approve', rule='other')}"
        answer = await alice.post(page, token=await alice.form_token(page), said="")
        assert (answer.status, "too-many-requests" in answer.text) == (429, True)
        assert len(await shown(carol)) == 1
        session = await alice.session()
        assert session is not None
        await lab.sessions.end(session.sid, "signed-out")
        await lab.approvals.sweep()
        assert await shown(carol) == []
        assert [line["action"] for line in lab.lines if line["type"] == "approval"] == ["asked", "expired"]


async def test_a_window_that_waits_keeps_no_session_alive(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice = await signed_in(lab, "alice")
        id_ = await request(alice)
        for _ in range(3):
            lab.clock.advance(400.0)
            last = await alice.get(PORTAL, f"/.zt/approval?id={id_}")
        assert (last.status, "login-required" in last.text) == (401, True)
        assert await alice.session() is None


async def test_those_named_by_address_get_a_letter_once_and_none_of_the_words(tmp_path: Path) -> None:
    async with SmtpServer() as server:
        mail = MailSettings("127.0.0.1", server.port, "zt@example.com", MailTls.INSECURE_NONE)
        named = Approve(users=("carol@example.com", "alice@example.com", "dave"), groups=("leads",))
        rules = (ApprovalSettings("builder", "deploy", named),)
        async with lab_at(tmp_path, mail=mail, approvals=rules) as lab:
            alice = await signed_in(lab, "alice")
            await request(alice, "click https://evil.example now")
            await request_again(alice)
            message = await server.received()
            body = message.get_body(("plain",))
            assert body is not None
            text = body.get_content()
            assert [to for _, to in server.envelopes] == [("carol@example.com",)]
            assert f"{ORIGIN}/.zt/approvals" in text
            assert "alice@example.com wants to do something at flows.example.com:8443" in text
            assert "evil" not in text
            assert "evil" not in message.as_string()


async def request_again(browser: Browser) -> None:
    page = f"/.zt/approval?to={await asked(browser, 'approve')}"
    answer = await browser.post(page, token=await browser.form_token("/.zt/me"), said="")
    assert answer.status == 303


async def test_the_waiting_page_runs_no_script_and_says_nothing_as_markup(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice, carol = await signed_in(lab, "alice"), await signed_in(lab, "carol")
        to = await asked(alice, "approve", object="flow:<script>alert(1)</script>", path="/<b>")
        page = f"/.zt/approval?to={to}"
        await alice.post(page, token=await alice.form_token(page), said="<img src=x onerror=alert(1)>")
        for browser, place in ((alice, page), (carol, "/.zt/approvals")):
            answer = await browser.get(PORTAL, place)
            if answer.status == 303:
                answer = await browser.get(PORTAL, answer.location)
            assert "<img" not in answer.text
            assert "<script>alert" not in answer.text
            assert "&lt;img src=x" in answer.text
            assert "script-src" not in answer.headers["Content-Security-Policy"]
            assert urlsplit(ORIGIN).netloc in answer.text


async def test_the_broken_glass_lasts_as_long_as_configured_and_never_beyond_four_hours(tmp_path: Path) -> None:
    async with lab_at(tmp_path, break_glass=BreakGlassSettings(("alice@example.com",), 90_000.0)) as lab:
        alice = await signed_in(lab, "alice")
        token = await alice.form_token("/.zt/break-glass")
        assert (await alice.post("/.zt/break-glass", token=token, said="too short")).status == 400
        assert (await alice.post("/.zt/break-glass", token=token, said=WHY)).location == "/.zt/me"
        session = await alice.session()
        assert session is not None
        assert session.break_glass == lab.clock.now() + 4 * 3_600.0
        assert session.justified[BREAK_GLASS] == WHY
        (alarm,) = lab.alarms
        assert (alarm.kind, alarm.severity, alarm.facts.sid) == ("break-glass", "high", session.sid)
        assert alarm.summary == f"alice@example.com broke the glass: {WHY}"
        assert "You broke the glass" in (await alice.get(PORTAL, "/.zt/me")).text
        bob = await signed_in(lab, "bob")
        assert (await bob.get(PORTAL, "/.zt/break-glass")).status == 404
