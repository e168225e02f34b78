"""Where a request came from, when proxies in front of this one may be believed (ZT-HDR-10, ZT-HDR-11)."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_MOST_HOPS = 32
_CACHED = 8192
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d{1,5})?|(\d+\.\d+\.\d+\.\d+):\d{1,5}")


def _address(text: str) -> IPv4Address | IPv6Address:
    """Raises ValueError. An IPv4-mapped address (RFC 4291 §2.5.5.2) is the IPv4 address; zones are refused."""
    if "%" in text:
        raise ValueError("an address with a zone")
    address = ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


class TrustedNetworks:
    """Networks by CIDR text. Raises ValueError for text that is not a network."""

    __slots__ = ("_known", "_networks")

    def __init__(self, cidrs: Sequence[str] = ()) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(map(_network, cidrs))
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def contains(self, addr: str) -> bool:
        """True if the address lies in one of the networks; text that is no address lies in none."""
        known = self._known.get(addr)
        if known is None:
            try:
                address = _address(addr)
                known = any(address in network for network in self._networks)
            except ValueError:
                known = False
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[addr] = known
        return known


def _network(cidr: str) -> IPv4Network | IPv6Network:
    network = ip_network(cidr, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


def client_address(peer: str, xff_values: Sequence[bytes], trusted: TrustedNetworks) -> str:
    """Address of the client: the right-most hop that is not a trusted proxy.

    `peer` is the socket's peer (or the PROXY protocol's source), `xff_values` are the X-Forwarded-For field values in
    order of arrival. Goes from right to left and stops at the first hop that is not trusted; a malformed entry ends the
    walk at the last good one, since nothing left of it is vouched for. Beyond 32 hops likewise.
    """
    client = _folded(peer)
    if not xff_values or not trusted or not trusted.contains(peer):
        return client
    hops = b",".join(xff_values).decode("latin-1").rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]
    for hop in reversed(hops):
        try:
            client = _hop(hop.strip(" \t"))
        except ValueError:
            return client
        if not trusted.contains(client):
            return client
    return client


@lru_cache(maxsize=_CACHED)
def _hop(text: str) -> str:
    with_port = _WITH_PORT.fullmatch(text)
    return str(_address(with_port[1] or with_port[2] if with_port else text))


def _folded(peer: str) -> str:
    if ":" not in peer:
        return peer
    try:
        return str(_address(peer))
    except ValueError:
        return peer  # a link-local zone or a unix peer: as the kernel named it
