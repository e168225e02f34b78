"""What a Content-Security-Policy allows, by the algorithms of CSP Level 3: an oracle that shares nothing with the proxy.

assert allows(b"script-src 'self'", Script("https://app.test/a.js"), "https://app.test")
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

CHAINS = {
    "script-elem": ("script-src-elem", "script-src", "default-src"),
    "script-attr": ("script-src-attr", "script-src", "default-src"),
    "eval": ("script-src", "default-src"),
    "worker": ("worker-src", "child-src", "script-src", "default-src"),
    "frame": ("frame-src", "child-src", "default-src"),
    "connect": ("connect-src", "default-src"),
    "style": ("style-src-elem", "style-src", "default-src"),
    "img": ("img-src", "default-src"),
    "font": ("font-src", "default-src"),
    "object": ("object-src", "default-src"),
    "manifest": ("manifest-src", "default-src"),
}
_HOST = re.compile(
    r"(?:([a-z][a-z0-9+.\-]*)://)?(\*|(?:\*\.)?[a-z0-9\-]+(?:\.[a-z0-9\-]+)*)(?::(\d+|\*))?(/[^?#]*)?", re.IGNORECASE
)
_NONCE_OR_HASH = re.compile(r"'(?:nonce|sha256|sha384|sha512)-[A-Za-z0-9+/_\-]+={0,2}'", re.IGNORECASE)
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_UPGRADES = {"http": {"https"}, "ws": {"wss", "http", "https"}, "wss": {"https"}}


@dataclass(frozen=True)
class Use:
    """Something a page wants: `kind` is a key of CHAINS; inline uses have no URL."""

    kind: str
    url: str = ""
    nonce: str = ""
    hash: str = ""
    parser_inserted: bool = True


def allows(header: bytes, use: Use, origin: str) -> bool:
    """True if every policy of the header value allows the use in a page of `origin`."""
    return all(_allows(policy.decode("latin-1"), use, origin) for policy in header.split(b","))


def directives(policy: str) -> dict[str, list[str]]:
    """The directives of one policy (§2.2.1): the first of each name, none with other than ASCII."""
    found: dict[str, list[str]] = {}
    for each in policy.split(";"):
        words = [word for word in re.split(r"[\t\n\f\r ]+", each) if word]
        if words and each.isascii():
            found.setdefault(words[0].lower(), words[1:])
    return found


def _allows(policy: str, use: Use, origin: str) -> bool:
    found = directives(policy)
    sources = next((found[name] for name in CHAINS[use.kind] if name in found), None)
    if sources is None:
        return True
    lower = [source.lower() for source in sources]
    if use.kind == "eval":
        return "'unsafe-eval'" in lower
    if use.kind in {"script-elem", "script-attr", "style"}:
        return _element(use, sources, lower, origin)
    return _url(sources, use.url, origin)


def _element(use: Use, sources: list[str], lower: list[str], origin: str) -> bool:
    scripts = use.kind != "style"
    if use.kind != "script-attr":
        if use.nonce and any(each.lower().startswith("'nonce-") and each[7:-1] == use.nonce for each in sources):
            return True
        if use.hash and f"'{use.hash}'" in sources:
            return True
    elif use.hash and "'unsafe-hashes'" in lower and f"'{use.hash}'" in sources:
        return True
    strict = scripts and "'strict-dynamic'" in lower
    if not use.url:  # inline (§6.7.3.2)
        return "'unsafe-inline'" in lower and not strict and not any(map(_NONCE_OR_HASH.fullmatch, sources))
    if strict:
        return not use.parser_inserted
    return _url(sources, use.url, origin)


def _url(sources: list[str], url: str, origin: str) -> bool:
    return any(_matches(source, url, origin) for source in sources)


def _matches(source: str, url: str, origin: str) -> bool:
    parts, own = urlsplit(url), urlsplit(origin)
    if source == "*":
        return parts.scheme in {"http", "https", "ws", "wss"}
    if source.lower() == "'self'":
        return (parts.scheme, parts.hostname, _port(url)) == (own.scheme, own.hostname, _port(origin))
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.\-]*:", source):
        return _scheme(source[:-1].lower(), parts.scheme)
    found = _HOST.fullmatch(source)
    if found is None:
        return False
    scheme, host, port, path = found.groups()
    if not _scheme(scheme.lower() if scheme else own.scheme, parts.scheme):
        return False
    name = parts.hostname or ""
    if host.startswith("*"):
        if host != "*" and not name.endswith(host[1:].lower()):
            return False
    elif host.lower() != name:
        return False
    default = _PORTS[parts.scheme]
    if port is None:
        if _port(url) != default:
            return False
    elif port != "*" and int(port) != _port(url):
        return False
    if path and path != "/":
        return parts.path.startswith(path) if path.endswith("/") else parts.path == path
    return True


def _scheme(wanted: str, given: str) -> bool:
    return wanted == given or given in _UPGRADES.get(wanted, ())


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _PORTS[parts.scheme]
