"""How the proxy under test is started and how a session at it is obtained: the only file that knows either."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from benchmarks.seed import seed
from benchmarks.servers import HOST, Server, TlsFiles, free_port, launch, wait_listening
from zt_proxy.config import read


@dataclass(frozen=True, slots=True)
class Setup:
    """What is served, and who may come."""

    routes: int = 10
    """All to one upstream."""
    workers: int = 1
    sessions: int = 1
    """In the store; the first one's cookie is the server's, the first thousand's are in `cookies`."""
    integrations: int = 0
    """Each with twenty scopes; they come in at a second listener that asks for certificates."""


class RunningProxy(Server):
    """The started proxy: beside what every server has, what only this one does."""

    __slots__ = ("certificate", "cookies", "machines_port", "metrics_port")

    cookies: tuple[str, ...]
    machines_port: int
    metrics_port: int
    certificate: TlsFiles
    """The client certificate of the last integration."""


KEPT_COOKIES = 1_000
MACHINES_HOST = "machines.example.test"
_FRAME = """
version: 1
state_dir: state
workers: {workers}
metrics: {{address: "127.0.0.1:{metrics}"}}
listen:
  - {{name: web, address: "127.0.0.1:{port}", tls: {{certificate: "{chain}", key: "{key}"}}}}
{machines}
portal: {{url: "https://auth.localhost:{port}"}}
identity:
  providers:
    bench: {{issuer: "http://127.0.0.1:1/", client_id: bench, client_auth: none, insecure_http: true}}
limits: {{connections: 10000, connections_per_address: 10000, keepalive_timeout: 10m}}
log: {{format: json, level: warning}}
routes:
"""
_ROUTE = """
  - name: route-{number}
    host: "{host}"
    path: "{path}"
    upstream: {upstream}
    rules: {rules}
"""
_RULES = """
      - {id: no-admin, deny: [{paths: ["/admin/**"]}], to: {groups: [guests]}}
      - {id: health, allow: [{methods: [GET], paths: [/healthz]}], to: public}
      - id: deploy
        allow: [{methods: [POST], paths: ["/flows/**"]}]
        to: {groups: [makers]}
        require: {reauth: 5m}
      - {id: staff, allow: [{paths: ["/**"]}], to: {groups: [staff]}}"""


_MACHINES = """
  - name: machines
    address: "127.0.0.1:{port}"
    tls: {{certificate: "{chain}", key: "{key}"}}
    client_certificates: {{ca: "{authority}", required: true}}
"""
_MACHINE_ROUTE = """
  - {{name: machines, host: "{host}", upstream: {upstream}, rules: []}}
"""
_SCOPES = ", ".join(f'{{route: machines, methods: [GET], paths: ["/scope-{number}/**"]}}' for number in range(19))
_INTEGRATION = """
  machine-{number}:
    owner: ops@example.test
    certificate: {{san_dns: "machine-{number}.example.test"}}
    allow: {scopes}
"""


@contextlib.contextmanager
def start_proxy(setup: Setup, upstream_url: str, workdir: Path, tls: TlsFiles, core: int) -> Iterator[RunningProxy]:
    """The proxy, pinned to a core; stopped when the block is left.

    The route that is asked (`host` of the answer, every path) is the last one declared, and half of the others are path
    prefixes on the same host, so that a search that grows with the number of routes is seen. All checks are on, as an
    operator would have them; only the bounds on connections are raised, because all come from one address. `cookie` of
    the answer is a Cookie header's value with a valid session.
    """
    port, metrics, machines = free_port(), free_port(), free_port()
    home = workdir / f"proxy-{port}"
    home.mkdir()
    certificate = _client_certificate(home, setup.integrations - 1) if setup.integrations else tls
    listener = (
        _MACHINES.format(port=machines, chain=tls.chain, key=tls.key, authority=certificate.authority)
        if setup.integrations
        else ""
    )
    frame = _FRAME.format(
        port=port, metrics=metrics, workers=setup.workers, chain=tls.chain, key=tls.key, machines=listener
    )
    declared = [
        _ROUTE.format(number=number, host=host, path=path, upstream=upstream_url, rules="&rules" + _RULES)
        if number == 0
        else _ROUTE.format(number=number, host=host, path=path, upstream=upstream_url, rules="*rules")
        for number, (host, path) in enumerate(declared_routes(setup.routes, port))
    ]
    if setup.integrations:
        declared.append(_MACHINE_ROUTE.format(host=f"{MACHINES_HOST}:{machines}", upstream=upstream_url))
        declared.append("integrations:\n" + "".join(_integrations(setup.integrations)))
    alone = _ROUTE.format(number=0, host=declared_routes(1, port)[0][0], path="/", upstream=upstream_url, rules=_RULES)
    # The store is the same with one route, and a file of a thousand takes seconds to read.
    seeding = home / "seed.yaml"
    seeding.write_text(frame.replace(listener, "") + alone if listener else frame + alone)
    cookies = asyncio.run(seed(read(seeding).control, f"{HOST}:{port}", setup.sessions, KEPT_COOKIES))
    config = home / "zt-proxy.yaml"
    config.write_text(frame + "".join(declared))
    command = [sys.executable, "-m", "zt_proxy.cli.main", "run", "-c", str(config)]
    process, log = launch(command, home, "proxy", core)
    server = RunningProxy("proxy", process, port, log, cookie=cookies[0], authority=str(tls.authority))
    server.cookies, server.machines_port, server.metrics_port = cookies, machines, metrics
    server.certificate = certificate
    with wait_listening(server):
        yield server


def _integrations(count: int) -> Iterator[str]:
    """Everyone has the same scopes; the last of them may do what is asked."""
    scopes = f'&scopes [{_SCOPES}, {{route: machines, methods: [GET], paths: ["/**"]}}]'
    for number in range(count):
        yield _INTEGRATION.format(number=number, scopes=scopes if number == 0 else "*scopes")


def _client_certificate(home: Path, number: int) -> TlsFiles:
    authority = trustme.CA()
    leaf = authority.issue_cert(f"machine-{number}.example.test")
    files = TlsFiles(home / "client.pem", home / "client.key", home / "clients-ca.pem")
    files.chain.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    files.key.write_bytes(leaf.private_key_pem.bytes())
    files.key.chmod(0o600)
    files.authority.write_bytes(authority.cert_pem.bytes())
    return files


def declared_routes(count: int, port: int) -> list[tuple[str, str]]:
    """(authority, path prefix) of each route in the order of declaration; the one that is asked comes last."""
    if count < 1:
        raise ValueError("at least one route is needed")
    others = [
        (f"{HOST}:{port}", f"/app-{index}/") if index % 2 else (f"app-{index}.example.test:{port}", "/")
        for index in range(count - 1)
    ]
    return [*others, (f"{HOST}:{port}", "/")]
