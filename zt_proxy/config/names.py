"""Addresses, hosts, origins and upstreams: read once, the same way everywhere."""

import ipaddress
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from zt_proxy.worker.settings import UpstreamSettings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Folder = Callable[[str], Path]
"""Where a path of the file leads; relative ones start at its folder."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)


def is_name(host: str) -> bool:
    """A DNS name, in lower case, without a trailing dot, or an IP address (IPv6 without brackets)."""
    if is_address(host):
        return True
    labels = host.split(".")
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()


def is_address(host: str) -> bool:
    """An IP address, IPv6 without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """`localhost`, a name below it (RFC 6761 §6.3), or a loopback address."""
    if is_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def is_unspecified(host: str) -> bool:
    """`0.0.0.0` or `::`: every address of the machine."""
    return is_address(host) and ipaddress.ip_address(host).is_unspecified


def split(text: str) -> tuple[str, int | None]:
    """Host (lower case, no brackets) and port of `host`, `host:port` or `[v6]:port`. Raises ValueError."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or not is_address(host) or ":" not in host:
            raise ValueError(f"`{text}` is not an IPv6 address in brackets")
    else:
        host, colon, rest = text.partition(":")
        rest = colon + rest
    if rest and not (rest.startswith(":") and rest[1:].isascii() and rest[1:].isdigit() and int(rest[1:]) < 65536):
        raise ValueError(f"`{text}` is not `host` or `host:port`")
    host = host.lower().removesuffix(".")
    if not is_name(host):
        raise ValueError(f"`{text}` has no valid host name")
    return host, int(rest[1:]) if rest else None


def bind(text: str) -> tuple[str, int]:
    """Host and port to bind; the port is needed. Raises ValueError."""
    if text.removeprefix(":").isdigit():
        raise ValueError(f"`{text}` has no host; expected `host:port` such as `0.0.0.0:{text.removeprefix(':')}`")
    host, port = split(text)
    if port is None:
        raise ValueError(f"`{text}` has no port; expected `host:port` such as `0.0.0.0:8443`")
    return host, port


def join(host: str, port: int | None) -> str:
    """As in a Host header: brackets around IPv6, the port unless it is 443 (or None)."""
    name = f"[{host}]" if ":" in host else host
    return name if port in {None, 443} else f"{name}:{port}"


def origin(text: str, schemes: tuple[str, ...] = ("https",)) -> tuple[str, str, int]:
    """Scheme, host and port of an origin URL without a path. Raises ValueError."""
    scheme, _, rest = text.partition("://")
    rest = rest.removesuffix("/")
    if scheme.lower() not in schemes or not rest:
        raise ValueError(f"`{text}` does not begin with {' or '.join(f'`{one}://`' for one in schemes)} and a host")
    if any(character in rest for character in "/?#@\\ "):
        raise ValueError(f"`{text}` is more than an origin; expected scheme, host and port alone")
    host, port = split(rest)
    return scheme.lower(), host, port if port is not None else {"https": 443, "http": 80}[scheme.lower()]


def origin_text(scheme: str, host: str, port: int) -> str:
    """As browsers write it in the Origin header (RFC 6454 §6.2)."""
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + ("" if port == {"https": 443, "http": 80}[scheme] else f":{port}")


def public_host(text: str, portal_port: int) -> tuple[str, int]:
    """Name and port of a route's host; without a port, the portal's. Raises ValueError."""
    if "*" in text:
        raise ValueError(f"`{text}`: wildcard hosts are not built yet")
    if "://" in text or "/" in text:
        raise ValueError(f"`{text}` is a URL; expected the host alone, and the path under `path`")
    host, port = split(text)
    return host, portal_port if port is None else port


def upstream(text: str) -> UpstreamSettings:
    """Where an upstream URL points, with every other setting at its default. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise ValueError(f"`{text}` names no socket; expected `unix:/path.sock`")
        return UpstreamSettings("unix", path=path)
    parts = _parts(text) if "://" in text else None
    if parts is not None and parts.scheme in {"ws", "wss"}:
        raise ValueError(f"`{text}`: write `http` for `ws` (`https` for `wss`); WebSockets need nothing more")
    if parts is not None and parts.scheme in {"http", "https"} and parts.path not in {"", "/"}:
        raise ValueError(f"`{text}` has a path; it is matched by the route's `path`, `strip_prefix` takes it off")
    scheme, host, port = origin(text, ("http", "https"))
    if port == 0:
        raise ValueError(f"`{text}`: port 0 cannot be connected to")
    return UpstreamSettings(scheme, host=host, port=port)


def _parts(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError(f"`{text}` is not a URL") from None


def issuer(text: str) -> tuple[str, str]:
    """Scheme and host of an issuer URL (OpenID Connect Discovery §3: no query, no fragment). Raises ValueError."""
    parts = _parts(text)
    if parts.scheme not in {"https", "http"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"`{text}` is not an issuer URL; expected `https://…`")
    if parts.query or parts.fragment or any(character.isspace() for character in text):
        raise ValueError(f"`{text}`: an issuer has no query and no fragment")
    split(parts.netloc)
    return parts.scheme, parts.hostname


def networks(items: Iterable[str]) -> list[Network]:
    """Raises ValueError for what is not a network."""
    return [network(item) for item in items]


def everyone(items: Iterable[Network]) -> str:
    """`IPv4` or `IPv6` if the networks cover every such address between them, else nothing."""
    four = ipaddress.collapse_addresses(item for item in items if isinstance(item, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(item for item in items if isinstance(item, ipaddress.IPv6Network))
    if any(one.prefixlen == 0 for one in four):
        return "IPv4"
    return "IPv6" if any(one.prefixlen == 0 for one in six) else ""


def network(text: str) -> Network:
    """A network or a single address. Raises ValueError, with the right spelling when host bits are set."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        try:
            right = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"`{text}` is not a network; expected one such as `10.0.0.0/8`") from None
        raise ValueError(f"`{text}` has host bits set; write `{right}`") from None


def prefix(text: str) -> str:
    """A canonical path prefix: `/`, or `/a/b` without a slash at the end."""
    return text.rstrip("/") or "/"
