"""Answers of a platform that want more than to answer: splitting, the proxy's names, other people's bytes."""

import asyncio
from collections.abc import Callable

import pytest

from tests.lab.proxy import ProxyLab, Reply
from tests.lab.upstream import Seen
from zt_proxy.worker.settings import UpstreamSettings

SPLIT = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
ONE_CONNECTION = {"upstream": UpstreamSettings("http", "127.0.0.1", 0, max_connections=1)}
"""Whoever asks next is given the connection that is there, if it is fit for it."""

INVALID = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nok",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 40 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 40,
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + SPLIT,
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + SPLIT,
    b"HTTP/1.1 204 No Content\r\n\r\n" + SPLIT,
    b"HTTP/1.1 304 Not Modified\r\n\r\n" + SPLIT,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SPLIT,
    b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: __Host-zt=x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"y" * 5000) * 100 + b"Content-Length: 0\r\n\r\n",
    b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
]


def bob_or(answer: bytes) -> Callable[[Seen], bytes]:
    def choose(request: Seen) -> bytes:
        return answer if request.target == b"/bad" else b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbob"

    return choose


@pytest.mark.case("ZT-SMUG-17")
async def test_an_answer_that_is_not_exactly_one_response_is_a_502_and_ends_its_connection() -> None:
    async with ProxyLab(route=ONE_CONNECTION) as lab:
        alice, bob = await lab.sign_in("alice"), await lab.sign_in("bob")
        for answer in INVALID:
            before = lab.upstream.connections
            lab.upstream.answer = bob_or(answer)
            assert (await lab.get("/good", bob)).body == b"bob"
            reply = await lab.get("/bad", alice)
            assert reply.status == 502, (answer, reply)
            assert reply.problem["reason"] == "upstream-invalid-response", answer
            assert b"stolen" not in reply.body
            assert (await lab.get("/good", bob)).body == b"bob"
            assert lab.upstream.connections == before + (2 if before == 0 else 1), answer
        ends = [line for line in await lab.log() if line["type"] == "end"]
        assert sum(line.get("reason") == "upstream-invalid-response" for line in ends) == len(INVALID)


@pytest.mark.case("ZT-SMUG-17")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n5\r\nno",
    ],
)
async def test_an_answer_that_breaks_off_is_visibly_cut(answer: bytes) -> None:
    async with ProxyLab() as lab:
        lab.upstream.answer = answer
        lab.upstream.close_after = True
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await lab.get("/", await lab.sign_in())


@pytest.mark.case("ZT-SMUG-17")
async def test_the_head_of_a_head_response_promises_no_body() -> None:
    async with ProxyLab(route=ONE_CONNECTION) as lab:
        alice = await lab.sign_in("alice")
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"
        reply = await lab.get("/", alice, method="HEAD")
        assert (reply.status, reply.header("content-length")) == (200, "50")
        lab.upstream.answer = bob_or(b"")
        assert (await lab.get("/good", alice)).body == b"bob"


@pytest.mark.case("ZT-SMUG-18")
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nalice",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nalice\r\n",
    ],
)
async def test_a_connection_is_not_used_again_after_its_client_went_away(begun: bytes) -> None:
    async with ProxyLab(route=ONE_CONNECTION) as lab:
        alice, bob = await lab.sign_in("alice"), await lab.sign_in("bob")
        lab.upstream.answer = bob_or(begun)
        client = await lab.connect()
        await client.write(b"GET /bad HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % alice)
        await lab.upstream.arrived(1)
        if b"alice" in begun:
            await client.reader.readuntil(b"alice")
        client.writer.transport.abort()
        reply = await lab.get("/good", bob)
        assert (reply.status, reply.body) == (200, b"bob")
        assert [seen.connection for seen in lab.upstream.seen] == [1, 2]


@pytest.mark.case("ZT-SMUG-18")
async def test_a_connection_is_not_used_again_when_the_answer_came_before_the_request_was_whole() -> None:
    async with ProxyLab(route=ONE_CONNECTION) as lab:
        alice, bob = await lab.sign_in("alice"), await lab.sign_in("bob")
        lab.upstream.answer = bob_or(b"")
        assert (await lab.get("/good", alice)).status == 200
        client = await lab.connect()
        head = b"POST /bad HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\nContent-Length: 100\r\nCookie: %b\r\n\r\n"
        await client.write(head % alice + b"GET /stolen HTTP/1.1\r\n")
        client.writer.transport.abort()
        assert (await lab.get("/good", bob)).body == b"bob"
        assert {seen.target for seen in lab.upstream.seen} == {b"/good"}


def names(reply: Reply) -> set[str]:
    return {name.lower() for name, _ in reply.headers}


OURS = ("X-ZT-Assertion", "X-ZT-Anything", "x_zt_assertion", "ZT-Session", "Clear-Site-Data", "clear-site-DATA",
        "Alt-Svc", "X-Request-Id", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Keep-Alive",
        "Proxy-Authenticate", "Upgrade", "Trailer")  # fmt: skip


@pytest.mark.case("ZT-HDR-18")
@pytest.mark.case("ZT-APP-03")
async def test_a_platform_cannot_speak_for_the_proxy() -> None:
    cookies = ("__Host-zt=evil; Path=/; Secure", "__host-zt=evil; Path=/", "__HOST-ZT=evil", " __Host-zt =evil", "=__Host-zt=evil",
               "\t__Host-zt=evil", "__Host-zt-login=evil; Secure", "__Host-ZT-Login=evil", "__Host-zt; Max-Age=0", "__Host-zt=")  # fmt: skip
    lines = [f"{name}: evil" for name in OURS] + [f"Set-Cookie: {cookie}" for cookie in cookies]
    lines += [
        "Set-Cookie: theme=dark; Path=/",
        "Set-Cookie: __Host-app=1; Secure; Path=/",
        "Server: platform",
        "Content-Length: 2",
    ]
    async with ProxyLab() as lab:
        lab.upstream.answer = ("HTTP/1.1 200 OK\r\n" + "\r\n".join(lines) + "\r\n\r\nok").encode()
        reply = await lab.get("/", await lab.sign_in())
        assert reply.status == 200
        assert reply.all("set-cookie") == ["theme=dark; Path=/", "__Host-app=1; Secure; Path=/"]
        assert "evil" not in str(reply.headers)
        assert names(reply) == {"set-cookie", "server", "content-length", "x-request-id"}
        assert reply.header("x-request-id") == (await lab.decisions())[0]["id"]


@pytest.mark.case("ZT-APP-03")
@pytest.mark.parametrize(
    ("scope", "kept"),
    [
        ("/", False),
        ("/.", False),
        ("/.z", False),
        ("/.zt", False),
        ("/.zt/", False),
        ("", False),
        ("/app/", True),
        ("/x", True),
    ],
)
async def test_no_service_worker_may_cover_the_proxys_own_places(scope: str, kept: bool) -> None:
    async with ProxyLab() as lab:
        answer = f"HTTP/1.1 200 OK\r\nService-Worker-Allowed: {scope}\r\nContent-Length: 2\r\n\r\nok"
        lab.upstream.answer = answer.encode()
        reply = await lab.get("/sw.js", await lab.sign_in())
        assert reply.all("service-worker-allowed") == ([scope] if kept else [])


@pytest.mark.case("ZT-SSRF-02")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_the_clients_to_follow(status: int) -> None:
    async with ProxyLab() as lab:
        location = f"http://127.0.0.1:{lab.upstream.port}/internal"
        answer = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        lab.upstream.answer = answer.encode()
        reply = await lab.get("/", await lab.sign_in())
        assert (reply.status, reply.header("location")) == (status, location)
        assert [seen.target for seen in lab.upstream.seen] == [b"/"]
