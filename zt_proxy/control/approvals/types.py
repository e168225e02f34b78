"""A request for somebody else's word, and who may give it."""

from collections.abc import Collection, Mapping
from enum import StrEnum

import msgspec

from zt_proxy.core.handoff import Handoff
from zt_proxy.core.session import Principal, unlock_key
from zt_proxy.policy.spec import Approve

DAY = 86_400.0
"""Seconds that a request waits at most, and that an approval lasts at most."""

Rules = Mapping[tuple[str, str], Approve]
"""Route and rule → who may agree, of every rule that asks for it."""


class State(StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"


class Request(msgspec.Struct, frozen=True):
    """One session asks that somebody agrees to what one rule lets through. Times are epoch seconds."""

    id: str
    sid: str
    who: Principal
    handoff: Handoff
    """What was asked for, and where to come back to."""
    created: float
    expires: float
    """When nobody can decide it any more, and nobody is told any more how it was decided."""
    reason: str = ""
    """What the person says."""
    justification: str = ""
    """What they said when the rule asked why."""
    state: State = State.WAITING
    by: str = ""
    """Who decided."""
    decided: float = 0.0
    until: float = 0.0
    """How long the approval lasts."""

    @property
    def rule(self) -> tuple[str, str]:
        """Route and rule."""
        return self.handoff.route, self.handoff.rule

    @property
    def key(self) -> str:
        """Of the session's `approved`."""
        return unlock_key(*self.rule)

    def waits(self, now: float) -> bool:
        return self.state is State.WAITING and now < self.expires


def name_of(who: Principal) -> str:
    """How a person is named to others, and in records: what the provider vouches for, no name of their choice."""
    return who.email or who.subject


def is_own(request: Request, who: Principal) -> bool:
    """The same person, as far as anybody can tell: nobody agrees with themselves. In doubt, they are the same: the
    policy knows who agreed by one name alone, and takes no approval of somebody of the requester's name."""
    asks = request.who
    if (asks.issuer, asks.subject) == (who.issuer, who.subject) or asks.subject == who.subject:
        return True
    mails = {each.casefold() for each in (asks.email, asks.subject) if each}
    return any(each.casefold() in mails for each in (who.email, who.subject) if each)


def is_named(who: Principal, accounts: Collection[str], *, several: bool) -> bool:
    """Whether the configuration means this person. `several`: there are several providers, and what one of them calls a
    subject may be somebody's address at another: then verified addresses alone count."""
    return who.email in accounts or (not several and who.subject in accounts)


def may_decide(request: Request, who: Principal, rules: Rules, provider: str = "", *, several: bool = False) -> bool:
    """Whether the rule of this moment names this person, as they are in the directory at this moment.

    `provider`: the one whose people the route takes; empty: any. `several`: see `is_named`.
    """
    named = rules.get(request.rule)
    if named is None or who.integration or is_own(request, who) or (provider and who.provider != provider):
        return False
    return is_named(who, named.users, several=several) or not who.groups.isdisjoint(named.groups)
