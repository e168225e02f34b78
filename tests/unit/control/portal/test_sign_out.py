"""Signing out: asked for by GET, done by POST with the session's own token, in force everywhere."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.lab.portal import APP, ID_TOKEN, NAVIGATION, OTHER, PORTAL, SESSION_COOKIE, PortalLab
from zt_proxy.core.errors import Reason

FORM = {
    **NAVIGATION,
    "Content-Type": "application/x-www-form-urlencoded",
    "Origin": f"https://{PORTAL}",
    "Sec-Fetch-Site": "same-origin",
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        yield lab


@pytest.mark.case("ZT-SESS-05")
async def test_sign_out_ends_the_session_at_every_host_and_removes_the_cookie(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    await browser.sign_in(host=OTHER)
    token = await browser.sign_out_token()
    sid = (await browser.session()).sid
    answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers=FORM, data=urlencode({"token": token}))
    assert answer.status == 303
    cleared = [line for line in answer.set_cookies if line.startswith(f"{SESSION_COOKIE}=")]
    assert cleared == [f"{SESSION_COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"]
    assert await browser.session(APP) is None
    assert await browser.session(OTHER) is None
    assert lab.changes[-1].sid == sid


async def test_sign_out_goes_on_to_the_provider_and_comes_back_to_a_page(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    asked = await browser.get(PORTAL, "/.zt/sign-out")
    # Chromium holds redirects after the POST to form-action; under no-referrer it would send `Origin: null`.
    assert "form-action 'self' https://idp.example;" in asked.headers["Content-Security-Policy"]
    assert asked.headers["Referrer-Policy"] == "same-origin"
    token = await browser.sign_out_token()
    answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers=FORM, data=urlencode({"token": token}))
    parts = urlsplit(answer.location)
    query = parse_qs(parts.query)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://idp.example/logout"
    assert query["id_token_hint"] == [ID_TOKEN]
    assert query["post_logout_redirect_uri"] == [f"https://{PORTAL}/.zt/signed-out"]
    page = await browser.get(PORTAL, "/.zt/signed-out?state=x")
    assert page.status == 200
    assert "You are signed out" in page.text


async def test_a_provider_without_logout_does_not_keep_the_session_from_ending(lab: PortalLab) -> None:
    lab.provider.end_session = None
    browser = lab.browser()
    await browser.sign_in()
    token = await browser.sign_out_token()
    answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers=FORM, data=urlencode({"token": token}))
    assert answer.location == "/.zt/signed-out"
    assert await browser.session() is None


@pytest.mark.case("ZT-OIDC-21")
@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
async def test_no_get_ever_signs_anybody_out(lab: PortalLab, site: str) -> None:
    browser = lab.browser()
    await browser.sign_in()
    for host in (APP, PORTAL):
        for mode in ("navigate", "no-cors"):
            headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Accept": "image/*"}
            answer = await browser.get(host, "/.zt/sign-out", headers=headers)
            assert not any(SESSION_COOKIE + "=" in line for line in answer.set_cookies)
    assert await browser.session(APP) is not None
    assert await browser.session(PORTAL) is not None


@pytest.mark.case("ZT-OIDC-21")
async def test_another_site_cannot_even_start_a_sign_out_at_an_app(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    answer = await browser.get(APP, "/.zt/sign-out", headers={**NAVIGATION, "Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403
    assert Reason.CROSS_ORIGIN in answer.text
    typed = await browser.get(APP, "/.zt/sign-out", headers={**NAVIGATION, "Sec-Fetch-Site": "none"})
    assert typed.location.partition("?")[0] == f"https://{PORTAL}/.zt/sign-out"


@pytest.mark.case("ZT-OIDC-21")
@pytest.mark.parametrize(
    "change",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": f"https://{APP}", "Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {"Origin": "null", "Sec-Fetch-Site": None},
        {"Origin": None, "Sec-Fetch-Site": None},
        {"Sec-Fetch-Site": "none"},
        {"Origin": f"https://{PORTAL}.evil.example", "Sec-Fetch-Site": None},
    ],
)
async def test_a_form_of_another_origin_is_refused_even_with_the_right_token(
    lab: PortalLab, change: dict[str, str | None]
) -> None:
    browser = lab.browser()
    await browser.sign_in()
    token = await browser.sign_out_token()
    headers = {name: value for name, value in {**FORM, **change}.items() if value is not None}
    answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers=headers, data=urlencode({"token": token}))
    assert answer.status == 403
    assert await browser.session() is not None


@pytest.mark.case("ZT-OIDC-21")
async def test_a_post_without_the_token_or_with_another_sessions_is_refused(lab: PortalLab) -> None:
    browser, other = lab.browser(), lab.browser()
    await browser.sign_in()
    await other.sign_in()
    stolen = await other.sign_out_token()
    for body in ("", "token=", urlencode({"token": stolen}), "token=%ff", "token=" + "é".encode().hex()):
        answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers=FORM, data=body)
        assert answer.status == 403, body
    assert await browser.session() is not None


async def test_a_token_is_worth_nothing_after_a_new_handle(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    token = await browser.sign_out_token()
    session = await browser.session(PORTAL)
    browser.cookies(PORTAL)[SESSION_COOKIE] = await lab.sessions.issue_handle(session.sid, PORTAL)
    answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers=FORM, data=urlencode({"token": token}))
    assert answer.status == 403


@pytest.mark.case("ZT-DOS-14")
@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=token\r\n", 400),
        ("text/plain", b"token=1", 400),
        ("application/x-www-form-urlencoded", b"token=1&token=2", 400),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(40)), 400),
        ("application/x-www-form-urlencoded", b"token=\xff", 400),
        ("application/x-www-form-urlencoded", b"token=" + b"a" * 5000, 413),
    ],
)
async def test_a_malformed_form_is_refused_and_changes_nothing(
    lab: PortalLab, kind: str, body: bytes, status: int
) -> None:
    browser = lab.browser()
    await browser.sign_in()
    answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers={**FORM, "Content-Type": kind}, data=body)
    assert answer.status == status
    assert await browser.session() is not None


async def test_signing_out_twice_is_no_error(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    token = await browser.sign_out_token()
    for _ in range(2):
        answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers=FORM, data=urlencode({"token": token}))
        assert answer.status == 303
    assert (await browser.get(PORTAL, "/.zt/sign-out")).location == "/.zt/signed-out"


async def test_the_signed_out_page_is_not_shown_to_somebody_who_is_signed_in(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    assert (await browser.get(PORTAL, "/.zt/signed-out")).location == "/"


async def test_with_several_providers_each_session_goes_to_its_own(tmp_path: Path) -> None:
    async with PortalLab(tmp_path, providers=("corp", "partner")) as lab:
        lab.providers["partner"].end_session = "https://partner.example/bye"
        for name, address in (("corp", "https://idp.example/logout"), ("partner", "https://partner.example/bye")):
            browser = lab.browser()
            begun = await browser.get(PORTAL, f"/.zt/sign-in?with={name}&to={browser.handoff()}")
            await browser.follow(await browser.back(parse_qs(urlsplit(begun.location).query)["state"][0]))
            session = await browser.session()
            assert session is not None
            assert session.principal.provider == name
            form = urlencode({"token": await browser.sign_out_token()})
            answer = await browser.request("POST", PORTAL, "/.zt/sign-out", headers=FORM, data=form)
            assert answer.location.partition("?")[0] == address
