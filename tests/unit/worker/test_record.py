"""Records as a worker writes them."""

import json
from pathlib import Path

import pytest

from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.session import Principal, Risk, RiskLevel, Session
from zt_proxy.core.types import (
    NO_ACT,
    Act,
    Action,
    ChallengeKind,
    Change,
    Decision,
    Effect,
    Obligations,
    Origin,
    Sensitivity,
)
from zt_proxy.link.records import RecordReader
from zt_proxy.link.ring import RingReader, RingWriter, ring_path
from zt_proxy.worker.record import TOGETHER, Recorder

ID = b"0123456789abcdef0001"
ALLOWED = Decision(Effect.ALLOW, Reason.RULE_ALLOWED, "staff-view")


def session(subject: str = "alice", email: str | None = "alice@example.com") -> Session:
    principal = Principal(subject=subject, issuer="https://idp", provider="corp", email=email)
    return Session("sid-1", "app.example", principal, "", (), True, 0.0, 0.0, 0.0, 0.0, 0.0)


class Bench:
    """A recorder and the other end of its ring."""

    def __init__(self, path: Path, size: int = 1 << 16) -> None:
        self.clock = ManualClock()
        self.ring = RingWriter.create(ring_path(path, 2, "b"), size, worker=2, boot="b")
        self.recorder = Recorder(self.ring, worker=2, boot="b", clock=self.clock)
        self.reader = RingReader.open(ring_path(path, 2, "b"))

    def decide(
        self, path: bytes = b"/", who: Session | None = None, decision: Decision = ALLOWED, host: str = "app.example"
    ) -> None:
        circumstances = self.recorder.describe("app", host, b"GET", "192.0.2.1", who, decision)
        self.recorder.decision(ID, 1.5, path, circumstances)

    def read(self) -> list[bytes]:
        """The records as control would write them into the log."""
        packed = RecordReader(2, "b", self.reader.at)
        lines = [line for payload in self.reader.read(100_000) for _, line in packed.lines(payload)]
        self.reader.commit()
        return lines


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_decision_says_who_asked_what_and_what_the_policy_said(bench: Bench) -> None:
    decision = Decision(
        Effect.CHALLENGE, Reason.REAUTH_REQUIRED, "deploy", ChallengeKind.REAUTH, 300.0, ("abroad:deny",)
    )
    bench.decide(b"/flows", session(), decision)
    (raw,) = bench.read()
    assert json.loads(raw) == {
        "type": "decision", "v": 1, "at": 1.5, "id": ID.decode(), "worker": 2, "boot": "b", "n": 1, "route": "app",
        "host": "app.example", "method": "GET", "path": "/flows", "client": "192.0.2.1", "effect": "challenge",
        "reason": "reauth-required", "rule": "deploy", "challenge": "reauth", "sub": "alice",
        "email": "alice@example.com", "provider": "corp", "sid": "sid-1", "reported": ["abroad:deny"],
        "level": "single",
    }  # fmt: skip


def test_a_decision_says_what_the_request_meant_and_where_it_came_from(bench: Bench) -> None:
    act = Act(Action.DEPLOY, "flow", "invoices", Sensitivity.CONFIDENTIAL, Change.DEPLOYMENT, "deploy-all")
    origin = Origin("192.0.2.1", frozenset(("vpn", "office")), "DE", 64500)
    risk = Risk(62, RiskLevel.HIGH, ("new-country+30",))
    duty = Obligations(masks=("salaries",), justification="incident 7", approved_by="lea", notify=True)
    decision = Decision(Effect.ALLOW, Reason.RULE_ALLOWED, "deploy", obligations=duty, missing=("asn",))
    circumstances = bench.recorder.describe(
        "app", "app.example", b"POST", "192.0.2.1", session(), decision, act, origin, risk
    )
    bench.recorder.decision(ID, 1.5, b"/flows", circumstances)
    bench.recorder.end(ID, 1.6, 200, 1, 2, 0.1, masked=3)
    bench.recorder.flush()
    said, end = (json.loads(line) for line in bench.read())
    assert said | {
        "action": "deploy", "kind": "flow", "object": "invoices", "sensitivity": "confidential",
        "changes": "deployment", "matcher": "deploy-all", "zones": ["office", "vpn"], "country": "DE", "asn": 64500,
        "risk": "62 high", "risk_reasons": ["new-country+30"], "missing": ["asn"], "masks": ["salaries"],
        "justification": "incident 7", "approved_by": "lea", "notify": True,
    } == said  # fmt: skip
    assert end["masked"] == 3


def test_other_circumstances_are_never_taken_for_these(bench: Bench) -> None:
    said = []
    for act, origin, risk in (
        (Act(Action.USE, "app", "a", matcher="m"), None, None),
        (Act(Action.USE, "app", "b", matcher="m"), None, None),
        (Act(Action.USE, "app", "b", Sensitivity.RESTRICTED, matcher="m"), None, None),
        (NO_ACT, Origin("192.0.2.1", country="DE"), None),
        (NO_ACT, Origin("192.0.2.1", country="FR"), None),
        (NO_ACT, None, Risk(5, RiskLevel.LOW)),
        (NO_ACT, None, Risk(5, RiskLevel.LOW, ("unusual-hour+5",))),
    ):
        circumstances = bench.recorder.describe(
            "app", "app.example", b"GET", "192.0.2.1", None, ALLOWED, act, origin, risk
        )
        bench.recorder.decision(ID, 1.5, b"/", circumstances)
    for line in bench.read():
        record = json.loads(line)
        del record["n"]
        said.append(record)
    assert len(said) == 7
    assert all(one not in said[:place] for place, one in enumerate(said))


def test_field_19_denials_are_recorded_like_permissions(bench: Bench) -> None:
    bench.decide(decision=Decision(Effect.DENY, Reason.NO_RULE_MATCHED))
    record = json.loads(bench.read()[0])
    assert (record["effect"], record["reason"]) == ("deny", "no-rule-matched")
    assert "rule" not in record
    assert "sub" not in record


def test_records_are_numbered_without_gaps(bench: Bench) -> None:
    for _ in range(5):
        bench.decide()
        bench.recorder.end(ID, 2.0, 200, 0, 1, 0.1)
    bench.recorder.flush()
    assert [json.loads(raw)["n"] for raw in bench.read()] == list(range(1, 11))


def test_ends_wait_for_the_next_decision_or_a_full_company_and_keep_their_order(bench: Bench) -> None:
    bench.decide()
    bench.recorder.end(ID, 2.0, 200, 0, 1, 0.1)
    assert [json.loads(raw)["type"] for raw in bench.read()] == ["decision"]
    bench.decide()
    assert [json.loads(raw)["type"] for raw in bench.read()] == ["end", "decision"]
    for _ in range(TOGETHER):
        bench.recorder.end(ID, 2.0, 200, 0, 1, 0.1)
    assert len(bench.read()) == TOGETHER


@pytest.mark.case("ZT-LOG-01")
@pytest.mark.parametrize(
    "hostile", ["a\r\nb", "\x1b[31mred\x1b[0m", 'q"\\uote', "\u2028\u2029", "\x7f\x9b\x85", "\u202egnp", "\ud800", "😀"]
)
def test_zt_log_01_hostile_text_is_one_line_of_printable_ascii_and_parses_back(bench: Bench, hostile: str) -> None:
    path = b"/" + hostile.encode("utf-8", "surrogatepass")
    bench.decide(path, session(hostile, hostile), host=hostile)
    (raw,) = bench.read()
    assert all(0x20 <= byte < 0x7F for byte in raw)
    record = json.loads(raw)
    assert record["sub"] == record["email"] == record["host"] == hostile
    assert record["path"].encode("latin-1") == path


def test_without_room_a_decision_is_refused_and_takes_no_number(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 4096)
    written = 0
    with pytest.raises(UnavailableError) as refused:  # noqa: PT012 - how many fit is not the point
        for _ in range(1000):
            bench.decide()
            written += 1
    assert refused.value.reason is Reason.RECORD_UNAVAILABLE
    assert refused.value.status == 503
    bench.read()
    bench.decide()
    assert json.loads(bench.read()[0])["n"] == written + 1


def test_check_keeps_room_for_the_ends_of_what_is_allowed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 8192)
    with pytest.raises(UnavailableError):  # noqa: PT012
        for _ in range(1000):
            bench.recorder.check()
            bench.decide()
    bench.recorder.end(ID, 2.0, 200, 0, 1, 0.1)
    bench.recorder.flush()
    assert bench.recorder.lost == 0
    assert json.loads(bench.read()[-1])["type"] == "end"


def test_what_is_denied_for_want_of_room_takes_none_of_the_room_for_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 1 << 16)
    with pytest.raises(UnavailableError):  # noqa: PT012
        for _ in range(10_000):
            bench.decide()
    for number in range(200):  # nobody's circumstances are alike
        with pytest.raises(UnavailableError):
            bench.decide(who=session(f"mallory-{number}"))
    for _ in range(20):
        bench.recorder.end(ID, 2.0, 200, 0, 1, 0.1)
    bench.recorder.flush()
    assert bench.recorder.lost == 0


def test_ends_that_found_no_room_are_counted_in_the_next_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 4096)
    with pytest.raises(UnavailableError):  # noqa: PT012
        for _ in range(1000):
            bench.decide(b"/" + b"x" * 100)
    while bench.recorder.lost < 3:
        bench.recorder.end(ID, 2.0, 200, 0, 1, 0.1)
        bench.recorder.flush()
    bench.read()
    bench.decide()
    bench.decide()
    first, second = map(json.loads, bench.read())
    assert first["lost"] == 3
    assert "lost" not in second


def test_nothing_is_decided_while_the_oldest_record_waits_longer_than_the_lease(bench: Bench) -> None:
    bench.recorder.check()
    bench.decide()
    bench.clock.advance(4.9)
    bench.decide()
    bench.recorder.check()
    bench.clock.advance(0.2)
    with pytest.raises(UnavailableError, match="not being read"):
        bench.recorder.check()
    bench.read()
    bench.recorder.check()


def test_a_reader_that_begins_anew_finds_what_records_refer_to(bench: Bench) -> None:
    bench.decide(b"/first", session())
    bench.read()
    bench.decide(b"/second", session())
    bench.reader = RingReader.open(ring_path(Path(bench.reader._path).parent, 2, "b"))
    (record,) = map(json.loads, bench.read())
    assert (record["path"], record["sub"], record["n"]) == ("/second", "alice", 2)


def test_what_records_refer_to_is_written_again_before_it_is_overwritten(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 8192)
    who = session()
    for number in range(2_000):
        bench.decide(b"/%d" % number, who)
        (record,) = map(json.loads, bench.read())
        assert (record["path"], record["sub"]) == (f"/{number}", "alice")


@pytest.mark.parametrize("request_id", [b"short", b"longer than twenty bytes"])
def test_a_record_that_does_not_fit_the_packed_form_is_whole_all_the_same(bench: Bench, request_id: bytes) -> None:
    circumstances = bench.recorder.describe("app", "app.example", b"GET", "192.0.2.1", session(), ALLOWED)
    bench.recorder.decision(request_id, 1.5, b"/flows", circumstances)
    bench.recorder.end(request_id, 2.0, 200, 0, 1, 0.1)
    bench.recorder.flush()
    decision, end = map(json.loads, bench.read())
    assert decision["id"] == end["id"] == request_id.decode()
    assert (decision["n"], decision["sub"], end["n"], end["status"]) == (1, "alice", 2, 200)
