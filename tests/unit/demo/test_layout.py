"""What the demo writes before it starts: a configuration that the proxy accepts, and files that others cannot read."""

import socket
import ssl
import stat

import pytest

from zt_proxy.config.check import check
from zt_proxy.config.load import load
from zt_proxy.config.problems import Severity
from zt_proxy.demo.layout import free_port, lay_out, proxy_config


@pytest.mark.parametrize("kind", ["builtin", "node-red"])
def test_the_configuration_of_the_demo_has_no_problem_but_the_header_that_lets_people_pretend(tmp_path, kind):
    layout = lay_out(tmp_path / "state", kind, 0, 0)
    layout.config.write_text(proxy_config(layout, "http://127.0.0.1:1880"))
    warned = check(load(layout.config))
    assert {each.severity for each in warned} == {Severity.WARNING}
    assert "X-Demo-Country" in warned[-1].message
    assert [each.message for each in warned[:-1]] == ["nothing is masked in WebSockets"] * (kind == "builtin")


def test_only_the_owner_can_read_keys_and_secrets(tmp_path):
    layout = lay_out(tmp_path / "state", "builtin", 0, 0)
    assert stat.S_IMODE(layout.folder.stat().st_mode) == 0o700
    for name in ("ca.key", "site.key", "oidc-secret"):
        assert stat.S_IMODE((layout.folder / name).stat().st_mode) == 0o600


def test_a_second_start_keeps_the_ca_so_that_a_browser_is_told_once(tmp_path):
    first = lay_out(tmp_path / "state", "builtin", 0, 0)
    ca, leaf = first.ca.read_bytes(), first.certificate.read_bytes()
    second = lay_out(tmp_path / "state", "builtin", 0, 0)
    assert (second.ca.read_bytes() == ca, second.certificate.read_bytes() == leaf) == (True, False)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(second.certificate, second.key)


def test_a_busy_port_gives_way_to_another():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        assert free_port(busy) != busy
