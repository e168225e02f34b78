"""Worlds that are not in force any more: what is still under way in them ends well, and then they are gone."""

import asyncio
import gc
import weakref

import msgspec

from tests.lab.proxy import ProxyLab, allow, deny, lab_route
from tests.lab.waiting import descriptors, until
from tests.lab.ws import TEXT, frame, lab_with_echo, open_websocket, read_frame
from zt_proxy.config.build import Built
from zt_proxy.worker.edge.world import World


def with_other_rules(lab: ProxyLab, number: int) -> Built:
    """The lab's own configuration with one rule more."""
    built = lab.proxy.built
    rules = (allow(), deny(f"never-{number}", groups=("nobody",)))
    (route,) = built.worker.routes
    changed = msgspec.structs.replace(route, rules=lab_route("app", route.host, rules).rules)
    return msgspec.structs.replace(built, worker=msgspec.structs.replace(built.worker, routes=(changed,)))


async def test_worlds_descriptors_and_tasks_of_many_reloads_are_gone() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        worker = lab.proxy.worker
        assert worker is not None
        worlds: list[weakref.ref[World]] = []
        for number in range(12):
            worlds.append(weakref.ref(worker.world))
            await lab.proxy.reload(with_other_rules(lab, number))
            assert (await lab.get("/", cookie)).status == 200
            if number == 1:
                before = descriptors()
        async with asyncio.timeout(20):
            await worker.settled.wait()
        gc.collect()
        assert [world() for world in worlds] == [None] * 12
        # the portals of before answer for ten seconds: a socket and a loop's two ends each
        assert descriptors() < before + 12 * 3


async def test_what_is_open_keeps_its_world_and_the_latest_rules_decide_it() -> None:
    async with lab_with_echo() as lab:
        worker = lab.proxy.worker
        assert worker is not None
        client = await open_websocket(lab, await lab.sign_in())
        first = worker.gateway
        for number in range(3):
            await lab.proxy.reload(with_other_rules(lab, number))
        await client.write(frame(TEXT, b"still here"))
        assert (await read_frame(client.reader)).payload == b"still here"
        (exchange,) = worker.exchanges()
        assert exchange.spine is first
        assert exchange.route is worker.gateway.routes.routes[0], "decided by the rules in force from now on"
        assert not worker.settled.is_set()
        await client.close()
        async with asyncio.timeout(20):
            await worker.settled.wait()


async def test_a_request_that_waits_for_control_is_decided_by_the_new_rules() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        worker, control = lab.proxy.worker, lab.proxy.control
        assert worker is not None
        assert control is not None
        ask, answer = control.sessions.session, asyncio.Event()

        async def slowly(handle_hash: bytes, host: str) -> object:
            await answer.wait()
            return await ask(handle_hash, host)

        control.sessions.session = slowly  # type: ignore[method-assign,assignment]
        client = await lab.connect()
        await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie)
        await until(lambda: any(exchange.waiting for exchange in worker.exchanges()))
        built = with_other_rules(lab, 0)
        (route,) = built.worker.routes
        closed = msgspec.structs.replace(route, rules=lab_route("app", route.host, (deny("all"),)).rules)
        built = msgspec.structs.replace(built, worker=msgspec.structs.replace(built.worker, routes=(closed,)))
        await lab.proxy.reload(built)
        answer.set()
        assert (await client.reply()).problem["reason"] == "rule-denied"
        assert lab.upstream.seen == []
