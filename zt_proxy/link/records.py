"""How records lie in a worker's ring: packed by the worker, written out as JSON lines by control.

A payload of the ring is one JSON object, or a sequence of packed records, little-endian without padding:

    C  circumstances: the rest of the payload is the JSON text that ends a decision's object, `"route":"…",…}`
    D  n (8) at (8, double) request id (20) place of its circumstances in the ring (8) length of the path (2), the path
    E  n (8) at (8, double) duration (8, double) request id (20) bytes in (8) out (8) status (2)
    J  length (4), a whole JSON object: what is rarer, or does not fit the others

What a request shares with others is in the ring once, and a request takes 150 bytes of it in place of 600: with those
the ring alone kept the caches of a busy core full, which was seen to cost a request 7 %.
"""

import json
from collections.abc import Callable, Iterator
from struct import Struct
from struct import error as StructError
from typing import Any

import msgspec

from zt_proxy.core.lines import encode_float, printable

VERSION = 1
"""`v` of every record; raised when a field changes its meaning."""
ID_BYTES = 20
"""Bytes of a request id that fits a packed record."""
LONGEST_PATH = 0xFFFF
"""Bytes of a path that fits a packed decision."""
CIRCUMSTANCES, DECISION, END, JSON, OBJECT = b"CDEJ{"

_DECISION = Struct("<BQd20sQH")
_END = Struct("<BQdd20sQQH")
_JSON = Struct("<BI")

DECISION_SIZE, END_SIZE = _DECISION.size, _END.size
unpack_decision, unpack_end = _DECISION.unpack_from, _END.unpack_from
pack_decision = _DECISION.pack
"""(DECISION, n, at, request id, place of the circumstances, length of the path); the path follows."""
pack_end = _END.pack
"""(END, n, at, duration, request id, bytes in, bytes out, status)"""


def pack_json(line: bytes) -> bytes:
    """A record that is a whole JSON object already."""
    return _JSON.pack(JSON, len(line)) + line


def pack_circumstances(text: bytes) -> bytes:
    """What decisions refer to by the place in the ring at which this was written."""
    return b"C" + text


NOWHERE = -(1 << 62)
"""A place in no ring's reach."""


class Circumstances:
    """The part of a decision's record that is the same for every request alike, and where the ring has it."""

    __slots__ = ("place", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.place = NOWHERE


class Noted:
    """What was written out, for whoever watches: the values were unpacked anyway, and nobody has to parse them again.

    The records of one request may be in any of the three, its decisions before its end. The first two are flat: a tuple
    for each record would be one more thing for the collector to follow.
    """

    __slots__ = ("decisions", "ends", "lines")

    def __init__(self) -> None:
        self.decisions: list[Any] = []
        """Of each: request id, path, text of the circumstances (the same object for requests alike), at."""
        self.ends: list[Any] = []
        """Of each: request id, bytes out, at."""
        self.lines: list[bytes] = []
        """Records that did not come packed, or in a payload with some that did not: JSON objects."""

    def __len__(self) -> int:
        return len(self.decisions) // 4 + len(self.ends) // 3 + len(self.lines)


class Unreadable(ValueError):
    """A payload that is not made of records, or that refers to what is not there."""


_Absent = msgspec.UnsetType | msgspec.Raw


class _Theirs(msgspec.Struct, gc=False):
    """What circumstances may not say: the log and the record itself do."""

    seq: _Absent = msgspec.UNSET
    prev: _Absent = msgspec.UNSET
    hash: _Absent = msgspec.UNSET
    type: _Absent = msgspec.UNSET
    v: _Absent = msgspec.UNSET
    worker: _Absent = msgspec.UNSET
    boot: _Absent = msgspec.UNSET
    at: _Absent = msgspec.UNSET
    id: _Absent = msgspec.UNSET
    n: _Absent = msgspec.UNSET
    path: _Absent = msgspec.UNSET


_NOTHING = _Theirs()
_decode_theirs = msgspec.json.Decoder(_Theirs).decode
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
"""What stands in JSON text for itself."""


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _says_nothing_of_theirs(text: bytes) -> bool:
    """It is a JSON object, and without those fields."""
    try:
        return bool(_decode_theirs(text) == _NOTHING)
    except RecursionError:
        return False
    except msgspec.MsgspecError:  # perhaps of a lone surrogate, which stands in lines as its escape
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and value.keys().isdisjoint(_Theirs.__struct_fields__)


class RecordReader:
    """Writes out the packed records of one worker's boot as JSON objects.

    Whoever wrote them may have been anybody: a record comes out as one object of printable ASCII that says of itself
    what is said here, or not at all.

    `at(place)` gives the ring's payload at a place, None if there is none any more.
    """

    __slots__ = ("_at", "_decision", "_end", "_known")

    KNOWN = 8192

    def __init__(self, worker: int, boot: str, at: Callable[[int], bytes | None]) -> None:
        whose = f'"v":{VERSION},"worker":{worker},"boot":"{boot}"'.encode("ascii")
        self._decision = b'"type":"decision",%b,' % whose + b'"at":%b,"id":"%b","n":%d,"path":"%b",%b'
        self._end = b'"type":"end",%b,' % whose + (
            b'"at":%b,"id":"%b","n":%d,"status":%d,"bytes_in":%d,"bytes_out":%d,"duration":%b'
        )
        self._at = at
        self._known: dict[int, bytes] = {}

    def write_out(self, payload: bytes, after: int, out: list[bytes], noted: Noted) -> int | None:
        """Append the text between the braces of each record to `out`, its values to `noted`, and give the last number.

        For the usual payload: packed records whose numbers go on from `after`. None, and nothing appended, for another
        one: look at it with `lines`.
        """
        position, size, begun = 0, len(payload), len(out)
        decisions, ends = noted.decisions, noted.ends
        before = len(decisions), len(ends)
        known, n = self._known, after
        try:
            while position < size:
                kind = payload[position]
                if kind == END:
                    _, n, at, duration, name, received, sent, status = unpack_end(payload, position)
                    position += END_SIZE
                    if name.translate(None, _PLAIN):
                        break
                    out.append(self._end % (encode_float(at), name, n, status, received, sent, encode_float(duration)))
                    ends += (name, sent, at)
                elif kind == DECISION:
                    _, n, at, name, place, length = unpack_decision(payload, position)
                    start = position + DECISION_SIZE
                    position = start + length
                    path = payload[start:position]
                    if (name + path).translate(None, _PLAIN):
                        break
                    rest = known.get(place) or self._circumstances(place)
                    out.append(self._decision % (encode_float(at), name, n, path, rest))
                    decisions += (name, path, rest, at)
                elif kind == CIRCUMSTANCES and position == 0:
                    return after
                else:
                    break
                after += 1
                if n != after:
                    break
            if position == size and n == after:
                return n
        except (StructError, Unreadable):
            pass  # whoever reads it with `lines` hears of it
        del out[begun:], decisions[before[0] :], ends[before[1] :]
        return None

    def lines(self, payload: bytes) -> Iterator[tuple[int, bytes]]:
        """(n, JSON object) of each record; n is 0 for a record that came as JSON and names its own.

        Raises Unreadable where the payload stops making sense; what came before it has been given by then.
        """
        position, size = 0, len(payload)
        try:
            while position < size:
                kind = payload[position]
                if kind == END:
                    _, n, at, duration, name, received, sent, status = _END.unpack_from(payload, position)
                    position += _END.size
                    if name.translate(None, _PLAIN):
                        raise Unreadable("an id with what is no text in JSON")
                    text = self._end % (encode_float(at), name, n, status, received, sent, encode_float(duration))
                    yield n, b"{%b}" % text
                elif kind == DECISION:
                    _, n, at, name, place, length = _DECISION.unpack_from(payload, position)
                    start = position + _DECISION.size
                    position = start + length
                    if position > size:
                        break
                    path = payload[start:position]
                    if (name + path).translate(None, _PLAIN):
                        raise Unreadable("an id or path with what is no text in JSON")
                    rest = self._known.get(place) or self._circumstances(place)
                    text = self._decision % (encode_float(at), name, n, path, rest)
                    yield n, b"{%b}" % text
                elif kind == JSON:
                    _, length = _JSON.unpack_from(payload, position)
                    position += _JSON.size + length
                    if position > size:
                        break
                    yield 0, payload[position - length : position]
                elif kind == CIRCUMSTANCES and position == 0:
                    return
                else:
                    raise Unreadable(f"no record begins with byte {kind}")
        except StructError as error:
            raise Unreadable(str(error)) from error
        if position > size:
            raise Unreadable("a record is longer than its payload")

    def _circumstances(self, place: int) -> bytes:
        payload = self._at(place)
        if payload is None or payload[:2] != b'C"' or payload[-1:] != b"}" or b"\n" in payload:
            raise Unreadable(f"no circumstances at {place}")
        if not (printable(payload) and _says_nothing_of_theirs(b"{" + payload[1:])):
            raise Unreadable(f"not the circumstances of a decision at {place}")
        if len(self._known) >= self.KNOWN:
            self._known.clear()
        text = self._known[place] = payload[1:-1]
        return text
