"""Durations and sizes as operators write them: always with a unit."""

import re
from datetime import UTC, datetime, timedelta

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?", re.ASCII)
_SIZE = re.compile(r"(\d{1,12})(B|kB|KB|MB|GB|KiB|MiB|GiB)", re.ASCII)
_FREQUENCY = re.compile(r"([1-9]\d{0,8})/(s|m|h)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
FREQUENCY_PATTERN = r"^[1-9]\d*/(s|m|h)$"
DURATION_PATTERN = r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"
SIZE_PATTERN = r"^\d+(B|kB|KB|MB|GB|KiB|MiB|GiB)$"


def duration(value: object) -> float:
    """Seconds of `90s`, `30m`, `12h`, `1h30m`, `7d`, `500ms`. Raises ValueError with what was expected."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"a duration needs a unit: write `{value}s` for seconds or `{value}m` for minutes")
    if isinstance(value, str) and value.isascii() and value.isdigit():
        raise ValueError(f"a duration needs a unit: write `{value}s` for seconds or `{value}m` for minutes")
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        raise ValueError("not a duration; expected one such as `90s`, `30m`, `12h`, `1h30m` or `7d`")
    units = ("d", "h", "m", "s", "ms")
    return sum(int(count) * _SECONDS[unit] for count, unit in zip(match.groups(), units, strict=True) if count)


def reauth(value: object) -> float | str:
    """Seconds of a duration, or `once`. Raises ValueError with what was expected."""
    return value if value == "once" else duration(value)


def size(value: object) -> int:
    """Bytes of `10MB`, `64KiB`, `1GiB`, `500B`. Raises ValueError with what was expected."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"a size needs a unit: write `{value}B` for bytes or `{value}MB` for megabytes")
    if isinstance(value, str) and value.isascii() and value.isdigit():
        raise ValueError(f"a size needs a unit: write `{value}B` for bytes or `{value}MB` for megabytes")
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size; expected one such as `500B`, `64KiB`, `10MB` or `1GiB`")
    return int(match[1]) * _BYTES[match[2]]


def rate(value: object) -> int:
    """Bytes per second of `500B/s`, `1KiB/s`. Raises ValueError with what was expected."""
    if not isinstance(value, str) or not value.endswith("/s"):
        raise ValueError("not a rate; expected one such as `500B/s` or `1KiB/s`")
    return size(value.removesuffix("/s"))


def frequency(value: object) -> float:
    """Requests per second of `20/s`, `600/m`, `5000/h`. Raises ValueError with what was expected."""
    match = _FREQUENCY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a rate; expected one such as `20/s`, `600/m` or `5000/h`")
    return int(match[1]) / _SECONDS[match[2]]


def end_of(value: object) -> float:
    """The last moment, in epoch seconds, of a day such as `2027-06-30` (UTC), or of a moment with its zone.

    Raises ValueError with what was expected.
    """
    expected = "expected a day such as `2027-06-30`, or a moment with its zone such as `2027-06-30T12:00:00Z`"
    if not isinstance(value, str):
        raise ValueError(f"not a date; {expected}")
    try:
        if _DAY.fullmatch(value):
            return (datetime.fromisoformat(value).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
        moment = datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        raise ValueError(f"not a date; {expected}") from None
    if moment.tzinfo is None:
        raise ValueError(f"a moment without its zone; {expected}")
    return moment.timestamp()


def show_duration(seconds: float) -> str:
    """The shortest spelling that `duration` reads back to the same number (to the millisecond)."""
    rest = round(seconds * 1000)
    parts = []
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def show_size(count: int) -> str:
    """The shortest exact spelling."""
    best = f"{count}B"
    for unit in ("KiB", "MiB", "GiB", "kB", "MB", "GB"):
        whole, rest = divmod(count, _BYTES[unit])
        if whole and not rest and len(f"{whole}{unit}") < len(best):
            best = f"{whole}{unit}"
    return best
