"""Signing in, over several hosts, tabs and browsers: from a worker's hand-off to the app's own cookie."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.lab.portal import APP, LOGIN_COOKIE, NAVIGATION, ORIGIN, OTHER, PORTAL, SESSION_COOKIE, PortalLab
from zt_proxy.control.identity.types import LoginRefused
from zt_proxy.control.settings import FactorSettings
from zt_proxy.core.errors import ClientError, ProviderError, Reason
from zt_proxy.core.handoff import Purpose
from zt_proxy.core.keys import b64encode
from zt_proxy.core.session import Level, Proof, unlock_key

BACKGROUND = {"Sec-Fetch-Mode": "cors", "Accept": "*/*"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        yield lab


async def test_a_hand_off_leads_through_the_provider_back_to_the_very_page(lab: PortalLab) -> None:
    browser = lab.browser()
    answer = await browser.sign_in(target="/red/?a=1&b=%2F")
    assert (answer.status, answer.location) == (303, "/red/?a=1&b=%2F")
    session = await browser.session()
    assert session is not None
    assert session.principal.subject == "alice"
    assert session.host == APP


@pytest.mark.case("ZT-SESS-02")
async def test_every_cookie_carries_exactly_the_attributes_that_host_prefix_asks_for(lab: PortalLab) -> None:
    browser = lab.browser()
    state = await browser.to_provider()
    at_portal = await browser.back(state)
    at_app = await browser.follow(at_portal)
    lines = [*at_portal.set_cookies, *at_app.set_cookies]
    names = [line.partition("=")[0] for line in lines]
    assert sorted(names) == ["__Host-zt", "__Host-zt", "__Host-zt-device", "__Host-zt-login"]
    for line in lines:
        name, *attributes = re.split(r"[=;] ?", line, maxsplit=1)[0], *line.split("; ")[1:]
        assert name.startswith("__Host-zt")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
        assert "Domain" not in line
        assert len(line) < 4096


@pytest.mark.case("ZT-OIDC-01")
async def test_a_cookie_set_before_the_login_is_not_the_one_after_it(lab: PortalLab) -> None:
    attacker, victim = lab.browser(), lab.browser()
    await attacker.sign_in()
    planted = dict(attacker.cookies(APP))
    lab.provider.principal = lab.provider.principal.__class__(
        subject="bob", issuer="https://idp.example", provider="corp"
    )
    victim.cookies(APP).update(planted)
    await victim.sign_in()
    assert victim.cookies(APP)[SESSION_COOKIE] != planted[SESSION_COOKIE]
    theirs, mine = await attacker.session(), await victim.session()
    assert theirs is None
    assert mine is not None
    assert mine.principal.subject == "bob"


@pytest.mark.case("ZT-OIDC-01")
async def test_a_new_login_in_the_same_browser_ends_the_old_session(lab: PortalLab) -> None:
    browser = lab.browser()
    state = await browser.to_provider()
    await browser.sign_in()
    old = await browser.session()
    lab.clock.advance(10)
    other = lab.browser()
    other.jar = browser.jar
    lab.provider.principal = lab.provider.principal.__class__(
        subject="bob", issuer="https://idp.example", provider="corp"
    )
    await browser.follow(await browser.back(state))
    new = await browser.session()
    assert old is not None
    assert new is not None
    assert old.sid != new.sid
    assert await lab.sessions.record(old.sid) is None


async def test_a_second_host_gets_its_own_cookie_without_asking_the_provider(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    answer = await browser.sign_in(host=OTHER, target="/leads")
    assert answer.location == "/leads"
    assert len(lab.provider.asked) == 1
    first, second = await browser.session(APP), await browser.session(OTHER)
    assert first is not None
    assert second is not None
    assert first.sid == second.sid
    assert browser.cookies(APP)[SESSION_COOKIE] != browser.cookies(OTHER)[SESSION_COOKIE]


async def test_two_tabs_sign_in_at_once_and_both_arrive(lab: PortalLab) -> None:
    browser = lab.browser()
    first, second = await browser.to_provider(target="/a"), await browser.to_provider(target="/b")
    one, two = await browser.back(first), await browser.back(second)
    assert (await browser.follow(one)).location == "/a"
    assert (await browser.follow(two)).location == "/b"
    assert await browser.session() is not None


async def test_a_stale_callback_with_a_live_session_just_goes_home(lab: PortalLab) -> None:
    browser = lab.browser()
    state = await browser.to_provider()
    await browser.follow(await browser.back(state))
    for stale in (state, "unknown"):
        answer = await browser.back(stale)
        assert (answer.status, answer.location) == (303, "/")
    assert await browser.session() is not None


async def test_an_unknown_state_without_a_session_is_a_page_that_says_so(lab: PortalLab) -> None:
    answer = await lab.browser().back("unknown")
    assert answer.status == 400
    assert Reason.LOGIN_STATE_UNKNOWN in answer.text
    assert "Start again" in answer.text


async def test_login_state_of_another_browser_is_refused_and_stays_good_for_its_own(lab: PortalLab) -> None:
    browser, other = lab.browser(), lab.browser()
    state = await browser.to_provider()
    await other.to_provider()
    answer = await other.back(state)
    assert answer.status == 400
    assert Reason.LOGIN_OTHER_BROWSER in answer.text
    assert SESSION_COOKIE not in other.cookies(PORTAL)
    assert (await browser.back(state)).location.startswith(f"https://{APP}/.zt/resume?code=")


async def test_a_callback_without_the_login_cookie_names_the_cookie_as_the_cause(lab: PortalLab) -> None:
    browser = lab.browser()
    state = await browser.to_provider()
    browser.cookies(PORTAL).clear()
    answer = await browser.back(state)
    assert Reason.LOGIN_OTHER_BROWSER in answer.text
    assert "cookies are blocked" in answer.text


async def test_a_state_is_good_once_and_for_ten_minutes(lab: PortalLab) -> None:
    browser = lab.browser()
    state = await browser.to_provider()
    lab.clock.advance(601)
    answer = await browser.back(state)
    assert answer.status == 400
    assert Reason.LOGIN_EXPIRED in answer.text
    assert Reason.LOGIN_STATE_UNKNOWN in (await browser.back(state)).text


async def test_the_flow_has_fresh_secrets_each_time_and_pkce(lab: PortalLab) -> None:
    browser = lab.browser()
    for _ in range(2):
        await browser.to_provider()
    seen = [value for asked in lab.provider.asked for value in (asked["state"], asked["nonce"], asked["verifier"])]
    assert len(set(seen)) == 6
    assert all(len(str(value)) >= 43 for value in seen)


@pytest.mark.case("ZT-OIDC-29")
async def test_pending_logins_are_capped_per_address_and_the_oldest_gives_way(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, pending_logins_per_address=3) as lab:
        browser = lab.browser()
        states = [await browser.to_provider() for _ in range(4)]
        assert Reason.LOGIN_STATE_UNKNOWN in (await browser.back(states[0])).text
        assert (await browser.back(states[1])).status == 303


@pytest.mark.case("ZT-OIDC-29")
async def test_a_flood_from_one_network_does_not_shut_out_another_persons_login(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, pending_logins=20, pending_logins_per_address=15) as lab:
        honest = lab.browser("203.0.113.9")
        state = await honest.to_provider()
        for number in range(60):
            flood = lab.browser(f"2001:db8::{number:x}")
            await flood.to_provider()
        assert (await honest.back(state)).status == 303
        rows = await lab.sessions._store._run(lambda db: db.execute("SELECT COUNT(*) FROM transactions").fetchone())  # type: ignore[attr-defined]
        assert rows[0] <= 20


@pytest.mark.case("ZT-OIDC-29")
async def test_when_everybody_has_one_login_the_next_is_asked_to_wait(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, pending_logins=3) as lab:
        for number in range(3):
            await lab.browser(f"192.0.2.{number}").to_provider()
        late = lab.browser("192.0.2.99")
        answer = await late.get(PORTAL, "/.zt/sign-in?to=" + late.handoff())
        assert answer.status == 429
        assert Reason.LOGIN_TOO_MANY in answer.text
        assert answer.headers["Retry-After"]
        lab.clock.advance(601)
        assert await late.to_provider()


async def test_a_background_request_never_starts_a_login(lab: PortalLab) -> None:
    browser = lab.browser()
    for path in ("/.zt/sign-in?to=" + browser.handoff(), "/", "/.zt/sign-in"):
        answer = await browser.get(PORTAL, path, headers=BACKGROUND)
        assert answer.status == 401
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert answer.set_cookies == []
    assert lab.provider.asked == []


async def test_a_code_is_good_once(lab: PortalLab) -> None:
    browser = lab.browser()
    to_app = await browser.back(await browser.to_provider())
    results = await asyncio.gather(*(browser.follow(to_app) for _ in range(8)))
    assert sum(answer.location == "/red/?a=1" for answer in results) == 1


async def test_a_code_expires_after_a_minute(lab: PortalLab) -> None:
    browser = lab.browser()
    to_app = await browser.back(await browser.to_provider())
    lab.clock.advance(61)
    answer = await browser.follow(to_app)
    assert answer.status == 400
    assert Reason.LOGIN_EXPIRED in answer.text
    assert SESSION_COOKIE not in browser.cookies(APP)


async def test_a_code_in_another_browser_or_without_its_cookie_gives_nothing(lab: PortalLab) -> None:
    for cookies in ({LOGIN_COOKIE: b64encode(b"x" * 32)}, {}):
        browser, thief = lab.browser(), lab.browser()
        to_app = await browser.back(await browser.to_provider())
        thief.cookies(APP).update(cookies)
        answer = await thief.follow(to_app)
        assert answer.status == 400
        assert Reason.LOGIN_OTHER_BROWSER in answer.text
        assert "cookie" in answer.text
        assert SESSION_COOKIE not in thief.cookies(APP)


async def test_a_code_of_a_session_that_ended_on_the_way_gives_nothing(lab: PortalLab) -> None:
    browser = lab.browser()
    to_app = await browser.back(await browser.to_provider())
    session = await browser.session(PORTAL)
    assert session is not None
    await lab.sessions.end(session.sid, "signed-out")
    answer = await browser.follow(to_app)
    assert answer.status == 401
    assert Reason.SESSION_UNKNOWN in answer.text
    assert SESSION_COOKIE not in browser.cookies(APP)


async def test_a_code_at_another_host_gives_nothing(lab: PortalLab) -> None:
    browser = lab.browser()
    browser.handoff(host=OTHER)
    to_app = await browser.back(await browser.to_provider())
    parts = urlsplit(to_app.location)
    answer = await browser.get(OTHER, f"{parts.path}?{parts.query}")
    assert answer.status == 400
    assert SESSION_COOKIE not in browser.cookies(OTHER)


async def test_a_step_up_asks_the_provider_with_force_and_unlocks_one_rule(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    before = await browser.session()
    old = {host: browser.cookies(host)[SESSION_COOKIE] for host in (APP, PORTAL)}
    lab.clock.advance(120)
    asked_at = lab.clock.now()
    answer = await browser.sign_in(
        purpose=Purpose.REAUTH, route="builder", rule="deploy", max_age=300.0, target="/deploy"
    )
    assert answer.location == "/deploy"
    assert lab.provider.asked[-1]["force"] is True
    assert lab.provider.asked[-1]["max_age"] == 0.0
    assert lab.provider.finished[-1]["forced_after"] == asked_at
    after = await browser.session()
    assert before is not None
    assert after is not None
    assert after.sid == before.sid
    assert after.auth_time == before.auth_time
    assert after.absolute_deadline == before.absolute_deadline
    assert after.proofs == {unlock_key("builder", "deploy"): Proof(asked_at, Level.MULTI)}
    for host, cookie in old.items():  # ZT-OIDC-01: the handles before the step-up are dead
        assert browser.cookies(host)[SESSION_COOKIE] != cookie
        browser.cookies(host)[SESSION_COOKIE] = cookie
        assert await browser.session(host) is None


async def test_a_step_up_by_another_person_changes_nothing_and_says_so(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    before = await browser.session()
    state = await browser.to_provider(purpose=Purpose.REAUTH, route="builder", rule="deploy")
    lab.provider.principal = lab.provider.principal.__class__(
        subject="bob", issuer="https://idp.example", provider="corp"
    )
    answer = await browser.back(state)
    assert answer.status == 403
    assert Reason.LOGIN_OTHER_SUBJECT in answer.text
    assert await browser.session() == before


async def test_a_step_up_goes_to_the_provider_of_the_session(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, providers=("corp", "partners")) as lab:
        browser = lab.browser()
        to = browser.handoff()
        page = await browser.get(PORTAL, "/.zt/sign-in?to=" + to)
        assert page.status == 200
        assert "Corp &lt;account&gt;" in page.text
        assert "Partners &lt;account&gt;" in page.text
        sent = await browser.get(PORTAL, f"/.zt/sign-in?with=partners&to={to}")
        await browser.follow(await browser.back(parse_qs(urlsplit(sent.location).query)["state"][0]))
        await browser.to_provider(purpose=Purpose.REAUTH, route="builder", rule="deploy")
        assert len(lab.providers["partners"].asked) == 2
        assert lab.providers["corp"].asked == []


@pytest.mark.parametrize("limit", [{"idle": 300.0}, {"absolute": 300.0}])
async def test_a_route_with_tighter_time_outs_is_not_opened_by_an_older_portal_session(
    lab: PortalLab, limit: dict[str, float]
) -> None:
    browser = lab.browser()
    await browser.sign_in()
    lab.clock.advance(299)
    assert (await browser.sign_in(host=OTHER, **limit)).location == "/red/?a=1"
    assert len(lab.provider.asked) == 1
    lab.clock.advance(301)
    old = await browser.session(OTHER)
    assert (await browser.sign_in(host=OTHER, **limit)).location == "/red/?a=1"
    assert lab.provider.asked[-1]["force"] is True
    new = await browser.session(OTHER)
    assert old is not None
    assert new is not None
    assert new.sid != old.sid
    assert new.created == lab.clock.now()


async def test_a_provider_that_is_not_configured_is_refused(lab: PortalLab) -> None:
    answer = await lab.browser().get(PORTAL, "/.zt/sign-in?with=evil")
    assert answer.status == 400
    assert answer.location == ""


async def test_without_a_second_factor_and_none_of_our_own_there_is_no_session(tmp_path: Path) -> None:
    factors = FactorSettings(rp_id="auth.example.com", origin=ORIGIN, accept=frozenset({"provider"}))
    async with PortalLab(tmp_path, factors=factors) as lab:
        lab.provider.level = Level.SINGLE
        browser = lab.browser()
        answer = await browser.back(await browser.to_provider())
        assert answer.status == 403
        assert Reason.LOGIN_MFA_MISSING in answer.text
        assert SESSION_COOKIE not in browser.cookies(PORTAL)


@pytest.mark.case("ZT-OIDC-24")
async def test_what_the_provider_says_is_shown_as_text(lab: PortalLab) -> None:
    browser = lab.browser()
    state = await browser.to_provider()
    lab.provider.fault = LoginRefused("access_denied", "<script>alert(1)</script> & more")
    answer = await browser.back(state)
    assert answer.status == 403
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in answer.text
    assert "<script" not in answer.text
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
    assert f'href="https://{APP}/red/?a=1"' in answer.text


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (ProviderError(Reason.PROVIDER_UNREACHABLE, "connect to 10.0.0.7 failed"), 502),
        (ClientError(Reason.LOGIN_TOKEN_INVALID, "nonce"), 400),
        (ClientError(Reason.LOGIN_NOT_FRESH, "auth_time", status=403), 403),
    ],
)
async def test_a_fault_of_the_provider_has_its_reason_and_shows_nothing_internal(
    lab: PortalLab, fault: ProviderError, status: int
) -> None:
    browser = lab.browser()
    state = await browser.to_provider()
    lab.provider.fault = fault
    answer = await browser.back(state)
    assert answer.status == status
    assert fault.reason in answer.text
    assert fault.detail not in answer.text
    assert "req-1" in answer.text
    assert SESSION_COOKIE not in browser.cookies(PORTAL)


async def test_a_provider_that_is_down_leaves_no_pending_login_behind(lab: PortalLab) -> None:
    lab.provider.fault = ProviderError(Reason.PROVIDER_UNREACHABLE)
    browser = lab.browser()
    answer = await browser.get(PORTAL, "/.zt/sign-in?to=" + browser.handoff())
    assert answer.status == 502
    rows = await lab.sessions._store._run(lambda db: db.execute("SELECT COUNT(*) FROM transactions").fetchone())  # type: ignore[attr-defined]
    assert rows[0] == 0


async def test_the_third_turn_within_a_minute_is_a_page_that_names_the_causes(lab: PortalLab) -> None:
    browser = lab.browser()
    for _ in range(2):
        await browser.sign_in()
        browser.cookies(APP).pop(SESSION_COOKIE)
        lab.clock.advance(2)
    answer = await browser.get(PORTAL, "/.zt/sign-in?to=" + browser.handoff())
    assert answer.status == 400
    assert Reason.LOGIN_LOOP in answer.text
    assert "clock" in answer.text
    assert "https" in answer.text
    lab.clock.advance(2)
    assert (await browser.sign_in()).location == "/red/?a=1"  # trying again counts anew


async def test_ten_tabs_restored_at_once_are_no_loop(lab: PortalLab) -> None:
    browser = lab.browser()
    handoffs = [browser.handoff(target=f"/tab/{n}", expires=lab.clock.now() + 600 + n / 100) for n in range(10)]
    for n, handoff in enumerate(handoffs):
        lab.clock.advance(0.5)
        answer = await browser.get(PORTAL, "/.zt/sign-in?to=" + handoff)
        if n == 0:
            answer = await browser.back(parse_qs(urlsplit(answer.location).query)["state"][0])
        lab.clock.advance(0.5)
        assert (await browser.follow(answer)).location == f"/tab/{n}"


async def test_three_logins_spread_over_minutes_are_no_loop(lab: PortalLab) -> None:
    browser = lab.browser()
    for _ in range(4):
        assert (await browser.sign_in()).location == "/red/?a=1"
        lab.clock.advance(31)


async def test_a_visit_to_the_portal_signs_in_there(lab: PortalLab) -> None:
    browser = lab.browser()
    page = await browser.get(PORTAL, "/")
    assert page.status == 200
    link = re.search(r'href="(/\.zt/sign-in\?with=corp)"', page.text)
    assert link is not None
    sent = await browser.get(PORTAL, link.group(1))
    home = await browser.back(parse_qs(urlsplit(sent.location).query)["state"][0])
    assert home.location == "/"
    page = await browser.get(PORTAL, "/")
    assert "Alice" in page.text
    assert f'href="https://{APP}/"' in page.text
    assert (await browser.get(PORTAL, "/.zt/sign-in")).location == "/"


async def test_two_session_cookies_count_as_none(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    cookie = browser.cookies(PORTAL)[SESSION_COOKIE]
    stranger = lab.browser()
    twice = {**NAVIGATION, "Cookie": f"{SESSION_COOKIE}={cookie}; {SESSION_COOKIE}={cookie}"}
    page = await stranger.get(PORTAL, "/", headers=twice)
    assert "Alice" not in page.text
