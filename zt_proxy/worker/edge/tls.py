"""TLS termination without a transport: the context is chosen before the handshake begins.

A throw-away SSLObject reads the ClientHello for its server name, and the right context then gets the same bytes.
Contexts are never switched in `sni_callback`: the certificate follows such a switch, but verify mode and CRL flags do
not, and a ticket of one name then resumes at another (ZT-TLS-03, ZT-TLS-30).
"""

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.worker.settings import CertificateSettings, ListenerSettings

MAX_HELLO = 32 * 1024
"""Bytes of a ClientHello, larger than any real one with post-quantum key shares."""
ALPN = ("http/1.1",)


class Terms:
    """What a server name gets: its context, and the names its certificate covers (lower case, maybe `*.x`)."""

    __slots__ = ("context", "names")

    def __init__(self, context: ssl.SSLContext, names: tuple[str, ...]) -> None:
        self.context = context
        self.names = names

    def covers(self, name: str) -> bool:
        """RFC 6125 §6.4.3: a wildcard stands for exactly one left-most label."""
        return name in self.names or "*." + name.partition(".")[2] in self.names


class TermsTable:
    """The terms of one listener, by server name; exact names first, then wildcards, then the first certificate."""

    __slots__ = ("_exact", "_peek", "_seen", "_wild", "default")

    def __init__(self, settings: ListenerSettings) -> None:
        if not settings.certificates:
            raise ConfigurationError(f"listener {settings.name}: no certificate")
        self._exact: dict[str, Terms] = {}
        self._wild: dict[str, Terms] = {}
        self._seen: list[str | None] = []
        terms = [
            Terms(server_context(certificate, settings.minimum_tls), certificate.names)
            for certificate in settings.certificates
        ]
        self.default = terms[0]
        for each in terms:
            for name in each.names:
                table, key = (self._wild, name[2:]) if name.startswith("*.") else (self._exact, name)
                table.setdefault(key, each)
        self._peek = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._peek.sni_callback = self._note

    def choose(self, name: str | None) -> Terms:
        """The terms for a server name, None when the client sent none."""
        if name is None:
            return self.default
        return self._exact.get(name) or self._wild.get(name.partition(".")[2]) or self.default

    def server_name(self, hello: bytes) -> tuple[bool, str | None]:
        """(complete, name) of the first bytes of a connection.

        Raises ValueError if they cannot become a ClientHello.
        """
        incoming = ssl.MemoryBIO()
        incoming.write(hello)
        self._seen.clear()
        probe = self._peek.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
        try:
            probe.do_handshake()
        except ssl.SSLWantReadError:
            if len(hello) > MAX_HELLO:
                raise ValueError("ClientHello too large") from None
        except ssl.SSLError as error:
            if not self._seen:
                raise ValueError(error.reason or "not TLS") from None
        if not self._seen:
            return False, None
        name = self._seen[0]
        return True, name.lower().removesuffix(".") if name is not None else None

    def _note(self, probe: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int:
        self._seen.append(name)
        return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE


def server_context(certificate: CertificateSettings, minimum: str) -> ssl.SSLContext:
    """A server context of its own for one certificate. Raises ConfigurationError if chain and key do not load."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(ALPN))
    context.num_tickets = 1  # each context has ticket keys of its own: a ticket resumes nowhere else (ZT-TLS-03)
    _load(context, certificate.chain, certificate.key)
    return context


def _load(context: ssl.SSLContext, chain: Path, key: Path) -> None:
    try:
        context.load_cert_chain(chain, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{chain} with {key}: {error}") from error


class TlsEngine:
    """The TLS of one connection: ciphertext in, plaintext out, and the other way.

    What runs for every packet is bound here once to the objects underneath: SSLObject's methods are one-line wrappers.
    """

    __slots__ = ("_tls", "feed", "incoming", "outgoing", "read", "write")

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        """Ciphertext not yet decrypted; `incoming.pending` says how much."""
        outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self.incoming, outgoing, server_side=True)
        inner = getattr(self._tls, "_sslobj", self._tls)
        self.feed: Callable[[bytes], int] = self.incoming.write
        self.outgoing: Callable[[], bytes] = outgoing.read
        self.read: Callable[[int], bytes] = inner.read
        """`read(n)`: up to n plaintext bytes; raises SSLWantReadError when there are none, b"" after close_notify."""
        self.write: Callable[[bytes], int] = inner.write
        """Encrypts; `outgoing()` then gives the ciphertext."""

    def handshake(self) -> bool:
        """True when done, False when more bytes are needed. Raises ssl.SSLError when it failed."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def close(self) -> bytes:
        """The close_notify to send, if it can be made."""
        with contextlib.suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()
        return self.outgoing()

    def version(self) -> str:
        return self._tls.version() or ""
