"""Decisions as the audit log has them, read for what they were made of. docs/reference/audit-log.md has the format.

A line is cut in two: what differs from request to request, and the circumstances that many requests share. The second
part is the key under which everything that follows from it is remembered, and is understood once.
"""

from collections.abc import Iterable, Iterator

import msgspec

from zt_proxy.core.session import ClaimValue, Level, Principal, Risk, RiskLevel
from zt_proxy.core.types import Act, Action, Change, Sensitivity

_TAIL = len(',"hash":"') + 64 + len('"}')
_LEVELS = {each.word: each for each in Level}
_RISKS = {each.word: each for each in RiskLevel}


class Head(msgspec.Struct, gc=False):
    """What differs from request to request."""

    at: float
    id: str
    path: str
    protocol: str = "http"


class Told(msgspec.Struct, gc=False):
    """What many requests share, as recorded. Empty: left out of the record."""

    route: str
    host: str
    method: str
    client: str
    effect: str
    reason: str
    rule: str = ""
    challenge: str = ""
    sub: str = ""
    email: str = ""
    provider: str = ""
    sid: str = ""
    integration: str = ""
    reported: tuple[str, ...] = ()
    action: str = ""
    kind: str = ""
    object: str = ""
    sensitivity: str = ""
    changes: str = ""
    matcher: str = ""
    zones: tuple[str, ...] = ()
    country: str = ""
    asn: int = 0
    risk: str = ""
    risk_reasons: tuple[str, ...] = ()
    level: str = ""
    device_known: bool | None = None
    masks: tuple[str, ...] = ()
    notify: bool = False
    break_glass: bool = False

    @property
    def word(self) -> str:
        """`allow`, `deny`, or what was asked for: `login`, `mfa`, `reauth`, `justify`, `approve`."""
        return self.challenge or self.effect

    @property
    def who(self) -> str:
        """For people who read it: an address where one is known, or that nobody is."""
        return self.email or self.sub or self.integration or "nobody signed in"


class SignIn(msgspec.Struct, gc=False):
    """A `signed-in` or `person-changed` line: what rules can ask of a person."""

    type: str
    sid: str = ""
    user: str = ""
    issuer: str = ""
    provider: str = ""
    email: str | None = None
    name: str | None = None
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    claims: dict[str, str | int | float | bool | tuple[str, ...]] = {}

    def principal(self) -> Principal:
        """As a session has it."""
        claims: dict[str, ClaimValue] = dict(self.claims)
        return Principal(
            self.user,
            self.issuer,
            self.provider,
            self.email,
            self.name,
            frozenset(self.groups),
            frozenset(self.roles),
            claims,
        )


_head = msgspec.json.Decoder(Head).decode
_told = msgspec.json.Decoder(Told).decode
_sign_in = msgspec.json.Decoder(SignIn).decode
Key = bytes
"""The text of circumstances, the same for requests alike."""


def is_person(line: bytes) -> bool:
    """The line may say who somebody is."""
    return b'"type":"signed-in"' in line or b'"type":"person-changed"' in line


def sign_in(line: bytes) -> SignIn | None:
    """What such a line says; None: nothing of the kind."""
    try:
        found = _sign_in(line)
    except msgspec.MsgspecError:
        return None
    return found if found.type in {"signed-in", "person-changed"} and found.sid else None


def split(line: bytes) -> tuple[Head, Key] | None:
    """A decision's line without its line break, in its two parts; None: it is none, or cannot be read.

    No value of a line has a quote that is not escaped, so that the first `,"route":"` is where circumstances begin.
    """
    cut = line.find(b',"route":"')
    if cut < 0 or b'"type":"decision"' not in line[:cut]:
        return None
    try:
        return _head(line[:cut] + b"}"), line[cut + 1 : -_TAIL]
    except msgspec.MsgspecError:
        return None


def told(key: Key) -> Told | None:
    """What circumstances say; None: nothing that can be read."""
    try:
        return _told(b"{%b}" % key)
    except msgspec.MsgspecError:
        return None


def decisions(lines: Iterable[bytes], since: float = 0.0) -> Iterator[tuple[Head, Told]]:
    """Every decision of a log made at `since` (epoch seconds) or later; what cannot be read is passed over."""
    known: dict[Key, Told | None] = {}
    for line in lines:
        parts = split(line)
        if parts is None or parts[0].at < since:
            continue
        head, key = parts
        if key not in known:
            if len(known) > 65_536:
                known.clear()
            known[key] = told(key)
        found = known[key]
        if found is not None:
            yield head, found


def act_of(record: Told) -> Act:
    """What the request meant. Whose the object is, is not on record."""
    try:
        return Act(
            Action(record.action) if record.action else None,
            record.kind,
            record.object,
            Sensitivity(record.sensitivity) if record.sensitivity else None,
            Change(record.changes) if record.changes else None,
            record.matcher,
        )
    except ValueError:
        return Act(refused=True)


def level_of(record: Told) -> Level:
    """What the sign-in proved."""
    return _LEVELS.get(record.level, Level.SINGLE)


def risk_of(record: Told) -> Risk | None:
    """`62 medium` as a value; None: nobody knew."""
    score, _, word = record.risk.partition(" ")
    if not score.isdecimal() or word not in _RISKS:
        return None
    return Risk(int(score), _RISKS[word], record.risk_reasons)
