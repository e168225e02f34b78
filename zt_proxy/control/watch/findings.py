"""What a detector found, in the words of an alert."""

import msgspec

from zt_proxy.control.settings import Respond, Response
from zt_proxy.control.watch.detectors import Excess, FirstUse
from zt_proxy.core.lines import printable

TELL = Response(Respond.REPORT)
SHOWN = 300
"""Characters of anything that a client or a platform named."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """Of a decision's record, what watching is about. What is not there is empty."""

    route: str = ""
    host: str = ""
    method: str = ""
    client: str = ""
    effect: str = ""
    rule: str = ""
    sub: str = ""
    email: str = ""
    provider: str = ""
    sid: str = ""
    integration: str = ""
    action: str = ""
    kind: str = ""
    object: str = ""
    sensitivity: str = ""
    changes: str = ""
    country: str = ""
    risk: str = ""
    justification: str = ""
    approved_by: str = ""
    notify: bool = False
    break_glass: bool = False

    @property
    def who(self) -> str:
        """How operators know them."""
        return shown(self.email or self.sub or "nobody")

    @property
    def named(self) -> str:
        """The object, as rules write it."""
        return shown(f"{self.kind}:{self.object}" if self.object else self.kind)


class Finding(msgspec.Struct, frozen=True):
    """Something to tell."""

    kind: str
    """`volume`, `first-use`, `change`, `notify` or `break-glass`"""
    severity: str
    """`low`, `medium` or `high`"""
    facts: Facts
    request: str
    at: float
    summary: str
    seen: str
    usual: str
    alike: str
    """Findings of a person with the same are one alert for a while."""
    response: Response | None = None
    """None: there is nothing to lock; it is told."""
    path: str = ""


def amount(count: float) -> str:
    """Bytes for people: `20.0 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3_600 else f"{seconds / 3_600:g} h"


def volume(facts: Facts, request: str, at: float, excess: Excess, response: Response) -> Finding:
    def written(count: float) -> str:
        return amount(count) if excess.what == "bytes" else f"{count:.0f} requests"

    seen = f"{written(excess.seen)} in up to {span(excess.window)}"
    whose = "everybody at this route" if excess.peers else "this person"
    usual = f"{written(excess.usual)} in {span(excess.window)} ({whose}); told from {written(excess.limit)} on"
    if not excess.usual:
        usual = f"no history; told from {written(excess.limit)} in {span(excess.window)} on"
    return Finding(
        kind="volume",
        severity="high",
        facts=facts,
        request=request,
        at=at,
        summary=f"{facts.who} took {seen} from {facts.route}",
        seen=seen,
        usual=usual,
        alike=f"{facts.route} {excess.what}",
        response=response,
    )


def first_use(facts: Facts, request: str, path: str, at: float, found: FirstUse, response: Response) -> Finding:
    what = facts.route if found.new_route or not facts.action else f"{facts.action} at {facts.route}"
    peers = "one other person in their groups uses it" if found.peers else "nobody else in their groups does"
    return Finding(
        kind="first-use",
        severity="medium" if found.peers == 0 else "low",
        facts=facts,
        request=request,
        at=at,
        summary=f"{facts.who} used {what} for the first time; {peers}",
        seen=f"{facts.route}:{facts.action}" if facts.action else facts.route,
        usual=" ".join(found.usual),
        alike=f"{facts.route} {facts.action}",
        response=response,
        path=shown(path),
    )


CHANGES = {
    "access-control": "who may do what",
    "integration": "an integration",
    "data-handling": "how data is handled",
    "deployment": "what is live",
}


def change(facts: Facts, request: str, path: str, at: float) -> Finding:
    what = CHANGES.get(facts.changes, facts.changes)
    return Finding(
        kind="change",
        severity="high" if facts.changes == "access-control" else "medium",
        facts=facts,
        request=request,
        at=at,
        summary=f"{facts.who} changed {what} at {facts.route}" + (f": {facts.named}" if facts.named else ""),
        seen=f"{facts.method} {shown(path)}",
        usual="",
        alike=f"{facts.route} {facts.changes} {facts.action} {facts.named}",
        path=shown(path),
    )


def notify(facts: Facts, request: str, path: str, at: float) -> Finding:
    return Finding(
        kind="notify",
        severity="low",
        facts=facts,
        request=request,
        at=at,
        summary=f"{facts.who} used the rule {facts.rule} of {facts.route}, which says `notify`",
        seen=f"{facts.method} {shown(path)}",
        usual="",
        alike=f"{facts.route} {facts.rule}",
        path=shown(path),
    )


def break_glass(facts: Facts, request: str, path: str, at: float) -> Finding:
    return Finding(
        kind="break-glass",
        severity="high",
        facts=facts,
        request=request,
        at=at,
        summary=f"{facts.who} used break-glass at {facts.route}"
        + (f": {shown(facts.justification)}" if facts.justification else ""),
        seen=f"{facts.method} {shown(path)}",
        usual="",
        alike=facts.route,
        path=shown(path),
    )


def shown(text: str) -> str:
    """As it may stand in an alert: cut, and without what moves a terminal's cursor."""
    cut = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    if printable(cut.encode("ascii", "replace")):
        return cut
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
