"""What is remembered of a person's sign-ins, so that an unusual one can be told: it grows old and stays small.

Control stores it; everything here is pure. Times are seconds since the epoch, hours those of UTC.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from zt_proxy.core.types import Origin
from zt_proxy.policy.geo import Place
from zt_proxy.policy.travel import Spot

HOUR, DAY = 3_600.0, 86_400.0
KEPT = 400 * DAY
"""Seconds after which a country or a network that was not seen again is forgotten."""
COUNTRIES = 16
NETWORKS = 32
FAILURES = 20
"""Countries, autonomous systems and failed attempts of one person; the oldest give way."""
FAILURE_LIFE = HOUR
"""Seconds for which a failed attempt counts."""
CELLS = 7 * 24
HALF_LIFE = 60 * DAY
"""Seconds in which a sign-in comes to count half in the histogram of hours."""
ENOUGH = 10.0
"""Sign-ins (each by what it still counts) before an hour can be called unusual."""
NEAR = 2
"""Hours to each side that count as the same time of day."""
RARE = 0.03
"""Share of a person's sign-ins below which a time of the week is unusual."""

K = TypeVar("K", str, int)


class Hours(msgspec.Struct, frozen=True, array_like=True):
    """When in the week a person signs in: 7 × 24 cells from Monday 0:00 UTC, each a number that fades."""

    cells: tuple[float, ...] = (0.0,) * CELLS
    at: float = 0.0
    """Of the last change: what the cells say, they say of this moment."""

    def after(self, now: float) -> "Hours":
        """With one more sign-in at `now`."""
        fade = 0.5 ** (max(0.0, now - self.at) / HALF_LIFE) if self.at else 1.0
        cells = [cell * fade for cell in self.cells]
        cells[_cell(now)] += 1.0
        return Hours(tuple(round(cell, 4) for cell in cells), max(now, self.at))

    def unusual(self, now: float) -> bool:
        """Whether the person hardly ever signs in at this time of this kind of day (weekday, weekend)."""
        fade = 0.5 ** (max(0.0, now - self.at) / HALF_LIFE)
        total = sum(self.cells)
        if total * fade < ENOUGH:
            return False
        day, hour = divmod(_cell(now), 24)
        days = range(5, 7) if day >= 5 else range(5)
        near = sum(self.cells[24 * each + (hour + shift) % 24] for each in days for shift in range(-NEAR, NEAR + 1))
        return near < RARE * total


class Visit(msgspec.Struct, frozen=True, array_like=True):
    """The last sign-in from a place of the person's own, not by way of the company's exit to the internet."""

    at: float
    spot: Spot
    asn: int | None = None


class History(msgspec.Struct, frozen=True, array_like=True):
    """Of one person. Grows by one sign-in at a time, to a few kilobytes at most."""

    seen: float = 0.0
    """The last sign-in, from wherever; 0: there was none yet."""
    visit: Visit | None = None
    countries: Mapping[str, float] = {}
    """Country → last sign-in from there."""
    networks: Mapping[int, float] = {}
    """Autonomous system → last sign-in from there."""
    hours: Hours = Hours()
    failures: tuple[float, ...] = ()

    def after(self, place: Place, now: float, *, egress: bool) -> "History":
        """With a sign-in that succeeded. `egress`: by way of the company's exit, which says nothing of the person."""
        countries, networks, visit = self.countries, self.networks, self.visit
        if not egress:
            origin = place.origin
            countries = _with(countries, origin.country, now, COUNTRIES)
            networks = _with(networks, origin.asn, now, NETWORKS)
            visit = _visit(place, now) or visit
        return History(
            max(now, self.seen),
            visit,
            countries,
            networks,
            self.hours.after(now),
            tuple(at for at in self.failures if at > now - FAILURE_LIFE),
        )

    def failed(self, now: float) -> "History":
        """With one more failed attempt."""
        failures = (*(at for at in self.failures if at > now - FAILURE_LIFE), now)
        return msgspec.structs.replace(self, failures=failures[-FAILURES:])

    def without(self, origin: Origin) -> "History":
        """Where a sign-in came from that was not the person's own teaches nothing about them."""
        visit = self.visit
        if visit is not None and (visit.spot.country == origin.country or visit.asn == origin.asn):
            visit = None
        return msgspec.structs.replace(
            self,
            visit=visit,
            countries={name: at for name, at in self.countries.items() if name != origin.country},
            networks={number: at for number, at in self.networks.items() if number != origin.asn},
        )

    def failures_by(self, now: float) -> int:
        """Failed attempts that still count."""
        return sum(now - FAILURE_LIFE < at for at in self.failures)


NO_HISTORY = History()


def spot_of(place: Place) -> Spot:
    return Spot(place.origin.country, place.latitude, place.longitude)


def leaves_by(origin: Origin, egress: frozenset[str]) -> bool:
    """Whether an address is the company's own exit: people seem to be where it is."""
    return not egress.isdisjoint(origin.zones)


def _visit(place: Place, now: float) -> Visit | None:
    spot = spot_of(place)
    return Visit(now, spot, place.origin.asn) if spot != Spot() else None


def _with(known: Mapping[K, float], key: K | None, now: float, most: int) -> Mapping[K, float]:
    """With this one seen now, without those that are too old or too many."""
    seen = {each: at for each, at in known.items() if at > now - KEPT}
    if key is not None:
        seen[key] = max(now, seen.get(key, 0.0))
    newest = sorted(seen.items(), key=lambda each: (each[1], each[0] == key), reverse=True)
    return dict(newest[:most])


def _cell(at: float) -> int:
    """The hour of the week; 1 January 1970 was a Thursday."""
    return (int(at // HOUR) + 3 * 24) % CELLS
