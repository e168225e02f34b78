"""What the memories of the request path could get wrong: other moments, other rules, connections that end."""

import asyncio
import gc
import weakref

import msgspec

from tests.lab.proxy import APP, ProxyLab, allow, lab_route
from tests.lab.upstream import OK, Seen
from tests.lab.waiting import until
from zt_proxy.worker.edge.world import World


async def test_a_platform_that_hangs_up_after_an_answer_without_a_body_is_asked_again() -> None:
    """The head of the answer before is not the head of this one: nothing came, so the request is repeatable."""
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        raw = b"GET /flows HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie
        client = await lab.connect()
        lab.upstream.answer = b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n"
        await client.write(raw)
        assert (await client.reply()).status == 304

        def hang_up_once(seen: Seen) -> bytes:
            lab.upstream.close_after = seen.connection == 1
            return b"" if seen.connection == 1 else OK

        lab.upstream.answer = hang_up_once
        async with asyncio.timeout(5):
            await client.write(raw)
            assert (await client.reply()).status == 200
        assert lab.upstream.connections == 2


async def test_what_was_remembered_of_a_head_goes_nowhere_by_the_rules_of_another_world() -> None:
    """A request that waits for control through a reload is sent on as the new route says, not as the old one did."""
    async with ProxyLab(route={"forward_authorization": True}) as lab:
        cookie = await lab.sign_in()
        worker, control = lab.proxy.worker, lab.proxy.control
        assert worker is not None
        assert control is not None
        raw = b"GET / HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer old\r\nCookie: %b\r\n\r\n" % cookie
        client = await lab.connect()
        for _ in range(3):
            await client.write(raw)
            assert (await client.reply()).status == 200
        ask, answer = control.sessions.session, asyncio.Event()

        async def slowly(handle_hash: bytes, host: str) -> object:
            await answer.wait()
            return await ask(handle_hash, host)

        control.sessions.session = slowly  # type: ignore[method-assign,assignment]
        worker.sessions.forget("")
        await client.write(raw)
        await until(lambda: any(exchange.waiting for exchange in worker.exchanges()))
        built = lab.proxy.built
        (route,) = built.worker.routes
        changed = msgspec.structs.replace(route, forward_authorization=False)
        await lab.proxy.reload(
            msgspec.structs.replace(built, worker=msgspec.structs.replace(built.worker, routes=(changed,)))
        )
        answer.set()
        assert (await client.reply()).status == 200
        assert lab.upstream.seen[0].header(b"authorization") == b"Bearer old"
        assert lab.upstream.seen[-1].header(b"authorization") is None


async def test_permissions_keep_no_world_alive_that_is_not_in_force() -> None:
    gc.collect()
    others = [each for each in gc.get_objects() if type(each).__name__ == "Route"]  # of tests that ended
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        raw = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie
        worker = lab.proxy.worker
        assert worker is not None
        gone: list[weakref.ref[object]] = []
        for number in range(3):
            client = await lab.connect()
            for _ in range(3):
                await client.write(raw)
                assert (await client.reply()).status == 200
            await client.close()
            gone += [weakref.ref(worker.world), weakref.ref(worker.gateway)]
            built = lab.proxy.built
            (route,) = built.worker.routes
            changed = msgspec.structs.replace(route, rules=lab_route("app", APP, (allow(f"staff-{number}"),)).rules)
            await lab.proxy.reload(
                msgspec.structs.replace(built, worker=msgspec.structs.replace(built.worker, routes=(changed,)))
            )
        async with asyncio.timeout(20):
            await worker.settled.wait()
        gc.collect()
        routes = [each for each in gc.get_objects() if type(each).__name__ == "Route"]
        assert len([each for each in routes if not any(each is other for other in others)]) == 1
        assert [each() for each in gone] == [None] * len(gone)
        assert isinstance(worker.world, World)


async def test_a_pipelined_head_is_held_to_the_same_size() -> None:
    async with ProxyLab(limits={"header_bytes": 4096}) as lab:
        cookie = await lab.sign_in()
        small = b"GET /a HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie
        large = b"GET /b HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\nX-Large: %b\r\n\r\n" % (cookie, b"x" * 12_000)
        client = await lab.connect()
        await client.write(small + large)
        assert (await client.reply()).status == 200
        assert (await client.reply()).status == 431
        assert (await lab.send(large)).status == 431


async def test_new_connections_know_no_heads_that_were_larger_than_may_be_now() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        large = b"GET /b HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\nX-Large: %b\r\n\r\n" % (cookie, b"x" * 3_000)
        for _ in range(3):
            assert (await lab.send(large)).status == 200
        built = lab.proxy.built
        limits = msgspec.structs.replace(built.worker.limits, header_bytes=2048)
        await lab.proxy.reload(
            msgspec.structs.replace(built, worker=msgspec.structs.replace(built.worker, limits=limits))
        )
        assert (await lab.send(large)).status == 431


async def test_what_is_refused_behind_an_ignored_upgrade_is_answered_and_on_record() -> None:
    """An ignored upgrade begins a parser anew; the refusal of what follows must not get lost in that."""
    ignored = b"GET /a HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with ProxyLab() as lab:
        client = await lab.connect()
        await client.write(ignored * 40 + b"GET /b HTTP/1.1\r\nHost: app.test\r\nHost: other.test\r\n\r\n")
        assert [(await client.reply()).status for _ in range(41)] == [401] * 40 + [400]
        assert [line["reason"] for line in await lab.decisions()] == ["login-required"] * 40 + ["request-malformed"]
