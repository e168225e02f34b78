"""Decision and end records: one line of JSON each, written into the worker's ring before a byte goes upstream.

A record is pure printable ASCII: whatever a client puts into a path or a provider into a name (line breaks, ANSI
sequences, U+2028, bidirectional marks) arrives escaped, so that one line is one event and a terminal shows it as text
(ZT-LOG-01). The query is never recorded: codes and tokens travel there (ZT-LOG-02). `docs/reference/audit-log.md`
describes every field.
"""

import re

import msgspec

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import UnavailableError
from zt_proxy.core.lines import encode_float, encode_line
from zt_proxy.core.session import Session
from zt_proxy.core.types import Decision
from zt_proxy.link.ring import RingWriter

VERSION = 1
"""`v` of every record; raised when a field changes its meaning."""
_KEPT = 4096
_PLAIN_PATHS = 8192
TOGETHER = 16
"""End records that wait, for a quarter of a second at most, to share a write with the next decision."""
_PLAIN = re.compile(rb"[ !#-\[\]-~]*")
"""Printable ASCII that needs no escape in JSON."""


class DecisionRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="decision"):
    """The part of a decision that is another each time; `Circumstances` follow it in the same object."""

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


class Circumstances(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What stays the same over many requests: who asks where, and what the policy said. Empty fields are left out."""

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
    reported: tuple[str, ...] = ()


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


class Recorder:
    """Writes a worker's records, numbered from 1 for each boot, so that a record read twice is known by its number."""

    __slots__ = (
        "_boot",
        "_circumstances",
        "_decision",
        "_end",
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
        whose = f'"worker":{worker},"boot":"{boot}"'.encode()
        # The usual record is written by one formatting, in half the time of an encoder; only for floats the encoder is
        # the faster: four times as fast as `%f`.
        self._decision = (
            b'{"type":"decision","v":%d,%b,' % (VERSION, whose) + b'"at":%b,"id":"%b","n":%d,"path":"%b",%b'
        )
        self._end = b'{"type":"end","v":%d,%b,' % (VERSION, whose) + (
            b'"at":%b,"id":"%b","n":%d,"status":%d,"bytes_in":%d,"bytes_out":%d,"duration":%b}'
        )
        self._plain: set[bytes] = set()
        self._ends: list[bytes] = []
        self._circumstances: dict[tuple[str, str, bytes, str, str, str], tuple[Session | None, Decision, bytes]] = {}
        self.lost = 0
        """End records that found no room, since boot."""

    def check(self, now: float | None = None) -> None:
        """Ask before deciding; `now` is monotonic seconds.

        Raises UnavailableError(RECORD_UNAVAILABLE): nothing may be decided unrecorded.
        """
        self._ring.check(self._monotonic() if now is None else now)

    def decision(self, request_id: bytes, at: float, path: bytes, circumstances: bytes, protocol: str = "http") -> None:
        """Record a decision at `at` (epoch seconds), before anything follows from it.

        `path` must be without its query, `circumstances` come from `describe`. Raises
        UnavailableError(RECORD_UNAVAILABLE): deny with 503.
        """
        number = self._n + 1
        if protocol == "http" and not self._lost and (path in self._plain or self._is_plain(path)):
            line = self._decision % (encode_float(at), request_id, number, path, circumstances)
        else:
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
            line = b"%b,%b" % (encode_line(record)[:-1], circumstances)
        ends = self._ends
        if ends:
            ends.append(line)
            try:
                self._ring.write(b"\n".join(ends), self._monotonic(), decision=True)
            except UnavailableError:
                ends.pop()
                raise
            ends.clear()
        else:
            self._ring.write(line, self._monotonic(), decision=True)
        self._n = number
        self._lost = 0

    def _is_plain(self, path: bytes) -> bool:
        """Nothing in it needs an escape in JSON; remembered, since the same are asked for again and again."""
        if _PLAIN.fullmatch(path) is None:
            return False
        if len(self._plain) >= _PLAIN_PATHS:
            self._plain.clear()
        self._plain.add(path)
        return True

    def describe(
        self, route: str, host: str, method: bytes, client: str, session: Session | None, decision: Decision
    ) -> bytes:
        """The part of a decision's record that is the same for every request alike: for `decision`.

        Kept for the next one alike: half the cost of a record is writing it out.
        """
        key = (route, host, method, client, decision.rule, decision.reason._value_)
        known = self._circumstances.get(key)
        if known is None or known[0] is not session or (known[1] is not decision and known[1] != decision):
            known = self._describe(key, session, decision)
        return known[2]

    def _describe(
        self, key: tuple[str, str, bytes, str, str, str], session: Session | None, decision: Decision
    ) -> tuple[Session | None, Decision, bytes]:
        route, host, method, client, rule, reason = key
        sub = email = provider = sid = ""
        if session is not None:
            principal = session.principal
            sub, email, provider, sid = principal.subject, principal.email or "", principal.provider, session.sid
        challenge = "" if decision.challenge is None else decision.challenge.value
        circumstances = Circumstances(
            route,
            host,
            method.decode("latin-1"),
            client,
            decision.effect.value,
            reason,
            rule,
            challenge,
            sub,
            email,
            provider,
            sid,
            decision.reported,
        )
        if len(self._circumstances) >= _KEPT:
            self._circumstances.clear()
        known = (session, decision, encode_line(circumstances)[1:])
        self._circumstances[key] = known
        return known

    def end(
        self,
        request_id: bytes,
        at: float,
        status: int,
        bytes_in: int,
        bytes_out: int,
        duration: float,
        reason: str = "",
    ) -> None:
        """Record how a request ended; written with the next decision, or by `flush`.

        Never raises for want of room, since nothing can be denied any more: what found none is counted, and the next
        decision carries the count as `lost`, so that the gap is on record.
        """
        number = self._n + 1
        if reason:
            record = EndRecord(
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
            )
            line = encode_line(record)
        else:
            line = self._end % (
                encode_float(at),
                request_id,
                number,
                status,
                bytes_in,
                bytes_out,
                encode_float(duration),
            )
        self._n = number
        self._ends.append(line)
        if len(self._ends) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write the end records that wait for company; the listeners' sweep calls this four times a second."""
        ends = self._ends
        if not ends:
            return
        try:
            self._ring.write(b"\n".join(ends), self._monotonic())
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
