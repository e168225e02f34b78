"""One request from its head to its end record. Each field is written once, by the stage that owns it."""

import asyncio
from typing import Protocol

import msgspec

from zt_proxy.core.errors import ZtError
from zt_proxy.core.http import Target
from zt_proxy.core.session import Machine, Risk, Session
from zt_proxy.core.types import NO_ACT, Act, Decision, Facts, Origin
from zt_proxy.link.records import Circumstances
from zt_proxy.worker.gateway.routes import Route
from zt_proxy.worker.identify.assertion import PLAIN, Signed, Statement
from zt_proxy.worker.identify.integrations import KnownMachine, Shown
from zt_proxy.worker.identify.session import CachedSession
from zt_proxy.worker.protect.mask import Mask
from zt_proxy.worker.upstream.relay import Pause, Relay
from zt_proxy.worker.wire.head import RequestHead

EARLY_BODY = 64 * 1024
"""Bytes of a body held while control is asked who sends it."""
EARLY_PIECE = 512
"""Bytes of such a piece from which on the next is kept by itself."""


class Downstream(Protocol):
    """The client's connection, as the gateway sees it."""

    peer: str
    """Address of the client's end, after a PROXY header."""
    congested: bool
    """The client takes no more for the moment."""
    host_memo: tuple[bytes, str]
    """The last Host value accepted on this connection, raw and normalised."""
    shown: Shown | None
    """What came of asking the client for a certificate; None: it was not asked."""

    def serves(self, host: str) -> bool:
        """The host belongs to the server name and terms that the handshake settled (else 421)."""

    def write(self, data: bytes) -> None: ...

    def pause_reading(self, who: int) -> None: ...

    def resume_reading(self, who: int) -> None: ...

    def abort(self) -> None: ...

    def end_within(self, seconds: float) -> None:
        """The connection is cut if it has not ended by then."""

    def answered(self, exchange: "Exchange", *, close: bool) -> None:
        """The response to the request in flight is complete."""

    def begin_tunnel(self) -> bytes:
        """Plain bytes from now on go to the exchange's tunnel; gives those that came already."""


class Tunnel(Protocol):
    """What a connection feeds once it carries a WebSocket."""

    reads: bool
    """Each message is decided before it goes on."""

    def from_client(self, data: bytes) -> None: ...

    def client_writable(self, writable: bool) -> None: ...

    def client_gone(self) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """End both sides with a Close frame (RFC 6455 §7.4)."""


class Spine(Protocol):
    """The gateway, as an exchange reports to it."""

    def finish(self, exchange: "Exchange", error: ZtError | None) -> None: ...

    def tunnel(self, exchange: "Exchange", relay: Relay, extensions: bool) -> None: ...


class Granted(msgspec.Struct, frozen=True, gc=False):
    """A permission that holds as long as the very session or machine it was given to: no clock has a say in it."""

    to: Session | Machine
    decision: Decision
    circumstances: Circumstances
    """The part of its record that is the same each time."""
    statement: Statement = PLAIN
    """What its assertion says besides who asks."""


class Way:
    """What an ordinary head means at this gateway, found out once for all requests that repeat it from one address.

    It holds what follows from bytes and configuration alone, and the last permission that was given on it. That one is
    good for nobody else: whoever reads it compares. Kept here, and not with sessions, it is gone with the way.
    """

    __slots__ = (
        "act",
        "activity",
        "client",
        "cookie",
        "granted",
        "host",
        "middle",
        "origin",
        "raw_host",
        "rest_cookies",
        "route",
        "signed",
        "statement",
        "target",
    )

    def __init__(self, raw_host: bytes, host: str, target: Target, route: Route, client: str) -> None:
        self.raw_host = raw_host
        self.host = host
        self.target = target
        self.route = route
        self.client = client
        """Address of the client, after trusted proxies."""
        self.cookie: bytes | None = None
        """The value of our session cookie, None until somebody looked."""
        self.rest_cookies = b""
        self.activity: bool | None = None
        """A person did this, None until somebody looked."""
        self.middle = b""
        """The head for the platform, between its path and the request id; empty until it went there once."""
        self.granted: Granted | None = None
        self.signed: Signed | None = None
        """The last identity headers, and what they say besides who asks."""
        self.statement = PLAIN
        self.act = NO_ACT
        self.origin: Origin | None = None
        """None until somebody looked, at `act` as well."""


class Exchange:
    """What one request has become so far."""

    # Defaults live in the class: most requests never touch most fields, and a store per field and request adds up.
    host = ""
    target: Target | None = None
    route: Route | None = None
    way: Way | None = None
    """What was found out when the same head came before."""
    cookie = b""
    """The value of our session cookie."""
    rest_cookies = b""
    """What is left of the Cookie header for the platform."""
    session: CachedSession | None = None
    machine: KnownMachine | None = None
    """The integration behind the client certificate; it has no session."""
    retry_after = 0.0
    """Seconds after which a request over a rate may come again."""
    circumstances: Circumstances | None = None
    """The part of the decision's record that is the same for every request alike."""
    decision: Decision | None = None
    act: Act = NO_ACT
    """What the request means to its platform."""
    origin: Origin | None = None
    risk: Risk | None = None
    statement: Statement = PLAIN
    facts: Facts | None = None
    """What the last decision was made of."""
    masks: tuple[Mask, ...] = ()
    """What the answer goes through."""
    allowance: str = ""
    """Key of the limit that counts its bytes."""
    relay: Relay | None = None
    tunnel: Tunnel | None = None
    waiting = 0
    """How many things have to be known first, such as what control says; the body, if one comes, waits in `early`."""
    early: list[bytes] | None = None
    early_size = 0
    early_limit = EARLY_BODY
    continued = False
    """The client was told to send its body."""
    told = 0
    """Bytes of the answer that are on record while it goes on."""
    told_at = 0.0
    _complete: asyncio.Future[None] | None = None
    """Somebody waits for the whole body."""
    request_ended = False
    recorded = False
    done = False
    """The response is complete, or will never be."""
    status = 0

    def __init__(
        self, spine: Spine, connection: Downstream, head: RequestHead, id: bytes, at: float, started: float
    ) -> None:
        self.spine = spine
        self.connection = connection
        self.head = head
        self.id = id
        """The request id, as it stands in headers and records."""
        self.at = at
        """Epoch seconds of the head's arrival."""
        self.started = self.upstream_since = started
        """Monotonic seconds of the same; and since when the platform has the whole request, and so has to answer."""
        self.client = connection.peer
        self.close = not head.keep_alive
        """The connection ends with this response."""

    @property
    def request_id(self) -> str:
        """The request id as text."""
        return self.id.decode()

    # ---- from the client's connection ----

    def body(self, data: bytes) -> None:
        """A piece of the request's body."""
        if self.relay is not None:
            self.relay.request_body(data)
        elif self.waiting:
            early = self.early
            if early is None:
                self.early = [data]
            elif early and len(early[-1]) < EARLY_PIECE:
                early[-1] += data  # a piece of two bytes by itself would take twenty times its room
            else:
                early.append(data)
            self.early_size += len(data)  # counted, not summed up
            if self.early_size > self.early_limit:
                self.connection.pause_reading(Pause.EARLY)
                self.wake()  # who waits for the whole of it waits in vain

    def body_end(self) -> None:
        """The request is complete."""
        self.request_ended = True
        if self._complete is not None:
            self.wake()
        if self.relay is not None:
            self.relay.request_end()

    async def whole_body(self, limit: int = EARLY_BODY) -> bytes:
        """The body, when it is complete, while `waiting`. It stays in `early`.

        Of one that is longer than `limit` bytes it is the beginning, and `request_ended` may be false.
        """
        self.early_limit = limit
        if self.early_size <= limit:
            self.connection.resume_reading(Pause.EARLY)
            if not self.request_ended and not self.done:
                self._complete = asyncio.get_running_loop().create_future()
                await self._complete
        return b"".join(self.early or ())

    def wake(self) -> None:
        """The body is complete, or will never be."""
        if self._complete is not None and not self._complete.done():
            self._complete.set_result(None)

    def release_early(self) -> None:
        """One thing less to wait for. After the last, what came in the meantime goes where it belongs, or nowhere."""
        self.waiting -= 1
        if self.waiting:
            return
        early, self.early = self.early, None
        relay = self.relay
        if relay is not None:
            for data in early or ():
                relay.request_body(data)  # may be its end: then the exchange has let go of it
            if self.request_ended:
                relay.request_end()
        self.connection.resume_reading(Pause.EARLY)

    def client_gone(self) -> None:
        """The client's connection ended."""
        if self.tunnel is not None:
            self.tunnel.client_gone()
        elif self.relay is not None and not self.done:
            self.relay.cancel()
        self.done = True
        self.wake()

    # ---- from the relay ----

    def relay_done(self, error: ZtError | None) -> None:
        self.spine.finish(self, error)

    def relay_switched(self, relay: Relay, extensions: bool) -> None:
        self.spine.tunnel(self, relay, extensions)
