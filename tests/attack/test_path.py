"""One path for the policy, the record and the platform, however it is spelled (ZT-PATH-*)."""

import asyncio
from contextlib import suppress

import pytest

from tests.lab.proxy import APP, ORIGIN, ProxyLab, Reply, allow, deny, lab_route
from zt_proxy.worker.settings import PathSettings

ADMIN = (allow(), deny("not-admin", paths=("/admin", "/admin/**")))
"""Everything is open to the staff but what is under /admin."""
EVERYTHING = PathSettings(encoded_slash=True, double_slash=True, parameters=True, encoded_delimiters=True)


async def ask(lab: ProxyLab, target: bytes, cookie: bytes, *, host: bytes = b"app.test", name: str = APP) -> Reply:
    return await lab.send(b"GET %b HTTP/1.1\r\nHost: %b\r\nCookie: %b\r\n\r\n" % (target, host, cookie), name)


async def outcome(lab: ProxyLab, target: bytes, cookie: bytes) -> tuple[int, str, bytes]:
    """Status, reason and the target that reached the platform, if any did."""
    before = len(lab.upstream.seen)
    reply = await ask(lab, target, cookie)
    arrived = [seen.target for seen in lab.upstream.seen[before:]]
    if reply.status == 200:
        assert len(arrived) == 1
        return 200, "", arrived[0]
    assert arrived == [], target
    return reply.status, reply.problem["reason"], b""


REFUSED = {
    "ZT-PATH-02": [b"//admin/x", b"///admin", b"/.//admin", b"//evil.test/admin", b"/x//admin"],
    "ZT-PATH-05": [
        b"/x%2f..%2fadmin",
        b"/x%2F..%2Fadmin",
        b"/admin%5c",
        b"/x%5c..%5cadmin",
        b"/\\admin",
        b"/x%2fadmin",
    ],
    "ZT-PATH-08": [b"/admin%3Fx=1", b"/admin%3f", b"/admin%23x", b"/x%3F/../admin"],
    "ZT-PATH-09": [b"/admin%00.png", b"/public%00/../admin", b"/a\x00b", b"/%0d%0aX-Admin:1", b"/a%7f", b"/a\x7f"],
    "ZT-PATH-10": [b"/%c0%ae%c0%ae/admin", b"/%c0%afadmin", b"/adm%ff", b"/adm%u0069n", b"/%ed%a0%80", b"/adm\xffn"],
    "ZT-PATH-11": [b"/admin%2", b"/admin%", b"/%zz/admin", b"/%%32e", b"/%2 5"],
    "ZT-PATH-14": ["/ªdmin".encode(), "/admın".encode(), "/ＡＤＭＩＮ".encode()],
    "ZT-PATH-20": [b"/public/../admin", b"/..", b"/./admin", b"/x/%2e%2e/admin", b"/x/.%2E/admin", b"/..;/admin"],
    "ZT-PATH-22": [b"/%252e%252e/admin", b"/%25%32%65", b"/%2541dmin", b"/%25u002e", b"/%252fadmin"],
}


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.case(case)) for case in REFUSED])
async def test_a_spelling_with_two_readings_is_refused(case: str) -> None:
    async with ProxyLab(rules=ADMIN) as lab:
        cookie = await lab.sign_in()
        for target in REFUSED[case]:
            reply = await ask(lab, target, cookie)
            assert reply.status == 400, (target, reply)
            assert reply.problem["reason"] in {"target-refused", "request-malformed"}
        assert lab.upstream.connections == 0
        assert {line["effect"] for line in await lab.decisions()} == {"deny"}


@pytest.mark.case("ZT-PATH-02")
@pytest.mark.case("ZT-PATH-05")
@pytest.mark.case("ZT-PATH-08")
async def test_where_a_platform_needs_such_paths_a_denial_still_holds_for_what_they_mean() -> None:
    disguised = (b"//admin/x", b"///admin", b"/%61dmin", b"/admin%2Fx", b"/admin;v=1", b"/admin;/x", b"/admin%3Fx=1",
                 b"/admin%23", b"//admin;a//x", b"/%61dmin%2fx")  # fmt: skip
    never = (
        b"/x%2f..%2fadmin",
        b"/admin%5c",
        b"/%252e%252e/admin",
        b"/x/..;/admin",
        b"/.//admin",
        b"/x%2f%2e%2e%2fadmin",
    )
    async with ProxyLab(rules=ADMIN, route={"paths": EVERYTHING}) as lab:
        cookie = await lab.sign_in()
        for target in disguised:
            assert (await outcome(lab, target, cookie))[:2] == (403, "rule-denied"), target
        for target in never:
            assert (await outcome(lab, target, cookie))[:2] == (400, "target-refused"), target
        for target in (b"/x//y", b"/x%2Fadmin", b"/x;v=1/y", b"/what%3F", b"/100%25"):
            assert await outcome(lab, target, cookie) == (200, "", target)


@pytest.mark.case("ZT-PATH-05")
@pytest.mark.parametrize(
    ("flag", "target"),
    [
        ("encoded_slash", b"/a%2Fb"),
        ("double_slash", b"/a//b"),
        ("parameters", b"/a;b"),
        ("encoded_delimiters", b"/a%3Fb"),
    ],
)
async def test_each_leniency_opens_itself_alone(flag: str, target: bytes) -> None:
    async with ProxyLab(route={"paths": PathSettings(**{flag: True})}) as lab:
        cookie = await lab.sign_in()
        for other in (b"/a%2Fb", b"/a//b", b"/a;b", b"/a%3Fb"):
            expected = (200, "", target) if other == target else (400, "target-refused", b"")
            assert await outcome(lab, other, cookie) == expected


@pytest.mark.case("ZT-PATH-07")
async def test_a_public_pattern_is_held_against_the_whole_path_and_never_the_query() -> None:
    rules = (allow("open", public=True, paths=("/foo/*/bar", "/public/**")), allow())
    async with ProxyLab(rules=rules) as lab:
        for target in (
            b"/foo/admin?x=/bar",
            b"/admin?/public",
            b"/foo/a/bar/b",
            b"/x/foo/a/bar",
            b"/publicx",
            b"/admin?/foo/a/bar",
        ):
            reply = await lab.send(b"GET %b HTTP/1.1\r\nHost: app.test\r\n\r\n" % target)
            assert (reply.status, reply.problem["reason"]) == (401, "login-required"), target
        for target in (b"/foo/a/bar", b"/foo/a/bar?x=/admin", b"/public/x"):
            assert (await lab.send(b"GET %b HTTP/1.1\r\nHost: app.test\r\n\r\n" % target)).status == 200


@pytest.mark.case("ZT-PATH-08")
async def test_a_query_changes_no_decision() -> None:
    async with ProxyLab(rules=ADMIN) as lab:
        cookie = await lab.sign_in()
        for target in (b"/admin?x=1", b"/admin?", b"/admin/?", b"/admin/x?/public", b"/admin??", b"/%61dmin?a"):
            assert (await outcome(lab, target, cookie))[:2] == (403, "rule-denied"), target
        assert await outcome(lab, b"/x?/admin&%00%2e%ff", cookie) == (200, "", b"/x?/admin&%00%2e%ff")


@pytest.mark.case("ZT-PATH-10")
@pytest.mark.case("ZT-PATH-14")
async def test_nothing_is_folded_and_bytes_go_on_as_they_came() -> None:
    targets = (
        b"/%EF%BC%8Fadmin",
        b"/%C2%AAdmin",
        b"/adm%C4%B1n",
        b"/%EF%BC%A1%EF%BC%A4%EF%BC%AD%EF%BC%A9%EF%BC%AE",
    )
    async with ProxyLab(rules=ADMIN) as lab:
        cookie = await lab.sign_in()
        for target in targets:
            assert await outcome(lab, target, cookie) == (200, "", target)
        assert [line["path"] for line in await lab.decisions()] == [target.decode() for target in targets]


@pytest.mark.case("ZT-PATH-12")
@pytest.mark.parametrize("folding", [False, True])
async def test_case_counts_unless_the_platform_ignores_it(folding: bool) -> None:
    async with ProxyLab(rules=ADMIN, route={"paths": PathSettings(case_insensitive=folding)}) as lab:
        cookie = await lab.sign_in()
        assert (await outcome(lab, b"/admin", cookie))[0] == 403
        for target in (b"/ADMIN", b"/Admin", b"/aDMIN/x", b"/%41dmin"):
            got = await outcome(lab, target, cookie)
            if folding:
                assert got[:2] == (403, "rule-denied"), target
            else:
                assert got == (200, "", target.replace(b"%41", b"A"))


@pytest.mark.case("ZT-PATH-15")
async def test_every_spelling_of_a_host_gets_its_own_rules() -> None:
    routes = (lab_route("strict", APP, ADMIN), lab_route("lax", "other.test", (allow(),)))
    async with ProxyLab(routes=routes) as lab:
        cookie = await lab.sign_in()
        for host in (b"app.test", b"App.TEST", b"app.test.", b"APP.TEST:443", b"app.test.:443", b"app.test:"):
            reply = await ask(lab, b"/admin", cookie, host=host)
            assert (reply.status, reply.problem["rule"]) == (403, "not-admin"), host
            assert (await ask(lab, b"/", cookie, host=host)).status == 200
        for host in (b"app.test:8443", b"app.test..", b"xapp.test", b"app.test.evil.test", b"a.app.test", b"app"):
            reply = await ask(lab, b"/", cookie, host=host)
            assert reply.status in {400, 404}, host
        assert {line["route"] for line in (await lab.decisions()) if line["effect"] == "allow"} == {"strict"}


@pytest.mark.case("ZT-PATH-16")
async def test_a_target_that_names_another_host_is_refused() -> None:
    routes = (lab_route("app", APP, (allow(),)), lab_route("adm", "other.test", (allow("open", public=True),)))
    async with ProxyLab(routes=routes) as lab:
        cookie = await lab.sign_in()
        for target in (b"http://other.test/", b"https://other.test/", b"https://app.test:8443/", b"http://app.test.evil/",
                       b"https://app.test@other.test/", b"https://u@app.test/", b"https:///", b"https://", b"ftp://app.test/",
                       b"app.test:443", b"x", b"https://app.test\\@other.test/"):  # fmt: skip
            assert (await ask(lab, target, cookie)).status == 400, target
        assert (await ask(lab, b"*", cookie)).status == 404
        assert lab.upstream.connections == 0
        for target in (b"https://app.test/x?y", b"HTTP://APP.TEST:443/x?y", b"https://app.test./x?y"):
            assert (await ask(lab, target, cookie)).status == 200, target
        assert {seen.target for seen in lab.upstream.seen} == {b"/x?y"}
        assert {seen.header(b"Host") for seen in lab.upstream.seen} == {b"app.test"}


@pytest.mark.case("ZT-PATH-17")
async def test_a_request_has_exactly_one_well_formed_host() -> None:
    values = ("", "a,b", "app.test,app.test", "user@app.test", "app.test/path", "app.test:99999", "app.test:0", "[::1",
              "app.test:x", "app.test:-1", "app test", "app.test\\", "app.test#", "app.test?", ".", "..", ".app.test",
              "app..test", "http://app.test", "app.test:443:443", "%61pp.test", "app.test\x0b", "[app.test]", "a" * 300)  # fmt: skip
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        requests = [f"Host: {value}\r\n".encode() for value in values]
        requests += [b"", b"Host: app.test\r\nHost: app.test\r\n", b"Host: app.test\r\nhost: other.test\r\n",
                     b"Host:\r\n", b"Host : app.test\r\n", b" Host: app.test\r\n", b"Host: app.test\r\n other.test\r\n",
                     "Host: ａpp.test\r\n".encode()]  # fmt: skip
        for lines in requests:
            reply = await lab.send(b"GET / HTTP/1.1\r\n%bCookie: %b\r\n\r\n" % (lines, cookie))
            assert reply.status == 400, lines
        assert lab.upstream.connections == 0


@pytest.mark.case("ZT-PATH-19")
async def test_a_method_is_compared_exactly_and_overridden_by_nothing() -> None:
    async with ProxyLab(rules=(allow("readers", methods=("GET",)),)) as lab:
        cookie = await lab.sign_in()
        rest = b" / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%b\r\n" % (cookie, ORIGIN)
        for method, status in ((b"HEAD", 403), (b"PROPFIND", 403), (b"DELETE", 403), (b"POST", 403), (b"TRACE", 405),
                               (b"CONNECT", 405), (b"get", 400), (b"GET\t", 400), (b"Get", 400), (b"G\x00ET", 400),
                               (b"GETT", 400), (b"", 400), (b"HEAD\x0b", 400)):  # fmt: skip
            assert (await lab.send(method + rest)).status == status, method
        assert (await lab.send(b"CONNECT app.test:443" + rest[2:])).status == 405
        assert lab.upstream.connections == 0
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_Method_Override"):
            assert (await lab.get("/?_method=DELETE", cookie, f"{name}: DELETE\r\n".encode())).status == 200
        for seen in lab.upstream.seen:
            assert (seen.method, seen.target) == (b"GET", b"/?_method=DELETE")
            assert b"DELETE" not in seen.raw.partition(b"\r\n")[2]


@pytest.mark.case("ZT-PATH-20")
async def test_a_stripped_prefix_is_a_whole_segment_and_leads_nowhere_else() -> None:
    async with ProxyLab(route={"prefix": b"/static", "strip_prefix": True}) as lab:
        cookie = await lab.sign_in()
        for target in (
            b"/static../secret",
            b"/static%2e%2e/secret",
            b"/staticx",
            b"/",
            b"/Static/x",
            b"/static.",
            b"/stati",
        ):
            assert (await outcome(lab, target, cookie))[:2] == (404, "path-unknown"), target
        for target in (
            b"/static/../secret",
            b"/static/%2e%2e/secret",
            b"/static/..",
            b"/static//secret",
            b"/static%2fx",
        ):
            assert (await outcome(lab, target, cookie))[0] in {400, 404}, target
        for target, arrived in (
            (b"/static", b"/"),
            (b"/static/", b"/"),
            (b"/static/x?y", b"/x?y"),
            (b"/static?q", b"/?q"),
        ):
            assert await outcome(lab, target, cookie) == (200, "", arrived)
        assert "/static/x" in [line["path"] for line in await lab.decisions()]


@pytest.mark.case("ZT-PATH-21")
@pytest.mark.parametrize("length", [8 * 1024 + 1, 64 * 1024, 1024 * 1024])
async def test_a_target_that_is_too_long_is_refused_before_it_is_read(length: int) -> None:
    async with ProxyLab() as lab:
        client = await lab.connect()
        reply = asyncio.create_task(client.reply())
        with suppress(ConnectionError):
            await client.write(b"GET /" + b"a" * (length - 1) + b" HTTP/1.1\r\nHost: app.test\r\n\r\n")
        answer = await reply
        assert (answer.status, answer.problem["reason"]) == (414, "uri-too-long")
        assert lab.upstream.connections == 0
        await client.ended()
        assert len(await lab.decisions()) == 1


@pytest.mark.case("ZT-PATH-21")
async def test_a_target_of_just_the_longest_length_goes_through() -> None:
    async with ProxyLab() as lab:
        target = b"/" + b"a" * (8 * 1024 - 1)
        assert await outcome(lab, target, await lab.sign_in()) == (200, "", target)


@pytest.mark.case("ZT-PATH-22")
async def test_a_target_is_decoded_once_and_passed_on_encoded() -> None:
    async with ProxyLab(rules=ADMIN, route={"paths": PathSettings(encoded_delimiters=True)}) as lab:
        cookie = await lab.sign_in()
        assert await outcome(lab, b"/100%25/admin", cookie) == (200, "", b"/100%25/admin")
        assert (await outcome(lab, b"/%61dmin", cookie))[:2] == (403, "rule-denied")
        assert (await outcome(lab, b"/%2561dmin", cookie))[:2] == (400, "target-refused")
        assert await outcome(lab, b"/%7euser/%e4%bd%a0", cookie) == (200, "", b"/~user/%E4%BD%A0")
