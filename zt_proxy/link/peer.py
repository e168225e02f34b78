"""One worker, as control's end of the link sees it."""

import asyncio
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from zt_proxy.core.errors import Reason, UnavailableError, ZtError
from zt_proxy.link.frames import BadFrame, Wire, log
from zt_proxy.link.messages import (
    BATCH,
    LOOKUPS,
    OVERTAKEN,
    UP_BYTES,
    VERSION,
    Activity,
    Answer,
    Applied,
    Beat,
    Change,
    Goodbye,
    Hello,
    IdleNote,
    Lookup,
    Question,
    Renew,
    Reply,
    Up,
    Welcome,
    WorkerState,
)
from zt_proxy.link.proofs import Spend, TakeForm

if TYPE_CHECKING:
    from zt_proxy.link.server import LinkServer

ASKS = 16
"""Questions to one worker at a time."""
_DECODER = msgspec.msgpack.Decoder(Up)
Asked = Lookup | Spend | TakeForm
_NAME = 64
"""Longest boot id."""


class Peer(Wire):
    """A connection of a worker, or of someone who has yet to say which worker it is."""

    def __init__(self, server: "LinkServer") -> None:
        super().__init__(_DECODER, UP_BYTES)
        self._server = server
        self.greeted = False
        self.worker = -1
        self.boot = ""
        self.key = ""
        self.applied = 0
        self.heard = server.clock.monotonic()
        self.lease_until = 0.0
        """On control's clock: from then on the worker has certainly no lease. It counted from its question, which was
        earlier than our answer."""
        self._sent = 0
        self._backlog: deque[Change] = deque()
        self._owed: float | None = None
        self._look_ups: set[asyncio.Task[None]] = set()
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        self._ids = count(1)

    def state(self, now: float, *, connected: bool = True) -> WorkerState:
        return WorkerState(self.worker, self.boot, self.pid, connected, self.applied, now - self.heard)

    # what is sent

    def pump(self) -> None:
        """Send the changes that this worker has not been sent, as far as it reads; the lease it asked for, after all of
        them."""
        ledger = self._server.ledger
        if self.greeted and self._sent < ledger.number and ledger.change(self._sent + 1) is None:
            self.cut("it fell behind what is remembered")
        while self.greeted and not self.paused and self.open():
            if self._backlog:
                self.send(self._backlog.popleft())
            elif change := ledger.change(self._sent + 1):
                self._sent += 1
                self.send(change)
            else:
                if self._owed is not None:
                    self.lease_until = self._server.clock.monotonic() + self._server.lease
                    self.send(Renew(self._owed, self._sent))
                    self._owed = None
                return

    async def ask(self, what: str, within: float) -> bytes:
        """See `WorkersLink.ask`."""
        if len(self._asked) >= ASKS:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, f"worker {self.key} has too many questions to answer")
        number = next(self._ids)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self.send(Question(number, what))
        try:
            async with asyncio.timeout(within):
                reply = await future
        except TimeoutError:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, f"worker {self.key} does not answer") from None
        finally:
            del self._asked[number]
        if reply.problem:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, f"worker {self.key}: {reply.problem}")
        return reply.body

    # what comes

    def opened(self) -> None:
        self._server.connected(self)

    def received(self, message: Up) -> None:
        self.heard = self._server.clock.monotonic()
        if not self.greeted:
            if not isinstance(message, Hello):
                raise BadFrame("the first message is no Hello")
            self._hello(message)
            return
        match message:
            case Beat():
                self._owed = message.at
                self.pump()
            case Lookup() | Spend() | TakeForm():
                self._look_up(message)
            case Activity():
                if len(message.seen) > BATCH:
                    raise BadFrame("more activity than goes into one message")
                for sid, at in message.seen.items():
                    self._server.authority.activity(sid, at)
            case IdleNote():
                self._server.noted(message)
            case Applied():
                if not self.applied <= message.number <= self._sent:
                    raise BadFrame("it applied what it was not sent")
                self.applied = message.number
                self._server.progressed()
            case Reply():
                future = self._asked.get(message.id)
                if future is not None and not future.done():
                    future.set_result(message)
            case Goodbye():
                self.lease_until = 0.0
                self.close()
            case Hello():
                raise BadFrame("a second Hello")

    def _hello(self, hello: Hello) -> None:
        if hello.version != VERSION:
            raise BadFrame(f"version {hello.version} of the protocol")
        if not 0 < len(hello.boot) <= _NAME:
            raise BadFrame("a boot id of the wrong length")
        server = self._server
        ledger = server.ledger
        self.worker, self.boot, self.key = hello.worker, hello.boot, f"{hello.worker}-{hello.boot}"
        server.greeted(self)
        self.greeted = True
        drop = not ledger.knows_since(hello.control_boot, hello.number)
        if drop:
            self._backlog.extend(ledger.in_force())
            self._sent = ledger.number
        else:
            self._sent = self.applied = hello.number
        self._owed = hello.at
        self.send(Welcome(server.boot, self._sent, server.lease, server.cookie_keys, drop))
        self.pump()

    def _look_up(self, question: Asked) -> None:
        if len(self._look_ups) >= LOOKUPS:
            self.send(_nobody_knows(question, Reason.CONTROL_UNAVAILABLE, "too many look-ups at a time"))
            return
        task = asyncio.ensure_future(self._answer(question))
        self._look_ups.add(task)
        task.add_done_callback(self._look_ups.discard)

    async def _answer(self, question: Asked) -> None:
        authority = self._server.authority
        try:
            match question:
                case Lookup():
                    answer = await self._true_now(question)
                case Spend(number, sid, key):
                    answer = Answer(number, spent=await authority.spend(sid, key))
                case TakeForm(number, sid, token, host, target):
                    answer = Answer(number, form=await authority.kept(sid, token, host, target))
        except ZtError as error:
            answer = _nobody_knows(question, error.reason, error.detail)
        except Exception:
            log.exception("look-up failed")
            answer = _nobody_knows(question, Reason.CONTROL_UNAVAILABLE, "the look-up failed")
        self.send(answer)

    async def _true_now(self, question: Lookup) -> Answer:
        """What is true at this moment, so that every change after it is sent after it."""
        ledger = self._server.ledger
        for _ in range(OVERTAKEN):
            number = ledger.number
            session = await self._server.authority.session(question.handle_hash, question.host)
            if session is None:
                return Answer(question.id)
            if not ledger.touched(session.sid, number):
                return Answer(question.id, session, ledger.notes.of(session.sid))
        return _nobody_knows(question, Reason.CONTROL_UNAVAILABLE, "sessions change faster than they can be looked up")

    # the connection

    def pause_writing(self) -> None:
        """What a worker does not read must not grow by what it asks."""
        super().pause_writing()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
            self.pump()

    def lost(self) -> None:
        for task in self._look_ups:
            task.cancel()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(
                    UnavailableError(Reason.CONTROL_UNAVAILABLE, f"worker {self.key} is gone"),
                )
        self._server.gone(self)


def _nobody_knows(question: Asked, reason: Reason, detail: str) -> Answer:
    return Answer(question.id, fault=reason.value, detail=detail)
