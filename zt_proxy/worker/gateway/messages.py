"""WebSockets of platforms that steer by messages: each message of the client is understood and decided like a request.

What a message may do is decided by the authorization of its moment. One that may not go on ends the socket with 4403,
and is on record; of those that may, the first of each kind is. The upgrade's own decision stands for the rest.
"""

from typing import TYPE_CHECKING
from weakref import WeakSet

import structlog
from msgspec.structs import replace

from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.core.types import Act, Decision, Effect, Facts
from zt_proxy.worker.gateway import locked
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.gateway.facts import who_asks
from zt_proxy.worker.gateway.streams import FORBIDDEN, GOING_AWAY, WebSocketTunnel
from zt_proxy.worker.upstream.relay import Relay
from zt_proxy.worker.wire.ws_messages import Message, MessageAssembler

if TYPE_CHECKING:
    from zt_proxy.worker.gateway.pipeline import Gateway

TOLD = 1024
"""Kinds of messages of one socket that are remembered as recorded."""
LONGEST = 16 * 1024 * 1024
"""Bytes of a message that is held until all of it is here, whatever longer ones may pass where none is read."""
SHORT = 64 * 1024
"""Bytes that a socket may hold whatever the others do."""
HELD = 64 * 1024 * 1024
"""Bytes of messages that are not complete, of all sockets of one worker; the socket with most gives way."""
TOO_BIG = 1009

log = structlog.get_logger("zt_proxy.gateway")


class Messages:
    """One gateway's decisions about messages."""

    __slots__ = ("_gateway", "_long")

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._long: WeakSet[MessageTunnel] = WeakSet()

    def hold(self, tunnel: "MessageTunnel") -> None:
        """A socket holds more than SHORT: if all of them hold too much, the one with most is closed."""
        self._long.add(tunnel)
        long = [each for each in self._long if each.held > SHORT]
        if sum(each.held for each in long) > HELD:
            max(long, key=lambda each: each.held).close(TOO_BIG, "too much is held for messages to end")

    def decide(self, x: Exchange, message: Message, told: set[Act]) -> Reason | None:
        """None: it may go on. `told`: what this socket has on record already. Raises UnavailableError: nothing may be
        decided, or not be recorded."""
        gateway, route = self._gateway, x.route
        assert route is not None
        if not gateway.link.alive():
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "the lease of the link to control ran out")
        if route.profile is None:  # a reload took it away: the upgrade's own decision stands for all
            return None
        act = route.profile.message(message.payload, message.text, x.act.matcher)
        if act is None:
            return None
        decision = self._judge(x, act)
        allowed = decision.effect is Effect.ALLOW
        if not allowed or act not in told:
            gateway.record_message(x, act, decision)
            if len(told) >= TOLD:
                told.clear()
            told.add(act)
        return None if allowed else decision.reason

    def _judge(self, x: Exchange, act: Act) -> Decision:
        gateway, route, entry = self._gateway, x.route, x.session
        assert route is not None
        now = gateway.clock.now()
        if x.machine is not None:
            principal = x.machine.machine.principal
            facts = replace(gateway.witness.facts(x, route, principal, None, now=now), act=act)
            decision = route.machines.decide(principal.integration, facts)
        else:
            session = entry.session if entry is not None else None
            who = session.principal if session is not None else None
            facts = replace(gateway.witness.facts(x, route, who, session, now=now), act=act)
            decision = route.policy.decide(facts)
        if decision.effect is Effect.ALLOW:
            decision = self._obliged(x, facts, decision)
        if gateway.locks:
            decision = locked.applied(
                gateway.locks, x, route.name, decision, gateway.settings.strongest, now=now, act=act
            )
        if decision.spend:  # a proof that is good for one request is none for a message
            return Decision(Effect.DENY, Reason.REAUTH_REQUIRED, decision.rule)
        return decision

    def _obliged(self, x: Exchange, facts: Facts, decision: Decision) -> Decision:
        """What a rule's permission comes with holds for messages, too: a limit counts them, and where the answer would
        have to be masked, nobody could."""
        gateway, route, duty = self._gateway, x.route, decision.obligations
        assert route is not None
        masking = route.masking
        if masking is not None and not masking.leaves_websockets and masking.masks_for(facts, duty):
            return Decision(Effect.DENY, Reason.ANSWER_NOT_INSPECTABLE, decision.rule, reported=decision.reported)
        if duty is not None and duty.limit:
            if gateway.allowances.take(duty.limit, who_asks(x), gateway.clock.monotonic(), streams=bool(x.allowance)):
                return Decision(Effect.DENY, Reason.LIMIT_REACHED, decision.rule, reported=decision.reported)
            x.allowance = x.allowance or duty.limit
        return decision


class MessageTunnel(WebSocketTunnel):
    """A tunnel whose client's messages are read before they go on."""

    __slots__ = ("__weakref__", "_assembler", "_messages", "_told")
    reads = True

    def __init__(self, exchange: Exchange, relay: Relay, max_message: int, messages: Messages) -> None:
        super().__init__(exchange, relay, max_message, extensions=False)
        self._assembler = MessageAssembler(min(max_message, LONGEST))
        self._messages = messages
        self._told: set[Act] = set()

    def from_client(self, data: bytes) -> None:
        relay, assembler = self._relay, self._assembler
        upstream = relay.connection
        if self._closing is not None or upstream is None:
            return
        relay.bytes_in += len(data)
        for one in assembler.feed(data):
            if not isinstance(one, Message):
                upstream.transport.write(one)
            elif self._may_go_on(one):
                upstream.transport.write(one.raw)
            else:
                return
        if assembler.violation is not None and not assembler.closed:
            self.close(assembler.violation.code, assembler.violation.detail)
        elif assembler.held > SHORT:
            self._messages.hold(self)

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their message; none once the socket is over."""
        return 0 if self._exchange.done or self._closing is not None else self._assembler.held

    def _may_go_on(self, message: Message) -> bool:
        try:
            reason = self._messages.decide(self._exchange, message, self._told)
        except UnavailableError as error:
            self.close(GOING_AWAY, error.reason.value)
            return False
        except Exception:
            log.exception("a message was not decided", request_id=self._exchange.request_id)
            self.close(GOING_AWAY, Reason.INTERNAL_ERROR.value)
            return False
        if reason is not None:
            self.close(FORBIDDEN, reason.value)
            return False
        return True

    def _may_be_told(self) -> bool:
        return not self._assembler.closed  # nothing but whole frames goes on
