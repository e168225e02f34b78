"""TLS termination without a transport: the context is chosen before the handshake begins.

A throw-away SSLObject reads the ClientHello for its server name, and the right context then gets the same bytes.
Contexts are never switched in `sni_callback`: the certificate follows such a switch, but verify mode and CRL flags do
not, and a ticket of one name then resumes at another (ZT-TLS-03, ZT-TLS-30).

Where terms ask for a client certificate, TLS proves that the client holds the key and that the chain leads to one of
the authorities of those terms. It does not look at the time and knows no revocation lists: whoever fails there gets an
alert, which says nothing and leaves no record. `identify.certificate` judges the rest, and answers.
"""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.worker.edge.hello import offers_tls13
from zt_proxy.worker.identify.certificate import NameKey, read_certificate
from zt_proxy.worker.identify.integrations import ClientTerms
from zt_proxy.worker.settings import CertificateSettings, ClientCertificateSettings, ListenerSettings

MAX_HELLO = 32 * 1024
"""Bytes of a ClientHello, larger than any real one with post-quantum key shares."""
ALPN = ("http/1.1",)
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the ssl module does not name."""
_DER = 2
"""`ENCODING_DER` of the ssl module's own certificates."""


class Terms:
    """What a server name gets: its context, the names its certificate covers (lower case, maybe `*.x`), and what is
    asked of the client (None: nothing)."""

    __slots__ = ("client", "context", "names", "older")

    def __init__(
        self,
        context: ssl.SSLContext,
        names: tuple[str, ...],
        client: ClientTerms | None = None,
        older: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.context = context
        self.names = names
        self.client = client
        self.older = older
        """Makes a context for one connection that does not offer TLS 1.3; None: `context` serves those too."""

    def covers(self, name: str) -> bool:
        """RFC 6125 §6.4.3: a wildcard stands for exactly one left-most label."""
        return name in self.names or "*." + name.partition(".")[2] in self.names

    def context_for(self, hello: bytes) -> ssl.SSLContext:
        """The context for a connection that begins with these bytes."""
        if self.older is None or offers_tls13(hello):
            return self.context
        return self.older()


class _Names:
    """Things by server name: exact names first, then wildcards of one label, then what is for all others."""

    __slots__ = ("exact", "other", "wild")

    def __init__(self, other: int) -> None:
        self.exact: dict[str, int] = {}
        self.wild: dict[str, int] = {}
        self.other = other

    def add(self, names: Iterable[str], index: int) -> None:
        """The first that is added for a name stays."""
        for name in names:
            if name.startswith("*."):
                self.wild.setdefault(name[2:], index)
            else:
                self.exact.setdefault(name, index)

    def find(self, name: str | None) -> int:
        if name is None:
            return self.other
        found = self.exact.get(name)
        if found is None:
            found = self.wild.get(name.partition(".")[2])
        return self.other if found is None else found

    def samples(self) -> set[str]:
        """A name of every kind that these tables tell apart."""
        return {*self.exact, *(f"\0.{base}" for base in self.wild)}


class TermsTable:
    """The terms of one listener, by server name: which certificate it gets, and what the client is asked for."""

    __slots__ = ("_certificates", "_clients", "_peek", "_seen", "_terms", "default")

    def __init__(self, settings: ListenerSettings) -> None:
        if not settings.certificates:
            raise ConfigurationError(f"listener {settings.name}: no certificate")
        self._certificates = _Names(0)
        for index, certificate in enumerate(settings.certificates):
            self._certificates.add(certificate.names, index)
        clients = settings.client_certificates
        self._clients = _Names(next((index for index, one in enumerate(clients) if not one.hosts), -1))
        for index, one in enumerate(clients):
            self._clients.add(one.hosts, index)
        asked = [_Authorities(one) for one in clients]
        self._terms: dict[tuple[int, int], Terms] = {}
        # Every pair that some name leads to is made now: nothing is read from a disk once connections come.
        for name in (None, *self._certificates.samples(), *self._clients.samples()):
            pair = (self._certificates.find(name), self._clients.find(name))
            if pair not in self._terms:
                certificate = settings.certificates[pair[0]]
                authorities = asked[pair[1]] if pair[1] >= 0 else None
                self._terms[pair] = _make_terms(certificate, settings.minimum_tls, authorities)
        self.default = self.choose(None)
        self._seen: list[str | None] = []
        self._peek = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._peek.sni_callback = self._note

    def choose(self, name: str | None) -> Terms:
        """The terms for a server name, None when the client sent none."""
        return self._terms[self._certificates.find(name), self._clients.find(name)]

    @property
    def asks(self) -> bool:
        """Somebody is asked for a client certificate here."""
        return any(terms.client is not None for terms in self._terms.values())

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


def asked_at(listener: ListenerSettings, name: str) -> bool:
    """Whether a client of this server name is asked for a certificate at a listener."""
    wild = "*." + name.partition(".")[2]
    return any(not one.hosts or name in one.hosts or wild in one.hosts for one in listener.client_certificates)


class _Authorities:
    """A file of authorities, read once: as OpenSSL takes them, and as chains are judged by them."""

    __slots__ = ("client", "der")

    def __init__(self, settings: ClientCertificateSettings) -> None:
        try:
            found = x509.load_pem_x509_certificates(settings.ca.read_bytes())
            ders = [one.public_bytes(Encoding.DER) for one in found]
            facts = [read_certificate(der) for der in ders]
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{settings.ca}: {error}") from error
        if not all(one.authority for one in facts):
            raise ConfigurationError(f"{settings.ca} holds a certificate that is no authority's")
        keys: dict[NameKey, set[bytes]] = {}
        for one in facts:
            keys.setdefault(one.subject_key, set()).add(one.key)
        self.der = b"".join(ders)
        self.client = ClientTerms(str(settings.ca), keys, required=settings.required, revocation=settings.revocation)


def _make_terms(certificate: CertificateSettings, minimum: str, asked: _Authorities | None) -> Terms:
    if asked is None:
        return Terms(server_context(certificate, minimum), certificate.names)
    context = _asking(_context("1.3"), asked)
    _load(context, certificate.chain, certificate.key)
    older = None if minimum == "1.3" else _OlderContexts(certificate, asked)
    return Terms(context, certificate.names, asked.client, older)


def server_context(certificate: CertificateSettings, minimum: str) -> ssl.SSLContext:
    """A server context of its own for one certificate. Raises ConfigurationError if chain and key do not load."""
    context = _context(minimum)
    context.num_tickets = 1  # each context has ticket keys of its own: a ticket resumes nowhere else (ZT-TLS-03)
    _load(context, certificate.chain, certificate.key)
    return context


def _context(minimum: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(ALPN))
    return context


def _asking(context: ssl.SSLContext, asked: _Authorities) -> ssl.SSLContext:
    """Ask for a certificate of these authorities; whoever has none is told so by an answer, not by an alert.

    No tickets, so that nothing resumes: every connection proves its certificate. Never the system's authorities
    (ZT-TLS-04), and no chain that ends before a root.
    """
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_verify_locations(cadata=asked.der)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags = ssl.VerifyFlags(
        ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags(NO_CHECK_TIME)
    )
    return context


class _OlderContexts:
    """Contexts that ask for a certificate over TLS 1.2, one for each connection.

    Without tickets TLS 1.2 resumes by session ids, from a cache in the context that cannot be switched off from
    Python, and what is resumed shows no certificate. A cache that ends with its connection resumes nothing. Chain and
    key lie in an anonymous file in memory meanwhile: what is on the disk may change, and is not to be waited for.
    """

    __slots__ = ("_asked", "_file")

    def __init__(self, certificate: CertificateSettings, asked: _Authorities) -> None:
        self._asked = asked
        self._file = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(self._file), "wb") as file:
                file.write(certificate.chain.read_bytes() + b"\n" + certificate.key.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{certificate.chain} with {certificate.key}: {error}") from error
        self()  # what cannot be used is to be known now

    def __call__(self) -> ssl.SSLContext:
        context = _asking(_context("1.2"), self._asked)
        held = Path(f"/proc/self/fd/{self._file}")
        _load(context, held, held)
        return context

    def __del__(self) -> None:
        file = getattr(self, "_file", -1)
        if file >= 0:
            os.close(file)


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

    def chain(self) -> tuple[bytes, ...]:
        """The client's chain as it was proven, DER, leaf first and root last; empty if it showed no certificate.

        Raises ssl.SSLError for a session that was resumed, which proves no chain.
        """
        inner: Any = getattr(self._tls, "_sslobj", self._tls)
        if self._tls.session_reused:
            raise ssl.SSLError("resumed where a certificate is asked for")
        return tuple(one.public_bytes(_DER) for one in inner.get_verified_chain() or ())
