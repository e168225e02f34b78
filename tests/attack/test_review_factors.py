"""Ways to more than one has proved, by adding, removing and confirming factors."""

import html
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pyotp
import pytest

from tests.lab.authenticator import Authenticator
from tests.lab.factors import ALICE, FactorWorld
from tests.lab.portal import APP, ORIGIN, PORTAL, SESSION_COOKIE, Answer, Browser, PortalLab
from zt_proxy.control.factors.types import Factor, FactorKind, Person
from zt_proxy.control.settings import ControlSettings, FactorSettings, ProviderSettings
from zt_proxy.core.errors import ConfigurationError, Reason, UnavailableError
from zt_proxy.core.handoff import Purpose
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Level
from zt_proxy.link.messages import RENEWED


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        lab.provider.level = Level.SINGLE
        yield lab


def who(lab: PortalLab) -> Person:
    return Person.of(lab.provider.principal)


async def kinds(lab: PortalLab) -> list[FactorKind]:
    return [each.kind for each in await lab.factors.of(who(lab))]


async def factor(lab: PortalLab, kind: FactorKind) -> Factor:
    return next(each for each in await lab.factors.of(who(lab)) if each.kind is kind)


async def act(browser: Browser, path: str, **form: str) -> Answer:
    """A form of `/.zt/me`, whether the page shows it or not: all of them have one token."""
    token = re.search(r'name="token" value="([^"]+)"', (await browser.get(PORTAL, "/.zt/me")).text)
    assert token is not None
    return await browser.post(path, token=token.group(1), **form)


async def with_recovery_codes(lab: PortalLab, phone: Authenticator) -> list[str]:
    """The codes of somebody who has a passkey."""
    browser = lab.browser()
    page = await browser.to_own_factor()
    shown = await browser.enrol_passkey(page, phone)
    await browser.follow(await browser.post("/.zt/enrol/done?" + page.partition("?")[2]))
    return re.findall(r"<li><code>([^<]+)</code>", html.unescape(shown.text))


async def by_code(lab: PortalLab, code: str) -> Browser:
    """Signed in just now with a code, elsewhere."""
    browser = lab.browser("203.0.113.5")
    page = await browser.to_own_factor()
    await browser.follow(await browser.post("/.zt/confirm/code?" + page.partition("?")[2], code=code))
    session = await browser.session(PORTAL)
    assert session is not None
    assert session.level is Level.MULTI
    return browser


# from a code to a passkey


async def test_who_has_a_phished_code_does_not_remove_the_passkey_to_add_their_own(lab: PortalLab) -> None:
    codes = await with_recovery_codes(lab, Authenticator())
    thief = await by_code(lab, codes[0])
    passkey = await factor(lab, FactorKind.PASSKEY)
    answer = await act(thief, "/.zt/me/remove", id=passkey.id, last="yes")
    assert answer.location == "/.zt/confirm?for=me"
    assert FactorKind.PASSKEY in await kinds(lab)
    assert (await thief.get(PORTAL, "/.zt/enrol")).location == "/.zt/confirm?for=enrol"
    assert 'action="/.zt/me/remove"' not in (await thief.get(PORTAL, "/.zt/me")).text
    asked = (await thief.get(PORTAL, "/.zt/confirm?for=me")).text
    assert "Use your passkey" in asked
    assert 'action="/.zt/confirm/code' not in asked
    refused = await act(thief, "/.zt/confirm/code?for=me", code=codes[1])
    assert refused.status == 403
    assert Reason.MFA_REQUIRED in refused.text


async def test_one_phished_code_does_not_become_ten(lab: PortalLab) -> None:
    codes = await with_recovery_codes(lab, Authenticator())
    thief = await by_code(lab, codes[0])
    assert (await act(thief, "/.zt/me/codes")).location == "/.zt/confirm?for=me"
    assert (await factor(lab, FactorKind.RECOVERY)).remaining == 9


async def test_who_has_a_passkey_removes_it_with_it(lab: PortalLab) -> None:
    phone = Authenticator()
    codes = await with_recovery_codes(lab, phone)
    browser = await by_code(lab, codes[0])
    await browser.show_passkey("/.zt/confirm?for=me", phone)
    passkey = await factor(lab, FactorKind.PASSKEY)
    assert (await act(browser, "/.zt/me/remove", id=passkey.id, last="yes")).location == "/.zt/me?done=removed"


# from a password to codes


async def test_a_password_alone_gets_no_recovery_codes(lab: PortalLab) -> None:
    """Of somebody who has an app and no codes left, where the provider asks for one factor only."""
    browser = lab.browser()
    lab.provider.insecure_no_mfa = True
    await browser.sign_in()
    shown = (await browser.get(PORTAL, "/.zt/enrol?kind=totp")).text
    app = pyotp.TOTP(re.findall(r'class="secret">([^<]+)<', shown)[0].replace(" ", ""))
    fields = {name: re.findall(rf'name="{name}" value="([^"]+)"', shown)[0] for name in ("token", "pending")}
    await browser.post("/.zt/enrol/totp", **fields, code=app.at(int(lab.clock.now())))
    await lab.factors.remove(who(lab), (await factor(lab, FactorKind.RECOVERY)).id)
    thief = lab.browser("203.0.113.5")
    await thief.sign_in()
    session = await thief.session(PORTAL)
    assert session is not None
    assert session.level is Level.SINGLE
    for path in ("/.zt/enrol/codes", "/.zt/me/codes"):
        answer = await act(thief, path)
        assert "<li><code>" not in answer.text
    assert await kinds(lab) == [FactorKind.TOTP]


async def test_codes_alone_are_no_way_round_a_grant(tmp_path: Path) -> None:
    settings = FactorSettings(rp_id=PORTAL.partition(":")[0], origin=f"https://{PORTAL}", enrolment="grant")
    async with PortalLab(tmp_path, factors=settings) as lab:
        browser = lab.browser()
        await browser.sign_in()
        assert Reason.ENROLMENT_NOT_GRANTED in (await browser.get(PORTAL, "/.zt/enrol")).text
        for path in ("/.zt/enrol/codes", "/.zt/me/codes"):
            answer = await act(browser, path)
            assert "<li><code>" not in answer.text
        assert await kinds(lab) == []


@pytest.mark.parametrize("level", [Level.SINGLE, Level.MULTI])
async def test_whoever_adds_a_first_passkey_in_a_session_gets_codes_with_it(lab: PortalLab, level: Level) -> None:
    lab.provider.insecure_no_mfa, lab.provider.level = True, level
    browser = lab.browser()
    await browser.sign_in()
    token = await browser.form_token("/.zt/enrol")
    given = json.loads((await browser.script("/.zt/enrol/options", {})).text)
    sent = {"token": given["token"], "credential": Authenticator().create(given["options"], ORIGIN)}
    assert (await browser.script("/.zt/enrol/passkey", sent)).status == 204
    shown = await browser.post("/.zt/enrol/codes", token=token)
    assert len(re.findall(r"<li><code>", shown.text)) == 10


# a configuration that asks for more


def changed(settings: ControlSettings, *, insecure: bool = False, **factors: Any) -> ControlSettings:
    corp = ProviderSettings("corp", "Corp", "https://idp.example", "zt", None, insecure_no_mfa=insecure)
    mfa = msgspec.structs.replace(settings.factors, **factors)
    return msgspec.structs.replace(settings, providers=(corp,), factors=mfa)


@pytest.mark.parametrize(
    ("level", "insecure", "factors"),
    [
        (Level.MULTI, False, {"level": Level.PHISHING_RESISTANT}),
        (Level.MULTI, False, {"accept": frozenset({"passkey"})}),
        (Level.PHISHING_RESISTANT, False, {"accept": frozenset({"totp", "passkey"})}),
        (Level.SINGLE, True, {}),
    ],
)
async def test_a_session_that_would_not_begin_like_that_any_more_ends_with_a_reload(
    lab: PortalLab, level: Level, insecure: bool, factors: dict[str, Any]
) -> None:
    before = changed(lab.settings, insecure=insecure)
    await lab.sessions.tighten(None, before)
    lab.provider.level, lab.provider.insecure_no_mfa = level, insecure
    browser = lab.browser()
    await browser.sign_in()
    session = await browser.session()
    assert session is not None
    await lab.sessions.tighten(before, before)
    assert await browser.session() == session
    lab.changes.clear()
    await lab.sessions.tighten(before, changed(lab.settings, **factors))
    assert [(each.sid, each.reason) for each in lab.changes] == [("", RENEWED)], "workers ask anew"
    assert await browser.session() is None
    assert await browser.session(PORTAL) is None
    assert session.sid in {sid for each in lab.changes for sid in each.sids}, "and what is open is cut"


async def test_a_session_that_is_strong_enough_outlives_a_reload_and_a_weak_one_no_restart(lab: PortalLab) -> None:
    before, strict = changed(lab.settings), changed(lab.settings, level=Level.PHISHING_RESISTANT)
    await lab.sessions.tighten(None, before)
    weak, strong = lab.browser(), lab.browser()
    for browser, level in ((weak, Level.MULTI), (strong, Level.PHISHING_RESISTANT)):
        lab.provider.level = level
        await browser.sign_in()
    await lab.sessions.tighten(None, strict)
    assert await weak.session() is None
    assert await strong.session() is not None


async def test_who_the_operator_asks_for_one_factor_stays_signed_in_when_others_show_more(lab: PortalLab) -> None:
    before = changed(lab.settings, insecure=True)
    await lab.sessions.tighten(None, before)
    lab.provider.insecure_no_mfa = True
    browser = lab.browser()
    await browser.sign_in()
    await lab.sessions.tighten(before, changed(lab.settings, insecure=True, level=Level.PHISHING_RESISTANT))
    assert await browser.session() is not None


# what the page says


async def test_an_action_that_needs_a_passkey_says_so_and_offers_to_set_one_up(lab: PortalLab) -> None:
    lab.provider.level = Level.MULTI
    browser = lab.browser()
    await browser.sign_in()
    deploy = {"purpose": Purpose.REAUTH, "route": "builder", "rule": "deploy", "target": "/deploy"}
    page = await browser.to_own_factor(**deploy, level=Level.PHISHING_RESISTANT)
    assert page.startswith("/.zt/enrol?login=")
    shown = re.sub(r"<[^>]+>", "", html.unescape((await browser.get(PORTAL, page)).text))
    assert f"This action at {APP} needs a passkey, and you have none here yet." in shown
    assert "one factor only" not in shown
    await browser.enrol_passkey(page, Authenticator())
    done = await browser.follow(await browser.post("/.zt/enrol/done?" + page.partition("?")[2]))
    assert done.location == "/deploy"


# what a proof is for


async def test_a_challenge_of_one_session_is_no_answer_in_another_of_the_same_person(lab: PortalLab) -> None:
    phone = Authenticator()
    codes = await with_recovery_codes(lab, phone)
    one, other = await by_code(lab, codes[0]), await by_code(lab, codes[1])
    asked = json.loads((await one.script("/.zt/confirm/options?for=me", {})).text)
    sent = {"token": asked["token"], "credential": phone.get(asked["options"], ORIGIN)}
    answer = await other.script("/.zt/confirm/passkey?for=me", sent)
    assert answer.status == 401
    assert Reason.FACTOR_WRONG in answer.text
    await one.show_passkey("/.zt/confirm?for=enrol", phone)
    await other.show_passkey("/.zt/confirm?for=enrol", phone)
    begun = json.loads((await one.script("/.zt/enrol/options", {})).text)
    sent = {"token": begun["token"], "credential": Authenticator().create(begun["options"], ORIGIN)}
    assert Reason.FACTOR_WRONG in (await other.script("/.zt/enrol/passkey", sent)).text


@pytest.mark.case("ZT-OIDC-01")
async def test_the_old_cookie_is_dead_before_the_proof_counts(lab: PortalLab) -> None:
    phone, browser = Authenticator(), lab.browser()
    await browser.enrol_and_sign_in(phone)
    lab.clock.advance(100)
    lab.changes.clear()
    await browser.show_passkey("/.zt/confirm?for=me", phone)
    deploy = {"purpose": Purpose.REAUTH, "route": "builder", "rule": "deploy", "target": "/deploy"}
    to = await browser.asked(**deploy, level=Level.MULTI)
    back = await browser.show_passkey("/.zt/confirm?to=" + to, phone)
    told = [each.reason for each in lab.changes]
    assert told[:2] == ["handle-replaced", "unlocked"]
    lab.changes.clear()
    await browser.on(back)
    assert [each.reason for each in lab.changes] == ["handle-replaced", "unlocked"]


# locks


async def test_who_knows_the_password_keeps_nobody_from_their_passkey(lab: PortalLab) -> None:
    """By asking for more challenges than are kept, while the owner looks for the right finger."""
    phone = Authenticator()
    await with_recovery_codes(lab, phone)
    owner = lab.browser()
    page = await owner.to_own_factor()
    query = page.partition("?")[2]
    asked = json.loads((await owner.script(f"/.zt/confirm/options?{query}", {})).text)
    for _ in range(3):
        thief = lab.browser("203.0.113.5")
        other = (await thief.to_own_factor()).partition("?")[2]
        for _ in range(6):
            assert (await thief.script(f"/.zt/confirm/options?{other}", {})).status == 200
    sent = {"token": asked["token"], "credential": phone.get(asked["options"], ORIGIN)}
    answer = await owner.script(f"/.zt/confirm/passkey?{query}", sent)
    assert answer.status == 200, answer.text


# a store that is not the one


async def test_with_other_keys_nobody_starts_afresh_unasked(tmp_path: Path) -> None:
    world = await FactorWorld(tmp_path).open()
    await world.enrol_passkey()
    await world.factors.close()
    world.ring = KeyRing({1: b"t" * 32})
    with pytest.raises(ConfigurationError, match=r"nothing in it opens with .*store\.keys"):
        await world.open()
    world.ring = KeyRing({1: b"s" * 32, 2: b"t" * 32})
    await world.open()
    assert len(await world.factors.of(ALICE)) == 1
    await world.factors.close()


# what is left of a factor that is gone


async def test_a_sign_in_under_way_does_not_outlive_the_factor_it_was_proved_with(lab: PortalLab) -> None:
    """An operator resets what somebody else enrolled: the half of a login that waits behind it opens nothing."""
    thief = lab.browser("203.0.113.5")
    page = await thief.to_own_factor()
    await thief.enrol_passkey(page, Authenticator())
    await lab.sessions.end_subject(*who(lab)[:2], "factors-reset")
    await lab.factors.reset(who(lab))
    query = page.partition("?")[2]
    assert (await thief.get(PORTAL, page)).location == "/.zt/sign-in"
    for path in ("codes", "done"):
        answer = await thief.post(f"/.zt/enrol/{path}?{query}")
        assert answer.status == 401
        assert Reason.ENROLMENT_NOT_FRESH in answer.text
    assert SESSION_COOKIE not in thief.cookies(PORTAL)


async def test_a_store_that_cannot_answer_lets_nobody_past_the_second_factor(
    lab: PortalLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = lab.browser()
    page = await browser.to_own_factor()
    query = page.partition("?")[2]
    phone = Authenticator()
    begun = json.loads((await browser.script(f"/.zt/enrol/options?{query}", {})).text)
    sent = {"token": begun["token"], "credential": phone.create(begun["options"], ORIGIN)}

    async def broken(*_: object) -> None:
        raise UnavailableError(Reason.STORE_UNAVAILABLE, "locked")

    monkeypatch.setattr(lab.factors._store, "_run", broken)
    assert (await browser.script(f"/.zt/enrol/passkey?{query}", sent)).status == 503
    for answer in (
        await browser.get(PORTAL, page),
        await browser.get(PORTAL, page.replace("enrol", "confirm")),
        await browser.post(f"/.zt/confirm/code?{query}", code="123456"),
        await browser.post(f"/.zt/enrol/done?{query}"),
        await browser.back(await browser.to_provider()),
    ):
        assert answer.status == 503
        assert Reason.STORE_UNAVAILABLE in answer.text
    assert SESSION_COOKIE not in browser.cookies(PORTAL)
