"""Time of day and week in a time zone."""

from datetime import UTC, datetime

from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.types import Facts
from zt_proxy.policy.nodes import Node, Verdict
from zt_proxy.policy.spec import Hours

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def compile_hours(hours: Hours) -> Node:
    """By the clock on the wall: an hour that a change to winter time repeats counts both times (IANA tz database)."""
    if not hours.days or not set(hours.days) <= set(range(7)):
        raise ConfigurationError(f"days {hours.days!r} are no days of the week, 0 to 6")
    if not (0 <= hours.start < 1440 and 0 <= hours.end <= 1440):
        raise ConfigurationError("minutes of the day are 0 to 1440")
    from zoneinfo import ZoneInfo  # a megabyte, for rules that ask for the time alone

    try:
        zone = ZoneInfo(hours.zone)
    except (OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ConfigurationError(f"time zone {hours.zone!r} is not known") from error
    except KeyError as error:
        raise ConfigurationError(f"time zone {hours.zone!r} is not known") from error
    days, start, end = frozenset(hours.days), hours.start, hours.end
    last: list[tuple[int, bool]] = [(-1, False)]  # the minute that was asked last: zones change on whole minutes

    def local(now: float) -> datetime:
        return datetime.fromtimestamp(now, UTC).astimezone(zone)

    def ask(facts: Facts) -> Verdict:
        minute, said = last[0]
        if minute == (this := int(facts.now // 60)):
            return said
        there = local(facts.now)
        day, passed = there.weekday(), there.hour * 60 + there.minute
        if start < end:
            said = day in days and start <= passed < end
        else:
            said = (day in days and passed >= start) or ((day - 1) % 7 in days and passed < end)
        last[0] = (this, said)
        return said

    def actual(facts: Facts) -> str:
        there = local(facts.now)
        return f"{_DAYS[there.weekday()]} {there:%H:%M} {hours.zone}"

    named = ",".join(_DAYS[day] for day in sorted(days))
    label = f"time {named} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} {hours.zone}"
    return Node(label, ask, actual=actual, timed=True)
