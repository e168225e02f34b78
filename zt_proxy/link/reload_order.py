"""An operator's order to read the configuration again, and what came of it: two small files in the runtime folder.

Whoever may write there could replace the sockets as well, so the folder is private (mode 0700). An order is taken away
before it is carried out: it counts once.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

ORDER, ANSWER = "reload.order", "reload.answer"
_LONGEST = 64 * 1024


class Order(msgspec.Struct, frozen=True):
    token: str
    """Names the order in its answer."""
    force: bool = False
    """Whatever the guard says."""


class Answer(msgspec.Struct, frozen=True):
    token: str
    epoch: int
    """Of the configuration in force."""
    problem: str = ""
    """Why the file as it stands is not in force; empty: it is."""


_order = msgspec.json.Decoder(Order).decode
_answer = msgspec.json.Decoder(Answer).decode


def place(directory: Path, order: Order) -> None:
    """Leave an order; one that was not taken yet gives way. Raises OSError."""
    _write(directory / ORDER, order)


def take(directory: Path) -> Order | None:
    """Take the order away; None: there is none, or none that can be read. Never raises."""
    try:
        raw = _read(directory / ORDER)
    except FileNotFoundError:
        return None
    except OSError:
        raw = b""
    with suppress(OSError):
        (directory / ORDER).unlink()
        with suppress(msgspec.MsgspecError):
            return _order(raw)
    return None  # what cannot be taken away would count again and again


def reply(directory: Path, answer: Answer) -> None:
    """Leave the answer. Raises OSError."""
    _write(directory / ANSWER, answer)


def answered(directory: Path, token: str) -> Answer | None:
    """What came of an order; None: it is not carried out yet."""
    try:
        answer = _answer(_read(directory / ANSWER))
    except (OSError, msgspec.MsgspecError):
        return None
    return answer if answer.token == token else None


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)


def _write(path: Path, value: msgspec.Struct) -> None:
    """Whole or not at all: under another name first."""
    fresh = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(value)[:_LONGEST])
    finally:
        os.close(descriptor)
    fresh.replace(path)
