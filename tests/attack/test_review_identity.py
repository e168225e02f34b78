"""What an independent look at providers, refresh, logout, devices and mail found, one attack each."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web

from tests.lab.browser import Page
from tests.lab.idp import ABSENT
from tests.lab.logout import announce, logout_token
from tests.lab.portal import PortalLab
from tests.lab.relying_party import SignInLab
from tests.lab.waiting import until
from tests.lab.world import AUTH, HOME, STEP_UP, world
from zt_proxy.control.devices.mail import Letter, Outbox
from zt_proxy.control.identity.refresh import Refresher
from zt_proxy.control.session.manager import SessionManager, open_sessions
from zt_proxy.control.settings import AuditSettings, ControlSettings, MailSettings, MailTls, SessionSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import Reason
from zt_proxy.core.keys import CookieMac, KeyRing

# mail

MAIL = MailSettings("127.0.0.1", 1, "zt@example.com", MailTls.INSECURE_NONE)
CODED = (
    "=?A?q?&}^=}`ua}1u?=@evil.example",  # a charset that nobody knows
    "=?utf-8?b?f-=&0{}%A?={8_0??_u??=@evil.example",  # half a coded word, and no domain left
    "=?utf-8?q?a=0d=0aBcc=3a_x?=@evil.example",
    "=?utf-8?b?AA=={=?=@evil.example",
)


def letter(to: str) -> Letter:
    return Letter(to, "New sign-in", "text", "<p>text</p>")


@contextlib.asynccontextmanager
async def outbox(sent: list[str], fault: type[Exception] | None = None) -> AsyncIterator[Outbox]:
    faults = [fault] if fault is not None else []

    def send(_: MailSettings, message: Any) -> None:
        if faults:
            raise faults.pop()("of a library")
        sent.append(str(message["To"]))

    box = Outbox(ManualClock(), MAIL, send=send)
    task = asyncio.create_task(box.run())
    try:
        yield box
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("address", CODED)
async def test_an_address_that_is_a_coded_word_keeps_nobody_elses_mail_from_going_out(address: str) -> None:
    sent: list[str] = []
    async with outbox(sent) as box:
        box.put(letter(address))
        box.put(letter("alice@example.com"))
        await until(lambda: sent == ["alice@example.com"])


async def test_a_surprise_in_sending_one_letter_ends_no_mail() -> None:
    sent: list[str] = []
    async with outbox(sent, fault=RuntimeError) as box:
        box.put(letter("bob@example.com"))
        box.put(letter("alice@example.com"))
        await until(lambda: sent == ["alice@example.com"])


async def test_one_person_cannot_fill_the_outbox_and_silence_the_mail_about_another() -> None:
    box = Outbox(ManualClock(), MAIL)  # the server takes nothing at the moment
    put = [box.put(letter("mallory@evil.example")) for _ in range(2_000)]
    assert sum(put) <= 20
    assert not box.put(letter("Mallory@EVIL.example"))
    assert box.put(letter("alice@example.com"))


# freshness


async def test_a_provider_that_does_not_say_when_it_asked_proves_nothing_fresh() -> None:
    """Whoever finds an open browser signs out here, and the provider signs them in again without a question."""
    async with world(STEP_UP) as here:
        here.idp.claims["auth_time"] = ABSENT
        person = await here.person()
        assert (await person.fetch(HOME + "/deploy")).status == 401
        assert b"/deploy" not in here.reached
        del here.idp.claims["auth_time"]  # §2: sent because it is asked for
        assert (await person.visit(HOME + "/deploy")).status == 200


# refresh


class Asked:
    """Sessions, and a provider that is asked again."""

    def __init__(self, folder: Path, lab: SignInLab) -> None:
        self.lab = lab
        self.ring = KeyRing({1: b"w" * 32})
        self.settings = ControlSettings(
            "https://auth.test", "auth.test", folder / "p.sock", folder / "state", folder / "run", (), {},
            AuditSettings(folder / "audit"), session=SessionSettings(idle=86_400.0, absolute=86_400.0),
        )  # fmt: skip

    async def lives(self, **then: Any) -> bool:
        """Whether a session lives on when the provider says `then` of its person."""
        manager: SessionManager = await open_sessions(self.settings, self.ring, self.lab.clock)
        refresher = Refresher(manager.at_provider, self.lab.clock)
        refresher.use([self.lab.provider])
        try:
            record = await manager.create(await self.lab.sign_in())
            cookie = await manager.issue_handle(record.sid, "app.test")
            if "refusal" in then:
                answer = {"error": then["refusal"]}
                self.lab.idp.replies["token"] = lambda: web.json_response(answer, status=400)
            self.lab.idp.claims |= then
            self.lab.clock.advance(301.0)
            await refresher.tick()
            await refresher.settled()
            return await manager.session(CookieMac(self.ring).handle_hash(cookie), "app.test") is not None
        finally:
            await refresher.close()
            await manager.close()


@pytest.mark.parametrize(
    ("then", "lives"),
    [
        ({}, True),
        ({"hd": "elsewhere.example"}, False),
        ({"hd": ABSENT}, False),
        ({"groups": ["staff", ""]}, False),
        ({"groups": ["sta\u0000ff"]}, False),
        ({"iss": "https://elsewhere.test"}, True),  # not this provider's word
        ({"at_hash": "AAAA"}, True),
    ],
)
async def test_who_could_not_sign_in_any_more_by_what_a_refresh_says_is_out(
    tmp_path: Path, then: dict[str, Any], lives: bool
) -> None:
    async with SignInLab(preset="google", tenant="example.com") as lab:
        lab.idp.rotates = True
        lab.idp.claims |= {"hd": "example.com"}
        assert await Asked(tmp_path, lab).lives(**then) is lives


# several providers


@pytest.mark.case("ZT-OIDC-06")
async def test_a_code_of_one_provider_is_never_shown_to_another() -> None:
    """RFC 9700 §4.4: the other one sent the person on to a provider whose answers do not say that they are its own."""
    async with SignInLab() as lab, SignInLab() as mallory:
        lab.idp.discovery["authorization_response_iss_parameter_supported"] = ABSENT
        lab.idp.response["iss"] = ABSENT
        lab.configure(name="corp", one_of_several=True, own_callback=True)
        mallory.idp.discovery["authorization_response_iss_parameter_supported"] = ABSENT
        mallory.configure(name="partners", one_of_several=True, own_callback=True)
        url = await lab.provider.authorization_url(
            state="partners-state", nonce="n", verifier="v" * 43, max_age=None, force=False
        )
        answer = await lab.visit(url)
        assert (answer["provider"], "code" in answer) == ("corp", True)
        assert await mallory.refused(parameters=answer) is Reason.LOGIN_TOKEN_INVALID
        mallory.configure(name="partners", one_of_several=True)  # at the redirect URI that is nobody's own
        assert await mallory.refused(parameters=answer) is Reason.LOGIN_TOKEN_INVALID
        assert not mallory.idp.token_requests
        assert (await lab.sign_in()).provider == "corp"


async def test_one_of_several_providers_that_cannot_be_told_apart_signs_nobody_in() -> None:
    async with SignInLab(one_of_several=True) as lab:
        assert (await lab.sign_in()).principal.subject == "sub-alice"  # its answers carry `iss`
    async with SignInLab(one_of_several=True) as lab:
        lab.idp.discovery["authorization_response_iss_parameter_supported"] = False
        assert await lab.refused() is Reason.PROVIDER_INVALID


async def test_an_answer_at_a_redirect_uri_that_is_not_the_providers_is_refused() -> None:
    async with SignInLab(own_callback=True) as lab:
        url = await lab.provider.authorization_url(state="s", nonce="n", verifier="v" * 43, max_age=None, force=False)
        answer = await lab.visit(url)
        without = {name: value for name, value in answer.items() if name != "provider"}
        for wrong in (without, {**answer, "provider": ""}, {**answer, "provider": "LAB"}):
            assert await lab.refused(parameters=wrong) is Reason.LOGIN_TOKEN_INVALID
        assert not lab.idp.token_requests


async def test_an_id_token_is_no_hint_for_the_provider_that_has_the_name_of_another_now(tmp_path: Path) -> None:
    portal = PortalLab(tmp_path)
    portal.provider.issuer = "https://other-idp.example"  # the session is of an issuer before
    async with portal as lab:
        browser = lab.browser()
        assert (await browser.sign_in()).status == 303
        token = await browser.sign_out_token()
        answer = await browser.post("/.zt/sign-out", token=token)
        assert answer.location == "/.zt/signed-out"


@pytest.mark.parametrize(
    ("error", "lives"),
    [
        ("interaction_required", False),  # Entra ID, where conditional access wants to see the person
        ("consent_required", False),
        ("login_required", False),
        ("access_denied", False),
        ("invalid_client", True),  # the proxy's fault, not the person's
        ("temporarily_unavailable", True),
    ],
)
async def test_a_provider_that_will_not_renew_this_person_ends_the_session(
    tmp_path: Path, error: str, lives: bool
) -> None:
    async with SignInLab() as lab:
        lab.idp.rotates = True
        assert await Asked(tmp_path, lab).lives(refusal=error) is lives


# back channel


async def test_strangers_at_the_providers_address_cannot_keep_its_logout_from_being_heard() -> None:
    """Behind a load balancer or a container's network everybody may have one address."""
    async with world() as here:
        person = await here.person()
        server = here.browser()
        refused = [(await announce(server, AUTH, logout_token(here.idp, aud="x"))).status for _ in range(25)]
        assert refused == [400] * 20 + [429] * 5
        assert (await announce(server, AUTH, logout_token(here.idp))).status == 200
        assert (await person.fetch(HOME + "/")).status == 401


# front channel


@pytest.mark.parametrize("host", ["a.test;script-src", "*", "*.test", "a.test,b.test", "a'b.test", "[::1];x"])
async def test_a_providers_metadata_write_nothing_into_a_pages_policy(host: str) -> None:
    async with SignInLab() as lab:
        lab.idp.discovery["end_session_endpoint"] = f"https://{host}/logout"
        assert await lab.refused() is Reason.PROVIDER_INVALID


FRAME = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Accept": "text/html"}


async def test_a_login_on_its_way_does_not_survive_its_end_in_the_front_channel() -> None:
    async with world() as here:
        person = here.browser()
        waiting = await person.visit(HOME + "/", until="/.zt/callback")

        async def end(sid: str) -> Page:
            query = urlencode({"iss": here.idp.issuer, "sid": sid})
            return await here.browser().request(f"{AUTH}/.zt/front-channel-logout?{query}", headers=FRAME)

        made = here.idp.id_token_claims
        before = int(here.clock.now())
        here.idp.id_token_claims = lambda *of: {**made(*of), "iat": before}  # type: ignore[method-assign]
        await here.lab.advance(5)
        assert (await end("idp-session-alice")).status == 200
        page = await person.visit(waiting.location)
        assert (page.status, "login-ended" in page.text) == (401, True)
        here.idp.id_token_claims = made  # type: ignore[method-assign]
        await here.lab.advance(2)
        assert (await person.visit(HOME + "/")).status == 200
