"""A process that replays the record for the guard: `python -m zt_proxy.processes guard`, question in, report out."""

import os
import signal
import sys

import msgspec

from zt_proxy.processes.guard import LIMIT, question_of, replayed

IDLE = 19
"""Priority: whatever else there is to do comes first."""


def main() -> None:
    """Ends by itself should nobody be left to end it. A failure is told on standard error, exit code 1."""
    signal.alarm(int(LIMIT) + 5)
    os.nice(IDLE)
    try:
        report = replayed(question_of(sys.stdin.buffer.read()))
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)
    sys.stdout.buffer.write(msgspec.json.encode(report))
