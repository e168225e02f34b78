"""Content codings undone, piece by piece and with a bound: gzip (RFC 1952) and deflate (RFC 1950, or 1951 alone)."""

import zlib
from collections.abc import Iterator

from zt_proxy.worker.protect.mask.document import Unreadable

GZIP_MAGIC = b"\x1f\x8b"
PIECE = 64 * 1024
"""Most bytes that are decoded at once: what bursts is seen before it takes memory (CVE-2025-69223)."""
CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate"))


class Inflater:
    """One coded body. `pieces` raises Unreadable for what is damaged, or goes on behind its end."""

    def __init__(self, coding: bytes) -> None:
        self._gzip = coding != b"deflate"
        self._decoder: zlib._Decompress | None = None
        self._waiting = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes decode to. All of it has to be taken before more bytes are given."""
        data, self._waiting = self._waiting + data, b""
        while data:
            decoder = self._decoder
            if decoder is None or decoder.eof:
                if len(data) < 2:
                    self._waiting = data
                    return
                decoder = self._decoder = self._begin(data, first=decoder is None)
            while True:
                try:
                    plain = decoder.decompress(data, PIECE)
                except zlib.error:
                    raise Unreadable("a damaged coding") from None
                if plain:
                    yield plain
                data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
                if decoder.eof or (not data and len(plain) < PIECE):
                    break  # else the decoder may hold more than it had room for

    def _begin(self, data: bytes, *, first: bool) -> "zlib._Decompress":
        if self._gzip:
            if not data.startswith(GZIP_MAGIC):
                raise Unreadable("not the coding it says" if first else "bytes behind the end of the coding")
            return zlib.decompressobj(31)
        if not first:
            raise Unreadable("bytes behind the end of the coding")
        framed = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.decompressobj(15 if framed else -15)  # some send the bare data, and all browsers take it

    def end(self) -> None:
        """The body is complete. Raises Unreadable if the coding is not."""
        if self._waiting or self._decoder is None or not self._decoder.eof:
            raise Unreadable("a coding that is cut short")
