"""Decision and end records, written into the worker's ring before a byte goes upstream; control makes JSON of them.

A line is pure printable ASCII: whatever a client puts into a path or a provider into a name (line breaks, ANSI
sequences, U+2028, bidirectional marks) is escaped, so that one line is one event and a terminal shows it as text
(ZT-LOG-01). The query is never recorded: codes and tokens travel there (ZT-LOG-02). `link.records` has the form in the
ring, `docs/reference/audit-log.md` describes every field.
"""

import re

import msgspec

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import UnavailableError
from zt_proxy.core.lines import encode_line
from zt_proxy.core.session import Machine, Session
from zt_proxy.core.types import Decision
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
_Alike = tuple[str, str, bytes, str, str, str]
"""Route, host, method, client, rule and reason."""
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
        self._circumstances: dict[_Alike, tuple[Session | Machine | None, Decision, Circumstances]] = {}
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
        self, route: str, host: str, method: bytes, client: str, who: Session | Machine | None, decision: Decision
    ) -> Circumstances:
        """The part of a decision's record that is the same for every request alike: for `decision`.

        Kept for the next one alike: half the cost of a record is writing it out.
        """
        key = (route, host, method, client, decision.rule, decision.reason._value_)
        known = self._circumstances.get(key)
        if known is None or known[0] is not who or (known[1] is not decision and known[1] != decision):
            known = self._describe(key, who, decision)
        return known[2]

    def _describe(
        self, key: _Alike, who: Session | Machine | None, decision: Decision
    ) -> tuple[Session | Machine | None, Decision, Circumstances]:
        route, host, method, client, rule, reason = key
        sub = email = provider = sid = certificate = integration = ""
        if who is not None:
            principal = who.principal
            sub, email, provider = principal.subject, principal.email or "", principal.provider
            if isinstance(who, Machine):
                integration, certificate = principal.integration, who.fingerprint[:FINGERPRINT]
            else:
                sid = who.sid
        challenge = "" if decision.challenge is None else decision.challenge.value
        fields = _Fields(
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
            integration,
            certificate,
            decision.reported,
        )
        if len(self._circumstances) >= _KEPT:
            self._circumstances.clear()
        known = (who, decision, Circumstances(encode_line(fields)[1:]))
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
        if reason or len(request_id) != ID_BYTES:
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
            )
            self._ends.append(pack_json(encode_line(end)))
        else:
            self._ends.append(pack_end(END, number, at, duration, request_id, bytes_in, bytes_out, status))
        self._n = number
        if len(self._ends) >= TOGETHER:
            self.flush()

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
