"""What is wrong with the operator's file, where, and what was expected instead."""

import difflib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from zt_proxy.core.errors import ConfigurationError


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Mark(NamedTuple):
    """A place in a text: line and column, both from 1."""

    line: int
    column: int


START = Mark(1, 1)


class Problem(msgspec.Struct, frozen=True):
    """One problem. `expected` says what would be right, `hint` names the nearest right spelling or the way out."""

    file: Path
    line: int
    column: int
    severity: Severity
    message: str
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.severity.value}: {self.text}"

    @property
    def place(self) -> str:
        """`file:line:column`, as editors understand it."""
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def text(self) -> str:
        """Everything there is to say, in one line, without the place."""
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{self.message}{expected}" + (f" ({self.hint})" if self.hint else "")


class ConfigurationProblems(ConfigurationError):
    """The file has at least one problem of severity error. `problems` holds them all, warnings too."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return self.detail


class Collector:
    """Gathers problems of one file; a place and message are told once."""

    __slots__ = ("_file", "_seen")

    def __init__(self, file: Path, problems: Iterable[Problem] = ()) -> None:
        self._file = file
        self._seen = dict.fromkeys(problems)

    def error(self, at: Mark | None, message: str, expected: str = "", hint: str = "") -> None:
        self._add(Severity.ERROR, at, message, expected, hint)

    def warning(self, at: Mark | None, message: str, expected: str = "", hint: str = "") -> None:
        self._add(Severity.WARNING, at, message, expected, hint)

    def _add(self, severity: Severity, at: Mark | None, message: str, expected: str, hint: str) -> None:
        line, column = at or START
        self._seen[Problem(self._file, line, column, severity, message, expected, hint)] = None

    def take(self, problems: Iterable[Problem]) -> None:
        """Problems of another file that this one names."""
        self._seen.update(dict.fromkeys(problems))

    def has_errors(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self._seen)

    def sorted(self) -> list[Problem]:
        """In the order of the file, and after them those of files it names."""
        return sorted(
            self._seen,
            key=lambda problem: (
                problem.file != self._file,
                problem.file,
                problem.line,
                problem.column,
                problem.severity,
            ),
        )


def nearest(word: str, words: Iterable[str]) -> str:
    """`did you mean …?` for the closest of `words`, or nothing."""
    spelled = {candidate.lower(): candidate for candidate in words}
    found = difflib.get_close_matches(word.lower(), list(spelled), n=1, cutoff=0.65)
    return f"did you mean `{spelled[found[0]]}`?" if found else ""


def choice(words: Iterable[str]) -> str:
    """`a`, `b` or `c`"""
    quoted = [f"`{word}`" for word in words]
    return " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1]))) if quoted else "nothing"
