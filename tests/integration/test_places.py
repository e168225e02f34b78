"""The helper script and the small window's last page come from the worker itself, for everybody, and are on record."""

import hashlib

import pytest

from tests.lab.proxy import PORTAL, ProxyLab, Reply, allow
from zt_proxy.core.types import Level
from zt_proxy.pages.scripts import SESSION_JS, SESSION_JS_URL


async def test_the_script_comes_without_a_session_and_stays_at_the_address_with_its_version() -> None:
    async with ProxyLab() as lab:
        reply = await lab.get(SESSION_JS_URL)
        assert (reply.status, reply.body) == (200, SESSION_JS.body)
        assert SESSION_JS_URL.endswith(hashlib.sha256(reply.body).hexdigest()[:16])
        assert reply.header("content-type") == "text/javascript; charset=utf-8"
        assert reply.header("cache-control") == "private, max-age=31536000, immutable"
        assert reply.header("x-content-type-options") == "nosniff"
        assert reply.header("cross-origin-resource-policy") == "same-origin"
        for other in ("/.zt/session.js", "/.zt/session.js?v=0123456789abcdef"):
            reply = await lab.get(other)
            assert (reply.status, reply.header("cache-control")) == (200, "private, no-cache")
        record = (await lab.decisions())[0]
        assert (record["path"], record["reason"]) == ("/.zt/session.js", "internal")


async def test_a_browser_that_has_the_script_is_told_so() -> None:
    async with ProxyLab() as lab:
        etag = (await lab.get("/.zt/session.js")).header("etag")
        assert etag is not None
        for named in (etag, f'"other", W/{etag}', "*"):
            reply = await lab.get("/.zt/session.js", headers=f"If-None-Match: {named}\r\n".encode())
            assert (reply.status, reply.body, reply.header("etag")) == (304, b"", etag)
        assert (await lab.get("/.zt/session.js", headers=b'If-None-Match: "other"\r\n')).status == 200
        head = await lab.get("/.zt/session.js", method="HEAD")
        assert (head.status, head.body, head.header("content-length")) == (200, b"", str(len(SESSION_JS.body)))


@pytest.mark.parametrize(
    "header", [b"Sec-Fetch-Dest: serviceworker", b"Service-Worker: script", b"Sec-Fetch-Dest: worker"]
)
async def test_the_script_cannot_be_installed_as_a_worker_of_the_proxys_own_places(header: bytes) -> None:
    async with ProxyLab() as lab:
        assert (await lab.get(SESSION_JS_URL, headers=header + b"\r\n")).status == 403


async def test_the_last_page_of_the_small_window_runs_one_script_of_ours_and_can_be_framed_by_nobody() -> None:
    async with ProxyLab() as lab:
        reply = await lab.get("/.zt/confirmed")
        policy = reply.header("content-security-policy") or ""
        assert reply.status == 200
        assert reply.header("cache-control") == "no-store"
        assert "default-src 'none'; script-src 'sha256-" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert b"BroadcastChannel('zt-step-up')" in reply.body
        assert b"app.test" in reply.body


@pytest.mark.case("ZT-APP-01")
async def test_the_places_are_on_app_hosts_alone_and_take_no_other_method() -> None:
    async with ProxyLab() as lab:
        for path in ("/.zt/session.js", "/.zt/confirmed"):
            assert (await lab.get(path, host=PORTAL)).status == 404
            assert (await lab.get(path, method="POST", headers=b"Content-Length: 0\r\n")).status == 404


ASK = b"Origin: https://app.test\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


async def preflight(lab: ProxyLab, cookie: bytes | None, question: bytes) -> Reply:
    line = b"Cookie: %b\r\n" % cookie if cookie else b""
    return await lab.send(
        b"POST /.zt/preflight HTTP/1.1\r\nHost: app.test\r\n" + line + ASK % (len(question), question)
    )


@pytest.mark.parametrize("signed_in", [False, True])
async def test_a_page_that_asks_is_told_where_a_small_window_can_sign_in(signed_in: bool) -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in() if signed_in else None
        reply = await preflight(lab, cookie, b'{"method":"GET","path":"/x","renew":true}')
        challenge = reply.header("zt-challenge") or ""
        assert reply.status == 401
        assert challenge.startswith('login; url="/.zt/step-up?to=')
        made = (reply.header("set-cookie") or "").partition(";")[0].encode()
        url = challenge.partition('"')[2].rstrip('"')
        window = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Site: same-origin\r\n"
        onward = await lab.get(url + "&window=1", b"; ".join(filter(None, (cookie, made))), window)
        assert onward.status in {302, 303}
        assert (onward.header("location") or "").startswith("https://auth.test/.zt/sign-in?to=")


async def test_the_request_itself_is_told_no_place_to_sign_in_and_a_live_session_passes() -> None:
    async with ProxyLab() as lab:
        reply = await lab.get("/x", headers=b"Sec-Fetch-Mode: cors\r\n")
        assert (reply.status, reply.header("zt-challenge")) == (401, None)
        assert (await preflight(lab, await lab.sign_in(), b'{"method":"GET","path":"/x"}')).status == 204


async def test_requests_that_one_proof_is_good_for_name_the_same_scope() -> None:
    rules = (
        allow("deploy", methods=["POST"], paths=["/flows"], level=Level.PHISHING_RESISTANT),
        allow("wipe", methods=["DELETE"], level=Level.PHISHING_RESISTANT),
    )
    async with ProxyLab(rules=rules) as lab:
        cookie = await lab.sign_in()
        scopes = []
        for question in (
            b'{"method":"POST","path":"/flows"}',
            b'{"method":"POST","path":"/flows?x"}',
            b'{"method":"DELETE","path":"/"}',
        ):
            reply = await preflight(lab, cookie, question)
            scopes.append((reply.header("zt-challenge") or "").partition("scope=")[2])
        assert scopes[0] == scopes[1] != scopes[2]
        assert all(len(scope) == 18 for scope in scopes)
