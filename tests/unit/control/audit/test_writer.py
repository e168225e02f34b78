"""From rings to durable lines, through crashes and full disks."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from zt_proxy.control.audit.chain import log_files
from zt_proxy.control.audit.verify import verify
from zt_proxy.control.audit.writer import AuditWriter
from zt_proxy.control.settings import AuditSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError, Reason, UnavailableError
from zt_proxy.core.types import Decision, Effect
from zt_proxy.link.ring import RingReader, RingWriter, ring_path, ring_paths
from zt_proxy.worker.record import Recorder

ALLOWED = Decision(Effect.ALLOW, Reason.RULE_ALLOWED, "staff-view")


def recorder(runtime: Path, boot: str = "boot-a", size: int = 1 << 20, clock: ManualClock | None = None) -> Recorder:
    ring = RingWriter.create(ring_path(runtime, 1, boot), size, worker=1, boot=boot)
    return Recorder(ring, worker=1, boot=boot, clock=clock or ManualClock())


def decide(to: Recorder, request: str, path: bytes = b"/") -> None:
    circumstances = to.describe("app", "app.example", b"GET", "192.0.2.1", None, ALLOWED)
    to.decision(request.encode(), 1_800_000_000.0, path, circumstances)


def records(log: Path) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for path in log_files(log) for line in path.read_bytes().splitlines()]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
async def writer(runtime: Path, log: Path) -> AsyncIterator[AuditWriter]:
    writer = AuditWriter(AuditSettings(log), runtime, ManualClock(), interval=0.01)
    await writer.start()
    yield writer
    await writer.stop()


async def test_decisions_and_ends_become_a_chain_that_verifies(writer: AuditWriter, runtime: Path, log: Path) -> None:
    to = recorder(runtime)
    for number in range(100):
        decide(to, f"r{number}")
        to.end(b"r%d" % number, 1_800_000_001.0, 200, 0, 1024, 0.25)
    to.flush()
    await until(lambda: writer.seq == 200)
    report = verify([log])
    assert report.ok
    assert report.lines == 200
    first, second = records(log)[:2]
    assert (first["type"], first["id"], first["effect"], first["rule"]) == ("decision", "r0", "allow", "staff-view")
    assert (second["type"], second["status"], second["bytes_out"], second["duration"]) == ("end", 200, 1024, 0.25)
    to.close()


async def test_stopping_makes_everything_durable_first(runtime: Path, log: Path) -> None:
    writer = AuditWriter(AuditSettings(log), runtime, ManualClock())
    await writer.start()
    to = recorder(runtime)
    decide(to, "late")
    await writer.stop()
    assert [r["id"] for r in records(log)] == ["late"]
    assert writer.problem() == "stopped"
    to.close()


async def test_a_drained_ring_of_a_worker_that_is_gone_is_removed(
    writer: AuditWriter, runtime: Path, log: Path
) -> None:
    to = recorder(runtime)
    decide(to, "r1")
    to.close()
    await until(lambda: not ring_paths(runtime))
    assert [r["id"] for r in records(log)] == ["r1"]


async def test_records_of_a_worker_killed_with_sigkill_are_in_the_log(
    writer: AuditWriter, runtime: Path, log: Path
) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from zt_proxy.link.ring import RingWriter, ring_path\n"
        "ring = RingWriter.create(ring_path(Path(sys.argv[1]), 3, 'k'), 1 << 20, worker=3, boot='k')\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        '    try: ring.write(b\'{"type":"end","worker":3,"boot":"k","n":%d}\' % n, 0.0)\n'
        "    except Exception: n -= 1; continue\n"
        "    if n % 100 == 0: print(n, flush=True)\n"
    )
    root = str(Path(__file__).parents[4])
    process = subprocess.Popen([sys.executable, "-c", program, str(runtime), root], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = 0
    while acknowledged < 2000:
        acknowledged = int(await asyncio.to_thread(process.stdout.readline))
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    acknowledged = int(rest[-1]) if rest else acknowledged
    await until(lambda: not ring_paths(runtime))
    numbers = [r["n"] for r in records(log)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= acknowledged
    assert verify([log]).ok


async def test_a_restart_continues_the_chain_and_repeats_nothing(runtime: Path, log: Path) -> None:
    to = recorder(runtime)
    for boot in range(3):
        writer = AuditWriter(AuditSettings(log), runtime, ManualClock(), interval=0.01)
        await writer.start()
        decide(to, f"r{boot}")
        await until(lambda writer=writer, boot=boot: writer.seq == boot + 1)
        await writer.stop()
    # As after a crash between sync and commit: the reader's position goes back, the lines are there.
    reader = RingReader.open(ring_path(runtime, 1, "boot-a"))
    reader._position = 0
    reader.commit()
    reader.close()
    writer = AuditWriter(AuditSettings(log), runtime, ManualClock(), interval=0.01)
    await writer.start()
    decide(to, "r3")
    await writer.stop()
    assert [r["id"] for r in records(log)] == ["r0", "r1", "r2", "r3"]
    assert verify([log]).ok
    to.close()


async def crash_before_the_commit(runtime: Path, log: Path, monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    """Write what is in the rings, and end before they are told."""
    monkeypatch.setattr(RingReader, "commit", lambda reader: None)
    writer = AuditWriter(AuditSettings(log), runtime, ManualClock(), interval=3600.0)
    await writer.start()
    await until(lambda: writer.seq >= lines)
    assert writer._task is not None
    writer._task.cancel()
    await asyncio.gather(writer._task, return_exceptions=True)
    assert writer._chain is not None
    writer._chain.close()
    monkeypatch.undo()


async def test_a_crash_with_a_great_backlog_of_many_workers_repeats_nothing(
    runtime: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorders = [recorder(runtime, f"boot-{number}", 1 << 24) for number in range(4)]
    for to in recorders:
        for number in range(8_000):
            decide(to, f"0123456789ab{number:08x}", b"/" + b"x" * 400)
            to.end(b"0123456789ab%08x" % number, 1_800_000_001.0, 200, 0, 1024, 0.25)
        to.flush()
    await crash_before_the_commit(runtime, log, monkeypatch, 1)
    writer = AuditWriter(AuditSettings(log), runtime, ManualClock(), interval=0.01)
    await writer.start()
    await until(lambda: not any(to.used() for to in recorders))
    await writer.stop()
    numbers = [(line["boot"], line["n"]) for line in records(log)]
    assert len(numbers) == len(set(numbers)) == 4 * 16_000
    for to in recorders:
        to.close()


async def test_a_gap_that_was_noted_before_a_crash_hides_no_record(
    runtime: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = RingWriter.create(ring_path(runtime, 9, "x"), 1 << 16, worker=9, boot="x")
    for number in (1, 5):
        ring.write(b'{"worker":9,"boot":"x","n":%d}' % number, 0.0)
    await crash_before_the_commit(runtime, log, monkeypatch, 3)
    (file,) = log_files(log)
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:2]) + whole[2][:20])  # torn in the record behind the note
    writer = AuditWriter(AuditSettings(log), runtime, ManualClock(), interval=0.01)
    await writer.start()
    await writer.stop()
    assert [line["n"] for line in records(log) if line.get("type") != "log"] == [1, 5]
    ring.close()


async def test_rotation_keeps_one_chain_over_several_files(runtime: Path, log: Path) -> None:
    writer = AuditWriter(AuditSettings(log, rotate_bytes=2000), runtime, ManualClock(), interval=0.01)
    await writer.start()
    to = recorder(runtime)
    for number in range(30):
        decide(to, f"r{number}")
        await until(lambda number=number: writer.seq == number + 1)
    await writer.stop()
    assert len(log_files(log)) > 3
    report = verify([log])
    assert report.ok
    assert report.lines == 30
    to.close()


async def test_a_full_disk_keeps_records_in_the_ring_until_the_path_denies_and_loses_none(
    writer: AuditWriter, runtime: Path, log: Path
) -> None:
    clock = ManualClock()
    to = recorder(runtime, size=16 * 1024, clock=clock)
    decide(to, "before")
    await until(lambda: writer.seq == 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log_files(log)[0].stat().st_size + 100, hard))
    try:
        written = 0
        with pytest.raises(UnavailableError) as refused:  # noqa: PT012 - the loop is the point
            for number in range(1000):
                to.check()
                decide(to, f"full{number}")
                written += 1
                await asyncio.sleep(0)
                if number > 3:
                    await until(lambda: writer.problem() != "")
        assert refused.value.reason is Reason.RECORD_UNAVAILABLE
        with pytest.raises(UnavailableError):
            await writer.write("login", sub="alice")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await until(lambda: writer.problem() == "")
    await until(lambda: writer.seq == written + 1)
    to.check()
    assert [r["id"] for r in records(log)] == ["before", *(f"full{n}" for n in range(written))]
    assert verify([log]).ok
    to.close()


async def test_two_writers_of_one_log_are_refused(writer: AuditWriter, runtime: Path, log: Path) -> None:
    with pytest.raises(ConfigurationError, match="another process"):
        await AuditWriter(AuditSettings(log), runtime, ManualClock()).start()


async def test_an_event_of_control_is_durable_when_write_returns(writer: AuditWriter, log: Path) -> None:
    await writer.write("login", sub="alice\u2028\x7f", mfa=True)
    raw = log_files(log)[0].read_bytes()
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    assert b"\x7f" not in raw
    assert records(log)[0]["sub"] == "alice\u2028\x7f"


@pytest.mark.parametrize(
    "record",
    [
        b"not json",
        b'{"worker":1,"boot":"b"}',
        b'{"worker":1,"boot":"b","n":1,"hash":"x"}',
        '{"worker":1,"boot":"b","n":1,"x":"\u2028"}'.encode(),
        '{"worker":9,"boot":"x","n":1,"x":"\u2028"}'.encode(),
        b'{"worker":9,"boot":"x","n":1,"hash" :"x"}',
        b'{"worker":9,"boot":"x","n":1} ',
        b'{"worker":9,"boot":"x","n":1,"x":' + b"[" * 12_000 + b"]" * 12_000 + b"}",
        b'{"worker":1,"boot":"boot-a","n":1000000}',
    ],
)
async def test_what_is_not_a_proper_record_is_kept_whole_as_base64(
    record: bytes, writer: AuditWriter, runtime: Path, log: Path
) -> None:
    ring = RingWriter.create(ring_path(runtime, 9, "x"), 1 << 18, worker=9, boot="x")
    ring.write(record, 0.0)
    await until(lambda: writer.seq == 1)
    from base64 import b64decode

    (line,) = records(log)
    assert line["type"] == "unreadable"
    assert b64decode(str(line["data"])) == record
    assert verify([log]).ok
    ring.close()


async def test_missing_numbers_are_noted(writer: AuditWriter, runtime: Path, log: Path) -> None:
    ring = RingWriter.create(ring_path(runtime, 9, "x"), 1 << 16, worker=9, boot="x")
    for number in (1, 2, 5):
        ring.write(b'{"worker":9,"boot":"x","n":%d}' % number, 0.0)
    await until(lambda: writer.seq == 4)
    gap = records(log)[2]
    assert (gap["event"], gap["after"], gap["n"]) == ("gap", 2, 5)
    assert "gap" in verify([log]).notes[0]
    ring.close()


async def test_a_damaged_ring_is_set_aside_and_noted_while_others_go_on(
    writer: AuditWriter, runtime: Path, log: Path
) -> None:
    bad = ring_path(runtime, 7, "bad")
    bad.write_bytes(b"\0" * 10_000)
    to = recorder(runtime)
    decide(to, "good")
    await until(lambda: writer.seq == 2)
    assert {r.get("event", r.get("id")) for r in records(log)} == {"ring-damaged", "good"}
    assert bad.with_suffix(".damaged").exists()
    assert os.stat(log_files(log)[0]).st_mode & 0o777 == 0o600
    to.close()


@pytest.mark.parametrize("boot", [b"\xff", b'b","n":9,"x":"', b"a\nb"])
@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, (1 << 16) + 8])
async def test_no_file_in_the_runtime_directory_ends_the_writer(
    boot: bytes, size: int, writer: AuditWriter, runtime: Path, log: Path
) -> None:
    bad = ring_path(runtime, 7, "bad")
    RingWriter.create(runtime / "elsewhere.bin", 1 << 16).close()
    header = bytearray((runtime / "elsewhere.bin").read_bytes()[:4096])
    header[32 : 32 + len(boot)] = boot
    header[16:24] = size.to_bytes(8, "little")
    whole = bytes(header) + bytes(size)
    bad.with_suffix(".x").write_bytes(whole)
    bad.with_suffix(".x").rename(bad)
    await until(lambda: bad.with_suffix(".damaged").exists())
    to = recorder(runtime)
    decide(to, "good")
    await until(lambda: writer.seq == 2)
    assert {r.get("event", r.get("id")) for r in records(log)} == {"ring-damaged", "good"}
    assert not writer.problem()
    to.close()


async def test_nothing_is_kept_of_a_ring_that_is_gone(writer: AuditWriter, runtime: Path, log: Path) -> None:
    for number in range(3):
        to = recorder(runtime, f"boot-{number}")
        decide(to, f"r{number}")
        to.close()
        await until(lambda: not ring_paths(runtime))
    assert not writer._readers
    assert not writer._written_out
    assert not writer._last


async def test_one_turn_takes_many_slices_however_the_lines_of_a_write_fall(runtime: Path, log: Path) -> None:
    """A slice ends behind a whole write, so it may hold a line more than asked for; that is not the end of the ring."""
    to = recorder(runtime, size=1 << 22)
    for number in range(2_000):
        decide(to, f"r{number}")
        to.end(b"r%d" % number, 1_800_000_001.0, 200, 0, 1024, 0.25)
    to.flush()
    writer = AuditWriter(AuditSettings(log), runtime, ManualClock(), interval=3600.0)
    await writer.start()
    await until(lambda: writer.seq == 4_000)
    await writer.stop()
    to.close()
