"""What integrations may do on a route, apart from the rules for people: neither ever stands for the other.

A certificate proves the same at every request, so that most decisions depend on integration, origin and request alone,
and are remembered. However many integrations there are, a request is held against the scopes of one. Those are compiled
when they are first asked for: hundreds of integrations with dozens of scopes would make a reload wait for all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zt_proxy.core.errors import Reason
from zt_proxy.core.types import Decision, Effect, Facts, Mode
from zt_proxy.policy.engine import judge_known
from zt_proxy.policy.expressions import headers_in
from zt_proxy.policy.rules import Book, CompiledRule
from zt_proxy.policy.spec import All, Any, Audience, Cel, Condition, Named, Not, RouteRules, RuleEffect, RuleSpec, Test

if TYPE_CHECKING:
    from zt_proxy.policy.explain import Trace

REMEMBERED = 4096
"""Decisions remembered per route."""
REMEMBERED_LENGTH = 256
"""Longer paths and names are judged anew each time, so that nobody can fill memory with them."""

_REPORT_ONLY = Decision(Effect.ALLOW, Reason.RULE_ALLOWED)


class MachineRules:
    """The rules of one route for integrations. Immutable but for what it remembers."""

    __slots__ = ("_books", "_for_all", "_make", "_named", "_remembered", "_report_only")

    def __init__(self, rules: RouteRules, make: Callable[[Sequence[RuleSpec]], Book]) -> None:
        self._make = make
        self._for_all: list[RuleSpec] = []
        """Rules that speak of everybody: public ones, and denies for everyone who signed in."""
        self._named: dict[str, list[RuleSpec]] = {}
        self._books: dict[str, Book] = {}
        self._remembered: dict[tuple[object, ...], Decision] = {}
        self._report_only = rules.mode is Mode.REPORT
        for spec in rules.rules:
            if Mode.OFF in (spec.mode, rules.mode):
                continue
            if _speaks_of_every_machine(spec):
                self._for_all.append(spec)
            elif spec.integrations and not (spec.effect is RuleEffect.ALLOW and spec.asks_a_person):
                for name in spec.integrations:
                    self._named.setdefault(name, []).append(spec)

    def decide(self, name: str, facts: Facts) -> Decision:
        """The decision about an integration's request, with what rules in report mode would have changed.

        `facts` have the integration as principal and no session; what only a person has is not known of it. On a route
        in report mode an integration that is named in an allow rule of the route is not stopped; what the rules said is
        reported, as for people. Others are denied as everywhere.
        """
        key = (name, facts.method, facts.path, facts.act, facts.origin)
        decision = self._remembered.get(key)
        if decision is None:
            book = self._book(name)
            bits = book.request.fitting(facts)
            decision = self._decide(name, book, bits, facts)
            if len(facts.path) + len(facts.act.object) <= REMEMBERED_LENGTH and not bits & (book.timed | book.reading):
                if len(self._remembered) >= REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = decision
        return decision

    def is_timeless(self, name: str, facts: Facts) -> bool:
        """What `decide` says of this depends on nothing but integration, way and rules."""
        book = self._book(name)
        return not book.request.fitting(facts) & book.timed

    def about(self, name: str, facts: Facts) -> Iterator[CompiledRule]:
        """The rules in force that are about this request of the integration, in the order of judgement."""
        book = self._book(name)
        return book.each(book.request.fitting(facts) & book.enforced)

    def explain(self, name: str, facts: Facts) -> "Trace":
        """Why `decide` decides as it does, rule by rule: for the operator alone."""
        from zt_proxy.policy.explain import trace

        return trace(self.decide(name, facts), self._book(name), facts)

    def _book(self, name: str) -> Book:
        """The rules about one integration; all that no rule names share one book."""
        if name not in self._named:
            name = ""
        book = self._books.get(name)
        if book is None:
            book = self._books[name] = self._make([*self._for_all, *self._named.get(name, ())])
        return book

    def _decide(self, name: str, book: Book, bits: int, facts: Facts) -> Decision:
        decision = judge_known(book, bits & book.enforced, facts, None)
        reported = [
            f"{rule.id}:{other.effect.value}"
            for rule in book.reporting
            if rule.bits & bits
            and (other := judge_known(book, bits & (book.enforced | rule.bits), facts, None)).effect
            is not decision.effect
        ]
        if self._report_only and decision.effect is Effect.ALLOW and decision.obligations is not None:
            decision = replace(decision, obligations=None)
        if (
            self._report_only
            and decision.effect is Effect.DENY
            and any(spec.effect is RuleEffect.ALLOW for spec in self._named.get(name, ()))
        ):
            reported.append(f"route:deny:{decision.reason.value}")
            if decision.rule:
                reported.append(f"{decision.rule}:deny")
            decision = _REPORT_ONLY
        return replace(decision, reported=tuple(reported)) if reported else decision


def _speaks_of_every_machine(spec: RuleSpec) -> bool:
    """Public rules do; a deny also when it is for whoever is known at all, since a machine is known."""
    narrowed = bool(spec.narrowed or spec.integrations)
    if spec.effect is RuleEffect.ALLOW:
        return spec.audience is Audience.PUBLIC and not narrowed and not spec.asks_a_person
    return spec.audience is Audience.PUBLIC or not narrowed


def headers_of(condition: Condition) -> set[str]:
    """Lower-case names of the headers that a condition asks for, without compiling it."""
    match condition:
        case Test():
            return {condition.fact.removeprefix("header:").lower()} if condition.fact.startswith("header:") else set()
        case Not() | Named():
            return headers_of(condition.item)
        case All() | Any():
            return set().union(*(headers_of(item) for item in condition.items))
        case Cel():
            return headers_in(condition.expression)
        case _:
            return set()
