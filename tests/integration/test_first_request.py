"""The spine, end to end: TLS, session, policy, signed header, record."""

import jwt

from tests.lab.proxy import APP, ORIGIN, ProxyLab
from tests.lab.upstream import Seen


async def test_a_permitted_request_arrives_with_a_signed_statement_of_who_asks() -> None:
    async with ProxyLab() as lab:
        reply = await lab.get("/flows?a=1", await lab.sign_in())
        assert (reply.status, reply.body) == (200, b"ok")
        seen = lab.upstream.seen[0]
        assert (seen.method, seen.target) == (b"GET", b"/flows?a=1")
        assertion = seen.header(b"x-zt-assertion")
        assert assertion is not None
        assert lab.proxy.control is not None
        keys = {key["kid"]: jwt.PyJWK(key) for key in lab.proxy.control.keys.jwks()["keys"]}
        key = keys[jwt.get_unverified_header(assertion)["kid"]]
        claims = jwt.decode(assertion, key, ["ES256"], audience=f"https://{APP}", issuer="https://auth.test")
        assert (claims["sub"], claims["groups"], claims["sid"]) == ("alice", ["staff"], lab.sid)
        assert seen.header(b"cookie") is None


async def test_a_stranger_reaches_nothing_and_is_on_record() -> None:
    async with ProxyLab() as lab:
        reply = await lab.get("/flows")
        assert reply.status == 401
        assert reply.problem["reason"] == "login-required"
        assert lab.upstream.connections == 0
        (record,) = await lab.decisions()
        assert (record["effect"], record["reason"], record["path"]) == ("challenge", "login-required", "/flows")


async def test_bodies_and_answers_of_any_length_go_through_unchanged() -> None:
    def echo(request: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.body), request.body)

    async with ProxyLab() as lab:
        lab.upstream.answer = echo
        cookie = await lab.sign_in()
        body = bytes(range(256)) * 5000
        head = b"POST /x HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%b" % (cookie, ORIGIN)
        reply = await lab.send(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert reply.body == body
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:70000], body[70000:]))
        reply = await lab.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert reply.body == body


async def test_requests_on_one_connection_are_each_decided() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        one = b"GET /%d HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n"
        await client.write(one % (1, cookie) + b"GET /2 HTTP/1.1\r\nHost: app.test\r\n\r\n" + one % (3, cookie))
        assert [(await client.reply()).status for _ in range(3)] == [200, 401, 200]
        assert [seen.target for seen in lab.upstream.seen] == [b"/1", b"/3"]
        assert [record["path"] for record in await lab.decisions()] == ["/1", "/2", "/3"]
