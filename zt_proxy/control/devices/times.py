"""Moments as people read them. Nobody says without a script which zone theirs is: all say UTC, or how long ago."""

from datetime import UTC, datetime
from typing import NamedTuple

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


def utc(at: float) -> datetime:
    """Seconds since the epoch as a moment."""
    return datetime.fromtimestamp(at, UTC)


def machine(at: float) -> str:
    """For `<time datetime>`: `2027-01-15T08:00:00Z`."""
    return f"{utc(at):%Y-%m-%dT%H:%M:%SZ}"


def written(at: float) -> str:
    """`15 January 2027, 08:00 UTC`."""
    return f"{utc(at).day} {utc(at):%B %Y, %H:%M} UTC"


def length(seconds: float) -> str:
    """`3 h 20 min`, `5 days`; at least a minute."""
    if seconds >= 2 * DAY:
        return f"{round(seconds / DAY)} days"
    hours, minutes = divmod(max(1, round(seconds / MINUTE)), 60)
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0))


def since(at: float, now: float) -> str:
    """`just now`, `12 min ago`, `3 days ago`."""
    return "just now" if now - at < MINUTE else f"{length(now - at)} ago"


def until(at: float, now: float) -> str:
    """`in 3 h 20 min`."""
    return "now" if at <= now else f"in {length(at - now)}"


class When(NamedTuple):
    """A moment: for `<time datetime>`, for its title, and in words."""

    machine: str
    written: str
    words: str


def before(at: float, now: float) -> When:
    """A moment that is past."""
    return When(machine(at), written(at), since(at, now))


def ahead(at: float, now: float) -> When:
    """A moment to come."""
    return When(machine(at), written(at), until(at, now))
