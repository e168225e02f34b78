"""Requests whose end could be seen in two places (ZT-SMUG-*).

The public suites of the field need more than this machine. The tables in `smuggling_corpus` stand for them: MALFORMED
covers the classes of http11probe (RFC 9112 framing, header syntax, request line), `obfuscated` is made like the list of
defparam's smuggler. Every refusal is held to the same promise: one answer, the connection ends, and the platform saw
nothing of it.
"""

import asyncio

import pytest

from tests.attack.smuggling_corpus import CHUNKED, MALFORMED, obfuscated
from tests.lab.proxy import ORIGIN, ProxyLab, Reply, allow, deny
from tests.lab.upstream import Seen

HOST = b"Host: app.test\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)


async def conversation(lab: ProxyLab, data: bytes, *pieces: bytes, method: str = "GET") -> list[Reply]:
    """Send bytes on a connection of their own; give every response until the proxy ends it."""
    client = await lab.connect()
    await client.write(data)
    for piece in pieces:
        await asyncio.sleep(0)
        await client.write(piece)
    replies = []
    try:
        async with asyncio.timeout(5):
            while True:
                replies.append(await client.reply(method))
    except (asyncio.IncompleteReadError, ConnectionError):
        return replies
    except TimeoutError:
        raise AssertionError(f"the connection stays open behind {data!r}: {replies}") from None


async def refuses(lab: ProxyLab, data: bytes, statuses: frozenset[int] = frozenset({400})) -> None:
    """The bytes get one refusal and the end of the connection; what is behind them is never read as a request."""
    replies = await conversation(lab, data + SMUGGLED)
    assert len(replies) == 1, (data, replies)
    assert replies[0].status in statuses, (data, replies)
    assert lab.upstream.seen == [], data


def signed_in(method: bytes, cookie: bytes, lines: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1") -> bytes:
    return b"%b %b %b\r\n%bCookie: %b\r\n%b%b\r\n" % (method, target, version, HOST, cookie, ORIGIN, lines)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("ZT-SMUG-01", marks=pytest.mark.case("ZT-SMUG-01")),
        pytest.param("ZT-SMUG-11", marks=pytest.mark.case("ZT-SMUG-11")),
        pytest.param("ZT-SMUG-12", marks=pytest.mark.case("ZT-SMUG-12")),
        pytest.param("ZT-SMUG-13", marks=pytest.mark.case("ZT-SMUG-13")),
    ],
)
async def test_what_is_not_one_unambiguous_request_gets_one_refusal_and_the_end(case: str) -> None:
    async with ProxyLab(rules=(allow(public=True),)) as lab:
        for data in MALFORMED[case]:
            await refuses(lab, data, frozenset({400, 405, 505}))
        assert lab.upstream.seen == []
        records = await lab.decisions()
        assert len(records) == len(MALFORMED[case])
        if case in {"ZT-SMUG-01", "ZT-SMUG-13"}:  # the others are only seen to be wrong in their bodies
            assert {line["effect"] for line in records} == {"deny"}


@pytest.mark.case("ZT-SMUG-01")
async def test_what_is_read_leniently_goes_on_in_the_one_strict_spelling() -> None:
    """RFC 9112 §2.2 (an empty line before a request), §3 (more than one space), §5.1 (white space around a value)."""
    async with ProxyLab(rules=(allow(public=True),)) as lab:
        rest = b"Host: app.test\r\nConnection: close\r\nX:\t a \t\r\n\r\n"
        for line in (
            b"GET  /x HTTP/1.1\r\n",
            b"GET /x  HTTP/1.1\r\n",
            b"\r\n\r\nGET /x HTTP/1.1\r\n",
            b"GET /x HTTP/1.1\r\n",
        ):
            replies = await conversation(lab, line + rest)
            assert [reply.status for reply in replies] == [200]
        for seen in lab.upstream.seen:
            assert seen.raw.startswith(b"GET /x HTTP/1.1\r\nHost: app.test\r\n")
            assert (seen.header(b"X") or b"").strip() == b"a"


@pytest.mark.case("ZT-SMUG-03")
@pytest.mark.parametrize("cookies", [False, True])
async def test_a_length_beside_a_transfer_coding_is_refused(cookies: bool) -> None:
    hidden = b"5c\r\nGPOST /smuggled HTTP/1.1\r\nContent-Length: 15\r\n\r\nx=1\r\n0\r\n\r\n"
    async with ProxyLab() as lab:
        cookie = await lab.sign_in() if cookies else b"a=b"
        for lines in (b"Content-Length: 4\r\n" + CHUNKED, CHUNKED + b"Content-Length: 4\r\n", b"Content-Length: 0\r\n" + CHUNKED,
                      b"content-length: 4\r\nX: y\r\ntransfer-ENCODING: Chunked\r\n"):  # fmt: skip
            await refuses(lab, signed_in(b"POST", cookie, lines) + hidden)
            await refuses(lab, signed_in(b"GET", cookie, lines) + b"0\r\n\r\n")


BODY = b"GET /smuggled HTTP/1.1\r\nX: "
"""A body that would be a request, if it were one."""


@pytest.mark.case("ZT-SMUG-05")
@pytest.mark.case("ZT-SMUG-06")
@pytest.mark.parametrize(
    ("target", "lines", "host"),
    [
        (b"/", b"", b"app.test"),
        (b"/", b"Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n", b"app.test"),
        (b"/", b"Cookie: __Host-zt=made-up\r\n", b"app.test"),
        (b"/%2e%2e/", b"", b"app.test"),
        (b"/", b"", b"unknown.test"),
        (b"/", b"", b"other.test"),
        (b"/.zt/sign-in", b"", b"app.test"),
        (b"/.zt/jwks.json", b"", b"app.test"),
        (b"/.zt/resume", b"", b"app.test"),
        (b"/.zt/nothing", b"", b"app.test"),
        (b"/.zt/sign-out", b"Origin: https://evil.test\r\n", b"app.test"),
        (b"/forbidden", b"", b"app.test"),
        (b"/", b"Origin: https://evil.test\r\n", b"app.test"),
    ],
)
async def test_the_body_of_a_request_that_the_proxy_answers_itself_is_never_the_next_request(
    target: bytes, lines: bytes, host: bytes
) -> None:
    rules = (allow("open", public=True, paths=("/next",)), deny("never", public=True, paths=("/forbidden",)))
    async with ProxyLab(rules=rules) as lab:
        following = b"GET /next HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"
        for method in (b"POST", b"GET", b"OPTIONS"):
            head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n" % (
                method,
                target,
                host,
                lines,
                len(BODY),
            )
            for data in ([head + BODY + following], [head, BODY, following], [head + BODY[:5], BODY[5:] + following]):
                replies = await conversation(lab, *data)
                assert 1 <= len(replies) <= 2, replies
                assert replies[1:] == [] or replies[1].body == b"ok"
        assert {seen.target for seen in lab.upstream.seen} <= {b"/next"}
        assert {line["path"] for line in await lab.decisions()} <= {target.decode(), "/next"}


@pytest.mark.case("ZT-SMUG-05")
async def test_a_body_behind_a_method_that_is_refused_is_not_a_request_either() -> None:
    async with ProxyLab(rules=(allow(public=True),)) as lab:
        for method in (b"CONNECT", b"TRACE"):
            head = b"%b app.test:443 HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (method, HOST, len(SMUGGLED))
            replies = await conversation(lab, head + SMUGGLED)
            assert [reply.status for reply in replies] in ([405], [400])
        assert lab.upstream.seen == []
        assert "/smuggled" not in {line["path"] for line in await lab.decisions()}


@pytest.mark.case("ZT-SMUG-06")
async def test_a_refused_body_is_drained_and_answers_stay_in_order() -> None:
    async with ProxyLab(rules=(allow(methods=("GET",)),)) as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        for number in range(3):
            await client.write(signed_in(b"POST", cookie, b"Content-Length: %d\r\n" % len(SMUGGLED), b"/no") + SMUGGLED)
            await client.write(signed_in(b"GET", cookie, b"", b"/%d" % number))
            assert [(await client.reply()).status for _ in range(2)] == [403, 200]
        assert [seen.target for seen in lab.upstream.seen] == [b"/0", b"/1", b"/2"]
        assert [line["path"] for line in await lab.decisions()] == ["/no", "/0", "/no", "/1", "/no", "/2"]


@pytest.mark.case("ZT-SMUG-06")
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_long_to_drain_ends_the_connection(chunked: bool) -> None:
    async with ProxyLab(rules=(allow(methods=("GET",)),)) as lab:
        cookie = await lab.sign_in()
        body = SMUGGLED * 3000
        if chunked:
            data = signed_in(b"POST", cookie, CHUNKED) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            data = signed_in(b"POST", cookie, b"Content-Length: %d\r\n" % len(body)) + body
        for _ in range(2):  # at first control is asked for the session, and the body may be in before the answer
            replies = await conversation(lab, data, signed_in(b"GET", cookie, b"Connection: close\r\n", b"/next"))
            assert [reply.status for reply in replies] in ([403], [403, 200])
        assert {seen.target for seen in lab.upstream.seen} <= {b"/next"}
        assert {line["path"] for line in await lab.decisions()} <= {"/", "/next"}


@pytest.mark.case("ZT-SMUG-07")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)  # fmt: skip
async def test_bytes_behind_a_refused_upgrade_reach_nobody(answer: bytes) -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        lab.upstream.answer = answer
        replies = await conversation(lab, signed_in(b"GET", cookie, WEBSOCKET, b"/ws") + SMUGGLED, SMUGGLED)
        assert len(replies) == 1
        assert replies[0].status in {200, 400, 426, 502}
        assert [seen.target for seen in lab.upstream.seen] == [b"/ws"]
        assert b"smuggled" not in lab.upstream.bytes_seen
        assert [line["path"] for line in await lab.decisions()] == ["/ws"]


@pytest.mark.case("ZT-SMUG-07")
async def test_an_upgrade_without_a_session_opens_nothing() -> None:
    async with ProxyLab() as lab:
        replies = await conversation(lab, b"GET /ws HTTP/1.1\r\n" + HOST + ORIGIN + WEBSOCKET + b"\r\n" + SMUGGLED)
        assert [reply.status for reply in replies] == [401]
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-SMUG-08")
async def test_http_1_0_has_no_transfer_coding_and_no_body_without_a_length() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for lines in (CHUNKED, CHUNKED + b"Connection: keep-alive\r\n", CHUNKED + b"Content-Length: 5\r\n"):
            await refuses(lab, signed_in(b"POST", cookie, lines, version=b"HTTP/1.0") + b"0\r\n\r\n")
        data = signed_in(b"POST", cookie, b"", version=b"HTTP/1.0") + b"until the end"
        replies = await conversation(lab, data)
        assert [reply.status for reply in replies] == [200]
        assert [(seen.body, seen.header(b"Content-Length")) for seen in lab.upstream.seen] == [(b"", b"0")]


@pytest.mark.case("ZT-SMUG-15")
async def test_an_expectation_leaves_no_bytes_behind() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        body = SMUGGLED
        length = b"Content-Length: %d\r\n" % len(body)
        following = signed_in(b"GET", cookie, b"Connection: close\r\n", b"/next")
        for value in (b"y 100-continue", b"100-continue, 100-continue", b"200-ok", b"x", b"100-continue\x0b"):
            lab.upstream.seen.clear()
            replies = await conversation(
                lab, signed_in(b"POST", cookie, b"Expect: %b\r\n%b" % (value, length)) + body + following
            )
            assert [reply.status for reply in replies] in ([417], [400]), value
            assert lab.upstream.seen == []
        for method in (b"POST", b"GET"):
            lab.upstream.seen.clear()
            head = signed_in(method, cookie, b"Expect: 100-Continue\r\n" + length)
            replies = await conversation(lab, head + body + following)
            assert [reply.status for reply in replies] == [200, 200]
            assert [(seen.target, seen.body) for seen in lab.upstream.seen] == [(b"/", body), (b"/next", b"")]
            assert all(seen.all(b"Expect") == [] for seen in lab.upstream.seen)
        assert "/smuggled" not in {line["path"] for line in await lab.decisions()}


@pytest.mark.case("ZT-SMUG-15")
async def test_a_refused_expectation_ends_the_connection_before_its_body() -> None:
    async with ProxyLab() as lab:
        head = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
        replies = await conversation(lab, head + SMUGGLED)
        assert [(reply.status, reply.header("connection")) for reply in replies] == [(401, "close")]
        assert [line["path"] for line in await lab.decisions()] == ["/"]


@pytest.mark.case("ZT-SMUG-16")
async def test_pipelined_requests_are_answered_in_order_each_with_its_own_decision() -> None:
    async with ProxyLab(rules=(allow(), deny("no", paths=("/admin",)))) as lab:
        lab.upstream.answer = echo
        cookie = await lab.sign_in()
        post = signed_in(b"POST", cookie, CHUNKED, b"/4") + b"3\r\nabc\r\n0\r\n\r\n"
        data = (
            signed_in(b"GET", cookie, b"", b"/1") + b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n"
            + signed_in(b"GET", cookie, b"", b"/admin") + post + signed_in(b"GET", cookie, b"Connection: close\r\n", b"/5")
            + signed_in(b"GET", cookie, b"", b"/6")
        )  # fmt: skip
        for cut in (len(data), 1, 100, data.index(b"abc")):
            lab.upstream.seen.clear()
            replies = await conversation(lab, data[:cut], data[cut:])
            assert [reply.status for reply in replies] == [200, 401, 403, 200, 200]
            assert [replies[index].body for index in (0, 3, 4)] == [b"GET /1 ", b"POST /4 abc", b"GET /5 "]
            assert [seen.target for seen in lab.upstream.seen] == [b"/1", b"/4", b"/5"]
        assert [line["path"] for line in await lab.decisions()] == ["/1", "/2", "/admin", "/4", "/5"] * 4


def echo(request: Seen) -> bytes:
    body = b"%b %b %b" % (request.method, request.target, request.body)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.case("ZT-SMUG-19")
@pytest.mark.parametrize("token", [b"h2c", b"H2C", b"h2c, websocket", b"TLS/1.2", b"h2", b"foo/2"])
async def test_another_upgrade_is_not_offered_and_not_passed_on(token: bytes) -> None:
    lines = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" % token
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        following = signed_in(b"GET", cookie, b"Connection: close\r\n", b"/next")
        replies = await conversation(lab, signed_in(b"GET", cookie, lines) + following)
        if b"websocket" in token:
            assert [reply.status for reply in replies] == [400, 200]
            assert [seen.target for seen in lab.upstream.seen] == [b"/next"]
            return
        assert [reply.status for reply in replies] == [200, 200]
        assert [seen.target for seen in lab.upstream.seen] == [b"/", b"/next"]
        for name in (b"Upgrade", b"HTTP2-Settings", b"Connection"):
            assert lab.upstream.seen[0].all(name) == []
        replies = await conversation(
            lab, signed_in(b"POST", cookie, lines + b"Content-Length: 3\r\n") + b"abc" + following
        )
        assert [reply.status for reply in replies] in ([400], [200, 200])
        assert {seen.target for seen in lab.upstream.seen} == {b"/", b"/next"}


@pytest.mark.case("ZT-SMUG-19")
async def test_a_row_of_upgrades_that_nobody_offers_is_a_row_of_requests() -> None:
    async with ProxyLab(rules=(allow(public=True),)) as lab:
        one = b"GET /%d HTTP/1.1\r\nHost: app.test\r\nConnection:upgrade\r\nUpgrade:x\r\n\r\n"
        count = 16_000 // len(one % 100)  # as many as one TLS record takes
        client = await lab.connect()
        await client.write(b"".join(one % number for number in range(count)))
        assert {(await client.reply()).status for _ in range(count)} == {200}
        assert [seen.target for seen in lab.upstream.seen] == [b"/%d" % number for number in range(count)]


@pytest.mark.case("ZT-SMUG-20")
@pytest.mark.parametrize("version", [b"1777", b"12", b"13, 1777", b"", b"0013"])
async def test_a_handshake_that_the_platform_would_refuse_opens_no_tunnel(version: bytes) -> None:
    lines = WEBSOCKET.replace(b"Version: 13", b"Version: " + version)
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        lab.upstream.answer = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n"
        replies = await conversation(lab, signed_in(b"GET", cookie, lines, b"/ws") + SMUGGLED)
        assert [reply.status for reply in replies] in ([426], [400])
        assert b"smuggled" not in lab.upstream.bytes_seen
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-SMUG-22")
@pytest.mark.parametrize("length_first", [False, True])
async def test_no_spelling_of_a_transfer_coding_makes_two_of_one_request(length_first: bool) -> None:
    async with ProxyLab() as lab:
        lab.upstream.answer = echo
        cookie = await lab.sign_in()
        body = b"0\r\n\r\n" + signed_in(b"GET", cookie, b"", b"/smuggled")
        length = b"Content-Length: %d" % len(body)
        for line in obfuscated():
            lab.upstream.seen.clear()
            pair = (length, line) if length_first else (line, length)
            replies = await conversation(
                lab, signed_in(b"POST", cookie, b"%b\r\n%b\r\n" % pair) + body, b"\x00\r\n\r\n"
            )
            statuses = [reply.status for reply in replies]
            # Either it is refused; or it was read as one request of this length, and so did the platform; then the
            # NUL behind it ended the connection.
            assert statuses in ([400], [200, 400]), (line, statuses)
            arrived = [(seen.target, seen.body) for seen in lab.upstream.seen]
            assert arrived == ([] if statuses == [400] else [(b"/", body)]), (line, arrived)
            for seen in lab.upstream.seen:
                folded = [name.lower().replace(b"_", b"-").replace(b".", b"-") for name, _ in seen.headers]
                assert folded.count(b"content-length") == 1
                assert b"transfer-encoding" not in folded


@pytest.mark.case("ZT-SMUG-22")
async def test_the_verdict_does_not_depend_on_where_the_packets_are_cut() -> None:
    async with ProxyLab(rules=(allow(public=True),)) as lab:
        for data in (MALFORMED["ZT-SMUG-11"][0], MALFORMED["ZT-SMUG-12"][0], MALFORMED["ZT-SMUG-13"][5]):
            for cut in range(1, len(data), 7):
                replies = await conversation(lab, data[:cut], data[cut:])
                assert [reply.status for reply in replies] == [400], (data, cut)
        assert lab.upstream.seen == []
