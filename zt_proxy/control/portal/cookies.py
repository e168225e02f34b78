"""The two cookies, read and written strictly.

A name that comes twice is as good as none: one of the two was planted, and nobody can say which (ZT-SESS-01).
"""

import hashlib
import secrets

from aiohttp import web

from zt_proxy.core.keys import b64decode, b64encode

_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


def read_cookie(request: web.BaseRequest, name: str) -> str | None:
    """The value of a cookie that came exactly once; None otherwise.

    Only the white space of RFC 6265 is taken off. `str.strip` would take a no-break space off a name, too, and such a
    name is no `__Host-` name to a browser: any neighbouring host could plant it here (ZT-SESS-01).
    """
    found = [
        value.strip(" \t")
        for line in request.headers.getall("Cookie", ())
        for key, equals, value in (pair.partition("=") for pair in line.split(";"))
        if equals and key.lstrip(" \t") == name
    ]
    return found[0] if len(found) == 1 else None


def set_cookie(name: str, value: str, max_age: float | None = None) -> str:
    """A Set-Cookie line. `__Host-` asks for exactly these attributes and no Domain (RFC 6265bis §4.1.3.2)."""
    age = "" if max_age is None else f"; Max-Age={int(max_age)}"
    return f"{name}={value}; {_ATTRIBUTES}{age}"


def clear_cookie(name: str) -> str:
    """Removes it: the same name and attributes, else a `__Host-` cookie stays (ZT-SESS-05)."""
    return f"{name}=; {_ATTRIBUTES}; Max-Age=0"


def browser_of(login_cookie: str) -> bytes:
    """SHA-256 of the cookie's text: the browser, as hand-offs and transactions know it."""
    return hashlib.sha256(login_cookie.encode("utf-8", "surrogateescape")).digest()


def new_login_cookie() -> str:
    return b64encode(secrets.token_bytes(32))


def is_login_cookie(value: str) -> bool:
    """Whether it looks like one of ours; anything else is replaced, so that nobody can choose a short one."""
    try:
        return len(b64decode(value)) == 32
    except ValueError:
        return False
