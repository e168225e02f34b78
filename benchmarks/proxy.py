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
    frame = _FRAME.format(port=port, chain=tls.chain, key=tls.key)
    declared = [
        _ROUTE.format(number=number, host=host, path=path, upstream=upstream_url, rules="&rules" + _RULES)
        if number == 0
        else _ROUTE.format(number=number, host=host, path=path, upstream=upstream_url, rules="*rules")
        for number, (host, path) in enumerate(declared_routes(routes, port))
    ]
    alone = _ROUTE.format(number=0, host=declared_routes(1, port)[0][0], path="/", upstream=upstream_url, rules=_RULES)
    # The store is the same with one route, and a file of a thousand takes seconds to read.
    seeding = home / "seed.yaml"
    seeding.write_text(frame + alone)
    cookie = asyncio.run(seed(read(seeding).control, f"{HOST}:{port}"))
    config = home / "zt-proxy.yaml"
    config.write_text(frame + "".join(declared))
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
