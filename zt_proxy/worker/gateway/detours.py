"""The ways of a request that has to wait: for its body, for a proof to be spent, for a form that was kept.

Each comes back to the pipeline where it left it. Whatever waited looks again at who asks: sessions end meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.types import ChallengeKind, Decision, Effect
from zt_proxy.policy.actions import NeedsBody
from zt_proxy.worker.gateway import forms, locked, outgoing, preflight
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.facts import who_asks
from zt_proxy.worker.gateway.respond import LONGEST_TARGET, About, is_machine
from zt_proxy.worker.gateway.routes import Route
from zt_proxy.worker.identify.session import CachedSession
from zt_proxy.worker.upstream.permit import keeping
from zt_proxy.worker.upstream.relay import Relay
from zt_proxy.worker.wire.hygiene import Kind

if TYPE_CHECKING:
    from zt_proxy.worker.gateway.pipeline import Gateway

COOKIE = int(Kind.COOKIE)
INTERNAL = Decision(Effect.ALLOW, Reason.INTERNAL)
AWAITED = 8 * 1024 * 1024
"""Bytes of bodies that one person, or one integration, may have waited for at a time; a single one always may."""
SPENT_ANEW = 3
"""How often a request may find a new proof in place of the one that another request was faster to spend."""


class Detours:
    """One gateway's."""

    __slots__ = ("_awaited", "_gateway")

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._awaited: dict[str, int] = {}

    async def spend(self, x: Exchange, decision: Decision) -> None:
        """Of all requests, on all workers, that a proof would let through, the one for which control spends it goes on.

        The session is looked up anew: it may have ended meanwhile, and nobody would cut what is opened now.
        """
        gateway = self._gateway
        for _ in range(SPENT_ANEW):
            entry, route = x.session, x.route
            assert entry is not None
            assert route is not None
            sid, key = entry.session.sid, decision.spend
            proof = entry.session.proofs[key]
            spent = await gateway.link.spend(sid, key)
            found = await gateway.found_again(x, entry)
            route = x.route
            if x.done or route is None:
                return
            if spent and isinstance(found, CachedSession) and found.session.sid == sid:
                session = replace(found.session, proofs={**found.session.proofs, key: proof})
                decision = gateway.judge(x, route, session)
                if decision.spend == key:
                    decision = replace(decision, spend="")
            else:
                decision = gateway.decide(x, route, found)
            if not decision.spend:
                gateway.carry_out(x, route, decision)
                return
        raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "proofs are spent faster than they can be used")

    async def resume(self, x: Exchange, found: CachedSession | Reason) -> None:
        """A form of this size may be the token that releases a kept form: then what was kept is decided in its place,
        and the token itself never goes anywhere."""
        gateway = self._gateway
        token = forms.token_in(await x.whole_body())
        if x.done:
            return
        found = await gateway.found_again(x, found)
        route = x.route
        if x.done or route is None:
            return
        if token is not None:
            assert x.target is not None
            form = None
            if isinstance(found, CachedSession):
                wire = x.target.wire().decode("ascii")
                form = await gateway.link.kept(found.session.sid, token, x.host, wire)
                found = await gateway.found_again(x, found)
            if form is None:
                raise ClientError(Reason.FORM_ALREADY_SENT, "no form is kept under this token here", status=409)
            if x.done or x.route is None:
                return
            route = x.route
            x.head = forms.resumed(x.head, form, route.body_limit)
            x.early = [form.body]
        needed = gateway.witness.understand(x, route)
        if needed is not None and x.session is not None:
            gateway.witness.read(x, route, b"".join(x.early or ()))
        gateway.carry_out(x, route, gateway.decide(x, route, found))

    async def read(self, x: Exchange, needed: NeedsBody, found: CachedSession | Reason | None) -> None:
        """What the request means stands in its body. `found` None: an integration asks.

        Raises ClientError(BODY_NOT_INSPECTABLE, 403) for a body that is larger than anybody looks at, or no JSON.
        """
        gateway = self._gateway
        body: bytes | None = None
        if x.head.content_length <= needed.limit:
            gateway.go_ahead(x)
            with self._awaiting(x, needed.limit):
                body = await x.whole_body(needed.limit)
            if x.done:
                return
            if not x.request_ended or len(body) > needed.limit:
                body = None
        if found is not None:
            found = await gateway.found_again(x, found)
        else:
            gateway.look_again(x)
        route, machine = x.route, x.machine
        if x.done or route is None:
            return
        gateway.witness.read(x, route, body)
        if machine is not None:
            gateway.carry_out(x, route, gateway.machines.decide(x, machine, route))
        elif found is not None:
            gateway.carry_out(x, route, gateway.decide(x, route, found))
        else:
            raise ClientError(Reason.CERTIFICATE_UNKNOWN, "the certificate counts no more", status=403)

    @contextmanager
    def _awaiting(self, x: Exchange, limit: int) -> Iterator[None]:
        """Raises ClientError(TOO_MANY_REQUESTS, 429) for one body too many that somebody sends slowly."""
        who, awaited = who_asks(x), self._awaited
        size = limit if x.head.chunked else x.head.content_length
        held = awaited.get(who, 0)
        if held and held + size > AWAITED:
            x.retry_after = 1.0
            raise ClientError(Reason.TOO_MANY_REQUESTS, "too many bodies are waited for", status=429)
        awaited[who] = held + size
        try:
            yield
        finally:
            rest = awaited[who] - size
            if rest:
                awaited[who] = rest
            else:
                del awaited[who]

    def may_keep(self, x: Exchange) -> bool:
        """A form of this origin's own page, and not too large, waits until the person has proven enough."""
        gateway = self._gateway
        return (
            forms.may_be_kept(x.head, gateway.settings.form_limit)
            and not is_machine(x)
            and x.target is not None
            and len(x.target.wire()) <= LONGEST_TARGET
        )

    def keep(self, x: Exchange, route: Route, decision: Decision) -> None:
        """Hand the form to the portal, which keeps it and sends the browser to where it can prove what is missing."""
        gateway = self._gateway
        assert x.target is not None
        about = About(route, x.head.method, x.target.path, x.act)
        handoff = gateway.responder.handoff(x, decision, about, x.target.wire(), x.cookie)
        sid = x.session.session.sid if x.session is not None else None
        identity = gateway.signer.portal_header(host=x.host, client=x.client, sid=sid, request_id=x.request_id)
        request = outgoing.keep_head(x, identity, gateway.own_pairs(x.head.noted[COOKIE]), handoff.encode())
        lines = gateway.responder.response_lines(x, None)
        gateway.relay(x, Relay, keeping(), gateway.portal_pool, request, lines, gateway.settings.form_limit)

    async def preflight(self, x: Exchange, found: CachedSession | Reason) -> None:
        """Would the real request pass? Nothing is spent, and nothing reaches the platform."""
        gateway = self._gateway
        body = await x.whole_body()
        found = await gateway.found_again(x, found)
        if x.done:
            return
        x.early = None
        question = preflight.read(body)
        decision, about = preflight.decide(
            x, found, question, gateway.routes, gateway.sessions, gateway.clock.now(), gateway.witness
        )
        if gateway.locks:
            strongest = gateway.settings.strongest
            decision = locked.applied(
                gateway.locks, x, about.route.name, decision, strongest, method=about.method, act=about.act
            )
        gateway.record(x, "", INTERNAL)
        if decision.effect is Effect.ALLOW:
            gateway.responder.nothing(x)
        elif decision.challenge is ChallengeKind.LOGIN and not about.route.settings.machines_only:
            gateway.responder.sign_in(x, decision, about, anew=question.renew)
        else:
            gateway.responder.decline(x, decision, about)
        gateway.finish(x, None)
