"""The helper script and the small window's last page come from the worker itself, for everybody, and are on record."""

import hashlib

import pytest

from tests.lab.proxy import PORTAL, ProxyLab
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
