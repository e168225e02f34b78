"""What only a link between processes can get wrong: losses, slow and hostile peers, leases, a control that is replaced."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

import msgspec
import pytest
import uvloop

from tests.lab.links import HANDLE, RING, SESSION, Authority, HearingWorker, UnixLinks, in_force
from tests.lab.waiting import until
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.keys import KeyRing
from zt_proxy.link import frames
from zt_proxy.link.frames import FrameReader, frame
from zt_proxy.link.messages import (
    DOWN_BYTES,
    LEASE_LOST,
    RESYNC,
    VERSION,
    Answer,
    Applied,
    Beat,
    Change,
    CookieKeys,
    Down,
    Hello,
    IdleNote,
    Invalidation,
    Lookup,
    Renew,
    RevocationList,
    SigningKey,
    Up,
    Welcome,
    pack_serials,
)
from zt_proxy.link.unix import LinkClient, LinkServer

SHORT = 0.3
"""A lease that a test can wait for."""
MANY = pack_serials(range(100_000))
"""What a list of 100,000 revoked certificates weighs."""

Make = Callable[..., Awaitable[UnixLinks]]


class RawWorker:
    """Someone who connects and says what a test wants, by hand."""

    met: ClassVar[list["RawWorker"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(DOWN_BYTES)
        self._decoder = msgspec.msgpack.Decoder(Down)
        self._found: list[Any] = []
        self.met.append(self)

    @classmethod
    async def connect(cls, links: UnixLinks) -> "RawWorker":
        return cls(*await asyncio.open_unix_connection(str(links.path)))

    async def greet(self, *, boot: str = "raw", **known: Any) -> "RawWorker":
        self.say(Hello(VERSION, 99, boot, SystemClock.monotonic(), **known))
        return self

    def say(self, message: Any) -> None:
        self._writer.write(frame(message))

    async def hear(self) -> Any:
        """The next message, or None once the connection is gone."""
        while not self._found:
            try:
                data = await asyncio.wait_for(self._reader.read(65_536), 10)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._found += [self._decoder.decode(body) for body in self._frames.feed(data)]
        return self._found.pop(0)

    async def hear_until(self, kind: type) -> Any:
        while not isinstance(message := await self.hear(), kind):
            assert message is not None
        return message

    def leave(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def make(authority: Authority) -> AsyncIterator[Make]:
    made: list[UnixLinks] = []

    async def links(**settings: Any) -> UnixLinks:
        made.append(UnixLinks(authority, **settings))
        return await made[-1].start()

    yield links
    authority.go.set()
    while RawWorker.met:
        RawWorker.met.pop().leave()
    for each in made:
        await each.stop()


def reasons(worker: HearingWorker) -> list[str]:
    return [change.reason for change in worker.changes if not change.sid]


# ---- losses


async def test_after_a_loss_a_worker_gets_just_what_it_missed(make: Make) -> None:
    links = await make()
    worker = HearingWorker()
    link = await links.join(worker)
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    await in_force(links)
    links.cut()
    links.control.invalidate(Invalidation(2, "s2", "signed-out"))
    links.control.signing_key(SigningKey("k2", b"der"))
    assert link.alive()
    await in_force(links)
    assert [change.sid for change in worker.changes] == ["s1", "s2"]
    assert worker.keys == [SigningKey("k2", b"der")]
    assert link.alive()


async def test_a_worker_that_missed_more_than_is_remembered_drops_everything(make: Make) -> None:
    links = await make(history=10)
    links.control.revocation_lists([RevocationList("ca", b"name", b"", 1.0)])
    links.control.signing_key(SigningKey("k1", b"der"))
    worker = HearingWorker()
    link = await links.join(worker)
    links.cut()
    for sequence in range(1, 50):
        links.control.invalidate(Invalidation(sequence, f"s{sequence}", "signed-out"))
    links.control.signing_key(SigningKey("k2", b"der"))
    await in_force(links)
    assert reasons(worker) == [RESYNC]
    assert worker.keys[-1].kid == "k2"
    assert len(worker.lists[-1]) == 1
    assert await link.session(HANDLE, SESSION.host) == SESSION


@pytest.mark.case("ZT-NET-02")
async def test_a_control_in_the_place_of_another_has_every_cache_dropped(make: Make, authority: Authority) -> None:
    links = await make()
    worker = HearingWorker()
    link = await links.join(worker)
    for sequence in range(1, 4):
        links.control.invalidate(Invalidation(sequence, "s", "signed-out"))
    links.control.revocation_lists([RevocationList("ca", b"name", b"", 1.0)])
    await in_force(links)
    await links.crash()
    await links.start()
    for sequence in range(4, 8):  # the same numbers of the link, from another control
        links.control.invalidate(Invalidation(sequence, "s", "signed-out"))
    await until(lambda: RESYNC in reasons(worker))
    await until(lambda: worker.lists[-1] == ())
    await until(lambda: any(state.connected for state in links.control.workers()))
    assert await link.session(HANDLE, SESSION.host) == SESSION


async def test_a_look_up_in_a_broken_link_fails_at_once_and_says_whose_fault_it_is(
    make: Make, authority: Authority
) -> None:
    links = await make()
    link = await links.join(HearingWorker())
    authority.go.clear()
    look_up = asyncio.ensure_future(link.session(HANDLE, SESSION.host))
    await until(lambda: authority.asked == 1)
    await links.crash()
    with pytest.raises(UnavailableError) as caught:
        await look_up
    assert caught.value.reason is Reason.CONTROL_UNAVAILABLE


async def test_a_look_up_that_takes_too_long_fails(make: Make, authority: Authority) -> None:
    links = await make()
    client = LinkClient(links.path, SystemClock(), number=9, boot="b", patience=0.05)
    client.start()
    await client.ready(5)
    authority.go.clear()
    with pytest.raises(UnavailableError, match="too long"):
        await client.session(HANDLE, SESSION.host)
    await client.close()


async def test_activity_of_a_loss_is_told_to_the_next_control(make: Make, authority: Authority) -> None:
    links = await make()
    link = await links.join(HearingWorker())
    await links.crash()
    link.activity("s1", 5.0)
    link.activity("s1", 4.0)
    await links.start()
    await until(lambda: authority.heard == [("s1", 5.0)])


async def test_idle_notes_outlive_control(make: Make) -> None:
    links = await make()
    first, second = HearingWorker(), HearingWorker()
    link = await links.join(first)
    await links.crash()
    link.idle_note("s1", "flows", 7.0)
    await links.start()
    await links.join(second)
    await until(lambda: IdleNote("s1", "flows", 7.0) in second.notes)


# ---- the lease


async def silent_control(path: str, words: list[Any]) -> asyncio.Server:
    """Says each of `words` (made from the worker's Hello) to whoever comes, and then nothing more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        hello = msgspec.msgpack.decode(await reader.readexactly(size), type=Up)
        for word in words:
            writer.write(frame(word(hello)))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    return await asyncio.start_unix_server(serve, path)


def welcome(lease: float, *, number: int = 0, drop: bool = True, ring: KeyRing = RING) -> Callable[[Hello], Welcome]:
    return lambda hello: Welcome("raw", number, lease, CookieKeys(ring.export()), drop)


@pytest.mark.case("ZT-NET-02")
async def test_without_a_renewal_the_lease_runs_out_and_everything_is_dropped(make: Make) -> None:
    links = await make()
    path = str(links.directory / "silent.sock")
    server = await silent_control(path, [welcome(SHORT), lambda hello: Renew(hello.at, 0)])
    client = LinkClient(links.directory / "silent.sock", SystemClock(), number=1, boot="b")
    worker = HearingWorker()
    client.start()
    await client.ready(5)
    client.attach(worker)
    assert client.alive()
    await until(lambda: LEASE_LOST in reasons(worker))
    assert client.problem
    await client.close()
    server.close()


@pytest.mark.parametrize(
    "words",
    [
        [lambda hello: Renew(hello.at, 0)],
        [welcome(5.0), lambda hello: Renew(hello.at + 3600, 0)],
        [welcome(5.0), lambda hello: Renew(hello.at - 6, 0), lambda hello: Beat(1.0)],
        [welcome(5.0), lambda hello: Renew(hello.at, 1)],
        [welcome(5.0), lambda hello: Change(2, Invalidation(2, "s", "x")), lambda hello: Renew(hello.at, 2)],
        [welcome(5.0), welcome(5.0), lambda hello: Renew(hello.at, 0)],
        [welcome(float("inf")), lambda hello: Renew(hello.at, 0)],
        [welcome(5.0, drop=False), lambda hello: Renew(hello.at, 0)],
        [lambda hello: Beat(1.0)],
    ],
    ids=[
        "unwelcomed",
        "future",
        "asked-for-long-ago",
        "gap",
        "skipped",
        "twice",
        "for-ever",
        "no-start",
        "other-direction",
    ],
)
async def test_a_lease_that_does_not_follow_the_rules_is_none(make: Make, words: list[Any]) -> None:
    links = await make()
    came = 0

    def counting(hello: Hello) -> Any:
        nonlocal came
        came += 1
        return words[0](hello)

    server = await silent_control(str(links.directory / "odd.sock"), [counting, *words[1:]])
    client = LinkClient(links.directory / "odd.sock", SystemClock(), number=1, boot="b")
    client.start()
    await until(lambda: came >= 2)  # it was cut, and tried again
    assert not client.alive()
    await client.close()
    server.close()


@pytest.mark.case("ZT-NET-02")
async def test_an_answer_that_arrives_together_with_its_own_revocation_does_not_count(make: Make) -> None:
    """Whoever waits for the answer runs only after both were read."""
    links = await make()
    path = links.directory / "glued.sock"
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                match msgspec.msgpack.decode(await reader.readexactly(size), type=Up):
                    case Hello() as hello:
                        writer.write(frame(welcome(60.0)(hello)) + frame(Renew(hello.at, 0)))
                    case Lookup() as look_up if not asked:
                        asked += 1
                        change = Change(1, Invalidation(1, SESSION.sid, "signed-out"))
                        writer.write(frame(Answer(look_up.id, SESSION)) + frame(change))
                    case Lookup() as look_up:
                        asked += 1
                        writer.write(frame(Answer(look_up.id)))
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    client = LinkClient(path, SystemClock(), number=1, boot="b")
    client.start()
    await client.ready(5)
    assert await client.session(HANDLE, SESSION.host) is None
    assert asked == 2
    await client.close()
    server.close()


async def test_a_change_is_settled_only_when_a_lost_worker_can_have_no_lease(make: Make) -> None:
    links = await make(lease=SHORT)
    raw = await (await RawWorker.connect(links)).greet()
    await raw.hear_until(Renew)
    raw.leave()
    await until(lambda: [state.connected for state in links.control.workers()] == [False])
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    assert not await links.control.settled(1, 0.0)
    assert await links.control.settled(1, 5.0)
    assert links.control.workers() == []


async def test_a_worker_that_listens_and_says_nothing_holds_a_change_up_until_its_lease_ends(make: Make) -> None:
    links = await make(lease=SHORT)
    raw = await (await RawWorker.connect(links)).greet()
    await raw.hear_until(Renew)
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    await raw.hear_until(Change)
    assert not await links.control.settled(1, 0.0)
    assert await links.control.settled(1, 5.0)
    assert await raw.hear() is None  # and is cut


async def test_nobody_waits_for_a_worker_whose_process_is_over(make: Make) -> None:
    links = await make(lease=60.0)
    code = (
        "import asyncio, sys; from pathlib import Path; from zt_proxy.core.clock import SystemClock\n"
        "from zt_proxy.link.unix import LinkClient\n"
        "async def main():\n"
        "    link = LinkClient(Path(sys.argv[1]), SystemClock(), number=1, boot='b'); link.start()\n"
        "    await link.ready(20); await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(links.path))
    await until(lambda: any(state.pid == process.pid for state in links.control.workers()))
    process.send_signal(signal.SIGKILL)
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    assert await links.control.settled(1, 10.0)
    await process.wait()


async def test_a_control_that_follows_another_waits_for_leases_it_did_not_give(make: Make) -> None:
    links = await make(lease=SHORT)
    await links.crash()
    await links.start()
    links.control.invalidate(Invalidation(1, "s1", "signed-out"))
    assert not await links.control.settled(1, 0.0)
    assert await links.control.settled(1, 5.0)


# ---- peers that are slow, hostile or confused


async def test_a_worker_that_reads_nothing_is_cut_and_nothing_piles_up(make: Make) -> None:
    links = await make()
    raw = await (await RawWorker.connect(links)).greet()
    await raw.hear_until(Renew)
    raw._reader._transport.pause_reading()
    for number in range(40):
        links.control.revocation_lists([RevocationList("ca", b"name", MANY, float(number))])
        await asyncio.sleep(0)
        waiting = sum(peer.transport.get_write_buffer_size() for peer in links.control._peers)
        assert waiting < 3 * len(MANY)
    assert not any(state.connected for state in links.control.workers())


async def test_large_lists_reach_a_worker_as_fast_as_it_reads(make: Make) -> None:
    links = await make()
    lists = [RevocationList("ca", bytes((number,)), MANY, 1.0) for number in range(6)]
    links.control.revocation_lists(lists)
    worker = HearingWorker()
    link = await links.join(worker)
    assert set(worker.lists[-1]) == set(lists)
    assert worker.lists[-1][0].revokes(99_999)
    assert not worker.lists[-1][0].revokes(100_000)
    assert link.alive()


async def test_a_user_other_than_ours_is_cut_before_anything_is_said(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = await make()
    monkeypatch.setattr(frames, "_credentials", lambda transport: (1, os.geteuid() + 1))
    raw = await RawWorker.connect(links)
    assert await raw.hear() is None
    client = LinkClient(links.path, SystemClock(), number=1, boot="b")
    client.start()
    with pytest.raises(UnavailableError):
        await client.ready(0.1)
    await client.close()


async def test_only_this_user_may_connect(make: Make) -> None:
    links = await make()
    assert links.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "bytes_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(Beat(1.0)),
        frame(Hello(VERSION + 1, 1, "b", 1.0)),
        frame(Hello(VERSION, 1, "", 1.0)),
        frame(Hello(VERSION, 1, "b" * 65, 1.0)),
        frame(Hello(VERSION, 1, "b", 1.0)) * 2,
        frame(Hello(VERSION, 1, "b", 1.0)) + frame(Applied(5)),
        frame(Hello(VERSION, 1, "b", 1.0)) + frame(Renew(1.0, 1)),
        frame(Hello(VERSION, 1, "b", 1.0)) + b"\0\0\0\1\xc1",
        frame(Hello(VERSION, 1, "b", 1.0)) + b"\0\0\0\x09\x92\xa6Beat\xff\xff\x01",
    ],
    ids=[
        "http",
        "no-hello",
        "version",
        "nameless",
        "long-name",
        "two",
        "ahead",
        "other-direction",
        "garbage",
        "not-utf-8",
    ],
)
async def test_a_peer_that_does_not_keep_the_rules_is_cut_and_control_goes_on(make: Make, bytes_: bytes) -> None:
    links = await make()
    raw = await RawWorker.connect(links)
    raw._writer.write(bytes_)
    while await raw.hear() is not None:
        pass
    link = await links.join(HearingWorker())
    assert await link.session(HANDLE, SESSION.host) == SESSION


async def test_a_peer_that_never_says_who_it_is_is_cut(make: Make) -> None:
    links = await make(lease=SHORT)
    raw = await RawWorker.connect(links)
    assert await raw.hear() is None


async def test_a_worker_that_comes_twice_counts_once(make: Make) -> None:
    links = await make()
    first = await (await RawWorker.connect(links)).greet()
    await first.hear_until(Renew)
    second = await (await RawWorker.connect(links)).greet()
    await second.hear_until(Renew)
    assert await first.hear() is None
    assert [state.connected for state in links.control.workers()] == [True]


async def test_a_worker_that_overruns_the_bound_of_look_ups_is_told_no(make: Make, authority: Authority) -> None:
    links = await make()
    raw = await (await RawWorker.connect(links)).greet()
    await raw.hear_until(Renew)
    authority.go.clear()
    for number in range(1_200):
        raw.say(Lookup(number, HANDLE, SESSION.host))
    for _ in range(200):
        assert (await raw.hear()).fault == Reason.CONTROL_UNAVAILABLE.value
    assert authority.asked <= 1_000


async def test_a_fault_in_control_is_a_fault_and_not_an_unknown_session(make: Make, authority: Authority) -> None:
    links = await make()
    link = await links.join(HearingWorker())
    authority.fault = RuntimeError("broken")
    with pytest.raises(UnavailableError):
        await link.session(HANDLE, SESSION.host)


async def test_control_does_not_wait_for_an_answer_that_does_not_come(make: Make) -> None:
    links = await make()
    raw = await (await RawWorker.connect(links)).greet()
    await raw.hear_until(Renew)
    state = links.control.workers()[0]
    with pytest.raises(UnavailableError, match="does not answer"):
        await links.control.ask(state, "status", 0.05)
    asking = asyncio.ensure_future(links.control.ask(state, "status", 20.0))
    await asyncio.sleep(0)
    raw.leave()
    with pytest.raises(UnavailableError):
        await asking
    with pytest.raises(UnavailableError, match="not connected"):
        await links.control.ask(state, "status")


async def test_a_worker_with_other_cookie_keys_has_no_lease_and_knows_that_it_is_outdated(make: Make) -> None:
    links = await make()
    worker = HearingWorker()
    link = await links.join(worker)
    await links.crash()
    successor = LinkServer(links.path, Authority(), KeyRing({2: b"n" * 32}), SystemClock())
    await successor.start()
    await asyncio.wait_for(link.outdated.wait(), 10)
    assert not link.alive()
    assert LEASE_LOST in reasons(worker)
    await successor.close()


async def test_a_control_that_goes_leaves_the_socket_of_its_successor(make: Make) -> None:
    links = await make()
    old = links.control
    await links.start()
    await old.close()
    assert links.path.exists()
    link = await links.join(HearingWorker())
    assert await link.session(HANDLE, SESSION.host) == SESSION


def test_the_link_runs_on_the_event_loop_of_production() -> None:
    async def scene() -> None:
        links = await UnixLinks(Authority()).start()
        worker = HearingWorker()
        link = await links.join(worker, answer=str.encode)
        assert await link.session(HANDLE, SESSION.host) == SESSION
        links.control.revocation_lists([RevocationList("ca", b"name", MANY, 1.0)])
        links.cut()
        links.control.invalidate(Invalidation(1, "s1", "signed-out"))
        await in_force(links)
        assert [change.sid for change in worker.changes] == ["s1"]
        assert await links.control.ask(links.control.workers()[0], "hi") == b"hi"
        await links.stop()

    uvloop.run(scene())
