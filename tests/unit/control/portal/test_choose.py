"""Which provider somebody is sent to: by route, by the domain of an address, by their own choice."""

import html
import re
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.lab.portal import APP, OTHER, PORTAL, PortalLab
from zt_proxy.control.settings import AppHost, ProviderSettings
from zt_proxy.core.errors import Reason


def provider(name: str, *domains: str) -> ProviderSettings:
    return ProviderSettings(name, name, "https://idp.example", "zt", None, domains=domains)


BY_DOMAIN = (
    provider("corp", "example.com", "example.net"),
    provider("partners", "partner.example"),
    provider("guests"),
)
NAMES = ("corp", "partners", "guests")


async def test_an_address_leads_to_the_provider_of_its_domain_and_goes_along_as_a_hint(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, NAMES, configured=BY_DOMAIN) as lab:
        browser = lab.browser()
        to = browser.handoff()
        page = await browser.get(PORTAL, "/.zt/sign-in?to=" + to)
        assert 'name="email"' in page.text
        assert to in page.text  # the sealed way back travels with the form
        assert "Guests" in page.text  # whoever has no domain of a provider's own
        assert "Corp" not in page.text
        sent = await browser.get(PORTAL, f"/.zt/sign-in?to={to}&email=Bea%40PARTNER.example")
        assert sent.status == 200
        after, _, url = sent.headers["Refresh"].partition("; url=")
        assert after == "0"
        assert url in html.unescape(sent.text)
        assert lab.providers["partners"].asked == []
        left = await browser.get(PORTAL, url)
        assert lab.providers["partners"].asked[0]["login_hint"] == "Bea@PARTNER.example"
        back = await browser.follow(await browser.back(parse_qs(urlsplit(left.location).query)["state"][0]))
        assert back.location == "/red/?a=1"


@pytest.mark.parametrize(
    "address",
    [
        "bea@nobody.example",
        "bea@sub.partner.example",
        "bea@partner.example.",
        "partner.example",
        "@partner.example",
        "bea@",
        "bea@partner.example@evil.example",
        "a b@partner.example",
        "bea@partner.example\n",
        "x" * 320 + "@partner.example",
        "",
        '"><script>alert(1)</script>@x',
    ],
)
async def test_an_address_of_nobodys_domain_leads_nowhere_and_says_so(tmp_path: Path, address: str) -> None:
    async with PortalLab(tmp_path, NAMES, configured=BY_DOMAIN) as lab:
        page = await lab.browser().get(PORTAL, "/.zt/sign-in?email=" + quote(address))
        if address.strip() == "bea@partner.example":
            assert "Refresh" in page.headers  # what stands around an address is none of it
            return
        assert page.status == 200
        assert "Refresh" not in page.headers
        assert "Nobody here answers for this address" in page.text
        assert "<script>" not in page.text
        assert not any(one.asked for one in lab.providers.values())


async def test_without_domains_nobody_is_asked_for_an_address(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, ("corp", "partners"), configured=(provider("corp"), provider("partners"))) as lab:
        page = await lab.browser().get(PORTAL, "/.zt/sign-in")
        assert 'name="email"' not in page.text
        assert len(re.findall(r'href="/\.zt/sign-in\?with=', page.text)) == 2


async def test_a_route_of_one_provider_sends_people_there_whatever_the_link_says(tmp_path: Path) -> None:
    apps = {
        APP: AppHost(APP, f"https://{APP}", ("builder",), {"builder": "corp"}),
        OTHER: AppHost(OTHER, f"https://{OTHER}", ("crm",), {"crm": "partners"}),
    }
    async with PortalLab(tmp_path, ("corp", "partners"), apps=apps) as lab:
        browser = lab.browser()
        to = browser.handoff(route="builder")
        for link in (f"/.zt/sign-in?to={to}", f"/.zt/sign-in?with=partners&to={to}"):
            await browser.get(PORTAL, link)
        assert (len(lab.providers["corp"].asked), lab.providers["partners"].asked) == (2, [])
        assert (await browser.sign_in(route="builder")).location == "/red/?a=1"
        first = await browser.session()
        assert first is not None
        assert first.principal.provider == "corp"
        # Signed in, and still a stranger where people of another provider are meant.
        assert (await browser.sign_in(host=OTHER, route="crm")).location == "/red/?a=1"
        assert len(lab.providers["partners"].asked) == 1
        assert lab.providers["partners"].asked[0]["login_hint"] is None
        second = await browser.session(OTHER)
        assert second is not None
        assert second.principal.provider == "partners"
        assert second.sid != first.sid


async def test_a_callback_of_one_provider_never_finishes_the_login_of_another(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, ("corp", "partners")) as lab:
        browser = lab.browser()
        sent = await browser.get(PORTAL, f"/.zt/sign-in?with=corp&to={browser.handoff()}")
        state = parse_qs(urlsplit(sent.location).query)["state"][0]
        answer = await browser.get(PORTAL, f"/.zt/callback?state={state}&code=x&with=partners")
        assert answer.status == 303
        assert (len(lab.providers["corp"].finished), lab.providers["partners"].finished) == (1, [])
        again = await browser.get(PORTAL, f"/.zt/callback?state={state}&code=y")
        assert Reason.LOGIN_STATE_UNKNOWN in again.text or again.status == 303
        assert lab.providers["partners"].finished == []
