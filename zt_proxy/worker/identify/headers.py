"""The identity headers that the proxy adds to a permitted request, and the names that no client may send.

The assertion is always there. A route may ask for a *preset* beside it, for platforms that know nothing better than a
plain name in a header; such a platform must be reachable through the proxy alone, or check the shared secret.

Names are compared *folded*: lower case, with `_` and `.` as `-`. CGI and WSGI, and many frameworks after them, cannot
tell `X_ZT_Assertion` from `X-ZT-Assertion`, and the platform would see the client's (ZT-HDR-01 and its kin).
"""

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.session import Machine, Session
from zt_proxy.worker.identify.assertion import PLAIN, AssertionSigner, Signed, Statement
from zt_proxy.worker.settings import RouteSettings
from zt_proxy.worker.wire.hygiene import fold

ASSERTION = b"X-ZT-Assertion"

_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_SAFE_IN_LIST = _SAFE.replace(",", "")

Value = Callable[[Session | Machine], str | None]


def header_text(value: str, safe: str = _SAFE) -> str:
    """A value as printable ASCII: everything else, `%`, and spaces at the ends as percent-encoded UTF-8.

    `urllib.parse.unquote` and `decodeURIComponent` give the value back. Spaces at the ends would be dropped by every
    HTTP parser (RFC 9110 §5.5), and `admins ` would arrive as `admins`.
    """
    inner = value.strip(" ")
    if not inner:
        return "%20" * len(value)
    left = len(value) - len(value.lstrip(" "))
    right = len(value) - left - len(inner)
    # A lone surrogate is no text, but it must not become some other person's name either.
    return "%20" * left + quote(inner, safe=safe, errors="surrogatepass") + "%20" * right


def _subject(session: Session | Machine) -> str | None:
    return header_text(session.principal.subject)


def _email(session: Session | Machine) -> str | None:
    email = session.principal.email
    return header_text(email) if email else None


def _name(session: Session | Machine) -> str | None:
    name = session.principal.name
    return header_text(name) if name else None


def _groups(session: Session | Machine) -> str | None:
    return ",".join(header_text(group, _SAFE_IN_LIST) for group in sorted(session.principal.groups) if group) or None


def _preferred(session: Session | Machine) -> str | None:
    value = session.principal.claims.get("preferred_username")
    return header_text(value) if isinstance(value, str) and value else None


PRESETS: Mapping[str, tuple[tuple[bytes, Value], ...]] = {
    "assertion": (),
    "remote-user": (
        (b"Remote-User", _subject),
        (b"Remote-Email", _email),
        (b"Remote-Name", _name),
        (b"Remote-Groups", _groups),
    ),
    "x-forwarded-user": (
        (b"X-Forwarded-User", _subject),
        (b"X-Forwarded-Email", _email),
        (b"X-Forwarded-Groups", _groups),
        (b"X-Forwarded-Preferred-Username", _preferred),
    ),
    "x-auth-request": (
        (b"X-Auth-Request-User", _subject),
        (b"X-Auth-Request-Email", _email),
        (b"X-Auth-Request-Groups", _groups),
        (b"X-Auth-Request-Preferred-Username", _preferred),
    ),
}
"""Preset → header name and where its value comes from; a value of None or "" leaves the header out (ZT-HDR-04).

The user is the provider's `sub`: `preferred_username` may change hands (OpenID Connect Core §5.7).
"""


_KIN = (
    "auth-user",
    "remote-role",
    "remote-roles",
    "x-auth-email",
    "x-auth-groups",
    "x-auth-request-access-token",
    "x-auth-request-redirect",
    "x-auth-roles",
    "x-auth-user",
    "x-authenticated-email",
    "x-authenticated-groups",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-forwarded-access-token",
    "x-forwarded-id-token",
    "x-forwarded-name",
    "x-forwarded-roles",
    "x-remote-email",
    "x-remote-groups",
    "x-remote-name",
    "x-remote-user",
    "x-webauth-email",
    "x-webauth-groups",
    "x-webauth-name",
    "x-webauth-user",
)
"""Names by which platforms are known to take an identity from a proxy, though no preset sends them."""

RESERVED: frozenset[bytes] = frozenset(
    {fold(ASSERTION)}
    | {fold(name) for preset in PRESETS.values() for name, _ in preset}
    | {name.encode("ascii") for name in _KIN}
)
"""Folded names of the identity headers of all presets, whichever a route uses, and of their kin."""


def reserved_names(routes: Iterable[RouteSettings] = ()) -> frozenset[bytes]:
    """`RESERVED` and the shared-secret headers of these routes, folded; for `wire.hygiene.reserve`.

    They are dropped from every request and its trailers, whichever route it is for.
    """
    secrets = (route.shared_secret_header for route in routes)
    return RESERVED | {fold(secret[0].encode("utf-8")) for secret in secrets if secret is not None}


class IdentityHeaders:
    """The identity headers of one route, compiled: a session goes in, header lines come out.

    Raises ConfigurationError for an unknown preset, and for a shared secret that is no header.
    """

    __slots__ = ("_audience", "_preset", "_route", "_signed", "_signed_for_machine", "_static")

    def __init__(self, route: RouteSettings, signer: AssertionSigner) -> None:
        if route.identity_headers not in PRESETS:
            raise ConfigurationError(f"route {route.name}: no identity headers called {route.identity_headers}")
        self._signed = signer.signed
        self._signed_for_machine = signer.machine
        self._audience = route.audience
        self._route = route.name
        self._preset = PRESETS[route.identity_headers]
        self._static = b""
        if route.shared_secret_header is not None:
            self._static = _secret_line(route.name, *route.shared_secret_header)

    def lines(self, session: Session, statement: Statement = PLAIN) -> bytes:
        """Header lines, each ended with CRLF, to append to the head that goes upstream.

        Raises UnavailableError(CONTROL_UNAVAILABLE) while there is no key to sign with.
        """
        return self.signed(session, statement).lines

    def signed(self, session: Session, statement: Statement = PLAIN) -> Signed:
        """The same with how long it may be sent again; `lines` are made."""
        signed = self._signed(session, self._audience, self._route, statement)
        if not signed.lines:
            self._join(session, signed)
        return signed

    def machine(self, machine: Machine, statement: Statement = PLAIN) -> bytes:
        """The same for an integration: its name goes where a person's would."""
        signed = self._signed_for_machine(machine, self._audience, self._route, statement)
        return signed.lines or self._join(machine, signed)

    def anonymous(self) -> bytes:
        """The lines of a public request: the shared secret, if any, and nobody's identity."""
        return self._static

    def _join(self, session: Session | Machine, signed: Signed) -> bytes:
        lines = [ASSERTION + b": " + signed.token + b"\r\n"]
        for name, value in self._preset:
            text = value(session)
            if text:
                lines.append(name + b": " + text.encode("ascii") + b"\r\n")
        signed.lines = b"".join(lines) + self._static
        return signed.lines


_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _secret_line(route: str, name: str, value: str) -> bytes:
    """RFC 9110 §5.1 and §5.5, strictly; the message never repeats the secret."""
    raw_name, raw_value = name.encode("utf-8"), value.encode("utf-8")
    if not raw_name or not _TOKEN.issuperset(raw_name):
        raise ConfigurationError(f"route {route}: the name of the shared-secret header is not a header name")
    if not raw_value or raw_value != raw_value.strip(b" ") or any(not 0x20 <= byte < 0x7F for byte in raw_value):
        raise ConfigurationError(f"route {route}: the shared secret must be printable ASCII without spaces around it")
    return raw_name + b": " + raw_value + b"\r\n"
