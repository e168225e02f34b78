"""The TLS edge: which certificate, which versions, whose tickets, and that a host belongs to its connection."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.lab.proxy import APP, CA, PORTAL, Client, ProxyLab, allow, lab_route, trusting_context
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.worker.edge.tls import TermsTable
from zt_proxy.worker.settings import CertificateSettings, ListenerSettings

OTHER, WILD, DEEP = "other.test", "a.wild.test", "a.b.wild.test"
CERTIFICATES = ((APP, PORTAL), (OTHER,), ("*.wild.test",))


def several_hosts(**more: object) -> ProxyLab:
    hosts = (APP, OTHER, WILD, DEEP)
    routes = tuple(lab_route(f"r{number}", host, (allow(public=True),)) for number, host in enumerate(hosts))
    return ProxyLab(routes=routes, certificates=CERTIFICATES, **more)  # type: ignore[arg-type]


def names_of(client: Client) -> set[str]:
    certificate = client.writer.get_extra_info("peercert")
    return {name for kind, name in certificate["subjectAltName"] if kind == "DNS"}


async def asked(client: Client, host: str) -> int:
    await client.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return (await client.reply()).status


# ---- which certificate, and which host belongs to it ----


@pytest.mark.case("ZT-TLS-01")
async def test_the_server_name_chooses_the_certificate() -> None:
    async with several_hosts() as lab:
        for name, expected in (
            (APP, {APP, PORTAL}), ("APP.Test", {APP, PORTAL}), (PORTAL, {APP, PORTAL}), (OTHER, {OTHER}), ("OTHER.TEST", {OTHER}),
            (WILD, {"*.wild.test"}), ("B.Wild.test", {"*.wild.test"}), (DEEP, {APP, PORTAL}), ("wild.test", {APP, PORTAL}),
            ("unknown.example", {APP, PORTAL}), (None, {APP, PORTAL}),
        ):  # fmt: skip
            assert names_of(await lab.connect(name)) == expected, name


@pytest.mark.case("ZT-TLS-01")
async def test_a_host_that_is_not_the_connections_own_is_misdirected() -> None:
    right = (
        (APP, APP), (APP, "APP.TEST"), (APP, "app.test."), (APP, "app.test:443"), ("APP.test", APP), (OTHER, OTHER),
        (WILD, WILD), (None, APP), (None, PORTAL),
    )  # fmt: skip
    wrong = (
        (OTHER, APP), (APP, OTHER), (APP, "OTHER.test"), (APP, "other.test."), (APP, "other.test:443"), (OTHER, PORTAL),
        (None, OTHER), (None, WILD), (WILD, APP), ("unknown.example", APP), (WILD, DEEP), ("b.wild.test", WILD), (DEEP, APP),
    )  # fmt: skip
    async with several_hosts() as lab:
        for name, host in right:
            assert await asked(await lab.connect(name), host) in {200, 401}, (name, host)
        reached = len(lab.upstream.seen)
        for name, host in wrong:
            assert await asked(await lab.connect(name), host) == 421, (name, host)
        assert len(lab.upstream.seen) == reached, "nothing misdirected is forwarded"


@pytest.mark.case("ZT-TLS-01")
async def test_a_later_request_on_the_same_connection_is_held_against_it_too() -> None:
    async with several_hosts() as lab:
        client = await lab.connect(APP)
        assert [await asked(client, host) for host in (APP, OTHER, APP)] == [200, 421, 200]


@pytest.mark.case("ZT-TLS-01")
async def test_a_server_name_with_a_trailing_dot_is_the_same_name() -> None:
    async with several_hosts() as lab:
        hello = _client_hello("other.test.")
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        writer.write(hello)
        answer = await reader.readexactly(5)
        assert answer[0] == 0x16, "a ServerHello, not an alert"
        writer.close()
        assert lab.proxy.worker is not None
        table = lab.proxy.worker.listeners[0].terms
        assert table.server_name(hello) == (True, OTHER)


def _client_hello(name: str) -> bytes:
    """A ClientHello with this server name, also one that the ssl module would not send."""
    outgoing = ssl.MemoryBIO()
    stand_in = "x" * len(name)
    tls = trusting_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=stand_in)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read().replace(stand_in.encode(), name.encode())


# ---- versions and protocols ----


async def test_old_tls_versions_are_refused() -> None:
    def limited(highest: ssl.TLSVersion) -> ssl.SSLContext:
        context = trusting_context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = highest
        return context

    async with several_hosts() as lab:
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await lab.connect(APP, ssl=limited(version))
        client = await lab.connect(APP, ssl=limited(ssl.TLSVersion.TLSv1_2))
        assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        assert await asked(client, APP) == 200
        for weak in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES256-GCM-SHA384"):
            context = limited(ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(weak + ":@SECLEVEL=0")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await lab.connect(APP, ssl=context)
    async with several_hosts(listener={"minimum_tls": "1.3"}) as lab:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await lab.connect(APP, ssl=limited(ssl.TLSVersion.TLSv1_2))
        assert await asked(await lab.connect(APP), APP) == 200


async def test_the_protocol_agreed_on_is_the_one_that_is_spoken() -> None:
    async with several_hosts() as lab:
        for offered, agreed in (
            (["h2", "http/1.1"], "http/1.1"),
            (["http/1.1"], "http/1.1"),
            (["h2"], None),
            ([], None),
        ):
            context = trusting_context()
            if offered:
                context.set_alpn_protocols(offered)
            client = await lab.connect(APP, ssl=context)
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
            assert await asked(client, APP) == 200


# ---- tickets ----


@pytest.mark.case("ZT-TLS-03")
@pytest.mark.case("ZT-TLS-30")
async def test_a_ticket_resumes_at_its_own_name_and_nowhere_else() -> None:
    def visit(port: int, name: str, session: ssl.SSLSession | None) -> tuple[bool, set[str], ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=name, session=session) as tls,
        ):
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert tls.recv(65536).startswith(b"HTTP/1.1 200")
            certificate = tls.getpeercert()
            assert certificate is not None
            names = {str(value) for _, value in certificate["subjectAltName"]}
            return bool(tls.session_reused), names, tls.session

    async with several_hosts() as lab:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting_context()
            context.maximum_version = version
            reused, _, ticket = await asyncio.to_thread(visit, lab.port, APP, None)
            assert not reused
            reused, _, _ = await asyncio.to_thread(visit, lab.port, APP, ticket)
            assert reused, "at its own name it works"
            for name, names in ((OTHER, {OTHER}), (WILD, {"*.wild.test"})):
                reused, shown, _ = await asyncio.to_thread(visit, lab.port, name, ticket)
                assert (reused, shown) == (False, names), version
        restarted = several_hosts()
        async with restarted:
            reused, _, _ = await asyncio.to_thread(visit, restarted.port, APP, ticket)
            assert not reused, "tickets die with the process"


# ---- certificates that cannot be used ----


def _damage(chain: Path, key: Path) -> dict[str, Callable[[], object]]:
    other = CA.issue_cert(APP).private_key_pem.bytes()
    whole_chain, whole_key = chain.read_bytes(), key.read_bytes()
    return {
        "no chain": chain.unlink,
        "no key": key.unlink,
        "empty chain": lambda: chain.write_bytes(b""),
        "empty key": lambda: key.write_bytes(b""),
        "garbage": lambda: chain.write_bytes(b"\x00garbage" * 50),
        "half a chain": lambda: chain.write_bytes(whole_chain[: len(whole_chain) // 3]),
        "half a key": lambda: key.write_bytes(whole_key[: len(whole_key) // 2]),
        "key of another certificate": lambda: key.write_bytes(other),
        "swapped": lambda: (chain.write_bytes(whole_key), key.write_bytes(whole_chain)),
        "a directory": lambda: (chain.unlink(), chain.mkdir()),
    }


@pytest.mark.case("ZT-TLS-04")
@pytest.mark.case("ZT-TLS-16")
async def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        chain, key = folder / "site.pem", folder / "site.key"
        leaf = CA.issue_cert(APP)
        chain.write_bytes(leaf.cert_chain_pems[0].bytes())
        key.write_bytes(leaf.private_key_pem.bytes())
        settings = ListenerSettings("web", "127.0.0.1", 0, (CertificateSettings(chain, key, (APP,)),))
        TermsTable(settings)
        name, damage = list(_damage(chain, key).items())[number]
        damage()
        with pytest.raises(ConfigurationError) as caught:
            TermsTable(settings)
        assert str(chain) in str(caught.value), name
        assert "PRIVATE KEY" not in str(caught.value)
    with pytest.raises(ConfigurationError):
        TermsTable(ListenerSettings("web", "127.0.0.1", 0, ()))


@pytest.mark.case("ZT-TLS-16")
async def test_one_bad_pair_among_good_ones_stops_the_whole_start_and_nothing_listens() -> None:
    class Damaged(ProxyLab):
        def _certificates(self) -> tuple[CertificateSettings, ...]:
            made = super()._certificates()
            made[1].key.write_bytes(trustme.CA().issue_cert(OTHER).private_key_pem.bytes())
            return made

    lab = Damaged(certificates=CERTIFICATES)
    with pytest.raises(ConfigurationError):
        await lab.__aenter__()
    assert lab.port == 0
    await lab._stack.aclose()
