"""`/.zt/preflight`: would this request pass now? The script in a page asks before it sends a large body.

It is decided as the real request would be, for the same session, and tells as much: a stranger learns of every path
that they have to sign in, unless it is public. Nothing is spent, nothing reaches the platform, and nobody was active.
"""

import msgspec

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.http import Target
from zt_proxy.core.types import ChallengeKind, Decision, Effect
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.facts import Witness
from zt_proxy.worker.gateway.locate import is_own
from zt_proxy.worker.gateway.respond import About
from zt_proxy.worker.gateway.routes import Route, RouteTable
from zt_proxy.worker.gateway.timeouts import route_challenge
from zt_proxy.worker.identify.session import CachedSession, SessionCache
from zt_proxy.worker.wire import target
from zt_proxy.worker.wire.head import RequestHead

LARGEST = 4096
"""Bytes of a question."""


class Question(msgspec.Struct, frozen=True):
    """The request that a script is about to send."""

    method: str
    path: str
    """Path and query, as they would stand in the request line."""
    renew: bool = False
    """The session nears its end: where can the person sign in again, in a window?"""


_decoder = msgspec.json.Decoder(Question)


def check(head: RequestHead) -> None:
    """Raises ClientError(BODY_TOO_LARGE, 413) for more than a question can be."""
    if head.chunked or head.content_length > LARGEST:
        raise ClientError(Reason.BODY_TOO_LARGE, "a preflight is short, and says how short", status=413)


def read(body: bytes) -> Question:
    """Raises ClientError: MALFORMED, or METHOD_REFUSED for what nobody may send."""
    try:
        question = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ClientError(Reason.MALFORMED, "not a question") from error
    method = question.method
    if not method.isascii() or not method.replace("-", "").isalpha() or method != method.upper():
        raise ClientError(Reason.MALFORMED, "not a method")
    if method in {"CONNECT", "TRACE"}:
        raise ClientError(Reason.METHOD_REFUSED, method, status=405)
    return question


def decide(
    x: Exchange,
    found: CachedSession | Reason,
    question: Question,
    routes: RouteTable,
    sessions: SessionCache,
    now: float,
    witness: Witness,
) -> tuple[Decision, About]:
    """What the policy of this moment says, and about what. Raises ClientError as the real request would."""
    place, route = _place(routes, x.host, question.path.encode())
    method, path = question.method.encode("ascii"), place.path
    if not isinstance(found, CachedSession):
        facts = witness.about(x, route, place, method, None, now)
        decision = route.policy.decide(facts)
        if decision.challenge is ChallengeKind.LOGIN:
            decision = Decision(Effect.CHALLENGE, found, challenge=ChallengeKind.LOGIN)
        return decision, About(route, method, path, facts.act)
    if question.renew:
        challenge = Decision(Effect.CHALLENGE, Reason.LOGIN_REQUIRED, challenge=ChallengeKind.LOGIN)
        return challenge, About(route, method, path)
    session = found.session
    facts = witness.about(x, route, place, method, session, now)
    decision = route.policy.decide(facts)
    if decision.effect is Effect.ALLOW and route.limits_session:
        decision = route_challenge(route, found, sessions, now) or decision
    return decision, About(route, method, path, facts.act)


def _place(routes: RouteTable, host: str, raw: bytes) -> tuple[Target, Route]:
    parsed = target.parse(raw)
    path = parsed.target.path
    if parsed.authority is not None or not path.startswith(b"/"):
        raise ClientError(Reason.TARGET_REFUSED, "a preflight asks about a path of its own host")
    if is_own(path):
        raise ClientError(Reason.PATH_UNKNOWN, "the proxy's own places need no preflight", status=404)
    route = routes.match(host, path)
    target.refuse_unless(parsed.needs, route.allowed_paths)
    return parsed.target, route
