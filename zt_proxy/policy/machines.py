"""What integrations may do on a route, apart from the rules for people: neither ever stands for the other.

A certificate proves the same at every request, so that a decision depends on integration, method and path alone, and
is remembered. However many integrations there are, a request is held against the scopes of one. Those are compiled
when they are first asked for: hundreds of integrations with dozens of scopes would make a reload wait for all of them.
"""

from collections.abc import Callable

from msgspec.structs import replace

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level
from zt_proxy.core.types import Decision, Effect, Mode
from zt_proxy.policy.spec import Audience, RouteRules, RuleEffect, RuleSpec

RequestTest = Callable[[bytes, bytes], bool]
REMEMBERED = 4096
"""Decisions remembered per route."""
REMEMBERED_PATH = 256
"""Longer paths are matched anew each time, so that nobody can fill memory with them."""

_NOTHING_MATCHED = Decision(Effect.DENY, Reason.NO_RULE_MATCHED)
_REPORT_ONLY = Decision(Effect.ALLOW, Reason.RULE_ALLOWED)


class _Rule:
    """One rule as it concerns machines."""

    __slots__ = ("_fits", "_make", "_spec", "decision", "deny", "id", "report")

    def __init__(self, spec: RuleSpec, make: Callable[[RuleSpec], RequestTest], *, public: bool) -> None:
        self._spec = spec
        self.id = spec.id
        self.deny = spec.effect is RuleEffect.DENY
        self.report = spec.mode is Mode.REPORT
        self._make = make
        self._fits: RequestTest | None = None
        allowed = Reason.PUBLIC if public else Reason.RULE_ALLOWED
        self.decision = Decision(
            Effect.DENY if self.deny else Effect.ALLOW, Reason.RULE_DENIED if self.deny else allowed, self.id
        )

    def fits(self, method: bytes, path: bytes) -> bool:
        if self._fits is None:
            self._fits = self._make(self._spec)
        return self._fits(method, path)


class MachineRules:
    """The rules of one route for integrations. Immutable but for what it remembers."""

    __slots__ = ("_for_all", "_named", "_remembered", "_report_only")

    def __init__(self, rules: RouteRules, compile_test: Callable[[RuleSpec], RequestTest]) -> None:
        self._for_all: list[_Rule] = []
        """Rules that speak of everybody: public ones, and denies for everyone who signed in."""
        self._named: dict[str, list[_Rule]] = {}
        self._remembered: dict[tuple[str, bytes, bytes], Decision] = {}
        self._report_only = rules.mode is Mode.REPORT
        for spec in rules.rules:
            if Mode.OFF in (spec.mode, rules.mode):
                continue
            everybody = _speaks_of_every_machine(spec)
            if not everybody and (not spec.integrations or _asks_for_proof(spec)):
                continue
            rule = _Rule(spec, compile_test, public=everybody)
            if everybody:
                self._for_all.append(rule)
            else:
                for name in spec.integrations:
                    self._named.setdefault(name, []).append(rule)

    def decide(self, name: str, method: bytes, path: bytes) -> Decision:
        """The decision about an integration's request, with what rules in report mode would have changed.

        On a route in report mode an integration that is named in an allow rule of the route is not stopped; what the
        rules said is reported, as for people. Others are denied as everywhere.
        """
        key = (name, method, path)
        decision = self._remembered.get(key)
        if decision is None:
            decision = self._decide(name, method, path)
            if len(path) <= REMEMBERED_PATH:
                if len(self._remembered) >= REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = decision
        return decision

    def _decide(self, name: str, method: bytes, path: bytes) -> Decision:
        mine = [*self._for_all, *self._named.get(name, ())]
        fitting = [rule for rule in mine if rule.fits(method, path)]
        enforced = [rule for rule in fitting if not rule.report]
        decision = _judge(enforced)
        reported = [
            f"{rule.id}:{other.effect.value}"
            for rule in fitting
            if rule.report and (other := _judge([*enforced, rule])).effect is not decision.effect
        ]
        if (
            self._report_only
            and decision.effect is Effect.DENY
            and any(not rule.deny for rule in self._named.get(name, ()))
        ):
            reported.append(f"route:deny:{decision.reason.value}")
            if decision.rule:
                reported.append(f"{decision.rule}:deny")
            decision = _REPORT_ONLY
        return replace(decision, reported=tuple(reported)) if reported else decision


def _judge(rules: list[_Rule]) -> Decision:
    """Deny beats allow, whatever the order; nothing is deny."""
    found: Decision | None = None
    for rule in rules:
        if rule.deny:
            return rule.decision
        found = found or rule.decision
    return found or _NOTHING_MATCHED


def _speaks_of_every_machine(spec: RuleSpec) -> bool:
    """Public rules do; a deny also when it is for whoever is known at all, since a machine is known."""
    narrowed = bool(spec.narrowed or spec.integrations)
    if spec.effect is RuleEffect.ALLOW:
        return spec.audience is Audience.PUBLIC and not narrowed and not _asks_for_proof(spec)
    return spec.audience is Audience.PUBLIC or not narrowed


def _asks_for_proof(spec: RuleSpec) -> bool:
    """A fresh or strong proof is something only a person can give."""
    return spec.effect is RuleEffect.ALLOW and (spec.once or spec.reauth is not None or spec.level > Level.SINGLE)
