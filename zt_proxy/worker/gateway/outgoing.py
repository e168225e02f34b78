"""The request as it goes upstream: what the client may say, and what only the proxy says."""

import base64
import re

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.http import Target
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.routes import Route
from zt_proxy.worker.wire.head import RequestHead
from zt_proxy.worker.wire.hygiene import Kind

AUTHORIZATION = int(Kind.AUTHORIZATION)
PROXY_CREDENTIAL = re.compile(rb"(?:^|[^A-Za-z0-9_\-])zt_", re.IGNORECASE)
"""Begins a credential that is for the proxy and nobody else (ZT-HDR-20)."""

EXTENSIONS = b"sec-websocket-extensions:"
"""Left out where messages are read: nobody looks into compressed ones (RFC 7692)."""


def request_head(x: Exchange, route: Route, target: Target, identity: bytes) -> bytes:
    """The head for the platform, blank line included. `identity` are the lines that say who asks."""
    if route.strip_prefix:
        target = stripped(target, route.prefix)
    path = target.path if target.query is None else target.wire()
    way = x.way
    if way is None:
        middle = _middle(x, route)
    else:
        middle = way.middle
        if not middle:
            middle = way.middle = _middle(x, route)
    return b"%b %b%b%b\r\n%b\r\n" % (x.head.method, path, middle, x.id, identity)


def _middle(x: Exchange, route: Route) -> bytes:
    """Everything between the path and the request id: what follows from the head, the route and the client alone."""
    head = x.head
    own_host = x.host.encode()
    host = own_host if route.preserve_host else route.upstream_host
    helper = route.helper
    lines = head.lines if helper is None else helper.request_lines(head)
    if head.websocket and route.profile is not None and route.profile.reads_messages:
        lines = [line for line in lines if not line.lower().startswith(EXTENSIONS)]
    parts = [b" HTTP/1.1\r\nHost: %b\r\n" % host, *lines]
    if x.rest_cookies:
        parts.append(b"Cookie: %b\r\n" % x.rest_cookies)
    if route.forward_authorization:
        authorization = head.noted[AUTHORIZATION]
        if authorization is not None and not is_for_the_proxy(authorization):
            parts.append(b"Authorization: %b\r\n" % authorization)
    if not head.ordinary:
        parts.append(_framing(head))
    parts.append(
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: %b\r\nX-Request-Id: "
        % (x.client.encode(), own_host)
    )
    return b"".join(parts)


def _framing(head: RequestHead) -> bytes:
    """How the body, or the tunnel, that follows is announced."""
    if head.websocket:
        return b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    if head.chunked:
        return b"Transfer-Encoding: chunked\r\n"
    if head.content_length or head.method in (b"POST", b"PUT", b"PATCH"):
        return b"Content-Length: %d\r\n" % head.content_length
    return b""


def is_for_the_proxy(authorization: bytes) -> bool:
    """A credential of the proxy's own, under whatever scheme, and also inside Basic (RFC 7617)."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme.lower() == b"basic":
        try:
            authorization = base64.b64decode(rest.strip())
        except ValueError:
            return False
    return PROXY_CREDENTIAL.search(authorization) is not None


def portal_head(x: Exchange, target: Target, identity: bytes, cookie: bytes) -> bytes:
    """The head for the portal behind its private socket; it alone sees the proxy's own cookies."""
    head = x.head
    parts = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (head.method, target.wire(), x.host.encode())]
    parts += head.lines
    if cookie:
        parts.append(b"Cookie: %b\r\n" % cookie)
    if head.chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif head.content_length or head.method == b"POST":
        parts.append(b"Content-Length: %d\r\n" % head.content_length)
    parts.append(b"X-Request-Id: %b\r\nX-ZT-Assertion: %b\r\n\r\n" % (x.id, identity))
    return b"".join(parts)


def keep_head(x: Exchange, identity: bytes, cookie: bytes, handoff: bytes) -> bytes:
    """The head under which a form goes to the portal to be kept: what it said of itself, and the sealed hand-off."""
    head = x.head
    parts = [b"POST /.zt/keep HTTP/1.1\r\nHost: %b\r\n" % x.host.encode(), *head.lines]
    parts.append(
        b"Cookie: %b\r\nContent-Length: %d\r\nX-Request-Id: %b\r\nX-ZT-Assertion: %b\r\nZT-Handoff: %b\r\n\r\n"
        % (cookie, head.content_length, x.id, identity, handoff)
    )
    return b"".join(parts)


def stripped(target: Target, prefix: bytes) -> Target:
    """The target without a prefix of whole segments; what is left begins with `/` (ZT-PATH-20)."""
    rest = target.path[len(prefix.rstrip(b"/")) :]
    if rest and not rest.startswith(b"/"):
        raise ClientError(Reason.PATH_UNKNOWN, "the prefix is not a whole segment", status=404)
    return Target(rest or b"/", target.query)
