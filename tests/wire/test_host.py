"""Host values by table."""

import pytest

from zt_proxy.core.errors import MalformedRequest
from zt_proxy.worker.wire.host import host_name, normalise_host


@pytest.mark.case("ZT-PATH-15")
@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"app.example", "app.example"),
        (b"a.B.example", "a.b.example"),
        (b"app.example.", "app.example"),
        (b"APP.EXAMPLE:443", "app.example"),
        (b"app.example.:443", "app.example"),
        (b"app.example:8443", "app.example:8443"),
        (b"app.example:08443", "app.example:8443"),
        (b"app.example:", "app.example"),
        (b"my_app", "my_app"),
        (b"192.0.2.1:80", "192.0.2.1:80"),
        (b"[::1]", "[::1]"),
        (b"[0:0::0001]:443", "[::1]"),
        (b"[2001:DB8::1]:8443", "[2001:db8::1]:8443"),
    ],
)
def test_one_spelling_of_a_host(value: bytes, host: str) -> None:
    assert normalise_host(value) == host
    assert normalise_host(host.encode()) == host


@pytest.mark.case("ZT-PATH-17")
@pytest.mark.parametrize(
    "value",
    [b"", b"a,b", b"a, b", b"user@h", b"h/path", b"h:99999", b"h:0", b"h:-1", b"h:4x", b"[::1", b"::1", b"[::1]x", b"[1]",
     b"a b", b"a\n", b"\xc3\xa9.ex", b".", b".a", b"a..b", b"a..", b"a:1:2", b"h?x", b"h#x", b"a\\b", b"a%2e", b"[::1%25e]",
     b"a" * 256, b"*.ex", b"http://h"],
)  # fmt: skip
def test_anything_but_one_host_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedRequest) as refusal:
        normalise_host(value)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("host", "name"), [("a.ex", "a.ex"), ("a.ex:8443", "a.ex"), ("[::1]", "[::1]"), ("[::1]:8443", "[::1]")]
)
def test_the_name_is_the_host_without_its_port(host: str, name: str) -> None:
    assert host_name(host) == name
