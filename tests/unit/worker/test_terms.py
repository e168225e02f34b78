"""Which terms a server name gets, and that terms which ask for a certificate resume nothing."""

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.certificates import Authority
from tests.lab.proxy import CA, trusting_context
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.worker.edge.hello import offers_tls13
from zt_proxy.worker.edge.tls import TermsTable, TlsEngine
from zt_proxy.worker.settings import CertificateSettings, ClientCertificateSettings, ListenerSettings

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def table(
    folder: Path, certificates: list[tuple[str, ...]], *terms: tuple[str, ...], minimum: str = "1.2"
) -> TermsTable:
    """Each of `certificates` has these names, each of `terms` an authority of its own and these hosts."""
    pairs = []
    for number, names in enumerate(certificates):
        leaf = CA.issue_cert(*names)
        chain, key = folder / f"{number}.pem", folder / f"{number}.key"
        chain.write_bytes(leaf.cert_chain_pems[0].bytes())
        key.write_bytes(leaf.private_key_pem.bytes())
        pairs.append(CertificateSettings(chain, key, names))
    asked = []
    for number, hosts in enumerate(terms):
        ca = folder / f"ca{number}.pem"
        ca.write_bytes(Authority(f"Clients {number}").pem)
        asked.append(ClientCertificateSettings(ca, hosts=hosts))
    return TermsTable(ListenerSettings("web", "127.0.0.1", 0, tuple(pairs), minimum, client_certificates=tuple(asked)))


def chosen(terms: TermsTable, name: str | None) -> tuple[str, str | None]:
    found = terms.choose(name)
    return found.names[0], Path(found.client.source).stem if found.client else None


@pytest.mark.case("ZT-TLS-01")
def test_the_certificate_and_what_is_asked_are_chosen_apart(tmp_path: Path) -> None:
    terms = table(
        tmp_path,
        [("pub.ex",), ("a.m.ex", "plain.ex"), ("*.m.ex",)],
        ("adm.ex", "a.m.ex"),
        ("*.m.ex", "*.other.ex"),
    )
    for name, expected in (
        (None, ("pub.ex", None)), ("pub.ex", ("pub.ex", None)), ("unknown.ex", ("pub.ex", None)), ("adm.ex", ("pub.ex", "ca0")),
        ("a.m.ex", ("a.m.ex", "ca0")), ("b.m.ex", ("*.m.ex", "ca1")), ("plain.ex", ("a.m.ex", None)), ("m.ex", ("pub.ex", None)),
        ("b.b.m.ex", ("pub.ex", None)), ("x.other.ex", ("pub.ex", "ca1")), ("other.ex", ("pub.ex", None)), ("", ("pub.ex", None)),
    ):  # fmt: skip
        assert chosen(terms, name) == expected, name
    assert terms.asks


def test_terms_without_hosts_hold_wherever_no_others_do(tmp_path: Path) -> None:
    terms = table(tmp_path, [("pub.ex", "adm.ex")], (), ("adm.ex",))
    assert [chosen(terms, name)[1] for name in (None, "pub.ex", "unknown.ex", "adm.ex")] == ["ca0", "ca0", "ca0", "ca1"]
    assert not table(tmp_path, [("pub.ex",)]).asks


def test_authorities_that_are_none_stop_the_start(tmp_path: Path) -> None:
    table(tmp_path, [("pub.ex",)], ())
    certificate = CertificateSettings(tmp_path / "0.pem", tmp_path / "0.key", ("pub.ex",))
    asked = ClientCertificateSettings(tmp_path / "ca0.pem")
    settings = ListenerSettings("web", "127.0.0.1", 0, (certificate,), client_certificates=(asked,))
    TermsTable(settings)
    for content in (b"", b"garbage", Authority("x").issue().certificate.public_bytes(Encoding.PEM)):
        asked.ca.write_bytes(content)
        with pytest.raises(ConfigurationError):
            TermsTable(settings)


def connect(
    terms: TermsTable, client: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None
) -> tuple[TlsEngine, ssl.SSLObject]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
    with suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    hello = outgoing.read()
    complete, read = terms.server_name(hello)
    assert (complete, read) == (True, name)
    engine = TlsEngine(terms.choose(name).context_for(hello))
    engine.feed(hello)
    for _ in range(6):
        done = engine.handshake()
        incoming.write(engine.outgoing())
        with suppress(ssl.SSLWantReadError):
            peer.do_handshake()
        with suppress(ssl.SSLWantReadError):
            peer.read()
        engine.feed(outgoing.read())
        if done:
            break
    return engine, peer


@pytest.mark.case("ZT-TLS-03")
@pytest.mark.case("ZT-TLS-30")
@pytest.mark.parametrize("version", [V12, V13])
def test_nothing_resumes_where_a_certificate_is_asked_for(tmp_path: Path, version: ssl.TLSVersion) -> None:
    terms = table(tmp_path, [("open.ex", "mtls.ex")], ("mtls.ex",))
    client = trusting_context()
    client.maximum_version = version
    _, first = connect(terms, client, "open.ex")
    open_ticket = first.session
    assert open_ticket is not None
    _, again = connect(terms, client, "open.ex", open_ticket)
    assert again.session_reused, "where nothing is asked, it does"
    engine, asked = connect(terms, client, "mtls.ex", open_ticket)
    assert not asked.session_reused
    assert engine.chain() == ()
    assert asked.session is None or not asked.session.has_ticket
    _, later = connect(terms, client, "mtls.ex", asked.session)
    assert not later.session_reused


def test_a_listener_for_tls_13_alone_makes_no_contexts_for_older_ones(tmp_path: Path) -> None:
    terms = table(tmp_path, [("mtls.ex",)], (), minimum="1.3")
    old, new = trusting_context(), trusting_context()
    old.maximum_version = V12
    engine, _ = connect(terms, new, "mtls.ex")
    assert engine.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        connect(terms, old, "mtls.ex")


# ---- what a ClientHello offers ----


def hello_of(highest: ssl.TLSVersion, name: str = "x.ex") -> bytes:
    context, outgoing = trusting_context(), ssl.MemoryBIO()
    context.maximum_version = highest
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


OLD, NEW = hello_of(V12), hello_of(V13)


def test_a_client_that_offers_tls_13_is_told_from_one_that_does_not() -> None:
    assert offers_tls13(NEW)
    assert not offers_tls13(OLD)
    assert not offers_tls13(b"")


@given(st.integers(1, 60))
def test_a_hello_in_many_records_offers_the_same(size: int) -> None:
    for hello, expected in ((OLD, False), (NEW, True)):
        message = hello[5:]
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        assert offers_tls13(b"".join(b"\x16\x03\x01" + len(one).to_bytes(2, "big") + one for one in pieces)) is expected


@given(st.binary(max_size=400) | st.integers(0, len(NEW)).map(lambda end: NEW[:end]))
def test_bytes_that_end_early_or_are_no_hello_offer_nothing(data: bytes) -> None:
    if data != NEW:
        assert not offers_tls13(data)


@given(st.integers(0, len(OLD) - 1), st.integers(0, 255))
def test_damaged_bytes_give_an_answer_and_no_error(place: int, value: int) -> None:
    assert offers_tls13(NEW[:place] + bytes((value,)) + NEW[place + 1 :]) in {True, False}
