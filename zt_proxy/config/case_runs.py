"""Cases run: what was expected against what is decided, and which rules decided in none of them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from zt_proxy.config.cases import Case
from zt_proxy.config.outcomes import Duties, Outcome, outcome_of
from zt_proxy.config.questions import pose
from zt_proxy.config.worlds import Estate
from zt_proxy.core.errors import ClientError
from zt_proxy.core.types import Mode
from zt_proxy.policy.explain import Trace
from zt_proxy.policy.spec import RuleEffect


class Difference(msgspec.Struct, frozen=True):
    """One thing that came out otherwise."""

    what: str
    expected: str
    got: str


class Ran(msgspec.Struct, frozen=True, omit_defaults=True):
    """One case and what came of it."""

    case: Case
    outcome: Outcome | None
    """None: the proxy refuses the request before any rule is asked."""
    differences: tuple[Difference, ...] = ()
    hint: str = ""
    """Of a case that failed: what the nearest rule lacks."""
    by_the_clock: bool = False
    """A rule about the request asks for the time, and the case does not say it."""

    @property
    def passed(self) -> bool:
        return not self.differences


class Coverage(msgspec.Struct, frozen=True):
    """Rules that decided in some case, of all that are not off. A rule in report mode decides where it is reported."""

    decided: tuple[tuple[str, str], ...]
    """(route, rule)"""
    never: tuple[tuple[str, str, int], ...]
    """(route, rule, line in the configuration or 0)"""

    @property
    def percent(self) -> float:
        every = len(self.decided) + len(self.never)
        return 100.0 * len(self.decided) / every if every else 100.0


def run(case: Case, estate: Estate, now: float) -> Ran:
    """Decide one case. `now`: epoch seconds, for a case that does not say when."""
    try:
        posed = pose(case.question, estate, now)
    except ClientError as error:
        got = Outcome("deny", error.reason.value)
        return Ran(case, None, tuple(_differences(case, got)), error.detail)
    trace = posed.world.explain(posed.facts)
    outcome = outcome_of(posed.world, posed.facts, trace.decision)
    differences = tuple(_differences(case, outcome))
    timed = case.question.at is None and any(
        each.kind == "condition" and each.wanted.startswith("time ")
        for rule in trace.rules
        for each in rule.criteria
        if rule.mode is not Mode.OFF and _about(rule.criteria)
    )
    return Ran(case, outcome, differences, _hint(trace) if differences else "", timed)


def _differences(case: Case, got: Outcome) -> Iterable[Difference]:
    if case.expect != got.word:
        yield Difference("expect", case.expect, got.word)
    if case.reason is not None and case.reason != got.reason:
        yield Difference("reason", case.reason, got.reason)
    if case.rule is not None and case.rule != got.rule:
        yield Difference("rule", case.rule or "none", got.rule or "none")
    if case.missing is not None and set(case.missing) != set(got.missing):
        yield Difference("missing", _list(case.missing), _list(got.missing))
    if case.obligations is None:
        return
    had = duties_as_written(got.duties)
    if not case.obligations:
        if had:
            yield Difference("obligations", "none", ", ".join(got.duties.words()))
        return
    for key, wanted in case.obligations.items():
        has = had.get(key, [] if isinstance(wanted, list) else False if isinstance(wanted, bool) else "none")
        if isinstance(wanted, bool):
            has = bool(has)
        if wanted != has and not (key == "mfa" and wanted == "single" and has == "none"):
            yield Difference(f"obligations.{key}", _show(wanted), _show(has))


def duties_as_written(duties: Duties) -> dict[str, Any]:
    """As cases write them; what there is none of is not there."""
    found: dict[str, Any] = {
        "mfa": duties.mfa,
        "reauth": duties.reauth,
        "justify": duties.justify,
        "approve": sorted((*duties.approve.users, *duties.approve.groups)) if duties.approve else None,
        "masks": sorted(duties.masks),
        "limit": duties.limit is not None,
        "notify": duties.notify,
        "break_glass": duties.break_glass,
    }
    return {key: value for key, value in found.items() if value}


def coverage(ran: Iterable[Ran], estate: Estate) -> Coverage:
    """Of all routes of the configuration."""
    seen: set[tuple[str, str]] = set()
    for each in ran:
        if each.outcome is not None:
            route = each.case.question.route
            seen.add((route, each.outcome.rule))
            seen.update((route, word.partition(":")[0]) for word in each.outcome.reported)
    decided: dict[tuple[str, str], None] = {}
    never: dict[tuple[str, str], int] = {}
    for world in estate.routes.values():
        for rule in world.rules.rules:
            if Mode.OFF in (rule.mode, world.rules.mode):
                continue
            key = (world.name, rule.id)
            if key in seen:
                decided[key] = None
            else:
                never[key] = world.places.get(rule.id, 0)
    return Coverage(tuple(decided), tuple((route, rule, line) for (route, rule), line in never.items()))


def _hint(trace: Trace) -> str:
    """What the allow rule that is nearest lacks first; empty where there is none."""
    lacking = [
        rule
        for rule in trace.rules
        if rule.effect is RuleEffect.ALLOW and rule.mode is Mode.ENFORCE and rule.unmet and _about(rule.criteria)
    ]
    if not lacking:
        return ""
    best = min(lacking, key=lambda rule: (sum(each.said != "hit" for each in rule.criteria if not each.depth), rule.id))
    return f"{best.id}: first unmet: {best.unmet}"


def _about(criteria: Iterable[Any]) -> bool:
    return all(each.said != "miss" for each in criteria if each.kind in {"method", "path", "action", "object"})


def _list(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "none"


def _show(value: Any) -> str:
    if isinstance(value, list):
        return _list(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
