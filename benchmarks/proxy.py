"""How the proxy under test is started and how a session at it is obtained: the only file that knows either.

`ZT_BENCH_STANDIN` names a script that stands in for the proxy, called as `SCRIPT PORT cb` in a folder with `cert.pem`
and `key.pem`: it lets another implementation of the request path be measured by the same harness.
"""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.errors import BenchmarkError
from benchmarks.servers import HOST, Server, TlsFiles, free_port, launch, wait_listening

STANDIN = "ZT_BENCH_STANDIN"
RunningProxy = Server


@contextlib.contextmanager
def start_proxy(routes: int, upstream_url: str, workdir: Path, tls: TlsFiles, core: int) -> Iterator[RunningProxy]:
    """The proxy with that many routes, all to one upstream, pinned to a core; stopped when the block is left.

    The route that is asked (`host` of the answer, every path) is the last one declared, and half of the others are path
    prefixes on the same host, so that a search that grows with the number of routes is seen. Limits on connections and
    rates are out of the way: 2,000 connections come from one address. `cookie` of the answer is a Cookie header's value
    with a valid session.
    """
    port = free_port()
    home = workdir / f"proxy-{port}"
    home.mkdir()
    script = os.environ.get(STANDIN)
    if not script:
        raise BenchmarkError(f"{STANDIN} does not name a script to measure")
    command = _prepare_standin(Path(script), routes, upstream_url, home, tls, port)
    process, log = launch(command, home, "proxy", core)
    server = RunningProxy("proxy", process, port, log, cookie="sid=abc", authority=str(tls.authority))
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


def _prepare_standin(script: Path, routes: int, upstream_url: str, home: Path, tls: TlsFiles, port: int) -> list[str]:
    """Copy the stand-in with this run's upstream port and routes in place of those written into it."""
    source = script.read_text()
    table = [(authority.encode(), prefix.encode()) for authority, prefix in declared_routes(routes, port)]
    source, replaced = re.subn(r"(?m)^ROUTES=.*$", lambda _: f"ROUTES={table!r}", source)
    if replaced != 1 or source.count("9900") != 1:
        raise BenchmarkError(f"{script} is not a stand-in this harness knows how to connect")
    copy = home / "standin.py"
    copy.write_text(source.replace("9900", str(urlsplit(upstream_url).port)))
    shutil.copy(tls.chain, home / "cert.pem")
    shutil.copy(tls.key, home / "key.pem")
    return [sys.executable, str(copy), str(port), "cb"]
