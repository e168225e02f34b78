"""Reads what the record writer tells, and asks the detectors. Synchronous, bounded, and cheap for the usual request.

Requests alike share the text of their circumstances, which is parsed once; a decision waits under its request id for
its end, which says how many bytes went out. Everything else happens only where something is new or too much.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from zt_proxy.control.settings import Respond, WatchSettings
from zt_proxy.control.watch.detectors import Flow, Person, Use, new_flow
from zt_proxy.control.watch.findings import Facts, Finding, break_glass, change, notify, volume
from zt_proxy.link.records import Noted

OPEN = 65_536
"""Requests that wait for their end, twice: the older half gives way to the younger, and is counted as dropped."""
TEXTS = 16_384
"""Circumstances that were parsed; when full they are parsed anew."""
FLOWS = 50_000
"""People times routes whose traffic is known; when full, the fifth not seen for longest is forgotten."""
PEOPLE = 20_000
"""People whose habits are known; as `FLOWS`."""
USES = 512
"""Applications and actions that are known of one person; more are told of at each sign-in."""
SIDS = 32_768
"""Sessions whose groups were asked for."""
NEWS = 4_096
"""First uses that wait to be judged; more are counted as dropped."""
SEP = "\x1f"

_decode = msgspec.json.Decoder(Facts).decode
T = TypeVar("T")


class _Line(Facts, frozen=True, gc=False):
    """A record that came as JSON."""

    type: str = ""
    id: str = ""
    path: str = ""
    at: float = 0.0
    bytes_out: int = 0


_decode_line = msgspec.json.Decoder(_Line).decode


def _read(decode: Callable[[bytes], T], line: bytes) -> T | None:
    """None: it makes no sense.

    Nobody escapes by a lone surrogate in a name, which a record may carry as an escape and UTF-8 may not.
    """
    with suppress(msgspec.MsgspecError, RecursionError):
        return decode(line)
    with suppress(ValueError, RecursionError, msgspec.MsgspecError):
        plain = json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", "replace")
        return decode(plain)
    return None


class Said:
    """Circumstances, understood."""

    __slots__ = ("calls", "facts", "flow")

    def __init__(self, facts: Facts, flow: Flow | None, calls: bool) -> None:
        self.facts = facts
        self.flow = flow
        self.calls = calls
        """Each such request is told."""


class Seen(msgspec.Struct, frozen=True, gc=False):
    """Somebody used something that is not known to be their habit; or a session was seen first."""

    facts: Facts
    id: str
    path: str
    at: float


def person_of(facts: Facts) -> str:
    """Key of whoever asks; empty for nobody. An integration's subject is no person's (`integration:NAME`)."""
    return f"{facts.provider}{SEP}{facts.sub}" if facts.sub else ""


class Observer:
    """Call `read` with what was written; `found` and `news` are for whoever goes on from there."""

    def __init__(self, settings: WatchSettings) -> None:
        self.settings = settings
        self.flows: dict[str, Flow] = {}
        """`PERSON US ROUTE` → traffic; `US ROUTE` is everybody's."""
        self.people: dict[str, Person] = {}
        self.found: list[Finding] = []
        self.news: list[Seen] = []
        self.observed = 0
        self.dropped = 0
        """Requests that could not be taken into account for want of room."""
        self.unreadable = 0
        self._open: dict[bytes, Said] = {}
        self._older: dict[bytes, Said] = {}
        self._texts: dict[bytes, Said] = {}
        self._sids: set[str] = set()
        self._counted: dict[bytes, int] = {}
        """Bytes of requests under way that were counted already."""

    def configure(self, settings: WatchSettings) -> None:
        """From now on judge by these."""
        if settings.volume.windows != self.settings.volume.windows:
            self.flows.clear()  # a history of other windows is none
        self.settings = settings
        self._texts.clear()
        self._open.clear()
        self._older.clear()
        self._counted.clear()
        for flow in self.flows.values():
            flow.until = 0.0  # limits are worked out anew at the next request

    def read(self, noted: Noted) -> None:
        """Take records in. Raises nothing for what a record says."""
        self.decisions(noted.decisions)
        self.lines(noted.lines)
        self.ends(noted.ends)

    def decisions(self, decisions: list[Any]) -> None:
        known, waiting, each = self._texts, self._open, iter(decisions)
        for name, path, text, at in zip(each, each, each, each, strict=True):
            said = known.get(text)
            if said is None:
                said = self._understand(text, name, path, at)
                if said is None:
                    continue
                known = self._texts
            waiting[name] = said
            if said.calls:
                self._tell(said.facts, name.decode("ascii"), path.decode("ascii"), at)
        self.observed += len(decisions) // 4
        if len(waiting) > OPEN:
            self.dropped += len(self._older)
            self._older, self._open = waiting, {}

    def ends(self, ends: list[Any]) -> None:
        pop, rules, each = self._open.pop, self.settings.volume, iter(ends)
        for name, sent, at in zip(each, each, each, strict=True):
            said = pop(name, None) or self._older.pop(name, None)
            if said is None:
                continue
            flow = said.flow
            if flow is None:
                continue
            if self._counted:
                sent -= self._counted.pop(name, 0)  # noqa: PLW2901 - what is left of it
            if at < flow.until:  # what `add` does, without a call: nearly every request comes this way
                flow.sent_left = sent_left = flow.sent_left - sent
                flow.requests_left = requests_left = flow.requests_left - 1
                if sent_left >= 0 and requests_left >= 0:
                    continue
                excess = flow.excess(at, rules)
            else:
                excess = flow.add(sent, at, rules)
            if excess is not None:
                self.found.append(volume(said.facts, name.decode("ascii"), at, excess, rules.response))

    def lines(self, lines: list[bytes]) -> None:
        """Records that came as JSON."""
        for line in lines:
            read = _read(_decode_line, line)
            if read is None:
                self.unreadable += 1
                continue
            name = read.id.encode("utf-8", "replace")
            if read.type == "decision":
                facts = Facts(**{field: getattr(read, field) for field in Facts.__struct_fields__})
                text = msgspec.json.encode(facts)[1:-1]
                self.decisions([name, read.path.encode("ascii", "backslashreplace"), text, read.at])
            elif read.type == "end":
                self.ends([name, read.bytes_out, read.at])
            elif read.type == "progress":
                self._progress(name, read.bytes_out, read.at)

    def _progress(self, name: bytes, sent: int, at: float) -> None:
        """A request that goes on has sent so much by now: nobody waits for the end of a download of an hour."""
        said = self._open.get(name) or self._older.pop(name, None)
        if said is None or said.flow is None:
            return
        self._open[name] = said
        more = sent - self._counted.get(name, 0)
        if len(self._counted) >= OPEN:
            del self._counted[next(iter(self._counted))]
        self._counted[name] = sent
        excess = said.flow.more(more, at, self.settings.volume)
        if excess is not None:
            response = self.settings.volume.response
            self.found.append(volume(said.facts, name.decode("ascii"), at, excess, response))

    # ---- what is new ----

    def _understand(self, text: bytes, name: bytes, path: bytes, at: float) -> Said | None:
        facts = _read(_decode, b"{%b}" % text)
        if facts is None:
            self.unreadable += 1
            return None
        settings, who = self.settings, person_of(facts)
        allowed = facts.effect == "allow"
        flow = None
        if who and settings.volume.response.respond is not Respond.OFF:
            flow = self._flow(who, facts.route, at)
        said = Said(facts, flow, allowed and (facts.changes in settings.changes or facts.notify or facts.break_glass))
        if len(self._texts) >= TEXTS:
            self._texts.clear()
        self._texts[text] = said
        if who and allowed and settings.first_use.response.respond is not Respond.OFF:
            self._use(who, Seen(facts, name.decode("ascii"), path.decode("ascii"), at))
        return said

    def _flow(self, who: str, route: str, at: float) -> Flow:
        key = f"{who}{SEP}{route}"
        flow = self.flows.get(key)
        if flow is not None:
            return flow
        if len(self.flows) >= FLOWS:
            self._forget_flows()
        rules = self.settings.volume
        everybody = self.flows.get(f"{SEP}{route}")
        if everybody is None:
            everybody = self.flows[f"{SEP}{route}"] = new_flow(None, at, rules)
        flow = self.flows[key] = new_flow(everybody, at, rules)
        return flow

    def _forget_flows(self) -> None:
        """Open requests may still add to a flow that is no longer here; nothing looks at it any more."""
        stale = sorted(self.flows, key=lambda each: self.flows[each].last)[: FLOWS // 5]
        for key in stale:
            del self.flows[key]
        self.dropped += len(stale)
        self._texts.clear()

    def _use(self, who: str, seen: Seen) -> None:
        person, use = self.person(who, seen.at), (seen.facts.route, seen.facts.action)
        if use in person.used:
            person.used[use] = max(seen.at, person.used[use])
            if not seen.facts.sid or seen.facts.sid in self._sids:
                return
        if len(self.news) >= NEWS:
            self.dropped += 1
            return
        if len(self._sids) >= SIDS:
            self._sids.clear()
        self._sids.add(seen.facts.sid)
        self.news.append(seen)

    def person(self, who: str, at: float) -> Person:
        """The one of this key, who is new if nobody knows them."""
        person = self.people.get(who)
        if person is None:
            if len(self.people) >= PEOPLE:
                stale = sorted(self.people, key=lambda each: last_used(self.people[each]))[: PEOPLE // 5]
                for key in stale:
                    del self.people[key]
                self.dropped += len(stale)
            person = self.people[who] = Person(at)
        return person

    @staticmethod
    def keep(person: Person, use: Use, at: float) -> None:
        """It is their habit from now on."""
        if use in person.used or len(person.used) < USES:
            person.used[use] = at

    def _tell(self, facts: Facts, name: str, path: str, at: float) -> None:
        self.found.extend(_calls(facts, name, path, at, self.settings))


def last_used(person: Person) -> float:
    return max(person.used.values(), default=person.first)


def _calls(facts: Facts, name: str, path: str, at: float, settings: WatchSettings) -> Iterator[Finding]:
    if facts.changes in settings.changes:
        yield change(facts, name, path, at)
    if facts.notify:
        yield notify(facts, name, path, at)
    if facts.break_glass:
        yield break_glass(facts, name, path, at)
