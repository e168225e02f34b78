"""Everybody who uses the proxy while something happens to it, and the tally of what they got.

    Asker       a kept-alive connection: GET and POST in turn, each answer checked to be its own
    Talker      a WebSocket that says something and expects it back
    Follower    a download without an end
    Prober      a dead, a foreign, a made-up and no cookie, at everything that is protected; counts what it sees of it
    Newcomer    signs in through the provider, and out again half the time

The pace is one clock for all: so many turns a second, each given to whoever waits longest.
"""

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import cycle
from typing import Self
from zlib import crc32

from tests.lab.browser import SESSION
from tests.lab.proxy import TRUSTING, Client
from tests.lab.waiting import until
from tests.lab.ws import CLOSE, HANDSHAKE, TEXT, Frame, close_code, frame, read_frame
from tests.load.stage import SERVED, Stage
from tests.load.tally import Pace, Tally

BROKEN = (OSError, asyncio.IncompleteReadError)
"""How a connection that goes away looks."""
UNAVAILABLE = 503
SESSION_OVER = 4401
LEASE = 5.0
"""Seconds in which an ended session may still be served by a worker that cannot hear of it."""
PATIENCE = 15.0
Person = tuple[str, bytes | None]
"""A subject, and the Cookie header value of a session of theirs."""


class Member:
    """Somebody with a session. `served` is when (loop time) they last got what they asked for."""

    def __init__(self, crowd: "Crowd", name: str, cookie: bytes | None) -> None:
        self.crowd = crowd
        self.stage = crowd.stage
        self.tally = crowd.tally
        self.name = name
        self.cookie = cookie
        self.served = 0.0
        self.open = False
        self.ended = 0.0
        """When (loop time) the last stream ended."""
        self.end = ""
        """How the last stream ended."""

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def head(self, method: str, path: str, extra: bytes = b"") -> bytes:
        return self.stage.head(method, path, self.cookie, self.crowd.host, extra) + b"\r\n"

    def own(self, text: bytes) -> bool:
        """The platform's answer to this very person."""
        return text.startswith(b"%b %b " % (self.stage.marker, self.name.encode()))

    def refused(self, status: int, text: bytes) -> None:
        """An answer that is not the platform's: only 503 is excused."""
        if status == UNAVAILABLE:
            self.tally.interrupted["503"] += 1
        else:
            self.tally.wrong.append(f"{self.name}: {status} {text[:200]!r}")

    async def run(self) -> None:
        """Use the proxy until cancelled."""
        raise NotImplementedError

    async def stay(self, pace: Pace, use: Callable[[Client], Awaitable[None]]) -> None:
        """Keep a stream open; when it ends open another, unless one of each is enough."""
        while self.crowd.again or not self.end:
            await pace.turn()
            try:
                async with self.crowd.connection() as client:
                    await use(client)
            except BROKEN as error:
                if self.open:
                    self.over(type(error).__name__)
                else:
                    self.tally.interrupted[type(error).__name__] += 1

    def over(self, how: str) -> None:
        self.open = False
        self.ended = self.time()
        self.end = how
        self.tally.closed[how] += 1


class Asker(Member):
    async def run(self) -> None:
        while True:
            await self.crowd.asking.turn()
            try:
                async with self.crowd.connection() as client:
                    await self._talk(client)
            except BROKEN as error:
                self.tally.interrupted[type(error).__name__] += 1

    async def _talk(self, client: Client) -> None:
        for number in cycle(range(10)):
            body = secrets.token_bytes(number * 300) if number % 3 == 1 else b""
            method, length = ("POST", b"Content-Length: %d\r\n" % len(body)) if body else ("GET", b"")
            request = self.head(method, f"/ask/{number}?by={self.name}", length)
            self.open = True
            async with asyncio.timeout(PATIENCE):
                await client.write(request + body)
                reply = await client.reply()
            self.open = False
            if reply.status == SERVED and self.own(reply.body):
                if not reply.body.endswith(b" %d %d" % (len(body), crc32(body))):
                    self.tally.wrong.append(f"{self.name}: another body arrived: {reply.body!r}")
                self.tally.answered += 1
                self.served = self.time()
            else:
                self.refused(reply.status, reply.body)
            if reply.status != UNAVAILABLE:
                self.tally.ids.append(reply.header("x-request-id") or "none")
            if (reply.header("connection") or "").lower() == "close":
                return
            await self.crowd.asking.turn()


class Talker(Member):
    async def run(self) -> None:
        await self.stay(self.crowd.talking, self._talk)

    async def _talk(self, client: Client) -> None:
        async with asyncio.timeout(PATIENCE):
            await client.write(self.head("GET", "/ws", HANDSHAKE))
            reply = await client.reply()
            if reply.status != 101:
                self.refused(reply.status, reply.body)
                return
            self.open = True
            greeting = await read_frame(client.reader)
        if not self.own(greeting.payload):
            self.tally.wrong.append(f"{self.name}: greeted with {greeting!r}")
        turn: asyncio.Future[None] = asyncio.ensure_future(self.crowd.talking.turn())
        heard = asyncio.ensure_future(read_frame(client.reader))
        try:
            for number in cycle(range(1000)):
                await asyncio.wait((heard, turn), return_when=asyncio.FIRST_COMPLETED)
                said = f"{self.name} {number}".encode()
                if not heard.done():
                    await client.write(frame(TEXT, said))
                async with asyncio.timeout(PATIENCE):
                    got = await heard
                if got.opcode == CLOSE:
                    self.over(f"close {close_code(got)}")
                    return
                if got != Frame(TEXT, said):
                    self.tally.wrong.append(f"{self.name}: said {said!r}, heard {got!r}")
                self.tally.echoed += 1
                self.served = self.time()
                turn = asyncio.ensure_future(self.crowd.talking.turn())
                heard = asyncio.ensure_future(read_frame(client.reader))
        finally:
            turn.cancel()
            heard.cancel()
            await asyncio.gather(turn, heard, return_exceptions=True)


class Follower(Member):
    async def run(self) -> None:
        await self.stay(self.crowd.talking, self._follow)

    async def _follow(self, client: Client) -> None:
        async with asyncio.timeout(PATIENCE):
            await client.write(self.head("GET", "/feed"))
            head = (await client.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ")[1])
        if status != SERVED:
            self.refused(status, await client.reader.read(1000))
            return
        self.open = True
        while True:
            async with asyncio.timeout(PATIENCE):
                size = int((await client.reader.readuntil(b"\r\n"))[:-2], 16)
                line = await client.reader.readexactly(size + 2)
            if not size:
                self.over("end")
                return
            if not self.own(line):
                self.tally.wrong.append(f"{self.name}: fed with {line!r}")
            self.tally.fed += 1
            self.served = self.time()


class Prober:
    """Every protected path, with everything that is no session here; what comes back is searched for the marker."""

    WAYS = ("GET /probe", "POST /probe/form", "GET /probe/ws", "GET /probe/feed", "HEAD /probe")

    def __init__(self, crowd: "Crowd") -> None:
        self.crowd = crowd
        self.stage = crowd.stage
        self.tally = crowd.tally
        self._ways = cycle(self.WAYS)
        self._kinds = cycle(("dead", "foreign", "none", "forged"))

    async def run(self) -> None:
        while True:
            with suppress(*BROKEN):
                async with self.stage.connection() as client:
                    for _ in range(8):
                        await self.crowd.probing.turn()
                        if not await self._probe(client, next(self._kinds), next(self._ways)):
                            break
            await self.crowd.probing.turn()

    def _cookie(self, kind: str) -> bytes | None:
        if kind == "none":
            return None
        return secrets.choice(
            {"dead": self.stage.dead, "foreign": self.stage.foreign, "forged": self.stage.forged}[kind]
        )

    async def _probe(self, client: Client, kind: str, way: str) -> bool:
        """False when the connection is over."""
        method, path = way.split(" ")
        extra = HANDSHAKE if path.endswith("/ws") else b"Content-Length: 0\r\n" if method == "POST" else b""
        request = self.stage.head(method, path, self._cookie(kind), extra=extra)
        async with asyncio.timeout(PATIENCE):
            await client.write(request + b"\r\n")
            reply = await client.reply(method)
            # A page learns the status of a refused handshake from nobody: it is told by the code of a Close frame.
            closed = await read_frame(client.reader) if reply.status == 101 else None
        self.tally.probed += 1
        seen = f"{reply} {closed}"
        told = closed is not None and closed.opcode == CLOSE and close_code(closed) == SESSION_OVER
        if self.stage.marker.decode() in seen or (reply.status < 400 and not told):
            self.tally.leaks.append(f"{kind} cookie, {way}: {seen[:300]}")
        if reply.status != UNAVAILABLE:
            self.tally.ids.append(reply.header("x-request-id") or "none")
            if not told and reply.status not in {401, 421}:
                self.tally.wrong.append(f"{kind} cookie, {way}: {seen[:300]}")
        return closed is None


class Newcomer:
    """Signs in through portal and provider; what was acknowledged must hold, whatever happens to control."""

    def __init__(self, crowd: "Crowd", name: str) -> None:
        self.crowd = crowd
        self.stage = crowd.stage
        self.name = name
        self.kept: list[bytes] = []
        self.left: list[bytes] = []

    async def run(self) -> None:
        for number in cycle((0, 1)):
            await self.crowd.arriving.turn()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._visit(stay=bool(number))
            except BROKEN as error:
                self.crowd.tally.interrupted[f"visit: {type(error).__name__}"] += 1

    async def _visit(self, *, stay: bool) -> None:
        browser, home = self.stage.browser(), f"https://{self.stage.app}"
        self.stage.idp.user = self.name
        page = await browser.visit(home + "/welcome")
        value = browser.cookies(self.stage.app).get(SESSION)
        if page.status != SERVED or value is None:  # nothing was acknowledged
            self.crowd.tally.interrupted[f"visit: {page.status}"] += 1
            return
        cookie = f"{SESSION}={value}".encode()
        self.crowd.tally.signed_in += 1
        if stay:
            self.kept.append(cookie)
            return
        question = await browser.visit(home + "/.zt/sign-out")
        if question.status != SERVED:
            self.crowd.tally.interrupted[f"sign-out: {question.status}"] += 1
            return
        headers = {"Origin": f"https://{self.stage.auth}", "Content-Type": "application/x-www-form-urlencoded"}
        form = f"token={question.input('token')}".encode()
        done = await browser.request(question.url, "POST", headers, form)
        if done.status in {302, 303}:
            self.crowd.tally.signed_out += 1
            self.left.append(cookie)
            # A worker that is cut off from control may not have heard of it before its lease ends.
            asyncio.get_running_loop().call_later(LEASE, self.stage.dead.append, cookie)


class Crowd:
    """Everybody, from entering to leaving the block; an error of the harness itself comes out at the end."""

    def __init__(
        self,
        stage: Stage,
        *,
        askers: Sequence[Person] = (),
        talkers: Sequence[Person] = (),
        followers: Sequence[Person] = (),
        rate: float = 150.0,
        talk: float = 50.0,
        strangers: bool = True,
        again: bool = True,
        host: str = "",
        trust: ssl.SSLContext = TRUSTING,
    ) -> None:
        """`rate` is requests, `talk` messages a second; `strangers`: a prober and a newcomer, too; `again`: streams that end are opened
        again; `host` (the app's if left out) is asked on connections of `trust`."""
        self.stage = stage
        self.again = again
        self.host = host or stage.app
        self._trust = trust
        self.tally = Tally()
        self.asking, self.talking, self.probing, self.arriving = Pace(rate), Pace(talk), Pace(20), Pace(0.5)
        self.members: list[Member] = [
            *(Asker(self, *person) for person in askers),
            *(Talker(self, *person) for person in talkers),
            *(Follower(self, *person) for person in followers),
        ]
        self.prober = Prober(self) if strangers else None
        self.newcomer = Newcomer(self, "alice") if strangers else None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        runs = [member.run() for member in self.members]
        if self.prober is not None:
            runs.append(self.prober.run())
        if self.newcomer is not None:
            runs.append(self.newcomer.run())
        self._tasks = [asyncio.create_task(run) for run in runs]
        return self

    async def __aexit__(self, *_: object) -> None:
        failed = self._failed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if failed:
            raise failed[0]

    def _failed(self) -> list[BaseException]:
        done = [task for task in self._tasks if task.done()]
        return [error for task in done if not task.cancelled() and (error := task.exception()) is not None]

    def connection(self) -> AbstractAsyncContextManager[Client]:
        return self.stage.connection(self.host.partition(":")[0], trust=self._trust)

    async def everybody(self, since: float | None = None, seconds: float = 40.0) -> None:
        """Wait until each member was served after `since` (loop time; now if left out)."""
        after = asyncio.get_running_loop().time() if since is None else since

        def served() -> bool:
            assert not self._failed(), self._failed()
            return all(member.served > after for member in self.members)

        try:
            await until(served, seconds)
        except TimeoutError:
            late = [member.name for member in self.members if member.served <= after]
            raise AssertionError(f"{len(late)} are not served: {late[:5]}; {self.tally}"[:2000]) from None

    async def everyone_is_known(self) -> None:
        """After all that happened: every session lives, those acknowledged on the way among them; none that ended."""
        newcomer = self.newcomer
        live = [*(cookie for _, cookie in self.stage.people), *(newcomer.kept if newcomer else ())]
        over = [*self.stage.dead, *(newcomer.left if newcomer else ())]
        async with self.stage.connection() as client:
            for cookie, status in [*((one, SERVED) for one in live), *((one, 401) for one in over)]:
                await client.write(self.stage.head("GET", "/known", cookie) + b"\r\n")
                reply = await client.reply()
                assert reply.status == status, (reply, cookie)
