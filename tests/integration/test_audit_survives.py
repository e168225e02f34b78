"""The reader of the rings is killed again and again while a worker writes: nothing is lost, nothing comes twice."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from zt_proxy.control.audit.chain import log_files
from zt_proxy.control.audit.verify import verify
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.types import Decision, Effect
from zt_proxy.link.ring import RingWriter, ring_path
from zt_proxy.worker.record import Recorder

READER = """
import asyncio, sys
from pathlib import Path
from zt_proxy.control.audit.writer import AuditWriter
from zt_proxy.control.settings import AuditSettings
from zt_proxy.core.clock import SystemClock

async def main():
    writer = AuditWriter(AuditSettings(Path(sys.argv[1]), rotate_bytes=100_000), Path(sys.argv[2]), SystemClock(),
                         interval=0.001, batch=50)
    await writer.start()
    print("reading", flush=True)
    if sys.argv[3] == "drain":
        await writer.stop()
    else:
        await asyncio.Event().wait()

asyncio.run(main())
"""


def reader(log: Path, runtime: Path, mode: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(log), str(runtime), mode],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    return process


def test_killing_the_audit_writer_at_any_moment_loses_and_repeats_nothing(tmp_path: Path) -> None:
    log, runtime = tmp_path / "audit", tmp_path / "run"
    runtime.mkdir()
    ring = RingWriter.create(ring_path(runtime, 0, "b"), 1 << 18, worker=0, boot="b")
    recorder = Recorder(ring, worker=0, boot="b", clock=SystemClock())
    decision = Decision(Effect.ALLOW, Reason.RULE_ALLOWED, "r")
    circumstances = recorder.describe("app", "h", b"GET", "::1", None, decision)
    written = 0
    for life in range(6):
        process = reader(log, runtime, "serve")
        target = written + 700 + 137 * life
        while written < target:
            try:
                recorder.decision(b"%d" % written, 1.5, b"/", circumstances)
                written += 1
            except UnavailableError:
                continue  # full: the reader has to catch up
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    recorder.close()
    last = reader(log, runtime, "drain")
    assert last.wait(timeout=30) == 0
    assert last.stdout is not None
    last.stdout.close()
    report = verify([log])
    assert report.ok, report.problem
    records = [json.loads(line) for path in log_files(log) for line in path.read_bytes().splitlines()]
    assert [record["n"] for record in records if record["type"] == "decision"] == list(range(1, written + 1))
    assert {record["event"] for record in records if record["type"] == "log"} <= {"torn"}
