"""Decision and end records, written into the worker's ring before a byte goes upstream; control makes JSON of them.

A line is pure printable ASCII: whatever a client puts into a path or a provider into a name (line breaks, ANSI
sequences, U+2028, bidirectional marks) is escaped, so that one line is one event and a terminal shows it as text
(ZT-LOG-01). The query is never recorded: codes and tokens travel there (ZT-LOG-02). `link.records` has the form in the
ring, `docs/reference/audit-log.md` describes every field.
"""

import re
from typing import NamedTuple

import msgspec

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import UnavailableError
from zt_proxy.core.lines import encode_line
from zt_proxy.core.session import Machine, Risk, Session
from zt_proxy.core.types import NO_ACT, Act, Decision, Obligations, Origin
from zt_proxy.link.records import (
    DECISION,
    END,
    ID_BYTES,
    LONGEST_PATH,
    VERSION,
    Circumstances,
    pack_circumstances,
    pack_decision,
    pack_end,
    pack_json,
)
from zt_proxy.link.ring import RingWriter

FINGERPRINT = 16
"""Hexadecimal digits of a certificate's SHA-256 that a record names."""
_KEPT = 4096
_PLAIN_PATHS = 8192
_PLAIN_PATH = 256
"""Bytes; longer paths are looked at each time."""
TOGETHER = 16
"""End records that wait, for a quarter of a second at most, to share a write with the next decision."""
_Alike = tuple[str, str, bytes, str, str, str, str, str, int]
"""Route, host, method, client, rule and reason, the profile's matcher, the object, and the risk score."""
_NO_OBLIGATIONS = Obligations()
_NOWHERE = Origin("")


class _Known(NamedTuple):
    """Circumstances, and all that they were made of."""

    who: Session | Machine | None
    decision: Decision
    act: Act
    origin: Origin | None
    risk: Risk | None
    circumstances: Circumstances


_PLAIN = re.compile(rb"[ !#-\[\]-~]*")
"""Printable ASCII that needs no escape in JSON."""


class DecisionRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="decision"):
    """The part of a decision that is another each time; circumstances follow it in the same object."""

    v: int
    at: float
    id: str
    worker: int
    boot: str
    n: int
    path: str
    protocol: str = "http"
    lost: int = 0
    """End records that found no room since the last record."""


class _Fields(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Of `Circumstances`: who asks where, and what the policy said. Empty fields are left out."""

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
    certificate: str = ""
    """The first 16 digits of the SHA-256 of the client certificate, also of one that is nobody's."""
    reported: tuple[str, ...] = ()
    action: str = ""
    kind: str = ""
    object: str = ""
    sensitivity: str = ""
    changes: str = ""
    matcher: str = ""
    """Of the profile; empty with an action: the profile's `otherwise`."""
    zones: tuple[str, ...] = ()
    country: str = ""
    asn: int = 0
    risk: str = ""
    """Score and level, `62 medium`."""
    risk_reasons: tuple[str, ...] = ()
    level: str = ""
    """Of the sign-in's proof."""
    device_known: bool | None = None
    missing: tuple[str, ...] = ()
    lock: str = ""
    """Id of the lock that decided."""
    masks: tuple[str, ...] = ()
    justification: str = ""
    approved_by: str = ""
    notify: bool = False
    break_glass: bool = False


class EndRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="end"):
    """How it went: the same `id` as its decision. `duration` is seconds, bytes are body bytes."""

    v: int
    at: float
    id: str
    worker: int
    boot: str
    n: int
    status: int
    bytes_in: int
    bytes_out: int
    duration: float
    reason: str = ""
    masked: int = 0
    """Fields that were masked in the answer."""


class ProgressRecord(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="progress"):
    """A long answer under way: body bytes that have gone out so far."""

    v: int
    at: float
    id: str
    worker: int
    boot: str
    n: int
    bytes_out: int


class Recorder:
    """Writes a worker's records, numbered from 1 for each boot, so that a record read twice is known by its number."""

    __slots__ = (
        "_boot",
        "_circumstances",
        "_ends",
        "_lost",
        "_monotonic",
        "_n",
        "_plain",
        "_ring",
        "_worker",
        "lost",
    )

    def __init__(self, ring: RingWriter, *, worker: int, boot: str, clock: Clock) -> None:
        self._ring = ring
        self._worker = worker
        self._boot = boot
        self._monotonic = clock.monotonic
        self._n = 0
        self._lost = 0
        self._plain: set[bytes] = set()
        self._ends: list[bytes] = []
        self._circumstances: dict[_Alike, _Known] = {}
        self.lost = 0
        """End records that found no room, since boot."""

    def check(self, now: float | None = None) -> None:
        """Ask whether a decision would find room; `now` is monotonic seconds.

        Raises UnavailableError(RECORD_UNAVAILABLE): nothing may be decided unrecorded.
        """
        self._ring.check(self._monotonic() if now is None else now)

    def decision(
        self, request_id: bytes, at: float, path: bytes, circumstances: Circumstances, protocol: str = "http"
    ) -> None:
        """Record a decision at `at` (epoch seconds), before anything follows from it.

        `path` must be without its query, `circumstances` come from `describe`. Raises
        UnavailableError(RECORD_UNAVAILABLE): deny with 503.
        """
        number, now, ring, ends = self._n + 1, self._monotonic(), self._ring, self._ends
        if (
            protocol == "http"
            and not self._lost
            and len(request_id) == ID_BYTES
            and (path in self._plain or self._is_plain(path))
        ):
            place = circumstances.place
            if not ring.in_reach(place):
                place = circumstances.place = ring.write(pack_circumstances(circumstances.text), now, decision=True)
            record = pack_decision(DECISION, number, at, request_id, place, len(path)) + path
        else:
            record = self._in_full(number, request_id, at, path, circumstances, protocol)
        if ends:
            ring.write(b"".join(ends) + record, now, decision=True)
            ends.clear()
        else:
            ring.write(record, now, decision=True)
        self._n = number
        self._lost = 0

    def _in_full(
        self, number: int, request_id: bytes, at: float, path: bytes, circumstances: Circumstances, protocol: str
    ) -> bytes:
        """A decision with something in it that packed records have no room for."""
        record = DecisionRecord(
            VERSION,
            at,
            request_id.decode(),
            self._worker,
            self._boot,
            number,
            path.decode("latin-1"),
            protocol,
            self._lost,
        )
        return pack_json(b"%b,%b" % (encode_line(record)[:-1], circumstances.text))

    def _is_plain(self, path: bytes) -> bool:
        """Nothing in it needs an escape in JSON; remembered, since the same are asked for again and again."""
        if len(path) > LONGEST_PATH or _PLAIN.fullmatch(path) is None:
            return False
        if len(path) <= _PLAIN_PATH:
            if len(self._plain) >= _PLAIN_PATHS:
                self._plain.clear()
            self._plain.add(path)
        return True

    def describe(
        self,
        route: str,
        host: str,
        method: bytes,
        client: str,
        who: Session | Machine | None,
        decision: Decision,
        act: Act = NO_ACT,
        origin: Origin | None = None,
        risk: Risk | None = None,
    ) -> Circumstances:
        """The part of a decision's record that is the same for every request alike: for `decision`.

        Kept for the next one alike: half the cost of a record is writing it out.
        """
        score = -1 if risk is None else risk.score
        key = (route, host, method, client, decision.rule, decision.reason._value_, act.matcher, act.object, score)
        known = self._circumstances.get(key)
        if (
            known is None
            or known.who is not who
            or (known.decision is not decision and known.decision != decision)
            or (known.act is not act and known.act != act)
            or (known.origin is not origin and known.origin != origin)
            or (known.risk is not risk and known.risk != risk)
        ):
            if len(self._circumstances) >= _KEPT:
                self._circumstances.clear()
            fields = _fields(route, host, method, client, who, decision, act, origin or _NOWHERE, risk)
            known = _Known(who, decision, act, origin, risk, Circumstances(encode_line(fields)[1:]))
            self._circumstances[key] = known
        return known.circumstances

    def end(
        self,
        request_id: bytes,
        at: float,
        status: int,
        bytes_in: int,
        bytes_out: int,
        duration: float,
        reason: str = "",
        masked: int = 0,
    ) -> None:
        """Record how a request ended; written with the next decision, or by `flush`.

        Never raises for want of room, since nothing can be denied any more: what found none is counted, and the next
        decision carries the count as `lost`, so that the gap is on record.
        """
        number = self._n + 1
        if reason or masked or len(request_id) != ID_BYTES:
            end = EndRecord(
                VERSION,
                at,
                request_id.decode(),
                self._worker,
                self._boot,
                number,
                status,
                bytes_in,
                bytes_out,
                duration,
                reason,
                masked,
            )
            self._ends.append(pack_json(encode_line(end)))
        else:
            self._ends.append(pack_end(END, number, at, duration, request_id, bytes_in, bytes_out, status))
        self._n = number
        if len(self._ends) >= TOGETHER:
            self.flush()

    def progress(self, request_id: bytes, at: float, bytes_out: int) -> None:
        """Record how much of a long answer has gone out, for whoever watches; as `end`, it never raises for want of
        room."""
        self._n += 1
        record = ProgressRecord(VERSION, at, request_id.decode(), self._worker, self._boot, self._n, bytes_out)
        self._ends.append(pack_json(encode_line(record)))

    def flush(self) -> None:
        """Write the end records that wait for company; the listeners' sweep calls this four times a second."""
        ends = self._ends
        if not ends:
            return
        try:
            self._ring.write(b"".join(ends), self._monotonic())
        except UnavailableError:
            self._lost += len(ends)
            self.lost += len(ends)
        ends.clear()

    def used(self) -> float:
        """Share of the ring that is unread, 0 to 1."""
        return self._ring.used()

    def close(self) -> None:
        """Let go of the ring; what is in it stays for control."""
        self.flush()
        self._ring.close()


def _fields(
    route: str,
    host: str,
    method: bytes,
    client: str,
    who: Session | Machine | None,
    decision: Decision,
    act: Act,
    origin: Origin,
    risk: Risk | None,
) -> _Fields:
    session = who if isinstance(who, Session) else None
    machine = who if isinstance(who, Machine) else None
    principal = who.principal if who is not None else None
    duty = decision.obligations or _NO_OBLIGATIONS
    return _Fields(
        route=route,
        host=host,
        method=method.decode("latin-1"),
        client=client,
        effect=decision.effect.value,
        reason=decision.reason.value,
        rule=decision.rule,
        challenge=decision.challenge.value if decision.challenge is not None else "",
        sub=principal.subject if principal is not None else "",
        email=(principal.email or "") if principal is not None else "",
        provider=principal.provider if principal is not None else "",
        sid=session.sid if session is not None else "",
        integration=machine.principal.integration if machine is not None else "",
        certificate=machine.fingerprint[:FINGERPRINT] if machine is not None else "",
        reported=decision.reported,
        action=act.action.value if act.action is not None else "",
        kind=act.kind,
        object=act.object,
        sensitivity=act.sensitivity.value if act.sensitivity is not None else "",
        changes=act.changes.value if act.changes is not None else "",
        matcher=act.matcher,
        zones=tuple(sorted(origin.zones)),
        country=origin.country or "",
        asn=origin.asn or 0,
        risk=f"{risk.score} {risk.level.word}" if risk is not None else "",
        risk_reasons=risk.reasons if risk is not None else (),
        level=session.level.word if session is not None else "",
        device_known=session.device_known if session is not None else None,
        missing=decision.missing,
        lock=decision.lock,
        masks=duty.masks,
        justification=duty.justification,
        approved_by=duty.approved_by,
        notify=duty.notify,
        break_glass=duty.break_glass,
    )
