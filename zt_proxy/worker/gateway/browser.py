"""What a request says of the browser behind it: a navigation or not, of this origin or of another.

Sources: Fetch Metadata (Sec-Fetch-*), RFC 6454 (Origin), CVE class of cross-site WebSocket hijacking (FIELD 24).
"""

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.http import SAFE_METHODS
from zt_proxy.worker.wire.head import RequestHead
from zt_proxy.worker.wire.hygiene import Kind

ORIGIN = int(Kind.ORIGIN)
FETCH_SITE = int(Kind.FETCH_SITE)
FETCH_MODE = int(Kind.FETCH_MODE)
FETCH_DEST = int(Kind.FETCH_DEST)
ACCEPT = int(Kind.ACCEPT)
REQUESTED_WITH = int(Kind.REQUESTED_WITH)
PURPOSE = int(Kind.PURPOSE)
SERVICE_WORKER = int(Kind.SERVICE_WORKER)
PREFLIGHT_METHOD = int(Kind.PREFLIGHT_METHOD)


def is_navigation(head: RequestHead) -> bool:
    """A person is going to look at the answer as a page of its own: it may be a redirect or HTML.

    By Sec-Fetch-Mode; where a browser sends none, by Accept and the absence of X-Requested-With (FIELD 2).
    """
    noted = head.noted
    if head.websocket or noted[PURPOSE] is not None:
        return False
    mode = noted[FETCH_MODE]
    if mode is not None:
        return mode == b"navigate" and noted[FETCH_DEST] in (None, b"document")
    accept = noted[ACCEPT]
    return accept is not None and b"text/html" in accept and noted[REQUESTED_WITH] is None


def may_prompt(head: RequestHead) -> bool:
    """Who sent this could hold it until the person has proven something: not who waits for an upgrade or for events.

    Whether a background request may ask a person at all, the script in the page knows (DESIGN §7).
    """
    accept = head.noted[ACCEPT]
    return not head.websocket and (accept is None or b"text/event-stream" not in accept)


def covers_everything(head: RequestHead, path: bytes) -> bool:
    """The script of a service worker whose scope would be the whole origin, `/.zt/` included (Service Workers §6.1).

    Such a worker could swallow the way back from a sign-in that an attacker began, and send the code out.
    """
    noted = head.noted
    if noted[FETCH_DEST] != b"serviceworker" and noted[SERVICE_WORKER] is None:
        return False
    return path.rfind(b"/") == 0


def is_for_worker(head: RequestHead) -> bool:
    """The script of a worker of any kind, which runs without the document that a helper script is for."""
    return head.noted[SERVICE_WORKER] is not None or head.noted[FETCH_DEST] in (
        b"serviceworker",
        b"sharedworker",
        b"worker",
    )


def is_preflight(head: RequestHead) -> bool:
    """A CORS preflight (Fetch §3.2.2), which browsers send without cookies."""
    return head.method == b"OPTIONS" and head.noted[PREFLIGHT_METHOD] is not None and head.noted[ORIGIN] is not None


def check_origin(head: RequestHead, own: bytes, allowed: frozenset[bytes]) -> None:
    """Refuse what another origin may have caused: upgrades and unsafe methods that ride on a cookie.

    `own` is the app's origin, `allowed` the origins of the route's `cors:`. `same-site` counts as foreign. At least one
    of Origin and Sec-Fetch-Site must be there to speak for the request, and none may speak against it.
    Raises ClientError(CROSS_ORIGIN, 403).
    """
    if head.method in SAFE_METHODS and not head.websocket:
        return
    origin, site = head.noted[ORIGIN], head.noted[FETCH_SITE]
    if origin is not None:
        if origin in allowed:
            return
        if origin != own:
            raise ClientError(Reason.CROSS_ORIGIN, f"origin {origin[:100].decode('latin-1')}", status=403)
    elif head.websocket or site is None:
        raise ClientError(Reason.CROSS_ORIGIN, "no Origin header", status=403)
    if site is not None and site not in (b"same-origin", b"none"):
        raise ClientError(Reason.CROSS_ORIGIN, f"Sec-Fetch-Site {site[:32].decode('latin-1')}", status=403)
