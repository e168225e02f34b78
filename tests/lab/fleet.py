"""The proxy as its operator runs it: `zt-proxy run` with several workers, before a platform in this event loop.

async with Fleet(tmp_path) as fleet:                # two workers, control, a supervisor; one route to fleet.upstream
    cookie = fleet.cookies["alice"]
    assert (await fleet.get("/", cookie)).status == 200
    fleet.worker(0).kill()                          # psutil processes; whatever is killed is waited for at the end
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from tests.lab.proxy import CA, TRUSTING, Client, Reply
from tests.lab.upstream import OK
from tests.lab.waiting import until
from tests.lab.ws import HANDSHAKE, KEY, EchoPlatform, accept
from zt_proxy.config import read
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.manager import open_sessions
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.keys import KeyRing, Secret
from zt_proxy.core.session import Level, Principal

ROOT = Path(__file__).parents[2]
APP, AUTH = "app.localhost", "auth.localhost"
STAFF = '{id: staff, allow: [{paths: ["/**"]}], to: {groups: [staff]}}'
FILE = """
version: 1
state_dir: state
workers: %(workers)s
listen:
%(listeners)s
portal: {url: "https://auth.localhost:%(port)d"}
identity:
  providers:
    corp: {issuer: "https://idp.test", client_id: zt, client_secret: "${file:secret}", ca: ca.pem}
limits: {drain: %(drain)s}
%(metrics)slog: {format: json, level: info}
routes:
  - name: app
    host: app.localhost
    upstream: {url: "http://127.0.0.1:%(upstream)d"}
    rules:
%(rules)s
"""
LISTENER = '  - {name: %s, address: "127.0.0.1:%d", tls: {certificate: site.pem, key: site.key}}'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@dataclass
class Platform(EchoPlatform):
    """Echoes over WebSockets, begins an endless download at `/stream`, and says ok to everything else."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                request = await self._read(reader, self.connections)
                self.seen.append(request)
                if request.header(b"upgrade") is not None:
                    writer.write(self._agree(request))
                    await self._talk(reader, writer)
                    return
                if request.target == b"/stream":
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    while True:
                        writer.write(b"5\r\nmore\n\r\n")
                        await writer.drain()
                        await asyncio.sleep(0.05)
                if self.hold is not None:
                    await self.hold.wait()
                writer.write(OK)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            self._writers.discard(writer)
            writer.close()


@dataclass
class Fleet:
    """See the module. Fields may be changed and written again with `write`, which the proxy takes over by itself."""

    directory: Path
    workers: int | str = 2
    people: Sequence[str] = ("alice", "bob")
    rules: Sequence[str] = (STAFF,)
    drain: str = "5s"
    listeners: dict[str, int] = field(default_factory=lambda: {"web": free_port()})
    metrics: int = 0
    """Port of the private listener; 0: none."""
    upstream: Platform = field(default_factory=Platform)
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that the proxy is started with, beside those of the test."""
    replace: tuple[tuple[str, str], ...] = ()
    """What to replace in the file: for files that are wrong."""

    async def __aenter__(self) -> Self:
        self.config = self.directory / "zt-proxy.yaml"
        self.cookies: dict[str, bytes] = {}
        self.portal_cookies: dict[str, bytes] = {}
        """The same at the portal's host."""
        self.sids: dict[str, str] = {}
        self._clients: list[Client] = []
        self._seen: list[psutil.Process] = []
        self.process: subprocess.Popen[bytes] | None = None
        (self.directory / "secret").write_text("secret")
        CA.cert_pem.write_to_path(str(self.directory / "ca.pem"))
        self.certify()
        await self.upstream.__aenter__()
        try:
            self.write()
            await self._sign_in()
            await self.start()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    @property
    def port(self) -> int:
        return self.listeners["web"]

    # ---- files ----

    def certify(self) -> None:
        """A new certificate and key in the place of the old, one file after the other."""
        leaf = CA.issue_cert("app.localhost", "auth.localhost")
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        for name, data in (("site.key", leaf.private_key_pem.bytes()), ("site.pem", chain)):
            fresh = self.directory / f"{name}.new"
            fresh.write_bytes(data)
            fresh.replace(self.directory / name)

    def write(self) -> None:
        """The file, as the fields have it."""
        text = FILE % {
            "workers": self.workers,
            "listeners": "\n".join(LISTENER % each for each in self.listeners.items()),
            "port": self.port,
            "drain": self.drain,
            "metrics": f'metrics: {{address: "127.0.0.1:{self.metrics}"}}\n' if self.metrics else "",
            "upstream": self.upstream.port,
            "rules": "\n".join(f"      - {rule}" for rule in self.rules),
        }
        for old, new in self.replace:
            assert old in text
            text = text.replace(old, new)
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.config)

    async def _sign_in(self) -> None:
        """Sessions in the store, before control has it."""
        os.environ.update(self.environment)
        try:
            built, clock = read(self.config), SystemClock()
        finally:
            for name in self.environment:
                del os.environ[name]
        for folder in (built.control.state_dir, built.control.runtime_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ring = KeyRing.load_or_create(built.control.state_dir / "worker.keys")
        sessions = await open_sessions(built.control, ring, clock)
        for who in self.people:
            principal = Principal(who, "https://idp.test", "corp", name=who, groups=frozenset(("staff", who)))
            login = VerifiedLogin(
                principal, "urn:mfa", ("pwd", "otp"), clock.now(), True, Secret("t"), None, "corp", level=Level.MULTI
            )
            record = await sessions.create(login)
            self.sids[who] = record.sid
            handle = await sessions.issue_handle(record.sid, f"{APP}:{self.port}")
            self.cookies[who] = b"__Host-zt=" + handle.encode()
            handle = await sessions.issue_handle(record.sid, f"{AUTH}:{self.port}")
            self.portal_cookies[who] = b"__Host-zt=" + handle.encode()
        await sessions.close()

    # ---- processes ----

    async def start(self) -> None:
        """Start, and wait until every process of it serves."""
        self.launch()
        await until(lambda: self.said("serving") or self._ended(), 60)
        assert not self._ended(), self.log

    def launch(self) -> None:
        """Start, and do not wait."""
        command = [sys.executable, "-m", "zt_proxy.cli.main", "run", "-c", str(self.config)]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def children(self, kind: str = "") -> list[psutil.Process]:
        """The living processes that the supervisor started: `worker`, `control`, or any."""
        assert self.process is not None
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if alive(child) and f"zt_proxy.processes {kind}" in " ".join(child.cmdline()):
                        found.append(child)
        self._seen += found
        return sorted(found, key=lambda child: child.pid)

    def signal(self, number: int) -> None:
        """To the supervisor."""
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the supervisor's end; gives its exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, 30)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def events(self) -> list[dict[str, Any]]:
        """What the processes logged."""
        found = []
        for line in self.log.splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def said(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The log's lines of this event with these fields."""
        return [
            line
            for line in self.events()
            if line.get("event") == event and all(line.get(key) == value for key, value in fields.items())
        ]

    async def _leave(self) -> None:
        for client in self._clients:
            await client.close()
        if self.process is not None:
            left = [*self.children(), *self._seen]
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.to_thread(self.process.wait, 20)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            for child in left:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        await self.upstream.__aexit__()

    # ---- requests ----

    async def connect(self, host: str = APP, port: int = 0) -> Client:
        """A TLS connection. Raises OSError."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port or self.port, ssl=TRUSTING, server_hostname=host, ssl_handshake_timeout=10
        )
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    def head(self, path: str = "/", who: str | None = "alice", extra: bytes = b"", port: int = 0) -> bytes:
        """The bytes of a GET."""
        host = f"{APP}:{port or self.port}"
        line = b"Cookie: %b\r\n" % self.cookies[who] if who else b""
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\n".encode() + line + extra + b"\r\n"

    async def get(self, path: str = "/", who: str | None = "alice", port: int = 0) -> Reply:
        """One request on a connection of its own."""
        client = await self.connect(port=port)
        try:
            await client.write(self.head(path, who))
            return await client.reply()
        finally:
            await client.close()
            self._clients.remove(client)

    async def websocket(self, who: str = "alice") -> Client:
        """A WebSocket through the proxy."""
        client = await self.connect()
        await client.write(self.head("/ws", who, HANDSHAKE))
        reply = await client.reply()
        assert reply.status == 101, reply
        assert reply.header("sec-websocket-accept") == accept(KEY).decode()
        return client

    async def download(self, who: str | None = "alice") -> Client:
        """An endless download, of which the head and the first bytes are through."""
        client = await self.connect()
        await client.write(self.head("/stream", who))
        await client.reader.readuntil(b"more\n")
        return client

    async def serves(self, count: int = 8, who: str = "alice") -> bool:
        """True if so many connections in a row are each served."""
        try:
            return all([(await self.get("/", who)).status == 200 for _ in range(count)])
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return False

    async def back(self, seconds: float = 20.0, who: str = "alice") -> None:
        """Wait until new connections are served, whichever worker they come to."""
        async with asyncio.timeout(seconds):
            while not await self.serves(8, who):
                await asyncio.sleep(0.05)


def open_files(process: psutil.Process) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))
