"""WebSocket messages of platforms that do not speak plain JSON, read into the same values as JSON.

Each reads what the platform's own reader would, and refuses what two readers may take for different things.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from zt_proxy.policy.bodies import JsonBody, refused
from zt_proxy.policy.profile_spec import Encoding

_WORD = 8
_MOST_PARTS = 64
_JUPYTER_PARTS = ("header", "parent_header", "metadata", "content")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_BACK_MESSAGES = {
    5: "clear_cache",
    6: "set_run_on_save",
    7: "stop_script",
    11: "rerun_script",
    12: "load_git_info",
    14: "debug_disconnect_websocket",
    15: "debug_shutdown_runtime",
    16: "file_urls_request",
    17: "app_heartbeat",
    19: "backend_operation_request",
}
_OPERATIONS = {3: "deferred_file", 4: "install_skills", 5: "dismiss_skills_nudge", 6: "dataframe_chunk"}
_CLIENT_STATE = {1: "query_string", 3: "page_script_hash", 4: "page_name", 5: "fragment_id"}


def read_message(encoding: Encoding, payload: bytes, text: bool) -> JsonBody:
    """A message of the client as JSON. Raises ClientError(BODY_NOT_INSPECTABLE) when it cannot be read for certain."""
    return _READERS[encoding](payload, text)


def _json(payload: bytes, _: bool) -> JsonBody:
    return JsonBody(payload)


# --- Jupyter: https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html ---


def _jupyter(payload: bytes, text: bool) -> JsonBody:
    """`{channel, header, parent_header, metadata, content}` of a kernel message.

    Text is the default protocol's JSON. Binary is either v1.kernel.websocket.jupyter.org (64-bit little-endian numbers)
    or the default protocol with buffers (32-bit big-endian ones): no message can be both, for the first word of one is
    far too large a count for the other.
    """
    if text:
        return JsonBody(payload)
    count = int.from_bytes(payload[:_WORD], "little")
    if len(payload) >= _WORD and 0 < count <= _MOST_PARTS:
        return _jupyter_v1(payload, count)
    return _jupyter_buffers(payload)


def _jupyter_v1(payload: bytes, count: int) -> JsonBody:
    """Offsets of the channel, of the four parts in JSON, of buffers, and of the end."""
    if count < len(_JUPYTER_PARTS) + 2:
        raise refused("a kernel message without its parts")
    offsets = [int.from_bytes(payload[_WORD * index : _WORD * (index + 1)], "little") for index in range(1, count + 1)]
    if offsets[0] != _WORD * (count + 1) or offsets[-1] != len(payload) or offsets != sorted(offsets):
        raise refused("a kernel message with parts out of order")
    channel, *parts = [payload[begin:end] for begin, end in pairwise(offsets)]
    pairs: list[tuple[str, Any]] = [("channel", _utf8(channel))]
    for name, part in zip(_JUPYTER_PARTS, parts, strict=False):
        if not part:
            raise refused("an empty part of a kernel message")
        pairs.append((name, JsonBody(part).root))
    return JsonBody.of(pairs)


def _jupyter_buffers(payload: bytes) -> JsonBody:
    """A count, that many offsets from the beginning, the message as JSON, and buffers."""
    count = int.from_bytes(payload[:4], "big")
    if len(payload) < 8 or not 0 < count <= _MOST_PARTS:
        raise refused("a binary message that is no kernel message")
    offsets = [int.from_bytes(payload[4 * index : 4 * (index + 1)], "big") for index in range(1, count + 1)]
    offsets.append(len(payload))
    if offsets[0] != 4 * (count + 1) or offsets != sorted(offsets):
        raise refused("a kernel message with parts out of order")
    return JsonBody(payload[offsets[0] : offsets[1]])


# --- Streamlit: proto/streamlit/proto/BackMsg.proto -------------------------------------------------------------------


def _streamlit(payload: bytes, text: bool) -> JsonBody:
    """`{TYPE: …}` of a BackMsg, by the names of its definition: `rerun_script` is what of its ClientState names a page,
    `backend_operation_request` is `{OPERATION: true}`, everything else `true`. A type this does not know is `unknown`.
    """
    if text:
        raise refused("a text message where the platform reads none")
    fields = list(_protobuf(payload))
    if len(fields) != 1:  # all are one `oneof`: of several, the last one counts
        raise refused("a message of several types, or of none")
    number, value = fields[0]
    name = _BACK_MESSAGES.get(number, "unknown")
    if name == "rerun_script":
        state = [(_CLIENT_STATE[key], _utf8(each)) for key, each in _inner(value) if key in _CLIENT_STATE]
        return JsonBody.of([(name, JsonBody.of(state).root)])
    if name == "backend_operation_request":
        asked = [(_OPERATIONS.get(key, "unknown"), True) for key, _ in _inner(value) if key > 2]
        if len(asked) != 1:
            raise refused("several operations in one message, or none")
        return JsonBody.of([(name, JsonBody.of(asked).root)])
    return JsonBody.of([(name, True)])


def _inner(value: bytes | None) -> list[tuple[int, bytes | None]]:
    if value is None:
        raise refused("a message field that holds no message")
    return list(_protobuf(value))


def _protobuf(data: bytes) -> "list[tuple[int, bytes | None]]":
    """Number and, where it has any, bytes of each field, in order (https://protobuf.dev/programming-guides/encoding/)."""
    found: list[tuple[int, bytes | None]] = []
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        value: bytes | None = None
        if wire == _VARINT:
            _, position = _varint(data, position)
        elif wire == _BYTES:
            size, position = _varint(data, position)
            value = data[position : position + size]
            position += size
        elif wire in {_FIXED32, _FIXED64}:
            position += 4 if wire == _FIXED32 else 8
        else:
            raise refused("protobuf that holds a group, or nothing known")
        if not 0 < number < 1 << 29 or position > len(data):
            raise refused("broken protobuf")
        found.append((number, value))
    return found


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise refused("broken protobuf")


def _utf8(value: bytes | None) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError as error:
        raise refused("text that is not UTF-8") from error


_READERS: Mapping[Encoding, Callable[[bytes, bool], JsonBody]] = {
    Encoding.JSON: _json,
    Encoding.JUPYTER: _jupyter,
    Encoding.STREAMLIT: _streamlit,
}
