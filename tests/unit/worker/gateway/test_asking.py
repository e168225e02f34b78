"""What somebody reads who is asked something about a request."""

from zt_proxy.core.errors import Reason
from zt_proxy.core.handoff import Handoff, Purpose
from zt_proxy.core.types import NO_ACT, Act, Action, ChallengeKind, Decision, Effect
from zt_proxy.worker.gateway.asking import LONGEST_OBJECT, LONGEST_PATH, described

HANDOFF = Handoff(Purpose.REAUTH, "app.test", "/", b"", 0.0)


def asks(kind: ChallengeKind) -> Decision:
    return Decision(Effect.CHALLENGE, Reason.APPROVAL_REQUIRED, "deploy", kind)


def test_a_proof_is_asked_for_as_before() -> None:
    assert described(HANDOFF, asks(ChallengeKind.REAUTH), b"POST", b"/flows", NO_ACT) is HANDOFF


def test_a_request_is_described_to_who_decides() -> None:
    act = Act(action=Action.DEPLOY, kind="flow", object="Invoices")
    found = described(HANDOFF, asks(ChallengeKind.APPROVE), b"POST", b"/flows", act)
    assert (found.ask, found.method, found.path) == ("approve", "POST", "/flows")
    assert (found.action, found.object) == ("deploy", "flow:Invoices")
    plain = described(HANDOFF, asks(ChallengeKind.JUSTIFY), b"GET", b"/", NO_ACT)
    assert (plain.ask, plain.action, plain.object) == ("justify", "", "")


def test_nothing_that_nobody_sees_turns_what_they_read_into_something_else() -> None:
    act = Act(action=Action.DEPLOY, kind="flow", object="harmless\u202egnp.exe\x00\n")
    found = described(HANDOFF, asks(ChallengeKind.APPROVE), b"POST", b"/a\xe2\x80\xaeb", act)
    assert found.object == "flow:harmless\ufffdgnp.exe\ufffd\ufffd"
    assert found.path == "/a\\xe2\\x80\\xaeb"


def test_a_long_name_and_a_long_path_are_cut() -> None:
    act = Act(kind="flow", object="x" * 600)
    found = described(HANDOFF, asks(ChallengeKind.APPROVE), b"POST", b"/" + b"y" * 4000, act)
    assert (len(found.object), len(found.path)) == (LONGEST_OBJECT, LONGEST_PATH)
    assert found.object.endswith("…")
    assert found.path.endswith("…")
