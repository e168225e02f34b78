"""Own factors as a person meets them: Chromium with a virtual authenticator, the real proxy, a provider that attests
one factor only (nina's)."""

import re

import pyotp
import pytest
from playwright.async_api import expect

from tests.real.fixtures import browser  # noqa: F401 - a fixture
from zt_proxy.core.clock import SystemClock
from zt_proxy.demo import layout as demo_layout
from zt_proxy.demo.run import demo

pytestmark = pytest.mark.browser

CONFIRMED = """\
      - id: nina-confirms
        allow:
          - {methods: [GET], paths: ["/confirm"]}
        to: {groups: [staff]}
        require: {mfa: phishing-resistant}
"""

DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
async def layout(tmp_path, monkeypatch):
    builtin = demo_layout._BUILTIN
    assert "    rules:\n" in builtin
    monkeypatch.setattr(demo_layout, "_BUILTIN", builtin.replace("    rules:\n", "    rules:\n" + CONFIRMED, 1))
    async with demo(tmp_path / "state", "builtin", port=0, idp_port=0) as running:
        yield running.layout


class Visitor:
    """A browser of its own with one tab and an authenticator that says yes to everything."""

    def __init__(self, context, page, cdp, authenticator) -> None:
        self.context = context
        self.page = page
        self.cdp = cdp
        self.authenticator = authenticator
        self.complaints = []
        page.on("console", lambda message: self.complaints.append(message.text))

    async def knows_finger(self, yes: bool) -> None:
        """Whether the authenticator takes the finger that it sees."""
        given = {"authenticatorId": self.authenticator, "isUserVerified": yes}
        await self.cdp.send("WebAuthn.setUserVerified", given)

    async def to_factors(self, url) -> None:
        """Through the provider, which asks nina for a password alone."""
        await self.page.goto(url)
        await self.page.get_by_role("link", name="nina /").click()
        await self.page.get_by_role("button", name="Continue").click()

    async def sign_out(self, layout) -> None:
        await self.page.goto(layout.portal_url + "/.zt/sign-out")
        await self.page.get_by_role("button", name="Sign out everywhere").click()
        await self.page.get_by_text("You are signed out").wait_for()

    async def use_passkey(self) -> None:
        """Nothing complains of what the page began by itself; the button works."""
        button = self.page.get_by_role("button", name="Use your passkey")
        await expect(button).to_be_enabled()
        await expect(self.page.get_by_role("alert")).to_be_hidden()
        await button.click()

    async def arrived(self) -> None:
        await self.page.get_by_role("heading", name="Records").wait_for()

    def clean(self) -> bool:
        return [text for text in self.complaints if "status of 4" not in text] == []


async def visitor(browser, **options):  # noqa: F811
    context = await browser.new_context(ignore_https_errors=True, **options)
    page = await context.new_page()
    cdp = await context.new_cdp_session(page)
    await cdp.send("WebAuthn.enable")
    made = await cdp.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
    return Visitor(context, page, cdp, made["authenticatorId"])


async def enrol_passkey(nina) -> list[str]:
    """From the page that asks for it; gives the recovery codes."""
    await nina.page.get_by_role("button", name="Create a passkey").click()
    await nina.page.get_by_role("heading", name="Keep these recovery codes").wait_for()
    return await nina.page.locator("ol.codes code").all_inner_texts()


async def enrol_app(nina) -> tuple[pyotp.TOTP, list[str]]:
    await nina.page.get_by_role("link", name="Use an authenticator app instead").click()
    await expect(nina.page.locator(".qr svg")).to_be_visible()
    await nina.page.get_by_text("Type the secret instead").click()
    app = pyotp.TOTP(re.sub(r"\s", "", await nina.page.locator(".secret").inner_text()))
    await nina.page.get_by_label("Code that the app shows now").fill(app.now())
    await nina.page.get_by_role("button", name="Add the app").click()
    await nina.page.get_by_role("heading", name="Keep these recovery codes").wait_for()
    return app, await nina.page.locator("ol.codes code").all_inner_texts()


async def test_a_passkey_is_enrolled_in_the_first_sign_in_and_shown_in_the_next(browser, layout):  # noqa: F811
    nina = await visitor(browser)
    await nina.to_factors(layout.app_url)
    assert await nina.page.get_by_label("Name of the passkey").input_value() == "Chrome on Linux"
    assert len(await enrol_passkey(nina)) == 10
    await nina.page.get_by_role("button", name="I kept them").click()
    await nina.arrived()
    await nina.sign_out(layout)
    await nina.knows_finger(False)
    await nina.to_factors(layout.app_url)
    await nina.page.get_by_role("heading", name="One more step").wait_for()
    await nina.knows_finger(True)
    await nina.use_passkey()
    await nina.arrived()
    assert nina.clean(), nina.complaints


async def test_somebody_without_their_passkey_gets_in_by_a_recovery_code_once(browser, layout):  # noqa: F811
    nina = await visitor(browser)
    await nina.to_factors(layout.app_url)
    codes = await enrol_passkey(nina)
    await nina.page.get_by_role("button", name="I kept them").click()
    await nina.arrived()
    for code, works in ((codes[3], True), (codes[3], False)):
        other = await visitor(browser)
        await other.to_factors(layout.app_url)
        await other.page.get_by_text("Use a code instead").click()
        await (
            other.page.get_by_label("One of your recovery codes")
            .or_(other.page.get_by_label("Code of your authenticator app"))
            .fill(code)
        )
        await other.page.get_by_role("button", name="Continue").click()
        if works:
            await other.arrived()
        else:
            await other.page.get_by_role("alert").filter(has_text=re.compile(r"\w")).wait_for()
        await other.context.close()


async def test_an_authenticator_app_without_script(browser, layout):  # noqa: F811
    nina = await visitor(browser, java_script_enabled=False)
    await nina.to_factors(layout.app_url)
    app, _ = await enrol_app(nina)
    await nina.page.get_by_role("button", name="I kept them").click()
    await nina.page.wait_for_url(layout.app_url + "/**")
    other = await visitor(browser, java_script_enabled=False)
    await other.to_factors(layout.app_url)
    code = other.page.get_by_label("Code of your authenticator app")
    await code.fill("000000")
    await other.page.get_by_role("button", name="Continue").click()
    await expect(other.page.get_by_role("alert")).to_be_visible()
    await code.fill(app.at(SystemClock().now() + 30))
    await other.page.get_by_role("button", name="Continue").click()
    await other.page.wait_for_url(layout.app_url + "/**")


async def test_a_code_signs_in_and_a_passkey_steps_up(browser, layout):  # noqa: F811
    nina = await visitor(browser)
    await nina.to_factors(layout.app_url)
    await enrol_app(nina)
    await nina.page.get_by_role("button", name="I kept them").click()
    await nina.arrived()
    await nina.page.goto(layout.portal_url + "/.zt/enrol")
    await nina.page.get_by_role("button", name="Create a passkey").click()
    await nina.page.wait_for_url("**/.zt/me")
    await nina.knows_finger(False)
    await nina.page.goto(layout.app_url + "/confirm")
    await nina.page.get_by_role("heading", name="Confirm it is you").wait_for()
    assert await nina.page.get_by_text("nina-confirms").count() == 1
    assert await nina.page.get_by_label("Code of your authenticator app").count() == 0
    await nina.knows_finger(True)
    await nina.use_passkey()
    await nina.page.wait_for_url(layout.app_url + "/confirm")
    assert nina.clean(), nina.complaints
