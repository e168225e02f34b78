"""A trace for people: first what is decided, then what every rule says, no wider than a hundred columns."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from zt_proxy.cli.operator_client import plain
from zt_proxy.config.outcomes import Outcome
from zt_proxy.config.questions import Posed, Question
from zt_proxy.config.units import show_duration
from zt_proxy.core.types import Mode
from zt_proxy.policy.explain import Criterion, RuleTrace, Trace
from zt_proxy.policy.spec import RuleEffect

WIDTH = 100
_REQUEST = frozenset({"method", "path", "action", "object"})
_SIGNS = {"hit": "[green]hit[/]", "miss": "[red]miss[/]", "unknown": "[yellow]unknown[/]"}
_COLOURS = {"allow": "green", "deny": "red"}


class View(msgspec.Struct, frozen=True):
    """One question and its answer."""

    question: Question
    posed: Posed
    trace: Trace
    outcome: Outcome
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """For JSON."""
        act, decision = self.posed.facts.act, self.trace.decision
        nearest = self.nearest()
        return {
            "decision": decision.effect.value,
            "challenge": decision.challenge.value if decision.challenge else None,
            "reason": decision.reason.value,
            "rule": decision.rule or None,
            "means": {
                name: value
                for name in ("action", "kind", "object", "sensitivity", "changes", "matcher", "owner", "refused")
                if (value := getattr(act, name))
            },
            "obligations": self.outcome.duties,
            "masks": self.outcome.duties.masks,
            "missing": decision.missing,
            "reported": decision.reported,
            "first_unmet": {"rule": nearest.id, "criterion": nearest.unmet} if nearest is not None else None,
            "roles": self.trace.roles,
            "rules": [
                {**msgspec.to_builtins(rule), "line": self.posed.world.places.get(rule.id)} for rule in self.trace.rules
            ],
            "question": self.question,
            "assumed": self.assumed,
            "notes": self.notes,
        }

    def nearest(self) -> RuleTrace | None:
        """Of a request that is not allowed: the allow rule that lacks least, with what it lacks first."""
        if self.outcome.word == "allow":
            return None
        return nearest_of(self.trace)

    def show(self, *, everything: bool = False) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.padding import Padding

        console = Console(width=min(WIDTH, _columns()), highlight=False)
        for label, text in self._head():
            console.print(f"[dim]{label:<9}[/]{escape(plain(text))}", overflow="fold")
        colour = _COLOURS.get(self.outcome.word, "yellow")
        place = self.posed.world.places.get(self.outcome.rule)
        rule = f" by rule {self.outcome.rule}" + (f", line {place}" if place else "") if self.outcome.rule else ""
        console.print()
        console.print(f"[bold {colour}]{self.outcome.word.upper()}[/]  {escape(f'{self.outcome.reason}{rule}')}")
        for line in self._more():
            console.print(Padding(escape(plain(line)), (0, 0, 0, 2)))
        shown = [rule for rule in self.trace.rules if everything or about(rule)]
        for each in shown:
            console.print()
            self._rule(console, each)
        rest = len(self.trace.rules) - len(shown)
        if rest:
            what = "1 rule is" if rest == 1 else f"{rest} rules are"
            console.print(f"\n[dim]{what} about other requests; --all shows them.[/]")
        for note in self.notes:
            console.print(f"[yellow]note[/]  {escape(plain(note))}")

    def _head(self) -> list[tuple[str, str]]:
        facts, question = self.posed.facts, self.question
        who, origin = facts.principal, facts.origin
        opened = "WebSocket " if question.websocket else ""
        lines = [
            ("request", f"{opened}{question.method} {facts.path.decode()} on {self.posed.world.name}"),
            ("means", _meaning(self.posed)),
        ]
        if who is None:
            lines.append(("who", "a stranger"))
        elif who.integration:
            lines.append(("who", f"the integration {who.integration}"))
        else:
            said = [("groups", who.groups), ("roles", self.trace.roles), ("claims", [*_claims(who.claims)])]
            parts = [
                f"{name} {', '.join(sorted(values)) or 'none'}" for name, values in said if values or name == "groups"
            ]
            lines.append(("who", f"{who.email or who.subject} of {who.provider}; {'; '.join(parts)}"))
        if origin is not None:
            zones = ", ".join(sorted(origin.zones)) or "none"
            asn = f", AS{origin.asn}" if origin.asn else ""
            where = f"{origin.address + ', ' if origin.address else ''}network {zones}"
            lines.append(("from", f"{where}, country {origin.country or 'not known'}{asn}"))
        session = facts.session
        if session is not None:
            age = show_duration(facts.now - session.auth_time)
            device = {True: "known", False: "new", None: "not known"}[session.device_known]
            risk = facts.risk.level.word if facts.risk is not None else "not known"
            proved = f"{session.level.word}, {'just now' if age == '0s' else age + ' ago'}"
            lines.append(("sign-in", f"{proved}; device {device}; risk {risk}"))
        lines.append(("at", f"{datetime.fromtimestamp(facts.now, UTC):%a %Y-%m-%d %H:%M} UTC"))
        if self.assumed:
            lines.append(("assumed", ", ".join(self.assumed)))
        return lines

    def _more(self) -> list[str]:
        lines = []
        words = self.outcome.duties.words()
        if words:
            lines.append(f"{'comes with' if self.outcome.word == 'allow' else 'asks for'}: {'; '.join(words)}")
        if self.outcome.missing:
            lines.append(f"not known: {', '.join(self.outcome.missing)}")
        nearest = self.nearest()
        if nearest is not None and nearest.id != self.outcome.rule:
            lines.append(f"nearest: {nearest.id}; first unmet: {nearest.unmet}")
        if self.outcome.reported:
            lines.append(f"in report mode would have been: {', '.join(self.outcome.reported)}")
        return lines

    def _rule(self, console: Any, rule: RuleTrace) -> None:
        from rich.markup import escape
        from rich.padding import Padding
        from rich.table import Column, Table

        line = self.posed.world.places.get(rule.id)
        tags = [f"line {line}"] if line else []
        tags += [rule.inherited] if rule.inherited else []
        tags += [rule.mode.value] if rule.mode is not Mode.ENFORCE else []
        says = {"hit": "applies", "miss": "does not apply", "unknown": "cannot be told"}[rule.said]
        mark = "[bold]»[/]" if rule.decides else " "
        title = f"{mark} [bold]{escape(rule.id)}[/] {rule.effect.value}, {says}"
        console.print(title + (f" [dim]({', '.join(tags)})[/]" if tags else ""))
        table = Table(
            Column("", width=7, no_wrap=True),
            Column("", width=12, no_wrap=True),
            Column("", overflow="fold", ratio=3),
            Column("", overflow="fold", ratio=2),
            box=None,
            show_header=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            expand=True,
        )
        for place, each in enumerate(rule.criteria):
            wanted = "  " * each.depth + _wanted(each, rule.criteria[place + 1 :])
            table.add_row(_SIGNS[each.said], each.kind, escape(plain(wanted)), escape(plain(each.actual)))
        console.print(Padding(table, (0, 0, 0, 4)))


def nearest_of(trace: Trace) -> RuleTrace | None:
    """The allow rule about this request that lacks least; its `unmet` says what first. None: there is none."""
    allows = [
        rule
        for rule in trace.rules
        if rule.effect is RuleEffect.ALLOW and rule.mode is Mode.ENFORCE and rule.unmet and about(rule)
    ]
    return min(allows, key=lambda rule: (_unmet(rule), rule.id), default=None)


def about(rule: RuleTrace) -> bool:
    """The rule is about this request, whoever makes it."""
    return all(each.said != "miss" for each in rule.criteria if each.kind in _REQUEST)


def _wanted(each: Criterion, following: Sequence[Criterion]) -> str:
    """Of a condition that is made of others: how they go together. They follow, and say the rest."""
    below = []
    for other in following:
        if other.depth <= each.depth:
            break
        if other.depth == each.depth + 1:
            below.append(other.wanted)
    ways = {f"not ({' and '.join(below)})": "not", " and ".join(below): "all of", " or ".join(below): "any of"}
    return ways.get(each.wanted, each.wanted) if below else each.wanted


def _unmet(rule: RuleTrace) -> tuple[int, int]:
    """How much of it is not met: misses weigh more than what is not known."""
    top: list[Criterion] = [each for each in rule.criteria if each.depth == 0]
    return sum(each.said == "miss" for each in top), sum(each.said == "unknown" for each in top)


def _meaning(posed: Posed) -> str:
    act = posed.facts.act
    if posed.world.profile is None:
        return "method and path alone: the route has no profile"
    if act.action is None:
        return "nothing that the profile knows" + (" (its body is needed)" if posed.needs_body else "")
    text = act.action.value + (f" {act.kind}:{act.object}" if act.kind else "")
    more = [f"matcher {act.matcher}" if act.matcher else "the profile's otherwise"]
    more += [act.sensitivity.value] if act.sensitivity else []
    more += [f"changes {act.changes.value}"] if act.changes else []
    return f"{text} ({', '.join(more)})"


def _claims(claims: Any) -> list[str]:
    return [
        f"{name}={'|'.join(value) if isinstance(value, (tuple, list)) else value}" for name, value in claims.items()
    ]


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
