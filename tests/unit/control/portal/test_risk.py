"""Sign-ins are assessed at the portal, and sessions keep the assessment."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from tests.lab.authenticator import Authenticator
from tests.lab.portal import APP, NAVIGATION, PORTAL, Browser, PortalLab
from zt_proxy.control.factors.types import Person
from zt_proxy.control.identity.types import LoginRefused, Renewed
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level, Risk, RiskLevel, Session
from zt_proxy.link.messages import RENEWED
from zt_proxy.policy.geo import OriginSettings
from zt_proxy.policy.risk import agent_mark

OFFICE, ABROAD = "81.2.69.1", "5.5.5.5"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
ALICE = Person("https://idp.example", "alice")


def database(folder: Path) -> Path:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Test-Country")
    for network, code in (("81.2.69.0/24", "DE"), ("5.5.5.0/24", "BR")):
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    writer.to_db_file(str(folder / "new.mmdb"))
    os.rename(folder / "new.mmdb", folder / "country.mmdb")
    return folder / "country.mmdb"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    origins = OriginSettings((("office", ("81.2.69.0/24",)),), database(tmp_path))
    async with PortalLab(tmp_path, origins=origins) as lab:
        yield lab


@pytest.fixture
def notes(lab: PortalLab) -> list[dict[str, Any]]:
    """What goes on record."""
    found: list[dict[str, Any]] = []

    async def note(kind: str, **fields: Any) -> None:
        found.append({"type": kind, **fields})

    lab.sessions.note = note
    return found


async def signed_in(lab: PortalLab, address: str = OFFICE, browser: Browser | None = None) -> Browser:
    """A sign-in at the app from this address; with `browser`, once more in it."""
    if browser is None:
        browser = lab.browser(address)
    else:
        browser.address = address
        for host in (PORTAL, APP):
            browser.cookies(host).pop("__Host-zt", None)
    state = await browser.to_provider()
    headers = {**NAVIGATION, "User-Agent": FIREFOX}
    answer = await browser.get(PORTAL, f"/.zt/callback?code=abc&state={state}", headers=headers)
    await browser.follow(answer)
    return browser


async def session_of(browser: Browser) -> Session:
    session = await browser.session()
    assert session is not None
    return session


async def test_the_first_sign_in_knows_no_device_and_is_low(lab: PortalLab) -> None:
    session = await session_of(await signed_in(lab))
    assert (session.device_known, session.address, session.agent) == (False, OFFICE, agent_mark(FIREFOX.encode()))
    assert session.risk == Risk(5, RiskLevel.LOW, ("new-device+25", "network-office-20"))


async def test_a_known_device_in_the_office_is_low_and_a_new_one_abroad_is_high(lab: PortalLab) -> None:
    browser = await signed_in(lab)
    lab.clock.advance(3600)
    again = await session_of(await signed_in(lab, browser=browser))
    assert (again.device_known, again.risk) == (True, Risk(0, RiskLevel.LOW, ("network-office-20",)))
    abroad = await session_of(await signed_in(lab, ABROAD))
    assert (abroad.device_known, abroad.address) == (False, ABROAD)
    assert abroad.risk == Risk(90, RiskLevel.HIGH, ("new-device+25", "new-country+25", "impossible-travel+40"))
    lab.clock.advance(2 * 86_400)
    known_by_now = await session_of(await signed_in(lab, "5.5.5.77"))
    assert known_by_now.risk == Risk(25, RiskLevel.LOW, ("new-device+25",))


async def test_a_device_is_known_to_its_own_person_alone(lab: PortalLab) -> None:
    browser = await signed_in(lab)
    lab.provider.principal = msgspec.structs.replace(lab.provider.principal, subject="bob")
    assert (await session_of(await signed_in(lab, browser=browser))).device_known is False


async def test_what_a_session_is_judged_by_survives_a_restart(lab: PortalLab, tmp_path: Path) -> None:
    before = await session_of(await signed_in(lab, ABROAD))
    lab.sessions._live.clear()
    lab.sessions._handles.clear()
    record = await lab.sessions.record(before.sid)
    assert record is not None
    assert (record.risk, record.arrival.device_known) == (before.risk, before.device_known)
    assert (record.arrival.address, record.arrival.agent) == (before.address, before.agent)


async def test_a_sign_in_goes_on_record_with_its_risk_and_what_rules_can_ask(
    lab: PortalLab, notes: list[dict[str, Any]]
) -> None:
    lab.provider.principal = msgspec.structs.replace(
        lab.provider.principal, groups=frozenset({"staff", "leads"}), roles=frozenset({"r"}), claims={"dept": "ops"}
    )
    session = await session_of(await signed_in(lab))
    [line] = notes
    assert (line["type"], line["sid"], line["user"], line["provider"]) == ("signed-in", session.sid, "alice", "corp")
    assert (line["groups"], line["roles"], line["claims"]) == (("leads", "staff"), ("r",), {"dept": "ops"})
    assert (line["address"], line["country"], line["zones"]) == (OFFICE, "DE", ["office"])
    assert (line["risk"], line["risk_reasons"]) == ("5 low", ["new-device+25", "network-office-20"])
    assert (line["device"], line["device_known"], line["auth_level"]) == ("Firefox on Linux", False, "multi")


async def test_a_sign_in_that_cannot_be_recorded_makes_no_session(lab: PortalLab) -> None:
    async def note(kind: str, **fields: Any) -> None:
        raise UnavailableError(Reason.RECORD_UNAVAILABLE, kind)

    lab.sessions.note = note
    browser = lab.browser()
    answer = await browser.back(await browser.to_provider())
    assert answer.status == 503
    assert await lab.sessions.of_person(ALICE.issuer, ALICE.subject) == ()
    assert "__Host-zt" not in browser.cookies(PORTAL)


async def test_when_the_store_of_people_fails_somebody_gets_in_and_nobody_knows_the_risk(lab: PortalLab) -> None:
    await lab.judge.people.close()
    session = await session_of(await signed_in(lab))
    assert (session.risk, session.device_known) == (None, False)


async def test_when_the_store_of_devices_fails_nobody_knows_the_device(lab: PortalLab) -> None:
    browser = await signed_in(lab)
    await lab.devices.close()
    session = await session_of(await signed_in(lab, browser=browser))
    assert session.device_known is None
    assert session.risk == Risk(0, RiskLevel.LOW, ("network-office-20",))


async def test_refused_sign_ins_from_an_address_count_for_the_next_one_from_there(lab: PortalLab) -> None:
    browser = lab.browser(ABROAD)
    for _ in range(3):
        state = await browser.to_provider()
        lab.provider.fault = LoginRefused("access_denied")
        assert (await browser.back(state)).status == 403
        lab.provider.fault = None
    session = await session_of(await signed_in(lab, ABROAD))
    assert session.risk == Risk(37, RiskLevel.MEDIUM, ("new-device+25", "failed-attempts+12"))
    elsewhere = await session_of(await signed_in(lab, OFFICE))
    assert "failed-attempts" not in "".join(elsewhere.risk.reasons if elsewhere.risk else ())


async def test_failed_attempts_of_an_office_that_many_share_are_nobody_elses(lab: PortalLab) -> None:
    for _ in range(9):
        await lab.judge.failed(None, OFFICE)
    session = await session_of(await signed_in(lab, OFFICE))
    assert session.risk == Risk(5, RiskLevel.LOW, ("new-device+25", "network-office-20"))


async def test_where_somebody_elses_sign_in_came_from_stays_unknown(lab: PortalLab) -> None:
    await signed_in(lab, OFFICE)
    lab.clock.advance(2 * 86_400)
    await signed_in(lab, ABROAD)
    await lab.judge.not_theirs(ALICE, ABROAD)
    history = await lab.judge.people.history(ALICE)
    assert (set(history.countries), history.visit) == ({"DE"}, None)
    again = await session_of(await signed_in(lab, ABROAD))
    assert again.risk == Risk(50, RiskLevel.MEDIUM, ("new-device+25", "new-country+25"))


async def test_wrong_codes_raise_the_risk_of_sessions_that_live_and_workers_hear_of_it(lab: PortalLab) -> None:
    session = await session_of(await signed_in(lab))
    lab.provider.level = Level.SINGLE
    for _ in range(5):
        await lab.judge.failed(ALICE, ABROAD)
    record = await lab.sessions.record(session.sid)
    assert record is not None
    assert record.risk == Risk(25, RiskLevel.LOW, ("new-device+25", "network-office-20", "failed-attempts+20"))
    assert [(each.sid, each.reason) for each in lab.changes[-4:]] == [(session.sid, RENEWED)] * 4


async def test_wrong_codes_at_the_portal_count_for_the_sign_in_that_follows(lab: PortalLab) -> None:
    lab.provider.level = Level.SINGLE
    device = Authenticator()
    await lab.browser(OFFICE).enrol_and_sign_in(device)
    browser = lab.browser(OFFICE)
    page = await browser.to_own_factor()
    for _ in range(2):
        wrong = await browser.post("/.zt/confirm/code?" + page.partition("?")[2], code="123456")
        assert wrong.status == 401
    await browser.on(await browser.show_passkey(page, device))
    session = await session_of(browser)
    assert session.risk is not None
    assert "failed-attempts+8" in session.risk.reasons


async def test_a_refresh_forgets_failed_attempts_of_long_ago_and_notes_who_somebody_is_now(
    lab: PortalLab, notes: list[dict[str, Any]]
) -> None:
    session = await session_of(await signed_in(lab))
    for _ in range(5):
        await lab.judge.failed(ALICE, ABROAD)
    lab.clock.advance(800)
    lab.sessions.activity(session.sid, lab.clock.now())
    for _ in range(4):
        lab.clock.advance(800)
        lab.sessions.activity(session.sid, lab.clock.now())
    moved = msgspec.structs.replace(session.principal, groups=frozenset({"leads"}))
    answer = Renewed(Secret("a"), Secret("b"), moved, None, 300.0)
    assert await lab.sessions.at_provider.renewed(session.sid, answer)
    record = await lab.sessions.record(session.sid)
    assert record is not None
    assert record.risk == Risk(5, RiskLevel.LOW, ("new-device+25", "network-office-20"))
    assert (notes[-1]["type"], notes[-1]["user"], notes[-1]["groups"]) == ("person-changed", "alice", ("leads",))
    [alice] = (await lab.judge.people.page()).people
    assert alice.groups == ("leads",)


async def test_in_a_demonstration_a_header_says_the_country(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, origins=OriginSettings(insecure_origin_header="x-demo-country")) as lab:
        home, abroad = lab.browser("127.0.0.1"), lab.browser("127.0.0.1")
        await home.sign_in()
        state = await abroad.to_provider()
        headers = {**NAVIGATION, "X-Demo-Country": "br"}
        answer = await abroad.get(PORTAL, f"/.zt/callback?code=abc&state={state}", headers=headers)
        await abroad.follow(answer)
        session = await abroad.session()
        assert session is not None
        assert session.risk == Risk(50, RiskLevel.MEDIUM, ("new-device+25", "new-country+25"))
