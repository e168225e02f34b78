"""A folder with certificates of every kind, as the configuration files here name them."""

import datetime
import json
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from zt_proxy.core.clock import ManualClock

CLOCK = ManualClock()
NOW = datetime.datetime.fromtimestamp(CLOCK.now(), datetime.UTC)


def revocation_list(ca: trustme.CA, ends: int) -> bytes:
    """An empty list of this authority, PEM; it ends so many days from now."""
    issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes()).subject
    key = load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(NOW - datetime.timedelta(days=9))
    return builder.next_update(NOW + datetime.timedelta(days=ends)).sign(key, SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()

    def issue(name: str, *hosts: str, before: int = -400, after: int = 90) -> None:
        leaf = ca.issue_cert(
            *hosts,
            not_before=NOW + datetime.timedelta(days=before),
            not_after=NOW + datetime.timedelta(days=after),
            key_type=trustme.KeyType.ECDSA,
        )
        leaf.private_key_pem.write_to_path(folder / f"{name}.key")
        (folder / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))

    hosts = ("auth.example.com", "flows.example.com", "app.example.com", "other.example.com")
    issue("site", *hosts)
    issue("other", *hosts)
    issue("expired", "*.example.net", after=-1)
    issue("future", "*.example.net", before=1)
    issue("soon", "*.example.net", after=13)
    issue("wild", "*.example.com", "127.0.0.1")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for name, authority, ends in (("fresh", ca, 10), ("stale", ca, -1), ("other", trustme.CA(), 10)):
        (folder / f"list-{name}.pem").write_bytes(revocation_list(authority, ends))
    (folder / "secret").write_text("the-client-secret\n")
    (folder / "hook").write_text("the secret of a webhook\n")
    leaf = ca.issue_cert("rsa.example.com", not_after=NOW + datetime.timedelta(days=90), key_type=trustme.KeyType.RSA)
    leaf.private_key_pem.write_to_path(folder / "rsa.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "rsa.pem")
    account = {
        "type": "service_account",
        "client_email": "zt@project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": leaf.private_key_pem.bytes().decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    (folder / "google.json").write_text(json.dumps(account))
    for name, record in (("country", {"country": {"iso_code": "DE"}}), ("asn", {"autonomous_system_number": 3320})):
        writer = MMDBWriter(database_type=f"Test-{name.upper() if name == 'asn' else 'Country'}")
        writer.insert_network(IPSet(["192.0.2.0/24"]), record)
        writer.to_db_file(str(folder / f"{name}.mmdb"))
    return folder


@pytest.fixture
def place(tmp_path: Path, certificates: Path) -> Path:
    """A folder with `certs/` in it."""
    (tmp_path / "certs").symlink_to(certificates)
    return tmp_path
