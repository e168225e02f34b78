"""What rules, routes and files in report mode would have done, from what their decisions recorded of it."""

from typing import Literal

import msgspec

from zt_proxy.policy.recorded import Head, Told

By = Literal["rule", "person", "action", "day"]
DAY = 86_400.0
PEOPLE = 20
"""People that a row names."""


class Row(msgspec.Struct):
    """One line of what would have been."""

    subject: str
    """Rule, person, action or day, as asked for."""
    route: str
    would: str
    """`deny`, `allow`, `login`, `mfa`, `reauth`, `justify`, `approve`; `mask`, `limit` or `notify` beside an allow."""
    requests: int
    people: int
    named: tuple[str, ...]
    """The first of them."""
    example: str
    """Id of the first request."""
    first: float
    last: float
    """Epoch seconds."""


class _Tally:
    __slots__ = ("count", "example", "first", "last", "who")

    def __init__(self, head: Head) -> None:
        self.count = 0
        self.who: dict[str, None] = {}
        self.example = head.id
        self.first = self.last = head.at


class Impact:
    """Feed it every decision, then ask for `rows()`."""

    def __init__(self, by: By = "rule") -> None:
        self._by = by
        self._tallies: dict[tuple[str, str, str], _Tally] = {}
        self.decisions = 0
        self.reported = 0
        """Decisions of which something was reported."""
        self.first = self.last = 0.0
        """Epoch seconds of the first and the last decision; 0: there was none."""

    def feed(self, head: Head, told: Told) -> None:
        """One decision."""
        self.decisions += 1
        self.first = self.first or head.at
        self.last = head.at
        if not told.reported:
            return
        self.reported += 1
        for key in {(self._subject(label, head, told), told.route, would) for label, would in entries(told)}:
            tally = self._tallies.get(key)
            if tally is None:
                tally = self._tallies[key] = _Tally(head)
            tally.count += 1
            tally.who[told.who] = None
            tally.last = head.at

    def _subject(self, label: str, head: Head, told: Told) -> str:
        match self._by:
            case "rule":
                return label
            case "person":
                return told.who
            case "action":
                return told.action or "no action known"
            case "day":
                return str(int(head.at // DAY))

    def rows(self) -> tuple[Row, ...]:
        """What would have been, the most frequent first; days in their order, as days since the epoch."""
        found = [
            Row(
                subject, route, would, tally.count, len(tally.who), tuple(tally.who)[:PEOPLE], tally.example,
                tally.first, tally.last,
            )
            for (subject, route, would), tally in self._tallies.items()
        ]  # fmt: skip
        if self._by == "day":
            return tuple(sorted(found, key=lambda row: (int(row.subject), row.route, row.would)))
        return tuple(sorted(found, key=lambda row: (-row.requests, row.subject, row.route, row.would)))


def entries(told: Told) -> list[tuple[str, str]]:
    """(rule, what it would have done) of each rule; a route in report mode stands for what no rule is named for."""
    rules, route = [], []
    for entry in told.reported:
        name, _, would = entry.rpartition(":")
        head, _, middle = name.partition(":")
        if head == "route" and middle:
            route.append((f"nothing allows it ({would})", middle))
        else:
            rules.append((name, would))
    words = {would for _, would in rules}
    return rules + [(label, would) for label, would in route if would not in words]
