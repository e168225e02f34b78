"""Our cookies: found once, never passed on, never set by an app."""

import pytest

from zt_proxy.worker.wire.cookies import clear_cookie, is_own_set_cookie, set_cookie, take

OWN = frozenset((b"__Host-zt", b"__Host-zt-login"))


@pytest.mark.parametrize(
    ("header", "found", "rest"),
    [
        (b"", {}, b""),
        (b"a=1; b=2", {}, b"a=1; b=2"),
        (b"__Host-zt=v", {b"__Host-zt": b"v"}, b""),
        (b"__Host-zt=v; a=1", {b"__Host-zt": b"v"}, b"a=1"),
        (b"a=1; __Host-zt=v; b=2", {b"__Host-zt": b"v"}, b"a=1; b=2"),
        (b"a=1;__Host-zt=v=w;b", {b"__Host-zt": b"v=w"}, b"a=1;b"),
        (b"__Host-zt=v; __Host-zt-login=l", {b"__Host-zt": b"v", b"__Host-zt-login": b"l"}, b""),
        (b"__Host-zt=v; ", {b"__Host-zt": b"v"}, b""),
        (b"x__Host-zt=v; __Host-ztx=w", {}, b"x__Host-zt=v; __Host-ztx=w"),
        (b'q="a\xff  b" ;  c=__Host-zt', {}, b'q="a\xff  b" ;  c=__Host-zt'),
    ],
)
def test_own_cookies_are_cut_out_and_the_rest_is_untouched(
    header: bytes, found: dict[bytes, bytes], rest: bytes
) -> None:
    assert take(header, OWN) == (found, rest, False)


@pytest.mark.case("ZT-SESS-01")
@pytest.mark.parametrize(
    "other",
    [b"__Host-zt=w", b"__host-zt=w", b"__HOST-ZT=w", b"__Host-zt =w", b"\t__Host-zt=w", b"=__Host-zt=w", b"__Host-zt"],
)
def test_a_second_spelling_counts_as_repeated_and_goes_nowhere(other: bytes) -> None:
    found, rest, repeated = take(b"a=1; __Host-zt=v; " + other + b"; b=2", OWN)
    assert (found, rest, repeated) == ({b"__Host-zt": b"v"}, b"a=1; b=2", True)


@pytest.mark.case("ZT-SESS-01")
def test_a_foreign_spelling_alone_is_no_session() -> None:
    assert take(b"__host-zt=v", OWN) == ({}, b"", True)


def test_a_header_too_long_for_the_cache_is_read_the_same() -> None:
    filler = b"a=" + b"x" * 5000
    assert take(filler + b"; __Host-zt=v", OWN) == ({b"__Host-zt": b"v"}, filler, False)


@pytest.mark.case("ZT-SESS-02")
def test_set_cookie_has_the_attributes_of_a_host_cookie() -> None:
    assert set_cookie(b"__Host-zt", b"v") == b"__Host-zt=v; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert set_cookie(b"__Host-zt", b"v", max_age=60).split(b"; ")[2] == b"Max-Age=60"


@pytest.mark.case("ZT-SESS-02")
@pytest.mark.parametrize(
    ("name", "value"),
    [(b"zt", b"v"), (b"__Host-", b"v"), (b"__Host-z t", b"v"), (b"__Host-zt", b"a;b"), (b"__Host-zt", b"a b"),
     (b"__Host-zt", b"v\r\nX: y"), (b"__Host-zt", b"v" * 4096)],
)  # fmt: skip
def test_set_cookie_refuses_what_a_browser_would_not_keep(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError):
        set_cookie(name, value)


@pytest.mark.case("ZT-SESS-05")
def test_clearing_uses_the_same_attributes() -> None:
    attributes = set(set_cookie(b"__Host-zt", b"v").split(b"; ")[1:])
    cleared = clear_cookie(b"__Host-zt").split(b"; ")
    assert cleared[0] == b"__Host-zt="
    assert set(cleared[1:]) == attributes | {b"Max-Age=0"}


@pytest.mark.case("ZT-APP-03")
@pytest.mark.case("ZT-HDR-18")
@pytest.mark.parametrize(
    "value",
    [b"__Host-zt=x", b"__host-zt=x; Path=/", b" __Host-zt=x", b"__Host-zt =x", b"=__Host-zt=x", b" = __Host-zt=x",
     b"__HOST-ZT-LOGIN=", b"__Host-zt", b"\t__Host-zt\t=x", b"==__Host-zt=x; Domain=example.com"],
)  # fmt: skip
def test_an_app_cannot_set_our_cookie(value: bytes) -> None:
    assert is_own_set_cookie(value, OWN)


@pytest.mark.parametrize("value", [b"a=1", b"a=__Host-zt", b"__Host-ztx=1", b"", b"a=1; __Host-zt=x"])
def test_an_app_sets_its_own_cookies(value: bytes) -> None:
    assert not is_own_set_cookie(value, OWN)
