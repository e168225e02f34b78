"""Which grants were used, by the decisions on record: rules, their actions, and the groups and users they name."""

import msgspec

from zt_proxy.core.session import Principal
from zt_proxy.policy.impact import entries
from zt_proxy.policy.recorded import Head, Told, sign_in


class Used(msgspec.Struct):
    """What is known of the use of one rule."""

    requests: int = 0
    actions: set[str] = msgspec.field(default_factory=set)
    groups: set[str] = msgspec.field(default_factory=set)
    """Every group of everybody who used it."""
    users: set[str] = msgspec.field(default_factory=set)
    """Subjects and verified addresses."""
    unknown: bool = False
    """Somebody used it of whose groups nothing is on record."""


class Usage:
    """Feed it sign-ins and decisions in the order of the log."""

    def __init__(self) -> None:
        self.rules: dict[tuple[str, str], Used] = {}
        """Route and rule → its use. A rule that only asked for a proof was used, and so was one that reports."""
        self.people: dict[tuple[str, str], Principal] = {}
        """Provider and subject → who somebody is by their last sign-in."""
        self._sessions: dict[str, Principal] = {}
        self.decisions = 0

    def meet(self, line: bytes) -> None:
        """A line that may say who somebody is."""
        said = sign_in(line)
        if said is not None:
            who = said.principal()
            self.people[(who.provider, who.subject)] = self._sessions[said.sid] = who

    def feed(self, _head: Head, told: Told) -> None:
        """One decision."""
        self.decisions += 1
        names = {rule for rule, would in entries(told) if would != "deny"}
        if told.rule and told.effect != "deny":
            names.add(told.rule)
        who = self._sessions.get(told.sid) or self.people.get((told.provider, told.sub))
        for name in names:
            used = self.rules.setdefault((told.route, name), Used())
            used.requests += 1
            if told.action:
                used.actions.add(told.action)
            used.users |= {each for each in (told.sub, told.email) if each}
            if who is not None:
                used.groups |= who.groups
            else:
                used.unknown = True
