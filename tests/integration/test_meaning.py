"""What a request means to its platform, as the whole proxy reads it: in its head, its body, its messages."""

import base64
import json

from msgspec.structs import replace

from tests.lab.proxy import APP, ORIGIN, Client, ProxyLab, allow, lab_route
from tests.lab.waiting import until
from tests.lab.ws import (
    OWN_ORIGIN,
    TEXT,
    Frame,
    close_code,
    frame,
    lab_with_echo,
    open_websocket,
    read_frame,
    remaining_frames,
)
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.types import Action, Change, Mode
from zt_proxy.policy.profile_spec import (
    FieldTest,
    MatcherSpec,
    MessageSpec,
    ObjectSpec,
    OtherwiseSpec,
    ProfileSpec,
)
from zt_proxy.policy.spec import Audience, Limit, RequestMatch, RoleSpec, RouteRules, RuleEffect, RuleSpec
from zt_proxy.policy.spec import Test as Is
from zt_proxy.worker.settings import MaskSpec

PLATFORM = ProfileSpec(
    "platform",
    "A platform",
    "1",
    "these tests",
    matchers=(
        MatcherSpec("live", Action.DEPLOY, ("POST",), ("/flows/{flow}",), body=(FieldTest("type", ("full",)),),
                    object=ObjectSpec("flow", "{flow}"), changes=Change.DEPLOYMENT),
        MatcherSpec("save", Action.BUILD, ("POST",), ("/flows/{flow}",), object=ObjectSpec("flow", "{flow}")),
        MatcherSpec("export", Action.EXPORT, ("GET",), ("/export/**",)),
        MatcherSpec("socket", Action.VIEW, ("GET",), ("/ws",), websocket=True),
    ),
    messages=(
        MessageSpec("run", Action.BUILD, fields=(FieldTest("do", ("run",)),)),
        MessageSpec("look", Action.VIEW, fields=(FieldTest("do", ("look",)),)),
    ),
    otherwise=OtherwiseSpec(message_as_opened=False),
    body_limit=2048,
)  # fmt: skip


def may(rule: str, *actions: str, groups: tuple[str, ...] = ("staff",), **more: object) -> RuleSpec:
    return RuleSpec(
        rule, RuleEffect.ALLOW, Audience.MATCHING, matches=(RequestMatch(actions=actions),), groups=groups, **more
    )  # type: ignore[arg-type]


RULES = (
    may("staff", "view", "use"),
    may("makers", "build", groups=("makers",)),
    may("releasers", "deploy", groups=("releasers",)),
)


def lab(**more: object) -> ProxyLab:
    return ProxyLab(rules=more.pop("rules", RULES), route={"profile": PLATFORM}, **more)  # type: ignore[arg-type]


def post(
    cookie: bytes, body: bytes, path: str = "/flows/f1", kind: str = "application/json", extra: bytes = b""
) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {APP}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n".encode()
        + ORIGIN + extra + b"Cookie: " + cookie + b"\r\n\r\n" + body
    )  # fmt: skip


FULL, PART = json.dumps({"type": "full"}).encode(), json.dumps({"type": "nodes"}).encode()


async def test_a_body_decides_who_may_send_it_and_arrives_whole() -> None:
    async with lab() as proxy:
        maker = await proxy.sign_in("mia", ("staff", "makers"))
        releaser = await proxy.sign_in("rita", ("staff", "releasers"))
        assert (await proxy.send(post(maker, PART))).status == 200
        assert (await proxy.send(post(maker, FULL))).status == 403
        assert (await proxy.send(post(releaser, FULL))).status == 200
        assert (await proxy.send(post(releaser, PART))).status == 403
        assert [seen.body for seen in proxy.upstream.seen] == [PART, FULL]
        records = await proxy.decisions()
    said = [(one["effect"], one["action"], one["object"], one["matcher"], one.get("changes", "")) for one in records]
    assert said == [
        ("allow", "build", "f1", "save", ""),
        ("deny", "deploy", "f1", "live", "deployment"),
        ("allow", "deploy", "f1", "live", "deployment"),
        ("deny", "build", "f1", "save", ""),
    ]


async def test_a_body_in_small_pieces_and_chunks_means_the_same() -> None:
    async with lab() as proxy:
        releaser = await proxy.sign_in("rita", ("releasers",))
        client = await proxy.connect()
        head = f"POST /flows/f1 HTTP/1.1\r\nHost: {APP}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        await client.write(head.encode() + ORIGIN + b"Cookie: " + releaser + b"\r\n\r\n")
        for place in range(len(FULL)):
            await client.write(b"1\r\n%b\r\n" % FULL[place : place + 1])
        await client.write(b"0\r\n\r\n")
        assert (await client.reply("POST")).status == 200
        assert proxy.upstream.seen[0].body == FULL


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked_once() -> None:
    async with lab() as proxy:
        releaser = await proxy.sign_in("rita", ("releasers",))
        client = await proxy.connect()
        request = post(releaser, FULL, extra=b"Expect: 100-continue\r\n")
        head, _, body = request.partition(b"\r\n\r\n")
        await client.write(head + b"\r\n\r\n")
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await client.write(body)
        assert (await client._one("POST")).status == 200


async def test_what_cannot_be_read_is_refused_and_goes_nowhere() -> None:
    async with lab() as proxy:
        releaser = await proxy.sign_in("rita", ("staff", "makers", "releasers"))
        for request in (
            post(releaser, b"{" + b" " * 4096 + b"}"),
            post(releaser, b"not json"),
            post(releaser, b'{"type": "nodes", "type": "full"}'),
            post(releaser, FULL, extra=b"Content-Encoding: gzip\r\n"),
            post(releaser, b"type=full", kind="application/x-www-form-urlencoded"),
        ):
            reply = await proxy.send(request)
            assert (reply.status, reply.problem["reason"]) == (403, "body-not-inspectable"), request
        client = await proxy.connect()
        head = f"POST /flows/f1 HTTP/1.1\r\nHost: {APP}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        await client.write(
            head.encode() + ORIGIN + b"Cookie: " + releaser + b"\r\n\r\n" + b"400\r\n%b\r\n" % (b" " * 1024) * 3
        )
        reply = await client.reply("POST")
        assert (reply.status, reply.problem["reason"]) == (403, "body-not-inspectable")
        assert not proxy.upstream.seen


async def test_what_cannot_be_read_goes_on_where_rules_only_report() -> None:
    route = replace(lab_route("app", APP, RULES, profile=PLATFORM), rules=RouteRules("app", RULES, mode=Mode.REPORT))
    async with ProxyLab(routes=(route,)) as proxy:
        cookie = await proxy.sign_in()
        large = json.dumps({"type": "x" * 4096}).encode()
        for body, kind in ((b"not json", "text/plain"), (large, "application/json"), (FULL, "application/json")):
            assert (await proxy.send(post(cookie, body, kind=kind))).status == 200
        client = await proxy.connect()
        head = f"POST /flows/f1 HTTP/1.1\r\nHost: {APP}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (large[:3000], large[3000:]))
        await client.write(head.encode() + ORIGIN + b"Cookie: " + cookie + b"\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert (await client.reply("POST")).status == 200
        assert [seen.body for seen in proxy.upstream.seen] == [b"not json", large, FULL, large]
        records = await proxy.decisions()
    assert [one["effect"] for one in records] == ["allow"] * 4
    assert [one["reported"][0] for one in records] == [
        "route:deny:action-unknown", "route:deny:action-unknown", "route:deny:no-rule-matched",
        "route:deny:action-unknown",
    ]  # fmt: skip


async def test_a_strangers_body_is_not_waited_for() -> None:
    async with lab() as proxy:
        client = await proxy.connect()
        head = (
            f"POST /flows/f1 HTTP/1.1\r\nHost: {APP}\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
        )
        await client.write(head.encode())
        assert (await client.reply("POST")).status == 401


async def test_an_unknown_change_is_refused_and_an_unknown_look_is_use() -> None:
    async with lab() as proxy:
        cookie = await proxy.sign_in("ada", ("staff", "makers", "releasers"))
        reply = await proxy.send(post(cookie, b"{}", path="/elsewhere"))
        assert (reply.status, reply.problem["reason"]) == (403, "action-unknown")
        assert (await proxy.get("/elsewhere", cookie)).status == 200
        assert (await proxy.get("/export/all", cookie)).status == 403


async def socket(proxy: ProxyLab, cookie: bytes) -> Client:
    return await open_websocket(proxy, cookie, OWN_ORIGIN + b"Sec-WebSocket-Extensions: permessage-deflate\r\n")


async def test_each_message_is_decided_and_one_that_is_not_allowed_ends_the_socket() -> None:
    async with lab_with_echo(rules=RULES, route={"profile": PLATFORM}) as proxy:
        maker = await proxy.sign_in("mia", ("staff", "makers"))
        viewer = await proxy.sign_in("vera", ("staff",))
        client = await socket(proxy, maker)
        for text in (b'{"do": "look"}', b'{"do": "run"}', b'{"do": "run"}'):
            await client.write(frame(TEXT, text[:5], fin=False) + frame(0, text[5:]))
            assert await read_frame(client.reader) == Frame(TEXT, text)
        client = await socket(proxy, viewer)
        await client.write(frame(TEXT, b'{"do": "look"}'))
        assert await read_frame(client.reader) == Frame(TEXT, b'{"do": "look"}')
        await client.write(frame(TEXT, b'{"do": "run"}') + frame(TEXT, b'{"do": "look"}'))
        (last,) = await remaining_frames(client.reader)
        assert close_code(last) == 4403
        records = await proxy.decisions()
    said = [(one["email"][:4], one["protocol"], one["effect"], one["action"]) for one in records]
    assert said == [
        ("mia@", "websocket", "allow", "view"),
        ("mia@", "websocket-message", "allow", "view"),
        ("mia@", "websocket-message", "allow", "build"),
        ("vera", "websocket", "allow", "view"),
        ("vera", "websocket-message", "allow", "view"),
        ("vera", "websocket-message", "deny", "build"),
    ]


async def test_a_message_that_nobody_understands_ends_the_socket() -> None:
    async with lab_with_echo(rules=RULES, route={"profile": PLATFORM}) as proxy:
        cookie = await proxy.sign_in("mia", ("staff", "makers"))
        for text in (b'{"do": "delete"}', b"run", b'{"do": "look", "do": "run"}'):
            client = await socket(proxy, cookie)
            await client.write(frame(TEXT, text))
            assert close_code((await remaining_frames(client.reader))[-1]) == 4403


async def test_a_limit_of_a_rule_holds_for_each_person() -> None:
    rules = (may("staff", "use", limit=Limit(requests=2, per=3600)),)
    async with lab(rules=rules) as proxy:
        ada, bob = await proxy.sign_in("ada"), await proxy.sign_in("bob")
        assert [(await proxy.get("/", ada)).status for _ in range(3)] == [200, 200, 429]
        reply = await proxy.get("/", ada)
        assert reply.problem["reason"] == "limit-reached"
        assert 0 < int(reply.header("retry-after") or 0) <= 3600
        assert (await proxy.get("/", bob)).status == 200


async def test_the_assertion_says_what_was_allowed_and_which_roles_somebody_has() -> None:
    spec = RouteRules("app", RULES, roles=(RoleSpec("reader", groups=("staff",)), RoleSpec("boss", groups=("bosses",))))
    async with ProxyLab(routes=(replace(lab_route("app", APP, RULES, profile=PLATFORM), rules=spec),)) as proxy:
        cookie = await proxy.sign_in()
        await proxy.get("/anything", cookie)
        await until(lambda: bool(proxy.upstream.seen))
        token = proxy.upstream.seen[0].header(b"x-zt-assertion")
    part = (token or b"").decode().split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert (said["action"], said["roles"]) == ("use", ["reader"])


async def test_what_a_reader_had_open_ends_when_they_may_not_see_everything_any_more() -> None:
    mask = MaskSpec("late", ("$..iban",), applies=Is("auth_age", "at_least", (100,)))
    clock = ManualClock()
    async with lab_with_echo(rules=(allow(),), route={"masks": (mask,)}, clock=clock) as proxy:
        client = await open_websocket(proxy, await proxy.sign_in())
        await client.write(frame(TEXT, b"hello"))
        assert await read_frame(client.reader) == Frame(TEXT, b"hello")
        await proxy.advance(101)
        assert close_code((await remaining_frames(client.reader))[-1]) == 4403


async def test_masks_of_a_route_that_only_reports_are_on_record_alone() -> None:
    rules = RouteRules("app", (allow(),), mode=Mode.REPORT)
    route = replace(lab_route("app", APP, (), masks=(MaskSpec("pay", ("$..iban",)),)), rules=rules)
    async with ProxyLab(routes=(route,)) as proxy:
        body = b'{"iban": "DE89370400440532013000"}'
        proxy.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        assert (await proxy.get("/", await proxy.sign_in())).body == body
        (record,) = await proxy.decisions()
    assert record["reported"] == ["pay:mask"]
    assert "masks" not in record
