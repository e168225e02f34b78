"""A new device is told of by mail, and the mail's link asks before it does anything."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from structlog.testing import capture_logs

from tests.lab.portal import APP, NAVIGATION, OWN_PAGE, PORTAL, Answer, Browser, PortalLab
from tests.lab.smtp import SmtpServer
from zt_proxy.control.devices.store import NOTICE_LIFE
from zt_proxy.control.factors.types import Person
from zt_proxy.control.settings import MailSettings, MailTls
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.session import Principal

COOKIE = "__Host-zt-device"
ALICE = Person("https://idp.example", "alice")
FORM = {**NAVIGATION, **OWN_PAGE, "Content-Type": "application/x-www-form-urlencoded"}
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1"


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as server:
        yield server


@pytest.fixture
async def lab(tmp_path: Path, server: SmtpServer) -> AsyncIterator[PortalLab]:
    mail = MailSettings("127.0.0.1", server.port, "zt@example.com", MailTls.INSECURE_NONE)
    async with PortalLab(tmp_path, mail=mail) as lab:
        yield lab


async def signed_in(lab: PortalLab, browser: Browser | None = None, agent: str = IPHONE) -> Browser:
    browser = browser or lab.browser("198.51.100.9")
    state = await browser.to_provider()
    headers = {**NAVIGATION, "User-Agent": agent}
    answer = await browser.get(PORTAL, f"/.zt/callback?code=abc&state={state}", headers=headers)
    await browser.follow(answer)
    return browser


async def link_in(server: SmtpServer, count: int = 1) -> str:
    """The path of the link in the last mail."""
    message = await server.received(count)
    body = message.get_body(("plain",))
    assert body is not None
    found = re.search(rf"https://{re.escape(PORTAL)}(/\.zt/not-me\?token=[\w-]+)", body.get_content())
    assert found is not None
    return found.group(1)


async def confirm(browser: Browser, link: str, headers: dict[str, str] | None = None) -> Answer:
    data = urlencode({"token": link.partition("token=")[2]})
    return await browser.request("POST", PORTAL, "/.zt/not-me", headers=headers or FORM, data=data)


async def test_the_first_sign_in_and_a_known_browser_send_nothing_and_a_new_one_does(
    lab: PortalLab, server: SmtpServer
) -> None:
    first = await signed_in(lab)
    assert COOKIE in first.cookies(PORTAL)
    assert COOKIE not in first.cookies(APP)
    first.cookies(PORTAL).pop("__Host-zt")
    await signed_in(lab, first)
    await signed_in(lab)
    message = await server.received()
    assert len(server.messages) == 1
    assert message["To"] == "alice@example.com"
    assert message["Subject"] == f"New sign-in at {PORTAL}"
    for kind in ("plain", "html"):
        body = message.get_body((kind,))
        assert body is not None
        text = body.get_content()
        for said in ("Safari on iPhone", "198.51.100.9", "15 January 2027, 08:00 UTC", "/.zt/not-me?token="):
            assert said in text


async def test_the_link_changes_nothing_however_often_it_is_followed(lab: PortalLab, server: SmtpServer) -> None:
    owner = await signed_in(lab)
    thief = await signed_in(lab)
    link = await link_in(server)
    scanner = lab.browser()
    for headers in (NAVIGATION, {}, {"Sec-Fetch-Mode": "cors"}, {"User-Agent": "scanner"}):
        answer = await scanner.get(PORTAL, link, headers=headers)
        assert answer.status == 200
        assert "Safari on iPhone" in answer.text
    assert (await scanner.request("HEAD", PORTAL, link)).status == 405
    assert await owner.session() is not None
    assert await thief.session() is not None


async def test_the_form_ends_every_session_of_the_person_once_and_forgets_the_device(
    lab: PortalLab, server: SmtpServer
) -> None:
    notes: list[dict[str, Any]] = []

    async def note(kind: str, **fields: Any) -> None:
        if kind != "signed-in":
            notes.append({"type": kind, **fields})

    lab.sessions.note = note
    owner = await signed_in(lab)
    thief = await signed_in(lab)
    link = await link_in(server)
    lab.provider.principal = Principal("bob", "https://idp.example", "corp")
    bob = await signed_in(lab)
    assert len(await lab.devices.of(ALICE)) == 2
    somewhere = lab.browser("203.0.113.5")
    answer = await confirm(somewhere, link)
    assert (answer.status, "Every session of yours has ended" in answer.text) == (200, True)
    assert await owner.session() is None
    assert await thief.session() is None
    assert await thief.session(PORTAL) is None
    assert await bob.session() is not None
    assert len(await lab.devices.of(ALICE)) == 1
    assert {change.reason for change in lab.changes} == {"not-me"}
    assert [(each["type"], each["user"], each["client"]) for each in notes] == [("not-me", "alice", "203.0.113.5")]
    assert (await confirm(somewhere, link)).status == 404
    assert (await somewhere.get(PORTAL, link)).status == 404
    assert await bob.session() is not None


@pytest.mark.case("ZT-LOG-02")
async def test_neither_the_link_nor_the_address_nor_the_cookie_is_in_the_log(
    lab: PortalLab, server: SmtpServer
) -> None:
    with capture_logs() as logs:
        await signed_in(lab)
        other = await signed_in(lab)
        link = await link_in(server)
        await lab.browser().get(PORTAL, link)
        await confirm(lab.browser(), link)
        await confirm(lab.browser(), link)
    said = repr(logs)
    assert "new device" in said
    for secret in (link.partition("token=")[2], "alice@example.com", other.cookies(PORTAL)[COOKIE]):
        assert secret not in said


async def test_a_link_that_is_too_old_or_made_up_says_so(lab: PortalLab, server: SmtpServer) -> None:
    await signed_in(lab)
    await signed_in(lab)
    link = await link_in(server)
    lab.clock.advance(NOTICE_LIFE)
    for each in (link, "/.zt/not-me?token=made-up", "/.zt/not-me"):
        answer = await lab.browser().get(PORTAL, each)
        assert (answer.status, "not good any more" in answer.text) == (404, True)
        assert (await confirm(lab.browser(), each)).status == 404


@pytest.mark.parametrize(
    "origin",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://mail.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": f"https://{APP}"},
        {"Origin": "null"},
        {},
    ],
)
async def test_a_form_on_another_page_ends_nothing(lab: PortalLab, server: SmtpServer, origin: dict[str, str]) -> None:
    owner = await signed_in(lab)
    await signed_in(lab)
    link = await link_in(server)
    headers = {**NAVIGATION, "Content-Type": "application/x-www-form-urlencoded", **origin}
    assert (await confirm(lab.browser(), link, headers)).status == 403
    assert await owner.session() is not None
    assert (await lab.browser().get(PORTAL, link)).status == 200, "and the link is still good"


async def test_when_the_end_cannot_be_put_on_record_the_link_stays_good(lab: PortalLab, server: SmtpServer) -> None:
    await signed_in(lab)
    await signed_in(lab)
    link = await link_in(server)
    recorded = lab.sessions.note

    async def full(kind: str, **fields: Any) -> None:
        raise UnavailableError(Reason.RECORD_UNAVAILABLE, "the disk is full")

    lab.sessions.note = full
    assert (await confirm(lab.browser(), link)).status == 503
    lab.sessions.note = recorded
    assert (await confirm(lab.browser(), link)).status == 200


async def test_a_sign_in_that_is_refused_makes_no_device_known(lab: PortalLab, server: SmtpServer) -> None:
    await signed_in(lab)
    thief = lab.browser()
    lab.sessions.configure(lab.settings.session.__class__(limit=1, refuse_beyond=True))
    assert (await thief.back(await thief.to_provider())).status == 403
    assert COOKIE not in thief.cookies(PORTAL)
    lab.sessions.configure(lab.settings.session)
    await signed_in(lab, thief)
    await server.received()


async def test_nobody_is_shut_out_when_mail_or_the_known_devices_fail(lab: PortalLab, server: SmtpServer) -> None:
    server.refuse = lambda line: "421 go away"
    await signed_in(lab)
    other = await signed_in(lab)
    assert await other.session() is not None
    await lab.devices.close()
    third = await signed_in(lab)
    assert await third.session() is not None
    assert COOKIE not in third.cookies(PORTAL)
    page = await third.get(PORTAL, "/.zt/me")
    assert (page.status, "cannot be read" in page.text) == (200, True)


@pytest.mark.case("ZT-SESS-01")
async def test_a_device_cookie_that_came_twice_or_was_made_up_is_as_good_as_none(
    lab: PortalLab, server: SmtpServer
) -> None:
    known = await signed_in(lab)
    cookie = known.cookies(PORTAL)[COOKIE]
    planted = lab.browser()
    planted.cookies(PORTAL)[COOKIE] = f"{cookie}; {COOKIE}={cookie}"
    await signed_in(lab, planted)
    await server.received(1)
    assert planted.cookies(PORTAL)[COOKIE] != cookie
    chosen = lab.browser()
    chosen.cookies(PORTAL)[COOKIE] = "chosen-by-somebody"
    await signed_in(lab, chosen)
    await server.received(2)
    assert chosen.cookies(PORTAL)[COOKIE] != "chosen-by-somebody"


async def test_a_person_without_a_verified_address_gets_no_mail(lab: PortalLab, server: SmtpServer) -> None:
    lab.provider.principal = Principal("carol", "https://idp.example", "corp")
    await signed_in(lab)
    await signed_in(lab)
    lab.provider.principal = Principal(
        "alice", "https://idp.example", "corp", email="a@example.com\r\nBcc: x@y.example"
    )
    await signed_in(lab)
    await signed_in(lab)
    lab.provider.principal = Principal("dave", "https://idp.example", "corp", email="dave@example.com")
    await signed_in(lab)
    await signed_in(lab)
    await server.received()
    assert server.envelopes == [("zt@example.com", ("dave@example.com",))]


async def test_a_person_sees_their_devices_and_forgets_one(lab: PortalLab) -> None:
    await signed_in(lab)
    here = await signed_in(lab, agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    text = html.unescape((await here.get(PORTAL, "/.zt/me")).text)
    devices = text[text.index('id="devices"') :]
    assert "Firefox on Linux" in devices
    assert "Safari on iPhone" in devices
    phone = next(each for each in await lab.devices.of(ALICE) if "iPhone" in each.label)
    found = re.search(r'name="token" value="([^"]+)"', text)
    assert found is not None
    answer = await here.post("/.zt/me/device", token=found.group(1), id=phone.id)
    assert answer.location == "/.zt/me?done=forgotten"
    assert [each.label for each in await lab.devices.of(ALICE)] == ["Firefox on Linux"]


async def test_without_a_mail_server_everything_else_works(tmp_path: Path) -> None:
    async with PortalLab(tmp_path) as lab:
        await signed_in(lab)
        second = await signed_in(lab)
        assert len(await lab.devices.of(ALICE)) == 2
        assert "Devices you used" in (await second.get(PORTAL, "/.zt/me")).text
