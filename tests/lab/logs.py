"""An audit log in the form that the proxy writes, of decisions that policies make in this process.

log = Log()
log.signs_in(session)
log.decides(places, facts)          # what the route's rules say of these facts, on record
lines = log.lines                   # chained, without line breaks
"""

from pathlib import Path

from msgspec.structs import replace

from zt_proxy.control.audit.chain import Head, link
from zt_proxy.control.risk.judge import person_line
from zt_proxy.core.lines import encode_line
from zt_proxy.core.session import Machine, Session
from zt_proxy.core.types import Decision, Facts
from zt_proxy.policy.judged import Place
from zt_proxy.worker.record import DecisionRecord, _fields


class Log:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.ids: list[str] = []
        self._head = Head()

    def signs_in(self, session: Session, at: float = 0.0, kind: str = "signed-in") -> None:
        self._add(encode_line({"type": kind, "v": 1, "at": at, "sid": session.sid, **person_line(session.principal)}))

    def decides(self, place: Place, facts: Facts, protocol: str = "http") -> Decision:
        """The decision, on record as a worker would write it."""
        who = facts.principal
        if who is not None and who.integration:
            decision = place.machines.decide(who.integration, facts)
        else:
            decision = place.policy.decide(facts)
        masks = place.masks_for(facts, decision)
        if masks and decision.obligations is not None:
            decision = replace(decision, obligations=replace(decision.obligations, masks=masks))
        self.records(place, facts, decision, protocol)
        return decision

    def records(self, place: Place, facts: Facts, decision: Decision, protocol: str = "http") -> None:
        who = facts.principal
        party: Session | Machine | None = facts.session
        if who is not None and who.integration:
            party = Machine(who, "ab" * 32, facts.now + 1.0)
        name = f"request-{len(self.ids):012d}"
        self.ids.append(name)
        head = encode_line(
            DecisionRecord(1, facts.now, name, 0, "b007", len(self.ids), facts.path.decode("latin-1"), protocol)
        )
        assert facts.origin is not None
        rest = encode_line(
            _fields(
                place.name, place.host, facts.method, facts.client, party, decision, facts.act, facts.origin, facts.risk
            )
        )
        self._add(head[:-1] + b"," + rest[1:])

    def ends(self, at: float) -> None:
        self._add(b'{"type":"end","v":1,"at":%d,"id":"%b"}' % (int(at), self.ids[-1].encode()))

    def write(self, folder: Path) -> Path:
        """As the files of a log; gives the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "audit-000000000001.jsonl").write_bytes(b"".join(line + b"\n" for line in self.lines))
        return folder

    def _add(self, record: bytes) -> None:
        line, self._head = link(self._head, record)
        self.lines.append(line[:-1])
