"""The Host header as routes, sessions and records know it (ZT-PATH-15, ZT-PATH-17; RFC 9110 §7.2, RFC 3986 §3.2.2)."""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

from zt_proxy.core.errors import MalformedRequest, Reason

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)*\.?)(?::([0-9]{0,5}))?")
_LONGEST = 255


@lru_cache(maxsize=2048)
def normalise_host(value: bytes) -> str:
    """Lower case, without one trailing dot and without port 443; an IPv6 address keeps its brackets.

    `value` is the field value without surrounding white space. Raises MalformedRequest for anything but one host
    with an optional port: empty, a list, userinfo, a path, a port beyond 65535, more than 255 bytes.
    """
    parts = _HOST.fullmatch(value) if len(value) <= _LONGEST else None
    if parts is None:
        raise MalformedRequest(Reason.MALFORMED, "Host is not one host name with an optional port")
    name, port = parts[1].decode("ascii").lower(), parts[2]
    if name.startswith("["):
        name = _bracketed(name)
    elif name.endswith("."):
        name = name[:-1]
    if not port:  # none, or a colon with nothing behind it (RFC 3986 §6.2.3)
        return name
    number = int(port)
    if not 0 < number < 65536:
        raise MalformedRequest(Reason.MALFORMED, "Host has a port out of range")
    return name if number == 443 else f"{name}:{number}"


def _bracketed(name: str) -> str:
    try:
        return f"[{IPv6Address(name[1:-1]).compressed}]"
    except AddressValueError:
        raise MalformedRequest(Reason.MALFORMED, "Host is not an IPv6 address in brackets") from None


def host_name(host: str) -> str:
    """A normalised host without its port; an IPv6 address keeps its brackets."""
    name, colon, _ = host.rpartition(":")
    return name if colon and not host.endswith("]") else host


def host_port(host: str) -> int:
    """The port of a normalised host; 443 where none is written."""
    _, colon, port = host.rpartition(":")
    return int(port) if colon and port.isdigit() else 443
