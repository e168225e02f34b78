"""Mutated requests in great number: what the policy saw, what is on record and what the platform got are one thing.

A seeded generator makes requests whose right reading is known (`Sent`), requests whose framing is broken on purpose
(they may not arrive at all) and requests with damaged bytes (whatever arrives must be what is on record). The oracle
reads the platform's bytes and the audit log, never the proxy's own parser.
"""

import asyncio
import random
import re
import sys
import zlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from tests.lab.proxy import APP, Client, ProxyLab, Reply, allow, deny, lab_route
from tests.lab.upstream import Seen
from zt_proxy.worker.settings import PathSettings

SEED = 20_240_917
ROUND = 5_000
"""Requests of one round, in one proxy."""
LENIENT = "other.test"
EVERYTHING = PathSettings(encoded_slash=True, double_slash=True, parameters=True, encoded_delimiters=True)
RULES = (allow(), deny("not-admin", paths=("/admin", "/admin/**")))

METHODS = ("GET", "GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
PIECES = ("a", "b", "Z", "~", "-", "admin", "ADMIN", "public", ".", "..", ";v=1", "%41", "%61", "%2e", "%2E%2e", "%2f", "%5c",
          "%25", "%252e", "%00", "%0a", "%c3%a4", "%C0%AF", "%ff", "%3f", "%23", "%7e", "%zz", "%", "+", "@", ":", "'", "(", "[", "|",
          "\\", "//", "%61dmin", "adm%69n", "%e2%80%a8")  # fmt: skip
USUAL = ("a", "b", "c1", "flows", "x-y", "~me", "%C3%A4", "%41", "public", "adm")
QUERY = "abcXYZ019-._~%/?&=+;:@!$'()*,"
HOSTS = ("{}", "{}", "{}", "{}", "{}.", "{}:443", "{}:", "{}.:443")
WRONG_HOSTS = ("evil.test", "{}:8443", "x{}", "{}..", "", "{},{}", "a@{}", "{}/x", "127.0.0.1")
EXTRA = ("X-Forwarded-User: spoofed", "x_forwarded_user: spoofed", "X-ZT-Assertion: spoofed", "X-Original-URL: /spoofed",
         "Connection: keep-alive, X-Fuzz-Hop\r\nX-Fuzz-Hop: spoofed", "TE: spoofed", "Accept: */*", "X-A:b", "X-B:\tc ",
         "Transfer_Encoding: spoofed", "Content_Length: spoofed", "Proxy-Connection: spoofed", "Forwarded: for=spoofed",
         "X-Request-Id: spoofed", "Cache-Control: no-cache", "If-None-Match: \"x\"", "X-Empty:")  # fmt: skip
BROKEN = ("Content-Length: {n}\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: {n}",
          "Content-Length: {n}\r\nContent-Length: {n}", "Content-Length: {n}\r\nContent-Length: 0", "Content-Length: +{n}",
          "Content-Length: {n}, {n}", "Content-Length: 0x{n}", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked, chunked",
          "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
          "Transfer-Encoding : chunked", "Content-Length : {n}", "Transfer-Encoding: \x0bchunked", "Content-Length: {n}\n",
          "X: a\r\n folded\r\nContent-Length: {n}", "X: a\rb\r\nContent-Length: {n}", "Transfer-Encoding:")  # fmt: skip


@dataclass
class Sent:
    """A request and its one right reading."""

    number: int
    method: str
    target: bytes
    host: str
    body: bytes
    raw: bytes
    broken: bool = False
    damaged: bool = False


@dataclass
class Generator:
    """Makes requests for one host from a random source of its own."""

    random: random.Random
    cookies: dict[str, bytes]
    made: dict[int, Sent] = field(default_factory=dict)

    def request(self, name: str) -> Sent:
        rng = self.random
        number = len(self.made)
        method = rng.choice(METHODS)
        target = self._target(name).encode("latin-1")
        host = rng.choice(HOSTS if rng.random() < 0.97 else WRONG_HOSTS).replace("{}", self._cased(name))
        lines = [f"X-Fuzz: {label(number).decode()}", "Origin: https://" + name, *rng.sample(EXTRA, rng.randrange(4))]
        if rng.random() < 0.95:
            lines.append("Cookie: " + self.cookies[name].decode())
        lines.insert(rng.randrange(len(lines) + 1), f"{self._cased('Host')}: {host}")
        body, framing, wire = b"", "", b""
        broken = rng.random() < 0.04
        if broken:
            smuggled = b"GET /smuggled HTTP/1.1\r\nHost: %b\r\nCookie: %b\r\n\r\n" % (name.encode(), self.cookies[name])
            body = wire = b"0\r\n\r\n" + smuggled
            framing = rng.choice(BROKEN).replace("{n}", str(len(body)))
        elif method not in {"GET", "HEAD"} or rng.random() < 0.05:
            body, framing, wire = self._body()
        if framing:
            lines.insert(rng.randrange(len(lines) + 1), framing)
        head = f"{method} ".encode() + target + (" HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        sent = Sent(number, method, target, host, body, head + wire, broken)
        if not broken and rng.random() < 0.03:
            self._damage(sent, len(head))
        self.made[number] = sent
        return sent

    def _target(self, name: str) -> str:
        rng = self.random
        strange = rng.random() < 0.3
        path = ""
        for _ in range(rng.randrange(1, 5)):
            path += "/" + "".join(
                rng.choice(PIECES if strange and rng.random() < 0.5 else USUAL) for _ in range(rng.randrange(3))
            )
        if rng.random() < 0.1:
            path = (
                rng.choice(("/admin", "/admin/x", "/%61dmin", "//admin", "/admin;a", "/admin%2fx", "/x/../admin"))
                + path[:3]
            )
        if rng.random() < 0.3:
            path += "?" + "".join(rng.choice(QUERY) for _ in range(rng.randrange(12)))
        if rng.random() < 0.03:
            path = rng.choice((f"https://{name}", "http://evil.test", f"HTTPS://{name.upper()}")) + path
        return path

    def _cased(self, text: str) -> str:
        return "".join(self.random.choice((one, one.upper())) for one in text) if self.random.random() < 0.2 else text

    def _body(self) -> tuple[bytes, str, bytes]:
        rng = self.random
        body = rng.randbytes(rng.choice((0, 1, 3, 50, 700)))
        if rng.random() < 0.1:
            body = b"GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
        if rng.random() < 0.5:
            return body, f"{self._cased('Content-Length')}: {len(body)}", body
        wire, rest = b"", body
        while rest:
            size = rng.randrange(1, len(rest) + 1)
            wire += (
                rng.choice((b"%x", b"%X", b"00%x")) % size
                + rng.choice((b"", b"", b";a=b"))
                + b"\r\n"
                + rest[:size]
                + b"\r\n"
            )
            rest = rest[size:]
        trailer = rng.choice((b"", b"", b"X-Forwarded-User: spoofed\r\n"))
        return (
            body,
            f"{self._cased('Transfer-Encoding')}: {self._cased('chunked')}",
            wire + b"0\r\n" + trailer + b"\r\n",
        )

    def _damage(self, sent: Sent, head: int) -> None:
        """Change, drop or double a few bytes of the head."""
        rng = self.random
        sent.damaged = True
        raw = bytearray(sent.raw)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(head)
            raw[at : at + rng.choice((0, 1, 1, 2))] = rng.choice(
                (b"", b"\n", b"\r", b"\x00", b" ", b":", rng.randbytes(1), raw[at : at + 2] * 2)
            )
        sent.raw = bytes(raw)


def label(number: int) -> bytes:
    """A request's number, with a sum that tells damaged digits from another request's."""
    return b"%06d-%08x" % (number, zlib.crc32(b"%d" % number))


def answer(request: Seen) -> bytes:
    """200 with the number of the request, so that an answer in the wrong place is seen to be."""
    number = b",".join(request.all(b"x-fuzz"))
    body = b"" if request.method == b"HEAD" else b"%d" % len(request.body)
    return b"HTTP/1.1 200 OK\r\nX-Echo: %b\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body)


async def converse(lab: ProxyLab, generator: Generator, count: int) -> list[tuple[Sent, Reply]]:
    """Send `count` requests in pipelines over connections that last as long as the proxy lets them."""
    rng = generator.random
    pairs: list[tuple[Sent, Reply]] = []
    client: Client | None = None
    name = APP
    while len(generator.made) < count:
        if client is None:
            name = rng.choice((APP, LENIENT))
            client = await lab.connect(name)
        batch = [generator.request(name) for _ in range(rng.choice((1, 1, 2, 5)))]
        data = b"".join(sent.raw for sent in batch)
        try:
            cut = rng.randrange(len(data)) if rng.random() < 0.3 else len(data)
            for piece in (data[:cut], data[cut:]):
                if piece:
                    await client.write(piece)
                    await asyncio.sleep(0)
            client = await _read(client, batch, pairs)
        except ConnectionError:
            client = None
    return pairs


async def _read(client: Client, batch: list[Sent], pairs: list[tuple[Sent, Reply]]) -> Client | None:
    """The answers to a batch; None once the connection ended. Behind damaged bytes everything is up to chance."""
    for sent in batch:
        if sent.damaged:
            client.writer.transport.abort()
            return None
        try:
            reply = await client.reply(sent.method)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        pairs.append((sent, reply))
        if reply.header("connection") == "close":
            assert sent.method == "HEAD" or b"HTTP/1.1 " not in await client.ended()
            return None
    return client


def reading(path: bytes) -> bytes:
    """How the most careless platform would read a path."""
    decoded = unquote_to_bytes(path).partition(b"?")[0].partition(b"#")[0]
    return re.sub(rb"/{2,}", b"/", re.sub(rb";[^/]*", b"", decoded))


def normal(host: str) -> str:
    return re.sub(r":(443)?$", "", host.lower()).rstrip(".")


def origin_form(target: bytes) -> tuple[bytes, bytes | None]:
    path = re.sub(rb"(?i)^https?://[^/?]*", b"", target)
    path, mark, query = path.partition(b"?")
    return path or b"/", query if mark else None


def check_seen(seen: Seen, made: dict[int, Sent], records: dict[str, dict[str, Any]]) -> None:
    """What arrived is what was decided, and what was sent."""
    request_id = seen.header(b"x-request-id")
    assert request_id is not None
    record = records[request_id.decode()]
    path, mark, query = seen.target.partition(b"?")
    assert (record["effect"], record["method"]) == ("allow", seen.method.decode())
    assert record["path"] == path.decode("latin-1")
    assert record["host"] == (seen.header(b"host") or b"").decode()
    assert not re.match(rb"/admin(/|\Z)", reading(path)), seen.raw
    assert b"smuggled" not in seen.target
    numbers = seen.all(b"x-fuzz")
    sent = made.get(int(numbers[0][:6])) if len(numbers) == 1 and re.match(rb"\d{6}-", numbers[0]) else None
    if sent is not None and numbers[0] != label(sent.number):
        sent = None
    if sent is None or sent.damaged:
        assert any(one.damaged for one in made.values())
        return
    assert not sent.broken, sent
    assert b"spoofed" not in seen.raw, sent
    wanted, wanted_query = origin_form(sent.target)
    assert (seen.method, seen.body) == (sent.method.encode(), sent.body), sent
    assert (query if mark else None) == wanted_query, sent
    assert unquote_to_bytes(path) == unquote_to_bytes(wanted), sent
    assert path.count(b"/") == wanted.count(b"/"), sent
    assert record["host"] == normal(sent.host), sent


def check_pair(sent: Sent, reply: Reply, records: dict[str, dict[str, Any]]) -> None:
    """An answer belongs to the request it follows."""
    record = records[reply.header("x-request-id") or ""]
    if reply.status == 200:
        assert reply.header("x-echo") == label(sent.number).decode(), (sent, reply)
        assert not sent.broken, sent
    elif record["method"]:  # else its bytes were no request: then nothing of it is on record but that
        wanted = origin_form(sent.target)[0]
        assert record["method"] == sent.method, (sent, record)
        got = record["path"].encode("latin-1")
        assert unquote_to_bytes(got) in (unquote_to_bytes(wanted), unquote_to_bytes(sent.target.partition(b"?")[0])), (
            sent,
            record,
        )


async def play(seed: int, count: int) -> None:
    sys.stdout.write(f"seed {seed}\n")
    routes = (lab_route("app", APP, RULES), lab_route("other", LENIENT, RULES, paths=EVERYTHING))
    async with ProxyLab(routes=routes, limits={"connections": 20_000, "connections_per_address": 20_000}) as lab:
        lab.upstream.answer = answer
        cookies = {name: await lab.sign_in(host=name) for name in (APP, LENIENT)}
        generator = Generator(random.Random(seed), cookies)
        pairs = await converse(lab, generator, count)
        lines = await lab.log()
        decisions = [line for line in lines if line["type"] == "decision"]
        records = {line["id"]: line for line in decisions}
        assert len(records) == len(decisions), "one decision per request"
        ids = [seen.header(b"x-request-id") for seen in lab.upstream.seen]
        assert len(set(ids)) == len(ids), "one arrival per decision"
        for seen in lab.upstream.seen:
            check_seen(seen, generator.made, records)
        for sent, reply in pairs:
            check_pair(sent, reply, records)
        assert len({reply.header("x-request-id") for _, reply in pairs}) == len(pairs)
        share = sum(reply.status == 200 for _, reply in pairs) / len(generator.made)
        assert share > 0.4, f"only {share:.0%} of the requests were good enough to go on"


@pytest.mark.case("ZT-SMUG-23")
async def test_policy_record_and_platform_agree_on_every_request() -> None:
    await play(SEED, ROUND)


@pytest.mark.long
@pytest.mark.case("ZT-SMUG-23")
@pytest.mark.parametrize("part", range(20))
async def test_policy_record_and_platform_agree_on_very_many_requests(part: int) -> None:
    await play(SEED + 1 + part, ROUND)
