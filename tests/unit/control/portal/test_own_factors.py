"""Signing in and stepping up with factors of one's own, where the provider attests none."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pyotp
import pytest

from tests.lab.authenticator import Authenticator
from tests.lab.portal import (
    APP,
    LOGIN_COOKIE,
    ORIGIN,
    OWN_PAGE,
    PORTAL,
    SESSION_COOKIE,
    Browser,
    PortalLab,
)
from zt_proxy.control.settings import FactorSettings, ProviderSettings
from zt_proxy.core.errors import Reason
from zt_proxy.core.handoff import Purpose
from zt_proxy.core.session import Level, Principal, Proof, unlock_key

BOB = Principal(subject="bob", issuer="https://idp.example", provider="corp", name="Bob")
DEPLOY = {"purpose": Purpose.REAUTH, "route": "builder", "rule": "deploy", "target": "/deploy"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        lab.provider.level = Level.SINGLE
        yield lab


async def signed_in(lab: PortalLab, browser: Browser, device: Authenticator) -> None:
    answer = await browser.enrol_and_sign_in(device)
    assert answer.location == "/red/?a=1", answer.text


async def with_totp(lab: PortalLab, browser: Browser) -> tuple[pyotp.TOTP, list[str]]:
    """Sign in for the first time with an authenticator app; gives it, and the recovery codes."""
    page = await browser.to_own_factor()
    shown = await browser.get(PORTAL, page + "&kind=totp")
    app = pyotp.TOTP(re.findall(r'class="secret">([^<]+)<', shown.text)[0].replace(" ", ""))
    pending = re.findall(r'name="pending" value="([^"]+)"', shown.text)[0]
    query = page.partition("?")[2]
    answer = await browser.post(f"/.zt/enrol/totp?{query}", pending=pending, code=app.at(int(lab.clock.now())))
    codes = re.findall(r"<li><code>([^<]+)</code>", answer.text)
    assert len(codes) == 10, answer.text
    done = await browser.follow(await browser.post(f"/.zt/enrol/done?{query}"))
    assert done.location == "/red/?a=1"
    lab.clock.advance(60)
    return app, codes


# the first sign-in


async def test_the_first_sign_in_enrols_a_passkey_and_goes_on_without_asking_twice(lab: PortalLab) -> None:
    browser, phone = lab.browser(), Authenticator()
    page = await browser.to_own_factor()
    assert page.startswith("/.zt/enrol?login=")
    assert SESSION_COOKIE not in browser.cookies(PORTAL)
    codes = await browser.enrol_passkey(page, phone)
    assert len(re.findall(r"<li><code>", codes.text)) == 10
    assert await browser.session(PORTAL) is None
    answer = await browser.follow(await browser.post("/.zt/enrol/done?" + page.partition("?")[2]))
    assert answer.location == "/red/?a=1"
    session = await browser.session()
    assert session is not None
    assert (session.level, session.mfa, session.auth_time) == (Level.PHISHING_RESISTANT, True, lab.clock.now())
    assert session.amr == ("pwd", "otp", "mfa", "pop")


async def test_the_next_sign_in_asks_for_the_passkey_and_makes_one_session(lab: PortalLab) -> None:
    phone = Authenticator()
    await signed_in(lab, lab.browser(), phone)
    browser = lab.browser()
    page = await browser.to_own_factor()
    assert page.startswith("/.zt/confirm?login=")
    shown = await browser.get(PORTAL, page)
    assert "Use your passkey" in shown.text
    assert APP in shown.text
    answer = await browser.on(await browser.show_passkey(page, phone))
    assert answer.location == "/red/?a=1"
    session = await browser.session()
    assert session is not None
    assert session.level is Level.PHISHING_RESISTANT
    again = await browser.show_passkey(page, phone)
    assert again.status == 400
    assert Reason.LOGIN_STATE_UNKNOWN in again.text


async def test_a_code_of_an_app_and_a_recovery_code_complete_a_sign_in_as_two_factors(lab: PortalLab) -> None:
    app, codes = await with_totp(lab, lab.browser())
    for code in (app.at(int(lab.clock.now())), codes[0]):
        browser = lab.browser()
        page = await browser.to_own_factor()
        answer = await browser.post("/.zt/confirm/code?" + page.partition("?")[2], code=code)
        assert (await browser.follow(answer)).location == "/red/?a=1"
        session = await browser.session()
        assert session is not None
        assert session.level is Level.MULTI


@pytest.mark.case("ZT-SESS-17")
async def test_of_many_who_show_the_same_code_at_once_one_gets_in(lab: PortalLab) -> None:
    app, _ = await with_totp(lab, lab.browser())
    browsers = [lab.browser() for _ in range(8)]
    pages = [await browser.to_own_factor() for browser in browsers]
    code = app.at(int(lab.clock.now()))
    answers = await asyncio.gather(
        *(
            browser.post("/.zt/confirm/code?" + page.partition("?")[2], code=code)
            for browser, page in zip(browsers, pages, strict=True)
        )
    )
    assert sum(answer.status == 303 for answer in answers) == 1
    assert sum(SESSION_COOKIE in browser.cookies(PORTAL) for browser in browsers) == 1


async def test_one_half_of_a_login_answered_twice_at_once_makes_one_session(lab: PortalLab) -> None:
    phone = Authenticator()
    await signed_in(lab, lab.browser(), phone)
    browser = lab.browser()
    page = await browser.to_own_factor()
    before = (await lab.sessions._store.count_sessions(),)
    await asyncio.gather(*(browser.show_passkey(page, phone) for _ in range(6)))
    assert await lab.sessions._store.count_sessions() == before[0] + 1


async def test_a_wrong_code_asks_again_and_the_fifth_ends_the_login(lab: PortalLab) -> None:
    _, codes = await with_totp(lab, lab.browser())
    browser = lab.browser()
    page = await browser.to_own_factor()
    query = page.partition("?")[2]
    for _ in range(4):
        answer = await browser.post(f"/.zt/confirm/code?{query}", code="AAAAA-AAAAA-AAAAA")
        assert answer.status in {401, 429}
        assert "<form" in answer.text
        lab.clock.advance(1)
    await browser.post(f"/.zt/confirm/code?{query}", code="AAAAA-AAAAA-AAAAA")
    lab.clock.advance(400)
    gone = await browser.post(f"/.zt/confirm/code?{query}", code=codes[1])
    assert gone.status in {400, 401}
    assert SESSION_COOKIE not in browser.cookies(PORTAL)


# who may not


async def test_half_a_login_opens_nothing_in_another_browser(lab: PortalLab) -> None:
    phone = Authenticator()
    await signed_in(lab, lab.browser(), phone)
    browser, thief = lab.browser(), lab.browser()
    page = await browser.to_own_factor()
    await thief.to_provider()
    for attempt in (await thief.get(PORTAL, page), await thief.show_passkey(page, phone)):
        assert attempt.status == 400
        assert Reason.LOGIN_OTHER_BROWSER in attempt.text
    assert (await browser.on(await browser.show_passkey(page, phone))).location == "/red/?a=1"


@pytest.mark.case("ZT-OIDC-14")
async def test_half_a_login_cannot_give_itself_a_second_factor(lab: PortalLab) -> None:
    phone, stolen = Authenticator(), Authenticator()
    await signed_in(lab, lab.browser(), phone)
    thief = lab.browser("203.0.113.5")
    page = (await thief.to_own_factor()).replace("confirm", "enrol")
    assert (await thief.get(PORTAL, page)).location.startswith("/.zt/confirm?login=")
    query = page.partition("?")[2]
    for path in ("options", "passkey"):
        answer = await thief.script(f"/.zt/enrol/{path}?{query}", {"token": "x", "credential": {}})
        assert answer.status == 401
        assert Reason.ENROLMENT_NOT_FRESH in answer.text
    for path in ("totp", "codes", "done"):
        answer = await thief.post(f"/.zt/enrol/{path}?{query}", pending="x", code="123456")
        assert answer.status == 401
    stolen.create(
        {"rp": {"id": "auth.example.com"}, "user": {"id": "AAAA"}, "challenge": "AAAA", "pubKeyCredParams": []}, ORIGIN
    )
    assert (await thief.show_passkey(page, stolen, other=True)).status in {401, 404}
    assert SESSION_COOKIE not in thief.cookies(PORTAL)


async def test_half_a_login_without_a_factor_is_not_done(lab: PortalLab) -> None:
    browser = lab.browser()
    page = await browser.to_own_factor()
    for path in ("done", "codes"):
        answer = await browser.post(f"/.zt/enrol/{path}?" + page.partition("?")[2])
        assert answer.status == 401
        assert Reason.ENROLMENT_NOT_FRESH in answer.text
    assert SESSION_COOKIE not in browser.cookies(PORTAL)


async def test_another_persons_passkey_is_refused(lab: PortalLab) -> None:
    phone, other = Authenticator(), Authenticator()
    await signed_in(lab, lab.browser(), phone)
    lab.provider.principal = BOB
    await signed_in(lab, lab.browser(), other)
    browser = lab.browser()
    page = await browser.to_own_factor()
    answer = await browser.show_passkey(page, phone, other=True)
    assert answer.status in {401, 404}
    assert SESSION_COOKIE not in browser.cookies(PORTAL)


@pytest.mark.parametrize(
    "path", ["/.zt/confirm/options", "/.zt/confirm/passkey", "/.zt/enrol/options", "/.zt/enrol/passkey"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": f"https://{APP}", "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {},
    ],
)
async def test_a_foreign_page_reaches_no_endpoint_of_the_script(
    lab: PortalLab, path: str, headers: dict[str, str]
) -> None:
    browser = lab.browser()
    query = (await browser.to_own_factor()).partition("?")[2]
    sent = {**headers, "Content-Type": "application/json"}
    answer = await browser.request("POST", PORTAL, f"{path}?{query}", headers=sent, data="{}")
    assert answer.status == 403
    assert Reason.CROSS_ORIGIN in answer.text


@pytest.mark.parametrize("body", ["", "[]", '{"token":1}', "null", "{" * 2000, "x" * 40_000])
async def test_what_the_script_would_not_send_is_refused(lab: PortalLab, body: str) -> None:
    browser = lab.browser()
    query = (await browser.to_own_factor()).partition("?")[2]
    headers = {**OWN_PAGE, "Content-Type": "application/json"}
    answer = await browser.request("POST", PORTAL, f"/.zt/enrol/passkey?{query}", headers=headers, data=body)
    assert answer.status == (413 if len(body) > 32_768 else 400)


async def test_a_form_is_no_json(lab: PortalLab) -> None:
    browser = lab.browser()
    query = (await browser.to_own_factor()).partition("?")[2]
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {**OWN_PAGE, "Content-Type": kind}
        answer = await browser.request("POST", PORTAL, f"/.zt/enrol/passkey?{query}", headers=headers, data="{}")
        assert answer.status == 400


async def test_a_challenge_for_one_thing_is_no_answer_for_another(lab: PortalLab) -> None:
    phone = Authenticator()
    browser = lab.browser()
    await signed_in(lab, browser, phone)
    to = await browser.asked(**DEPLOY, level=Level.PHISHING_RESISTANT)
    asked = json.loads((await browser.script(f"/.zt/confirm/options?to={quote(to)}", {})).text)
    sent = {"token": asked["token"], "credential": phone.get(asked["options"], ORIGIN)}
    answer = await browser.script("/.zt/confirm/passkey?for=me", sent)
    assert answer.status == 401
    assert Reason.FACTOR_WRONG in answer.text


# what the operator asks for


async def test_a_provider_that_attests_enough_is_not_asked_for_more(lab: PortalLab) -> None:
    lab.provider.level = Level.MULTI
    answer = await lab.browser().sign_in()
    assert answer.location == "/red/?a=1"


async def test_insecure_no_mfa_asks_for_nothing(lab: PortalLab) -> None:
    lab.provider.insecure_no_mfa = True
    browser = lab.browser()
    assert (await browser.sign_in()).location == "/red/?a=1"
    session = await browser.session()
    assert session is not None
    assert (session.level, session.mfa) == (Level.SINGLE, True)


def accepting(*accept: str, **settings: object) -> dict[str, object]:
    return {"factors": FactorSettings(rp_id="auth.example.com", origin=ORIGIN, accept=frozenset(accept), **settings)}  # type: ignore[arg-type]


async def test_a_provider_that_is_not_accepted_proves_one_factor_only(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, **accepting("passkey")) as lab:
        browser = lab.browser()
        page = await browser.to_own_factor()
        assert page.startswith("/.zt/enrol?")
        assert "authenticator app instead" not in (await browser.get(PORTAL, page)).text


async def test_where_only_a_passkey_is_strong_enough_a_code_leads_to_enrolling_one(tmp_path: Path) -> None:
    async with PortalLab(tmp_path) as lab:
        lab.provider.level = Level.SINGLE
        app, _ = await with_totp(lab, lab.browser())
        app_code = app.at(int(lab.clock.now()))
        principal = lab.provider.principal
    async with PortalLab(tmp_path, **accepting("provider", "passkey", "totp", level=Level.PHISHING_RESISTANT)) as lab:
        lab.provider.level, lab.provider.principal = Level.SINGLE, principal
        lab.clock.advance(60)
        browser, phone = lab.browser(), Authenticator()
        page = await browser.to_own_factor()
        query = page.partition("?")[2]
        answer = await browser.post(f"/.zt/confirm/code?{query}", code=app_code)
        assert answer.location == f"/.zt/enrol?{query}", answer.text
        assert SESSION_COOKIE not in browser.cookies(PORTAL)
        assert "authenticator app instead" not in (await browser.get(PORTAL, answer.location)).text
        done = await browser.enrol_passkey(answer.location, phone)
        assert (await browser.follow(done)).location == "/red/?a=1"
        session = await browser.session()
        assert session is not None
        assert session.level is Level.PHISHING_RESISTANT


async def test_where_an_administrator_permits_enrolment_the_page_says_whom_to_ask(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, **accepting("provider", "passkey", enrolment="grant")) as lab:
        lab.provider.level = Level.SINGLE
        browser = lab.browser()
        page = await browser.to_own_factor()
        answer = await browser.get(PORTAL, page)
        assert answer.status == 403
        assert Reason.ENROLMENT_NOT_GRANTED in answer.text
        assert "administrator" in answer.text
        await lab.factors.grant("alice@example.com", lab.clock.now() + 3600)
        assert (await browser.get(PORTAL, page)).status == 200
        assert (await browser.enrol_passkey(page, Authenticator())).status == 200


# step-up


@pytest.mark.case("ZT-SESS-18")
async def test_a_step_up_by_passkey_unlocks_one_rule_of_one_session(lab: PortalLab) -> None:
    browser, phone = lab.browser(), Authenticator()
    await signed_in(lab, browser, phone)
    before = await browser.session()
    asked = len(lab.provider.asked)
    lab.clock.advance(100)
    to = await browser.asked(**DEPLOY, level=Level.PHISHING_RESISTANT)
    answer = await browser.get(PORTAL, "/.zt/sign-in?to=" + to)
    assert answer.location.startswith("/.zt/confirm?to=")
    shown = await browser.get(PORTAL, answer.location)
    assert "deploy" in shown.text
    assert APP in shown.text
    assert "Code of your" not in shown.text
    back = await browser.on(await browser.show_passkey(answer.location, phone))
    assert back.location == "/deploy"
    after = await browser.session()
    assert before is not None
    assert after is not None
    assert (after.sid, after.auth_time) == (before.sid, before.auth_time)
    assert after.proofs == {unlock_key("builder", "deploy"): Proof(lab.clock.now(), Level.PHISHING_RESISTANT)}
    assert len(lab.provider.asked) == asked


async def test_a_step_up_that_is_good_once_names_its_request(lab: PortalLab) -> None:
    browser, phone = lab.browser(), Authenticator()
    await signed_in(lab, browser, phone)
    to = await browser.asked(**DEPLOY, level=Level.MULTI, request="POST /flows")
    page = (await browser.get(PORTAL, "/.zt/sign-in?to=" + to)).location
    assert "POST /flows" in (await browser.get(PORTAL, page)).text
    await browser.on(await browser.show_passkey(page, phone))
    session = await browser.session()
    assert session is not None
    key = unlock_key("builder", "deploy", "POST /flows")
    assert list(session.proofs) == [key]
    assert await lab.sessions.spend(session.sid, key)
    assert not await lab.sessions.spend(session.sid, key)


@pytest.mark.case("ZT-APP-02")
async def test_a_proof_for_one_rule_is_none_for_another(lab: PortalLab) -> None:
    browser, phone = lab.browser(), Authenticator()
    await signed_in(lab, browser, phone)
    to = await browser.asked(**DEPLOY, level=Level.MULTI)
    await browser.on(await browser.show_passkey("/.zt/confirm?to=" + to, phone))
    session = await browser.session()
    assert session is not None
    assert unlock_key("builder", "delete") not in session.proofs
    assert unlock_key("crm", "deploy") not in session.proofs
    assert unlock_key("", "portal") not in session.proofs


@pytest.mark.case("ZT-SESS-18")
async def test_a_proof_counts_in_no_other_browser(lab: PortalLab) -> None:
    victim, attacker, phone = lab.browser(), lab.browser(), Authenticator()
    await signed_in(lab, victim, phone)
    lab.provider.principal = BOB
    await signed_in(lab, attacker, Authenticator())
    to = await attacker.asked(**DEPLOY, level=Level.MULTI)
    # The victim follows the attacker's link: the session there is not theirs.
    assert (await victim.get(PORTAL, "/.zt/confirm?to=" + to)).status == 401
    assert (await victim.script("/.zt/confirm/options?to=" + to, {})).status == 401
    # The attacker has the victim's link, and even the victim's code.
    to = await victim.asked(**DEPLOY, level=Level.MULTI)
    code = json.loads((await victim.show_passkey("/.zt/confirm?to=" + to, phone)).text)["location"]
    attacker.cookies(APP)[LOGIN_COOKIE] = victim.cookies(APP)[LOGIN_COOKIE]
    answer = await attacker.get(APP, "/.zt/resume" + code.partition("/.zt/resume")[2])
    assert answer.status == 403
    assert Reason.LOGIN_OTHER_BROWSER in answer.text
    for browser in (victim, attacker):
        session = await browser.session()
        assert session is not None
        assert session.proofs == {}


async def test_a_step_up_by_way_of_the_provider_still_needs_the_own_factor(lab: PortalLab) -> None:
    browser, phone = lab.browser(), Authenticator()
    await signed_in(lab, browser, phone)
    lab.clock.advance(100)
    browser.cookies(PORTAL).pop(SESSION_COOKIE)
    page = await browser.to_own_factor(**DEPLOY, level=Level.PHISHING_RESISTANT)
    assert page.startswith("/.zt/confirm?login=")
    assert lab.provider.asked[-1]["force"] is False
    assert (await browser.on(await browser.show_passkey(page, phone))).location == "/deploy"
    session = await browser.session()
    assert session is not None
    assert session.proofs == {unlock_key("builder", "deploy"): Proof(lab.clock.now(), Level.PHISHING_RESISTANT)}


async def test_a_provider_that_was_not_asked_for_a_fresh_proof_has_not_stepped_up(lab: PortalLab) -> None:
    browser, phone = lab.browser(), Authenticator()
    await signed_in(lab, browser, phone)
    lab.provider.level = Level.MULTI
    browser.cookies(PORTAL).pop(SESSION_COOKIE)
    page = await browser.to_own_factor(**DEPLOY, level=Level.MULTI)
    assert page.startswith("/.zt/confirm?login=")


async def test_stepping_up_as_another_person_is_refused_and_says_whose_session_it_is(lab: PortalLab) -> None:
    browser = lab.browser()
    await signed_in(lab, browser, Authenticator())
    before = await browser.session()
    browser.cookies(PORTAL).pop(SESSION_COOKIE)
    lab.provider.principal = BOB
    answer = await browser.back(await browser.to_provider(**DEPLOY, level=Level.MULTI))
    assert answer.status == 403
    assert Reason.LOGIN_OTHER_SUBJECT in answer.text
    assert "belongs to Alice" in answer.text
    assert "Bob answered" in answer.text
    assert await browser.session() == before


async def test_a_step_up_for_a_session_that_is_over_becomes_a_sign_in(lab: PortalLab) -> None:
    browser, phone = lab.browser(), Authenticator()
    await signed_in(lab, browser, phone)
    to = await browser.asked(**DEPLOY, level=Level.MULTI)
    session = await browser.session()
    assert session is not None
    await lab.sessions.end(session.sid, "signed-out")
    answer = await browser.get(PORTAL, "/.zt/sign-in?to=" + to)
    page = (await browser.back(answer.location.partition("state=")[2])).location
    assert (await browser.on(await browser.show_passkey(page, phone))).location == "/deploy"
    new = await browser.session()
    assert new is not None
    assert new.sid != session.sid
    assert new.proofs == {}


async def test_step_ups_are_no_loop(lab: PortalLab) -> None:
    browser, phone = lab.browser(), Authenticator()
    await signed_in(lab, browser, phone)
    for _ in range(6):
        lab.clock.advance(1)
        to = await browser.asked(**DEPLOY, level=Level.MULTI)
        assert (await browser.on(await browser.show_passkey("/.zt/confirm?to=" + to, phone))).location == "/deploy"
    assert (await browser.sign_in()).location == "/red/?a=1"


async def test_the_company_account_is_offered_where_it_can_prove_as_much(tmp_path: Path) -> None:
    corp = ProviderSettings("corp", "Corp", "https://idp.example", "zt", None, acr={"phr": Level.PHISHING_RESISTANT})
    for number, (configured, offered) in enumerate((((corp,), True), ((), False))):
        async with PortalLab(tmp_path / str(number), configured=configured) as lab:
            lab.provider.level = Level.SINGLE
            browser, phone = lab.browser(), Authenticator()
            await signed_in(lab, browser, phone)
            to = await browser.asked(**DEPLOY, level=Level.MULTI)
            page = await browser.get(PORTAL, "/.zt/confirm?to=" + to)
            assert ("company account" in page.text) == offered
