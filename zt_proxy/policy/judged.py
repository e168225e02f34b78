"""What one recorded request would come to on one route, with every proof that its session may have had and with none.

What the record does not have is said, not guessed: headers, bodies, queries, how old proofs were.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Approval, Level, Principal, Proof, Session
from zt_proxy.core.types import NO_ACT, Act, Decision, Effect, Facts, Mode, Origin
from zt_proxy.policy.actions import Profile
from zt_proxy.policy.compile import compile_machines, compile_rules
from zt_proxy.policy.engine import BREAK_GLASS, Policy
from zt_proxy.policy.geo import OriginSettings, Zones, parse_address
from zt_proxy.policy.machines import MachineRules
from zt_proxy.policy.recorded import Head, Told, act_of, level_of, risk_of
from zt_proxy.policy.rules import CompiledRule
from zt_proxy.policy.spec import RouteRules
from zt_proxy.policy.words import facts_asked

NOBODY = "no sign-in of the person on record"
UNREAD = "query, headers or body decide what it means"
ADDRESSES = 65_536
"""Whose networks are remembered."""
_PERSONAL = frozenset({"group", "role", "department", "location", "clearance", "cel"})
_NO_MASKS: frozenset[str] = frozenset()


class Place(Protocol):
    """One route under the rules that are asked. `zt_proxy.config.worlds.RouteWorld` is one."""

    name: str
    host: str
    prefix: bytes
    rules: RouteRules
    policy: Policy
    machines: MachineRules
    profile: Profile | None

    def masks_for(self, facts: Facts, decision: Decision) -> tuple[str, ...]: ...


class BarePlace:
    """The same of a route's settings, for whoever asks for effects alone: its own masks are not looked at."""

    def __init__(self, host: str, prefix: bytes, rules: RouteRules, profile: Profile | None = None) -> None:
        self.name = rules.route
        self.host = host
        self.prefix = prefix
        self.rules = rules
        self.profile = profile
        self.policy = compile_rules(rules)
        self.machines = compile_machines(rules)

    def masks_for(self, _facts: Facts, decision: Decision) -> tuple[str, ...]:
        return decision.obligations.masks if decision.obligations is not None else ()


class Outcome(msgspec.Struct, frozen=True):
    """What a decision means to whoever asked."""

    word: str
    """`allow`, `deny`, or what is asked for."""
    reason: str = ""
    rule: str = ""
    masks: frozenset[str] = _NO_MASKS
    notify: bool = False

    def same(self, other: "Outcome") -> bool:
        """Whoever asked would not notice."""
        return (self.word, self.masks, self.notify) == (other.word, other.masks, other.notify)

    @property
    def text(self) -> str:
        """`allow`, `deny`, `reauth`; `allow +mask salaries +notify`."""
        masks = f" +mask {', '.join(sorted(self.masks))}" if self.masks else ""
        return self.word + masks + (" +notify" if self.notify else "")


class Places:
    """All routes of one configuration, found as a request finds them."""

    def __init__(self, places: Iterable[Place], origins: OriginSettings | None = None) -> None:
        """`origins`: which networks an address is in by this configuration; None: what the record says."""
        self._hosts: dict[str, dict[bytes, Known]] = {}
        self._names: dict[str, Known] = {}
        for place in places:
            known = Known(place)
            self._hosts.setdefault(place.host, {})[place.prefix.rstrip(b"/")] = known
            self._names[place.name] = known
        # A header that may say anything was believed: what it said is on record alone.
        believed = origins is None or bool(origins.insecure_origin_header)
        self._zones = None if origins is None or believed else Zones(origins.zones)
        self._known: dict[str, frozenset[str]] = {}

    def at(self, record: Told, path: bytes) -> "Known | None":
        """The longest prefix of whole segments at the host; by its name if the host is not known here."""
        prefixes = self._hosts.get(record.host)
        if prefixes is None:
            return self._names.get(record.route)
        known, end = prefixes.get(path), len(path)
        while known is None and end >= 0:
            end = path.rfind(b"/", 0, end)
            known = prefixes.get(path[:end]) if end >= 0 else None
        return known

    def origin(self, record: Told) -> Origin:
        """Where a request came from: networks by this configuration, country and system as recorded."""
        return Origin(record.client, self._zones_of(record), record.country or None, record.asn or None)

    def _zones_of(self, record: Told) -> frozenset[str]:
        if self._zones is None:
            return frozenset(record.zones)
        zones = self._known.get(record.client)
        if zones is None:
            if len(self._known) >= ADDRESSES:
                self._known.clear()
            address = parse_address(record.client)
            zones = self._known[record.client] = frozenset() if address is None else self._zones.of(address)
        return zones


class Known:
    """A place, and what its rules need that a record may not have."""

    __slots__ = ("aged", "blind", "demanding", "personal", "place", "timed")

    def __init__(self, place: Place) -> None:
        self.place = place
        rules = [rule for rule in place.rules.rules if rule.mode is not Mode.OFF]
        roles = tuple(role.when for role in place.rules.roles)
        asked = [facts_asked(rule.when, *(roles if rule.roles else ())) for rule in rules]
        words = frozenset().union(*asked)
        self.personal = bool(words & _PERSONAL) or any(
            word.startswith("claim:") for word in words
        ) or any(rule.groups or rule.roles or rule.claims for rule in rules)  # fmt: skip
        self.aged = bool(words & {"auth_age", "cel"})
        self.demanding = frozenset(rule.id for rule in rules if rule.asks_a_person)
        self.timed = bool(words & {"time", "cel"})
        self.blind = bool(place.policy.headers_wanted or words & {"owner", "cel"})


class _Everything(dict[str, object]):
    """Whatever is asked for, it is there."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self._value = value

    def get(self, _key: str, _default: object = None) -> object:
        return self._value


Two = tuple[Outcome, Outcome]
"""With every proof, and with none."""


def outcomes(
    places: Places, known: Known | None, record: Told, person: Principal | None, head: Head, path: bytes
) -> Two | str:
    """With every proof, and with none; or why that cannot be said."""
    if known is None:
        nowhere = Outcome("deny", Reason.PATH_UNKNOWN.value)
        return nowhere, nowhere
    place = known.place
    method = record.method.encode("latin-1", "replace")
    act, read = _act(place, record, head, method, path)
    if act is None:
        return UNREAD
    if record.sub and person is None and known.personal:
        return NOBODY
    who = person or (Principal(record.sub, "", record.provider, record.email or None) if record.sub else None)
    facts = Facts(
        head.at, place.name, method, path, record.client, who, None, act, places.origin(record), risk_of(record)
    )
    if record.integration:
        decision = place.machines.decide(record.integration, facts)
        missing = _missing(place.machines.about(record.integration, facts), facts, read) if known.blind else ""
        return missing or (_outcome(place, facts, decision),) * 2
    if who is None:
        decision = place.policy.decide(facts)
        missing = _missing(place.policy.about(facts), facts, read) if known.blind else ""
        return missing or (_outcome(place, facts, decision),) * 2
    unsure = _unsure_of_mfa(record)
    best = _with_session(facts, record, who, proofs=True, mfa=record.challenge != "mfa" or unsure)
    outcome = _outcome(place, best, place.policy.decide(best))
    if known.blind and (missing := _missing(place.policy.about(best), best, read)):
        return missing
    if not (known.aged or unsure or outcome.rule in known.demanding):
        return outcome, outcome  # denies say the same without proofs, and so does a rule that asks for none
    worst = _with_session(facts, record, who, proofs=False, mfa=record.challenge != "mfa" and not unsure)
    return outcome, _outcome(place, worst, place.policy.decide(worst))


def _act(place: Place, record: Told, head: Head, method: bytes, path: bytes) -> tuple[Act | None, bool]:
    """What the request means there, and whether all was read for that; None: nobody knows any more."""
    if place.profile is None:
        return NO_ACT, True
    if head.protocol in {"http", "websocket"}:
        found = place.profile.by_path(method, path, head.protocol == "websocket")
        if found is not None:
            return found, True
    if record.reason == Reason.ACTION_UNKNOWN:
        return Act(refused=True), False
    return (act_of(record), False) if record.action else (None, False)


def _with_session(facts: Facts, record: Told, who: Principal, *, proofs: bool, mfa: bool) -> Facts:
    """The same of somebody with every proof, or with none but the sign-in, nobody knows how long ago."""
    now, level = facts.now, level_of(record)
    session = Session(
        record.sid, record.host, who, "", (), mfa, now if proofs else 0.0, 0.0, now, 0.0, now, level,
        proofs=_Everything(Proof(now, Level.PHISHING_RESISTANT)) if proofs else {},  # type: ignore[arg-type]
        device_known=record.device_known,
        justified=_Everything("said") if proofs else {BREAK_GLASS: "said"},  # type: ignore[arg-type]
        approved=_Everything(Approval("\x1f", now + 1.0)) if proofs else {},  # type: ignore[arg-type]
        break_glass=now + 1.0 if record.break_glass else 0.0,
    )  # fmt: skip
    return msgspec.structs.replace(facts, session=session)


def _unsure_of_mfa(record: Told) -> bool:
    """What is public, or denied to everybody, is decided before anybody asks for a second factor."""
    return level_of(record) is Level.SINGLE and record.reason in {Reason.PUBLIC, Reason.RULE_DENIED}


def _missing(rules: Iterable[CompiledRule], facts: Facts, read: bool) -> str:
    """Why a rule of these cannot be judged by what the record has; empty: all can, or it does not matter."""
    for rule in rules:
        verdict = True if rule.ask is None else rule.ask(facts)
        if verdict and rule.plain:
            return ""  # denies come first: what follows has nothing to say any more
        if verdict is not None:
            continue
        for node in (rule.subject, rule.when):
            for name in sorted(node.missing(facts)) if node is not None else ():
                if name.startswith("header:") or (name == "owner" and not read):
                    return f"{name} (rule {rule.id})"
    return ""


def _outcome(place: Place, facts: Facts, decision: Decision) -> Outcome:
    word = decision.challenge.value if decision.challenge is not None else decision.effect.value
    if decision.effect is not Effect.ALLOW:
        return Outcome(word, decision.reason.value, decision.rule)
    duty = decision.obligations
    masks = frozenset(place.masks_for(facts, decision))
    return Outcome(word, decision.reason.value, decision.rule, masks, duty is not None and duty.notify)
