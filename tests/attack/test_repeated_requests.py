"""What is remembered of a request never answers for another person, place or moment (ZT-SESS, ZT-TLS-01, ZT-PATH).

Every case sends the very same bytes again, so that the gateway recognises the head, and changes what they mean.
"""

import pytest

from tests.lab.proxy import APP, PORTAL, ProxyLab, allow, deny, lab_route
from zt_proxy.control.settings import SessionSettings
from zt_proxy.core.clock import ManualClock

OTHER = "other.test"


def request(cookie: bytes = b"", path: bytes = b"/flows", host: str = APP, method: bytes = b"GET") -> bytes:
    line = b"Cookie: %b\r\n" % cookie if cookie else b""
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, path, host.encode(), line)


async def statuses(lab: ProxyLab, raw: bytes, times: int = 3, name: str = APP) -> list[int]:
    """The same bytes again and again on one connection."""
    client = await lab.connect(name)
    found = []
    for _ in range(times):
        await client.write(raw)
        found.append((await client.reply(raw.split(b" ")[0].decode())).status)
    return found


async def test_an_ended_session_is_asked_about_anew_however_often_it_passed() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        raw = request(cookie)
        client = await lab.connect()
        for _ in range(4):
            await client.write(raw)
            assert (await client.reply()).status == 200
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.end(lab.sid, "revoked")
        await client.write(raw)
        assert (await client.reply()).status == 401
        assert await statuses(lab, raw) == [401, 401, 401]


async def test_the_end_of_a_session_comes_in_the_middle_of_repeated_requests() -> None:
    clock = ManualClock()
    async with ProxyLab(clock=clock, session=SessionSettings(idle=600.0, absolute=3_600.0)) as lab:
        raw = request(await lab.sign_in())
        assert await statuses(lab, raw) == [200, 200, 200]
        await lab.advance(599.0)
        assert await statuses(lab, raw) == [200, 200, 200]
        await lab.advance(2.0)  # background requests are no activity
        assert await statuses(lab, raw) == [401, 401, 401]


async def test_a_proof_that_grows_old_stops_repeated_requests() -> None:
    clock = ManualClock()
    async with ProxyLab(clock=clock, rules=(allow("fresh", reauth=300.0),)) as lab:
        raw = request(await lab.sign_in())
        assert await statuses(lab, raw) == [200, 200, 200]
        await lab.advance(400.0)
        assert await statuses(lab, raw) == [401, 401, 401]


async def test_two_people_who_ask_alike_are_each_decided() -> None:
    async with ProxyLab(rules=(allow("staff"), deny("guests", groups=("guests",)))) as lab:
        inside = request(await lab.sign_in("alice"))
        outside = request(await lab.sign_in("gwen", ("guests",)))
        for _ in range(3):
            assert await statuses(lab, inside) == [200, 200, 200]
            assert await statuses(lab, outside) == [403, 403, 403]
            assert await statuses(lab, request()) == [401, 401, 401]
        said = {(line["sub"], line["effect"]) for line in await lab.decisions() if "sub" in line}
        assert said == {("alice", "allow"), ("gwen", "deny")}


async def test_another_method_or_path_with_the_same_headers_is_decided_for_itself() -> None:
    rules = (
        allow("read", methods=("GET",), paths=("/flows/**",)),
        deny("secret", paths=("/flows/secret",)),
        deny("no-heads", methods=("HEAD",)),
    )
    async with ProxyLab(rules=rules) as lab:
        cookie = await lab.sign_in()
        for _ in range(2):
            assert await statuses(lab, request(cookie, b"/flows/a")) == [200, 200, 200]
            assert await statuses(lab, request(cookie, b"/flows/secret")) == [403, 403, 403]
            assert await statuses(lab, request(cookie, b"/flows/a", method=b"HEAD")) == [403, 403, 403]
            assert await statuses(lab, request(cookie, b"/flows/a?x=1")) == [200, 200, 200]
        assert {seen.target for seen in lab.upstream.seen} == {b"/flows/a", b"/flows/a?x=1"}


@pytest.mark.case("ZT-TLS-01")
async def test_what_one_connection_may_ask_another_may_not() -> None:
    routes = [lab_route("app", APP, (allow(),)), lab_route("other", OTHER, (allow(),))]
    async with ProxyLab(routes=routes, certificates=((APP, PORTAL), (OTHER,))) as lab:
        raw = request(await lab.sign_in())
        for _ in range(3):
            assert await statuses(lab, raw) == [200, 200, 200]
            assert await statuses(lab, raw, name=OTHER) == [421, 421, 421]


async def test_every_request_has_its_own_id_record_and_answer() -> None:
    async with ProxyLab() as lab:
        raw = request(await lab.sign_in())
        client = await lab.connect()
        ids = []
        for _ in range(20):
            await client.write(raw)
            ids.append((await client.reply()).header("x-request-id"))
        upstream = [seen.header(b"x-request-id").decode() for seen in lab.upstream.seen]
        log = await lab.log()
    assert len(set(ids)) == 20
    assert upstream == ids
    assert [line["id"] for line in log if line["type"] == "decision"] == ids
    assert sorted(line["id"] for line in log if line["type"] == "end") == sorted(ids)
