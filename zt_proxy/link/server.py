"""Control's end of the link between processes. See `link.unix`.

Nothing is queued for a worker but what the history holds anyhow: each connection has a place in the history, and is
brought forward as fast as its worker reads. One that falls out of the history is cut and starts anew.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.keys import KeyRing
from zt_proxy.link.frames import log
from zt_proxy.link.ledger import HISTORY, Ledger
from zt_proxy.link.locks import Lock
from zt_proxy.link.messages import (
    BEATS,
    LEASE,
    Change,
    Closing,
    CookieKeys,
    IdleNote,
    Invalidation,
    RevocationList,
    SessionAuthority,
    SigningKey,
    WorkerState,
)
from zt_proxy.link.peer import Peer

PEERS = 256
"""Connections at a time; workers are far fewer."""
_POLL = 0.05
"""Seconds between looks at a worker that left, whether its lease is over."""
_GOODBYE = 1.0
"""Seconds that workers have to read that control goes away."""


class _Left:
    """A worker without a connection that may still hold a lease."""

    __slots__ = ("lease_until", "state")

    def __init__(self, state: WorkerState, lease_until: float) -> None:
        self.state = state
        self.lease_until = lease_until


class LinkServer:
    """`WorkersLink` over a unix socket. Use `start` and `close`.

    `predecessor`: another control may have run here within the last lease, and workers of which nothing is known yet
    may live on what it gave them; `settled` waits that long before it says yes.
    """

    def __init__(
        self,
        path: Path,
        authority: SessionAuthority,
        ring: KeyRing,
        clock: Clock,
        *,
        lease: float = LEASE,
        history: int = HISTORY,
        predecessor: bool = True,
    ) -> None:
        self.path = path
        self.authority = authority
        self.cookie_keys = CookieKeys(ring.export())
        self.clock = clock
        self.lease = lease
        self.ledger = Ledger(history=history)
        self._predecessor = predecessor
        self._strangers_until = 0.0
        self._peers: set[Peer] = set()
        self._left: dict[str, _Left] = {}
        self._progress = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._inode = 0
        self._closed = False

    @property
    def boot(self) -> str:
        """Names this run of control."""
        return self.ledger.boot

    @property
    def sequence(self) -> int:
        return self.ledger.number

    async def start(self) -> None:
        """Listen, with mode 0600, in the place of a control that was here before. Raises OSError."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            listening.bind(str(self.path))
            self.path.chmod(0o600)  # before it listens: until then nobody can connect
            self._inode = self.path.stat().st_ino
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: Peer(self), sock=listening)
        except BaseException:
            listening.close()
            raise
        if self._predecessor:
            self._strangers_until = self.clock.monotonic() + self.lease
        self._upkeep = asyncio.create_task(self._keep_up(), name="link")

    async def close(self) -> None:
        """Take the lease from every worker and go. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        if self._upkeep is not None:
            self._upkeep.cancel()
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:  # else another control has taken the place
                self.path.unlink()
        for peer in tuple(self._peers):
            peer.send(Closing())
            peer.close()
        until = asyncio.get_running_loop().time() + _GOODBYE
        while self._peers and asyncio.get_running_loop().time() < until:
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._progress.wait(), _POLL)
        for peer in tuple(self._peers):
            peer.cut("it reads nothing")

    # what control says

    def invalidate(self, change: Invalidation) -> None:
        self._publish(self.ledger.invalidate(change))

    def signing_key(self, key: SigningKey) -> None:
        self._publish(self.ledger.signing_key(key))

    def revocation_lists(self, lists: Iterable[RevocationList]) -> None:
        self._publish(self.ledger.revocation_lists(lists))

    def lock(self, lock: Lock) -> None:
        self._publish(self.ledger.lock(lock))

    def unlock(self, id: str) -> None:
        self._publish(self.ledger.unlock(id))

    def noted(self, note: IdleNote) -> None:
        """A worker made this note: the others hear of it."""
        self._publish(self.ledger.idle_note(note))

    def _publish(self, changes: list[Change]) -> None:
        if changes and not self._closed:
            for peer in tuple(self._peers):
                peer.pump()

    # what control asks

    async def settled(self, sequence: int, within: float) -> bool:
        until = self.clock.monotonic() + within
        while not self._settled(sequence):
            left = until - self.clock.monotonic()
            if left <= 0:
                return False
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._progress.wait(), min(left, _POLL))
        return True

    def _settled(self, sequence: int) -> bool:
        now = self.clock.monotonic()
        if now < self._strangers_until:
            return False
        for key, left in tuple(self._left.items()):
            if now >= left.lease_until or _process_over(left.state.pid):
                del self._left[key]
            elif left.state.applied < sequence:
                return False
        return all(peer.applied >= sequence or now >= peer.lease_until for peer in self._peers if peer.greeted)

    def workers(self) -> list[WorkerState]:
        now = self.clock.monotonic()
        here = [peer.state(now) for peer in self._peers if peer.greeted]
        gone = [left.state for left in self._left.values() if now < left.lease_until]
        return sorted(here + gone, key=lambda state: (state.worker, state.boot))

    async def ask(self, worker: WorkerState, what: str, within: float = 1.0) -> bytes:
        for peer in self._peers:
            if peer.greeted and peer.key == worker.key:
                return await peer.ask(what, within)
        raise UnavailableError(Reason.CONTROL_UNAVAILABLE, f"worker {worker.key} is not connected")

    # connections

    def connected(self, peer: Peer) -> None:
        if self._closed or len(self._peers) >= PEERS:
            peer.cut("there are too many connections")
            return
        self._peers.add(peer)

    def greeted(self, peer: Peer) -> None:
        """A worker said who it is. It may have been here before: the lease it has from then still counts."""
        for other in tuple(self._peers):
            if other is not peer and other.greeted and other.key == peer.key:
                other.cut("the same worker came again")
                self.gone(other)
        left = self._left.pop(peer.key, None)
        if left is not None:
            peer.lease_until = left.lease_until
        log.info("worker connected", worker=peer.worker, boot=peer.boot, pid=peer.pid)

    def gone(self, peer: Peer) -> None:
        if peer not in self._peers:
            return
        self._peers.discard(peer)
        now = self.clock.monotonic()
        if peer.greeted:
            if now < peer.lease_until:
                self._left[peer.key] = _Left(peer.state(now, connected=False), peer.lease_until)
            log.info("worker gone", worker=peer.worker, boot=peer.boot, pid=peer.pid)
        self.progressed()

    def progressed(self) -> None:
        """Something happened that `settled` may wait for."""
        self._progress.set()

    async def _keep_up(self) -> None:
        """Cut who says nothing or reads nothing, and forget whose lease is over."""
        while True:
            await asyncio.sleep(self.lease / BEATS)
            now = self.clock.monotonic()
            for peer in tuple(self._peers):
                if now - peer.heard > (2 * self.lease if peer.greeted else self.lease):
                    peer.cut("it says nothing")
            for key, left in tuple(self._left.items()):
                if now >= left.lease_until:
                    del self._left[key]


def _process_over(pid: int) -> bool:
    """True if a process has ended, and with it its threads and sockets. A number used again says no, which is safe."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read(4096).rpartition(b")")[2].split()[0]
        return state in {b"X", b"Z"} and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except (FileNotFoundError, ProcessLookupError):
        return True
    except (OSError, IndexError):
        return False
