"""A worker's end of the link between processes. See `link.unix`."""

import asyncio
import contextlib
import logging
import random
from functools import partial
from pathlib import Path

import msgspec

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ConfigurationError, Reason, UnavailableError
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Session
from zt_proxy.link.frames import BadFrame, Wire, log
from zt_proxy.link.messages import (
    BEATS,
    CLOSED,
    DOWN_BYTES,
    LEASE,
    LEASE_LOST,
    OVERTAKEN,
    PATIENCE,
    RESYNC,
    VERSION,
    Answer,
    Applied,
    AskHandler,
    Beat,
    Change,
    Closing,
    Down,
    Goodbye,
    Hello,
    IdleNote,
    Invalidation,
    Lookup,
    Question,
    Renew,
    Welcome,
    WorkerLink,
)
from zt_proxy.link.proofs import KeptForm, Spend, TakeForm
from zt_proxy.link.questions import Make, Questions, checked
from zt_proxy.link.replica import NotInForce, Replica, reply_to
from zt_proxy.link.reports import Reports

_CONNECT = 2.0
_BACKOFF = (0.02, 0.5)
_NEVER = float("-inf")
_DECODER = msgspec.msgpack.Decoder(Down)


class LinkClient:
    """`ControlLink` over a unix socket. Use `start`, `ready`, `attach` and `close`.

    `number` and `boot` name the worker; `patience` is in seconds.
    """

    def __init__(self, path: Path, clock: Clock, *, number: int, boot: str, patience: float = PATIENCE) -> None:
        self._path = path
        self._monotonic = clock.monotonic
        self._number = number
        self._boot = boot
        self._patience = patience
        self._lease_until = _NEVER
        self._lease = LEASE
        self._held = False
        self._told = 0
        self._ring: KeyRing | None = None
        self._replica = Replica()
        self._answer: AskHandler | None = None
        self._reports = Reports(self._send_if_ready)
        self._questions = Questions()
        self._one_form = asyncio.Lock()
        self._wire: _ControlWire | None = None
        self._running: asyncio.Task[None] | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self._closed = False
        self.outdated = asyncio.Event()
        """Set when control has other cookie keys than this worker: it will never have a lease again and should end."""
        self.problem = "control has not been reached yet"
        """Why nothing may be decided; empty while the lease holds."""

    # ---- life

    def start(self) -> None:
        """Connect, and keep connecting, beside what runs."""
        self._running = asyncio.create_task(self._run(), name="link")

    async def ready(self, within: float) -> KeyRing:
        """Wait for the first lease; gives the key ring for cookies and hand-offs.

        Raises UnavailableError(CONTROL_UNAVAILABLE) after `within` seconds.
        """
        try:
            async with asyncio.timeout(within):
                await self._ready.wait()
        except TimeoutError:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, self.problem) from None
        assert self._ring is not None
        return self._ring

    def attach(self, worker: WorkerLink, *, answer: AskHandler | None = None) -> None:
        """From now on this worker hears every change; it gets what is in force at once. `answer`: what `ask` asks."""
        self._replica.attach(worker)
        self._answer = answer

    async def close(self) -> None:
        """The worker serves no more: tell control, send what is left, and go."""
        if self._closed:
            return
        self._closed = True
        self._lease_until = _NEVER
        for timer in (self._beating, self._watching):
            if timer is not None:
                timer.cancel()
        wire = self._wire
        if wire is not None:
            self._reports.flush()
            wire.send(Goodbye())
            wire.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wire.gone.wait(), 1.0)
        self._reports.close()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def _run(self) -> None:
        pause = _BACKOFF[0]
        while not self._closed:
            wire = _ControlWire(self)
            try:
                async with asyncio.timeout(_CONNECT):
                    await asyncio.get_running_loop().create_unix_connection(partial(_same, wire), str(self._path))
            except OSError as error:  # TimeoutError is one
                self._say(f"control cannot be reached: {type(error).__name__}")
            else:
                try:
                    await wire.gone.wait()
                finally:
                    wire.cut("the worker ends")
                if wire.renewed:
                    pause = _BACKOFF[0]
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - spreads workers, hides nothing
            pause = min(2 * pause, _BACKOFF[1])

    # ---- ControlLink

    def alive(self) -> bool:
        return self._monotonic() < self._lease_until

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        """See `ControlLink.session`. Waits at most `patience` seconds."""
        try:
            async with asyncio.timeout(self._patience):
                for _ in range(OVERTAKEN):
                    answer, turns = await self._ask(lambda number: Lookup(number, handle_hash, host))
                    if not self.alive():
                        break
                    if answer.session is None or turns == self._replica.turns:
                        return answer.session
        except TimeoutError:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "control takes too long to answer") from None
        raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "the lease ran out, or the link is never quiet")

    async def spend(self, sid: str, key: str) -> bool:
        """See `Proofs.spend`. Asked once: an answer that was lost counts as a no."""
        return (await self._once(lambda number: Spend(number, sid, key))).spent

    async def kept(self, sid: str, token: str, host: str, target: str) -> KeptForm | None:
        """See `Proofs.kept`. One at a time: a form may be large, and other answers come behind it. Who waits too long
        for their turn has not asked, and has lost nothing."""
        return (await self._once(lambda number: TakeForm(number, sid, token, host, target), self._one_form)).form

    async def _once(self, make: Make, turn: asyncio.Lock | None = None) -> Answer:
        try:
            async with asyncio.timeout(self._patience), turn or contextlib.nullcontext():
                return (await self._ask(make))[0]
        except TimeoutError:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "control takes too long to answer") from None

    async def _ask(self, make: Make) -> tuple[Answer, int]:
        wire = self._wire
        if wire is None or not self.alive():
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, self.problem)
        answer, turns = await self._questions.ask(wire.send, make)
        return checked(answer), turns

    def activity(self, sid: str, at: float) -> None:
        self._reports.add(sid, at)

    def idle_note(self, sid: str, route: str, at: float) -> None:
        note = IdleNote(sid, route, at)
        if self._replica.own_note(note):
            self._send_if_ready(note)

    # ---- what comes

    def received(self, wire: "_ControlWire", message: Down) -> None:
        """Raises BadFrame for a message that has no place here, or that cannot be put in force."""
        try:
            self._received(wire, message)
            return
        except NotInForce:
            pass  # what follows may fail in the same way, and is no consequence of it
        self._forfeit(LEASE_LOST, "a change cannot be put in force here")
        raise BadFrame("a change cannot be put in force")

    def _received(self, wire: "_ControlWire", message: Down) -> None:
        if not wire.welcomed:
            if not isinstance(message, Welcome):
                raise BadFrame("the first message is no Welcome")
            self._welcome(wire, message)
            return
        match message:
            case Change():
                if message.number and message.number != self._replica.number + 1:
                    raise BadFrame(f"change {message.number} after {self._replica.number}")
                if not message.number and self._replica.whole:
                    raise BadFrame("a change without a number")
                self._replica.apply(message)
            case Renew():
                self._renewed(wire, message)
            case Answer():
                self._answered(message)
            case Question():
                wire.send(reply_to(message, self._answer))
            case Closing():
                wire.close()
                self._forfeit(CLOSED, "control ended")
            case Welcome():
                raise BadFrame("a second Welcome")

    def batch_ended(self, wire: "_ControlWire") -> None:
        """Tell control how far the changes are in force here, once for all that came together."""
        number = self._replica.number
        if wire is self._wire and self._replica.whole and number != self._told:
            self._told = number
            wire.send(Applied(number))

    def hello(self) -> Hello:
        replica = self._replica
        return Hello(VERSION, self._number, self._boot, self._monotonic(), replica.control, replica.number)

    def _welcome(self, wire: "_ControlWire", welcome: Welcome) -> None:
        try:
            ring = KeyRing(welcome.cookie_keys.keys)
        except ConfigurationError:
            raise BadFrame("a key ring that is none") from None
        if self._ring is not None and self._ring.export() != ring.export():
            # Cookies would be judged by keys that count no more. Only a new worker takes in others.
            self._forfeit(LEASE_LOST, "control has another cookie key ring: this worker has to start anew")
            self.outdated.set()
            raise BadFrame("another cookie key ring")
        if not 0 < welcome.lease < float("inf"):
            raise BadFrame("a lease that is none")
        replica = self._replica
        if welcome.drop:
            replica.begin(welcome.number)
            replica.invalidate(Invalidation(0, "", RESYNC))
        elif (welcome.boot, welcome.number) != (replica.control, replica.number):
            raise BadFrame("control goes on where this worker never was")
        self._ring = ring
        self._lease = welcome.lease
        self._told = -1 if welcome.drop else welcome.number
        self._wire = wire
        wire.boot = welcome.boot
        wire.welcomed = True
        self._beat_later()

    def _renewed(self, wire: "_ControlWire", renew: Renew) -> None:
        if renew.number != self._replica.number or renew.at > self._monotonic():
            raise BadFrame("a lease for another state or time")
        self._replica.complete(wire.boot)
        self._lease_until = max(self._lease_until, renew.at + self._lease)
        self._reports.received(renew.at)
        if not wire.renewed:
            wire.renewed = True
            self._reports.resume()
            for note in self._replica.own_notes():
                wire.send(note)
        if self.alive():
            self._held = True
            self.problem = ""
            self._ready.set()
            if self._watching is None:
                self._watch()

    def _answered(self, answer: Answer) -> None:
        if not self._questions.expects(answer):
            return
        if answer.session is not None:
            for route, at in answer.idle.items():
                self._replica.idle_note(IdleNote(answer.session.sid, route, at))
        self._questions.answered(answer, self._replica.turns)

    # ---- the lease

    def _beat_later(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
        self._beating = asyncio.get_running_loop().call_later(self._lease / BEATS, self._beat)

    def _beat(self) -> None:
        wire = self._wire
        if wire is None or self._closed:
            return
        now = self._monotonic()
        self._reports.asked(now)
        wire.send(Beat(now))
        self._beat_later()

    def _watch(self) -> None:
        """At the end of the lease, if nobody renewed it, nothing cached counts and open streams are cut."""
        self._watching = None
        if not self._held or self._closed:
            return
        left = self._lease_until - self._monotonic()
        if left > 0:
            self._watching = asyncio.get_running_loop().call_later(left, self._watch)
            return
        self._forfeit(LEASE_LOST, "the lease ran out")
        if self._wire is not None:
            self._wire.cut("control does not renew the lease")

    def _forfeit(self, reason: str, why: str) -> None:
        """Decide nothing from now on, and name no number when connecting again."""
        self._lease_until = _NEVER
        self._held = False
        self._replica.control = ""
        self._say(why)
        with contextlib.suppress(NotInForce):  # logged; without a lease what stays cached is of no use
            self._replica.invalidate(Invalidation(0, "", reason))

    def _say(self, problem: str) -> None:
        if not self.alive():
            if problem != self.problem:
                # At a start control is on its way: nothing is amiss.
                log.log(logging.WARNING if self._ring is not None else logging.DEBUG, "no lease", why=problem)
            self.problem = problem

    # ---- the connection

    def lost(self, wire: "_ControlWire") -> None:
        if wire is not self._wire:
            return
        self._wire = None
        self._replica.abandon()
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        self._reports.pause()
        self._questions.broken()
        if not self._closed:
            log.warning("link to control broken")

    def _send_if_ready(self, message: msgspec.Struct) -> None:
        wire = self._wire
        if wire is not None and wire.renewed:
            wire.send(message)


class _ControlWire(Wire):
    """One connection to control."""

    def __init__(self, client: LinkClient) -> None:
        super().__init__(_DECODER, DOWN_BYTES)
        self._client = client
        self.gone = asyncio.Event()
        self.boot = ""
        self.welcomed = False
        self.renewed = False

    def opened(self) -> None:
        self.send(self._client.hello())

    def received(self, message: Down) -> None:
        self._client.received(self, message)

    def batch_ended(self) -> None:
        self._client.batch_ended(self)

    def lost(self) -> None:
        self._client.lost(self)
        self.gone.set()


def _same(wire: _ControlWire) -> _ControlWire:
    return wire
