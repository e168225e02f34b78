"""CPU time of masking three fields of a JSON document of 25 KB, in µs: decoded, found, replaced, with its new head.

The document is a list of 42 accounts of 585 bytes, as an application's interface gives them: 126 values are masked.
"""

import json
import time
from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.rounds import Gate, Outcome, summarise
from zt_proxy.worker.protect.mask import paths, ways
from zt_proxy.worker.protect.mask.answers import Types, consider, masked
from zt_proxy.worker.protect.mask.document import Editor
from zt_proxy.worker.protect.mask.hold import Held
from zt_proxy.worker.protect.mask.ways import Way
from zt_proxy.worker.settings import AnswerSettings
from zt_proxy.worker.wire.h1_response import ResponseHead

GATE = Gate("mask_us_25k", 150.0)
ACCOUNTS, VALUES = 42, 126
TURNS = 200

_COMMENT = "A sentence about the account, kept by whoever looks after it, as people write them."


def account(number: int) -> dict[str, object]:
    """One account."""
    return {
        "id": number,
        "name": f"Person {number}",
        "email": f"p{number}@example.com",
        "iban": f"DE89370400440532{number:06d}",
        "salary": 50_000 + number,
        "ssn": f"123-45-{number:04d}",
        "city": "Berlin",
        "street": "Hauptstrasse 12",
        "zip": "10115",
        "active": True,
        "tags": ["a", "b", "c"],
        "manager": {"id": number + 1, "name": "Boss", "mail": "boss@example.com"},
        "created": "2026-01-01T00:00:00Z",
        "updated": "2026-05-01T00:00:00Z",
        "notes": "Some notes about the person that go on for a little while",
        "score": 0.75,
        "phone": "+49 30 1234567",
        "department": "sales",
        "level": 3,
        "flags": None,
        "comment": _COMMENT,
    }


def document() -> bytes:
    """About 25,000 bytes of JSON."""
    return json.dumps([account(number) for number in range(ACCOUNTS)], separators=(",", ":")).encode()


def work(way: Way | None, *fields: str) -> Callable[[], int]:
    """Mask the document in one answer; gives how many values were masked."""
    body, settings = document(), AnswerSettings()
    types, editor = Types(settings), Editor([(paths.parse(field), way) for field in fields])
    head = ResponseHead()
    head.status, head.content_length = 200, len(body)
    head.lines = [b"Content-Type: application/json\r\n", b'ETag: "1"\r\n', b"Date: Mon, 23 Nov 2026 00:00:00 GMT\r\n"]

    def once() -> int:
        held = Held(consider(head, types), settings.limit, b"/accounts")
        held.feed(body)
        text, count = editor.edit(held.end() or b"")
        masked(head, frozenset(), len(text))
        return count

    return once


def microseconds(once: Callable[[], int]) -> float:
    """CPU time of one turn: the least of several series, because what else runs only ever adds."""
    if once() != VALUES:
        raise AssertionError("not every value was masked")
    best = float("inf")
    for _ in range(5):
        began = time.process_time_ns()
        for _ in range(TURNS):
            once()
        best = min(best, time.process_time_ns() - began)
    return best / TURNS / 1000


def measure(bench: Bench) -> Outcome:
    """Rounds of each way; the value is the median of `last4` at any depth, as the examples of the manual write it."""
    bench.progress.title("mask: CPU time of masking three fields of a JSON document of 25 KB")
    deep = ("$..iban", "$..salary", "$..ssn")
    kinds = {
        "last4": work(ways.LAST4, *deep),
        "fixed": work(ways.fixed(b""), *deep),
        "remove": work(None, *deep),
        "hash": work(ways.hashed(bytes(32)), *deep),
        "paths from the root": work(ways.LAST4, "$[*].iban", "$[*].salary", "$[*].ssn"),
    }
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(1, bench.scale.rounds + 1):
        for kind, once in kinds.items():
            bench.progress.now(f"round {number}: {kind}")
            samples[kind].append(microseconds(once))
        row = ", ".join(f"{kind} {taken[-1]:.0f}" for kind, taken in samples.items())
        bench.progress.line(f"  round {number}: {row} µs")
    medians = {kind: summarise(taken).median for kind, taken in samples.items()}
    details = {f"mask_{kind.split()[0]}_us_25k": value for kind, value in medians.items() if kind != "last4"}
    return Outcome(GATE, medians["last4"], details)
