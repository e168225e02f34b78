"""Chains that a TLS client may show, in the manner of x509-limbo, against the two judges together.

The TLS library proves the chain, `identify.certificate` judges the rest; a chain counts only if both agree. Each row
names the case of x509-limbo that it was modelled on, where there is one. None that has to be refused is accepted.
"""

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tests.lab.certificates import DAY, Authority, Leaf, dsa_key, key_usage, rsa_key
from tests.lab.proxy import APP, CA, trusting_context
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.worker.edge.tls import Terms, TermsTable, TlsEngine
from zt_proxy.worker.identify.certificate import judge_chain, read_certificate
from zt_proxy.worker.settings import CertificateSettings, ClientCertificateSettings, ListenerSettings

NOW = 1_800_000_000.0
CRITICAL = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55738.666.1"), b"\x05\x00")


@dataclass
class Shown:
    """What the client shows, and which authorities the listener has."""

    leaf: Leaf
    trusted: list[Authority] = field(default_factory=list)


def chain(
    *options: dict[str, object], leaf: dict[str, object] | None = None, root: dict[str, object] | None = None
) -> Shown:
    """A root, intermediates with these options, and a leaf."""
    top = Authority("Root", **(root or {}))  # type: ignore[arg-type]
    signer = top
    for number, more in enumerate(options):
        signer = Authority(str(more.pop("name", f"Lower {number}")), signer, **more)  # type: ignore[arg-type]
    return Shown(signer.issue(**(leaf or {"uris": ["urn:crm"]})), [top])  # type: ignore[arg-type]


def constrained(**names: list[x509.GeneralName]) -> dict[str, object]:
    limits = x509.NameConstraints(names.get("permitted"), names.get("excluded"))
    return {"extensions": {x509.NameConstraints: (limits, True)}}


def basic(ca: bool, critical: bool = True) -> dict[str, object]:
    return {"extensions": {x509.BasicConstraints: (x509.BasicConstraints(ca, None), critical)}}


def without(*kinds: type[x509.ExtensionType]) -> dict[str, object]:
    return {"extensions": dict.fromkeys(kinds)}


def eku(*usages: ObjectIdentifier) -> dict[str, object]:
    return {"extensions": {x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage(usages), False)}}


def crossed() -> Shown:
    """The signature of another key under the right names."""
    shown = chain({})
    other = Authority("Lower 0", Authority("Root"))
    leaf = other.issue()
    return Shown(Leaf(leaf.certificate, leaf.key, shown.leaf.chain), shown.trusted)


def only_intermediate_trusted() -> Shown:
    root = Authority("Root")
    lower = Authority("Lower", root)
    leaf = lower.issue()
    return Shown(Leaf(leaf.certificate, leaf.key), [lower])


def reversed_order() -> Shown:
    shown = chain({}, {})
    return Shown(Leaf(shown.leaf.certificate, shown.leaf.key, shown.leaf.chain[::-1]), shown.trusted)


def self_signed(trusted: bool) -> Shown:
    one = Authority("Self", extensions={x509.BasicConstraints: (x509.BasicConstraints(False, None), True), x509.KeyUsage: (key_usage(), True), x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage([Usage.CLIENT_AUTH]), False)})  # fmt: skip
    return Shown(Leaf(one.certificate, one.key), [one if trusted else Authority("Root")])


def leaf_issues() -> Shown:
    """A client that signs certificates for others."""
    root = Authority("Root")
    between = root.issue(subject="CN=Between,O=Example", extensions={x509.KeyUsage: (key_usage(certifies=True), True)})
    fake = Authority("Between", root, key=between.key)
    leaf = fake.issue()
    return Shown(Leaf(leaf.certificate, leaf.key, [between.certificate]), [root])


def with_critical(which: str) -> Shown:
    extension = {"extensions": {x509.UnrecognizedExtension: (CRITICAL, True)}}
    return chain(extension if which == "lower" else {}, leaf=extension if which == "leaf" else None, root=extension if which == "root" else None)  # type: ignore[arg-type]  # fmt: skip


DNS = x509.DNSName
ACCEPTED: dict[str, Callable[[], Shown]] = {
    "a leaf under a root": chain,
    "pathological::intermediates (three)": lambda: chain({}, {}, {}),
    "rfc5280::pathlen::max-chain-depth-0": lambda: chain({"path_length": 0}),
    "rfc5280::pathlen::self-issued-certs-pathlen": lambda: chain({"path_length": 1}, {"path_length": 0}),
    "rfc5280::nc::permitted-dns-match": lambda: chain(
        constrained(permitted=[DNS("example.com")]), leaf={"dns": ["crm.example.com"]}
    ),
    "rfc5280::nc::excluded-dns-match-second": lambda: chain(
        constrained(excluded=[DNS("evil.example")]), leaf={"dns": ["crm.example.com"]}
    ),
    "webpki::eku (client and server)": lambda: chain(leaf={"usages": (Usage.SERVER_AUTH, Usage.CLIENT_AUTH)}),
    "an intermediate for clients": lambda: chain(eku(Usage.CLIENT_AUTH)),
    "an RSA key of 2048 bits": lambda: chain(leaf={"key": rsa_key(2048)}),
    "an Ed25519 key": lambda: chain(leaf={"key": ed25519.Ed25519PrivateKey.generate()}),
    "intermediates in any order (RFC 8446 4.4.2)": reversed_order,
    "no key usage": lambda: chain(leaf=without(x509.KeyUsage)),
}
REFUSED: dict[str, Callable[[], Shown]] = {
    "rfc5280::chain-untrusted-root": lambda: Shown(Authority("Root").issue(), [Authority("Root")]),
    "rfc5280::root-and-intermediate-swapped": only_intermediate_trusted,
    "bettertls::pathbuilding (signature of another key)": crossed,
    "rfc5280::self-signed leaf": lambda: self_signed(False),
    "rfc5280::self-signed leaf as root": lambda: self_signed(True),
    "rfc5280::intermediate-ca-without-ca-bit": lambda: chain(basic(False)),
    "rfc5280::intermediate-ca-missing-basic-constraints": lambda: chain(without(x509.BasicConstraints)),
    "rfc5280::root-non-critical-basic-constraints": lambda: chain(root=basic(True, critical=False)),
    "rfc5280::root-missing-basic-constraints": lambda: chain(root=without(x509.BasicConstraints)),
    "rfc5280::leaf-issues": leaf_issues,
    "rfc5280::ee-critical-extension": lambda: with_critical("leaf"),
    "rfc5280::unknown-critical-extension-intermediate": lambda: with_critical("lower"),
    "rfc5280::unknown-critical-extension-root": lambda: with_critical("root"),
    "rfc5280::pathlen::intermediate-violates-pathlen-0": lambda: chain({"path_length": 0}, {}),
    "rfc5280::pathlen::root-violates": lambda: chain({}, {}, root={"path_length": 1}),
    "rfc5280::nc::permitted-dns-mismatch": lambda: chain(constrained(permitted=[DNS("example.com")]), leaf={"dns": ["crm.example.net"]}),
    "rfc5280::nc::excluded-dns-match": lambda: chain(constrained(excluded=[DNS("example.com")]), leaf={"dns": ["crm.example.com"]}),
    "rfc5280::nc::permitted-uri-mismatch": lambda: chain(constrained(permitted=[x509.UniformResourceIdentifier("example.com")]), leaf={"uris": ["spiffe://example.net/crm"]}),
    "rfc5280::nc::excluded-dn-match": lambda: chain(constrained(excluded=[x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")]))])),
    "rfc5280::nc::not-allowed-in-ee-critical": lambda: chain(leaf=constrained(permitted=[DNS("example.com")])),
    "rfc5280::ca-empty-subject": lambda: chain({"name": ""}),
    "rfc5280::ca-without-keycertsign": lambda: chain({"extensions": {x509.KeyUsage: (key_usage(certifies=False), True)}}),
    "rfc5280::aki::leaf-missing-aki": lambda: chain(leaf=without(x509.AuthorityKeyIdentifier)),
    "rfc5280::aki::intermediate-missing-aki": lambda: chain(without(x509.AuthorityKeyIdentifier)),
    "rfc5280::ski::intermediate-missing-ski": lambda: chain(without(x509.SubjectKeyIdentifier)),
    "rfc5280::validity::notbefore-future": lambda: chain(leaf={"before": 1}),
    "rfc5280::validity::expired-leaf": lambda: chain(leaf={"after": -1}),
    "rfc5280::validity::expired-intermediate": lambda: chain({"after": -1}),
    "rfc5280::validity::expired-root": lambda: chain(root={"after": -1}),
    "webpki::eku::ee-anyeku": lambda: chain(leaf={"usages": (Usage.ANY_EXTENDED_KEY_USAGE,)}),
    "webpki::eku::ee-without-eku": lambda: chain(leaf={"usages": ()}),
    "webpki::eku (server alone)": lambda: chain(leaf={"usages": (Usage.SERVER_AUTH,)}),
    "an intermediate for servers": lambda: chain(eku(Usage.SERVER_AUTH)),
    "rfc5280::leaf-ku-keycertsign": lambda: chain(leaf={"extensions": {x509.KeyUsage: (key_usage(signs=False, certifies=True), True)}}),
    "webpki::ee-basicconstraints-ca": lambda: chain(leaf=basic(True)),
    "webpki::forbidden-weak-rsa-key-in-leaf": lambda: chain(leaf={"key": rsa_key(1024)}),
    "webpki::forbidden-weak-rsa-in-root": lambda: chain({"key": rsa_key(1024)}),
    "webpki::forbidden-dsa-leaf": lambda: chain(leaf={"key": dsa_key()}),
    "webpki::forbidden-p192-leaf (P-224)": lambda: chain(leaf={"key": ec.generate_private_key(ec.SECP224R1())}),
    "rfc5280::san::noncritical-with-empty-subject": lambda: chain(leaf={"subject": "", "extensions": {x509.SubjectAlternativeName: (x509.SubjectAlternativeName([DNS("crm.example.com")]), False)}}),
    "rfc5280::empty subject and no names": lambda: chain(leaf={"subject": ""}),
    "rfc5280::leaf-ku-keycertsign beside signatures": lambda: chain(leaf={"extensions": {x509.KeyUsage: (key_usage(certifies=True), True)}}),
    "a name of the listener's own authority": lambda: _impostor(),
}  # fmt: skip


def _impostor() -> Shown:
    partner, root = Authority("Partner"), Authority("Root")
    return Shown(Authority("Root", partner).issue(), [partner, root])


def table_for(folder: Path, trusted: list[Authority], **terms: object) -> TermsTable:
    site = CA.issue_cert(APP)
    chain_file, key_file, ca = folder / "site.pem", folder / "site.key", folder / "clients.pem"
    chain_file.write_bytes(site.cert_chain_pems[0].bytes())
    key_file.write_bytes(site.private_key_pem.bytes())
    ca.write_bytes(b"".join(one.pem for one in trusted))
    certificate = CertificateSettings(chain_file, key_file, (APP,))
    asked = ClientCertificateSettings(ca, **terms)  # type: ignore[arg-type]
    return TermsTable(ListenerSettings("machines", "127.0.0.1", 0, (certificate,), client_certificates=(asked,)))


def handshake(terms: Terms, client: ssl.SSLContext) -> tuple[bytes, ...]:
    """The chain that was proven. Raises ssl.SSLError when TLS refuses."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client.wrap_bio(incoming, outgoing, server_hostname=APP)
    with suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    hello = outgoing.read()
    engine = TlsEngine(terms.context_for(hello))
    engine.feed(hello)
    for _ in range(8):
        if engine.handshake():
            return engine.chain()
        incoming.write(engine.outgoing())
        with suppress(ssl.SSLWantReadError):
            peer.do_handshake()
        engine.feed(outgoing.read())
    raise AssertionError("the handshake goes nowhere")


def counts(shown: Shown, folder: Path, version: ssl.TLSVersion) -> bool:
    try:
        terms = table_for(folder, shown.trusted).default
    except ConfigurationError:
        return False
    client = shown.leaf.show(trusting_context(), folder)
    client.maximum_version = version
    try:
        proven = handshake(terms, client)
    except ssl.SSLError:
        return False
    assert terms.client is not None
    if not proven:
        return False
    verdict = judge_chain(tuple(map(read_certificate, proven)), terms.client.authorities, None, NOW)
    return verdict.reason is None


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.mark.case("ZT-TLS-05")
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_sound_chain_counts(name: str, tmp_path: Path) -> None:
    assert [counts(ACCEPTED[name](), tmp_path, version) for version in VERSIONS] == [True, True]


@pytest.mark.case("ZT-TLS-05")
@pytest.mark.parametrize("name", REFUSED)
def test_an_unsound_chain_counts_for_nothing(name: str, tmp_path: Path) -> None:
    assert [counts(REFUSED[name](), tmp_path, version) for version in VERSIONS] == [False, False]


def test_the_days_of_the_corpus_are_those_of_its_clock() -> None:
    leaf = Authority("Root").issue()
    assert leaf.certificate.not_valid_after_utc.timestamp() == NOW + 30 * DAY
