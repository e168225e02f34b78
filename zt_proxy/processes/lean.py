"""What a process that serves does without."""

import sys


def without_rich() -> None:
    """Keep structlog, not imported yet, from drawing tracebacks with rich: 4 MiB and 45 ms of every start."""
    if "structlog" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]
