"""The program's version, known without the packaging metadata, whose reader would cost each worker 3 MiB."""

from typing import Final

VERSION: Final = "0.1.0"
"""As in pyproject.toml; a test keeps the two together."""
