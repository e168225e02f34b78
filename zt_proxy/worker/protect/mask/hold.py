"""A body that is held back until it is known what it is: at most the route's limit, coded and decoded. No IO."""

import re
from urllib.parse import unquote_to_bytes

from zt_proxy.worker.protect.mask.answers import Answer, Kind
from zt_proxy.worker.protect.mask.coding import Inflater
from zt_proxy.worker.protect.mask.document import Unreadable

SKIPPED = b" \t\r\n\0\xef\xbb\xbf\xfe\xff"
"""Blanks, and the bytes of byte order marks; NUL, because without it UTF-16 shows its structure, too."""
FIRST = 16
"""Bytes behind leading blanks that show whether something is JSON."""
FIRST_OF_SCRIPT = 512
SUSPECT = b"{[)wft/"
"""First bytes of JSON that holds names, and of what is put before it."""

_JSON = re.compile(rb'\{["}]|\[(?:["{\[\]\-0-9]|true|false|null)')
_GUARDED = re.compile(rb"\)\]\}|while\s*\(|for\s*\(\s*;\s*;|throw\b|\{\}\s*&&|/\*-secure-")
"""What is put before JSON so that no other site can read it as a script."""
_CALL = re.compile(rb"(?:\s|/\*[^*]*\*/|;)*(?:typeof\s+([\w$.\[\]'\"]+)\s*={2,3}[^&]{1,24}&&\s*)?([\w$.\[\]'\"]+)\s*\(")

_DATA = re.compile(rb"[ \t\r\n]*(?:\[[ \t\r\n]*)?\{[ \t\r\n]*\"")
"""An argument that is JSON: who writes scripts puts no quotes around names that need none, and who shortens them even
less."""


class Held:
    """The body of one answer."""

    def __init__(self, answer: Answer, limit: int, target: bytes) -> None:
        """`target` is the request's: a script that calls a function named there is data for that function."""
        self.answer = answer
        self.raw = bytearray()
        """What came so far; not a list of pieces, of which each may be a single byte."""
        self._limit = limit
        self._target = target
        self._plain = bytearray() if answer.coding else self.raw
        self._start = b""
        """What it begins with, without what may stand between the tokens of JSON there."""
        self._inflater = Inflater(answer.coding) if answer.coding else None
        self._json = answer.kind in (Kind.JSON, Kind.LINES)

    def feed(self, data: bytes) -> bool:
        """The next bytes. True: the answer may pass, what is held first. Raises Unreadable."""
        self.raw += data
        if self._inflater is None:
            self._look(data)
        else:
            for piece in self._inflater.pieces(data):
                self._plain += piece
                self._look(piece)
                if len(self._plain) > self._limit:
                    break
        if not self._json and self._passes(ended=False):
            return True
        if max(len(self.raw), len(self._plain)) > self._limit:
            raise Unreadable("larger than the limit")
        return False

    def end(self) -> bytes | None:
        """The body is complete: decoded, if it is JSON, or else None: it may pass. Raises Unreadable."""
        if not self.raw:
            return None
        if not self._json and self._passes(ended=True):
            return None
        if self._inflater is not None:
            self._inflater.end()
        return bytes(self._plain)

    def _look(self, piece: bytes) -> None:
        start = self._start
        if self._json or len(start) >= FIRST_OF_SCRIPT:
            return
        piece = piece.replace(b"\0", b"")
        if not start:
            piece = piece.lstrip(SKIPPED)
            start, piece = piece[:1], piece[1:]
        if start in (b"{", b"["):
            piece = piece.lstrip(SKIPPED)
        self._start = start + piece[: FIRST_OF_SCRIPT - len(start)]

    def _passes(self, *, ended: bool) -> bool:
        """It is no JSON, and nothing that may hold any. Raises Unreadable for what may."""
        start = self._start
        script = self.answer.script
        needed = FIRST_OF_SCRIPT if script else FIRST if not start or start[0] in SUSPECT else 1
        if not ended and len(start) < needed:
            return False
        if _GUARDED.match(start):
            raise Unreadable("JSON behind a guard")
        if _JSON.match(start):
            self._json = True
            return False
        if script and self._called(start):
            raise Unreadable("JSON within a call")
        if self.answer.kind is Kind.UNKNOWN:
            raise Unreadable("of a type that is neither JSON nor let pass")
        return True

    def _called(self, start: bytes) -> bool:
        """It is a call of one function with data, or of one that the request names (JSONP)."""
        call = _CALL.match(start)
        if call is None:
            return False
        if _DATA.match(start, call.end()):
            return True
        query = self._target.partition(b"?")[2]
        values = {unquote_to_bytes(pair.partition(b"=")[2].replace(b"+", b" ")) for pair in query.split(b"&")} - {b""}
        return call[2] in values or call[1] in values
