"""A time-out names whoever was late: the client or the platform."""

import asyncio

import msgspec

from tests.lab.proxy import APP, ORIGIN, ProxyLab, allow, lab_route
from tests.lab.waiting import until
from zt_proxy.core.clock import ManualClock
from zt_proxy.worker.settings import UpstreamSettings


async def test_a_platform_that_stops_taking_an_upload_is_the_one_to_blame() -> None:
    done = asyncio.Event()

    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    route = msgspec.structs.replace(
        lab_route("app", APP, (allow(),)), upstream=UpstreamSettings("http", "127.0.0.1", port)
    )
    limits = {"body_idle_timeout": 0.5, "minimum_rate": 0}
    async with server, ProxyLab(routes=(route,), limits=limits) as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        size = 64 << 20
        head = b"POST / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n%bContent-Length: %d\r\n\r\n"
        client.writer.write(head % (cookie, ORIGIN, size) + b"x" * size)
        reply = await client.reply()
        assert (reply.status, reply.problem["reason"]) == (504, "upstream-first-byte-timeout")
        client.writer.transport.abort()
        done.set()


async def test_the_rest_of_a_head_behind_a_request_must_follow_in_time() -> None:
    async with ProxyLab(clock=ManualClock(), limits={"header_timeout": 10.0, "keepalive_timeout": 75.0}) as lab:
        cookie = await lab.sign_in()
        lab.upstream.hold = asyncio.Event()
        client = await lab.connect()
        await client.write(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\nGET /2 HT" % cookie)
        await lab.upstream.arrived(1)
        lab.upstream.hold.set()
        assert (await client.reply()).status == 200
        assert lab.proxy.worker is not None
        (connection,) = lab.proxy.worker.listeners[0].connections
        await until(lambda: connection.exchange is None)
        await lab.advance(11)
        assert (await client.reply()).status == 408


async def test_a_client_that_leaves_while_control_is_asked_is_on_record_all_the_same() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        assert lab.proxy.control is not None
        asked, answer = asyncio.Event(), asyncio.Event()
        look_up = lab.proxy.control.link.session

        async def slow(handle_hash: bytes, host: str) -> object:
            asked.set()
            await answer.wait()
            return await look_up(handle_hash, host)

        lab.proxy.control.link.session = slow  # type: ignore[method-assign, assignment]
        client = await lab.connect()
        await client.write(b"GET /gone HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie)
        await asked.wait()
        assert lab.proxy.worker is not None
        listener = lab.proxy.worker.listeners[0]
        client.writer.transport.abort()
        await until(lambda: not listener.connections)
        answer.set()
        await until(lambda: not lab.proxy.worker.gateway._tasks)  # type: ignore[union-attr]
        (record,) = await lab.decisions()
        assert (record["reason"], record["effect"], record["path"]) == ("client-gone", "deny", "/gone")
        assert lab.upstream.connections == 0
