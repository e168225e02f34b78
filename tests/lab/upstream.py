"""A platform on loopback that records every byte it is sent, and answers what it is told.

async with RecordingUpstream() as upstream:
    upstream.answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"   # or a callable: Seen -> bytes
    ...
    assert upstream.seen[-1].header(b"x-forwarded-user") is None
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Seen:
    """One request, exactly as it arrived; parsed by the simplest rules there are, not by the proxy's."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    connection: int = 0
    raw: bytes = b""

    def header(self, name: bytes) -> bytes | None:
        """Value of the one header of this name (any case); fails if there are several."""
        values = self.all(name)
        assert len(values) <= 1, f"{name!r} arrived {len(values)} times"
        return values[0] if values else None

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class RecordingUpstream:
    """See the module."""

    answer: bytes | Callable[[Seen], bytes] = OK
    close_after: bool = False
    """End the connection after each answer."""
    hold: asyncio.Event | None = None
    """When set to an Event, answers wait for it."""
    seen: list[Seen] = field(default_factory=list)
    bytes_seen: bytearray = field(default_factory=bytearray)
    tls: ssl.SSLContext | None = None
    socket: Path | None = None
    """Listen at this path instead of a port."""
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        if self.socket is not None:
            self._server = await asyncio.start_unix_server(self._serve, self.socket)
            return self
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def arrived(self, count: int) -> None:
        """Wait until `count` requests have been seen in all."""
        async with self._arrived:
            async with asyncio.timeout(10):
                await self._arrived.wait_for(lambda: len(self.seen) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        try:
            while True:
                request = await self._read(reader, number)
                async with self._arrived:
                    self.seen.append(request)
                    self._arrived.notify_all()
                if self.hold is not None:
                    await self.hold.wait()
                writer.write(self.answer(request) if callable(self.answer) else self.answer)
                await writer.drain()
                if self.close_after:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Seen:
        head = await reader.readuntil(b"\r\n\r\n")
        self.bytes_seen += head
        line, _, rest = head[:-4].partition(b"\r\n")
        method, target, _ = line.split(b" ")
        headers = []
        for raw in rest.split(b"\r\n") if rest else []:
            name, _, value = raw.partition(b":")
            headers.append((name, value.strip(b" ")))
        request = Seen(method, target, headers, connection=number, raw=head)
        length = request.header(b"content-length")
        if request.header(b"transfer-encoding") is not None:
            assert length is None
            request.body = await self._chunks(reader)
        elif length is not None:
            request.body = await reader.readexactly(int(length))
            self.bytes_seen += request.body
        return request

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line[:-2], 16)
            data = await reader.readexactly(size + 2)
            self.bytes_seen += line + data
            assert data.endswith(b"\r\n")
            if size == 0:
                assert data == b"\r\n", "trailers reached the upstream"
                return body
            body += data[:-2]
