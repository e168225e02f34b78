"""Masks through the whole proxy: bodies of all shapes and codings, and what passes beside them."""

import gzip
import json
import zlib

import pytest

from tests.lab.masks import IBAN, JSON, STARS, answer, chunked, document, mask, masked_lab
from tests.lab.proxy import allow
from zt_proxy.pages.scripts import SESSION_JS_URL
from zt_proxy.policy.spec import Not
from zt_proxy.policy.spec import Test as Is

ROW = {"id": 1, "name": "Ada", "iban": IBAN, "salary": 123456, "owner": {"iban": IBAN}}
ROWS = [ROW] * 50


def raw_deflate(body: bytes) -> bytes:
    coder = zlib.compressobj(6, zlib.DEFLATED, -15)
    return coder.compress(body) + coder.flush()


async def test_fields_are_masked_and_everything_else_arrives_as_it_was_sent() -> None:
    async with masked_lab(mask("$..iban", way="last4"), mask("$[*].salary", name="b", way="remove")) as lab:
        reply = await lab.ask(document(ROWS))
        assert reply.status == 200
        assert json.loads(reply.body)[7] == {"id": 1, "name": "Ada", "iban": "****3000", "owner": {"iban": "****3000"}}
        assert reply.header("content-length") == str(len(reply.body))
        ends = [line["masked"] for line in await lab.proxy.log() if line.get("masked")]
        assert ends == [150]


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        (b"gzip", gzip.compress),
        (b"x-gzip", lambda body: gzip.compress(body[:100]) + gzip.compress(body[100:])),
        (b"deflate", zlib.compress),
        (b"deflate", raw_deflate),
        (b"identity", bytes),
    ],
)
@pytest.mark.parametrize("kind", [JSON, b"Content-Type: text/html\r\n"])
async def test_codings_are_undone(coding: bytes, coded, kind: bytes) -> None:  # type: ignore[no-untyped-def]
    async with masked_lab(mask("$..iban")) as lab:
        body = coded(json.dumps(ROWS).encode())
        headers = kind + b"Content-Encoding: " + coding + b"\r\n"
        for upstream in (answer(body, headers), chunked([body[:1], body[1:2], body[2:]], headers)):
            reply = await lab.ask(upstream, b"Accept-Encoding: br, gzip, zstd\r\n")
            assert json.loads(reply.body)[3]["iban"] == STARS
            assert reply.header("content-encoding") is None
        assert lab.seen.header(b"accept-encoding") == b"gzip, identity"


async def test_an_answer_that_ends_with_its_connection_is_masked() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        lab.proxy.upstream.close_after = True
        reply = await lab.ask(b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n" + json.dumps(ROW).encode())
        assert json.loads(reply.body)["iban"] == STARS
        broken = await lab.ask(
            b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 4000\r\n\r\n" + json.dumps(ROW).encode()
        )
        assert broken.status == 502
        assert IBAN.encode() not in broken.body


async def test_an_answer_up_to_the_limit_is_masked_and_a_larger_one_refused() -> None:
    async with masked_lab(mask("$..iban"), limit=100_000) as lab:
        body = json.dumps({"iban": IBAN, "fill": ""}).encode()
        right = body[:-2] + b"x" * (100_000 - len(body)) + body[-2:]
        assert (await lab.ask(answer(right))).status == 200
        for upstream in (answer(right.replace(b"fill", b"fill+")), chunked([right[:50_000], right[50_000:], b" "])):
            assert (await lab.ask(upstream)).status == 502
        picture = b"\x89PNG" + bytes(400_000)
        assert (await lab.ask(answer(picture, b"Content-Type: image/png\r\n"))).body == picture


async def test_the_operator_may_let_through_what_cannot_be_looked_into() -> None:
    async with masked_lab(mask("$..iban"), insecure_pass=True, limit=1000) as lab:
        text = b"Content-Type: text/plain\r\nETag: x\r\n"
        for body, headers in ((b"plain", text), (b"[1,", JSON), (b'["' + b"x" * 5000, JSON)):
            for upstream in (answer(body, headers), chunked([body[:2], body[2:]], headers)):
                assert (await lab.ask(upstream)).body == body
        assert json.loads((await lab.ask(document(ROW))).body)["iban"] == STARS


async def test_answers_without_a_body_pass() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        assert (await lab.ask(b"HTTP/1.1 204 No Content\r\n\r\n")).status == 204
        reply = await lab.ask(answer(b"", b"Location: /there\r\n", b"302 Found"))
        assert (reply.status, reply.header("location"), reply.header("content-length")) == (302, "/there", "0")
        assert (await lab.ask(chunked([], b"Content-Type: text/plain\r\n"))).status == 200


async def test_types_that_are_no_data_stream_through() -> None:
    async with masked_lab(mask("$..iban"), limit=1000) as lab:
        script = b"window.a = 1; " * 100_000
        for body, kind in (
            (script, b"text/javascript"),
            (b"[hidden]{display:none}" * 99, b"text/css"),
            (b"{", b"text/css"),
        ):
            for coding in (b"", b"gzip"):
                sent = gzip.compress(body) if coding else body
                headers = b"Content-Type: " + kind + b"\r\n" + (b"Content-Encoding: gzip\r\n" if coding else b"")
                reply = await lab.ask(answer(sent, headers), path="/a.js?v=window.a")
                assert (reply.status, reply.body) == (200, sent)


async def test_more_types_pass_where_the_operator_says_so() -> None:
    async with masked_lab(mask("$..iban"), pass_types=("text/csv", "video/*")) as lab:
        assert (await lab.ask(answer(b"a,b", b"Content-Type: text/csv; charset=utf-8\r\n"))).body == b"a,b"
        assert (await lab.ask(answer(b"mp4", b"Content-Type: video/mp4\r\n"))).body == b"mp4"
        assert (await lab.ask(answer(b"<p>", b"Content-Type: text/html\r\n"))).status == 502


async def test_lines_of_json_are_masked_one_by_one() -> None:
    async with masked_lab(mask("$.iban")) as lab:
        line = json.dumps(ROW).encode() + b"\n"
        reply = await lab.ask(chunked([line] * 5, b"Content-Type: application/x-ndjson\r\n"))
        lines = reply.body.splitlines()
        assert [json.loads(each)["iban"] for each in lines] == [STARS] * 5


async def test_conditions_on_what_is_changed_reach_the_platform() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        headers = b'If-Match: "v1"\r\nContent-Length: 0\r\nOrigin: https://app.test\r\nSec-Fetch-Site: same-origin\r\n'
        await lab.ask(document(ROW), headers, method="PUT")
        assert lab.seen.header(b"if-match") == b'"v1"'


async def test_pages_get_the_helper_and_data_is_masked_on_one_route() -> None:
    async with masked_lab(mask("$..iban"), route={"helper": True}) as lab:
        page = b"<!doctype html><html><head><title>App</title></head><body>hello</body></html>"
        html = b"Content-Type: text/html\r\n"
        asked = b"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n"
        for upstream in (answer(page, html), chunked([page[:3], page[3:]], html)):
            reply = await lab.ask(upstream, asked)
            assert reply.body == page.replace(b"<head>", f'<head><script src="{SESSION_JS_URL}"></script>'.encode())
        reply = await lab.ask(document(ROW), asked)
        assert json.loads(reply.body)["iban"] == STARS


async def test_a_platform_that_goes_on_too_long_is_given_up_and_the_next_request_served() -> None:
    async with masked_lab(mask("$..iban"), limit=10_000) as lab:
        cookie = await lab.proxy.sign_in()
        client = await lab.proxy.connect()
        request = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: " + cookie + b"\r\n\r\n"
        lab.proxy.upstream.answer = answer(b'["' + b"x" * 4_000_000 + b'"]')
        await client.write(request)
        assert (await client.reply()).status == 502
        lab.proxy.upstream.answer = document(ROW)
        await client.write(request)
        assert json.loads((await client.reply()).body)["iban"] == STARS


async def test_two_readers_of_one_address_get_each_their_own_answer() -> None:
    spares = Not(Is("group", "in", ("finance",)))
    async with masked_lab(mask("$..iban", applies=spares), rules=(allow(groups=("staff", "finance")),)) as lab:
        for _ in range(2):
            everything = await lab.ask(document(ROW), groups=("finance",))
            assert json.loads(everything.body) == ROW
            masked = await lab.ask(document(ROW), b'If-None-Match: "v1"\r\nRange: bytes=0-3\r\n', groups=("staff",))
            assert json.loads(masked.body)["iban"] == STARS
            assert lab.seen.header(b"range") is None
        await lab.ask(document(ROW), b"Range: bytes=0-3\r\n", groups=("finance",))
        assert lab.seen.header(b"range") == b"bytes=0-3"


async def test_a_mask_that_only_rules_name_counts_for_what_they_allow() -> None:
    rules = (
        allow("support", groups=("support",), masks=("contact",)),
        allow("staff", groups=("staff",)),
    )
    async with masked_lab(mask("$..iban", name="contact", named_only=True), rules=rules) as lab:
        assert json.loads((await lab.ask(document(ROW), groups=("support",))).body)["iban"] == STARS
        assert json.loads((await lab.ask(document(ROW), groups=("staff",))).body) == ROW
        decisions = await lab.proxy.decisions()
        assert [line.get("masks") for line in decisions] == [["contact"], None]


async def test_strangers_are_masked_where_a_route_is_public() -> None:
    spares = Not(Is("group", "in", ("finance",)))
    async with masked_lab(mask("$..iban", applies=spares), rules=(allow(public=True),)) as lab:
        lab.proxy.upstream.answer = document(ROW)
        assert json.loads((await lab.proxy.get("/data")).body)["iban"] == STARS


async def test_requests_on_one_connection_are_masked_one_after_another() -> None:
    async with masked_lab(mask("$..iban")) as lab:
        cookie = await lab.proxy.sign_in()
        client = await lab.proxy.connect()
        request = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: " + cookie + b"\r\n\r\n"
        lab.proxy.upstream.answer = document(ROWS)
        await client.write(request * 5)
        for _ in range(5):
            assert json.loads((await client.reply()).body)[49]["iban"] == STARS
        assert lab.proxy.upstream.connections == 1
