"""Zones contain exactly the addresses that their networks contain."""

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.policy.geo import Address, Zones

V4 = st.builds(lambda n, p: f"{IPv4Address(n)}/{p}", st.integers(0, 2**32 - 1), st.integers(0, 32))
V6 = st.builds(lambda n, p: f"{IPv6Address(n)}/{p}", st.integers(0, 2**128 - 1), st.integers(0, 128))
ADDRESSES = st.builds(IPv4Address, st.integers(0, 2**32 - 1)) | st.builds(IPv6Address, st.integers(0, 2**128 - 1))
NAMED = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.lists(V4 | V6, max_size=4).map(tuple)), max_size=5)


@given(NAMED, ADDRESSES, st.data())
def test_an_address_is_in_the_zones_whose_networks_contain_it(
    zones: list[tuple[str, tuple[str, ...]]], anywhere: Address, data: st.DataObject
) -> None:
    networks = [(name, ip_network(text, strict=False)) for name, texts in zones for text in texts]
    inside = [network[data.draw(st.integers(0, network.num_addresses - 1))] for _, network in networks[:3]]
    for address in (anywhere, *inside):
        expected = {name for name, network in networks if address in network}
        assert Zones(zones).of(address) == expected
