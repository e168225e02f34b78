"""Kernel messages and Streamlit's protobuf, read as the platforms read them, and never in two ways."""

import contextlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.config.profiles import load_profile
from zt_proxy.core.errors import ClientError
from zt_proxy.core.types import Action
from zt_proxy.policy.actions import Profile
from zt_proxy.policy.message_readers import read_message
from zt_proxy.policy.profile_spec import Encoding

JUPYTER = Profile(load_profile("jupyterlab"))
STREAMLIT = Profile(load_profile("streamlit"))


def kernel(kind, *, channel="shell", content=None, buffers=(), protocol="v1"):
    """A message to a kernel as JupyterLab's client writes it, and whether it is text."""
    message = {"header": {"msg_type": kind}, "parent_header": {}, "metadata": {}, "content": content or {}}
    if protocol == "text":
        return json.dumps({"channel": channel, **message}).encode(), True
    if protocol == "buffers":
        parts = [json.dumps({"channel": channel, **message}).encode(), *buffers]
        at = [4 * (len(parts) + 1)]
        for part in parts[:-1]:
            at.append(at[-1] + len(part))
        return struct.pack(f"!{len(parts) + 1}I", len(parts), *at) + b"".join(parts), False
    parts = [channel.encode(), *(json.dumps(part).encode() for part in message.values()), *buffers]
    at = [8 * (len(parts) + 2)]
    for part in parts:
        at.append(at[-1] + len(part))
    return struct.pack(f"<{len(parts) + 2}Q", len(parts) + 1, *at) + b"".join(parts), False


def field(number, value=None):
    """One field of protobuf: bytes, or the varint 1."""
    key = number << 3 | (0 if value is None else 2)
    return varint(key) + (b"\x01" if value is None else varint(len(value)) + value)


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return out + bytes((number,))


@pytest.mark.parametrize("protocol", ["text", "buffers", "v1"])
@pytest.mark.parametrize(
    ("kind", "content", "action"),
    [
        ("execute_request", {"code": "1"}, Action.BUILD),
        ("kernel_info_request", {}, Action.VIEW),
        ("complete_request", {"code": "pri"}, Action.USE),
        ("comm_msg", {}, Action.USE),
        ("debug_request", {"command": "debugInfo"}, Action.VIEW),
        ("debug_request", {"command": "evaluate"}, Action.BUILD),
        ("input_reply", {"value": "os.system('x')"}, Action.BUILD),
        ("something_new", {}, Action.BUILD),
    ],
)
def test_a_kernel_message_means_the_same_in_every_protocol(protocol, kind, content, action):
    payload, text = kernel(
        kind, content=content, buffers=(b"\x00", b"") if protocol != "text" else (), protocol=protocol
    )
    assert JUPYTER.message(payload, text, "kernel-channels").action is action


@given(st.binary(max_size=400), st.booleans())
def test_what_cannot_be_read_is_never_less_than_code(payload, text):
    act = JUPYTER.message(payload, text, "kernel-channels")
    assert act.refused or act.action in {Action.BUILD}


@given(st.data(), st.sampled_from(["text", "buffers", "v1"]))
def test_no_bent_message_that_runs_code_passes_for_a_harmless_one(data, protocol):
    payload, text = kernel("execute_request", content={"code": "x"}, protocol=protocol)
    bent = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        bent[data.draw(st.integers(0, len(bent) - 1))] = data.draw(st.integers(0, 255))
    act = JUPYTER.message(bytes(bent), text, "kernel-channels")
    assert act.refused or act.action is Action.BUILD


def test_a_kernel_message_that_names_its_type_twice_is_refused():
    parts = (b'{"msg_type": "kernel_info_request", "msg_type": "execute_request"}', b"{}", b"{}", b"{}")
    at = [8 * 7]
    for part in (b"shell", *parts):
        at.append(at[-1] + len(part))
    payload = struct.pack("<7Q", 6, *at) + b"shell" + b"".join(parts)
    assert JUPYTER.message(payload, False, "kernel-channels").refused


@pytest.mark.parametrize(
    "change",
    [
        lambda at: [at[0] + 1, *at[1:]],
        lambda at: [at[0], at[2], at[1], *at[3:]],
        lambda at: [*at[:-1], at[-1] + 1],
        lambda at: [at[0], at[0], *at[2:]],
    ],
)
def test_parts_of_a_kernel_message_may_not_overlap_or_leave_gaps(change):
    payload, _ = kernel("kernel_info_request")
    count, *at = struct.unpack("<7Q", payload[:56])
    with pytest.raises(ClientError):
        read_message(Encoding.JUPYTER, struct.pack("<7Q", count, *change(at)) + payload[56:], False)


@pytest.mark.parametrize(
    ("payload", "action", "matcher"),
    [
        (field(11, b""), Action.USE, "rerun"),
        (field(11, field(4, b"settings") + field(2, b"\xff\xff")), Action.USE, "rerun-page"),
        (field(5), Action.BUILD, "clear-cache"),
        (field(7), Action.USE, "stop"),
        (field(16, b"x"), Action.USE, "upload-addresses"),
        (field(17), Action.USE, "heartbeat"),
        (field(19, field(1, b"id") + field(2, b"s") + field(3, b"")), Action.EXPORT, "deferred-download"),
        (field(19, field(1, b"id") + field(4, b"")), Action.BUILD, "install-skills"),
        (field(19, field(1, b"id") + field(6, b"")), Action.USE, "rows"),
    ],
)
def test_a_streamlit_message_is_known_by_its_type(payload, action, matcher):
    act = STREAMLIT.message(payload, False, "stream")
    assert (act.action, act.matcher) == (action, matcher)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        field(15),
        field(99),
        field(11, b"") + field(5),
        field(5) + field(5),
        field(19, field(3, b"") + field(4, b"")),
        field(19, field(1, b"id")),
        field(19),
        field(11, b"\x0a"),
        b"\x5b",
        b"\x5a\x05x",
        b"\xff" * 11,
    ],
)
def test_a_streamlit_message_of_no_type_or_of_several_is_refused(payload):
    assert STREAMLIT.message(payload, False, "stream").refused


def test_a_text_message_to_streamlit_is_refused():
    assert STREAMLIT.message(field(7), True, "stream").refused


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload):
    for encoding in Encoding:
        with contextlib.suppress(ClientError):
            read_message(encoding, payload, False)
