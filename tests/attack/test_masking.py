"""Ways to see what is masked: in parts, by another name, from a cache, compressed, or in what nobody looks into."""

import gzip
import json
import zlib

import pytest

from tests.lab.masks import IBAN, JSON, STARS, answer, chunked, mask, masked_lab
from tests.lab.proxy import ProxyLab
from tests.lab.upstream import Seen

SECRET = {"id": 7, "iban": IBAN}
BODY = json.dumps(SECRET).encode()
SEEN = {"id": 7, "iban": STARS}
VALIDATORS = b'ETag: "v1"\r\nLast-Modified: Mon, 23 Nov 2026 00:00:00 GMT\r\nAccept-Ranges: bytes\r\nContent-MD5: x\r\n'
DIGESTS = b"Digest: x\r\nRepr-Digest: x\r\nContent-Digest: x\r\nSignature: x\r\nSignature-Input: x\r\n"
REFUSED = "answer-not-inspectable"


@pytest.mark.case("ZT-MASK-03")
@pytest.mark.parametrize(
    "asked", [b"Range: bytes=5-8\r\n", b"Range: bytes=0-1,5-8\r\n", b'Range: bytes=5-8\r\nIf-Range: "v1"\r\n']
)
async def test_a_part_of_a_masked_answer_cannot_be_asked_for(asked: bytes) -> None:
    async with masked_lab(mask("$..iban")) as lab:
        reply = await lab.ask(answer(BODY, JSON + VALIDATORS + DIGESTS), asked)
        assert (reply.status, json.loads(reply.body)) == (200, SEEN)
        assert reply.header("content-length") == str(len(reply.body))
        assert lab.seen.header(b"range") is None
        assert lab.seen.header(b"if-range") is None
        for name in ("etag", "last-modified", "accept-ranges", "content-md5", "digest", "repr-digest", "signature"):
            assert reply.header(name) is None, name


@pytest.mark.case("ZT-MASK-03")
async def test_head_tells_nothing_of_the_unmasked_answer() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        head = b"HTTP/1.1 200 OK\r\n" + JSON + VALIDATORS + b"Content-Length: %d\r\n\r\n" % len(BODY)
        reply = await lab.ask(head, method="HEAD")
        assert (reply.status, reply.header("content-length"), reply.header("etag")) == (200, None, None)


@pytest.mark.case("ZT-MASK-04")
@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Type: image/png\r\n",
        b"",
        b"Content-Type: text/html\r\n",
        b"Content-Type: text/plain\r\n",
        b"Content-Type: application/octet-stream\r\n",
        b"Content-Type: text/css\r\nContent-Disposition: attachment\r\n",
        b"Content-Type: application/hal+json\r\n",
        b"Content-Type: application/json\r\nContent-Type: image/png\r\n",
        b"Content-Type: text/javascript\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", b" \n\t" * 200, b"\xef\xbb\xbf"])
async def test_json_is_masked_by_whatever_type_it_is_called(headers: bytes, before: bytes) -> None:
    async with masked_lab(mask("$..iban")) as lab:
        reply = await lab.ask(
            chunked([*(bytes((each,)) for each in before), *(BODY[at : at + 1] for at in range(len(BODY)))], headers)
        )
        assert (reply.status, json.loads(reply.body.decode("utf-8-sig"))) == (200, SEEN)
        assert reply.header("content-length") == str(len(reply.body))


@pytest.mark.case("ZT-MASK-04")
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Type: text/event-stream\r\n", b"data: " + BODY + b"\n\n"),
        (b"Content-Type: multipart/mixed; boundary=x\r\n", b"--x\r\n\r\n" + BODY + b"\r\n--x--"),
        (b"Content-Type: text/plain\r\n", b"the number is " + IBAN.encode()),
        (b"Content-Type: text/csv\r\n", b"iban\n" + IBAN.encode()),
        (b"Content-Type: application/xml\r\n", b"<iban>" + IBAN.encode() + b"</iban>"),
        (b"Content-Type: application/json-seq\r\n", b"\x1e" + BODY + b"\n"),
        (b"", b"\x82" + BODY),
        (JSON, b")]}',\n" + BODY),
        (b"Content-Type: text/javascript\r\n", b")]}',\n" + BODY),
        (b"Content-Type: text/javascript\r\n", b"while(1);" + BODY),
        (b"Content-Type: text/javascript\r\n", b"/**/ typeof show === 'function' && show(" + BODY + b");"),
        (b"Content-Type: text/javascript\r\n", b"show(" + BODY + b");"),
        (b"Content-Type: text/javascript\r\n", b"show(1," + BODY + b");"),
        (b"Content-Type: application/javascript\r\n", b"other.name( [" + BODY + b"] )"),
        (b"Content-Type: text/html\r\n", BODY.decode().encode("utf-16")),
        (b"Content-Type: text/html\r\n", BODY.decode().encode("utf-16-le")),
        (b"Content-Type: application/json; charset=utf-16\r\n", BODY.decode().encode("utf-16")),
        (b"Content-Type: application/json; charset=utf-7\r\n", BODY),
        (JSON, BODY + BODY),
        (JSON, BODY[:-1]),
        (JSON, b'{"iban":"' + b"\xff" + b'"}'),
        (JSON, b'{"iban":"\\ud800"}'),
        (JSON, b'{"iban":NaN}'),
        (JSON, b"[" * 20_000 + b"]" * 20_000),
        (JSON, b"{'iban':'x'}"),
    ],
)
async def test_what_nobody_can_look_into_is_refused(headers: bytes, body: bytes) -> None:
    async with masked_lab(mask("$..iban")) as lab:
        for upstream in (answer(body, headers), chunked([body[:9], body[9:]], headers)):
            reply = await lab.ask(upstream, path="/data?callback=show")
            assert reply.status == 502
            assert IBAN.encode() not in reply.body
        assert REFUSED in str(await lab.proxy.log())


@pytest.mark.case("ZT-MASK-04")
@pytest.mark.parametrize("status", [b"206 Partial Content", b"304 Not Modified"])
async def test_an_answer_that_was_not_asked_for_is_refused(status: bytes) -> None:
    async with masked_lab(mask("$..iban")) as lab:
        body = b"" if status.startswith(b"304") else BODY[4:]
        head = b"HTTP/1.1 %b\r\n%b" % (status, JSON + b"Content-Range: bytes 4-9/10\r\n")
        reply = await lab.ask(head + (b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if body else b"\r\n"))
        assert reply.status == 502


@pytest.mark.case("ZT-MASK-04")
@pytest.mark.parametrize("status", [b"403 Forbidden", b"404 Not Found", b"500 Internal Server Error", b"301 Moved"])
async def test_errors_and_redirects_are_masked_like_all_others(status: bytes) -> None:
    async with masked_lab(mask("$..iban", headers=("x-iban",))) as lab:
        more = b"Location: /elsewhere\r\nSet-Cookie: a=b\r\nX-Iban: " + IBAN.encode() + b"\r\n"
        reply = await lab.ask(answer(BODY, JSON + more, status))
        assert (str(reply.status), json.loads(reply.body)) == (status[:3].decode(), SEEN)
        assert (reply.header("location"), reply.header("set-cookie")) == ("/elsewhere", "a=b")
        assert reply.header("x-iban") is None


@pytest.mark.case("ZT-MASK-04")
async def test_an_error_that_cannot_be_looked_into_keeps_its_status_and_loses_its_body() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        text = b"Content-Type: text/plain\r\n"
        for upstream in (
            answer(b"no such iban: " + IBAN.encode(), text, b"404 Not Found"),
            answer(b"{broken" + IBAN.encode(), JSON, b"500 Oops"),
            answer(b"x" * 3_000_000, text, b"404 Not Found"),
        ):
            reply = await lab.ask(upstream)
            assert reply.status in (404, 500)
            assert (reply.body, reply.header("content-length"), reply.header("content-type")) == (b"", "0", None)


@pytest.mark.case("ZT-MASK-04")
async def test_trailers_go_nowhere() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        reply = await lab.ask(chunked([BODY], trailer=b"X-Iban: " + IBAN.encode() + b"\r\n"))
        assert (json.loads(reply.body), reply.header("x-iban")) == (SEEN, None)


@pytest.mark.case("ZT-MASK-04")
async def test_a_websocket_is_refused_to_whoever_may_not_see_everything() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.test\r\n"
        reply = await lab.ask(answer(b""), upgrade + key)
        assert reply.status == 403
        assert not lab.proxy.upstream.seen


@pytest.mark.case("ZT-MASK-05")
async def test_a_validator_of_the_unmasked_answer_brings_nothing() -> None:
    def platform(seen: Seen) -> bytes:
        if seen.header(b"if-none-match") or seen.header(b"if-modified-since"):
            return b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n'
        return answer(BODY, JSON + VALIDATORS + b"Cache-Control: public, s-maxage=600\r\nExpires: x\r\nAge: 4\r\n")

    async with masked_lab(mask("$..iban")) as lab:
        for condition in (b'If-None-Match: "v1"\r\n', b"If-Modified-Since: Mon, 23 Nov 2026 00:00:00 GMT\r\n"):
            reply = await lab.ask(platform, condition)
            assert (reply.status, json.loads(reply.body)) == (200, SEEN)
            assert (reply.header("cache-control"), reply.header("expires")) == ("private, no-store", None)
            assert "cookie" in (reply.header("vary") or "").lower()


@pytest.mark.case("ZT-MASK-05")
@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        (b"Cache-Control: public, s-maxage=600\r\nCDN-Cache-Control: max-age=600\r\n", "private, no-cache"),
        (b"Cache-Control: no-store\r\n", "private, no-store"),
        (b"Expires: Mon, 23 Nov 2037 00:00:00 GMT\r\n", "private, no-cache"),
    ],
)
async def test_no_cache_gives_one_readers_answer_to_another(said: bytes, becomes: str) -> None:
    async with masked_lab(mask("$..iban"), spared=True) as lab:
        for upstream in (answer(BODY, JSON + VALIDATORS + said), chunked([BODY], JSON + VALIDATORS + said)):
            reply = await lab.ask(upstream)
            assert json.loads(reply.body) == SECRET
            assert (reply.header("cache-control"), reply.header("vary")) == (becomes, "Cookie, Authorization")
            assert (reply.header("expires"), reply.header("cdn-cache-control")) == (None, None)
            assert reply.header("etag") == '"v1"'
        reply = await lab.ask(answer(b"x", b"Content-Type: text/css\r\nCache-Control: max-age=60\r\n"))
        assert reply.header("cache-control") == "max-age=60"


@pytest.mark.case("ZT-MASK-06")
async def test_what_looks_like_a_secret_elsewhere_is_not_masked() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        body = b'{ "note":"%b", "list": ["iban", "%b"],\n "iban2":"x", "n": 1.00e+2, "big":123456789012345678901234567890 }'
        body = body.replace(b"%b", IBAN.encode())
        reply = await lab.ask(answer(body))
        assert reply.body == body


@pytest.mark.case("ZT-MASK-06")
async def test_a_binary_body_passes_byte_for_byte_with_masks_and_without() -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20_000
    headers = b"Content-Type: image/png\r\nCache-Control: max-age=60\r\n"
    async with masked_lab(mask("$..iban")) as lab:
        reply = await lab.ask(answer(picture, headers))
        assert (reply.body, reply.header("cache-control")) == (picture, "max-age=60")
    async with ProxyLab() as proxy:
        proxy.upstream.answer = answer(picture, headers)
        assert (await proxy.get("/", await proxy.sign_in())).body == picture


@pytest.mark.case("ZT-DOS-12")
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(b'{"iban":"' + b"0" * 30_000_000 + b'"}')),
        (b"deflate", zlib.compress(b'{"iban":"' + b"0" * 30_000_000 + b'"}')),
        (b"gzip, gzip", gzip.compress(gzip.compress(BODY))),
        (b"br", b"\x8b\x02\x80" + BODY),
        (b"zstd", b"\x28\xb5\x2f\xfd" + BODY),
        (b"gzip", gzip.compress(BODY)[:-4]),
        (b"gzip", gzip.compress(BODY) + b"more"),
        (b"gzip", b"not gzip"),
        (b"gzip", gzip.compress(b" " * 30_000_000)),
    ],
)
@pytest.mark.parametrize("kind", [JSON, b"Content-Type: image/png\r\n"])
async def test_a_body_that_bursts_or_is_coded_twice_is_refused(coding: bytes, body: bytes, kind: bytes) -> None:
    async with masked_lab(mask("$..iban")) as lab:
        reply = await lab.ask(answer(body, kind + b"Content-Encoding: " + coding + b"\r\n"))
        assert reply.status == 502
        assert IBAN.encode() not in reply.body
