"""The proxy's places on an app's host that need nobody: the helper script and the small window's last page.

A worker answers them itself, before it asks who is there: they are the same for everybody, and tell nothing.
"""

from dataclasses import dataclass

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.http import Target
from zt_proxy.pages.scripts import SCRIPT_HEADERS, SESSION_JS, confirmed_headers, confirmed_page
from zt_proxy.worker.gateway import browser
from zt_proxy.worker.upstream.permit import InternalPlace, internal
from zt_proxy.worker.wire.head import RequestHead

FOREVER = b"private, max-age=31536000, immutable"
"""For an address that names these very bytes."""
ASK_AGAIN = b"private, no-cache"
"""For any other: a page that names no version, or one of before an upgrade, gets the script that fits this proxy."""

_SCRIPT = InternalPlace.SESSION_JS.value.encode()
_CONFIRMED = InternalPlace.CONFIRMED.value.encode()
_PLACES = frozenset((_SCRIPT, _CONFIRMED))
_VERSION = b"v=" + SESSION_JS.version.encode()
_CONFIRMED_HEADERS = confirmed_headers()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a place says: status, headers in lower case without Content-Length, body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def answer(host: str, target: Target, head: RequestHead) -> Answer | None:
    """The answer to a request at an app's host; None if the place is none of these, or does not take the method.

    Raises ClientError(SERVICE_WORKER_REFUSED, 403) for who would install the script as a worker of `/.zt/`.
    """
    path = target.path
    if path not in _PLACES or internal(path, head.method, portal=False) is None or head.websocket:
        return None
    if path == _CONFIRMED:
        return Answer(200, _CONFIRMED_HEADERS, confirmed_page(host))
    if browser.is_for_worker(head):
        raise ClientError(Reason.SERVICE_WORKER_REFUSED, "the helper script is for documents", status=403)
    kept = FOREVER if target.query == _VERSION else ASK_AGAIN
    headers = (*SCRIPT_HEADERS, (b"cache-control", kept), (b"etag", SESSION_JS.etag))
    if _has(head, SESSION_JS.etag):
        return Answer(304, headers, b"")
    return Answer(200, headers, SESSION_JS.body)


def _has(head: RequestHead, etag: bytes) -> bool:
    """Does the browser have these bytes (RFC 9110 §13.1.2)? By weak comparison, as that section asks."""
    for line in head.lines:
        if line[:14].lower() == b"if-none-match:":
            named = line[14:].strip()
            return named == b"*" or etag in (each.strip().removeprefix(b"W/") for each in named.split(b","))
    return False
