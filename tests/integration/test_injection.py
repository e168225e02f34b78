"""`helper: inject` through the whole proxy: which pages get the script, and what else becomes of their answers."""

import asyncio
import gzip
import re
import zlib
from collections.abc import Callable

import pytest

from tests.integration.test_relay import Scripted
from tests.lab.proxy import ORIGIN, ProxyLab, Reply
from tests.lab.upstream import Seen
from zt_proxy.pages.scripts import SESSION_JS, SESSION_JS_URL

TAG = f'<script src="{SESSION_JS_URL}"></script>'.encode()
PAGE = b"<!doctype html><html><head><title>App</title></head><body>hello</body></html>"
WITH_TAG = PAGE.replace(b"<head>", b"<head>" + TAG)
DOCUMENT = b"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n"
HTML = b"Content-Type: text/html; charset=utf-8\r\n"
INJECT = {"helper": True}


def answer(body: bytes, headers: bytes = HTML, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


async def ask(
    upstream: bytes | Callable[[Seen], bytes], headers: bytes = DOCUMENT, method: str = "GET", **lab: object
) -> tuple[Reply, Seen]:
    """One request through a proxy whose route injects; the reply, and what the platform saw."""
    async with ProxyLab(route=INJECT, **lab) as proxy:  # type: ignore[arg-type]
        proxy.upstream.answer = upstream
        reply = await proxy.get("/page", await proxy.sign_in(), headers, method=method)
        return reply, proxy.upstream.seen[-1]


async def test_a_document_gets_the_script_and_loses_what_spoke_of_its_old_bytes() -> None:
    spoke = b'ETag: "1"\r\nLast-Modified: Mon, 23 Nov 2026 00:00:00 GMT\r\nAccept-Ranges: bytes\r\nContent-MD5: x\r\n'
    spoke += (
        b"Digest: x\r\nRepr-Digest: x\r\nContent-Digest: x\r\nCache-Control: private, max-age=60\r\nX-Own: kept\r\n"
    )
    old = b'If-None-Match: "1"\r\nIf-Modified-Since: x\r\nIf-Range: "1"\r\nRange: bytes=0-4\r\nAccept-Encoding: br, gzip, zstd\r\n'
    reply, seen = await ask(answer(PAGE, HTML + spoke), DOCUMENT + old)
    assert (reply.status, reply.body) == (200, WITH_TAG)
    assert (reply.header("transfer-encoding"), reply.header("content-length")) == ("chunked", None)
    assert reply.header("vary") == "Sec-Fetch-Dest"
    assert (reply.header("cache-control"), reply.header("x-own")) == ("private, max-age=60", "kept")
    for name in ("etag", "last-modified", "accept-ranges", "content-md5", "digest", "repr-digest", "content-digest"):
        assert reply.header(name) is None, name
    assert seen.header(b"accept-encoding") == b"gzip, identity"
    for condition in (b"if-none-match", b"if-modified-since", b"if-range", b"range"):
        assert seen.header(condition) is None, condition


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        (DOCUMENT, "GET"),
        (DOCUMENT.replace(b"document", b"iframe"), "GET"),
        (DOCUMENT.replace(b"document", b"frame"), "GET"),
        (DOCUMENT + ORIGIN + b"Content-Length: 0\r\n", "POST"),
        (b"Accept: text/html,*/*;q=0.8\r\n", "GET"),
    ],
)
async def test_everything_that_becomes_a_document_gets_it(headers: bytes, method: str) -> None:
    reply, _ = await ask(answer(PAGE), headers, method)
    assert reply.body == WITH_TAG


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        (b"Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nAccept: text/html\r\n", "GET"),
        (b"Sec-Fetch-Dest: embed\r\nSec-Fetch-Mode: navigate\r\n", "GET"),
        (b"Accept: text/html\r\nX-Requested-With: XMLHttpRequest\r\n", "GET"),
        (b"Accept: */*\r\n", "GET"),
        (DOCUMENT + ORIGIN + b"Content-Length: 0\r\n", "PUT"),
    ],
)
async def test_a_fragment_passes_as_it_is_and_a_cache_is_told_so(headers: bytes, method: str) -> None:
    asked = b'If-None-Match: "1"\r\nAccept-Encoding: br\r\n'
    reply, seen = await ask(answer(PAGE, HTML + b'ETag: "1"\r\n'), headers + asked, method)
    assert (reply.body, reply.header("etag"), reply.header("vary")) == (PAGE, '"1"', "Sec-Fetch-Dest")
    assert reply.header("content-length") == str(len(PAGE))
    assert (seen.header(b"if-none-match"), seen.header(b"accept-encoding")) == (b'"1"', b"br")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Type: application/json\r\n",
        b"Content-Type: application/xhtml+xml\r\n",
        b"Content-Type: text/html-template\r\n",
        b"Content-Type: text/plain\r\nContent-Type: text/html\r\n",
        b"",
        HTML + b"Content-Disposition: attachment; filename=a.html\r\n",
        b"Content-Type: text/html; charset=utf-16\r\n",
        b'Content-Type: text/html; charset="UTF-16LE"\r\n',
        HTML + b"Content-Encoding: br\r\n",
        HTML + b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n",
        HTML + b"Content-Encoding: zstd, gzip\r\n",
        HTML + b"Content-Security-Policy: sandbox allow-scripts\r\n",
        HTML + b"Content-Security-Policy: default-src 'none', sandbox\r\n",
    ],
)
async def test_what_is_no_page_that_can_take_it_is_left_alone(headers: bytes) -> None:
    reply, _ = await ask(answer(PAGE, headers + b'ETag: "1"\r\n'))
    assert (reply.body, reply.header("etag")) == (PAGE, '"1"')
    assert reply.header("content-length") == str(len(PAGE))
    for line in headers.decode().split("\r\n"):
        name, _, value = line.partition(": ")
        assert not name or value in reply.all(name)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_a_body_stays_without_one(status: bytes) -> None:
    reply, _ = await ask(b"HTTP/1.1 %b\r\n%b\r\n" % (status, HTML))
    assert (reply.status, reply.body) == (int(status[:3]), b"")


async def test_a_part_a_head_and_an_empty_page_pass_as_they_are() -> None:
    part = b"Content-Range: bytes 0-4/77\r\n"
    reply, _ = await ask(answer(PAGE[:5], HTML + part, b"206 Partial Content"))
    assert (reply.status, reply.body) == (206, PAGE[:5])
    reply, _ = await ask(b"HTTP/1.1 200 OK\r\n%bContent-Length: 77\r\n\r\n" % HTML, method="HEAD")
    assert (reply.status, reply.header("content-length")) == (200, "77")
    reply, _ = await ask(answer(b""))
    assert (reply.body, reply.header("content-length")) == (b"", "0")
    reply, _ = await ask(b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % HTML)
    assert reply.body == b""


async def test_an_error_page_gets_it_too() -> None:
    reply, _ = await ask(answer(PAGE, status=b"500 Internal Server Error"))
    assert (reply.status, reply.body) == (500, WITH_TAG)


async def test_an_old_client_reads_to_the_end_of_the_connection() -> None:
    async with ProxyLab(route=INJECT) as lab:
        lab.upstream.answer = answer(PAGE)
        cookie = await lab.sign_in()
        reply = await lab.send(b"GET / HTTP/1.0\r\nHost: app.test\r\nAccept: text/html\r\nCookie: %b\r\n\r\n" % cookie)
        assert (reply.header("transfer-encoding"), reply.header("content-length")) == (None, None)
        assert (reply.header("connection"), reply.body) == ("close", WITH_TAG)


async def test_connections_on_both_sides_are_kept() -> None:
    async with ProxyLab(route=INJECT) as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        chunked = b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            HTML,
            len(PAGE),
            PAGE,
        )
        for page in (answer(PAGE), chunked, answer(PAGE), chunked):
            lab.upstream.answer = page
            await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%b\r\n" % (cookie, DOCUMENT))
            assert (await client.reply()).body == WITH_TAG
        assert lab.upstream.connections == 1


async def test_a_route_without_it_passes_pages_as_they_are() -> None:
    async with ProxyLab() as lab:
        lab.upstream.answer = answer(PAGE, HTML + b'ETag: "1"\r\n')
        reply = await lab.get("/", await lab.sign_in(), DOCUMENT + b"Accept-Encoding: br\r\n")
        assert (reply.body, reply.header("etag"), reply.header("vary")) == (PAGE, '"1"', None)
        assert lab.upstream.seen[0].header(b"accept-encoding") == b"br"


# ---- compressed ----


def packed(*members: bytes) -> bytes:
    return b"".join(map(gzip.compress, members))


GZIPPED = HTML + b"Content-Encoding: gzip\r\n"


@pytest.mark.parametrize("body", [packed(PAGE), packed(PAGE[:30], PAGE[30:]), packed(PAGE) + b"\0\0garbage"])
async def test_a_compressed_page_stays_compressed(body: bytes) -> None:
    reply, _ = await ask(answer(body, GZIPPED), DOCUMENT + b"Accept-Encoding: gzip\r\n")
    assert reply.header("content-encoding") == "gzip"
    assert gzip.decompress(reply.body) == WITH_TAG


@pytest.mark.parametrize(
    "body", [packed(PAGE)[:-9], packed(PAGE)[:-1], b"no gzip at all", packed(PAGE)[:-8] + bytes(8)]
)
async def test_a_damaged_page_is_an_error_of_the_platform(body: bytes) -> None:
    reply, _ = await ask(answer(body, GZIPPED))
    assert (reply.status, b"App" in reply.body) == (502, False)


class HeadFirst(Scripted):
    """Sends the head of a compressed page, and `rest` when it is told to."""

    def __init__(self, rest: bytes) -> None:
        super().__init__()
        self.rest = rest
        self.go = asyncio.Event()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.next(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n" % GZIPPED)
        await self.go.wait()
        writer.write(self.rest)


async def after_the_head(upstream: HeadFirst) -> bytes:
    """What comes of a page behind its head, up to the end of the client's connection."""
    async with ProxyLab(route=INJECT, upstream=upstream) as lab:
        client = await lab.connect()
        cookie = await lab.sign_in()
        await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%b\r\n" % (cookie, DOCUMENT))
        await client.reader.readuntil(b"\r\n\r\n")
        upstream.go.set()
        return await client.ended()


WHOLE = packed(bytes(range(256)) * 4000 + PAGE)


@pytest.mark.parametrize(
    "rest",
    [
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(WHOLE) - 20, WHOLE[:-20]),
        b"%x\r\n%b\r\n" % (len(WHOLE), WHOLE[:-20] + bytes(20)),
        b"%x\r\n%b\r\nno chunk" % (len(WHOLE), WHOLE),
    ],
)
async def test_a_page_that_breaks_off_is_cut_and_not_ended(rest: bytes) -> None:
    assert not (await after_the_head(HeadFirst(rest))).endswith(b"0\r\n\r\n")


async def test_a_page_made_to_burst_is_cut() -> None:
    bomb = gzip.compress(b"<p>" + bytes(64 * 1024 * 1024))
    came = await after_the_head(HeadFirst(b"%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb)))
    assert not came.endswith(b"0\r\n\r\n")
    assert len(came) < len(bomb)


async def test_a_damaged_page_that_ends_with_its_connection_is_no_accident_of_the_worker() -> None:
    async with ProxyLab(route=INJECT) as lab:
        cookie = await lab.sign_in()
        lab.upstream.close_after = True
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (GZIPPED, packed(PAGE)[:-4])
        client = await lab.connect()
        await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%b\r\n" % (cookie, DOCUMENT))
        assert not (await client.ended()).endswith(b"0\r\n\r\n")
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (GZIPPED, packed(PAGE))
        reply = await lab.get("/", cookie, DOCUMENT)
        assert gzip.decompress(reply.body) == WITH_TAG


class Streaming(Scripted):
    """Sends `pieces` one by one, each when it is told to."""

    headers = HTML
    pieces: tuple[bytes, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.go: asyncio.Queue[None] = asyncio.Queue()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.next(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n" % self.headers)
        for piece in self.pieces:
            await self.go.get()
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_streamed_page_goes_on_streaming(compressed: bool) -> None:
    parts = [PAGE[:21], PAGE[21:40], PAGE[40:60], PAGE[60:]]
    upstream = Streaming()
    decode: Callable[[bytes], bytes] = bytes
    pieces = parts
    if compressed:
        coder = zlib.compressobj(9, zlib.DEFLATED, 31)
        pieces = [coder.compress(part) + coder.flush(zlib.Z_SYNC_FLUSH) for part in parts]
        pieces[-1] += coder.flush()
        upstream.headers = GZIPPED
        decode = zlib.decompressobj(31).decompress
    upstream.pieces = tuple(pieces)
    async with ProxyLab(route=INJECT, upstream=upstream) as lab:
        client = await lab.connect()
        cookie = await lab.sign_in()
        await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%b\r\n" % (cookie, DOCUMENT))
        await client.reader.readuntil(b"\r\n\r\n")
        came = b""
        for count in range(len(parts)):
            upstream.go.put_nowait(None)
            sent = b"".join(parts[: count + 1])
            while came.replace(TAG, b"") != sent:
                came += decode(await chunk(client.reader))
        assert came == WITH_TAG


async def chunk(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        size = int((await reader.readuntil(b"\r\n"))[:-2], 16)
        assert size, "the page ended early"
        return (await reader.readexactly(size + 2))[:-2]


# ---- the script itself, and policies ----


async def test_the_script_is_where_the_tag_says() -> None:
    async with ProxyLab(route=INJECT) as lab:
        lab.upstream.answer = answer(PAGE)
        page = await lab.get("/", await lab.sign_in(), DOCUMENT)
        found = re.search(rb'<script src="([^"]+)"', page.body)
        assert found
        reply = await lab.get(found[1].decode(), headers=b"Sec-Fetch-Dest: script\r\n")
        assert (reply.status, reply.header("content-type")) == (200, "text/javascript; charset=utf-8")
        assert "immutable" in (reply.header("cache-control") or "")
        assert reply.body == SESSION_JS.body
        assert len(lab.upstream.seen) == 1


async def test_policies_let_the_script_through() -> None:
    policies = b"Content-Security-Policy: default-src 'none', img-src *\r\nContent-Security-Policy-Report-Only: script-src 'none'\r\n"
    reply, _ = await ask(answer(PAGE, HTML + policies))
    own = "https://app.test/.zt/"
    assert reply.all("content-security-policy") == [
        f"default-src 'none'; script-src {own}; connect-src {own}, img-src *"
    ]
    assert reply.all("content-security-policy-report-only") == [f"script-src {own}"]
    assert reply.body == WITH_TAG


async def test_the_nonce_is_another_one_each_time() -> None:
    policy = b"Content-Security-Policy: script-src 'nonce-theirs' 'strict-dynamic'\r\n"
    nonces = set()
    async with ProxyLab(route=INJECT) as lab:
        lab.upstream.answer = answer(PAGE, HTML + policy)
        cookie = await lab.sign_in()
        for _ in range(3):
            reply = await lab.get("/", cookie, DOCUMENT)
            found = re.fullmatch(
                r"script-src 'nonce-theirs' 'strict-dynamic' 'nonce-([\w-]{22})'",
                reply.header("content-security-policy") or "",
            )
            assert found
            nonces.add(found[1])
            tag = TAG.replace(b"></", b' nonce="%b"></' % found[1].encode())
            assert reply.body == PAGE.replace(b"<head>", b"<head>" + tag)
    assert len(nonces) == 3


async def test_what_came_of_pages_is_counted() -> None:
    async with ProxyLab(route=INJECT) as lab:
        cookie = await lab.sign_in()
        for headers in (HTML, HTML, HTML + b"Content-Encoding: br\r\n"):
            lab.upstream.answer = answer(PAGE, headers)
            await lab.get("/", cookie, DOCUMENT)
        assert lab.proxy.worker is not None
        families = {family.name: family for family in lab.proxy.worker.metrics.collect()}
        counted = {tuple(sample.labels.values()): sample.value for sample in families["zt_pages"].samples}
        assert counted == {("app", "injected"): 2, ("app", "coding"): 1}


# ---- ZT-* is the proxy's alone, both ways ----


@pytest.mark.case("ZT-HDR-13")
async def test_headers_of_the_proxy_are_nobody_elses() -> None:
    async with ProxyLab() as lab:
        lab.upstream.answer = answer(b"ok", b"ZT-Challenge: step-up; url=/.zt/x\r\nzt_level: x\r\nX-Own: kept\r\n")
        cookie = await lab.sign_in()
        sent = b"ZT-Challenge: x\r\nzT_Level: x\r\nzt.any: x\r\nZTE: kept\r\n"
        reply = await lab.get("/", cookie, sent)
        assert [name for name, _ in reply.headers if name.lower().startswith("zt")] == []
        assert reply.header("x-own") == "kept"
        names = [name.lower() for name, _ in lab.upstream.seen[0].headers if name.lower().startswith(b"zt")]
        assert names == [b"zte"]
