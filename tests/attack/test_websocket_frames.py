"""WebSocket frames through the whole proxy: the same verdict as direct, within limits, held back where nobody reads."""

import asyncio
from typing import Self

import pytest

from tests.lab.proxy import ProxyLab
from tests.lab.waiting import rss, until
from tests.lab.ws import (
    BINARY,
    CLOSE,
    CONTINUATION,
    OWN_ORIGIN,
    PING,
    PONG,
    TEXT,
    EchoPlatform,
    Frame,
    close_code,
    closing,
    frame,
    handshake,
    header,
    lab_with_echo,
    open_websocket,
    read_frame,
    remaining_frames,
)

# ---- frames: the same verdict through the proxy as direct ----

LONG = b"*" * 125
# Groups as in the Autobahn suite. Each step: what is sent, and how many frames come back before the next is sent.
FRAMES: dict[str, tuple[tuple[bytes, int], ...]] = {
    **{f"1.{kind}.{size}": ((frame(kind, b"*" * size), 1), (closing(1000), 0))
       for kind in (TEXT, BINARY) for size in (0, 1, 125, 126, 127, 128, 65535, 65536)},
    "1.1.chops": (*((bytes((byte,)), 0) for byte in frame(TEXT, b"chopped")), (b"", 1), (closing(1000), 0)),
    "2.1 empty ping": ((frame(PING), 1), (closing(1000), 0)),
    "2.4 ping of 125": ((frame(PING, LONG), 1), (closing(1000), 0)),
    "2.5 ping of 126": ((frame(PING, LONG + b"*"), 0),),
    "2.7 unasked pong": ((frame(PONG), 0), (frame(PING), 1), (closing(1000), 0)),
    "2.10 ten pings": ((b"".join(frame(PING, b"%d" % n) for n in range(10)), 10), (closing(1000), 0)),
    **{f"3.{rsv} reserved bits": ((frame(TEXT, b"first"), 1), (frame(TEXT, b"second", rsv=rsv), 0)) for rsv in range(1, 8)},
    "3.ping reserved bit": ((frame(PING, rsv=4), 0),),
    **{f"4.1 opcode {code}": ((frame(TEXT, b"first"), 1), (frame(code, b"x"), 0)) for code in range(3, 8)},
    **{f"4.2 opcode {code}": ((frame(TEXT, b"first"), 1), (frame(code, b"x"), 0)) for code in range(11, 16)},
    "5.1 ping in fragments": ((frame(PING, b"a", fin=False), 0),),
    "5.2 pong in fragments": ((frame(PONG, b"a", fin=False), 0),),
    "5.3 two fragments": ((frame(TEXT, b"a", fin=False) + frame(0, b"b"), 1), (closing(1000), 0)),
    "5.6 ping between fragments": (
        (frame(TEXT, b"a", fin=False) + frame(PING, b"p"), 1), (frame(0, b"b"), 1), (closing(1000), 0)),
    "5.9 continuation of nothing": ((frame(CONTINUATION, b"a"), 0),),
    "5.12 open continuation of nothing": ((frame(CONTINUATION, b"a", fin=False), 0),),
    "5.15 continuation behind the end": (
        (frame(TEXT, b"a", fin=False) + frame(0, b"b"), 1), (frame(0, b"c", fin=False), 0)),
    "5.18 text in a fragmented text": ((frame(TEXT, b"a", fin=False), 0), (frame(TEXT, b"b"), 0)),
    "5.19 pings among five fragments": (
        (frame(TEXT, b"a", fin=False) + frame(0, b"b", fin=False) + frame(PING, b"1"), 1),
        (frame(0, b"c", fin=False) + frame(0, b"d", fin=False) + frame(PING, b"2"), 1),
        (frame(0, b"e"), 1), (closing(1000), 0)),
    "6.1 empty text": ((frame(TEXT), 1), (closing(1000), 0)),
    "6.2 utf-8 cut inside a character": (
        (frame(TEXT, "ß".encode()[:1], fin=False) + frame(0, "ß".encode()[1:]), 1), (closing(1000), 0)),
    "6.3 invalid utf-8": ((frame(TEXT, b"\xce\xba\xed\xa0\x80"), 0),),
    "6.4 invalid utf-8 in fragments": ((frame(TEXT, b"\xce\xba", fin=False), 0), (frame(0, b"\xf4\x90\x80\x80", fin=False), 0)),
    "6.6 a character that never ends": ((frame(TEXT, b"\xce"), 0),),
    "6.22 noncharacters": ((frame(TEXT, "\ufffe\U0010ffff".encode()), 1), (closing(1000), 0)),
    "6 binary may be anything": ((frame(BINARY, b"\xff\xfe\x00"), 1), (closing(1000), 0)),
    "7.1 text, then close": ((frame(TEXT, b"a"), 1), (closing(1000), 0)),
    "7.1.3 ping behind close": ((closing(1000) + frame(PING), 0),),
    "7.3.1 close without a code": ((frame(CLOSE), 0),),
    "7.3.2 close with one byte": ((frame(CLOSE, b"a"), 0),),
    "7.3.5 longest close": ((closing(1000, b"*" * 123), 0),),
    "7.3.6 close too long": ((closing(1000, b"*" * 124), 0),),
    "7.5 close with invalid utf-8": ((closing(1000, b"\xce\xba\xed\xa0\x80"), 0),),
    **{f"7.7 close {code}": ((closing(code), 0),) for code in (1000, 1001, 1002, 1003, 1007, 1011, 3000, 3999, 4000, 4999)},
    **{f"7.9 close {code}": ((closing(code), 0),) for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000)},
    "10.1 64 KiB in fragments of 1300": (
        (frame(TEXT, b"*" * 1300, fin=False) + b"".join(frame(0, b"*" * 1300, fin=False) for _ in range(49)) + frame(0, b"*" * 536), 1),
        (closing(1000), 0)),
    "a frame without a mask": ((frame(TEXT, b"a", masked=False), 0),),
    "a length with its highest bit": ((b"\x82\xff" + b"\xff" * 8 + b"mask", 0),),
}  # fmt: skip


async def verdict(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, steps: tuple[tuple[bytes, int], ...]
) -> list[tuple[int, bytes, bool]]:
    """What comes back, to the end; of a Close its code alone, since the words are everyone's own."""
    frames: list[Frame] = []
    async with asyncio.timeout(20):
        for data, answers in steps:
            writer.write(data)
            await writer.drain()
            frames += [await read_frame(reader) for _ in range(answers)]
    frames += await remaining_frames(reader)
    return [(one.opcode, one.payload[:2] if one.opcode == CLOSE else one.payload, one.fin) for one in frames]


@pytest.mark.case("ZT-WS-03")
async def test_frames_get_the_same_verdict_through_the_proxy_as_direct() -> None:
    async with lab_with_echo() as lab:
        cookie = await lab.sign_in()
        for name, steps in FRAMES.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", lab.upstream.port)
            writer.write(handshake())
            await reader.readuntil(b"\r\n\r\n")
            direct = await verdict(reader, writer, steps)
            writer.close()
            assert direct, name
            client = await open_websocket(lab, cookie)
            through = await verdict(client.reader, client.writer, steps)
            assert through == direct, name


@pytest.mark.case("ZT-WS-03")
async def test_what_came_before_a_bad_frame_arrives_and_nothing_after_it_does() -> None:
    async with lab_with_echo() as lab:
        platform = lab.upstream
        assert isinstance(platform, EchoPlatform)
        client = await open_websocket(lab, await lab.sign_in())
        whole = frame(TEXT, b"a message cut between two writes")
        await client.write(whole[:10])
        await until(lambda: platform.connections == 1)
        await client.write(whole[10:] + frame(TEXT, b"bad", rsv=2) + frame(TEXT, b"never"))
        assert close_code((await remaining_frames(client.reader))[-1]) == 1002
        await until(lambda: platform.ended == 1)
        texts = [one.payload for one in platform.frames if one.opcode == TEXT]
        assert texts == [b"a message cut between two writes"]


async def test_bytes_behind_the_handshake_and_behind_the_101_are_the_tunnels() -> None:
    platform = EchoPlatform(early=frame(TEXT, b"welcome", masked=False))
    async with ProxyLab(upstream=platform) as lab:
        client = await lab.connect()
        await client.write(handshake(await lab.sign_in()) + frame(TEXT, b"at once"))
        assert (await client.reply()).status == 101
        assert await read_frame(client.reader) == Frame(TEXT, b"welcome")
        assert await read_frame(client.reader) == Frame(TEXT, b"at once")


async def test_an_extension_is_between_the_client_and_the_platform() -> None:
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    async with ProxyLab(upstream=EchoPlatform(extensions=b"permessage-deflate")) as lab:
        cookie = await lab.sign_in()
        client = await open_websocket(lab, cookie, OWN_ORIGIN + offer)
        await client.write(frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4))
        assert await read_frame(client.reader) == Frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4)


# ---- limits ----


@pytest.mark.case("ZT-WS-06")
async def test_frames_beyond_the_limits_end_the_tunnel() -> None:
    huge = header(BINARY, 2**62)
    limit = 1024 * 1024
    pieces = frame(BINARY, b"x" * (limit // 2), fin=False) + header(CONTINUATION, limit // 2 + 1)
    cases = (
        (b"\x82\xff" + (2**63).to_bytes(8, "big") + b"mask", 1002),
        (huge, 1009),
        (header(BINARY, 2**30), 1009),
        (header(BINARY, limit + 1), 1009),
        (pieces, 1009),
        (frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 20_000, 1008),
        (frame(TEXT) * 20_000, 1008),
    )
    async with lab_with_echo(limits={"websocket_message": limit}) as lab:
        cookie = await lab.sign_in()
        before = rss()
        for data, code in cases:
            client = await open_websocket(lab, cookie)
            reading = asyncio.ensure_future(remaining_frames(client.reader))
            client.writer.write(data)
            assert close_code((await reading)[-1]) == code
        assert rss() - before < 64 * 1024 * 1024


@pytest.mark.case("ZT-WS-06")
async def test_a_compressed_message_is_counted_as_sent_and_never_inflated_here() -> None:
    async with ProxyLab(
        upstream=EchoPlatform(extensions=b"permessage-deflate"), limits={"websocket_message": 100_000}
    ) as lab:
        client = await open_websocket(
            lab, await lab.sign_in(), OWN_ORIGIN + b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        )
        before = rss()
        bomb = b"\x00" * 99_000  # stands for 100 MB inflated: what it means is nobody's business here
        await client.write(frame(BINARY, bomb, rsv=4))
        assert await read_frame(client.reader) == Frame(BINARY, bomb, rsv=4)
        assert rss() - before < 16 * 1024 * 1024


@pytest.mark.case("ZT-WS-06")
async def test_a_flood_of_pings_by_a_client_that_reads_nothing_is_held_back() -> None:
    async with lab_with_echo() as lab:
        client = await open_websocket(lab, await lab.sign_in())
        before = rss()
        flood = frame(PING, b"x" * 125) * 1000
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await client.write(flood)
                sent += len(flood)

        sending = asyncio.ensure_future(send())
        connection = next(iter(lab.proxy.worker.listeners[0].connections))  # type: ignore[union-attr]
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: connection.silenced and connection.congested)
        sending.cancel()
        assert rss() - before < 64 * 1024 * 1024


class Flood(EchoPlatform):
    """Sends frames of 64 KiB as fast as it may, and counts."""

    total = 64 * 1024 * 1024
    sent = 0

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        piece = frame(BINARY, b"x" * 65000, masked=False)
        while self.sent < self.total:
            writer.write(piece)
            await writer.drain()
            self.sent += len(piece)
        writer.write(frame(CLOSE, b"\x03\xe8", masked=False))
        await writer.drain()
        await reader.read()


async def test_a_platform_that_floods_waits_for_a_client_that_does_not_read() -> None:
    platform = Flood()
    async with ProxyLab(upstream=platform) as lab:
        client = await lab.connect(limit=64 * 1024)
        await client.write(handshake(await lab.sign_in()))
        await client.reply()
        before = rss()
        connection = next(iter(lab.proxy.worker.listeners[0].connections))  # type: ignore[union-attr]
        await until(lambda: connection.congested)
        held = connection.transport.get_write_buffer_size()
        assert held < 2 * 1024 * 1024
        assert platform.sent < platform.total
        assert rss() - before < 32 * 1024 * 1024
        size, last = 0, Frame(0, b"")
        while last.opcode != CLOSE:
            last = await read_frame(client.reader)
            size += len(last.payload)
        assert size >= platform.total * 65000 // 65010
        assert rss() - before < 32 * 1024 * 1024


class Deaf(EchoPlatform):
    """Reads nothing until told, then everything."""

    got = 0

    async def __aenter__(self) -> Self:
        self.listen = asyncio.Event()
        return await super().__aenter__()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.listen.wait()
        while data := await reader.read(1 << 20):
            self.got += len(data)


async def test_a_client_that_floods_waits_for_a_platform_that_does_not_read() -> None:
    platform = Deaf()
    async with ProxyLab(upstream=platform) as lab:
        client = await open_websocket(lab, await lab.sign_in())
        before = rss()
        piece = frame(BINARY, b"x" * 65000)
        count, sent = 1000, 0

        async def send() -> None:
            nonlocal sent
            for _ in range(count):
                await client.write(piece)
                sent += 1

        sending = asyncio.ensure_future(send())
        connection = next(iter(lab.proxy.worker.listeners[0].connections))  # type: ignore[union-attr]
        await until(lambda: connection.silenced)
        assert sent < count
        assert rss() - before < 48 * 1024 * 1024
        platform.listen.set()
        await sending
        await until(lambda: platform.got == count * len(piece))
