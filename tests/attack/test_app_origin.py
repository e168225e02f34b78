"""The app's own pages are hostile: what a script on the app's origin finds there, and what its answers may do.

Also which "no" goes to whom, and what another origin may cause.
"""

import json
from urllib.parse import urlsplit

import pytest

from tests.lab.proxy import APP, ORIGIN, PORTAL, ProxyLab, Reply, allow, lab_route
from tests.lab.ws import HANDSHAKE

NAVIGATION = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nAccept: text/html\r\n"
SAME = b"Sec-Fetch-Site: same-origin\r\n"
AT_PORTAL_ALONE = (
    "/.zt/", "/.zt", "/.zt/me", "/.zt/me/end", "/.zt/me/end-all", "/.zt/me/codes", "/.zt/not-me", "/.zt/admin", "/.zt/admin/", "/.zt/admin/users", "/.zt/enrol", "/.zt/enrolment",
    "/.zt/passkeys", "/.zt/totp", "/.zt/approve", "/.zt/approval", "/.zt/approvals", "/.zt/why", "/.zt/break-glass", "/.zt/scim/v2/Users", "/.zt/egress", "/.zt/callback",
    "/.zt/sign-in", "/.zt/signed-out", "/.zt/keys", "/.zt/metrics", "/.zt/healthz", "/.zt/resume/", "/.zt/session/x",
    "/.zt/jwks.json/", "/.zt/SESSION", "/.ZT/session/../me", "/.zt//session", "/.zt/session;x", "/.zt/%73ession/me",
)  # fmt: skip


@pytest.mark.case("ZT-APP-01")
async def test_nothing_with_authority_exists_on_an_apps_host() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in("admin", groups=("staff", "admins"))
        for path in AT_PORTAL_ALONE:
            for method in ("GET", "POST"):
                own = ORIGIN + SAME + (b"Content-Length: 0\r\n" if method != "GET" else b"")
                reply = await lab.get(path, cookie, own, method=method)
                assert reply.status in {400, 404}, (method, path)
                if reply.status == 404:
                    assert reply.problem["reason"] in {"path-unknown", "host-unknown"}
        assert lab.upstream.connections == 0, "and the platform never sees a path below /.zt"


@pytest.mark.case("ZT-APP-01")
async def test_the_places_of_an_apps_host_take_one_method_each_and_tell_little() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for path in ("/.zt/session", "/.zt/resume", "/.zt/sign-out", "/.zt/jwks.json"):
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
                reply = await lab.get(path, cookie, ORIGIN + SAME + b"Content-Length: 0\r\n", method=method)
                assert reply.status in {404, 405}, (method, path)
            for method in ("TRACE", "CONNECT"):
                assert (await lab.get(path, cookie, method=method)).status in {400, 405}
        state = json.loads((await lab.get("/.zt/session", cookie)).body)
        assert set(state) == {
            "signed_in", "who", "level", "proved_at", "now", "idle_deadline", "absolute_deadline"
        }  # fmt: skip
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            reply = await lab.get("/.zt/activity", cookie, ORIGIN + SAME + b"Content-Length: 0\r\n", method=method)
            assert reply.status in {404, 405}, method
        assert json.loads((await lab.get("/.zt/session")).body) == {"signed_in": False}
        keys = json.loads((await lab.get("/.zt/jwks.json")).body)["keys"]
        assert keys
        assert not any({"d", "p", "q", "k"} & set(key) for key in keys)
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-APP-01")
async def test_no_spelling_of_the_reserved_prefix_gets_around_it() -> None:
    spellings = (
        "/.zt/../.zt/session", "/x/../.zt/session", "/./.zt/session", "/%2ezt/session", "/.%7At/session", "/.zt%2fsession",
        "/.zt/./session", "/.zt/..;/admin", "//.zt/session", "/.zt\\session", "/.zt/%2e%2e/admin", "/.zt%00/session",
        "/.zt/..", "/.zt/../", "/.zt/.%2e/x",
    )  # fmt: skip
    allowed = ("/.ztx", "/x/.zt/session", "/.z", "/.Zt/session")
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for raw in spellings:
            reply = await lab.get(raw, cookie)
            own = (
                reply.status == 200
                and reply.header(
                    "content-type",
                )
                == "application/json; charset=utf-8"
            )
            assert own or reply.status in {400, 404}, raw
        assert lab.upstream.connections == 0
        for raw in allowed:
            assert (await lab.get(raw, cookie)).status == 200, raw
        assert [seen.target.decode() for seen in lab.upstream.seen] == list(allowed)


@pytest.mark.case("ZT-APP-01")
async def test_a_page_of_an_app_cannot_use_or_read_the_portal() -> None:
    async with ProxyLab() as lab:
        await lab.sign_in()
        assert lab.proxy.control is not None
        handle = await lab.proxy.control.sessions.issue_handle(lab.sid, PORTAL)
        cookie = b"__Host-zt=" + handle.encode()
        cross = ORIGIN + b"Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n"
        for path in ("/", "/.zt/session", "/.zt/sign-out", "/.zt/jwks.json"):
            reply = await lab.get(path, cookie, cross, host=PORTAL)
            assert not [name for name, _ in reply.headers if name.lower().startswith("access-control-")], path
            preflight = await lab.get(
                path, None, ORIGIN + b"Access-Control-Request-Method: POST\r\n", host=PORTAL, method="OPTIONS"
            )
            assert preflight.status in {403, 404, 405}, path
            assert preflight.header("access-control-allow-origin") is None
            posted = await lab.get(path, cookie, cross + b"Content-Length: 0\r\n", host=PORTAL, method="POST")
            assert posted.status in {403, 404, 405}, path
        page = await lab.get("/", cookie, NAVIGATION, host=PORTAL)
        assert page.status == 200
        policy = page.header("content-security-policy") or ""
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        for path in ("/admin/", "/anything", "/flows"):
            assert (await lab.get(path, cookie, host=PORTAL)).status == 404


@pytest.mark.case("ZT-APP-03")
async def test_an_apps_answer_cannot_touch_the_session_or_the_reserved_paths() -> None:
    lines = (
        "Set-Cookie: __Host-zt=stolen; Path=/; Secure", "Set-Cookie: __host-ZT=stolen; Path=/", "Set-Cookie: =__Host-zt=x",
        "Set-Cookie: __Host-zt-login=x; Secure; Path=/", "Set-Cookie:  __Host-zt =x", "Set-Cookie: theme=dark; Path=/",
        'Clear-Site-Data: "*"', 'clear-site-data: "cookies"', "Service-Worker-Allowed: /", "Alt-Svc: h3=\":443\"",
        "X-ZT-Assertion: forged", "ZT-Challenge: login", "Access-Control-Allow-Origin: *", "X-Plain: stays",
    )  # fmt: skip
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for status in (200, 404, 302):
            head = f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n" + "".join(line + "\r\n" for line in lines)
            lab.upstream.answer = head.encode() + b"\r\nok"
            reply = await lab.get("/", cookie)
            assert reply.status == status
            assert reply.all("set-cookie") == ["theme=dark; Path=/"]
            assert reply.header("x-plain") == "stays"
            for name in ("clear-site-data", "service-worker-allowed", "alt-svc", "x-zt-assertion", "zt-challenge"):
                assert reply.header(name) is None, name
            assert reply.header("access-control-allow-origin") is None
        covering = (
            "/",
            "/.zt/",
            "/.",
            "/.zt",
            "",
            "./",
            "../",
            ".",
            "//app.test/",
            "/a/..",
            "/a/../",
            "/%2e",
            "/a/%2e%2e/",
            "/\\",
            "https://app.test/",
            "?",
        )
        for scope, kept in (*((scope, False) for scope in covering), ("/app/", True), ("/app/v1.2/js", True)):
            lab.upstream.answer = (
                b"HTTP/1.1 200 OK\r\nService-Worker-Allowed: %b\r\nContent-Length: 0\r\n\r\n" % scope.encode()
            )
            reply = await lab.get("/", cookie)
            assert (reply.header("service-worker-allowed") == scope) is kept, scope


# ---- who gets which "no" ----

WHO: dict[str, tuple[bytes, str]] = {
    "navigation": (NAVIGATION, "redirect"),
    "navigation of an old browser": (b"Accept: text/html,*/*;q=0.8\r\n", "redirect"),
    "fetch": (b"Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nAccept: */*\r\n", "problem"),
    "fetch that asks for html": (b"Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n", "problem"),
    "old XHR": (b"X-Requested-With: XMLHttpRequest\r\nAccept: text/html\r\n", "problem"),
    "frame": (b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\nAccept: text/html\r\n", "problem"),
    "image": (b"Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\nAccept: image/*\r\n", "problem"),
    "prefetch": (NAVIGATION + b"Sec-Purpose: prefetch\r\n", "problem"),
    "prerender": (NAVIGATION + b"Sec-Purpose: prefetch;prerender\r\n", "problem"),
    "event stream": (b"Sec-Fetch-Mode: cors\r\nAccept: text/event-stream\r\n", "problem"),
    "script": (b"User-Agent: curl/8\r\nAccept: */*\r\n", "problem"),
    "nothing said": (b"", "problem"),
    "bearer": (b"Authorization: Bearer abc\r\nAccept: application/json\r\n", "problem"),
}  # fmt: skip


def check_challenge(reply: Reply, kind: str, name: str) -> None:
    if kind == "redirect":
        assert reply.status == 302, name
        assert (reply.header("location") or "").startswith(f"https://{PORTAL}/.zt/sign-in?to="), name
    else:
        assert reply.status == 401, name
        assert reply.header("location") is None, name
        assert reply.all("set-cookie") == [], name
        assert (reply.header("www-authenticate") or "").startswith("Bearer"), name
        assert reply.problem["login_url"] == f"https://{PORTAL}/.zt/sign-in", name
    assert "no-store" in (reply.header("cache-control") or ""), name


async def test_only_a_person_who_looks_at_a_page_is_sent_to_sign_in() -> None:
    async with ProxyLab() as lab:
        for name, (headers, kind) in WHO.items():
            check_challenge(await lab.get("/flows", None, headers), kind, name)
        head = await lab.get("/flows", None, NAVIGATION, method="HEAD")
        assert (head.status, head.body) == (302, b"")
        form = await lab.get("/flows", None, NAVIGATION + b"Content-Length: 0\r\n", method="POST")
        assert (form.status, form.header("location")) == (401, None)
        assert b"<html" in form.body
        upgrade = await lab.get("/flows", None, HANDSHAKE + ORIGIN + NAVIGATION)
        assert (upgrade.status, upgrade.header("location")) == (401, None)
        assert lab.upstream.connections == 0


async def test_a_route_for_machines_never_redirects_or_shows_a_page() -> None:
    async with ProxyLab(route={"machines_only": True}) as lab:
        for name, (headers, _) in WHO.items():
            reply = await lab.get("/", None, headers)
            assert (reply.status, reply.header("location")) == (401, None), name
            assert reply.problem["reason"] == "login-required"
        stranger = await lab.sign_in("mallory", groups=("guests",))
        assert (await lab.get("/", stranger, NAVIGATION)).problem["reason"] == "no-rule-matched"


async def test_a_denial_is_a_page_for_people_and_a_problem_for_programs() -> None:
    async with ProxyLab(rules=(allow(paths=("/open",)),)) as lab:
        cookie = await lab.sign_in()
        page = await lab.get("/closed", cookie, NAVIGATION)
        assert (page.status, page.header("location")) == (403, None)
        assert b"no-rule-matched" in page.body
        assert (page.header("content-type") or "").startswith("text/html")
        problem = await lab.get("/closed", cookie)
        assert (problem.status, problem.problem["reason"]) == (403, "no-rule-matched")
        for reply in (page, problem):
            identifier = reply.header("x-request-id")
            assert identifier is not None
            assert identifier.encode() in reply.body
        ids = [record["id"] for record in await lab.decisions()]
        assert ids == [page.header("x-request-id"), problem.header("x-request-id")]


async def test_the_way_back_after_a_sign_in_is_the_very_address_asked_for() -> None:
    async with ProxyLab() as lab:
        reply = await lab.get("/a%20b?x=%E2%82%AC&y=1", None, NAVIGATION)
        location = urlsplit(reply.header("location") or "")
        assert location.netloc == PORTAL
        long = await lab.get("/long?" + "x" * 5000, None, NAVIGATION)
        assert long.status == 302
        assert len(long.header("location") or "") < 1000


# ---- other origins ----

FOREIGN: tuple[bytes, ...] = (
    b"Origin: https://evil.test\r\n",
    b"Origin: null\r\n",
    b"Origin: http://app.test\r\n",
    b"Origin: https://app.test:444\r\n",
    b"Origin: https://auth.test\r\nSec-Fetch-Site: same-site\r\n",
    b"Origin: https://app.test\r\nSec-Fetch-Site: cross-site\r\n",
    b"Origin: https://app.test\r\nSec-Fetch-Site: same-site\r\n",
    b"Sec-Fetch-Site: cross-site\r\n",
    b"Sec-Fetch-Site: same-site\r\n",
    b"",
)


async def test_no_other_origin_changes_anything_with_a_persons_cookie() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for headers in FOREIGN:
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                reply = await lab.get("/save", cookie, headers + b"Content-Length: 0\r\n", method=method)
                assert (reply.status, reply.problem["reason"]) == (403, "cross-origin"), (method, headers)
        assert lab.upstream.connections == 0
        for headers in (ORIGIN, ORIGIN + SAME, SAME, b"Sec-Fetch-Site: none\r\n"):
            assert (await lab.get("/save", cookie, headers + b"Content-Length: 0\r\n", method="POST")).status == 200
        lab.upstream.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        for headers in FOREIGN:
            for method in ("GET", "HEAD"):
                assert (await lab.get("/read", cookie, headers, method=method)).status == 204, "reading changes nothing"


async def test_an_origin_that_the_route_names_may_and_the_answer_says_so() -> None:
    partner = b"Origin: https://partner.test\r\nSec-Fetch-Site: cross-site\r\n"
    async with ProxyLab(route={"cors_origins": ("https://partner.test",)}) as lab:
        cookie = await lab.sign_in()
        posted = await lab.get("/save", cookie, partner + b"Content-Length: 0\r\n", method="POST")
        assert posted.status == 200
        assert posted.header("access-control-allow-origin") == "https://partner.test"
        assert posted.header("access-control-allow-credentials") == "true"
        assert posted.header("vary") == "Origin"
        other = await lab.get("/read", cookie, b"Origin: https://evil.test\r\n")
        assert other.header("access-control-allow-origin") is None
        assert other.header("vary") == "Origin"
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n"
        assert (await lab.get("/read", cookie, partner)).all("access-control-allow-origin") == ["https://partner.test"]


@pytest.mark.case("ZT-HDRS-02")
async def test_preflights_are_answered_here_and_open_nothing() -> None:
    ask = b"Access-Control-Request-Method: DELETE\r\nAccess-Control-Request-Headers: content-type\r\n"
    routes = (
        lab_route("app", APP, (allow(),), cors_origins=("https://partner.test",)),
        lab_route("other", "other.test", (allow(),)),
    )
    async with ProxyLab(routes=routes) as lab:
        cookie = await lab.sign_in()
        yes = await lab.get("/x", None, b"Origin: https://partner.test\r\n" + ask, method="OPTIONS")
        assert (yes.status, yes.body) == (204, b"")
        assert yes.header("access-control-allow-origin") == "https://partner.test"
        assert yes.header("access-control-allow-methods") == "DELETE"
        for host, origin in (
            (APP, b"https://evil.test"), (APP, b"null"), (APP, b"https://partner.test.evil.test"), (APP, b"https://app.test"),
            ("other.test", b"https://partner.test"),
        ):  # fmt: skip
            for value in (None, cookie):
                no = await lab.get("/x", value, b"Origin: %b\r\n" % origin + ask, host=host, method="OPTIONS")
                assert no.status == 403, (host, origin)
                assert no.header("access-control-allow-origin") is None
        plain = await lab.get("/x", None, b"Origin: https://partner.test\r\n", method="OPTIONS")
        assert plain.status == 401, "without the question it is a request like any other"
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-APP-03")
async def test_no_service_worker_of_an_app_can_stand_over_the_way_back_from_a_sign_in() -> None:
    """Its default scope is the folder of its script, whatever `Service-Worker-Allowed` says (Service Workers §6.1)."""
    root = b"Sec-Fetch-Dest: serviceworker\r\nSec-Fetch-Site: same-origin\r\n"
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for asking in (root, b"Service-Worker: script\r\n", root + b"Service-Worker: script\r\n"):
            for path in ("/sw.js", "/sw.js?v=1", "/"):
                assert (await lab.get(path, cookie, asking)).problem["reason"] == "service-worker-refused"
        assert lab.upstream.connections == 0
        assert (await lab.get("/static/sw.js", cookie, root)).status == 200
    async with ProxyLab(route={"insecure_root_service_worker": True}) as lab:
        assert (await lab.get("/sw.js", await lab.sign_in(), root)).status == 200


async def test_the_portal_is_sent_no_cookie_of_the_app_and_tells_nothing_of_what_it_runs_on() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        reply = await lab.get("/.zt/session", b"app=1; " + cookie + b"; " + b"x" * 9000)
        assert (reply.status, reply.header("server")) == (200, None)
        assert json.loads(reply.body)["signed_in"] is True
