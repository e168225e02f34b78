"""What a signed-in person is asked besides proofs: why they do something, and for somebody else's word."""

from msgspec.structs import replace

from zt_proxy.core.errors import Reason
from zt_proxy.core.handoff import Handoff
from zt_proxy.core.types import Act, ChallengeKind, Decision

LONGEST_PATH, LONGEST_OBJECT = 512, 200
"""Characters of a path and of an object's name that a person sees who is asked something about a request."""
WAYS = {
    Reason.JUSTIFICATION_REQUIRED: "Say why",
    Reason.APPROVAL_REQUIRED: "Ask somebody to agree",
}
"""What the way in is called where it is no proof that is missing."""
_NOT_KEPT = {
    Reason.JUSTIFICATION_REQUIRED: "Your form was not sent. Say why, then go back to it and send it again.",
    Reason.APPROVAL_REQUIRED: "Your form was not sent. When somebody has agreed, go back to it and send it again.",
}
_PROOF = "Your form was not sent. Confirm that it is you, then go back to it and send it again."


def not_kept(reason: Reason) -> str:
    """For the page that refuses a form that is too large to wait."""
    return _NOT_KEPT.get(reason, _PROOF)


def ask_of(decision: Decision) -> str:
    """See `Handoff.ask`."""
    challenge = decision.challenge
    return challenge.value if challenge in (ChallengeKind.JUSTIFY, ChallengeKind.APPROVE) else ""


def described(handoff: Handoff, decision: Decision, method: bytes, path: bytes, act: Act) -> Handoff:
    """The hand-off with what the person, and who agrees, has to see of the request; as it was for a proof."""
    ask = ask_of(decision)
    if not ask:
        return handoff
    return replace(
        handoff,
        ask=ask,
        method=method.decode("ascii"),
        path=_shown(path.decode("ascii", "backslashreplace"), LONGEST_PATH),
        action=act.action.value if act.action is not None else "",
        object=_shown(f"{act.kind}:{act.object}", LONGEST_OBJECT) if act.object else "",
    )


def _shown(text: str, length: int) -> str:
    """Cut, and without what nobody sees: somebody decides by what they read here."""
    text = "".join(each if each.isprintable() else "\ufffd" for each in text)
    return text if len(text) <= length else text[: length - 1] + "…"
