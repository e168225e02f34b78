"""Faults in every stage, and what they tell to whom: nothing goes on, nothing leaks (ZT-ERR, HDRS, SSRF, LOG)."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from tests.lab.proxy import APP, ORIGIN, PORTAL, ProxyLab, Reply, allow
from zt_proxy.core import logs
from zt_proxy.worker.gateway import outgoing
from zt_proxy.worker.gateway.locate import Locator
from zt_proxy.worker.gateway.pipeline import Gateway
from zt_proxy.worker.gateway.respond import Responder
from zt_proxy.worker.identify.headers import IdentityHeaders
from zt_proxy.worker.identify.session import SessionCache
from zt_proxy.worker.record import Recorder
from zt_proxy.worker.upstream.pool import UpstreamPool

SECRET = "what-went-wrong-inside"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything the process says, at DEBUG."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("json", "debug", stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def fault(*_: Any, **__: Any) -> Any:
    raise RuntimeError(SECRET)


def generic(reply: Reply, status: int = 500) -> None:
    """An answer that says who to ask, and nothing of what happened."""
    assert reply.status == status
    assert reply.problem["request_id"] == reply.header("x-request-id")
    assert reply.problem["reason"] in {"internal-error", "record-unavailable"}
    for text in (SECRET, "Traceback", "RuntimeError", ".py"):
        assert text not in reply.body.decode()


BEFORE_THE_DECISION: dict[str, tuple[Any, str]] = {
    "admit": (Gateway, "_admit"),
    "locate": (Locator, "locate"),
    "identify": (Gateway, "_identify"),
    "look up the session": (SessionCache, "find"),
    "ask control": (SessionCache, "fetch"),
    "go on": (Gateway, "_go_on"),
    "decide": (Gateway, "decide"),
}
AFTER_THE_DECISION: dict[str, tuple[Any, str]] = {
    "forward": (Gateway, "_forward"),
    "sign": (IdentityHeaders, "signed"),
    "write the head": (outgoing, "request_head"),
    "lines of the answer": (Responder, "response_lines"),
    "relay": (Gateway, "relay"),
    "take a connection": (UpstreamPool, "take"),
}


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("stage", BEFORE_THE_DECISION)
async def test_a_fault_before_the_decision_denies(
    stage: str, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        monkeypatch.setattr(*BEFORE_THE_DECISION[stage], fault)
        reply = await lab.get("/flows", cookie)
        generic(reply)
        assert lab.upstream.connections == 0
        monkeypatch.undo()
        assert (await lab.get("/flows", cookie)).status == 200
        first, _ = await lab.decisions()
        assert (first["effect"], first["reason"], first["id"]) == (
            "deny",
            "internal-error",
            reply.header("x-request-id"),
        )
    assert SECRET in log.getvalue()


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("stage", AFTER_THE_DECISION)
async def test_a_fault_after_the_decision_forwards_nothing(
    stage: str, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        monkeypatch.setattr(*AFTER_THE_DECISION[stage], fault)
        reply = await lab.get("/flows", cookie)
        generic(reply)
        assert lab.upstream.connections == 0
        monkeypatch.undo()
        assert (await lab.get("/flows", cookie)).status == 200
        lines = [line for line in await lab.log() if line.get("id") == reply.header("x-request-id")]
        assert [line["type"] for line in lines] == ["decision", "end"]
        assert (lines[1]["status"], lines[1]["reason"]) == (500, "internal-error")
    assert SECRET in log.getvalue()


@pytest.mark.case("ZT-ERR-01")
async def test_what_cannot_be_recorded_is_not_done(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for _ in range(2):  # at first control is asked for the session
            monkeypatch.setattr(Recorder, "decision", fault)
            generic(await lab.get("/flows", cookie))
            generic(await lab.get("/flows"))
            assert lab.upstream.connections == 0
            monkeypatch.undo()
        monkeypatch.setattr(Recorder, "end", fault)
        assert (await lab.get("/flows", cookie)).status == 200
        monkeypatch.undo()
        assert (await lab.get("/flows", cookie)).status == 200
    assert SECRET in log.getvalue()


@pytest.mark.case("ZT-ERR-01")
@pytest.mark.parametrize("name", ["decline", "error", "_no", "_send"])
async def test_a_denial_that_cannot_be_said_is_still_a_denial(
    name: str, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    async with ProxyLab() as lab:
        monkeypatch.setattr(Responder, name, fault)
        client = await lab.connect()
        await client.write(b"GET /%s HTTP/1.1\r\nHost: app.test\r\n\r\n" % (b"%2e" if name == "error" else b"flows"))
        said = await client.ended() if name != "decline" else (await client.reply()).body
        assert SECRET.encode() not in said
        assert lab.upstream.connections == 0
        monkeypatch.undo()
        (record,) = await lab.decisions()
        assert record["effect"] in {"deny", "challenge"}
    assert SECRET in log.getvalue()


@pytest.mark.case("ZT-ERR-02")
@pytest.mark.parametrize("error", [TypeError, AttributeError, KeyError, TimeoutError, RecursionError, AssertionError])
async def test_a_policy_that_fails_denies_and_says_so_on_record(error: type[Exception], log: io.StringIO) -> None:
    def decide(_: object) -> None:
        raise error(SECRET)

    async with ProxyLab(rules=(allow(public=True),)) as lab:
        assert lab.proxy.worker is not None
        (route,) = lab.proxy.worker.gateway.routes.routes
        route.policy = _Policy(decide)  # type: ignore[assignment]
        generic(await lab.get("/", await lab.sign_in()))
        generic(await lab.get("/"))
        assert lab.upstream.connections == 0
        assert [(line["effect"], line["reason"]) for line in await lab.decisions()] == [("deny", "internal-error")] * 2
    assert SECRET in log.getvalue()


class _Policy:
    headers_wanted: frozenset[str] = frozenset()

    def __init__(self, decide: Callable[[object], object]) -> None:
        self.decide = decide


@pytest.mark.case("ZT-HDRS-02")
async def test_no_foreign_origin_is_let_in_by_the_proxys_own_answers() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for origin in (
            "https://evil.test",
            "null",
            "https://app.test.evil.test",
            "http://app.test",
            "https://xapp.test",
        ):
            line = f"Origin: {origin}\r\n".encode()
            preflight = (
                line + b"Access-Control-Request-Method: DELETE\r\nAccess-Control-Request-Headers: authorization\r\n"
            )
            replies = [
                await lab.get(path, who, preflight if method == "OPTIONS" else line, host, method)
                for path, host in (
                    ("/", APP),
                    ("/.zt/session", APP),
                    ("/.zt/jwks.json", APP),
                    ("/.zt/sign-in", PORTAL),
                    ("/", PORTAL),
                )
                for method in ("GET", "OPTIONS", "POST")
                for who in (None, cookie)
                if (path, method, who) != ("/", "GET", cookie)
            ]
            for reply in replies:
                assert [name for name, _ in reply.headers if name.lower().startswith("access-control-")] == []
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-HDRS-02")
async def test_a_preflight_is_answered_for_named_origins_alone_and_never_forwarded() -> None:
    friend = "https://friend.test"
    async with ProxyLab(route={"cors_origins": (friend,)}) as lab:
        asked = b"Access-Control-Request-Method: PUT\r\n"
        reply = await lab.get("/", None, f"Origin: {friend}\r\n".encode() + asked, method="OPTIONS")
        assert (reply.status, reply.header("access-control-allow-origin")) == (204, friend)
        for origin in (
            b"https://evil.test",
            b"null",
            b"https://friend.test.evil.test",
            b"HTTPS://FRIEND.TEST",
            b"https://app.test",
        ):
            reply = await lab.get("/", None, b"Origin: %b\r\n" % origin + asked, method="OPTIONS")
            assert (reply.status, reply.header("access-control-allow-origin")) == (403, None)
        reply = await lab.get("/", None, f"Origin: {friend}\r\n".encode(), method="OPTIONS")
        assert reply.status == 401, "without a method it asks for is no preflight: it goes through the policy"
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-HDRS-03")
async def test_no_line_break_of_a_client_begins_a_header_of_an_answer() -> None:
    breaks = (
        "%0d%0aSet-Cookie:x=1",
        "%0aSet-Cookie:x=1",
        "%E5%98%8A%E5%98%8DSet-Cookie:x=1",
        "%u000aSet-Cookie:x=1",
        "%250d%250aSet-Cookie:x=1",
    )
    navigation = b"Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n"
    async with ProxyLab() as lab:
        for text in breaks:
            for path, host in ((f"/?rd=/{text}", APP), (f"/{text}", APP), (f"/.zt/sign-in?to={text}", PORTAL),
                               (f"/.zt/sign-out?to=/{text}", APP), (f"/.zt/resume?to={text}", APP),
                               (f"/.zt/callback?state={text}&error_description={text}", PORTAL)):  # fmt: skip
                reply = await lab.get(path, None, navigation, host)
                assert not any(value.startswith("x=1") for value in reply.all("set-cookie")), (path, reply)
                assert not any("\n" in value or "\r" in value for _, value in reply.headers)


@pytest.mark.case("ZT-SSRF-01")
async def test_only_configured_upstreams_are_ever_asked() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        for host in ("169.254.169.254", "localhost", f"127.0.0.1:{lab.upstream.port}", "[::1]", "metadata.google.internal",
                     "app.test.169.254.169.254.nip.io", "2130706433", "0x7f.1"):  # fmt: skip
            reply = await lab.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (reply.status, reply.problem["reason"]) == (404, "host-unknown"), host
        for target in (
            f"http://127.0.0.1:{lab.upstream.port}/",
            "http://127.0.0.1:22/",
            "http://169.254.169.254/latest/",
        ):
            assert (await lab.get(target, cookie)).status == 400
            reply = await lab.send(f"GET {target} HTTP/1.1\r\nHost: {target.split('/')[2]}\r\n\r\n".encode())
            assert reply.status == 404
        assert lab.upstream.connections == 0


HIDDEN = ("s3cr3t-in-query", "s3cr3t-in-cookie", "s3cr3t-in-authorization", "s3cr3t-in-code", "s3cr3t-in-state", "s3cr3t-in-body",
          "s3cr3t-in-refused", "s3cr3t-in-referer")  # fmt: skip


@pytest.mark.case("ZT-LOG-02")
async def test_no_secret_of_a_request_is_in_any_log_or_record(log: io.StringIO) -> None:
    query, kept, authorization, code, state, body, refused, referer = HIDDEN
    lines = f"Authorization: Bearer {authorization}\r\nReferer: https://app.test/?token={referer}\r\n"
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        sent = cookie + f"; app={kept}".encode()
        made = cookie[:-4] + b"AAAA"
        requests = [
            (f"/x?access_token={query}&code={code}", sent, lines, APP),
            (f"/x?access_token={query}", made + b"; app=" + kept.encode(), lines, APP),
            (f"/x?access_token={query}", None, lines + "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n", APP),
            (f"/.zt/callback?code={code}&state={state}", sent, lines, PORTAL),
            (f"/.zt/sign-in?to={state}", None, lines, PORTAL),
            (f"/.zt/resume?to={state}&code={code}", sent, lines, APP),
            (f"/%2e%2e/?token={refused}", sent, lines, APP),
            (f"//x?token={refused}", sent, lines, APP),
            (f"/x?a=%&#{refused}", sent, lines, APP),
        ]
        for path, who, more, host in requests:
            await lab.get(path, who, more.encode(), host)
        head = b"POST /x HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%bContent-Length: %d\r\n\r\n%b"
        assert (await lab.send(head % (sent, ORIGIN, len(body), body.encode()))).status == 200
        await lab.send(b"POST /x HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\nContent-Length: -1\r\n\r\n" % sent)
        audit = json.dumps(await lab.log())
    for place in (log.getvalue(), audit):
        assert [secret for secret in HIDDEN if secret in place] == []
        for value in (cookie.decode().partition("=")[2], made.decode().partition("=")[2]):
            assert value not in place


@pytest.mark.case("ZT-LOG-01")
async def test_one_request_is_one_line_whatever_it_is_made_of(log: io.StringIO) -> None:
    evil = (
        "%0A%7B%22type%22:1%7D",
        "%E2%80%A8",
        "%1B%5B31m",
        "%22%2C%22effect%22:%22allow",
        "\\u000a",
        "'\"",
        "%E2%80%AE",
    )
    async with ProxyLab() as lab:
        _, cookie = await lab.new_session('eve"\n\x1b[31m{"effect":"allow"}\u2028\u202e')
        count = 0
        for text in evil:
            for request in (f"GET /{text} HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {text}\r\n", f"GET / HTTP/1.1\r\nHost: {text}\r\n",
                            f"{text} / HTTP/1.1\r\nHost: app.test\r\n"):  # fmt: skip
                await lab.send(request.encode() + b"Cookie: %b\r\n\r\n" % cookie)
                count += 1
        await lab.stop()
        text = "".join(path.read_text() for path in sorted((lab.directory / "audit").glob("*.jsonl")))
        assert all(0x20 <= ord(letter) < 0x7F or letter == "\n" for letter in text)
        records = [json.loads(line) for line in text.splitlines()]
        assert len([record for record in records if record["type"] == "decision"]) == count
    assert all(isinstance(json.loads(line), dict) for line in log.getvalue().splitlines())
    assert "\x1b" not in log.getvalue()
