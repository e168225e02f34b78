"""The proxy's own cookies, in both directions: taken out of requests, made for responses, kept from the app.

A cookie of ours never goes upstream, an app never sets one, and two of the same name are worth none (ZT-SESS-01,
ZT-SESS-02, ZT-SESS-05, ZT-APP-03; RFC 6265bis §4.1.3, §5.6).
"""

import re
from collections.abc import Mapping
from functools import lru_cache

_CACHED_LENGTH = 2048
_NAME = re.compile(rb"__Host-[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[!#-+\--:<-\[\]-~]*")  # cookie-octet, RFC 6265 §4.1.1
_PADDING = bytes(range(0x21)) + b"\x7f"
_NONE: Mapping[bytes, bytes] = {}

Taken = tuple[Mapping[bytes, bytes], bytes, bool]


def take(header: bytes, own: frozenset[bytes]) -> Taken:
    """Cut our cookies out of a Cookie header: (found, rest, repeated). Do not change `found`, it may be shared.

    `header` is the whole of it: several Cookie lines are joined with `; ` first. `found` has the first value of each
    exact name of `own`; `rest` is what goes upstream, byte for byte, b"" if nothing is left. `repeated` is True when a
    name of ours occurs more than once or in another spelling (case, padding, nameless `=name=value`): such spellings
    come from no browser that this proxy gave a cookie to, but some platforms read them as ours. They are cut out too.
    """
    if len(header) > _CACHED_LENGTH:
        return _take(header, own)
    return _take_cached(header, own)


def _take(header: bytes, own: frozenset[bytes]) -> Taken:
    folded_own = _folded(own)
    folded = header.lower()
    if not any(name in folded for name in folded_own):
        return _NONE, header, False
    found: dict[bytes, bytes] = {}
    rest: list[bytes] = []
    repeated = False
    for part in header.split(b";"):
        if _spelled_name(part) not in folded_own:
            rest.append(part)
            continue
        name, mark, value = part.removeprefix(b" ").partition(b"=")
        if mark and name in own and name not in found:
            found[name] = value.strip(b" \t")
        else:
            repeated = True
    remaining = b";".join(rest).lstrip(b" ")
    return found, remaining if remaining.strip(b" \t;") else b"", repeated


_take_cached = lru_cache(maxsize=1024)(_take)


@lru_cache(maxsize=64)
def _folded(own: frozenset[bytes]) -> frozenset[bytes]:
    return frozenset(name.lower() for name in own)


def _spelled_name(pair: bytes) -> bytes:
    """The name of a cookie pair as the most forgiving reader would take it."""
    return pair.lstrip(_PADDING + b"=").partition(b"=")[0].rstrip(_PADDING).lower()


def set_cookie(name: bytes, value: bytes, *, max_age: int | None = None) -> bytes:
    """Value of a Set-Cookie header for a cookie of ours; without `max_age` (seconds) it ends with the browser.

    Raises ValueError for a name without `__Host-`, bytes that need quoting, and more than the 4096 bytes browsers keep.
    """
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError("not a name or value for a __Host- cookie")
    age = b"" if max_age is None else b"; Max-Age=%d" % max_age
    line = name + b"=" + value + b"; Path=/" + age + b"; Secure; HttpOnly; SameSite=Lax"
    if len(line) > 4096:
        raise ValueError("cookie longer than 4096 bytes")
    return line


def clear_cookie(name: bytes) -> bytes:
    """Value of a Set-Cookie header that removes it: browsers heed it only with the attributes it was set with."""
    return set_cookie(name, b"", max_age=0)


def is_own_set_cookie(value: bytes, own: frozenset[bytes]) -> bool:
    """True if an upstream's Set-Cookie could be stored or read under a name of ours, however it is spelled."""
    return _spelled_name(value.partition(b";")[0]) in _folded(own)
