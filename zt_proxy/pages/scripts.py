"""The scripts of the pages as they are handed out, and the small window's last page; importable by a worker.

`/.zt/session.js?v=…` names the bytes by their SHA-256: an address with the right version never changes.
"""

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from pathlib import Path

from zt_proxy.pages.style import STYLE, STYLE_HASH, TICK, guard_headers

Headers = tuple[tuple[bytes, bytes], ...]

_STATIC = Path(__file__).parent.joinpath("static")


@dataclass(frozen=True, slots=True)
class Script:
    """A script's bytes, and what names them."""

    body: bytes
    version: str
    """The first 16 hexadecimal digits of the SHA-256, for `?v=`."""
    integrity: str
    """`sha256-…` in base64: a source of Content-Security-Policy, and Subresource Integrity."""

    @property
    def etag(self) -> bytes:
        return b'"%b"' % self.version.encode()


def _script(name: str) -> Script:
    body = _STATIC.joinpath(name).read_bytes()
    digest = hashlib.sha256(body).digest()
    return Script(body, digest.hex()[:16], "sha256-" + base64.b64encode(digest).decode())


SESSION_JS = _script("session.js")
SESSION_JS_URL = f"/.zt/session.js?v={SESSION_JS.version}"
"""What a page loads, from its own host."""

SCRIPT_HEADERS: Headers = (
    (b"content-type", b"text/javascript; charset=utf-8"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""For every script; without Cache-Control and ETag, which depend on the request."""

_CONFIRMED_JS = _STATIC.joinpath("confirmed.js").read_text("utf-8").strip()
_CONFIRMED_HASH = "sha256-" + base64.b64encode(hashlib.sha256(_CONFIRMED_JS.encode()).digest()).decode()


def confirmed_headers() -> Headers:
    """Of `confirmed_page`: its one script and the style are admitted by their hashes, nothing else."""
    policy = (
        f"default-src 'none'; script-src '{_CONFIRMED_HASH}'; style-src '{STYLE_HASH}'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {**guard_headers(), "Content-Security-Policy": policy, "Content-Type": "text/html; charset=utf-8"}
    return tuple((name.lower().encode(), value.encode()) for name, value in headers.items())


def confirmed_page(host: str) -> bytes:
    """Where the small window ends: it tells the tabs of `host` to look again, and closes. Who asks by hand reads it."""
    name = escape(host)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n<meta name="robots" content="noindex">\n'
        f"<title>Confirmed · {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<main class="yes">\n<p class="site">{TICK}<span>{name}</span></p>\n<h1>Confirmed</h1>\n'
        "<p>You can close this window. What you were doing goes on in the other one.</p>\n</main>\n"
        f"<script>{_CONFIRMED_JS}</script>\n</body>\n</html>\n"
    ).encode()
