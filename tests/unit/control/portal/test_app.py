"""What exists at which host, who may call, and what every answer carries."""

import base64
import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.lab.portal import APP, ID_TOKEN, NAVIGATION, OTHER, PORTAL, SESSION_COOKIE, PortalLab
from zt_proxy.control.portal.app import APP_HOST, PORTAL_HOST
from zt_proxy.control.session.logins import capped_by
from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Principal

HOSTILE = '"><img src=x onerror=alert(1)>'


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        yield lab


async def test_whoever_does_not_come_through_a_worker_is_refused_everything(lab: PortalLab) -> None:
    good = json.dumps({"host": PORTAL, "client": "192.0.2.7", "sid": None, "request_id": "r"})
    for headers in (
        [],
        [("X-ZT-Assertion", "forged")],
        [("X-ZT-Assertion", good), ("X-ZT-Assertion", good)],
        [("X-ZT-Assertion", "")],
    ):
        for path in (*PORTAL_HOST, *APP_HOST, "/other"):
            async with lab.http.get(lab.server.make_url(path), headers=headers, allow_redirects=False) as answer:
                assert answer.status == 403
                assert (await answer.json(content_type=None))["reason"] == Reason.ASSERTION_INVALID


@pytest.mark.case("ZT-APP-01")
async def test_what_has_authority_does_not_exist_at_an_apps_host(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    only_portal = set(PORTAL_HOST) - set(APP_HOST)
    for path in (*only_portal, "/.zt/me", "/.zt/admin/", "/.zt/enroll", "/.zt/scim/v2/Users", "/.zt/SIGN-OUT"):
        answer = await browser.get(APP, path, headers={"Sec-Fetch-Mode": "cors"})
        assert answer.status == 404, path
        assert json.loads(answer.text)["reason"] == Reason.PATH_UNKNOWN
    assert not {path for path in APP_HOST if path.startswith(("/.zt/me", "/.zt/enrol", "/.zt/confirm/", "/.zt/not-me"))}
    changing = {path for path, methods in APP_HOST.items() if not set(methods) <= {"GET", "HEAD"}}
    assert changing <= {"/.zt/activity", "/.zt/keep", "/.zt/preflight"}, (
        "what an app's own pages may cause, and nothing else"
    )


@pytest.mark.parametrize(
    "path", ["/.zt/%73ession", "/.zt/./session", "/.zt//session", "/.zt/session/", "/.zt", "/x/../"]
)
async def test_a_path_that_is_only_almost_in_the_list_is_not_in_it(lab: PortalLab, path: str) -> None:
    answer = await lab.browser().get(PORTAL, path)
    assert answer.status == 404


async def test_a_host_of_neither_kind_is_unknown(lab: PortalLab) -> None:
    answer = await lab.browser().get("evil.example", "/.zt/session")
    assert answer.status == 404
    assert Reason.HOST_UNKNOWN in answer.text


async def test_another_method_is_refused_with_the_ones_there_are(lab: PortalLab) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await lab.browser().request(method, APP, "/.zt/session")
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET"
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.case("ZT-OIDC-28")
async def test_no_header_of_the_client_says_where_anything_leads(lab: PortalLab) -> None:
    browser = lab.browser()
    spoofed = {
        **NAVIGATION,
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "Forwarded": "host=evil.example",
        "X-Original-URL": "https://evil.example/",
    }
    await browser.sign_in()
    for host, path in ((PORTAL, "/"), (PORTAL, "/.zt/sign-in?to=" + browser.handoff()), (APP, "/.zt/sign-out")):
        answer = await browser.get(host, path, headers=spoofed)
        assert "evil" not in answer.location + answer.text


async def test_the_public_keys_are_on_every_host_and_may_be_cached_shortly(lab: PortalLab) -> None:
    for host in (PORTAL, APP, OTHER):
        answer = await lab.browser().get(host, "/.zt/jwks.json")
        assert json.loads(answer.text) == {"keys": [{"kid": "k1"}]}
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        assert (await lab.browser().request("HEAD", host, "/.zt/jwks.json")).text == ""


async def test_every_answer_is_uncached_and_unframed_and_runs_no_script_but_ours(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    answers = [
        await browser.get(host, path)
        for host in (PORTAL, APP)
        for path in (*PORTAL_HOST, "/.zt/resume?code=x", "/.zt/sign-in?to=x", "/nothing")
        if not path.endswith(("jwks.json", "portal.js"))
    ]
    answers.append(await lab.browser().get(PORTAL, "/"))
    answers.append(await lab.browser().get(PORTAL, "/nothing", headers={"Sec-Fetch-Mode": "cors"}))
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Referrer-Policy"] in {"no-referrer", "same-origin"}
        assert answer.headers["X-Request-Id"] == "req-1"
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "unsafe" not in policy
        scripts = re.findall(r"<script[^>]*>", answer.text)
        assert ("script-src 'self'" in policy) == bool(scripts)
        assert all(re.fullmatch(r'<script src="/\.zt/portal\.js\?v=[0-9a-f]{16}" defer>', each) for each in scripts)
        assert "style=" not in answer.text
        for style in re.findall(r"<style>(.*?)</style>", answer.text, re.S):
            digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy


@pytest.mark.case("ZT-ADMIN-03")
async def test_names_from_the_provider_are_shown_as_text(lab: PortalLab) -> None:
    lab.provider.principal = Principal(
        subject=HOSTILE, issuer="https://idp.example", provider="corp", name=HOSTILE, email=HOSTILE + "2"
    )
    browser = lab.browser()
    await browser.sign_in()
    for path in ("/", "/.zt/sign-out"):
        page = await browser.get(PORTAL, path)
        assert page.status == 200
        assert "<img" not in page.text
        assert "&lt;img src=x" in page.text


@pytest.mark.case("ZT-ERR-01")
async def test_an_unexpected_fault_is_a_page_with_a_request_id_and_nothing_else(
    lab: PortalLab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.provider.fault = RuntimeError("secret inside")  # type: ignore[assignment]
    browser = lab.browser()
    answer = await browser.get(PORTAL, "/.zt/sign-in?to=" + browser.handoff())
    assert answer.status == 500
    assert Reason.INTERNAL_ERROR in answer.text
    assert "req-1" in answer.text
    assert "secret inside" not in answer.text
    assert "Traceback" not in answer.text


async def test_a_store_that_cannot_answer_is_503_and_takes_no_cookie_away(lab: PortalLab, tmp_path: Path) -> None:
    browser = lab.browser()
    await lab.sessions._store._run(lambda db: db.execute("PRAGMA busy_timeout=1").fetchall())  # type: ignore[attr-defined]
    other = sqlite3.connect(tmp_path / "state" / "sessions.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = await browser.get(PORTAL, "/.zt/sign-in?to=" + browser.handoff())
    other.execute("ROLLBACK")
    other.close()
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert Reason.STORE_UNAVAILABLE in answer.text
    assert not any(SESSION_COOKIE + "=" in line for line in answer.set_cookies)


@pytest.mark.case("ZT-LOG-02")
async def test_no_secret_of_a_sign_in_is_logged_at_any_level(
    lab: PortalLab, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    browser, other = lab.browser(), lab.browser()
    state = await browser.to_provider()
    await other.back(state)
    to_app = await browser.back(state)
    handle = await browser.follow(to_app)
    await browser.follow(to_app)
    await other.follow(to_app)
    await browser.back(state)
    token = await browser.sign_out_token()
    secrets = [state, to_app.location.partition("code=")[2], token, ID_TOKEN, browser.handoff()]
    secrets += [value for jar in browser.jar.values() for value in jar.values()]
    secrets += [
        str(value) for asked in lab.provider.asked for key, value in asked.items() if key in {"nonce", "verifier"}
    ]
    captured = capsys.readouterr()
    logged = captured.out + captured.err + caplog.text
    assert handle.status == 303
    assert "portal refused" in logged
    for secret in secrets:
        assert len(secret) > 20
        assert secret not in logged


def test_addresses_are_counted_as_one_person_owns_them() -> None:
    assert capped_by("192.0.2.7") == "192.0.2.7"
    assert capped_by("::ffff:192.0.2.7") == "192.0.2.7"
    assert capped_by("2001:db8:1:2:3:4:5:6") == capped_by("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert capped_by("fe80::1%eth0") == "fe80::/64"
    assert capped_by("") == ""
