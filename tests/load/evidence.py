"""What the audit log and the platform's diary say of the same requests, compared after the proxy has stopped."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zt_proxy.control.audit.chain import log_files
from zt_proxy.control.audit.verify import verify


@dataclass(frozen=True)
class Seen:
    """One line of the platform's diary."""

    id: str
    who: str
    """The subject that the platform itself verified; `?` for none."""
    path: str


def read_diary(path: Path) -> list[Seen]:
    return [Seen(*line.split(" ")) for line in path.read_text("utf-8").splitlines()]


class Evidence:
    """Both sides of a run. Reading them fails when the chain does not hold."""

    def __init__(self, log: Path, diary: Path) -> None:
        report = verify([log])
        assert report.ok, report.problem
        self.lines = report.lines
        self.notes = report.notes
        records: list[dict[str, Any]] = [
            json.loads(line) for path in log_files(log) for line in path.read_bytes().splitlines()
        ]
        self.decisions = [record for record in records if record["type"] == "decision"]
        self.allowed = {record["id"]: record for record in self.decisions if record["effect"] == "allow"}
        self.diary = read_diary(diary)

    def check(self, answered: list[str]) -> None:
        """No request went through unrecorded, none is recorded twice, and both sides name the same person.

        `answered` are the request ids that clients saw on an answer that is not a 503.
        """
        numbers = Counter((record["worker"], record["boot"], record["n"]) for record in self.decisions)
        assert [number for number, times in numbers.items() if times > 1] == []
        first = Counter(record["id"] for record in self.decisions if record["effect"] == "allow")
        assert [name for name, times in first.items() if times > 1] == []
        assert [seen for seen in self.diary if seen.id not in self.allowed] == [], "reached the platform unrecorded"
        others = [(seen, self.allowed[seen.id].get("sub", "?")) for seen in self.diary]
        assert [pair for pair in others if pair[0].who != pair[1]] == [], "recorded under another name"
        assert [seen for seen in self.diary if seen.path.startswith("/probe")] == [], "a probe reached the platform"
        decided = {record["id"] for record in self.decisions}
        assert [name for name in answered if name not in decided] == [], "answered and not on record"
