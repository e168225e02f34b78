"""Address databases, as far as the configuration has to know them."""

from pathlib import Path

import maxminddb

_OF = {"country": ("asn", "isp", "anonymous"), "asn": ("country", "city")}
"""What a database for one purpose does not call itself."""


def check_database(path: Path, purpose: str) -> None:
    """Raises ValueError for a file that is no MaxMind database, or one of another kind."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")  # to open a pipe would wait for its writer
    try:
        with maxminddb.open_database(path, maxminddb.MODE_FILE) as reader:
            kind = reader.metadata().database_type
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (maxminddb.InvalidDatabaseError, ValueError):
        raise ValueError(f"{path} is no MaxMind database") from None
    if any(word in kind.lower() for word in _OF[purpose]) and purpose not in kind.lower():
        raise ValueError(f"{path} is a database of another kind ({kind})")
