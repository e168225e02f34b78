"""The platform behind the proxy, in a process of its own: keeps a diary of whom it served, verified by itself.

python -m tests.load.upstream PORT KEYS DIARY MARKER

PORT to listen on, KEYS the JWK set with which it verifies `X-ZT-Assertion`, DIARY the file that gets one line for every
request that arrived: request id, verified subject (`?` when nothing valid came), path. Every answer carries MARKER, so
that whoever sees a byte of it saw what is protected.

    /ws             greets with `MARKER subject id`, then sends every message back
    /feed…          the same line for ever, four times a second
    anything else   `MARKER subject id length crc32-of-the-body`
"""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import jwt

from tests.lab.ws import CLOSE, PONG, TEXT, accept, frame, read_frame
from zt_proxy.core.clock import SystemClock

TICK = 0.25
PING = 9


class Platform:
    """See the module."""

    def __init__(self, keys: Path, diary: Path, marker: bytes) -> None:
        self._keys = {key["kid"]: jwt.PyJWK(key) for key in json.loads(keys.read_text())["keys"]}
        self._diary = diary.open("w", buffering=1, encoding="utf-8")
        self._marker = marker
        self._known: dict[str, tuple[str, float]] = {}
        self._clock = SystemClock()
        self._feeds: dict[asyncio.StreamWriter, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass
        self._feeds.pop(writer, None)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def tick(self) -> None:
        """A line for everybody who follows a feed."""
        for writer, line in tuple(self._feeds.items()):
            if writer.transport.get_write_buffer_size() < 65536:
                writer.write(b"%x\r\n%b\r\n" % (len(line), line))

    def close(self) -> None:
        self._diary.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is over."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head[:-4].split("\r\n")
        method, path, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
        who = self._verified(headers)
        name = headers.get("x-request-id", "-")
        self._diary.write(f"{name} {who} {path}\n")
        about = b"%b %b %b" % (self._marker, who.encode(), name.encode())
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("upgrade") == "websocket":
            await self._echo(reader, writer, headers["sec-websocket-key"].encode(), about)
            return False
        if path.startswith("/feed"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._feeds[writer] = about + b"\n"
            await reader.read()
            return False
        text = about + b" %d %d" % (len(body), crc32(body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(text))
        if method != "HEAD":
            writer.write(text)
        await writer.drain()
        return True

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, about: bytes) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept(key) + frame(TEXT, about, masked=False)
        )
        while True:
            got = await read_frame(reader)
            if got.opcode == CLOSE:
                writer.write(frame(CLOSE, got.payload[:2], masked=False))
                await writer.drain()
                return
            writer.write(frame(PONG if got.opcode == PING else got.opcode, got.payload, masked=False))
            await writer.drain()

    def _verified(self, headers: dict[str, str]) -> str:
        """The subject that the assertion proves for this host; `?` without a valid one."""
        token, host = headers.get("x-zt-assertion", ""), headers.get("host", "")
        known = self._known.get(host + token)
        if known is not None and self._clock.now() < known[1]:
            return known[0]
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(token, key, ["ES256"], audience=f"https://{host}", options={"require": ["exp", "sub"]})
        except (jwt.InvalidTokenError, KeyError):
            return "?"
        self._known[host + token] = (claims["sub"], float(claims["exp"]))
        return str(claims["sub"])


async def main(port: int, keys: Path, diary: Path, marker: bytes) -> None:
    """Serve until SIGTERM."""
    platform = Platform(keys, diary, marker)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    await asyncio.start_server(platform.serve, "127.0.0.1", port, backlog=1024)
    while not stopping.is_set():
        platform.tick()
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), TICK)
    platform.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4].encode()))
