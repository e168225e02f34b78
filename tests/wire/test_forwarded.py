"""Client addresses behind trusted proxies."""

import pytest

from zt_proxy.worker.wire.forwarded import TrustedNetworks, client_address

PROXIES = TrustedNetworks(("192.0.2.0/24", "2001:db8::/32"))


@pytest.mark.case("ZT-HDR-10")
def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_says() -> None:
    assert client_address("203.0.113.5", [b"10.0.0.1"], PROXIES) == "203.0.113.5"
    assert client_address("192.0.2.1", [b"10.0.0.1"], TrustedNetworks()) == "192.0.2.1"


@pytest.mark.case("ZT-HDR-11")
@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([], "192.0.2.1"),
        ([b"10.0.0.1, 203.0.113.9"], "203.0.113.9"),
        ([b"10.0.0.1", b"203.0.113.9"], "203.0.113.9"),
        ([b"10.0.0.1, 203.0.113.9, 192.0.2.7"], "203.0.113.9"),
        ([b"10.0.0.1,192.0.2.7"], "10.0.0.1"),
        ([b"192.0.2.8, 192.0.2.7"], "192.0.2.8"),
        ([b"10.0.0.1, unknown, 192.0.2.7"], "192.0.2.7"),
        ([b"10.0.0.1, , 192.0.2.7"], "192.0.2.7"),
        ([b"10.0.0.1, \xff"], "192.0.2.1"),
        ([b"203.0.113.9:4711"], "203.0.113.9"),
        ([b"10.0.0.1, [2001:db9::1]:99"], "2001:db9::1"),
        ([b"10.0.0.1, 2001:DB9:0::1"], "2001:db9::1"),
        ([b"10.0.0.1, ::ffff:203.0.113.9"], "203.0.113.9"),
        ([b"203.0.113.9, ::ffff:192.0.2.3, 2001:db8::5"], "203.0.113.9"),
        ([b"fe80::1%eth0"], "192.0.2.1"),
        ([b"010.0.0.1"], "192.0.2.1"),
        ([b"10.0.0.1, " + b"192.0.2.9, " * 100 + b"192.0.2.9"], "192.0.2.9"),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_not_trusted(values: list[bytes], client: str) -> None:
    assert client_address("192.0.2.1", values, PROXIES) == client


def test_a_mapped_peer_is_its_ipv4_address() -> None:
    assert client_address("::ffff:192.0.2.1", [], PROXIES) == "192.0.2.1"
    assert client_address("::ffff:192.0.2.1", [b"203.0.113.9"], PROXIES) == "203.0.113.9"
    assert TrustedNetworks(("::ffff:10.0.0.0/104",)).contains("10.1.2.3")


def test_what_is_no_address_is_in_no_network() -> None:
    everything = TrustedNetworks(("0.0.0.0/0", "::/0"))
    assert everything.contains("10.0.0.1")
    assert everything.contains("::1")
    for text in ("", "unix:", "fe80::1%eth0", "10.0.0", "x"):
        assert not everything.contains(text)
    with pytest.raises(ValueError):
        TrustedNetworks(("10.0.0.0/99",))
