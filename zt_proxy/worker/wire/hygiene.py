"""Which header is what: one table, consulted once per header name (RFC 9110 §7.6.1, CVE-2025-64484, CVE-2025-48865).

A name is classified once and remembered under its exact bytes, so that a request costs one dict look-up per header.
Reserved names are compared after folding case and the separators `-`, `_` and `.`, because CGI-like platforms fold them
too and an alias would otherwise arrive as the identity header itself.
"""

from enum import IntEnum

_FOLD = bytes.maketrans(b"_.", b"--")


def fold(name: bytes) -> bytes:
    """A header name as CGI and its descendants see it: lower case, `_` and `.` as `-`."""
    return name.lower().translate(_FOLD)


class Kind(IntEnum):
    """What a request header is to the proxy. FORWARD and DROP need nothing noted."""

    FORWARD = 0
    DROP = 1
    HOST = 2
    COOKIE = 3
    CONTENT_LENGTH = 4
    TRANSFER_ENCODING = 5
    CONNECTION = 6
    UPGRADE = 7
    EXPECT = 8
    AUTHORIZATION = 9
    FORWARDED_FOR = 10
    # noted and forwarded
    ORIGIN = 11
    FETCH_SITE = 12
    FETCH_MODE = 13
    FETCH_DEST = 14
    ACCEPT = 15
    REQUESTED_WITH = 16
    USER_AGENT = 17
    WS_KEY = 18
    WS_VERSION = 19
    PURPOSE = 20
    PREFLIGHT_METHOD = 21
    WS_EXTENSIONS = 22
    REFERER = 23
    SERVICE_WORKER = 24


SLOTS = len(Kind)
FIRST_NOTED_AND_FORWARDED = int(Kind.ORIGIN)

SINGLE = frozenset(
    int(kind)
    for kind in (
        Kind.HOST,
        Kind.CONTENT_LENGTH,
        Kind.ORIGIN,
        Kind.FETCH_SITE,
        Kind.FETCH_MODE,
        Kind.FETCH_DEST,
        Kind.AUTHORIZATION,
        Kind.WS_KEY,
        Kind.WS_VERSION,
        Kind.EXPECT,
        Kind.UPGRADE,
    )
)
"""A second one of these makes a request ambiguous: 400."""

_NOTED = {
    b"host": Kind.HOST,
    b"cookie": Kind.COOKIE,
    b"content-length": Kind.CONTENT_LENGTH,
    b"transfer-encoding": Kind.TRANSFER_ENCODING,
    b"connection": Kind.CONNECTION,
    b"upgrade": Kind.UPGRADE,
    b"expect": Kind.EXPECT,
    b"authorization": Kind.AUTHORIZATION,
    b"x-forwarded-for": Kind.FORWARDED_FOR,
    b"origin": Kind.ORIGIN,
    b"sec-fetch-site": Kind.FETCH_SITE,
    b"sec-fetch-mode": Kind.FETCH_MODE,
    b"sec-fetch-dest": Kind.FETCH_DEST,
    b"accept": Kind.ACCEPT,
    b"x-requested-with": Kind.REQUESTED_WITH,
    b"user-agent": Kind.USER_AGENT,
    b"sec-websocket-key": Kind.WS_KEY,
    b"sec-websocket-version": Kind.WS_VERSION,
    b"sec-websocket-extensions": Kind.WS_EXTENSIONS,
    b"sec-purpose": Kind.PURPOSE,
    b"access-control-request-method": Kind.PREFLIGHT_METHOD,
    b"referer": Kind.REFERER,
    b"service-worker": Kind.SERVICE_WORKER,
}

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"proxy-status",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"proxy",  # httpoxy, CVE-2016-5385
    )
)

_RESERVED = frozenset(
    (
        # where the request came from: rebuilt, never believed
        b"forwarded",
        b"x-real-ip",
        b"true-client-ip",
        b"client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"x-appengine-user-ip",
        b"front-end-https",
        b"x-request-id",
        # what the request asks for: the request line alone says (CVE-2023-27487)
        b"x-original-url",
        b"x-original-uri",
        b"x-rewrite-url",
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        # who asks: the proxy alone says, whatever preset the route uses
        b"remote-user",
        b"remote-email",
        b"remote-name",
        b"remote-groups",
        b"x-remote-user",
        b"x-remote-groups",
        b"x-user",
        b"x-email",
        b"x-groups",
    )
)
_RESERVED_PREFIXES = (b"x-forwarded-", b"x-zt-", b"zt-", b"x-auth-", b"x-envoy-", b"x-authenticated-")

REMEMBERED = 4096
"""Header names whose kind is remembered, for each direction. When full it starts anew: made-up names would else keep
real ones out for good."""
REMEMBERED_NAME = 64
"""Longer names are never remembered."""
KNOWN: dict[bytes, int] = {}
_extra_reserved: set[bytes] = set()


def reserve(names: frozenset[bytes]) -> None:
    """Add header names (any case) that clients may not send, such as a route's shared-secret header."""
    _extra_reserved.update(fold(name) for name in names)
    KNOWN.clear()


def is_reserved(name: bytes) -> bool:
    """True if a name, after folding, is the proxy's own."""
    folded = fold(name)
    return folded in _RESERVED or folded in _extra_reserved or folded.startswith(_RESERVED_PREFIXES)


def _remember(known: dict[bytes, int], name: bytes, kind: int) -> None:
    if len(name) <= REMEMBERED_NAME:
        if len(known) >= REMEMBERED:
            known.clear()
        known[name] = kind


def classify(name: bytes) -> int:
    """The Kind of a request header, as an int; remembered."""
    kind = KNOWN.get(name)
    if kind is None:
        lower = name.lower()
        folded = fold(name)
        noted = _NOTED.get(lower)
        if noted is not None:
            kind = int(noted)
        elif folded in HOP_BY_HOP or folded in _NOTED or is_reserved(name):
            kind = int(Kind.DROP)  # `Content_Length` and its like, too: to a CGI-like platform they are the real ones
        else:
            kind = int(Kind.FORWARD)
        _remember(KNOWN, name, kind)
    return kind


class ResponseKind(IntEnum):
    """What a response header of the platform is to the proxy."""

    FORWARD = 0
    DROP = 1
    SET_COOKIE = 2
    CONTENT_LENGTH = 3
    TRANSFER_ENCODING = 4
    CONNECTION = 5
    UPGRADE = 6
    SERVICE_WORKER_ALLOWED = 7
    WS_ACCEPT = 8
    WS_EXTENSIONS = 9


_RESPONSE = {
    b"set-cookie": ResponseKind.SET_COOKIE,
    b"content-length": ResponseKind.CONTENT_LENGTH,
    b"transfer-encoding": ResponseKind.TRANSFER_ENCODING,
    b"connection": ResponseKind.CONNECTION,
    b"upgrade": ResponseKind.UPGRADE,
    b"service-worker-allowed": ResponseKind.SERVICE_WORKER_ALLOWED,
    b"sec-websocket-accept": ResponseKind.WS_ACCEPT,
    b"sec-websocket-extensions": ResponseKind.WS_EXTENSIONS,
}
_RESPONSE_DROP = frozenset(
    (
        b"clear-site-data",  # would sign the person out of the proxy (ZT-APP-03)
        b"alt-svc",  # would lead the browser around the proxy
        b"nel",  # Network Error Logging would report every address at this host, also /.zt/resume with its code
        b"x-request-id",
    )
)
_RESPONSE_DROP_PREFIXES = (b"x-zt-", b"zt-", b"access-control-")

KNOWN_RESPONSE: dict[bytes, int] = {}


def classify_response(name: bytes) -> int:
    """The ResponseKind of a response header, as an int; remembered."""
    kind = KNOWN_RESPONSE.get(name)
    if kind is None:
        lower = name.lower()
        noted = _RESPONSE.get(lower)
        if noted is not None:
            kind = int(noted)
        elif lower in HOP_BY_HOP or lower in _RESPONSE_DROP or fold(name).startswith(_RESPONSE_DROP_PREFIXES):
            kind = int(ResponseKind.DROP)
        else:
            kind = int(ResponseKind.FORWARD)
        _remember(KNOWN_RESPONSE, name, kind)
    return kind


def without_named(lines: list[bytes], connection: bytes) -> list[bytes]:
    """Header lines without those that the Connection header lists (RFC 9110 §7.6.1)."""
    named = {token.strip().lower() for token in connection.split(b",")} - {b"close", b"keep-alive", b"upgrade", b""}
    if not named:
        return lines
    return [line for line in lines if line.partition(b":")[0].lower() not in named]
