"""One process: control beside the path over the in-memory link (`workers: 0`)."""

from pathlib import Path


def main(config: Path) -> int:
    """Serve until SIGTERM; gives the exit code."""
    raise SystemExit(f"{config}: not wired yet")
