"""Proofs for the portal's own pages, further factors, and the way of a small window."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pyotp
import pytest

from tests.lab.authenticator import Authenticator
from tests.lab.portal import APP, LOGIN_COOKIE, NAVIGATION, OTHER, PORTAL, SESSION_COOKIE, Browser, PortalLab
from zt_proxy.control.factors.types import Person
from zt_proxy.core.errors import Reason
from zt_proxy.core.handoff import Purpose, open_handoff
from zt_proxy.core.keys import b64encode
from zt_proxy.core.session import Level, Proof, unlock_key

PORTAL_KEY = unlock_key("", "portal")
DEPLOY = {"purpose": Purpose.REAUTH, "route": "builder", "rule": "deploy", "target": "/deploy", "level": Level.MULTI}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        lab.provider.level = Level.SINGLE
        yield lab


@pytest.fixture
async def phone(lab: PortalLab) -> Authenticator:
    return Authenticator()


@pytest.fixture
async def alice(lab: PortalLab, phone: Authenticator) -> Browser:
    """Signed in with a passkey, some time ago."""
    browser = lab.browser()
    await browser.enrol_and_sign_in(phone)
    lab.clock.advance(600)
    return browser


# the portal's own pages


async def test_a_proof_for_the_portal_is_kept_there_and_unlocks_no_app(
    lab: PortalLab, alice: Browser, phone: Authenticator
) -> None:
    before = alice.cookies(PORTAL)[SESSION_COOKIE]
    answer = await alice.show_passkey("/.zt/confirm?for=me", phone)
    assert answer.text == '{"location":"/.zt/me"}'
    assert alice.cookies(PORTAL)[SESSION_COOKIE] != before
    session = await alice.session(PORTAL)
    assert session is not None
    assert session.proofs == {PORTAL_KEY: Proof(lab.clock.now(), Level.PHISHING_RESISTANT)}


async def test_somebody_without_factors_of_their_own_proves_themselves_at_the_provider(lab: PortalLab) -> None:
    lab.provider.level = Level.MULTI
    browser = lab.browser()
    await browser.sign_in()
    lab.clock.advance(600)
    sent = await browser.get(PORTAL, "/.zt/confirm?for=me")
    assert sent.location.startswith("https://idp.example/")
    assert (lab.provider.asked[-1]["force"], lab.provider.asked[-1]["level"]) == (True, Level.MULTI)
    back = await browser.back(sent.location.partition("state=")[2])
    assert back.location == "/.zt/me"
    session = await browser.session(PORTAL)
    assert session is not None
    assert session.proofs == {PORTAL_KEY: Proof(lab.clock.now(), Level.MULTI)}


async def test_another_person_at_the_provider_proves_nothing_for_the_portal(lab: PortalLab) -> None:
    lab.provider.level = Level.MULTI
    browser = lab.browser()
    await browser.sign_in()
    before = await browser.session(PORTAL)
    sent = await browser.get(PORTAL, "/.zt/confirm?for=me")
    lab.provider.principal = lab.provider.principal.__class__(
        subject="bob", issuer="https://idp.example", provider="corp"
    )
    answer = await browser.back(sent.location.partition("state=")[2])
    assert Reason.LOGIN_OTHER_SUBJECT in answer.text
    assert await browser.session(PORTAL) == before


@pytest.mark.parametrize("query", ["", "for=admin", "to=x", "login=x", "for=me&for=me"])
async def test_a_question_that_nobody_asked_has_no_page(lab: PortalLab, query: str) -> None:
    answer = await lab.browser().get(PORTAL, "/.zt/confirm?" + query)
    assert answer.status == 400
    assert "<form" not in answer.text


@pytest.mark.case("ZT-OIDC-21")
async def test_a_code_without_the_sessions_token_is_refused(alice: Browser) -> None:
    answer = await alice.post("/.zt/confirm/code?for=me", code="123456")
    assert answer.status == 403
    assert Reason.CROSS_ORIGIN in answer.text


# further factors


async def test_a_further_factor_needs_a_proof_as_strong_as_those_there_are(
    lab: PortalLab, alice: Browser, phone: Authenticator
) -> None:
    answer = await alice.get(PORTAL, "/.zt/enrol")
    assert answer.location == "/.zt/confirm?for=enrol"
    await alice.show_passkey(answer.location, phone)
    shown = await alice.get(PORTAL, "/.zt/enrol?kind=totp")
    app = pyotp.TOTP(re.findall(r'class="secret">([^<]+)<', shown.text)[0].replace(" ", ""))
    fields = {name: re.findall(rf'name="{name}" value="([^"]+)"', shown.text)[0] for name in ("token", "pending")}
    wrong = await alice.post("/.zt/enrol/totp", **fields, code="000000")
    assert wrong.status == 401
    assert fields["pending"] in wrong.text
    assert len(await lab.factors.of(who(lab))) == 2
    answer = await alice.post("/.zt/enrol/totp", **fields, code=app.at(int(lab.clock.now())), name="Tablet")
    assert answer.location == "/.zt/me"
    assert [each.name for each in await lab.factors.of(who(lab))].count("Tablet") == 1
    # A code is weaker than the passkey: it adds nothing.
    lab.clock.advance(600)
    other = lab.browser()
    page = await other.to_own_factor()
    query = page.partition("?")[2]
    await other.follow(await other.post(f"/.zt/confirm/code?{query}", code=app.at(int(lab.clock.now()))))
    assert (await other.get(PORTAL, "/.zt/enrol")).location == "/.zt/confirm?for=enrol"
    assert "Code of your" not in (await other.get(PORTAL, "/.zt/confirm?for=enrol")).text


def who(lab: PortalLab) -> Person:
    return Person.of(lab.provider.principal)


async def test_an_old_session_adds_no_factor(lab: PortalLab, alice: Browser) -> None:
    token = await alice.form_token("/.zt/me")
    for answer in (
        await alice.script("/.zt/enrol/options", {}),
        await alice.script("/.zt/enrol/passkey", {"token": "x", "credential": {}}),
        await alice.post("/.zt/enrol/totp", token=token, pending="x", code="123456"),
        await alice.post("/.zt/enrol/codes", token=token),
    ):
        assert answer.status == 401
        assert Reason.ENROLMENT_NOT_FRESH in answer.text


async def test_nobody_enrols_or_confirms_at_an_apps_host(alice: Browser) -> None:
    for path in ("/.zt/enrol", "/.zt/confirm?for=me", "/.zt/portal.js"):
        answer = await alice.get(APP, path)
        assert answer.status == 404


# the small window


async def test_a_small_window_comes_back_to_the_page_that_closes_it(
    lab: PortalLab, alice: Browser, phone: Authenticator
) -> None:
    to = await alice.asked(**DEPLOY, request="POST /flows", kept="form-1")
    out = await alice.get(APP, f"/.zt/step-up?to={quote(to)}&window=1")
    parts = urlsplit(out.location)
    assert parts.netloc == PORTAL
    sealed = unquote(parts.query.partition("to=")[2])
    handoff = open_handoff(lab.worker_ring, sealed, lab.clock.now())
    assert (handoff.window, handoff.target, handoff.kept) == (True, "/.zt/confirmed", "")
    assert (handoff.rule, handoff.request, handoff.level) == ("deploy", "POST /flows", Level.MULTI)
    page = (await alice.get(PORTAL, f"{parts.path}?{parts.query}")).location
    assert 'class="small"' in (await alice.get(PORTAL, page)).text
    back = await alice.on(await alice.show_passkey(page, phone))
    assert back.location == "/.zt/confirmed"
    session = await alice.session()
    assert session is not None
    assert list(session.proofs) == [unlock_key("builder", "deploy", "POST /flows")]


@pytest.mark.case("ZT-REDIR-04")
async def test_a_step_up_of_another_browser_host_or_session_leads_nowhere(lab: PortalLab, alice: Browser) -> None:
    to = await alice.asked(**DEPLOY)
    stranger = lab.browser()
    stranger.cookies(APP)[LOGIN_COOKIE] = b64encode(b"s" * 32)
    elsewhere = await alice.asked(**{**DEPLOY, "host": OTHER, "sid": "s"})
    tampered = to[:-3] + ("AAA" if to[-3:] != "AAA" else "BBB")
    for browser, link in ((stranger, to), (alice, elsewhere), (alice, tampered), (alice, ""), (alice, "https://evil")):
        answer = await browser.get(APP, f"/.zt/step-up?to={quote(link)}&window=1")
        assert answer.status == 400
        assert answer.location == ""
    for link in (tampered, "//evil.example", elsewhere[:-1]):
        answer = await alice.get(PORTAL, "/.zt/confirm?to=" + quote(link))
        assert answer.status == 400
        assert answer.location == ""


async def test_a_background_request_opens_no_step_up(alice: Browser) -> None:
    to = await alice.asked(**DEPLOY)
    headers = {**NAVIGATION, "Sec-Fetch-Mode": "cors"}
    assert (await alice.get(APP, f"/.zt/step-up?to={quote(to)}", headers=headers)).status == 401


async def test_an_expired_hand_off_says_so(lab: PortalLab, alice: Browser) -> None:
    to = await alice.asked(**DEPLOY)
    lab.clock.advance(601)
    answer = await alice.get(PORTAL, "/.zt/confirm?to=" + to)
    assert answer.status == 400
    assert Reason.HANDOFF_INVALID in answer.text
