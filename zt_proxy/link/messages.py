"""What workers and control say to each other, and the ends of the link as Protocols.

The Protocols are what the wings program against; `link.memory` joins them in one process, `link.unix` joins processes.
Between processes each message is a frame: its length (4 bytes, big-endian), then one tagged struct as msgpack.

    worker                                            control
    Hello(last boot id, last number) ───────────────►
             ◄────────────────────────────── Welcome(boot id, lease, cookie keys, drop or not)
             ◄────────────────────────────── Change … Change    what was missed, or everything that is in force
             ◄────────────────────────────── Renew(at)          from here on the worker may decide
    Lookup ─────────────────────────────────►  ◄── Answer       a session, with the idle notes on it
    Spend, TakeForm ────────────────────────►  ◄── Answer       a proof that is good once, a form that was kept
    Activity, IdleNote ─────────────────────►
             ◄────────────────────────────── Change(number, …)  an invalidation, a key, a list, an idle note, a lock
    Applied(number) ────────────────────────►
    Beat(at) each second ───────────────────►  ◄── Renew(at)    the lease, counted from the worker's own `at`
             ◄────────────────────────────── Question           for status and metrics
    Reply ──────────────────────────────────►
    Goodbye ────────────────────────────────►                   the worker serves no more
             ◄────────────────────────────── Closing            control serves no more

A lease counts from the moment the worker asked, not from when the answer was read: however long a message lies about,
control knows when the lease has certainly run out.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from zt_proxy.core.session import Session
from zt_proxy.link.locks import Lock, LockChange
from zt_proxy.link.proofs import KeptForm, Proofs, Spend, TakeForm

VERSION = 3
"""Of this protocol. Control and workers come from one installation; another version is cut."""

LEASE = 5.0
"""Seconds for which a worker may decide after it last asked control (`link.lease`)."""
BEATS = 5
"""How often a worker asks within one lease: each second."""
LOOKUPS = 1_000
"""Look-ups of one worker under way at a time."""
PATIENCE = 2.0
"""Seconds for one look-up, however often it is asked again."""
BATCH = 1_000
"""Sessions in one `Activity`."""
OVERTAKEN = 16
"""Look-ups that may be overtaken in a row before the link gives up and says so."""
DOWN_BYTES = 16 * 1024 * 1024
"""Largest frame from control: a revocation list."""
UP_BYTES = 4 * 1024 * 1024
"""Largest frame from a worker: its metrics."""

CHANGED = frozenset(("handle-replaced", "unlocked", "proof-spent", "renewed"))
"""Reasons of invalidations after which the session lives on, and with it its open streams."""

RENEWED = "renewed"
"""Reason of an invalidation: the provider says something else of the person now. Their streams are decided again."""
RESYNC = "resync"
"""Reason of an invalidation of everything: changes were missed. Sessions may live on; control must be asked again."""
LEASE_LOST = "lease-lost"
"""Reason of an invalidation of everything: nobody can say who may stay. Open streams are cut."""
CLOSED = "closed"
"""Reason of an invalidation of everything: control went away in good order. As `LEASE_LOST`."""

SERIAL_BYTES = 20
"""RFC 5280 §4.1.2.2: a certificate's serial number is positive and has at most 20 octets."""


class Invalidation(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Forget what is cached. `sid` empty: everything. `sequence` is the store's number of the change."""

    sequence: int
    sid: str
    reason: str
    more: tuple[str, ...] = ()
    """Other sessions that the same change concerns."""

    @property
    def sids(self) -> tuple[str, ...]:
        """All that it concerns; empty: everything."""
        return (self.sid, *self.more) if self.sid else ()

    def concerns(self, sid: str) -> bool:
        """What was known of this session may not be so any more."""
        return not self.sid or sid == self.sid or sid in self.more


class SigningKey(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The assertion's current private key (PKCS#8 DER, P-256) and its id. Goes to workers only."""

    kid: str
    private_der: bytes

    def __repr__(self) -> str:
        """Without the private key: messages end up in logs and tracebacks."""
        return f"SigningKey(kid={self.kid!r})"


class RevocationList(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What an authority has revoked, as control read and checked it. Times are seconds since the epoch."""

    source: str
    """Path of the file of authorities that the list was checked against; a list counts for its listener only."""
    issuer: bytes
    """DER of the authority's name."""
    serials: bytes
    """Sorted serial numbers, `SERIAL_BYTES` big-endian bytes each; make it with `pack_serials`. 100,000 take 2 MB."""
    next_update: float
    """From then on the list is stale."""
    problem: str = ""
    """Why this list cannot be trusted; if not empty, every certificate of the issuer is refused."""

    def revokes(self, serial: int) -> bool:
        """True if the list names this serial number, or if it is none that RFC 5280 allows. O(log n)."""
        if not 0 <= serial < 1 << 8 * SERIAL_BYTES:
            return True
        wanted = serial.to_bytes(SERIAL_BYTES, "big")
        serials = _Records(self.serials)
        place = bisect_left(serials, wanted)
        return place < len(serials) and serials[place] == wanted

    def __len__(self) -> int:
        return len(self.serials) // SERIAL_BYTES

    def __bool__(self) -> bool:
        """A list without entries is a list all the same."""
        return True


class RevocationDropped(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The configuration names this list no more."""

    source: str
    issuer: bytes


class IdleNote(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A route found a session idle by its own, tighter time-out. Only a proof made at `at` or later undoes it."""

    sid: str
    route: str
    at: float


class CookieKeys(msgspec.Struct, frozen=True, array_like=True):
    """The key ring of cookie MACs and hand-offs, so that a worker reads no key file."""

    keys: dict[int, bytes]

    def __repr__(self) -> str:
        """Without the keys."""
        return f"CookieKeys(numbers={sorted(self.keys)})"


# ---- from control to a worker


class Welcome(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Control's first word. What is in force, or what was missed, follows as changes; the first `Renew` ends it."""

    boot: str
    """Names this run of control; numbers of another run mean nothing."""
    number: int
    """Of the change before the next: the worker's own, or with `drop` the one whose state follows."""
    lease: float
    """Seconds from a `Beat` for which the worker may decide."""
    cookie_keys: CookieKeys
    drop: bool
    """Changes were missed that control no longer knows: drop every cache. All that is in force follows."""


class Change(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Something no worker may miss, under the link's own rising number. 0: part of what is in force at a `Welcome`."""

    number: int
    body: Invalidation | SigningKey | RevocationList | RevocationDropped | IdleNote | LockChange


class Renew(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Every change up to `number` has been sent; the lease counts from `at`, the worker's monotonic seconds."""

    at: float
    number: int


class Answer(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """To a `Lookup`, a `Spend` or a `TakeForm`. `fault`: the Reason why nobody can say."""

    id: int
    session: Session | None = None
    idle: dict[str, float] = {}
    """Route → time of the idle note."""
    fault: str = ""
    detail: str = ""
    spent: bool = False
    form: KeptForm | None = None


class Question(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Control wants to know something of a worker: `status`, `metrics`, ..."""

    id: int
    what: str


class Closing(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Control goes away in good order: the lease ends now."""


Down = Welcome | Change | Renew | Answer | Question | Closing

# ---- from a worker to control


class Hello(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A worker's first word: who it is, and the last change it has in force."""

    version: int
    worker: int
    boot: str
    at: float
    """As in `Beat`."""
    control_boot: str = ""
    number: int = 0


class Beat(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Asks for the lease. `at`: the worker's monotonic seconds now."""

    at: float


class Lookup(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Whose handle is this? See `ControlLink.session`."""

    id: int
    handle_hash: bytes
    host: str


class Activity(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Session id → when a person last did something, as this worker saw it."""

    seen: dict[str, float]


class Applied(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Every change up to this number is in force on this worker."""

    number: int


class Reply(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """To a `Question`. `problem` not empty: the worker could not say."""

    id: int
    body: bytes
    problem: str = ""


class Goodbye(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The worker has stopped serving: its lease is over."""


Up = Hello | Beat | Lookup | Spend | TakeForm | Activity | IdleNote | Applied | Reply | Goodbye

# ---- the ends


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What control knows of a worker. Ages in seconds."""

    worker: int
    boot: str
    pid: int
    connected: bool
    """False: it left, or was cut, and may still hold a lease."""
    applied: int
    """The last change it has in force."""
    heard: float
    """Age of its last message."""

    @property
    def key(self) -> str:
        """Unique among workers, also while an old and a new one share a slot."""
        return f"{self.worker}-{self.boot}"


class SessionAuthority(Proofs, Protocol):
    """The part of control that knows which sessions live."""

    async def session(self, handle_hash: bytes, host: str) -> Session | None: ...

    def activity(self, sid: str, at: float) -> None: ...


class ControlLink(Proofs, Protocol):
    """Control, as a worker sees it."""

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        """The live session of a handle at a host; None if unknown, ended, idle or expired.

        What it gives was still true after the last invalidation that this worker has in force. Raises
        UnavailableError(CONTROL_UNAVAILABLE or STORE_UNAVAILABLE) when nobody can say.
        """

    def activity(self, sid: str, at: float) -> None:
        """A person did something in this session at `at`. Batched; never waits."""

    def idle_note(self, sid: str, route: str, at: float) -> None:
        """This route found the session idle at `at`; every worker hears of it. Never waits."""

    def alive(self) -> bool:
        """False once the lease ran out: nothing may be decided any more."""


class WorkerLink(Protocol):
    """A worker, as control sees it. Calls return when the change is in force on that worker."""

    def invalidate(self, change: Invalidation) -> None: ...

    def signing_key(self, key: SigningKey) -> None: ...

    def revocation_lists(self, lists: tuple[RevocationList, ...]) -> None:
        """All lists that are in force from now on."""

    def idle_note(self, note: IdleNote) -> None:
        """A worker, perhaps this one, made this note. May come again; the latest `at` of a session and route counts."""

    def locks(self, changes: tuple[LockChange, ...]) -> None:
        """In this order. A lock may be set again, and one that is not there lifted."""


class WorkersLink(Protocol):
    """The workers, as control sees them: what both links offer to control."""

    @property
    def sequence(self) -> int:
        """The link's number of the last change, of whatever kind; 0 before the first."""

    def invalidate(self, change: Invalidation) -> None:
        """Put an invalidation on its way to every worker. `settled(link.sequence)` says when it is in force."""

    def signing_key(self, key: SigningKey) -> None:
        """The key that signs from now on."""

    def revocation_lists(self, lists: Iterable[RevocationList]) -> None:
        """All lists there are; only what changed is sent."""

    def lock(self, lock: Lock) -> None:
        """In force from now on, in place of any with the same id."""

    def unlock(self, id: str) -> None:
        """In force no more, if it ever was."""

    async def settled(self, sequence: int, within: float) -> bool:
        """True once every worker has all changes up to `sequence` in force or may decide nothing any more; False if
        that is still open after `within` seconds."""

    def workers(self) -> list[WorkerState]:
        """The workers that may decide something, in the order of their numbers."""

    async def ask(self, worker: WorkerState, what: str, within: float = 1.0) -> bytes:
        """What the worker's `AskHandler` says to `what`.

        Raises UnavailableError(CONTROL_UNAVAILABLE) if it is gone, does not know, or takes more than `within` seconds.
        """


AskHandler = Callable[[str], bytes]
"""A worker's side of `WorkersLink.ask`. Raises KeyError for what it does not know."""


def pack_serials(serials: Iterable[int]) -> bytes:
    """`RevocationList.serials`. Raises ValueError for a number that RFC 5280 §4.1.2.2 does not allow."""
    try:
        return b"".join(sorted({serial.to_bytes(SERIAL_BYTES, "big") for serial in serials}))
    except OverflowError as error:
        raise ValueError(f"a serial number is negative or has more than {SERIAL_BYTES} octets") from error


class _Records:
    """Packed serial numbers as a sequence to search in."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // SERIAL_BYTES

    def __getitem__(self, place: int) -> bytes:
        return self._data[place * SERIAL_BYTES : (place + 1) * SERIAL_BYTES]
