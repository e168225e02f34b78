"""Where a fault can be put in, and what must hold whatever happens there.

The seams are named by import path, in this file alone: a part that is renamed is one line here.

async with steady() as proxy:
    with proxy.fault("decide", RuntimeError("x")):
        answer = await proxy.ask()
    await proxy.stands(answer)          # a denial or the right answer, nothing left behind, and the next request works
"""

import asyncio
import errno
import inspect
import os
import pkgutil
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.lab.proxy import APP, Client, ProxyLab, Reply
from tests.lab.upstream import OK, Seen
from tests.lab.waiting import descriptors, until
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.worker.edge.connection import Connection
from zt_proxy.worker.edge.worker import Worker
from zt_proxy.worker.upstream.pool import UpstreamPool

SECRET = "what-went-wrong-inside"
GATEWAY = "zt_proxy.worker.gateway"
PIPELINE = f"{GATEWAY}.pipeline.Gateway"

BEFORE: dict[str, str] = {
    "admit": f"{PIPELINE}._admit",
    "lease of the link": "zt_proxy.link.memory.MemoryLink.alive",
    "locate": f"{GATEWAY}.locate.Locator.locate",
    "parse the target": f"{GATEWAY}.locate.target.parse",
    "match a route": f"{GATEWAY}.routes.RouteTable.match",
    "place": f"{GATEWAY}.locate.Locator._place",
    "identify": f"{PIPELINE}._identify",
    "cut the cookie": f"{GATEWAY}.pipeline.cookies.take",
    "look up the session": "zt_proxy.worker.identify.session.SessionCache.find",
    "go on": f"{PIPELINE}._go_on",
    "service worker": f"{GATEWAY}.pipeline.browser.covers_everything",
    "decide": f"{PIPELINE}.decide",
    "policy": "zt_proxy.policy.engine.Policy.decide",
    "time-outs of the route": f"{GATEWAY}.pipeline.route_challenge",
    "count the decision": "zt_proxy.worker.metrics.Metrics.decision",
}
"""Stages before anything goes upstream."""

COLD: dict[str, str] = {
    "check the MAC": "zt_proxy.core.keys.CookieMac.handle_hash",
    "fetch the session": "zt_proxy.worker.identify.session.SessionCache.fetch",
    "link": "zt_proxy.link.memory.MemoryLink.session",
    "session manager": "zt_proxy.control.session.manager.SessionManager.session",
    "store": "zt_proxy.control.session.sqlite.SqliteStore.session_of_handle",
    "keep the session": "zt_proxy.worker.identify.session.SessionCache._keep",
}
"""The way to control and back, of a session that the worker does not know."""

RECORDING: dict[str, str] = {
    "record": f"{PIPELINE}.record",
    "recorder": "zt_proxy.worker.record.Recorder.decision",
    "describe it": "zt_proxy.worker.record.Recorder.describe",
    "ring": "zt_proxy.link.ring.RingWriter.write",
}
"""Putting the decision on record."""

AFTER: dict[str, str] = {
    "forward": f"{PIPELINE}._forward",
    "identity headers": "zt_proxy.worker.identify.headers.IdentityHeaders.signed",
    "sign": "zt_proxy.worker.identify.assertion.AssertionSigner._sign",
    "write the head": f"{GATEWAY}.outgoing.request_head",
    "lines of the answer": f"{GATEWAY}.respond.Responder.response_lines",
    "relay": f"{PIPELINE}.relay",
    "make a relay": "zt_proxy.worker.upstream.relay.Relay.__init__",
    "take a connection": "zt_proxy.worker.upstream.pool.UpstreamPool.take",
    "connection is ready": "zt_proxy.worker.upstream.relay.Relay.upstream_ready",
    "send": "zt_proxy.worker.upstream.pool.UpstreamConnection.send",
}
"""Between the decision and the platform's answer."""

DIALLING: dict[str, str] = {
    "start to connect": "zt_proxy.worker.upstream.pool.UpstreamPool._start_connecting",
    "dial": "zt_proxy.worker.upstream.pool.UpstreamPool._dial",
}
"""Opening a connection to the platform."""

ANSWERING: dict[str, str] = {
    "parse the answer": "zt_proxy.worker.wire.h1_response.ResponseParser.feed",
    "head of the answer": "zt_proxy.worker.upstream.relay.Relay.on_response",
    "body of the answer": "zt_proxy.worker.upstream.relay.Relay.on_response_body",
    "end of the answer": "zt_proxy.worker.upstream.relay.Relay.on_response_end",
    "pass it on": "zt_proxy.worker.upstream.relay.Relay.upstream_fed",
    "complete": "zt_proxy.worker.upstream.relay.Relay._complete",
    "release the connection": "zt_proxy.worker.upstream.pool.UpstreamConnection.release",
    "give the connection back": "zt_proxy.worker.upstream.pool.UpstreamPool.give_back",
    "relay is done": f"{GATEWAY}.exchange.Exchange.relay_done",
    "finish": f"{PIPELINE}.finish",
    "record the end": "zt_proxy.worker.record.Recorder.end",
    "count the request": "zt_proxy.worker.metrics.Metrics.request",
}
"""While the platform's answer comes back."""

REFUSING: dict[str, str] = {
    "decline": f"{GATEWAY}.respond.Responder.decline",
    "say no": f"{GATEWAY}.respond.Responder._no",
    "send the answer": f"{GATEWAY}.respond.Responder._send",
    "finish": f"{PIPELINE}.finish",
    "record the end": "zt_proxy.worker.record.Recorder.end",
    "record": "zt_proxy.worker.record.Recorder.decision",
    "count the request": "zt_proxy.worker.metrics.Metrics.request",
}
"""Answering somebody who may not."""

SWEEPING: dict[str, str] = {
    "flush the ends": "zt_proxy.worker.record.Recorder.flush",
    "sweep the pools": "zt_proxy.worker.upstream.pool.UpstreamPool.sweep",
    "look at a request": "zt_proxy.worker.edge.listener.Listener._watch",
    "decide streams again": f"{GATEWAY}.streams.recheck",
    "ask for the lease": "zt_proxy.link.memory.MemoryLink.alive",
}
"""What looks after everything four times a second."""

ACTIVE: dict[str, str] = {
    "note activity": "zt_proxy.worker.identify.session.SessionCache.active",
    "tell control of activity": "zt_proxy.link.memory.MemoryLink.activity",
}
"""What a request does beside, by which a person is seen to be there."""

MACHINE: dict[str, str] = {
    "identify the machine": f"{GATEWAY}.machines.Machines.identify",
    "judge the certificate": "zt_proxy.worker.identify.integrations.Integrations.identify",
    "judge it anew": "zt_proxy.worker.identify.integrations.Integrations._judge",
    "look for a session": f"{GATEWAY}.machines.Machines._has_session",
    "look for a rate": "zt_proxy.worker.protect.limits.RateLimits.of",
    "decide for the machine": f"{GATEWAY}.machines.Machines.decide",
    "rules for machines": "zt_proxy.policy.machines.MachineRules.decide",
}
"""A request of an integration."""

HANDSHAKE: dict[str, str] = {
    "show the certificate": "zt_proxy.worker.identify.integrations.Integrations.show",
    "choose the terms": "zt_proxy.worker.edge.tls.TermsTable.choose",
    "read the hello": "zt_proxy.worker.edge.tls.TermsTable.server_name",
}
"""Before the first request."""

TUNNEL: dict[str, str] = {
    "switch protocols": "zt_proxy.worker.upstream.relay.Relay._switch",
    "begin the tunnel": f"{PIPELINE}.tunnel",
    "from the client": f"{GATEWAY}.streams.WebSocketTunnel.from_client",
    "from the platform": f"{GATEWAY}.streams.WebSocketTunnel.from_upstream",
    "follow the frames": "zt_proxy.worker.wire.ws.FrameFollower.feed",
}
"""A WebSocket."""

UPLOADING: dict[str, str] = {
    "body of the request": f"{GATEWAY}.exchange.Exchange.body",
    "end of the request": f"{GATEWAY}.exchange.Exchange.body_end",
    "body to the relay": "zt_proxy.worker.upstream.relay.Relay.request_body",
    "end to the relay": "zt_proxy.worker.upstream.relay.Relay.request_end",
}
"""A request with a body."""

PORTAL: dict[str, str] = {
    "verify the worker": "zt_proxy.control.portal_verifier.AssertionPortalVerifier.verify",
    "open the hand-off": "zt_proxy.control.portal.sign_in.open_handoff",
    "where to send the browser": "zt_proxy.control.identity.provider.OidcProvider.authorization_url",
    "metadata": "zt_proxy.control.identity.discovery.Discovery.get",
    "remember the login": "zt_proxy.control.session.logins.PendingLogins.begin",
    "store the login": "zt_proxy.control.session.sqlite.SqliteStore.put_transaction",
    "take the login": "zt_proxy.control.session.logins.PendingLogins.take",
    "read the response": "zt_proxy.control.identity.provider.OidcProvider._read_response",
    "exchange the code": "zt_proxy.control.identity.provider.OidcProvider._exchange",
    "fetch": "zt_proxy.control.identity.fetch.Fetcher.post_form",
    "find the key": "zt_proxy.control.identity.jwks.JwksCache.find",
    "verify the token": "zt_proxy.control.identity.tokens.TokenVerifier.verify",
    "read the claims": "zt_proxy.control.identity.provider.login_from_token",
    "make the session": "zt_proxy.control.session.manager.SessionManager.create",
    "seal the session": "zt_proxy.control.session.manager.seal_record",
    "store the session": "zt_proxy.control.session.sqlite.SqliteStore.insert_session",
    "make the cookie": "zt_proxy.control.session.manager.SessionManager.issue_handle",
    "store the cookie": "zt_proxy.control.session.sqlite.SqliteStore.replace_handle",
    "issue the code": "zt_proxy.control.session.logins.PendingLogins.issue_code",
    "redeem the code": "zt_proxy.control.session.logins.PendingLogins.redeem",
}
"""The way of a sign-in, from the portal to the app's cookie."""

Fault = Callable[..., Any]


def raising(kind: type[BaseException], *args: object) -> Fault:
    """A fault that raises, a new one each time."""

    def fault(*_: Any, **__: Any) -> Any:
        raise kind(*args)

    return fault


RAISING: dict[str, Fault] = {
    "RuntimeError": raising(RuntimeError, SECRET),
    "TimeoutError": raising(TimeoutError, SECRET),
    "disk full": raising(OSError, errno.ENOSPC, SECRET),
    "no descriptors": raising(OSError, errno.EMFILE, SECRET),
    "no memory": raising(MemoryError, SECRET),
    "unavailable": raising(UnavailableError, Reason.STORE_UNAVAILABLE, SECRET),
}
"""The ways in which code fails."""

SEAMS = {
    **ACTIVE,
    **MACHINE,
    **HANDSHAKE,
    **TUNNEL,
    **UPLOADING,
    **PORTAL,
    **DIALLING,
    **REFUSING,
    **SWEEPING,
    **ANSWERING,
    **AFTER,
    **RECORDING,
    **COLD,
    **BEFORE,
}


def opened() -> list[str]:
    """What the descriptors of this process are."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(names)


def running_tasks() -> "Counter[str]":
    """The proxy's own tasks in this loop, by what they run."""
    coroutines = (task.get_coro() for task in asyncio.all_tasks())
    codes = (coroutine.cr_code for coroutine in coroutines if inspect.iscoroutine(coroutine))
    return Counter(code.co_qualname for code in codes if "/zt_proxy/" in code.co_filename)


@dataclass
class Answer:
    """What came of one request. `reply` is None when the connection ended without a whole answer."""

    path: str
    reply: Reply | None = None

    @property
    def status(self) -> int:
        """0 for no answer."""
        return self.reply.status if self.reply is not None else 0

    @property
    def reason(self) -> str:
        assert self.reply is not None
        reason: str = self.reply.problem["reason"]
        return reason


@dataclass
class Steady:
    """A proxy with one person signed in, whose resting state is known."""

    lab: ProxyLab
    answers: list[Answer] = field(default_factory=list)
    unrecorded: set[str] = field(default_factory=set)
    """Paths of requests whose record itself was what failed."""

    async def begin(self) -> None:
        self.cookie = await self.lab.sign_in()
        await self._good()
        await self.rest()
        await until(lambda: self.worker.recorder.used() == 0)  # control has opened the ring by then
        self.files = self._files()
        self.tasks = running_tasks()

    # ---- requests ----

    async def ask(
        self, *, cookie: bytes | None = b"", extra: bytes = b"", body: bytes = b"", cold: bool = False
    ) -> Answer:
        """One request on a connection of its own; `cold`: the worker has to ask control for the session."""
        client, answer = await self.start(cookie=cookie, extra=extra, body=body, cold=cold)
        return await self.outcome(client, answer)

    async def start(
        self, *, cookie: bytes | None = b"", extra: bytes = b"", body: bytes = b"", cold: bool = False
    ) -> tuple[Client, Answer]:
        """The first half of `ask`: the request is sent."""
        if cold:
            assert self.lab.proxy.control is not None
            self.lab.proxy.control.sessions._live.clear()
            self.lab.proxy.control.sessions._handles.clear()
            self.worker.sessions.forget("")
        answer = Answer(f"/fault/{len(self.answers)}")
        self.answers.append(answer)
        chosen = self.cookie if cookie == b"" else cookie
        line = b"Cookie: %b\r\n" % chosen if chosen else b""
        method = b"GET"
        if body:
            method, extra = b"POST", extra + b"Origin: https://app.test\r\nContent-Length: %d\r\n" % len(body)
        client = await self.lab.connect()
        with suppress(ConnectionError, ssl.SSLError):
            head = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, answer.path.encode(), APP.encode())
            await client.write(head + line + extra + b"\r\n" + body)
        return client, answer

    async def outcome(self, client: Client, answer: Answer) -> Answer:
        """The second half of `ask`: what comes of it."""
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            answer.reply = await client.reply()
        await client.close()
        return answer

    async def _good(self) -> None:
        answer = await self.ask()
        assert (answer.status, answer.reply and answer.reply.body) == (200, b"ok"), answer

    # ---- faults ----

    @contextmanager
    def fault(self, seam: str, fault: Callable[..., Any]) -> Iterator[list[object]]:
        """While this lasts, `fault` is called in place of the stage, with its arguments. Gives the calls that met it.

        A coroutine function fails, as they do, when it is awaited.
        """
        met: list[object] = []

        def instead(*args: Any, **more: Any) -> Any:
            met.append(args)
            return fault(*args, **more)

        async def instead_awaited(*args: Any, **more: Any) -> Any:
            outcome = instead(*args, **more)
            return await outcome if inspect.isawaitable(outcome) else outcome

        owner, _, name = SEAMS[seam].rpartition(".")
        waits = inspect.iscoroutinefunction(getattr(pkgutil.resolve_name(owner), name))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SEAMS[seam], instead_awaited if waits else instead)
            yield met

    # ---- what must hold ----

    @property
    def worker(self) -> Worker:
        assert self.lab.proxy.worker is not None
        return self.lab.proxy.worker

    @property
    def connections(self) -> set[Connection]:
        return {connection for listener in self.worker.listeners for connection in listener.connections}

    @property
    def pools(self) -> list[UpstreamPool]:
        return [*self.worker._pools.values(), self.worker.gateway.portal_pool]

    def _files(self) -> int:
        """Open descriptors, without the kept connections to platforms: both their ends are in this process."""
        return descriptors() - 2 * sum(pool.open for pool in self.pools)

    async def rest(self) -> None:
        """Wait until nothing is under way: no client, no request, no connection lent out."""
        await until(lambda: not self.connections)
        await until(lambda: not self.worker.gateway._tasks)
        await until(lambda: not any(pool._waiting or pool._uploads or pool._connecting for pool in self.pools))
        await until(lambda: all(pool.open == pool.idle for pool in self.pools))

    async def stands(self, answer: Answer, *, closed: bool = True) -> None:
        """A denial or the right answer came, nothing is left of it, and the next request on a new connection works.

        `closed`: to end the connection without a whole answer is a denial, too.
        """
        reply = answer.reply
        if reply is None:
            assert closed, "no answer came"
        elif reply.status < 400:
            assert (reply.status, reply.body) == (200, b"ok"), reply
        else:
            assert reply.problem["request_id"] == reply.header("x-request-id")
            assert SECRET.encode() not in reply.body
        await self.rest()
        await self._good()
        await self.rest()
        try:
            await until(lambda: self._files() <= self.files, 10)
        except TimeoutError:
            raise AssertionError(f"{self._files()} descriptors instead of {self.files}: {opened()}") from None
        await until(lambda: not running_tasks() - self.tasks)

    async def on_record(self) -> None:
        """Stop, and look at the log: one decision for each request, none forwarded without, one end at most."""
        reached = {seen.target.decode() for seen in self.lab.upstream.seen}
        lines = await self.lab.log()
        for answer in self.answers:
            decisions = [line for line in lines if line["type"] == "decision" and line["path"] == answer.path]
            if not decisions and answer.path in self.unrecorded:
                assert answer.path not in reached, "it went to the platform and is not on record"
                assert answer.status == 0 or answer.status >= 500, answer
                continue
            assert len(decisions) == 1, (answer, decisions)
            (decision,) = decisions
            assert len([line for line in lines if line["type"] == "end" and line["id"] == decision["id"]]) <= 1
            if answer.path in reached or answer.status == 200:
                assert decision["effect"] == "allow", (answer, decision)
            if answer.reply is not None:
                assert decision["id"] == answer.reply.header("x-request-id")


def _unlike_the_last(request: Seen) -> bytes:
    """An answer whose head the proxy has not seen before: what it remembers of heads goes another way."""
    return OK.replace(b"\r\n\r\n", b"\r\nX-Path: %b\r\n\r\n" % request.target)


@asynccontextmanager
async def steady(**lab: Any) -> AsyncIterator[Steady]:
    """A proxy at rest; when the test is through with it, its records are looked at."""
    async with ProxyLab(**lab) as running:
        if running.upstream.answer is OK:
            running.upstream.answer = _unlike_the_last
        proxy = Steady(running)
        await proxy.begin()
        yield proxy
        await proxy.on_record()
