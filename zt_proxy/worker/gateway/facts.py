"""What a request means and where it comes from: stages 6 and 7 of its way, and the facts that the policy gets.

What follows from the head alone is found out once for each way and remembered there. A request whose meaning stands in
its body waits for that body; a stranger's does not, and means nothing that a rule could name.
"""

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.http import Target
from zt_proxy.core.session import Principal, Risk, Session
from zt_proxy.core.types import NO_ACT, Act, Decision, Facts
from zt_proxy.policy.actions import NeedsBody
from zt_proxy.policy.risk import RiskSettings, agent_mark, of_request
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.routes import Route
from zt_proxy.worker.identify.assertion import PLAIN, Statement
from zt_proxy.worker.identify.origin import Origins
from zt_proxy.worker.wire.head import RequestHead
from zt_proxy.worker.wire.hygiene import Kind

USER_AGENT = int(Kind.USER_AGENT)
UNREAD = Act(refused=True)
"""What a request means whose meaning stands in a body that nobody reads."""


class Witness:
    """One gateway's knowledge of circumstances."""

    __slots__ = ("_claimed", "_origins", "_risk")

    def __init__(self, origins: Origins, risk: RiskSettings, claimed: bytes = b"") -> None:
        """`claimed`: lower-case name of a header that says the country, in demonstrations alone; empty: none does."""
        self._origins = origins
        self._risk = risk
        self._claimed = claimed

    def refresh(self) -> bool:
        """Look whether a database of places has changed: True if another one is in use now."""
        return self._origins.refresh()

    def understand(self, x: Exchange, route: Route) -> NeedsBody | None:
        """Set `x.act` and `x.origin`, and what the way remembers of them. NeedsBody: what the request means stands in
        its body; see `read`."""
        way = x.way
        x.origin = self._origins.of(x.client, self._claim(x.head))
        profile, needed = route.profile, None
        if profile is not None:
            head, target = x.head, x.target
            assert target is not None
            found = profile.classify(head.method, target.path, target.query, head.header, head.websocket)
            if isinstance(found, NeedsBody):
                x.act, needed = UNREAD, found
            else:
                x.act = found
        if way is not None and needed is None:
            way.act, way.origin = x.act, x.origin
        return needed

    def read(self, x: Exchange, route: Route, body: bytes | None) -> None:
        """Set `x.act` to what the whole body says; None: it is longer than anybody looks at.

        Raises ClientError(BODY_NOT_INSPECTABLE, 403), but on a route in report mode, which stops nobody.
        """
        head, target, profile = x.head, x.target, route.profile
        assert target is not None
        if profile is None:  # a reload took it away
            x.act = NO_ACT
            return
        try:
            if body is None:
                raise ClientError(Reason.BODY_NOT_INSPECTABLE, "a body longer than anybody looks at", status=403)
            x.act = profile.classify_body(head.method, target.path, target.query, head.header, head.websocket, body)
        except ClientError:
            if not route.reports:
                raise
            x.act = UNREAD

    def facts(
        self, x: Exchange, route: Route, who: Principal | None, session: Session | None, *, now: float | None = None
    ) -> Facts:
        """What a decision about this exchange may depend on. Sets `x.risk` and `x.facts`."""
        at = x.at if now is None else now
        assert x.target is not None
        wanted = route.policy.headers_wanted
        x.risk = self._risk_of(x, session, at)
        x.facts = facts = Facts(
            now=at,
            route=route.name,
            method=x.head.method,
            path=x.target.path,
            client=x.client,
            principal=who,
            session=session,
            act=x.act,
            origin=x.origin,
            risk=x.risk,
            headers={name: _text(x.head.header(name.encode("ascii"))) for name in wanted} if wanted else {},
        )
        return facts

    def about(
        self, x: Exchange, route: Route, target: Target, method: bytes, session: Session | None, now: float
    ) -> Facts:
        """The same about a request that somebody asks ahead about: its headers and its body are not known."""
        x.origin = self._origins.of(x.client, self._claim(x.head))
        act = NO_ACT
        if route.profile is not None:
            found = route.profile.classify(method, target.path, target.query, _unknown, False)
            act = UNREAD if isinstance(found, NeedsBody) else found
        return Facts(
            now=now,
            route=route.name,
            method=method,
            path=target.path,
            client=x.client,
            principal=session.principal if session is not None else None,
            session=session,
            act=act,
            origin=x.origin,
            risk=self._risk_of(x, session, now),
        )

    def _risk_of(self, x: Exchange, session: Session | None, now: float) -> Risk | None:
        if session is None or x.origin is None:
            return None
        agent = agent_mark(x.head.noted[USER_AGENT] or b"")
        return of_request(session, x.origin, agent, now, self._risk, self._origins.of)

    def _claim(self, head: RequestHead) -> str | None:
        if not self._claimed:
            return None
        value = head.header(self._claimed)
        return value.decode("latin-1") if value is not None else None


def stated(x: Exchange, decision: Decision) -> Statement:
    """What the assertion of a permitted request says besides who asks."""
    action, risk, duty = x.act.action, x.risk, decision.obligations
    roles = x.route.policy.roles_of(x.facts) if x.route is not None and x.facts is not None and x.session else ()
    if action is None and risk is None and duty is None and not roles:
        return PLAIN
    return Statement(
        action=action.value if action is not None else "",
        risk=risk.level.word if risk is not None else "",
        justification=duty.justification if duty is not None else "",
        approved_by=duty.approved_by if duty is not None else "",
        break_glass=duty.break_glass if duty is not None else False,
        roles=roles,
    )


def keeps(route: Route) -> bool:
    """A permission on this route may be kept, if it depends on no clock: masks are chosen anew for each request."""
    return route.masking is None


def masks_turned(x: Exchange, route: Route, facts: Facts, decision: Decision) -> Reason | None:
    """Why what was opened for a reader who saw everything may not go on: they do no more."""
    if route.masking is None or route.reports or x.masks:
        return None
    return Reason.ANSWER_NOT_INSPECTABLE if route.masking.masks_for(facts, decision.obligations) else None


def who_asks(x: Exchange) -> str:
    """Whose limits count: a person at their provider, an integration, an address."""
    if x.session is not None:
        principal = x.session.session.principal
        return f"{principal.provider}\x1f{principal.subject}"
    return x.machine.machine.principal.subject if x.machine is not None else x.client


def _unknown(_name: bytes) -> bytes | None:
    return None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
