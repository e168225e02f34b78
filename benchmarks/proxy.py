"""How the proxy under test is started and how a session at it is obtained: the only file that knows either."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.seed import seed
from benchmarks.servers import HOST, Server, TlsFiles, free_port, launch, wait_listening
from zt_proxy.config import read

RunningProxy = Server

_FRAME = """
version: 1
state_dir: state
listen:
  - {{name: web, address: "127.0.0.1:{port}", tls: {{certificate: "{chain}", key: "{key}"}}}}
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
    rules:
      - {{id: no-admin, deny: [{{paths: ["{path}admin/**"]}}], to: {{groups: [guests]}}}}
      - {{id: health, allow: [{{methods: [GET], paths: ["{path}healthz"]}}], to: public}}
      - id: deploy
        allow: [{{methods: [POST], paths: ["{path}flows/**"]}}]
        to: {{groups: [makers]}}
        require: {{reauth: 5m}}
      - {{id: staff, allow: [{{paths: ["{path}**"]}}], to: {{groups: [staff]}}}}
"""


@contextlib.contextmanager
def start_proxy(routes: int, upstream_url: str, workdir: Path, tls: TlsFiles, core: int) -> Iterator[RunningProxy]:
    """The proxy with that many routes, all to one upstream, pinned to a core; stopped when the block is left.

    The route that is asked (`host` of the answer, every path) is the last one declared, and half of the others are path
    prefixes on the same host, so that a search that grows with the number of routes is seen. All checks are on, as an
    operator would have them; only the bounds on connections are raised, because all come from one address. `cookie` of
    the answer is a Cookie header's value with a valid session.
    """
    port = free_port()
    home = workdir / f"proxy-{port}"
    home.mkdir()
    config = home / "zt-proxy.yaml"
    frame = _FRAME.format(port=port, chain=tls.chain, key=tls.key)
    config.write_text(
        frame
        + "".join(
            _ROUTE.format(number=number, host=host, path=path, upstream=upstream_url)
            for number, (host, path) in enumerate(declared_routes(routes, port))
        )
    )
    cookie = asyncio.run(seed(read(config).control, f"{HOST}:{port}"))
    command = [sys.executable, "-m", "zt_proxy.cli.main", "run", "-c", str(config)]
    process, log = launch(command, home, "proxy", core)
    server = RunningProxy("proxy", process, port, log, cookie=cookie, authority=str(tls.authority))
    with wait_listening(server):
        yield server


def declared_routes(count: int, port: int) -> list[tuple[str, str]]:
    """(authority, path prefix) of each route in the order of declaration; the one that is asked comes last."""
    if count < 1:
        raise ValueError("at least one route is needed")
    others = [
        (f"{HOST}:{port}", f"/app-{index}/") if index % 2 else (f"app-{index}.example.test:{port}", "/")
        for index in range(count - 1)
    ]
    return [*others, (f"{HOST}:{port}", "/")]
