"""Interleaved rounds, their medians and spreads, and the verdict of a gate.

The two sides of a comparison are measured in turn, proxy/nginx/proxy/nginx, and compared inside each round: a machine
that is slower in one minute than in the next is slower for both, and the median of the per-round ratios does not move.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, least and greatest of the samples of one series, in the unit of the samples."""

    median: float
    least: float
    greatest: float

    @property
    def spread(self) -> float:
        """(greatest - least) / median: 0.1 means that the rounds lay within a tenth of one another."""
        return (self.greatest - self.least) / self.median if self.median else math.inf


def summarise(samples: Sequence[float]) -> Summary:
    """The summary of at least one sample; `ValueError` for none."""
    if not samples:
        raise ValueError("no samples to summarise")
    return Summary(statistics.median(samples), min(samples), max(samples))


def paired_ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """`over[i] / under[i]` per round; `ValueError` when the series differ in length or a divisor is not positive."""
    if len(over) != len(under):
        raise ValueError(f"unpaired rounds: {len(over)} against {len(under)}")
    if any(divisor <= 0 for divisor in under):
        raise ValueError("a round measured nothing to divide by")
    return [one / other for one, other in zip(over, under, strict=True)]


def interleave(
    sides: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    before: Callable[[int, str], None],
    after: Callable[[int, Mapping[str, float]], None],
) -> dict[str, list[float]]:
    """Measure every side once per round, in order, and give each side's samples.

    `before(round, side)` announces a measurement, `after(round, {side: sample})` a finished round; rounds count from 1.
    """
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(1, rounds + 1):
        row: dict[str, float] = {}
        for side, measure in sides.items():
            before(number, side)
            row[side] = measure()
            samples[side].append(row[side])
        after(number, row)
    return samples


@dataclass(frozen=True, slots=True)
class Gate:
    """The limit a figure must keep: `at_most` (a cost) or at least (a yield)."""

    key: str
    limit: float
    at_most: bool = True

    def passes(self, value: float) -> bool:
        """Whether the value keeps the limit; a value that is no number (NaN) never does."""
        return value <= self.limit if self.at_most else value >= self.limit

    def verdict(self, value: float) -> str:
        """One line that names the gate, its limit and what was measured."""
        word = "pass" if self.passes(value) else "FAIL"
        return f"{word}  {self.key} = {value:.3f}, gate {'≤' if self.at_most else '≥'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one figure came to: the gated value, and further values for the JSON line by key."""

    gate: Gate
    value: float
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the gate was kept."""
        return self.gate.passes(self.value)
