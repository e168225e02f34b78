"""The proxy as its operator runs it, in processes of its own, before a platform in another; the test kills them.

async with Stage(folder, workers=2, crowd=("ann", "ben")) as stage:
    (ann, cookie), _ = stage.people
    stage.kill("worker")
    await stage.back(8)                # seconds until eight fresh connections are served
"""

import asyncio
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
import pytest
from cryptography import x509

from tests.lab.browser import Browser
from tests.lab.idp import CLIENT_ID, CLIENT_SECRET, MockIdp
from tests.lab.proxy import CA, TRUSTING, Client, Reply, trusting_context
from tests.lab.waiting import until
from zt_proxy.config import read
from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.manager import open_sessions
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.keys import KeyRing, Secret
from zt_proxy.core.session import Principal

ROOT = Path(__file__).parents[2]
SERVED = 200
MACHINES = "machines.localhost"
TERMS = f", client_certificates: {{required: true, ca: ca/ca.pem, crl: ca/crl.pem, hosts: [{MACHINES}]}}"
INTEGRATION = """
  %(name)s:
    owner: ops@example.com
    certificate: {san_uri: "spiffe://example.com/%(name)s"}
    allow: [{route: machines, methods: [GET], paths: ["/**"]}]
"""
NOBODY = "{id: nobody, allow: all, to: {groups: [nobody]}}"
STAFF = '{id: staff, allow: [{paths: ["/**"]}], to: {groups: [staff]}}'
FRAME = """
version: 1
state_dir: state
workers: %(workers)d
listen:
  - {name: web, address: "127.0.0.1:%(port)d", tls: {certificate: site.pem, key: site.key}%(terms)s}
portal: {url: "https://auth.localhost:%(port)d"}
identity:
  providers:
    corp: {issuer: "%(issuer)s", client_id: %(client)s, client_secret: "${file:secret}", insecure_http: true}
limits: {connections_per_address: 10000, keepalive_timeout: 10m, drain: 3s}
metrics: {address: "127.0.0.1:%(metrics)d"}
log: {format: json, level: info}
routes:
"""
ROUTE = """
  - name: %(name)s
    host: %(host)s
    path: %(path)s
    upstream: {url: "http://127.0.0.1:%(upstream)d", max_connections: 1000}
    rules:
%(rules)s
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Route:
    """A route of the stage's file; `rules` are lines of YAML."""

    name: str
    host: str
    path: str = "/"
    rules: Sequence[str] = (STAFF,)


@dataclass
class Stage:
    """See the module. Fields are read when it is entered."""

    directory: Path
    workers: int = 0
    crowd: Sequence[str] = ()
    """Subjects of the sessions at the app; whoever is named twice has two. They come to be `people`."""
    spare: int = 40
    """Sessions that nobody uses until `back` does: no worker has them cached."""
    routes: list[Route] = field(
        default_factory=lambda: [Route("app", "app.localhost"), Route("other", "other.localhost")]
    )
    machines: Sequence[str] = ()
    """Integrations, each with a certificate that `zt-proxy ca` issued; at a host of their own."""

    def __post_init__(self) -> None:
        self.port, self.metrics, self.upstream = free_port(), free_port(), free_port()
        self.app, self.other, self.auth = (f"{name}.localhost:{self.port}" for name in ("app", "other", "auth"))
        self.marker = b"protected-" + secrets.token_hex(8).encode()
        self.authority = self.directory / "ca"
        self.config = self.directory / "zt-proxy.yaml"
        self.diary = self.directory / "diary"
        self.log = self.directory / "state" / "audit"
        self.people: list[tuple[str, bytes]] = []
        """Subject and Cookie header value of each session of the crowd."""
        self.sids: dict[bytes, str] = {}
        """Session id by Cookie header value."""
        self.foreign: list[bytes] = []
        """Live ones, of the other app's host."""
        self.dead: list[bytes] = []
        """Their sessions are over."""
        self.forged = [b"__Host-zt=" + b"A" * 64, b"__Host-zt=x"]
        self._spare: list[bytes] = []
        self.proxy: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        try:
            self.idp = await self._stack.enter_async_context(MockIdp())
            (self.directory / "secret").write_text(CLIENT_SECRET)
            self.certify()
            await self._employ()
            self.write()
            await self._seed()
            self._start_platform()
            await self.start()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    # ---- files ----

    def certify(self) -> int:
        """A new certificate and key in the place of the old; gives its serial number."""
        leaf = CA.issue_cert(*(f"{name}.localhost" for name in ("app", "other", "auth", "new", "machines")))
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        for name, data in (("site.key", leaf.private_key_pem.bytes()), ("site.pem", chain)):
            (self.directory / f"{name}.new").write_bytes(data)
            os.replace(self.directory / f"{name}.new", self.directory / name)
        return x509.load_pem_x509_certificate(chain).serial_number

    def write(self) -> None:
        """The file, from `routes` and `extra`; in one piece, as editors do."""
        values = {
            "workers": self.workers,
            "port": self.port,
            "metrics": self.metrics,
            "issuer": self.idp.issuer,
            "client": CLIENT_ID,
            "terms": TERMS if self.machines else "",
        }
        text = FRAME % values
        for route in self.routes:
            rules = "\n".join(f"      - {rule}" for rule in route.rules)
            text += ROUTE % {**vars(route), "rules": rules, "upstream": self.upstream}
        fresh = self.config.with_suffix(".new")
        if self.machines:
            text += "integrations:" + "".join(INTEGRATION % {"name": name} for name in self.machines)
        fresh.write_text(text)
        os.replace(fresh, self.config)

    async def _employ(self) -> None:
        """An authority, and a certificate for each integration."""
        if not self.machines:
            return
        self.routes.append(Route("machines", MACHINES, rules=(NOBODY,)))
        await asyncio.to_thread(command, "ca", "init", str(self.authority))
        for name in self.machines:
            await asyncio.to_thread(
                command, "ca", "issue", name, "--san-uri", f"spiffe://example.com/{name}",
                "--ca", str(self.authority), "--out", str(self.directory),
            )  # fmt: skip

    def showing(self, name: str) -> ssl.SSLContext:
        """The context of an integration that shows its certificate."""
        context = trusting_context()
        context.load_cert_chain(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        return context

    async def _seed(self) -> None:
        """Sessions, straight into the store of a proxy that does not run yet; and its keys, for the platform."""
        settings, clock = read(self.config).control, SystemClock()
        settings.state_dir.mkdir(mode=0o700)
        sessions = await open_sessions(settings, KeyRing.load_or_create(settings.state_dir / "worker.keys"), clock)

        async def session(who: str, host: str) -> bytes:
            principal = Principal(who, self.idp.issuer, "corp", email=f"{who}@example.com", groups=frozenset(["staff"]))
            sid = f"at-provider-{len(self.sids)}"
            record = await sessions.create(
                VerifiedLogin(principal, "urn:mfa", ("pwd", "otp"), clock.now(), True, Secret("none"), sid, "corp")
            )
            cookie = b"__Host-zt=" + (await sessions.issue_handle(record.sid, host)).encode()
            self.sids[cookie] = record.sid
            return cookie

        try:
            self.people = [(who, await session(who, self.app)) for who in self.crowd]
            self._spare = [await session(f"spare-{number}", self.app) for number in range(self.spare)]
            self.foreign = [await session(f"foreign-{number}", self.other) for number in range(3)]
            for number in range(5):
                self.dead.append(await session(f"dead-{number}", self.app))
                await sessions.end(self.sids[self.dead[-1]], "signed-out")
        finally:
            await sessions.close()
        keys = AssertionKeys.load_or_create(
            settings.state_dir, clock, settings.assertion_rotation, settings.assertion_overlap
        )
        (self.directory / "jwks.json").write_text(json.dumps(keys.jwks()))

    # ---- processes ----

    def _start_platform(self) -> None:
        arguments = [str(self.upstream), str(self.directory / "jwks.json"), str(self.diary), self.marker.decode()]
        self.platform = self._launch("platform", ["-m", "tests.load.upstream", *arguments])

    def _launch(self, name: str, arguments: list[str]) -> "subprocess.Popen[bytes]":
        # As a package that was installed, it finds its code compiled from the second start on.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    async def start(self) -> None:
        """Start the proxy, as its operator does, and wait until it serves."""
        self.launch()
        await self.back(1)

    def launch(self) -> None:
        """Start the proxy, and do not wait."""
        self.proxy = self._launch("proxy", ["-m", "zt_proxy.cli.main", "run", "-c", str(self.config)])

    @property
    def said(self) -> str:
        """What the proxy wrote to its log."""
        return (self.directory / "proxy.log").read_text(errors="replace")

    def children(self, kind: str = "") -> list[psutil.Process]:
        """The processes that the supervisor started and that live, of this kind: `worker`, `control`, or any."""
        assert self.proxy is not None
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.proxy.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if f"zt_proxy.processes {kind}" in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def kill(self, kind: str) -> list[psutil.Process]:
        """SIGKILL to one worker, to control, or to the supervisor; gives what the supervisor left behind."""
        assert self.proxy is not None
        left = self.children()
        if kind == "supervisor":
            self.proxy.kill()
            self.proxy.wait()
            return left
        victim = secrets.choice(self.children(kind))
        victim.kill()
        return []

    async def stop(self) -> None:
        """SIGTERM, as an init system sends it; fails when the proxy does not end well or leaves something behind."""
        if self.proxy is None:
            return
        children = self.children()
        self.proxy.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self.proxy.wait, 20)
        finally:
            await self._end_proxy()
        assert code == 0, self.said[-3000:]
        assert [child for child in children if alive(child)] == []

    async def _end_proxy(self) -> None:
        """Whatever still runs of it."""
        if self.proxy is not None:
            left = self.children()
            self.proxy.kill()
            self.proxy.wait()
            for child in left:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            self.proxy = None

    async def _leave(self) -> None:
        await self._end_proxy()
        if hasattr(self, "platform"):
            self.platform.terminate()
            await asyncio.to_thread(self.platform.wait)
        await self._stack.aclose()

    # ---- connections ----

    async def connect(self, host: str = "app.localhost", *, trust: ssl.SSLContext = TRUSTING) -> Client:
        """A TLS connection; what `Browser` asks of a lab."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=trust, server_hostname=host)
        return Client(reader, writer)

    def browser(self) -> Browser:
        return Browser(self)  # type: ignore[arg-type]

    @asynccontextmanager
    async def connection(
        self, host: str = "app.localhost", *, trust: ssl.SSLContext = TRUSTING
    ) -> AsyncIterator[Client]:
        client = await self.connect(host, trust=trust)
        try:
            yield client
        finally:
            client.writer.transport.abort()

    def head(self, method: str, path: str, cookie: bytes | None, host: str = "", extra: bytes = b"") -> bytes:
        """The bytes of a request's head, without the blank line. Unsafe ones come from the app's own page."""
        host = host or self.app
        lines = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\n".encode()
        return lines + (b"Cookie: %b\r\n" % cookie if cookie else b"") + extra

    async def get(self, path: str, cookie: bytes | None, host: str = "", *, trust: ssl.SSLContext = TRUSTING) -> Reply:
        """One request on a connection of its own."""
        name = (host or self.app).partition(":")[0]
        async with asyncio.timeout(15), self.connection(name, trust=trust) as client:
            await client.write(self.head("GET", path, cookie, host) + b"\r\n")
            return await client.reply()

    async def back(self, count: int = 8, path: str = "/back") -> float:
        """Seconds until `count` connections, all made from now on, are served: each of a session nobody has cached."""
        began = asyncio.get_running_loop().time()

        async def served(cookie: bytes) -> float:
            while True:
                with suppress(OSError, asyncio.IncompleteReadError):
                    if (await self.get(path, cookie)).status == SERVED:
                        return asyncio.get_running_loop().time() - began
                assert self.proxy is not None
                assert self.proxy.poll() is None, self.said[-3000:]
                await asyncio.sleep(0.1)

        self._spare = self._spare[count:] + self._spare[:count]
        async with asyncio.timeout(30):
            return max(await asyncio.gather(*(served(cookie) for cookie in self._spare[:count])))


def alive(process: psutil.Process) -> bool:
    """Still running; one that only waits to be reaped is not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def gone(processes: list[psutil.Process], seconds: float = 20.0) -> None:
    """Wait until all of these have ended."""
    await until(lambda: not any(map(alive, processes)), seconds)


def command(*arguments: str, exit_codes: Collection[int] = (0,)) -> str:
    """Run a `zt-proxy` command of the operator's; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "zt_proxy.cli.main", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in exit_codes, done.stdout + done.stderr
    return done.stdout


def show(capsys: pytest.CaptureFixture[str], figures: str) -> None:
    """Print what was measured, also when the test passes."""
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
