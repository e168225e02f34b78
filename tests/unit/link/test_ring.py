"""The ring between a worker and control."""

import os
import stat
import struct
from collections import deque
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.link.ring import RingDamaged, RingReader, RingWriter, ring_path, ring_paths

HEADER = 4096


def pair(path: Path, size: int = 4096) -> tuple[RingWriter, RingReader]:
    place = ring_path(path, 1, "boot")
    return RingWriter.create(place, size, worker=1, boot="boot"), RingReader.open(place)


def test_records_come_out_in_order_and_stay_until_committed(tmp_path: Path) -> None:
    writer, reader = pair(tmp_path)
    for number in range(10):
        writer.write(b"record %d" % number, 1.0)
    assert reader.read(3) == [b"record 0", b"record 1", b"record 2"]
    reader.rewind()
    assert len(reader.read(100)) == 10
    assert reader.pending()
    reader.commit()
    assert not reader.pending()
    assert reader.read(100) == []


def test_another_reader_goes_on_at_the_last_commit(tmp_path: Path) -> None:
    writer, reader = pair(tmp_path)
    writer.write(b"one", 1.0)
    writer.write(b"two", 1.0)
    reader.read(1)
    reader.commit()
    reader.read(1)
    reader.close()
    assert RingReader.open(ring_path(tmp_path, 1, "boot")).read(10) == [b"two"]


def test_the_file_is_private_and_names_its_worker_and_boot(tmp_path: Path) -> None:
    _writer, reader = pair(tmp_path)
    (path,) = ring_paths(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (reader.worker, reader.boot) == (1, "boot")


def test_a_ring_is_never_taken_over(tmp_path: Path) -> None:
    writer, _reader = pair(tmp_path)
    writer.write(b"kept", 1.0)
    with pytest.raises(FileExistsError):
        RingWriter.create(ring_path(tmp_path, 1, "boot"), 4096)
    assert os.listdir(tmp_path) == ["records-1-boot.ring"]
    assert RingReader.open(ring_path(tmp_path, 1, "boot")).read(1) == [b"kept"]


def test_a_full_ring_refuses_and_takes_again_after_a_commit(tmp_path: Path) -> None:
    writer, reader = pair(tmp_path)
    count = 0
    with pytest.raises(UnavailableError) as refused:  # noqa: PT012
        while True:
            writer.write(b"x" * 100, 1.0)
            count += 1
    assert refused.value.reason is Reason.RECORD_UNAVAILABLE
    reader.read(1)
    with pytest.raises(UnavailableError):
        writer.write(b"x" * 100, 1.0)
    reader.commit()
    writer.write(b"x" * 100, 1.0)
    assert len(reader.read(1000)) == count


def test_a_record_larger_than_the_ring_is_refused(tmp_path: Path) -> None:
    writer, reader = pair(tmp_path)
    with pytest.raises(UnavailableError):
        writer.write(b"x" * 5000, 1.0)
    writer.write(b"fits", 1.0)
    assert reader.read(10) == [b"fits"]


def test_a_record_that_was_not_published_is_not_read(tmp_path: Path) -> None:
    """What a writer killed in the middle of `write` leaves: payload and frame, no new head."""
    writer, _reader = pair(tmp_path)
    writer.write(b"whole", 1.0)
    path = ring_path(tmp_path, 1, "boot")
    head = struct.unpack_from("<Q", path.read_bytes(), 64)[0]
    with path.open("r+b") as file:
        file.seek(HEADER + head)
        file.write(struct.pack("<II", 100, 0) + b"\0" * 8 + b"torn")
    reader = RingReader.open(path)
    assert reader.read(10) == [b"whole"]
    assert reader.read(10) == []


def test_a_changed_byte_of_a_dead_writers_ring_is_found(tmp_path: Path) -> None:
    writer, _reader = pair(tmp_path)
    writer.write(b"first", 1.0)
    writer.write(b"second", 1.0)
    writer.close()
    path = ring_path(tmp_path, 1, "boot")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"second", b"sEcond"))
    reader = RingReader.open(path)
    assert reader.read(10) == [b"first"]
    with pytest.raises(RingDamaged):
        reader.read(10)


def test_a_frame_that_does_not_hold_is_waited_for_while_its_writer_lives(tmp_path: Path) -> None:
    writer, reader = pair(tmp_path)
    writer.write(b"late", 1.0)
    path = ring_path(tmp_path, 1, "boot")
    with path.open("r+b") as file:
        file.seek(HEADER + 16)
        file.write(b"....")
        file.flush()
        assert reader.read(10) == []
        file.seek(HEADER + 16)
        file.write(b"late")
    assert reader.read(10) == [b"late"]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\0" * 10_000, b"zt-ring\0" + b"\xff" * 10_000])
def test_a_file_that_is_not_a_ring_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "records-1-x.ring"
    path.write_bytes(content)
    with pytest.raises(RingDamaged):
        RingReader.open(path)


def test_a_reader_knows_whether_the_writer_is_there(tmp_path: Path) -> None:
    writer, reader = pair(tmp_path)
    assert reader.writer_alive()
    writer.close()
    writer.close()
    assert not reader.writer_alive()
    reader.remove()
    assert ring_paths(tmp_path) == []


def test_check_measures_the_oldest_record_across_the_wrap(tmp_path: Path) -> None:
    writer, reader = pair(tmp_path)
    now = 100.0
    for _ in range(200):
        writer.write(b"y" * 300, now)
        writer.check(now + 4.9)
        with pytest.raises(UnavailableError):
            writer.check(now + 5.1)
        assert reader.read(10) == [b"y" * 300]
        reader.commit()
        writer.check(now + 1000)
        now += 1


class RingAgainstDeque(RuleBasedStateMachine):
    """Whatever sizes are written and however they are read, a deque says the same."""

    @initialize(blocks=st.integers(1, 3))
    def start(self, blocks: int) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.writer, self.reader = pair(self.path, blocks * 4096)
        self.unread: deque[bytes] = deque()
        self.read_not_committed: list[bytes] = []
        self.number = 0

    @rule(size=st.one_of(st.integers(0, 600), st.integers(3900, 4200)))
    def write(self, size: int) -> None:
        self.number += 1
        record = (b"%d:" % self.number).ljust(size, b"z")
        try:
            self.writer.write(record, float(self.number))
        except UnavailableError:
            assert self.writer.used() + (len(record) + 32 + 4200) / 4096 > 1
        else:
            self.unread.append(record)

    @rule(limit=st.integers(0, 20))
    def read(self, limit: int) -> None:
        got = self.reader.read(limit)
        assert got == [self.unread.popleft() for _ in range(min(limit, len(self.unread)))]
        self.read_not_committed += got

    @rule()
    def commit(self) -> None:
        self.reader.commit()
        self.read_not_committed = []

    @rule()
    def rewind(self) -> None:
        self.reader.rewind()
        self.unread.extendleft(reversed(self.read_not_committed))
        self.read_not_committed = []

    @precondition(lambda self: self.number % 3 == 0)
    @rule()
    def reader_restarts(self) -> None:
        self.reader.close()
        self.reader = RingReader.open(ring_path(self.path, 1, "boot"))
        self.unread.extendleft(reversed(self.read_not_committed))
        self.read_not_committed = []

    @invariant()
    def pending_when_something_is_not_committed(self) -> None:
        if hasattr(self, "reader") and (self.unread or self.read_not_committed):
            assert self.reader.pending()

    def teardown(self) -> None:
        if hasattr(self, "writer"):
            self.writer.close()
            self.reader.close()
            self.folder.cleanup()


RingAgainstDeque.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestRingAgainstDeque = RingAgainstDeque.TestCase
