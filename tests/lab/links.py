"""Both links between control and workers, put together in one way, so that each promise can be tried over each."""

import asyncio
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

from zt_proxy.core.clock import SystemClock
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Level, Principal, Proof, Session
from zt_proxy.link.locks import LockChange
from zt_proxy.link.memory import MemoryLink
from zt_proxy.link.messages import (
    AskHandler,
    ControlLink,
    IdleNote,
    Invalidation,
    RevocationList,
    SigningKey,
    WorkerLink,
    WorkersLink,
    WorkerState,
)
from zt_proxy.link.proofs import KeptForm
from zt_proxy.link.unix import LinkClient, LinkServer

HANDLE = b"h" * 32
RING = KeyRing({1: b"k" * 32})


def session(sid: str = "s1", host: str = "flows.example.com") -> Session:
    return Session(
        sid=sid,
        host=host,
        principal=Principal(
            subject="alice",
            issuer="https://idp.example",
            provider="corp",
            groups=frozenset(("staff", "ops")),
            claims={"level": 3, "areas": ("a", "b")},
        ),
        acr="",
        amr=("pwd", "otp"),
        mfa=True,
        auth_time=1.0,
        created=1.0,
        last_activity=1.0,
        idle_timeout=900.0,
        absolute_deadline=43_201.0,
        proofs={"flows\x1frule": Proof(2.0, Level.MULTI)},
    )


SESSION = session()


class Authority:
    """Control's side at the edge of the link: answers from a table, and can be held back."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[bytes, str], Session] = {(HANDLE, SESSION.host): SESSION}
        self.heard: list[tuple[str, float]] = []
        self.asked = 0
        self.proofs: dict[tuple[str, str], bool] = {}
        self.forms: dict[tuple[str, str, str, str], KeptForm] = {}
        self.fault: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def session(self, handle_hash: bytes, host: str) -> Session | None:
        self.asked += 1
        found = self.sessions.get((handle_hash, host))
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return found

    async def spend(self, sid: str, key: str) -> bool:
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return self.proofs.pop((sid, key), False)

    async def kept(self, sid: str, token: str, host: str, target: str) -> KeptForm | None:
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return self.forms.pop((sid, token, host, target), None)

    def activity(self, sid: str, at: float) -> None:
        self.heard.append((sid, at))


class HearingWorker:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.changes: list[Invalidation] = []
        self.keys: list[SigningKey] = []
        self.lists: list[tuple[RevocationList, ...]] = []
        self.notes: list[IdleNote] = []
        self.locked: list[LockChange] = []
        self.stuck = False

    def invalidate(self, change: Invalidation) -> None:
        if self.stuck:
            raise RuntimeError("this worker is stuck")
        self.changes.append(change)

    def signing_key(self, key: SigningKey) -> None:
        self.keys.append(key)

    def revocation_lists(self, lists: tuple[RevocationList, ...]) -> None:
        self.lists.append(lists)

    def idle_note(self, note: IdleNote) -> None:
        self.notes.append(note)

    def locks(self, changes: tuple[LockChange, ...]) -> None:
        if self.stuck:
            raise RuntimeError("this worker is stuck")
        self.locked += changes


class Links(Protocol):
    """One control and its workers, over one kind of link."""

    control: WorkersLink

    async def join(self, worker: WorkerLink, *, answer: AskHandler | None = None) -> ControlLink:
        """A worker that is ready to serve."""

    async def leave(self, worker: WorkerLink) -> None:
        """It serves no more."""

    async def close(self) -> None:
        """Control goes away in good order."""

    async def stop(self) -> None:
        """Whatever runs."""


class MemoryLinks:
    def __init__(self, authority: Authority) -> None:
        self.control = MemoryLink(authority)
        self._joined = 0

    async def join(self, worker: WorkerLink, *, answer: AskHandler | None = None) -> MemoryLink:
        self._joined += 1
        self.control.attach(worker, number=self._joined, boot="b", answer=answer)
        return self.control

    async def leave(self, worker: WorkerLink) -> None:
        self.control.detach(worker)

    async def close(self) -> None:
        self.control.close()

    async def stop(self) -> None:
        self.control.close()


class UnixLinks:
    """`start` a second time puts another control in the place of the one before, as after a crash."""

    def __init__(self, authority: Authority, *, lease: float = 5.0, history: int = 10_000) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="zt-link-"))
        self.path = self.directory / "link.sock"
        self.clients: dict[int, LinkClient] = {}
        self._authority = authority
        self._lease = lease
        self._history = history
        self._server: LinkServer | None = None

    @property
    def control(self) -> LinkServer:
        assert self._server is not None
        return self._server

    async def start(self) -> "UnixLinks":
        self._server = LinkServer(
            self.path,
            self._authority,
            RING,
            SystemClock(),
            lease=self._lease,
            history=self._history,
            predecessor=self._server is not None,
        )
        await self._server.start()
        return self

    async def crash(self) -> None:
        """Control dies: nobody is told, and the socket's file stays."""
        server = self.control
        server._closed = True
        server._upkeep.cancel()
        server._server.close()
        self.cut()

    def cut(self) -> None:
        """Every connection breaks; control and workers live."""
        for peer in tuple(self.control._peers):
            peer.cut("a test wants it so")

    async def join(self, worker: WorkerLink, *, answer: AskHandler | None = None) -> LinkClient:
        client = LinkClient(self.path, SystemClock(), number=len(self.clients) + 1, boot=secrets.token_hex(4))
        client.start()
        assert (await client.ready(5.0)).export() == RING.export()
        client.attach(worker, answer=answer)
        self.clients[id(worker)] = client
        return client

    async def leave(self, worker: WorkerLink) -> None:
        await self.clients[id(worker)].close()

    async def close(self) -> None:
        await self.control.close()

    async def stop(self) -> None:
        for client in self.clients.values():
            await client.close()
        await self.control.close()
        shutil.rmtree(self.directory)


async def memory_links(authority: Authority) -> Links:
    return MemoryLinks(authority)


async def unix_links(authority: Authority) -> Links:
    return await UnixLinks(authority).start()


LINKS = {"memory": memory_links, "unix": unix_links}


async def in_force(links: Links) -> None:
    """Wait until every worker has every change."""
    assert await links.control.settled(links.control.sequence, 5.0)


def state_of(links: Links, number: int) -> WorkerState:
    return next(state for state in links.control.workers() if state.worker == number)
