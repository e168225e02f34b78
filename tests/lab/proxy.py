"""The whole proxy on loopback, in this event loop: real TLS, real control, real store, real log.

async with ProxyLab() as lab:                       # one route, app.test, to lab.upstream; staff may do everything
    cookie = await lab.sign_in()                    # a session of alice at app.test, made in the store
    reply = await lab.send(b"GET / HTTP/1.1\\r\\nHost: app.test\\r\\nCookie: " + cookie + b"\\r\\n\\r\\n")
    assert reply.status == 200
    assert lab.records()[0]["reason"] == "rule-allowed"
"""

import asyncio
import json
import ssl
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import trustme

from tests.lab.upstream import RecordingUpstream
from tests.lab.waiting import until
from zt_proxy.config.build import Built, LogSettings
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.settings import (
    AppHost,
    AuditSettings,
    ControlSettings,
    FactorSettings,
    ProviderSettings,
    SessionSettings,
)
from zt_proxy.core.clock import Clock, ManualClock, SystemClock
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Principal
from zt_proxy.policy.spec import Audience, RequestMatch, RouteRules, RuleEffect, RuleSpec
from zt_proxy.processes.single import Proxy
from zt_proxy.worker.settings import (
    CertificateSettings,
    LimitSettings,
    ListenerSettings,
    PortalSettings,
    RouteSettings,
    UpstreamSettings,
    WorkerSettings,
)

CA = trustme.CA()
PORTAL = "auth.test"
APP = "app.test"
ORIGIN = b"Origin: https://app.test\r\n"


def trusting_context() -> ssl.SSLContext:
    """A client that trusts the lab's CA, and takes its certificates for any name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    context.check_hostname = False
    return context


TRUSTING = trusting_context()


def allow(rule: str = "staff", *, groups: Sequence[str] = ("staff",), public: bool = False, **more: Any) -> RuleSpec:
    """An allow rule; `methods` and `paths` make its match, the rest goes to RuleSpec."""
    return _rule(RuleEffect.ALLOW, rule, groups, public, more)


def deny(rule: str, *, groups: Sequence[str] = ("staff",), public: bool = False, **more: Any) -> RuleSpec:
    """A deny rule, as `allow`."""
    return _rule(RuleEffect.DENY, rule, groups, public, more)


def _rule(effect: RuleEffect, rule: str, groups: Sequence[str], public: bool, more: dict[str, Any]) -> RuleSpec:
    match = RequestMatch(tuple(more.pop("methods", ())), tuple(more.pop("paths", ())))
    audience = Audience.PUBLIC if public else Audience.MATCHING
    return RuleSpec(rule, effect, audience, matches=(match,), groups=() if public else tuple(groups), **more)


@dataclass
class Reply:
    """One response, parsed by the simplest rules there are."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def problem(self) -> dict[str, Any]:
        """The problem+json body."""
        assert self.header("content-type") == "application/problem+json", self
        value: dict[str, Any] = json.loads(self.body)
        return value


class Client:
    """One TLS connection, driven byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, method: str = "GET") -> Reply:
        """The next final response. Raises IncompleteReadError if the connection ends first."""
        async with asyncio.timeout(20):
            while True:
                reply = await self._one(method)
                if reply.status >= 200 or reply.status == 101:
                    return reply

    async def _one(self, method: str) -> Reply:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head[:-4].split("\r\n")
        status = int(line.split(" ")[1])
        headers = [(name, value.strip()) for name, _, value in (each.partition(":") for each in rest)]
        reply = Reply(status, headers, b"")
        if method == "HEAD" or status < 200 or status in {204, 304}:
            return reply
        length = reply.header("content-length")
        if reply.header("transfer-encoding") is not None:
            reply.body = await self._chunks()
        elif length is not None:
            reply.body = await self.reader.readexactly(int(length))
        else:
            reply.body = await self.reader.read()
        return reply

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
            data = await self.reader.readexactly(size + 2)
            if size == 0:
                return body
            body += data[:-2]

    async def ended(self) -> bytes:
        """Wait for the end of the connection; gives what still came. A reset counts as an end."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read()
            except (ConnectionError, ssl.SSLError):
                return b""

    async def close(self) -> None:
        """At once: a polite shutdown would wait for the other side's."""
        self.writer.transport.abort()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


@dataclass
class ProxyLab:
    """See the module. Fields are read when it is entered."""

    rules: Sequence[RuleSpec] = field(default_factory=lambda: (allow(),))
    routes: Sequence[RouteSettings] = ()
    """Instead of the one default route; use `lab_route`. The upstream's port is put in where it is 0."""
    route: dict[str, Any] = field(default_factory=dict)
    """Fields of the default route's RouteSettings."""
    limits: dict[str, Any] = field(default_factory=dict)
    worker: dict[str, Any] = field(default_factory=dict)
    control: dict[str, Any] = field(default_factory=dict)
    listener: dict[str, Any] = field(default_factory=dict)
    certificates: Sequence[Sequence[str]] = ((APP, PORTAL, "other.test"),)
    """One certificate for each list of names; the first is the default."""
    providers: Sequence[ProviderSettings] = ()
    session: SessionSettings = field(default_factory=SessionSettings)
    clock: Clock = field(default_factory=SystemClock)
    upstream: RecordingUpstream = field(default_factory=RecordingUpstream)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        await self._stack.enter_async_context(self.upstream)
        self.proxy = Proxy(self._built(), self.clock)
        self.port = (await self.proxy.start())["web"]
        self._clients: list[Client] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.close()
        await self.stop()
        await self._stack.aclose()

    async def stop(self) -> None:
        """Stop the proxy early; records are durable then."""
        if self.proxy.worker is not None:
            await self.proxy.stop(0)
            self.proxy.worker = self.proxy.private = self.proxy.control = None

    # ---- people ----

    async def sign_in(
        self, user: str = "alice", groups: Sequence[str] = ("staff",), host: str = APP, **login: Any
    ) -> bytes:
        """The Cookie header value of a new session. `login` replaces fields of VerifiedLogin."""
        self.sid, cookie = await self.new_session(user, groups, host, **login)
        return cookie

    async def new_session(
        self, user: str = "alice", groups: Sequence[str] = ("staff",), host: str = APP, **login: Any
    ) -> tuple[str, bytes]:
        """As `sign_in`, with the session's id in front."""
        assert self.proxy.control is not None
        claims = login.pop("claims", {})
        principal = Principal(
            user, "https://idp.test", "corp", email=f"{user}@example.com", name=user.title(),
            groups=frozenset(groups), claims=claims,
        )  # fmt: skip
        values: dict[str, Any] = {
            "principal": principal, "acr": "urn:mfa", "amr": ("pwd", "otp"), "auth_time": self.clock.now(),
            "mfa": True, "id_token": Secret("id-token"), "provider_sid": None, "provider": "corp",
        }  # fmt: skip
        record = await self.proxy.control.sessions.create(VerifiedLogin(**{**values, **login}))
        cookie = await self.proxy.control.sessions.issue_handle(record.sid, host)
        return record.sid, b"__Host-zt=" + cookie.encode()

    async def advance(self, seconds: float) -> None:
        """Move a ManualClock, after every record is read: an unread one would look old, and nothing be decided."""
        assert isinstance(self.clock, ManualClock)
        assert self.proxy.worker is not None
        assert self.proxy.control is not None
        recorder = self.proxy.worker.recorder
        self.proxy.control.audit._wake.set()
        await until(lambda: recorder.used() == 0)
        self.clock.advance(seconds)

    # ---- requests ----

    async def connect(self, name: str | None = APP, **options: Any) -> Client:
        """A TLS connection with this server name (None: none is sent)."""
        options.setdefault("ssl", TRUSTING)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, server_hostname=name or "", **options)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    async def send(self, request: bytes, name: str | None = APP) -> Reply:
        """Send raw bytes on a connection of their own; give the first response."""
        client = await self.connect(name)
        try:
            await client.write(request)
            return await client.reply(request.split(b" ")[0].decode("latin-1"))
        finally:
            await client.close()

    async def get(
        self, path: str = "/", cookie: bytes | None = None, headers: bytes = b"", host: str = APP, method: str = "GET"
    ) -> Reply:
        """A plain request; `headers` are raw lines."""
        line = b"Cookie: %b\r\n" % cookie if cookie else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n".encode()
        return await self.send(head + line + headers + b"\r\n", host.partition(":")[0])

    # ---- what is on record ----

    async def log(self) -> list[dict[str, Any]]:
        """Stop the proxy and give every line of the audit log."""
        await self.stop()
        lines: list[dict[str, Any]] = []
        for path in sorted((self.directory / "audit").glob("*.jsonl")):
            lines += [json.loads(line) for line in path.read_text().splitlines()]
        return lines

    async def decisions(self) -> list[dict[str, Any]]:
        """Stop the proxy and give the decision records."""
        return [line for line in await self.log() if line["type"] == "decision"]

    # ---- settings ----

    def lab_route(self, name: str, host: str, rules: Sequence[RuleSpec], **more: Any) -> RouteSettings:
        return lab_route(name, host, rules, **more)

    def _built(self) -> Built:
        directory = self.directory
        routes = tuple(self.routes) or (lab_route("app", APP, self.rules, **self.route),)
        routes = tuple(
            msgspec.structs.replace(route, upstream=msgspec.structs.replace(route.upstream, port=self.upstream.port))
            if route.upstream.scheme != "unix" and route.upstream.port == 0
            else route
            for route in routes
        )
        portal = PortalSettings(f"https://{PORTAL}", PORTAL, directory / "run" / "portal.sock")
        listener: dict[str, Any] = {"minimum_tls": "1.2", **self.listener}
        worker = WorkerSettings(
            (ListenerSettings("web", "127.0.0.1", 0, self._certificates(), **listener),),
            routes,
            portal,
            portal.origin,
            directory / "run",
            **{"limits": LimitSettings(**self.limits), **self.worker},
        )
        trusted = directory / "ca.pem"  # reading the system's authorities takes longer than all the rest of the start
        trusted.write_bytes(CA.cert_pem.bytes())
        providers = tuple(
            msgspec.structs.replace(provider, ca=provider.ca or trusted)
            for provider in self.providers
            or (ProviderSettings("corp", "Corp", "https://idp.test", "zt", Secret("secret")),)
        )
        hosts = dict.fromkeys(route.host for route in routes)
        control = ControlSettings(
            portal.origin,
            portal.host,
            portal.socket,
            directory / "state",
            directory / "run",
            providers,
            {
                host: AppHost(host, f"https://{host}", tuple(route.name for route in routes if route.host == host))
                for host in hosts
            },
            AuditSettings(directory / "audit"),
            **{"session": self.session, "factors": FactorSettings(portal.host, portal.origin), **self.control},
        )
        return Built(worker, control, LogSettings("console", "warning"))

    def _certificates(self) -> tuple[CertificateSettings, ...]:
        made = []
        for number, names in enumerate(self.certificates):
            leaf = CA.issue_cert(*names)
            chain, key = self.directory / f"{number}.pem", self.directory / f"{number}.key"
            chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
            key.write_bytes(leaf.private_key_pem.bytes())
            made.append(CertificateSettings(chain, key, tuple(names)))
        return tuple(made)


def lab_route(name: str, host: str, rules: Sequence[RuleSpec], **more: Any) -> RouteSettings:
    """A route to the lab's upstream (its port is filled in). `break_glass`: accounts, as in RouteRules."""
    mode: dict[str, Any] = {"case_insensitive": more["paths"].case_insensitive} if "paths" in more else {}
    mode["break_glass"] = more.pop("break_glass", ())
    values: dict[str, Any] = {
        "prefix": b"/",
        "upstream": UpstreamSettings("http", "127.0.0.1", 0),
        "rules": RouteRules(name, tuple(rules), **mode),
        "audience": f"https://{host}",
    }
    return RouteSettings(name, host, **{**values, **more})
