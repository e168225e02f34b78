"""The request path, attacked from within: what is remembered, what waits, and what two sides do to each other."""

import asyncio
import gc
import itertools
import random
from contextlib import suppress

import msgspec
import pytest

from tests.lab.proxy import APP, ORIGIN, ProxyLab
from tests.lab.upstream import OK, RecordingUpstream, Seen
from tests.lab.waiting import until
from zt_proxy.core.clock import ManualClock, SystemClock
from zt_proxy.core.errors import Reason, ZtError
from zt_proxy.core.session import Session
from zt_proxy.worker.edge.connection import Connection, State
from zt_proxy.worker.identify.session import SessionCache
from zt_proxy.worker.settings import UpstreamSettings
from zt_proxy.worker.upstream.pool import Borrower, UpstreamConnection, UpstreamPool
from zt_proxy.worker.wire.h1 import RequestParser
from zt_proxy.worker.wire.head import HeadMemory, RequestHead
from zt_proxy.worker.wire.hygiene import Kind

BARE = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n"


# ---- what is remembered of a head ----


class Noting:
    """Takes requests, answers each at once, and notes what it was told."""

    def __init__(self, memory: HeadMemory) -> None:
        self.told: list[object] = []
        self.parser = RequestParser(self, memory, header_count=100, header_bytes=32768, target_bytes=8192)

    def on_request(self, head: RequestHead) -> None:
        self.goes_on = head.keep_alive
        lines = b"".join(head.lines)
        self.told.append((head.method, head.target, head.minor, head.ordinary, lines, tuple(head.noted)))

    def on_ordinary(self, head: RequestHead) -> None:
        self.on_request(head)
        self.on_end()

    def on_body(self, data: bytes) -> None:
        self.told.append(data)

    def on_end(self) -> None:
        self.told.append("end")
        if self.goes_on:
            self.parser.resume()

    def on_error(self, error: ZtError) -> None:
        self.told.append(error.reason)


@pytest.mark.case("ZT-SMUG-18")
def test_nobody_teaches_the_proxy_a_false_meaning_of_other_peoples_headers() -> None:
    # The first read ends in the middle of a second head; its rest looks like a whole request that others will send.
    memory = HeadMemory()
    attacker, victim = Noting(memory), Noting(memory)
    attacker.parser.feed(BARE + b"GET /2 HTTP/1.1\r\nCookie: __Host-zt=theirs\r\nX-Swallow: ")
    attacker.parser.feed(b"GET / HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n\r\n")
    victim.parser.feed(b"GET /mine HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n\r\n")
    (head, _) = victim.told
    assert isinstance(head, tuple)
    assert head[5][Kind.COOKIE] is None
    assert head[4] == b"Accept: text/html\r\n"


@pytest.mark.case("ZT-SMUG-18")
async def test_a_head_in_two_reads_stays_one_head_whatever_its_rest_looks_like() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        assert (await lab.get("/", cookie)).status == 200  # its header block is remembered now
        client = await lab.connect()
        await client.write(BARE + b"GET /outer HTTP/1.1\r\nX-Swallow: ")
        assert (await client.reply()).status == 401
        await client.write(GET % cookie)
        assert (await client.reply()).status == 200
        assert lab.upstream.seen[-1].target == b"/outer"


def test_a_memory_changes_nothing_in_what_requests_are_understood_as() -> None:
    # The same bytes, cut at the same places, to a parser whose memory is shared with all before it, and to a fresh one.
    pick = random.Random(20)
    starts = [b"GET / HTTP/1.1", b"HEAD /a?b HTTP/1.1", b"GET /c HTTP/1.0", b"GET  /d HTTP/1.1", b"POST / HTTP/1.1"]
    starts += [b"GET /e#f HTTP/1.1", b"GET /\x80 HTTP/1.1", b"GET http://app.test/ HTTP/1.1", b"GET /\rx HTTP/1.1"]
    starts += [
        b'GET /"<>\\^`{|} HTTP/1.1',
        b"GET /g HTTP/1.2",
        b"\r\nGET / HTTP/1.1",
        b"GET /%zz HTTP/1.1",
        b"get / HTTP/1.1",
    ]
    lines = [b"Accept: a", b"Connection: keep-alive", b"Connection: x-b", b"X-B: c", b"X-C: ", b"A: \x80", b"X-D:e \t"]
    lines += [
        b"Content-Length: 0",
        b"Cookie: a=b",
        b"Cookie: c=d",
        b"Connection: close",
        b"Content-Length: 3",
        b"A : b",
    ]
    lines += [b"Expect: 100-continue", b"Upgrade: h2c", b"Connection: upgrade", b"Transfer-Encoding: chunked", b" fold"]
    ends = [b"\r\n\r\n"] * 6 + [b"\r\n\r\nabc", b"\r\n\r\n0\r\n\r\n", b"\n\n", b"\r\n\n", b"\r\n\r\n\r\n"]
    memory = HeadMemory()
    for _ in range(3000):
        stream = b""
        for _ in range(pick.choice((1, 1, 2, 3))):
            headers = pick.choices(lines, [30, 20, 8, 8, 8] + [4] * 5 + [1] * (len(lines) - 10), k=pick.randrange(3))
            start = pick.choices(starts, [40, 10] + [1] * (len(starts) - 2))[0]
            stream += b"\r\n".join([start, b"Host: app.test", *headers]) + pick.choice(ends)
        cuts = sorted({0, len(stream), *(pick.randrange(len(stream)) for _ in range(pick.choice((0, 0, 1, 2))))})
        if pick.random() < 0.3:  # the cut that fools: right behind a head
            cuts = sorted({*cuts, stream.find(b"\r\n\r\n") + 4})
        warm, fresh = Noting(memory), Noting(HeadMemory())
        for start_at, end_at in itertools.pairwise(cuts):
            piece = stream[start_at:end_at]
            for each in (warm, fresh):
                each.parser.feed(piece)
        assert warm.told == fresh.told, stream
    assert memory.blocks


# ---- what waits behind a request ----


@pytest.mark.case("ZT-DOS-16")
async def test_a_long_row_of_requests_behind_one_that_waits_is_answered_to_the_last() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        await client.write(GET % cookie + BARE * 1200)
        assert (await client.reply()).status == 200
        assert {(await client.reply()).status for _ in range(1200)} == {401}
        await client.write(GET % cookie)
        assert (await client.reply()).status == 200
        assert APP in {record["host"] for record in await lab.decisions()}


async def some_connection(lab: ProxyLab) -> Connection:
    assert lab.proxy.worker is not None
    listener = lab.proxy.worker.listeners[0]
    await until(lambda: len(listener.connections) == 1)
    return next(iter(listener.connections))


@pytest.mark.case("ZT-DOS-16")
async def test_what_waits_behind_a_request_is_never_more_than_one_read() -> None:
    # Each answer let another whole read in, so that heads piled up by the thousand.
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        connection = await some_connection(lab)
        head = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n\r\n" % cookie
        most = 0

        async def read() -> None:
            nonlocal most
            for _ in range(400):
                assert (await client.reply()).status == 200
                assert connection._parser is not None
                most = max(most, len(connection._parser.backlog))

        reading = asyncio.ensure_future(read())
        client.writer.write(head * 60_000)
        await reading
        assert most <= 2 * 262144 / len(head) + 2


@pytest.mark.case("ZT-DOS-07")
async def test_refusals_that_nobody_reads_are_not_piled_up() -> None:
    async with ProxyLab() as lab:
        client = await lab.connect()
        connection = await some_connection(lab)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(BARE * 100_000)
        await until(lambda: connection.congested)
        most = 0
        for _ in range(200):
            most = max(most, connection.transport.get_write_buffer_size())
            await asyncio.sleep(0)
        assert most < 2 * 262144
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(100_000 // 20):
            assert (await client.reply()).status == 401


# ---- what one side does to the other ----


@pytest.mark.case("ZT-DOS-18")
async def test_a_slow_reader_leaves_no_silenced_connection_to_the_next_person() -> None:
    lab = ProxyLab(
        limits={"buffer": 1}, route={"upstream": UpstreamSettings("http", "127.0.0.1", 0, max_connections=1)}
    )
    async with lab:
        cookie = await lab.sign_in()
        lab.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000)
        client = await lab.connect()
        connection = await some_connection(lab)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        asked = 0
        while not connection.congested:
            asked += 1
            await client.write(GET % cookie)
            await lab.upstream.arrived(asked)
            await until(lambda: connection.exchange is None)
        lab.upstream.answer = OK
        async with asyncio.timeout(5):
            assert (await lab.get("/", cookie)).status == 200


@pytest.mark.case("ZT-DOS-18")
async def test_an_answer_before_the_end_of_a_body_lets_the_rest_of_the_body_go() -> None:
    class Early(RecordingUpstream):
        """Answers without reading the body."""

        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            self._writers.add(writer)
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            assert lab.proxy.worker is not None
            (connection,) = lab.proxy.worker.listeners[0].connections
            await until(lambda: connection.silenced)
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    size = 24 * 1024 * 1024
    lab = ProxyLab(upstream=Early())
    async with lab:
        cookie = await lab.sign_in()
        client = await lab.connect()
        head = b"POST / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n" % cookie + ORIGIN
        await client.write(head + b"Content-Length: %d\r\n\r\n" % size)
        async with asyncio.timeout(10):
            for _ in range(size // 65536):
                await client.write(bytes(65536))
        assert (await client.reply()).status == 413


@pytest.mark.case("ZT-DOS-16")
async def test_a_body_beyond_the_limit_while_control_is_asked_fails_once_and_quietly() -> None:
    lab = ProxyLab(route={"body_limit": 10})
    async with lab:
        escaped: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        cookie = await lab.sign_in()
        head = b"POST / HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n" % cookie + ORIGIN
        reply = await lab.send(
            head + b"Transfer-Encoding: chunked\r\n\r\n" + b"10\r\n0123456789abcdef\r\n" * 3 + b"0\r\n\r\n"
        )
        assert reply.status == 413
        gc.collect()
        await asyncio.sleep(0)
        assert not escaped
        assert [record["path"] for record in await lab.decisions()] == ["/"]


@pytest.mark.case("ZT-SMUG-18")
async def test_nonsense_behind_a_refused_body_gets_no_second_answer_and_no_record_of_its_own() -> None:
    async with ProxyLab() as lab:
        client = await lab.connect()
        head = b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.write(head + b"5\r\nhello\r\nzz\r\n")
        assert (await client.reply()).status == 401
        assert await client.ended() == b""
        assert len(await lab.decisions()) == 1


async def test_who_waits_for_a_connection_gets_a_turn_when_another_attempt_failed() -> None:
    pool = UpstreamPool(UpstreamSettings("unix", path="/nowhere/at/all", max_connections=1), SystemClock())
    borrowers = [Waiting() for _ in range(3)]
    for borrower in borrowers:
        pool.take(borrower)  # type: ignore[arg-type]
    await until(lambda: all(borrower.failed for borrower in borrowers), 3)
    await pool.close()


async def test_who_waits_for_the_portal_is_not_left_waiting() -> None:
    async with ProxyLab() as lab:
        assert lab.proxy.worker is not None
        pool = lab.proxy.worker.gateway.portal_pool
        pool.settings = msgspec.structs.replace(pool.settings, max_connections=0, connect_timeout=0.1)
        borrower = Waiting()
        pool.take(borrower)  # type: ignore[arg-type]
        await until(lambda: borrower.failed is not None, 5)


class Waiting:
    """A borrower that only hears of failures."""

    uploading = False

    failed: ZtError | None = None

    def upstream_failed(self, error: ZtError) -> None:
        self.failed = error


class Revoking:
    """A link whose answer is overtaken by the end of the session, when there is one."""

    def __init__(self, answers: list[Session | None]) -> None:
        self.answers = answers
        self.cache: SessionCache | None = None

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        answer = self.answers.pop(0)
        if answer is not None:
            assert self.cache is not None
            self.cache.forget(answer.sid)
        return answer


@pytest.mark.case("ZT-SESS-10")
async def test_a_session_that_ended_while_control_answered_is_asked_about_again() -> None:
    async with ProxyLab() as lab:
        cookie = (await lab.sign_in()).partition(b"=")[2]
        assert lab.proxy.worker is not None
        cache = lab.proxy.worker.sessions
        real = await cache.fetch(cookie, APP)
        assert not isinstance(real, Reason)
        cache.forget("")
        link = Revoking([real.session, None])
        link.cache = cache
        cache._link = link  # type: ignore[assignment]
        assert await cache.fetch(cookie, APP) is Reason.SESSION_UNKNOWN


# ---- what goes wrong within ----


@pytest.mark.case("ZT-DOS-18")
async def test_a_fault_with_one_connection_does_not_stop_the_clock_of_the_others() -> None:
    clock = ManualClock()
    async with ProxyLab(clock=clock) as lab:
        first = await lab.connect()
        broken = await some_connection(lab)
        assert lab.proxy.worker is not None
        listener = lab.proxy.worker.listeners[0]
        second = await lab.connect()
        await until(lambda: [each.state for each in listener.connections] == [State.HTTP] * 2)
        type_of_broken = type(broken)
        expired = type_of_broken.expired

        def fail(self: Connection, now: float) -> None:
            if self is broken:
                raise RuntimeError("a fault")
            expired(self, now)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type_of_broken, "expired", fail)
            await lab.advance(100)
            assert await second.ended() == b""
            assert await first.ended() == b""


@pytest.mark.case("ZT-SMUG-18")
async def test_a_fault_behind_the_decision_takes_the_platforms_answer_away_from_everyone() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        await lab.get("/", cookie)
        lab.upstream.hold = asyncio.Event()
        send = UpstreamConnection.send

        def fail(self: UpstreamConnection, borrower: Borrower, method: bytes, head: bytes) -> None:
            send(self, borrower, method, head)
            raise RuntimeError("a fault")

        client = await lab.connect()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(UpstreamConnection, "send", fail)
            await client.write(GET % cookie)
            assert (await client.reply()).status == 500
        await lab.upstream.arrived(1)
        lab.upstream.hold.set()
        lab.upstream.answer = OK.replace(b"ok", b"my")
        await client.write(BARE)
        assert (await client.reply()).status == 401
        await client.write(GET % cookie)
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, b"my")
        assert [record["reason"] for record in await lab.decisions()].count("rule-allowed") == 3


async def test_a_session_that_is_cut_gets_nothing_of_what_it_had_asked_for_next() -> None:
    async with ProxyLab() as lab:
        cookie = await lab.sign_in()
        other = (await lab.new_session("bob"))[1]
        await lab.get("/", other)
        lab.upstream.hold = asyncio.Event()
        client = await lab.connect()
        await client.write(
            GET % cookie + b"DELETE /next HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n" % other + ORIGIN + b"\r\n"
        )
        await lab.upstream.arrived(2)
        assert lab.proxy.control is not None
        await lab.proxy.control.sessions.end(lab.sid, "administrator")
        assert await client.ended() == b""
        assert "/next" not in [record["path"] for record in await lab.decisions()]


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_becomes_of_requests_each_is_recorded_once_and_nothing_escapes(seed: int) -> None:
    pick = random.Random(seed)
    escaped: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    async with ProxyLab(route={"body_limit": 50_000}) as lab:
        cookie = await lab.sign_in()
        await lab.get("/warm", cookie)
        body = bytes(70_000)
        chunks = b"5\r\nhello\r\n" * 3 + b"0\r\n\r\n"

        def answer(request: Seen) -> bytes:
            answers = (OK, OK[:-1], b"", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"nonsense", OK + OK)
            return answers[int(request.target[-1:])]

        lab.upstream.answer = answer
        lab.upstream.close_after = True
        begun: list[str] = []

        async def one(number: int) -> None:
            path = f"/{number}/{pick.choices(range(6), [10, 1, 1, 1, 1, 1])[0]}"
            begun.append(path)
            method, end = pick.choice(
                ((b"GET", b"\r\n"), (b"HEAD", b"\r\n"), (b"POST", b"Content-Length: 70000\r\n\r\n" + body),
                 (b"POST", b"Content-Length: 5\r\n\r\nhello"), (b"PUT", b"Transfer-Encoding: chunked\r\n\r\n" + chunks),
                 (b"PUT", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"))
            )  # fmt: skip
            who = cookie if pick.random() < 0.7 else b"x=y"
            head = b"%b %b HTTP/1.1\r\nHost: app.test\r\nCookie: %b\r\n" % (method, path.encode(), who) + ORIGIN
            client = await lab.connect()
            client.writer.write(head + end)
            if pick.random() < 0.4:  # gone at some point
                for _ in range(pick.randrange(12)):
                    await asyncio.sleep(0)
            else:
                client.writer.write(b"")
                with suppress(asyncio.IncompleteReadError, ConnectionError):
                    await client.reply(method.decode())
            client.writer.transport.abort()

        for _ in range(10):
            await asyncio.gather(*(one(len(begun) + number) for number in range(10)))
        assert lab.proxy.worker is not None
        listener = lab.proxy.worker.listeners[0]
        await until(lambda: not listener.connections)
        (pool,) = lab.proxy.worker._pools.values()
        assert not pool._waiting
        assert all(connection.borrower is None for connection in pool._open)
        log = await lab.log()
        decided = [line["path"] for line in log if line["type"] == "decision"]
        ends = [line["id"] for line in log if line["type"] == "end"]
        assert len(set(decided)) == len(decided)
        assert len(set(ends)) == len(ends) == len(decided)
        gc.collect()
        await asyncio.sleep(0)
        assert not escaped
