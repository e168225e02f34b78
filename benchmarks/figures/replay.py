"""Recorded decisions that are tried under other rules in a second of CPU time, from the bytes of the log to the report.

A log as an estate has it: 60 people on one route with a hundred rules ask for 300 things, each of them seven times;
decided by one set of rules and replayed under another. Every line is read, and each decision is followed by its end.
What it takes to replay against another file, instead of against what was recorded, is measured beside that.
"""

import random
import time
from collections.abc import Sequence

from msgspec.structs import replace

from benchmarks.bench import Bench
from benchmarks.figures import decision
from benchmarks.rounds import Gate, Outcome, summarise
from zt_proxy.control.audit.chain import Head, extend
from zt_proxy.control.risk.judge import person_line
from zt_proxy.core.lines import encode_line
from zt_proxy.core.types import Facts
from zt_proxy.policy.judged import BarePlace, Places
from zt_proxy.policy.replay import Replay
from zt_proxy.policy.spec import Audience, RequestMatch, RouteRules, RuleEffect, RuleSpec, Test
from zt_proxy.worker.record import DecisionRecord, EndRecord, _fields

GATE = Gate("replay_per_s", 50_000.0, at_most=False)
COUNT = 120_000
"""Decisions of a log."""


def log(place: BarePlace, count: int) -> list[bytes]:
    """Lines of that many decisions with their ends, after the sign-ins of everybody."""
    people = decision.people()
    asked = decision.facts(decision.requests("", decision.PATHS), people)
    few = random.Random(7)
    chosen: Sequence[Facts] = few.choices(asked, k=count)
    records = [
        encode_line(
            {"type": "signed-in", "v": 1, "at": decision.NOW - 60, "sid": each.sid, **person_line(each.principal)}
        )
        for each in people
    ]
    for number, facts in enumerate(chosen):
        made = place.policy.decide(facts)
        head = encode_line(
            DecisionRecord(1, facts.now, f"{number:020d}", 0, "b007b007", 2 * number + 1, facts.path.decode("latin-1"))
        )
        assert facts.origin is not None
        told = _fields(
            place.name, place.host, facts.method, facts.client, facts.session, made, facts.act, facts.origin, facts.risk
        )
        records.append(head[:-1] + b"," + encode_line(told)[1:])
        records.append(
            encode_line(EndRecord(1, facts.now, f"{number:020d}", 0, "b007b007", 2 * number + 2, 200, 0, 5_000, 0.01))
        )
    lines, _ = extend(Head(), records)
    return lines.split(b"\n")[:-1]


def places(rules: RouteRules) -> Places:
    return Places([BarePlace("app.example.com", b"/", rules)])


def changed(rules: RouteRules) -> RouteRules:
    """The same rules with one more deny, as somebody would try it."""
    frozen = RuleSpec(
        "frozen", RuleEffect.DENY, Audience.SIGNED_IN, (RequestMatch(actions=("export",)),),
        when=Test("risk", "at_least", ("medium",)),
    )  # fmt: skip
    return replace(rules, rules=(*rules.rules, frozen))


def per_second(run: Replay, lines: Sequence[bytes], count: int) -> float:
    began = time.process_time()
    for line in lines:
        run.feed(line)
    run.report()
    return count / (time.process_time() - began)


def measure(bench: Bench) -> Outcome:
    """The value is the median of the rounds, each with nothing remembered."""
    bench.progress.title("replay: recorded decisions tried under other rules, a second of CPU time")
    rules = decision.rules(100)
    lines = log(BarePlace("app.example.com", b"/", rules), COUNT)
    samples: dict[str, list[float]] = {"record": [], "file": []}
    for _ in range(bench.scale.rounds):
        samples["record"].append(per_second(Replay(places(changed(rules))), lines, COUNT))
        samples["file"].append(per_second(Replay(places(changed(rules)), places(rules)), lines, COUNT))
    for name, values in samples.items():
        bench.progress.summary(name, summarise(values), "/s")
    return Outcome(GATE, summarise(samples["record"]).median, {"replay_per_s_file": summarise(samples["file"]).median})
