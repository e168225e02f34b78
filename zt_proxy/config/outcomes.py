"""What a decision comes to for whoever asks: one word, and what comes with it. For tools that show and compare."""

import msgspec

from zt_proxy.config.units import show_duration, show_size
from zt_proxy.config.worlds import RouteWorld
from zt_proxy.core.session import Level
from zt_proxy.core.types import ASKED_OF_PEOPLE, Decision, Effect, Facts
from zt_proxy.policy.spec import Approve, Limit, RuleEffect, RuleSpec


class Duties(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a permission asks for, and what comes with it."""

    mfa: str = ""
    """Level of the proof; empty: that of the sign-in is enough."""
    reauth: str = ""
    """How old a proof may be, or `once`."""
    justify: bool = False
    approve: Approve | None = None
    masks: tuple[str, ...] = ()
    limit: Limit | None = None
    notify: bool = False
    break_glass: bool = False

    def words(self) -> list[str]:
        """Each in a few words."""
        found = [f"{self.mfa} proof"] if self.mfa else []
        if self.reauth:
            found.append("confirm each time" if self.reauth == "once" else f"proof of the last {self.reauth}")
        if self.justify:
            found.append("say why")
        if self.approve is not None:
            found.append(f"approval by {', '.join((*self.approve.users, *self.approve.groups))}")
        if self.masks:
            found.append(f"masks {', '.join(self.masks)}")
        if self.limit is not None:
            found.append(f"at most {limit_words(self.limit)}")
        return found + ["notify"] * self.notify + ["break-glass"] * self.break_glass


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision, as people are told of it."""

    word: str
    """`allow`, `deny`, `challenge:KIND`."""
    reason: str
    rule: str = ""
    duties: Duties = Duties()
    missing: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()

    @property
    def later(self) -> bool:
        """The person can give what is asked for, and then may."""
        return self.word in {f"challenge:{kind.value}" for kind in ASKED_OF_PEOPLE}


def outcome_of(world: RouteWorld, facts: Facts, decision: Decision) -> Outcome:
    """In the words of cases and of commands."""
    word = f"challenge:{decision.challenge.value}" if decision.challenge else decision.effect.value
    return Outcome(
        word,
        decision.reason.value,
        decision.rule,
        duties_of(world, facts, decision),
        decision.missing,
        decision.reported,
    )


def duties_of(world: RouteWorld, facts: Facts, decision: Decision) -> Duties:
    """Of a permission, and of a challenge after which there will be one."""
    rule = rule_of(world, decision.rule, machine=bool(facts.principal and facts.principal.integration))
    if decision.effect is Effect.DENY or (decision.challenge and decision.challenge not in ASKED_OF_PEOPLE):
        return Duties()
    given = decision.obligations
    if given is not None and given.break_glass:
        return Duties(masks=world.masks_for(facts, decision), break_glass=True)
    if rule is None or rule.effect is RuleEffect.DENY:
        return Duties(masks=world.masks_for(facts, decision))
    challenged = decision.effect is Effect.CHALLENGE
    reauth = "once" if rule.once else show_duration(rule.reauth) if rule.reauth is not None else ""
    return Duties(
        mfa=rule.level.word if rule.level > Level.SINGLE else "",
        reauth=reauth,
        justify=rule.justify,
        approve=rule.approve,
        masks=rule.masks if challenged else world.masks_for(facts, decision),
        limit=rule.limit if challenged or (given is not None and given.limit) else None,
        notify=rule.notify if challenged else given is not None and given.notify,
    )


def rule_of(world: RouteWorld, name: str, *, machine: bool = False) -> RuleSpec | None:
    """The rule of that name; of one that is for people and integrations, the part that was meant."""
    found = [rule for rule in world.rules.rules if rule.id == name]
    return (found[-1] if machine else found[0]) if found else None


def limit_words(limit: Limit) -> str:
    """`100 requests and 50MB per 1h`"""
    parts = [f"{limit.requests:g} requests"] if limit.requests else []
    parts += [show_size(int(limit.bytes))] if limit.bytes else []
    return f"{' and '.join(parts)} per {show_duration(limit.per)}"
