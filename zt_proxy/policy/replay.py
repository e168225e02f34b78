"""What recorded requests would come to under other rules: only what changes, and what the record cannot tell.

    line ──► head + circumstances ──► facts ──► decisions ──► the same │ a change │ not comparable, and why

The record does not have headers, bodies, queries, and which proofs a session had. Everything that depends on proofs is
therefore decided twice, with every proof and with none: where the two agree, proofs do not matter; where they do not,
and the recorded answer may be either, it is said that nobody knows. Requests alike are decided once.
"""

import msgspec

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Principal
from zt_proxy.policy.judged import Outcome, Places, Two, outcomes
from zt_proxy.policy.recorded import Head, Key, Told, is_person, sign_in, split, told

REMEMBERED = 65_536
"""Circumstances, and of each as many paths, whose outcome is remembered."""
BY_RULES = frozenset(
    {
        Reason.RULE_ALLOWED,
        Reason.PUBLIC,
        Reason.LOGIN_REQUIRED,
        Reason.MFA_REQUIRED,
        Reason.REAUTH_REQUIRED,
        Reason.NO_RULE_MATCHED,
        Reason.RULE_DENIED,
        Reason.FACT_MISSING,
        Reason.ACTION_UNKNOWN,
        Reason.JUSTIFICATION_REQUIRED,
        Reason.APPROVAL_REQUIRED,
        Reason.RISK_TOO_HIGH,
        Reason.BREAK_GLASS,
    }
)
"""Reasons of decisions that rules made; all others (locks, limits, certificates, sessions) are none of theirs."""
OTHERWISE, UNREADABLE, PROOFS = "not decided by rules", "record cannot be read", "proofs of the session"
_ELSEWHERE = "on another route"


class Change(msgspec.Struct):
    """Requests alike that another answer awaits."""

    who: str
    """Verified address, subject, name of the integration, or `nobody signed in`."""
    route: str
    action: str
    """Empty: none is known."""
    before: str
    after: str
    rule_before: str
    rule_after: str
    reason: str
    """Why it is decided so now."""
    count: int
    example: str
    """Id of the first of them, as in `X-Request-Id`."""

    @property
    def turns(self) -> bool:
        """It is allowed and would not be, or the other way round."""
        return (self.before.split()[0] == "allow") is not (self.after.split()[0] == "allow")


class Report(msgspec.Struct):
    """What came of a replay."""

    decisions: int
    """On record, in the window and on the routes asked for."""
    compared: int
    changed: int
    turned: int
    """Of those: from allowed to not allowed, or the other way round."""
    changes: tuple[Change, ...]
    """The most frequent first."""
    not_comparable: dict[str, int]
    """Why → how many."""
    first: float
    """Epoch seconds of the first and the last decision; 0: there was none."""
    last: float


class _Case:
    """Circumstances, with what requests under them came to."""

    __slots__ = ("outcomes", "skip", "told", "who")

    def __init__(self, record: Told, who: Principal | None, skip: str) -> None:
        self.told = record
        self.who = who
        self.skip = skip
        self.outcomes: dict[str | tuple[str | int, ...], Change | str | None] = {}


_UNDECIDED = "not decided yet"
_BY_MINUTE = "by the minute"
"""In place of an outcome: it depends on the time of day."""


class Replay:
    """Feed it every line of a log in order, then ask for `report()`.

    `before`: compare with what these rules decide, instead of with what was recorded; then nothing that both do not
    know stands between them. `effects_only`: what comes with a permission does not count.
    """

    def __init__(
        self,
        after: Places,
        before: Places | None = None,
        *,
        since: float = 0.0,
        route: str = "",
        effects_only: bool = False,
    ) -> None:
        self._after = after
        self._before = before
        self._since = since
        self._route = route
        self._effects_only = effects_only
        self._cases: dict[Key, _Case] = {}
        self._sessions: dict[str, Principal] = {}
        self._people: dict[tuple[str, str], Principal] = {}
        self._strangers: set[object] = set()
        """Sessions and people that were asked for and not known."""
        self._changes: dict[tuple[str, ...], Change] = {}
        self._same = 0
        self._not: dict[str, int] = {}
        self._first = self._last = 0.0

    def feed(self, line: bytes) -> None:
        """One line, without its line break."""
        parts = split(line)
        if parts is None:
            if is_person(line):
                self._meet(line)
            return
        head, key = parts
        if head.at < self._since:
            return
        case = self._cases.get(key)
        if case is None:
            case = self._case(key)
        result = case.skip or self._result(case, head)
        if result is _ELSEWHERE:
            return
        if result is None:
            self._same += 1
        elif isinstance(result, str):
            self._not[result] = self._not.get(result, 0) + 1
        else:
            result.count += 1
            if not result.example:
                result.example = head.id
        self._last = head.at
        if not self._first:
            self._first = head.at

    def report(self) -> Report:
        """What there is to say so far."""
        changes = sorted(self._changes.values(), key=lambda each: (-each.count, each.who, each.route, each.after))
        changed = sum(each.count for each in changes)
        compared = self._same + changed
        return Report(
            decisions=compared + sum(self._not.values()),
            compared=compared,
            changed=changed,
            turned=sum(each.count for each in changes if each.turns),
            changes=tuple(changes),
            not_comparable=dict(sorted(self._not.items())),
            first=self._first,
            last=self._last,
        )

    # ---- who asked ----

    def _meet(self, line: bytes) -> None:
        said = sign_in(line)
        if said is None:
            return
        person = (said.provider, said.user)
        who = said.principal()
        before = self._people.get(person)
        if before == who:
            who = before  # one value, however often somebody signs in
        known = self._sessions.get(said.sid)
        self._people[person] = self._sessions[said.sid] = who
        if (known is not None and known != who) or said.sid in self._strangers or person in self._strangers:
            self._strangers -= {said.sid, person}
            self._cases.clear()

    def _case(self, key: Key) -> _Case:
        record = told(key)
        if len(self._cases) >= REMEMBERED:
            self._cases.clear()
        if record is None:
            case = _Case(Told("", "", "", "", "", ""), None, UNREADABLE)
        elif self._route and record.route != self._route:
            case = _Case(record, None, _ELSEWHERE)
        elif record.reason not in BY_RULES or (record.integration and not record.sub):
            case = _Case(record, None, OTHERWISE)
        else:
            case = _Case(record, self._principal(record), "")
        self._cases[key] = case
        return case

    def _principal(self, record: Told) -> Principal | None:
        """None: nobody, or somebody of whom too little is on record."""
        if record.integration:
            return Principal(record.sub, "", "", integration=record.integration)
        if not record.sub:
            return None
        who = self._sessions.get(record.sid) or self._people.get((record.provider, record.sub))
        if who is None:
            self._strangers |= {record.sid, (record.provider, record.sub)}
        return who

    # ---- what is decided ----

    def _result(self, case: _Case, head: Head) -> Change | str | None:
        outcomes = case.outcomes
        base: str | tuple[str, str] = head.path if head.protocol == "http" else (head.path, head.protocol)
        key: str | tuple[str | int, ...] = base
        result = outcomes.get(key, _UNDECIDED)
        if result is not _UNDECIDED:
            if result is not _BY_MINUTE:
                return result
            key = (head.path, head.protocol, int(head.at // 60))
            if key in outcomes:
                return outcomes[key]
        if len(outcomes) >= REMEMBERED:
            outcomes.clear()
        result, timed = self._compare(case, head)
        if timed:
            outcomes[base] = _BY_MINUTE
            key = (head.path, head.protocol, int(head.at // 60))
        outcomes[key] = result
        return result

    def _compare(self, case: _Case, head: Head) -> tuple[Change | str | None, bool]:
        """What a request comes to, and whether that depends on the time of day."""
        try:
            path = head.path.encode("latin-1")
        except UnicodeEncodeError:
            return UNREADABLE, False
        known = self._after.at(case.told, path)
        timed = known is not None and known.timed
        after = outcomes(self._after, known, case.told, case.who, head, path)
        if isinstance(after, str):
            return after, timed
        if self._before is None:
            return self._against_record(case, after), timed
        known = self._before.at(case.told, path)
        timed = timed or (known is not None and known.timed)
        before = outcomes(self._before, known, case.told, case.who, head, path)
        if isinstance(before, str):
            return before, timed
        for one, other in zip(before, after, strict=True):
            if not self._alike(one, other):
                return self._change(case, one, other, other.text), timed
        return None, timed

    def _against_record(self, case: _Case, after: Two) -> Change | str | None:
        record = case.told
        before = Outcome(record.word, record.reason, record.rule, frozenset(record.masks), record.notify)
        best, worst = after
        if self._alike(best, worst):
            return None if self._alike(before, best) else self._change(case, before, best, best.text)
        if before.word in {best.word, worst.word}:
            return f"{PROOFS} (rule {worst.rule or best.rule}: {worst.word} or {best.word})"
        return self._change(case, before, worst, f"{worst.text} or {best.text}")

    def _alike(self, one: Outcome, other: Outcome) -> bool:
        return one.word == other.word if self._effects_only else one.same(other)

    def _change(self, case: _Case, before: Outcome, after: Outcome, text: str) -> Change:
        record = case.told
        key = (record.who, record.route, record.action, before.text, text, before.rule, after.rule, after.reason)
        change = self._changes.get(key)
        if change is None:
            change = self._changes[key] = Change(
                record.who, record.route, record.action, before.text, text, before.rule, after.rule, after.reason, 0, ""
            )
        return change
