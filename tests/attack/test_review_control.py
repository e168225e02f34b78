"""A second look at control: what plants cookies, reads key files, or outlives a sign-out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.lab.browser import SESSION, Browser, provider_of
from tests.lab.idp import MockIdp
from tests.lab.proxy import APP, PORTAL, ProxyLab, allow, lab_route
from zt_proxy.control.identity.claims import Expectation, login_from_token
from zt_proxy.control.identity.tokens import Header, VerifiedToken
from zt_proxy.control.session.sqlite import SqliteStore
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.keys import KeyRing, Secret
from zt_proxy.core.session import Level
from zt_proxy.link.memory import MemoryLink
from zt_proxy.link.messages import SigningKey
from zt_proxy.processes.control import Control

OTHER = "other.test"
NAVIGATION = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nAccept: text/html\r\n"
LOOK_ALIKES = [space.encode() for space in "\u00a0\u2000\u3000\u0085\u2028"] + [b"\x1c", b"\x0b", b"\x0c"]


@pytest.mark.parametrize("padding", LOOK_ALIKES, ids=ascii)
@pytest.mark.case("ZT-SESS-01")
async def test_a_cookie_whose_name_only_looks_like_ours_is_never_ours(padding: bytes) -> None:
    # A browser applies the rules of `__Host-` to names that begin with it, and these do not: any neighbour under the
    # same registrable domain may set them for the portal, with `Domain=`.
    async with ProxyLab() as lab:
        for host in (PORTAL, APP):
            own = await lab.sign_in(host=host)
            for planted in (padding + own, own.replace(b"=", padding + b"=", 1)):
                reply = await lab.get("/.zt/session", planted, host=host)
                assert reply.status in {200, 400}
                assert b'"signed_in":true' not in reply.body, (host, planted)


# --- what a script on an app's origin can make the proxy say ---


@pytest.mark.parametrize("size", [8_000, 9_000, 20_000, 31_000])
@pytest.mark.parametrize("path", ["/.zt/session", "/.zt/resume?code=none", "/.zt/sign-out", "/.zt/jwks.json"])
@pytest.mark.case("ZT-APP-03")
async def test_no_answer_shows_the_session_cookie_however_large_the_request(path: str, size: int) -> None:
    # A script cannot read the cookie, but it can set others beside it, and read answers of its own origin.
    async with ProxyLab() as lab:
        own = await lab.sign_in()
        for cookie, header in ((own + b"; pad=" + b"x" * size, b""), (own, b"X-Pad: " + b"x" * size + b"\r\n")):
            reply = await lab.get(path, cookie, header)
            assert own.partition(b"=")[2] not in reply.body, reply.body
            assert b"xxxxxxxx" not in reply.body
            assert reply.header("x-content-type-options") == "nosniff"
            if path == "/.zt/session":
                assert b'"signed_in":true' in reply.body


@pytest.mark.parametrize(
    "more",
    [
        b"Cookie: pad=" + b"x" * 40_000 + b"\r\n",
        b"Cookie: pad=\x01\r\n",
        b"Expect: something\r\n",
        b"".join(b"X-%d: x\r\n" % number for number in range(200)),
    ],
    ids=["too large", "malformed", "expectation", "too many"],
)
@pytest.mark.parametrize("navigation", [NAVIGATION, b""])
async def test_a_refused_return_from_the_portal_tells_the_app_nothing_of_its_address(
    more: bytes, navigation: bytes
) -> None:
    # A script that makes the return fail (by large cookies for that path) must not find the unused code in the address
    # of the page that says so: not over an opener, a frame, or the session history.
    async with ProxyLab() as lab:
        reply = await lab.get("/.zt/resume?code=unused", None, navigation + more)
        assert reply.status >= 400
        assert reply.header("cross-origin-opener-policy") == "same-origin"
        assert reply.header("referrer-policy") == "no-referrer"
        assert "frame-ancestors 'none'" in (reply.header("content-security-policy") or "")
        assert b"unused" not in reply.body


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /.zt/session HTTP/1.1\r\nHost: app.test\r\nCookie: __Host-zt=do-not-show\x01\r\n\r\n",
        b"do-not-show / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"GET /do-not-show\x00 HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"GET / HTTP/9.do-not-show\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"do-not-show: x\r\n" * 100_001 + b"\r\n",
    ],
)
async def test_the_portals_own_server_quotes_nothing_of_what_it_cannot_read(request_bytes: bytes) -> None:
    async with ProxyLab() as lab:
        reader, writer = await asyncio.open_unix_connection(lab.directory / "run" / "portal.sock")
        writer.write(request_bytes)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        assert answer.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4"))
        assert b"do-not-show" not in answer
        assert b"application/problem+json" in answer


@pytest.mark.parametrize("dest", ["iframe", "frame", "object", "embed", "fencedframe"])
async def test_a_frame_in_an_apps_page_gets_no_sign_in_and_no_code(dest: str) -> None:
    # Frames navigate, too, and under the same registrable domain with cookies: out of a person's sight, a page of one
    # app could have them signed in at another, or a code sent to a worker script of its own.
    async with two_apps() as lab:
        browser = Browser(lab)
        page = await browser.visit(f"https://{APP}/")
        asked = next(hop for hop in page.hops if "/.zt/sign-in?to=" in hop)
        framed = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": dest, "Sec-Fetch-Site": "same-site"}
        for address in (asked, f"https://{PORTAL}/.zt/sign-in", f"https://{PORTAL}/.zt/sign-in?with=corp"):
            answer = await browser.request(address, "GET", framed, b"")
            assert answer.status == 401, address
            assert answer.reply.header("location") is None
        ahead = framed | {"Sec-Fetch-Dest": "document", "Sec-Purpose": "prefetch;prerender"}
        assert (await browser.request(asked, "GET", ahead, b"")).status == 401
        top = await browser.request(asked, "GET", framed | {"Sec-Fetch-Dest": "document"}, b"")
        assert "/.zt/resume?code=" in top.location


async def test_an_app_cannot_have_the_browser_report_the_addresses_of_a_sign_in() -> None:
    async with ProxyLab() as lab:
        policy = b'NEL: {"report_to":"x","max_age":9999,"success_fraction":1.0,"include_subdomains":true}\r\n'
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\n" + policy + policy.lower() + b"Content-Length: 0\r\n\r\n"
        reply = await lab.get("/", await lab.sign_in())
        assert (reply.status, reply.all("nel")) == (200, [])


async def test_the_place_where_people_sign_in_is_never_asked_for_in_the_clear_again() -> None:
    async with ProxyLab() as lab:
        for path in ("/", "/.zt/sign-in", "/.zt/signed-out", "/.zt/callback?state=none"):
            reply = await lab.get(path, headers=NAVIGATION, host=PORTAL)
            assert reply.header("strict-transport-security") == "max-age=31536000", path
        assert (await lab.get("/.zt/session")).header("strict-transport-security") is None


# --- what outlives a sign-out ---


@asynccontextmanager
async def two_apps() -> AsyncIterator[ProxyLab]:
    routes = (lab_route("app", APP, (allow(),)), lab_route("other", OTHER, (allow(),)))
    async with MockIdp() as idp, ProxyLab(providers=(provider_of(idp),), routes=routes) as lab:
        yield lab


@pytest.mark.parametrize("signed_in_again", [True, False])
@pytest.mark.case("ZT-SESS-05")
async def test_signing_out_at_an_app_ends_the_session_of_that_app_whatever_the_portal_knows(
    signed_in_again: bool,
) -> None:
    # Too many cookies under the registrable domain, and the browser drops the portal's: a script of any app can do it.
    async with two_apps() as lab:
        browser = Browser(lab)
        assert (await browser.visit(f"https://{APP}/")).status == 200
        del browser.jar[PORTAL][SESSION]
        if signed_in_again:
            assert (await browser.visit(f"https://{OTHER}/")).status == 200
        question = await browser.visit(f"https://{APP}/.zt/sign-out")
        form = {"token": question.input("token"), "from": question.input("from")}
        assert (await browser.request(f"https://{APP}/")).status == 200, "a question ends nothing"
        assert (await browser.submit(question, "/.zt/sign-out", form)).status == 200
        for host in (APP, OTHER):
            assert (await browser.request(f"https://{host}/")).status == 302, host


@pytest.mark.parametrize("change", ["nothing", "token", "seal", "purpose"])
async def test_a_sign_out_takes_no_session_from_a_note_that_is_not_the_apps(change: str) -> None:
    async with two_apps() as lab:
        browser = Browser(lab)
        page = await browser.visit(f"https://{APP}/")
        to_portal = next(hop for hop in page.hops if "/.zt/sign-in?to=" in hop)
        del browser.jar[PORTAL][SESSION]
        question = await browser.visit(f"https://{APP}/.zt/sign-out")
        form = {"token": question.input("token"), "from": question.input("from")}
        if change == "token":
            form["token"] = "guessed"
        elif change == "seal":
            form["from"] = form["from"][:-4] + "AAAA"
        elif change == "purpose":
            form["from"] = to_portal.partition("?to=")[2]
        answer = await browser.submit(question, "/.zt/sign-out", form)
        ended = (await browser.request(f"https://{APP}/")).status == 302
        assert ended == (change == "nothing")
        assert answer.status == {"nothing": 200, "token": 403}.get(change, 400)


# --- other users of the machine ---


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606])
def test_a_key_ring_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "worker.keys"
    KeyRing.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod"):
        KeyRing.load_or_create(path)


def test_a_key_ring_is_never_written_into_a_file_that_somebody_left_there(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "worker.keys", tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    planted = tmp_path / "worker.new"
    planted.symlink_to(elsewhere)
    KeyRing.load_or_create(path)
    assert elsewhere.read_text() == "theirs"
    assert path.stat().st_mode & 0o777 == 0o600
    KeyRing.load_or_create(path).rotated().save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyRing.load_or_create(path).current == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere", "worker.keys", "worker.new"]


def test_a_damaged_key_ring_is_refused_without_quoting_it(tmp_path: Path) -> None:
    path = tmp_path / "worker.keys"
    for text in (
        '{"keys": {"c2VjcmV0": "c2VjcmV0"}}',
        '{"keys": {"1": "c2VjcmV0="}}',
        '{"keys": {"-1": ""}}',
        "c2VjcmV0",
    ):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError) as caught:
            KeyRing.load_or_create(path)
        assert "c2VjcmV0" not in str(caught.value)


async def test_a_session_store_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    await (await SqliteStore.open(path)).close()
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod"):
        await SqliteStore.open(path)


@pytest.mark.parametrize("name", ["state", "run", "audit"])
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o722])
async def test_a_directory_that_others_may_write_holds_nothing_of_ours(name: str, mode: int) -> None:
    # Whoever may write there can put keys, sessions or a record in the place of ours.
    lab = ProxyLab()
    async with lab:
        settings = lab.proxy.built.control
        await lab.stop()
        directory = lab.directory / name
        directory.chmod(mode)
        with pytest.raises(ConfigurationError, match="chmod"):
            await Control.open(settings, ManualClock(), lambda sessions, _ring: MemoryLink(sessions))
        directory.chmod(0o700)


def test_a_private_key_does_not_show_when_printed() -> None:
    assert "secret" not in repr(SigningKey("kid", b"secret"))


# --- a provider that says less than the list expects ---


@pytest.mark.parametrize("claims", [{}, {"acr": ""}, {"amr": [""]}, {"acr": None}, {"acr": "", "amr": []}])
def test_an_empty_word_attests_no_second_factor(claims: dict[str, object]) -> None:
    # `acr_values: ["${...}"]` of some template, with nothing put in.
    now = 1_800_000_000.0
    settings = ProviderSettings(
        "corp", "Corp", "https://idp.test", "zt", None, acr={"": Level.MULTI}, amr={"": Level.MULTI}
    )
    token = VerifiedToken(
        Header("ES256", None),
        {"iss": "https://idp.test", "aud": "zt", "sub": "a", "iat": now, "exp": now + 60, "nonce": "n"} | claims,
    )
    expected = Expectation(nonce="n", access_token=Secret("at"), now=now, max_age=None, forced_after=None)
    login = login_from_token(token, Secret("raw"), settings, expected)
    assert (login.mfa, login.level) == (False, Level.SINGLE)
