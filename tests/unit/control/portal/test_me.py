"""What a person sees and controls of themselves, and that nobody does so for them."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.lab.authenticator import Authenticator
from tests.lab.portal import APP, NAVIGATION, OTHER, OWN_PAGE, PORTAL, Answer, Browser, PortalLab
from zt_proxy.control.factors.types import Factor, FactorKind, Person
from zt_proxy.control.settings import SessionSettings
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.session import Level, Principal

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
ACTS = ("end", "end-all", "device", "rename", "remove", "codes")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        yield lab


def be(lab: PortalLab, subject: str, **more: Any) -> None:
    """Whoever signs in next."""
    lab.provider.principal = Principal(
        subject=subject, issuer="https://idp.example", provider="corp", name=subject.capitalize(), **more
    )


async def signed_in(lab: PortalLab, subject: str = "alice", address: str = "192.0.2.7", **more: Any) -> Browser:
    be(lab, subject, **more)
    browser = lab.browser(address)
    await browser.sign_in()
    return browser


async def me(browser: Browser) -> str:
    answer = await browser.get(PORTAL, "/.zt/me", headers={**NAVIGATION, "User-Agent": FIREFOX})
    assert answer.status == 200, answer.text
    return html.unescape(answer.text)


def token(text: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', text)
    assert found is not None
    return found.group(1)


def sids(text: str) -> list[str]:
    return re.findall(r'name="sid" value="([^"]+)"', text)


async def act(browser: Browser, path: str, **form: str) -> Answer:
    return await browser.post(f"/.zt/me/{path}", token=token(await me(browser)), **form)


def person(subject: str = "alice") -> Person:
    return Person("https://idp.example", subject)


# ---- what is shown ----


async def test_a_person_sees_who_they_are_how_proved_and_until_when(lab: PortalLab) -> None:
    browser = await signed_in(lab, email="alice@example.com", groups=frozenset({"staff", "makers"}))
    lab.clock.advance(130)
    text = await me(browser)
    for said in (
        "Alice",
        "alice@example.com",
        "Corp <account>",
        "makers, staff",
        "with two factors",
        "2 min ago",
        "password, one-time code",
        "in 11 h 58 min",
        "in 15 min",
        '<time datetime="2027-01-15T20:00:00Z"',
    ):
        assert said in text, said


async def test_a_person_sees_every_session_with_its_device_address_and_hosts(lab: PortalLab) -> None:
    first = lab.browser("198.51.100.9")
    be(lab, "alice")
    await first.sign_in()
    await first.sign_in(host=OTHER)
    lab.clock.advance(600)
    second = await signed_in(lab, address="192.0.2.7")
    text = await me(second)
    here, other = text.index("192.0.2.7"), text.index("198.51.100.9")
    assert here < other, "this one first"
    assert text.count("this browser") == 1
    assert "builder, crm" in text
    assert "since <time" in text
    assert "10 min ago" in text
    assert len(sids(text)) == 2


async def test_somebody_elses_sessions_and_devices_are_not_there(lab: PortalLab) -> None:
    await signed_in(lab, "bob", "203.0.113.1")
    alice = await signed_in(lab, "alice")
    text = await me(alice)
    assert len(sids(text)) == 1
    assert "203.0.113.1" not in text
    assert "Bob" not in text


@pytest.mark.case("ZT-ADMIN-03")
async def test_what_a_provider_or_a_browser_says_is_shown_as_text(lab: PortalLab) -> None:
    evil = '<img src=x onerror=alert(1)>"'
    be(lab, "alice", email=None, groups=frozenset({evil}))
    lab.provider.principal = Principal("alice", "https://idp.example", "corp", name=evil, groups=frozenset({evil}))
    browser = lab.browser()
    await browser.sign_in()
    answer = await browser.get(PORTAL, "/.zt/me", headers={**NAVIGATION, "User-Agent": evil})
    assert "<img" not in answer.text
    assert "&lt;img" in answer.text


async def test_signed_out_the_page_offers_to_sign_in_and_looking_for_it_in_the_background_does_not(
    lab: PortalLab,
) -> None:
    browser = lab.browser()
    answer = await browser.get(PORTAL, "/.zt/me")
    assert (answer.status, "Continue with" in answer.text) == (200, True)
    assert (await browser.get(PORTAL, "/.zt/me", headers={"Sec-Fetch-Mode": "cors"})).status == 401


# ---- sessions ----


async def test_another_session_of_ones_own_is_ended_and_this_one_stays(lab: PortalLab) -> None:
    lost = await signed_in(lab)
    here = await signed_in(lab)
    (other,) = set(sids(await me(here))) - {await sid_of(here)}
    answer = await act(here, "end", sid=other)
    assert (answer.status, answer.location) == (303, "/.zt/me?done=ended")
    assert lab.changes[-1].sid == other
    assert await lost.session() is None
    assert await here.session() is not None
    assert "That session has ended" in (await here.get(PORTAL, answer.location)).text


async def sid_of(browser: Browser) -> str:
    session = await browser.session(PORTAL)
    assert session is not None
    return session.sid


async def test_ending_this_session_is_asked_as_a_sign_out_is(lab: PortalLab) -> None:
    browser = await signed_in(lab)
    answer = await act(browser, "end", sid=await sid_of(browser))
    assert (answer.status, answer.location) == (303, "/.zt/sign-out")
    assert await browser.session() is not None


async def test_nobody_ends_the_session_of_somebody_else_or_learns_that_it_exists(lab: PortalLab) -> None:
    bob = await signed_in(lab, "bob")
    alice = await signed_in(lab, "alice")
    real = await act(alice, "end", sid=await sid_of(bob))
    made_up = await act(alice, "end", sid="made-up-made-up-made-u")
    for answer in (real, made_up):
        assert answer.status == 404
        assert Reason.SESSION_UNKNOWN in answer.text
    assert await bob.session() is not None
    same = r"[\w-]{22}"
    assert re.sub(same, "", real.text) == re.sub(same, "", made_up.text)


async def test_signing_out_everywhere_ends_all_that_is_mine_and_nothing_else(lab: PortalLab) -> None:
    bob = await signed_in(lab, "bob")
    mine = [await signed_in(lab) for _ in range(3)]
    answer = await act(mine[0], "end-all")
    assert answer.status == 303
    assert answer.location.startswith("https://idp.example/logout?")
    for browser in mine:
        assert await browser.session() is None
        assert await browser.session(PORTAL) is None
    assert any(line.startswith("__Host-zt=;") for line in answer.set_cookies)
    assert await bob.session() is not None


# ---- who may ask ----


@pytest.mark.parametrize("path", ACTS)
async def test_nothing_happens_without_a_session_without_its_token_or_from_elsewhere(lab: PortalLab, path: str) -> None:
    alice, bob = await signed_in(lab, "alice"), await signed_in(lab, "bob")
    form = {"sid": await sid_of(alice), "id": "x", "name": "x"}
    foreign = token(await me(bob))
    own = token(await me(alice))
    urlencoded = {**NAVIGATION, "Content-Type": "application/x-www-form-urlencoded"}

    async def send(browser: Browser, headers: dict[str, str], **more: str) -> int:
        return (
            await browser.request("POST", PORTAL, f"/.zt/me/{path}", headers=headers, data=urlencode({**form, **more}))
        ).status

    before = len(lab.changes)
    assert await send(lab.browser(), {**urlencoded, **OWN_PAGE}, token=own) == 401
    assert await send(alice, {**urlencoded, **OWN_PAGE}) == 403
    assert await send(alice, {**urlencoded, **OWN_PAGE}, token=foreign) == 403
    for origin in (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": f"https://{APP}"},
        {"Origin": "null"},
        {},
    ):
        assert await send(alice, {**urlencoded, **origin}, token=own) == 403
    assert (await alice.get(PORTAL, f"/.zt/me/{path}")).status == 405
    assert (await alice.get(APP, f"/.zt/me/{path}", headers=NAVIGATION)).status == 404
    assert await send(alice, {"Content-Type": "text/plain", **OWN_PAGE}, token=own) == 400
    assert len(lab.changes) == before
    assert await alice.session() is not None


# ---- factors ----


async def enrolled(lab: PortalLab) -> tuple[Browser, Authenticator]:
    """Somebody whose provider attests one factor, with a passkey and recovery codes."""
    lab.provider.level = Level.SINGLE
    be(lab, "alice")
    browser, device = lab.browser(), Authenticator()
    await browser.enrol_and_sign_in(device)
    return browser, device


async def passkey_of(lab: PortalLab) -> Factor:
    (found,) = [each for each in await lab.factors.of(person()) if each.kind is FactorKind.PASSKEY]
    return found


async def test_factors_are_shown_and_renamed(lab: PortalLab) -> None:
    browser, _ = await enrolled(lab)
    text = await me(browser)
    assert "Phone" in text
    assert "10 of 10 left" in text
    passkey = await passkey_of(lab)
    answer = await act(browser, "rename", id=passkey.id, name='<b>"Work phone"')
    assert answer.location == "/.zt/me?done=renamed"
    assert "<b>" not in (await browser.get(PORTAL, "/.zt/me")).text
    assert "Work phone" in await me(browser)


async def test_removing_and_new_codes_ask_for_a_proof_once_the_last_one_is_old(lab: PortalLab) -> None:
    browser, device = await enrolled(lab)
    passkey = await passkey_of(lab)
    lab.clock.advance(301)
    text = await me(browser)
    assert "/.zt/confirm?for=me" in text
    assert 'action="/.zt/me/remove"' not in text
    for path in ("remove", "codes"):
        answer = await act(browser, path, id=passkey.id, last="yes")
        assert (answer.status, answer.location) == (303, "/.zt/confirm?for=me")
    assert len(await lab.factors.of(person())) == 2
    confirmed = await browser.show_passkey("/.zt/confirm?for=me", device)
    assert (confirmed.status, '"/.zt/me"' in confirmed.text) == (200, True)
    assert 'action="/.zt/me/remove"' in await me(browser)
    answer = await act(browser, "remove", id=passkey.id, last="yes")
    assert answer.location == "/.zt/me?done=removed"
    assert [each.id for each in await lab.factors.of(person()) if each.id == passkey.id] == []


async def test_the_last_factor_goes_only_if_the_form_says_that_it_is_the_last(lab: PortalLab) -> None:
    browser, _ = await enrolled(lab)
    passkey = await passkey_of(lab)
    assert "This is your last one" in await me(browser)
    answer = await act(browser, "remove", id=passkey.id)
    assert answer.status == 409
    assert Reason.FACTOR_LAST in answer.text
    assert len(await lab.factors.of(person())) == 2


async def test_new_codes_are_shown_once_and_replace_the_old_ones(lab: PortalLab) -> None:
    browser, _ = await enrolled(lab)
    answer = await act(browser, "codes")
    shown = re.findall(r"<li><code>([^<]+)</code></li>", answer.text)
    assert (answer.status, len(shown), answer.headers["Cache-Control"]) == (200, 10, "no-store")
    assert shown[0] not in (await browser.get(PORTAL, "/.zt/me")).text
    done = await browser.post("/.zt/enrol/done")
    assert done.location == "/.zt/me"


async def test_nobody_changes_the_factors_of_somebody_else(lab: PortalLab) -> None:
    _alice, _ = await enrolled(lab)
    passkey = await passkey_of(lab)
    lab.provider.level = Level.MULTI
    bob = await signed_in(lab, "bob")
    for path in ("rename", "remove"):
        answer = await act(bob, path, id=passkey.id, name="mine", last="yes")
        assert (answer.status, Reason.FACTOR_UNKNOWN in answer.text) == (404, True)
    assert await passkey_of(lab) == passkey


async def test_a_weak_sign_in_is_no_fresh_proof(lab: PortalLab) -> None:
    lab.provider.level, lab.provider.insecure_no_mfa = Level.SINGLE, True
    browser = await signed_in(lab)
    answer = await act(browser, "codes")
    assert answer.location == "/.zt/confirm?for=me"


async def test_what_weakens_an_account_is_on_record_or_does_not_happen(lab: PortalLab) -> None:
    browser, _ = await enrolled(lab)
    passkey = await passkey_of(lab)
    notes: list[dict[str, object]] = []

    async def note(kind: str, **fields: object) -> None:
        notes.append({"type": kind, **fields})

    lab.sessions.note = note  # type: ignore[assignment]
    await act(browser, "codes")

    async def full(kind: str, **fields: object) -> None:
        raise UnavailableError(Reason.RECORD_UNAVAILABLE, "the disk is full")

    lab.sessions.note = full  # type: ignore[assignment]
    assert (await act(browser, "remove", id=passkey.id, last="yes")).status == 503
    assert await passkey_of(lab) == passkey
    assert [(each["type"], each["action"], each["user"]) for each in notes] == [
        ("factor", "new-recovery-codes", "alice")
    ]


# ---- the limit ----


async def test_who_gave_way_is_told_why_and_comes_back_only_by_choice(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, session=SessionSettings(idle=900.0, limit=1)) as lab:
        first = await signed_in(lab)
        lab.clock.advance(1)
        second = await signed_in(lab)
        page = await first.get(PORTAL, "/.zt/sign-in?to=" + first.handoff())
        assert (page.status, "You signed in somewhere else" in page.text) == (200, True)
        assert await second.session() is not None, "and nobody is signed out by a page that opened by itself"
        link = html.unescape(re.findall(r'href="(/\.zt/sign-in\?with=[^"]+)"', page.text)[0])
        answer = await first.get(PORTAL, link)
        assert answer.location.startswith("https://idp.example/")
        assert "somewhere else" not in (await lab.browser().get(PORTAL, "/.zt/sign-in")).text


async def test_at_a_limit_that_refuses_the_same_browser_signs_in_anew(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, session=SessionSettings(idle=900.0, limit=1, refuse_beyond=True)) as lab:
        first = await signed_in(lab)
        lab.clock.advance(1)
        again = await first.back(await first.to_provider(idle=0.001))
        assert again.status == 303
        other = lab.browser()
        refused = await other.back(await other.to_provider())
        assert (refused.status, Reason.SESSION_LIMIT in refused.text) == (403, True)
        assert not any(line.startswith("__Host-zt=") for line in refused.set_cookies)
