"""The servers of a run: certificates, the upstream, bare nginx; each in the foreground, on loopback, on one core."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from benchmarks.errors import BenchmarkError

HOST = "localhost"
SMALL_BODY = ('{"items":"' + "x" * 1012 + '"}').encode("ascii")
SMALL_PATH = "/api/items"
LARGE_PATH = "/large.bin"
LARGE_BYTES = 10 * 1024 * 1024
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one certificate for `localhost`: the chain, its key, and the authority a client trusts."""

    chain: Path
    key: Path
    authority: Path


@dataclass(slots=True)
class Server:
    """A started server: where it listens, what a client sends to be let in, and the process to measure and to stop.

    `cookie` is the value of a Cookie header; `authority` is the PEM file its certificate is checked against, empty for
    a server without TLS. It is a context manager: leaving it stops the process.
    """

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    host: str = HOST
    cookie: str = ""
    authority: str = ""

    @property
    def pid(self) -> int:
        """Root of the process tree that is measured."""
        return self.process.pid

    def url(self, path: str) -> str:
        """Absolute URL of a path."""
        return f"{'https' if self.authority else 'http'}://{self.host}:{self.port}{path}"

    def log_tail(self) -> str:
        """The last of what the server wrote, for an error message."""
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """SIGTERM to the process and, when it has not ended in ten seconds, SIGKILL to the group it was started in."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """A loopback TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def raise_file_limit(wanted: int) -> None:
    """Let this process and those it starts open `wanted` files; `BenchmarkError` when the system allows fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (resource.RLIM_INFINITY,) and hard < wanted:
        raise BenchmarkError(f"{wanted} open files are needed, and the system allows {hard}: see `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def launch(command: Sequence[str], workdir: Path, name: str, core: int) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a command pinned to one core, in a process group of its own, its output in a log file of the folder."""
    log = workdir / f"{name}.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=workdir,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, log


def wait_listening(server: Server) -> Server:
    """The server once its port accepts; stops it and raises `BenchmarkError` when it ends or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return server
        time.sleep(0.02)
    server.stop()
    raise BenchmarkError(f"{server.name} did not start listening on port {server.port}:\n{server.log_tail()}")


def make_certificates(workdir: Path) -> TlsFiles:
    """One ECDSA P-256 certificate for `localhost`, the same for every server under test."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST, "127.0.0.1", "auth.localhost", "*.example.test")
    files = TlsFiles(workdir / "cert.pem", workdir / "key.pem", workdir / "ca.pem")
    files.chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(files.key))
    authority.cert_pem.write_to_path(str(files.authority))
    return files


def _nginx_frame(http: str) -> str:
    # Started by root, nginx would drop its worker to a user that cannot enter the temporary folder.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
daemon off; {user} worker_processes 1; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path client; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi; sendfile on; tcp_nopush on;
  {http}
}}
"""


def _start_nginx(name: str, http: str, port: int, workdir: Path, core: int) -> tuple[subprocess.Popen[bytes], Path]:
    home = workdir / f"{name}-{port}"
    home.mkdir()
    (home / "nginx.conf").write_text(_nginx_frame(http))
    return launch(["nginx", "-e", "stderr", "-p", str(home), "-c", "nginx.conf"], home, name, core)


@contextlib.contextmanager
def start_upstream(workdir: Path, core: int) -> Iterator[Server]:
    """The application behind both servers: an nginx with 1 KiB of JSON, a 10 MiB file and a count of its requests."""
    port = free_port()
    content = workdir / "content"
    content.mkdir()
    (content / LARGE_PATH.lstrip("/")).write_bytes(large_body())
    http = f"""
  server {{
    listen 127.0.0.1:{port}; default_type application/json;
    location / {{ return 200 '{SMALL_BODY.decode("ascii")}'; }}
    location = {LARGE_PATH} {{ root {content}; default_type application/octet-stream; }}
    location = /status {{ stub_status; }}
  }}"""
    process, log = _start_nginx("upstream", http, port, workdir, core)
    with wait_listening(Server("upstream", process, port, log)) as server:
        yield server


@contextlib.contextmanager
def start_nginx(workdir: Path, tls: TlsFiles, upstream: Server, core: int) -> Iterator[Server]:
    """Bare nginx as the measure: one worker, TLS, `proxy_pass` over kept-alive upstream connections, no checks at all.

    What it proxies is never spooled to disk and its buffers hold 64 KiB, not 4: with those it moves half as many bytes
    again per CPU-second (460 MB against 300), and a small answer costs the same. The harder measure is the honest one.
    """
    port = free_port()
    http = f"""
  upstream app {{ server 127.0.0.1:{upstream.port}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=4096;
    ssl_certificate {tls.chain}; ssl_certificate_key {tls.key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_max_temp_file_size 0; proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
    }}
  }}"""
    process, log = _start_nginx("nginx", http, port, workdir, core)
    server = Server("nginx", process, port, log, cookie="zt-bench=1", authority=str(tls.authority))
    with wait_listening(server):
        yield server


@contextlib.contextmanager
def start_plain_client(
    workdir: Path, target: str, sent: str, tls: TlsFiles | None, authority: str, core: int
) -> Iterator[Server]:
    """An nginx that `wrk` asks without TLS and that asks `target` (host:port) over kept-alive TLS.

    `wrk` knows no client certificates: this end shows the one of `tls`. `sent` is the Cookie header's value; two such
    clients that differ in these alone compare what the proxy does with each.
    """
    port = free_port()
    name, _, port_of_target = target.partition(":")
    shown = f"proxy_ssl_certificate {tls.chain}; proxy_ssl_certificate_key {tls.key};" if tls else ""
    cookie = f'proxy_set_header Cookie "{sent}";' if sent else ""
    http = f"""
  upstream proxy {{ server 127.0.0.1:{port_of_target}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass https://proxy; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host {target};
      proxy_ssl_name {name}; proxy_ssl_server_name on; proxy_ssl_trusted_certificate {authority}; proxy_ssl_verify on;
      proxy_ssl_session_reuse off; {shown} {cookie}
    }}
  }}"""
    process, log = _start_nginx("client", http, port, workdir, core)
    with wait_listening(Server("client", process, port, log, host="127.0.0.1")) as server:
        yield server


def large_body() -> bytes:
    """10 MiB that no layer could compress or guess, the same in every run."""
    block = bytes((index * 167 + index // 256) % 256 for index in range(65536))
    return block * (LARGE_BYTES // len(block))
