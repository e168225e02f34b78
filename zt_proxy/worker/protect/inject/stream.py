"""A page on its way through: decoded where it is compressed, the tag put in, and compressed again. No IO.

What the platform made available to the browser so far is available to it behind the proxy too, once `flush` was called:
a page that is streamed goes on being streamed.
"""

import zlib

from zt_proxy.core.errors import Reason, UpstreamError
from zt_proxy.worker.protect.inject.html import Inserter

GZIP = 31
"""zlib's word for a gzip frame with the largest window (RFC 1952)."""
GZIP_MAGIC = b"\x1f\x8b"
LEVEL = 2
"""A quarter of the time of the usual 6, for 15 % more bytes."""
PIECE = 64 * 1024
"""Most bytes that are decoded at once."""
FREE = 4 * 1024 * 1024
"""Decoded bytes that no ratio is asked of."""
RATIO = 100
"""Beyond that, most decoded bytes for each compressed one: pages reach 30, what is made to burst 1000."""


class Rewriter:
    """The body of one page without a content coding."""

    def __init__(self, tag: bytes) -> None:
        self.inserter = Inserter(tag)

    def feed(self, data: bytes) -> bytes:
        """The next bytes from the platform; gives what can go to the client."""
        return self.inserter.feed(data)

    def flush(self) -> bytes:
        """Whatever must not wait for more."""
        return b""

    def end(self) -> bytes:
        """The platform's answer is complete. Raises UpstreamError(UPSTREAM_INVALID) if its coding is not."""
        return self.inserter.end()


class GzipRewriter(Rewriter):
    """The same in gzip.

    `feed` and `end` raise UpstreamError(UPSTREAM_INVALID) for what is no gzip, is cut short, or bursts. Bytes behind
    the last member are dropped, as browsers do.
    """

    def __init__(self, tag: bytes) -> None:
        super().__init__(tag)
        self._decoder = zlib.decompressobj(GZIP)
        self._encoder = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        self._waiting = b""
        """Bytes too few to tell whether another member begins."""
        self._garbage = False
        self._unflushed = False
        self._in = 0
        self._out = 0

    def feed(self, data: bytes) -> bytes:
        if self._garbage:
            return b""
        self._in += len(data)
        out: list[bytes] = []
        data, self._waiting = self._waiting + data, b""
        while data:
            if self._decoder.eof:
                if not data.startswith(GZIP_MAGIC[: len(data)]):
                    self._garbage = True
                    break
                if len(data) < 2:
                    self._waiting = data
                    break
                self._decoder = zlib.decompressobj(GZIP)
            data = self._decode(data, out)
        return b"".join(out)

    def _decode(self, data: bytes, out: list[bytes]) -> bytes:
        """One member, or as much of it as there is, in bounded pieces; gives the bytes behind its end."""
        decoder = self._decoder
        while True:
            try:
                plain = decoder.decompress(data, PIECE)
            except zlib.error as error:
                raise UpstreamError(Reason.UPSTREAM_INVALID, f"a damaged gzip body: {error}") from None
            self._out += len(plain)
            if self._out > FREE + RATIO * self._in:
                raise UpstreamError(Reason.UPSTREAM_INVALID, "a gzip body that bursts")
            self._encode(self.inserter.feed(plain), out)
            if decoder.eof:
                return decoder.unused_data
            data = decoder.unconsumed_tail
            if not data and len(plain) < PIECE:  # else the decoder may hold more that it has no room for
                return b""

    def _encode(self, plain: bytes, out: list[bytes]) -> None:
        if plain:
            self._unflushed = True
            coded = self._encoder.compress(plain)
            if coded:
                out.append(coded)

    def flush(self) -> bytes:
        if not self._unflushed:
            return b""
        self._unflushed = False
        return self._encoder.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        if not self._in:
            return b""
        if not self._decoder.eof:
            raise UpstreamError(Reason.UPSTREAM_INVALID, "a gzip body that is cut short")
        rest = self.inserter.end()
        return (self._encoder.compress(rest) if rest else b"") + self._encoder.flush(zlib.Z_FINISH)
