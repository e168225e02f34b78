"""Headers that claim to come from the proxy, and headers that claim more than they may (ZT-HDR-*)."""

import jwt
import pytest

from tests.lab.proxy import APP, ORIGIN, ProxyLab, allow, lab_route
from tests.lab.upstream import Seen
from zt_proxy.worker.settings import PathSettings

MADE = {
    b"Host": b"app.test",
    b"X-Forwarded-For": b"127.0.0.1",
    b"X-Forwarded-Proto": b"https",
    b"X-Forwarded-Host": b"app.test",
}
"""What the proxy says of every request, whatever the client said."""

IDENTITY = (
    "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username",
    "X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Auth-Groups",
    "Remote-User", "Remote-Email", "Remote-Groups", "X-Remote-User", "X-WebAuth-User", "X-ZT-Assertion",
)  # fmt: skip
PRESETS = {
    "remote-user": "Remote-",
    "x-forwarded-user": "X-Forwarded-",
    "x-auth-request": "X-Auth-Request-",
}


def spellings(name: str) -> list[str]:
    """A name as CGI and its descendants could be made to read it."""
    variants = {name, name.lower(), name.upper(), name.swapcase()}
    for separator in "_.":
        variants |= {one.replace("-", separator) for one in list(variants)}
        variants.add(name.replace("-", separator, 1))
    return sorted(variants)


def fold(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-").replace(b".", b"-")


async def arrives(lab: ProxyLab, cookie: bytes | None, headers: bytes, path: str = "/") -> Seen:
    """Send a request that is allowed; give it as the platform saw it, held against what the proxy alone may say."""
    before = len(lab.upstream.seen)
    reply = await lab.get(path, cookie, headers)
    assert reply.status == 200, reply
    (seen,) = lab.upstream.seen[before:]
    for name, value in MADE.items():
        assert [given for key, given in seen.headers if fold(key) == fold(name)] == [value], (name, headers)
    return seen


@pytest.mark.case("ZT-HDR-01")
@pytest.mark.parametrize("preset", PRESETS)
async def test_no_spelling_of_an_identity_header_reaches_the_platform(preset: str) -> None:
    async with ProxyLab(route={"identity_headers": preset}) as lab:
        cookie = await lab.sign_in()
        names = [spelling for name in IDENTITY for spelling in spellings(name)]
        for first in range(0, len(names), 60):
            lines = "".join(f"{name}: admin\r\n" for name in names[first : first + 60])
            seen = await arrives(lab, cookie, lines.encode())
            assert b"admin" not in seen.raw
            user = f"{PRESETS[preset]}User".encode()
            assert [(key, value) for key, value in seen.headers if fold(key) == fold(user)] == [(user, b"alice")]


@pytest.mark.case("ZT-HDR-02")
async def test_the_platform_sees_only_forwarded_headers_that_the_proxy_made() -> None:
    claims = (
        "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server",
        "X-Forwarded-Scheme", "X-Forwarded-Ssl", "Forwarded", "X-Real-IP", "X_Forwarded_For", "x.forwarded.for",
    )  # fmt: skip
    names = [spelling for name in claims for spelling in spellings(name)]
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for first in range(0, len(names), 60):
            lines = "".join(f"{name}: spoofed\r\n" for name in names[first : first + 60])
            seen = await arrives(
                lab, cookie, b"X-Forwarded-For: 10.6.6.6\r\nX-Forwarded-For: 1.1.1.1\r\n" + lines.encode()
            )
            assert b"spoofed" not in seen.raw
            assert b"10.6.6.6" not in seen.raw


@pytest.mark.case("ZT-HDR-04")
@pytest.mark.parametrize("preset", PRESETS)
async def test_a_header_without_a_value_of_the_proxys_is_absent_and_not_the_clients(preset: str) -> None:
    prefix = PRESETS[preset]
    absent = ["X-Auth-Groups", "X-Forwarded-Preferred-Username", "X-Auth-Request-Preferred-Username", f"{prefix}Groups"]
    async with ProxyLab(rules=(allow(groups=(), users=("alice",)),), route={"identity_headers": preset}) as lab:
        cookie = await lab.sign_in(groups=())
        seen = await arrives(lab, cookie, "".join(f"{name}: admins\r\n" for name in absent).encode())
        assert [seen.all(name.encode()) for name in absent] == [[]] * len(absent)
        assert seen.header(f"{prefix}User".encode()) == b"alice"


@pytest.mark.case("ZT-HDR-04")
async def test_on_a_public_page_a_stranger_stays_a_stranger() -> None:
    async with ProxyLab(rules=(allow(public=True),), route={"identity_headers": "x-forwarded-user"}) as lab:
        lines = "".join(f"{name}: admin\r\n" for name in IDENTITY)
        seen = await arrives(lab, None, lines.encode())
        assert b"admin" not in seen.raw
        assert seen.all(b"X-Forwarded-User") == seen.all(b"X-ZT-Assertion") == []


@pytest.mark.case("ZT-HDR-05")
async def test_a_connection_header_takes_nothing_away_that_the_proxy_adds() -> None:
    listed = "close, X-Forwarded-User, X-ZT-Assertion, X-Forwarded-For, Authorization, Cookie, Host, X-Custom"
    async with ProxyLab(route={"identity_headers": "x-forwarded-user"}) as lab:
        cookie = await lab.sign_in()
        lines = f"Connection: {listed}\r\nX-Custom: hop\r\nX-Forwarded-User: admin\r\nX-Kept: yes\r\n"
        seen = await arrives(lab, cookie + b"; theme=dark", lines.encode())
        assert seen.header(b"X-Forwarded-User") == b"alice"
        assert len(seen.all(b"X-ZT-Assertion")) == 1
        assert seen.header(b"Cookie") == b"theme=dark"
        assert seen.all(b"X-Custom") == seen.all(b"Connection") == []
        assert seen.header(b"X-Kept") == b"yes"


@pytest.mark.case("ZT-HDR-05")
async def test_hop_by_hop_headers_and_their_disguises_end_at_the_proxy() -> None:
    names = (
        "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "TE", "Trailer", "Proxy",
        "HTTP2-Settings", "Keep_Alive", "Proxy_Connection", "Proxy.Authorization", "Transfer_Encoding",
        "Transfer.Encoding", "Content_Length", "Content.Length", "HTTP2_Settings",
    )  # fmt: skip
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        seen = await arrives(lab, cookie, "".join(f"{name}: hop\r\n" for name in names).encode())
        assert b"hop" not in seen.raw


@pytest.mark.case("ZT-HDR-07")
async def test_no_header_says_which_path_is_asked_for() -> None:
    rules = (allow("health", public=True, paths=("/healthz",)), allow())
    names = ("X-Forwarded-Uri", "X-Forwarded-Path", "X-Forwarded-Prefix", "X-Original-URL", "X-Original-URI",
             "X-Rewrite-URL", "X_Forwarded_Uri", "X-Envoy-Original-Path")  # fmt: skip
    async with ProxyLab(rules=rules) as lab:
        for name in names:
            reply = await lab.get("/admin", headers=f"{name}: /healthz\r\n".encode())
            assert (reply.status, reply.problem["reason"]) == (401, "login-required"), name
        assert lab.upstream.seen == []
        assert (await lab.get("/healthz")).status == 200
        assert {line["path"] for line in (await lab.decisions())[:-1]} == {"/admin"}


@pytest.mark.case("ZT-HDR-08")
async def test_no_user_agent_opens_a_door() -> None:
    agents = ("kube-probe/1.29", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "zt-proxy", "Prometheus/2.0", "")
    async with ProxyLab() as lab:
        for agent in agents:
            reply = await lab.get("/admin", headers=f"User-Agent: {agent}\r\n".encode())
            assert reply.status == 401, agent
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-HDR-10")
async def test_an_untrusted_peer_cannot_choose_its_address() -> None:
    claims = ("X-Forwarded-For: 10.0.0.1", "X-Real-IP: 10.0.0.1", "Forwarded: for=10.0.0.1", "True-Client-IP: 10.0.0.1",
              "CF-Connecting-IP: 10.0.0.1", "X-Client-IP: 10.0.0.1", "Client-IP: 10.0.0.1")  # fmt: skip
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for claim in claims:
            assert b"10.0.0.1" not in (await arrives(lab, cookie, claim.encode() + b"\r\n")).raw
        without_factor = (await lab.new_session("carol", mfa=False))[1]
        reply = await lab.get("/", without_factor, "".join(f"{claim}\r\n" for claim in claims).encode())
        assert (reply.status, reply.problem["reason"]) == (403, "mfa-required")
        assert {line["client"] for line in await lab.decisions()} == {"127.0.0.1"}


@pytest.mark.case("ZT-HDR-11")
@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1, 203.0.113.9, 127.0.0.1", "203.0.113.9"),
        ("10.0.0.1\r\nX-Forwarded-For: 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, nonsense", "127.0.0.1"),
        ("10.0.0.1, [2001:db8::1]:443", "2001:db8::1"),
    ],
)
async def test_behind_a_trusted_hop_the_right_most_foreign_address_counts(header: str, client: str) -> None:
    async with ProxyLab(worker={"trusted_proxies": ("127.0.0.0/8",)}) as lab:
        reply = await lab.get("/", await lab.sign_in(), f"X-Forwarded-For: {header}\r\n".encode())
        assert reply.status == 200
        assert lab.upstream.seen[0].header(b"X-Forwarded-For") == client.encode()
        assert (await lab.decisions())[0]["client"] == client


@pytest.mark.case("ZT-HDR-12")
async def test_old_assertions_are_replaced_by_exactly_one_new_one() -> None:
    async with ProxyLab() as lab:
        first = (await arrives(lab, await lab.sign_in("bob"), b"")).header(b"X-ZT-Assertion")
        assert first is not None
        alice = await lab.sign_in("alice")
        replayed = b"X-ZT-Assertion: %b\r\nx-zt-assertion: %b\r\nX_ZT_Assertion: %b\r\n" % (first, first, first)
        seen = await arrives(lab, alice, replayed)
        (assertion,) = [value for key, value in seen.headers if fold(key) == b"x-zt-assertion"]
        assert jwt.decode(assertion, options={"verify_signature": False})["sub"] == "alice"
        assert first not in seen.raw


@pytest.mark.case("ZT-HDR-13")
async def test_the_proxys_own_prefix_is_for_nobody_else() -> None:
    names = ("X-ZT-Debug", "x-zt-user", "X_ZT_Anything", "X.Zt.Route", "ZT-Internal", "X-Envoy-Internal", "X-ZT-")
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        seen = await arrives(lab, cookie, "".join(f"{name}: spoofed\r\n" for name in names).encode())
        assert b"spoofed" not in seen.raw
        trailers = "".join(f"{name}: spoofed\r\n" for name in names)
        assert b"spoofed" not in (await chunked(lab, cookie, trailers)).raw
        assert b"spoofed" not in lab.upstream.bytes_seen


async def chunked(lab: ProxyLab, cookie: bytes, trailers: str) -> Seen:
    head = b"POST / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%bTransfer-Encoding: chunked\r\n" % (cookie, ORIGIN)
    before = len(lab.upstream.seen)
    reply = await lab.send(head + b"Trailer: X-Forwarded-User\r\n\r\n3\r\nabc\r\n0\r\n" + trailers.encode() + b"\r\n")
    assert reply.status == 200
    (seen,) = lab.upstream.seen[before:]
    assert seen.body == b"abc"
    return seen


@pytest.mark.case("ZT-HDR-14")
async def test_trailers_never_become_headers() -> None:
    async with ProxyLab(route={"identity_headers": "x-forwarded-user"}) as lab:
        cookie = await lab.sign_in()
        trailers = "X-Forwarded-User: admin\r\nCookie: a=b\r\nHost: evil.test\r\nX-Sum: 1\r\n"
        seen = await chunked(lab, cookie, trailers)
        assert seen.header(b"X-Forwarded-User") == b"alice"
        for name in (b"X-Sum", b"Trailer", b"Content-Length", b"Cookie"):
            assert seen.all(name) == []
        assert b"admin" not in lab.upstream.bytes_seen


@pytest.mark.case("ZT-HDR-14")
@pytest.mark.parametrize("trailer", ["Content-Length: 99", "Transfer-Encoding: chunked", "Bad Name: 1", "No-Colon"])
async def test_trailers_that_reframe_the_message_are_refused(trailer: str) -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for _ in range(2):  # the first asks control for the session, the second knows it
            head = b"POST / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%b" % (cookie, ORIGIN)
            body = f"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailer}\r\n\r\n"
            reply = await lab.send(head + body.encode())
            assert (reply.status, reply.problem["reason"]) == (400, "request-malformed")
        assert lab.upstream.seen == []


@pytest.mark.case("ZT-HDR-20")
@pytest.mark.parametrize("opted_in", [False, True])
async def test_a_credential_for_the_proxy_goes_no_further(opted_in: bool) -> None:
    ours = ("Bearer zt_pat_abc", "bearer ZT_pat_abc", "BEARER  zt_pat_abc", "Bearer\tzt_pat_abc", "zt_pat_abc",
            "Token zt_pat_abc", "Basic enRfcGF0X2FiYzo=", "Basic dXNlcjp6dF9wYXRfYWJj")  # fmt: skip
    async with ProxyLab(route={"forward_authorization": opted_in}) as lab:
        cookie = await lab.sign_in()
        for value in ours:
            seen = await arrives(lab, cookie, f"Authorization: {value}\r\nProxy-Authorization: {value}\r\n".encode())
            assert seen.all(b"Authorization") == seen.all(b"Proxy-Authorization") == [], value
        foreign = await arrives(lab, cookie, b"Authorization: Basic YTpi\r\n")
        assert foreign.all(b"Authorization") == ([b"Basic YTpi"] if opted_in else [])


@pytest.mark.case("ZT-PATH-24")
async def test_headers_that_name_another_path_are_ignored_and_end_at_the_proxy() -> None:
    rules = (allow("open", paths=("/public",)), allow("admins", groups=("admins",), paths=("/admin",)))
    names = ("X-Envoy-Original-Path", "X-Envoy-Decorator-Operation", "X-Original-URL", "X-Rewrite-URL")
    async with ProxyLab(rules=rules) as lab:
        cookie = await lab.sign_in()
        for name in names:
            reply = await lab.get("/admin", cookie, f"{name}: /public\r\n".encode())
            assert (reply.status, reply.problem["reason"]) == (403, "no-rule-matched"), name
            assert b"/elsewhere" not in (await arrives(lab, cookie, f"{name}: /elsewhere\r\n".encode(), "/public")).raw


@pytest.mark.case("ZT-HDR-01")
async def test_the_shared_secret_of_a_route_cannot_be_sent_by_a_client_of_any_route() -> None:
    secret = ("X-Proof", "s3cret")
    routes = (
        lab_route("app", APP, (allow(),), shared_secret_header=secret, paths=PathSettings()),
        lab_route("other", "other.test", (allow(),)),
    )
    async with ProxyLab(routes=routes) as lab:
        lines = b"X-Proof: guess\r\nx_proof: guess\r\nX.PROOF: guess\r\n"
        assert (await lab.get("/", await lab.sign_in(), lines)).status == 200
        assert (await lab.get("/", await lab.sign_in(host="other.test"), lines, host="other.test")).status == 200
        app, other = lab.upstream.seen
        assert [value for key, value in app.headers if fold(key) == b"x-proof"] == [b"s3cret"]
        assert [value for key, value in other.headers if fold(key) == b"x-proof"] == []
