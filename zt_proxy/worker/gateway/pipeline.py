"""The spine: what happens to every request, from its head to its end record, read top to bottom.

     handle ─► admit ─► locate ─► identify ─┬─► decide ─┬─► record ─┬─► forward ─► (relay) ─► finish
                                            │           │           └─► respond ─► finish
                                            │           └─► spend a proof that is good once, then go on
                                            └─► ask control, or for a kept form, then go on

It is one file, past the usual length, so that a reader follows one request without leaving it.
Stages are plain calls; what has to wait, for control or for a body, is a task (`_wait`). An exception in any stage
denies, and is on record.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine
from functools import partial

import structlog
from msgspec.structs import replace

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError, ZtError
from zt_proxy.core.http import SAFE_METHODS
from zt_proxy.core.session import Level, Machine, Session, unlock_key
from zt_proxy.core.types import ASKED_OF_PEOPLE, Act, ChallengeKind, Decision, Effect, Obligations
from zt_proxy.link.messages import ControlLink
from zt_proxy.link.records import Circumstances
from zt_proxy.policy.spec import Limit
from zt_proxy.worker.gateway import browser, forms, locked, outgoing, places, preflight
from zt_proxy.worker.gateway.detours import Detours
from zt_proxy.worker.gateway.exchange import Downstream, Exchange, Granted
from zt_proxy.worker.gateway.facts import Witness, keeps, masks_turned, stated, who_asks
from zt_proxy.worker.gateway.locate import Locator
from zt_proxy.worker.gateway.machines import Machines
from zt_proxy.worker.gateway.messages import Messages, MessageTunnel
from zt_proxy.worker.gateway.respond import ENDED, Responder
from zt_proxy.worker.gateway.routes import NewRelay, Route, RouteTable
from zt_proxy.worker.gateway.streams import WebSocketTunnel
from zt_proxy.worker.gateway.timeouts import reported, route_challenge
from zt_proxy.worker.identify.assertion import AssertionSigner
from zt_proxy.worker.identify.integrations import KnownMachine
from zt_proxy.worker.identify.session import CachedSession, SessionCache
from zt_proxy.worker.metrics import Metrics
from zt_proxy.worker.protect.limits import Allowances
from zt_proxy.worker.protect.locks import Locks
from zt_proxy.worker.record import Recorder
from zt_proxy.worker.settings import WorkerSettings
from zt_proxy.worker.upstream.permit import Internal, InternalPlace, Permitted, internal
from zt_proxy.worker.upstream.pool import UpstreamPool
from zt_proxy.worker.upstream.relay import Relay
from zt_proxy.worker.wire import cookies
from zt_proxy.worker.wire.head import RequestHead
from zt_proxy.worker.wire.hygiene import Kind
from zt_proxy.worker.wire.ws import check_handshake

COOKIE = int(Kind.COOKIE)
EXPECT = int(Kind.EXPECT)
UPGRADE = int(Kind.UPGRADE)
CONNECTION = int(Kind.CONNECTION)
WS_KEY = int(Kind.WS_KEY)
WS_VERSION = int(Kind.WS_VERSION)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PORTAL_BODY_LIMIT = 64 * 1024
INTERNAL = Decision(Effect.ALLOW, Reason.INTERNAL)

PLACES = 5.0
"""Seconds between looks whether the databases of places have changed."""

log = structlog.get_logger("zt_proxy.gateway")


class Gateway:
    """One worker's policy enforcement point. Connections hand it requests; it answers or relays every one of them."""

    def __init__(
        self,
        settings: WorkerSettings,
        routes: RouteTable,
        sessions: SessionCache,
        signer: AssertionSigner,
        link: ControlLink,
        recorder: Recorder,
        responder: Responder,
        portal_pool: UpstreamPool,
        metrics: Metrics,
        clock: Clock,
        locks: Locks,
        witness: Witness,
    ) -> None:
        self.settings = settings
        self.routes = routes
        self.sessions = sessions
        self.signer = signer
        self.link = link
        self.recorder = recorder
        self.responder = responder
        self.portal_pool = portal_pool
        self.metrics = metrics
        self.clock = clock
        self.locks = locks
        self.witness = witness
        self.machines = Machines(settings, recorder, witness)
        self.draining = False
        """Connections end with their next answer, and no WebSocket begins."""
        self.refusing = False
        """Nothing is decided any more, because it might be decided by rules that are not in force."""
        self._session_cookie = settings.session_cookie.encode()
        self._own_cookies = frozenset(
            (self._session_cookie, settings.login_cookie.encode(), settings.device_cookie.encode())
        )
        self._id_prefix = secrets.token_hex(6).encode()
        self._count = 0
        self._locator = Locator(routes, settings.trusted_proxies)
        self._look_at = 0.0
        self.allowances = Allowances(_limits(settings), settings.rate_shares)
        self._detours = Detours(self)
        self._messages = Messages(self)
        self._tasks: set[asyncio.Task[None]] = set()

    def sweep(self, now: float) -> None:
        """Four times a second; `now` is monotonic seconds. What is remembered of addresses follows their databases."""
        if now >= self._look_at:
            self._look_at = now + PLACES
            if self.witness.refresh():
                self._locator.forget()

    def begin(self, connection: Downstream, head: RequestHead) -> Exchange:
        """A request's head arrived: give it a name, and send it on its way with `handle`."""
        self._count += 1
        clock = self.clock
        return Exchange(
            self, connection, head, b"%b%08x" % (self._id_prefix, self._count), clock.now(), clock.monotonic()
        )

    def handle(self, x: Exchange) -> None:
        """Take a request through every stage. Never raises; ends in a response, or in a relay that will."""
        try:
            self._admit(x)
            self._locator.locate(x)
            shown = x.connection.shown
            if shown is not None and (machine := self.machines.identify(x, shown)) is not None:
                self._go_on_as_machine(x, machine)
                return
            if x.route is None and self._hand_out(x):
                return
            found = self._identify(x)
            if found is None:
                self._wait(x, self._ask_control(x))
            else:
                self._go_on(x, found)
        except ZtError as error:
            self._refuse(x, error)
        except Exception:
            log.exception("a stage failed", request_id=x.request_id)
            self._refuse(x, ZtError(Reason.INTERNAL_ERROR))

    def _hand_out(self, x: Exchange) -> bool:
        """Answer one of the places on an app's host that need nobody, neither session nor control."""
        if x.host == self.routes.portal_host or x.target is None:
            return False
        answer = places.answer(x.host, x.target, x.head)
        if answer is None:
            return False
        self.record(x, "", INTERNAL)
        self.responder.place(x, answer)
        self.finish(x, None)
        return True

    def _go_on(self, x: Exchange, found: CachedSession | Reason) -> None:
        """The second half of the way: everything that needs to know who asks."""
        head = x.head
        assert x.target is not None
        if isinstance(found, CachedSession):
            x.session = found
        route = x.route
        if route is None:
            self._to_portal(x, found)
            return
        if x.way is None and browser.covers_everything(head, x.target.path) and not route.root_service_worker:
            raise ClientError(Reason.SERVICE_WORKER_REFUSED, "scope would be the whole origin", status=403)
        if not head.ordinary:
            if browser.is_preflight(head):
                self._answer_preflight(x, route)
                return
            if x.session is not None or (head.websocket and found in ENDED):
                browser.check_origin(head, route.origin, route.cors_origins)
            if forms.may_be_resumed(head):
                self._wait(x, self._detours.resume(x, found))
                return
        way = x.way
        if way is not None and way.origin is not None:
            x.act, x.origin = way.act, way.origin
        elif (needed := self.witness.understand(x, route)) is not None and x.session is not None:
            self._wait(x, self._detours.read(x, needed, found))
            return
        self.carry_out(x, route, self.decide(x, route, found))

    def _go_on_as_machine(self, x: Exchange, machine: KnownMachine) -> None:
        """The same for an integration, which has no session, no page and no place of the proxy's own."""
        route = x.route
        if route is None:
            raise ClientError(Reason.PATH_UNKNOWN, "the proxy's own places are for people", status=404)
        needed = self.witness.understand(x, route)
        if needed is not None:
            self._wait(x, self._detours.read(x, needed, None))
            return
        self.carry_out(x, route, self.machines.decide(x, machine, route))

    def carry_out(self, x: Exchange, route: Route, decision: Decision) -> None:
        """Put the decision on record, as far as locks leave it, then do as it says."""
        if self.locks.by_id:
            decision = locked.applied(self.locks, x, route.name, decision, self.settings.strongest)
        if decision.spend:
            self._wait(x, self._detours.spend(x, decision))
            return
        if decision.effect is Effect.ALLOW and (decision.obligations is not None or route.masking is not None):
            decision = self._oblige(x, route, decision)
        self.record(x, route.name, decision)
        if decision.effect is Effect.ALLOW:
            self._forward(x, route, Permitted(decision))
        elif decision.challenge in ASKED_OF_PEOPLE and self._detours.may_keep(x):
            self._detours.keep(x, route, decision)
        else:
            self.responder.decline(x, decision)
            self.finish(x, None)

    def _oblige(self, x: Exchange, route: Route, decision: Decision) -> Decision:
        """What a permission comes with: the masks for this reader, and how much of it is left.

        Raises ClientError(LIMIT_REACHED, 429).
        """
        duty = decision.obligations
        if route.masking is not None:
            assert x.facts is not None
            masks = route.masking.masks_for(x.facts, duty)
            if masks and route.reports:
                decision = replace(decision, reported=(*decision.reported, *(f"{mask.name}:mask" for mask in masks)))
            elif masks:
                if x.head.websocket and not route.masking.leaves_websockets:
                    raise ClientError(Reason.ANSWER_NOT_INSPECTABLE, "nobody looks into a WebSocket", status=403)
                x.masks = masks
                duty = replace(duty or Obligations(), masks=tuple(mask.name for mask in masks))
                decision = replace(decision, obligations=duty)
        if duty is not None and duty.limit:
            x.retry_after = self.allowances.take(duty.limit, who_asks(x), x.started)
            if x.retry_after:
                raise ClientError(Reason.LIMIT_REACHED, f"the limit of the rule {decision.rule}", status=429)
            x.allowance = duty.limit
        return decision

    # ---- 1 hygiene, 2 routes ----

    def _admit(self, x: Exchange) -> None:
        """Is anything decided at all just now, and is this a request that anyone may send?"""
        if not self.link.alive():
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "the lease of the link to control ran out")
        if self.draining:
            if self.refusing or x.head.noted[UPGRADE] is not None:
                raise UnavailableError(Reason.SHUTTING_DOWN, "this worker is ending")
            x.close = True
        if not x.head.ordinary:
            self._admit_particular(x, x.head)

    def _admit_particular(self, x: Exchange, head: RequestHead) -> None:
        if head.method in (b"TRACE", b"CONNECT"):
            x.close = True
            raise ClientError(Reason.METHOD_REFUSED, head.method.decode(), status=405)
        expect = head.noted[EXPECT]
        if expect is not None and expect.lower() != b"100-continue":
            raise ClientError(Reason.EXPECTATION_FAILED, "only 100-continue", status=417)
        upgrade = head.noted[UPGRADE]
        if upgrade is not None and b"websocket" in upgrade.lower():
            check_handshake(
                head.method,
                head.minor,
                upgrade,
                head.noted[CONNECTION],
                head.noted[WS_KEY],
                head.noted[WS_VERSION],
                has_body=head.has_body,
            )

    # ---- 4 5 identify ----

    def _identify(self, x: Exchange) -> CachedSession | Reason | None:
        """The session behind the cookie, why there is none, or None: control has to be asked."""
        way = x.way
        if way is not None and way.cookie is not None:
            x.cookie, x.rest_cookies = way.cookie, way.rest_cookies
        else:
            header = x.head.noted[COOKIE]
            if header is None:
                return Reason.LOGIN_REQUIRED
            found, x.rest_cookies, repeated = cookies.take(header, self._own_cookies)
            if repeated:
                return Reason.COOKIE_REPEATED
            x.cookie = found.get(self._session_cookie, b"")
            if way is not None:
                way.cookie, way.rest_cookies = x.cookie, x.rest_cookies
        if not x.cookie:
            return Reason.LOGIN_REQUIRED
        return self.sessions.find(x.cookie, x.host, x.at)

    async def _ask_control(self, x: Exchange) -> None:
        found = await self.sessions.fetch(x.cookie, x.host)
        if not x.done:
            self.look_again(x)
            self._go_on(x, found)

    def _wait(self, x: Exchange, work: Coroutine[object, object, None]) -> None:
        """Go on with this, which waits for something; a body that comes in the meantime waits as well."""
        x.waiting += 1
        self._spawn(self._waiting(x, work))

    async def _waiting(self, x: Exchange, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except ZtError as error:
            self._refuse(x, error)
        except Exception:
            log.exception("a stage failed", request_id=x.request_id)
            self._refuse(x, ZtError(Reason.INTERNAL_ERROR))
        except asyncio.CancelledError:
            self.unanswered(x)
            raise
        finally:
            try:
                x.release_early()
            except Exception:
                log.exception("a body was not passed on", request_id=x.request_id)
                self._refuse(x, ZtError(Reason.INTERNAL_ERROR))
            if x.done and not x.recorded:  # nobody waits any more, but the request is on record all the same
                with contextlib.suppress(UnavailableError):
                    self.record(x, x.route.name if x.route else "", Decision(Effect.DENY, Reason.CLIENT_GONE))

    async def found_again(self, x: Exchange, found: CachedSession | Reason) -> CachedSession | Reason:
        """Who asks, after something took its time: their session may have changed or ended. Raises as `look_again`."""
        if isinstance(found, CachedSession) and not self.sessions.is_current(found):
            found = await self.sessions.fetch(x.cookie, x.host)
        x.session = found if isinstance(found, CachedSession) else None
        if not x.done:
            self.look_again(x)
        return found

    def look_again(self, x: Exchange) -> None:
        """Control took its time: by now the connection may be asked for a certificate that it was not asked for."""
        if not x.connection.serves(x.host):
            raise ClientError(Reason.MISDIRECTED, "not the host of this connection any more", status=421)
        if x.connection.shown is not None:
            self.machines.identify(x, x.connection.shown)

    def unanswered(self, x: Exchange) -> None:
        """Control does not say who asks, and will not: nobody waits any longer."""
        self._refuse(x, UnavailableError(Reason.CONTROL_UNAVAILABLE, "control gave no answer"))

    # ---- 6 to 9 policy and record ----

    def decide(self, x: Exchange, route: Route, found: CachedSession | Reason) -> Decision:
        """What the policy of this moment says."""
        entry, way = x.session, x.way
        if entry is None:
            return self._decide_stranger(x, route, found)
        session = entry.session
        granted = way.granted if way is not None else None
        if granted is not None and granted.to is session:
            decision, x.circumstances, x.statement = granted.decision, granted.circumstances, granted.statement
        else:
            decision = self.judge(x, route, session)
        if decision.effect is Effect.ALLOW:
            if route.limits_session:
                decision = route_challenge(route, entry, self.sessions, x.at) or decision
            if decision.effect is Effect.ALLOW and self._is_activity(x, route):
                self.sessions.active(entry, x.at)
        return decision

    def _decide_stranger(self, x: Exchange, route: Route, found: CachedSession | Reason) -> Decision:
        decision = route.policy.decide(self.witness.facts(x, route, None, None))
        if decision.challenge is ChallengeKind.LOGIN and isinstance(found, Reason):
            return Decision(Effect.CHALLENGE, found, challenge=ChallengeKind.LOGIN, reported=decision.reported)
        return decision

    def judge(self, x: Exchange, route: Route, session: Session) -> Decision:
        """Ask the policy; keep a permission that depends on nothing but the session and what the way says."""
        way = x.way
        facts = self.witness.facts(x, route, session.principal, session)
        decision = route.policy.decide(facts)
        if decision.effect is Effect.ALLOW:
            x.statement = stated(x, decision)
            if way is not None and not route.limits_session and keeps(route) and route.policy.is_timeless(facts):
                x.circumstances = self._describe(x, route.name, session, decision)
                way.granted = Granted(session, decision, x.circumstances, x.statement)
        return decision

    def _describe(self, x: Exchange, route: str, who: Session | Machine | None, decision: Decision) -> Circumstances:
        return self.recorder.describe(route, x.host, x.head.method, x.client, who, decision, x.act, x.origin, x.risk)

    def _is_activity(self, x: Exchange, route: Route) -> bool:
        """A person did this: a navigation or an unsafe request, and not one the route says to ignore (FIELD 15)."""
        way = x.way
        if way is not None and way.activity is not None:
            return way.activity
        assert x.target is not None
        activity = (x.head.method not in SAFE_METHODS or browser.is_navigation(x.head)) and (
            route.ignore is None or route.ignore.fullmatch(x.target.path) is None
        )
        if way is not None:
            way.activity = activity
        return activity

    def record(self, x: Exchange, route: str, decision: Decision) -> None:
        """Exactly one decision record per request, before anything follows from it."""
        path = x.target.path if x.target is not None else x.head.target.partition(b"?")[0][:1024]
        circumstances = x.circumstances
        if circumstances is None or decision.effect is not Effect.ALLOW:
            who = x.session.session if x.session is not None else self.machines.on_record(x)
            circumstances = self._describe(x, route, who, decision)
        x.decision = decision
        self.recorder.decision(x.id, x.at, path, circumstances, "websocket" if x.head.websocket else "http")
        x.recorded = True
        self.metrics.decision(decision.reason)

    # ---- 10 no ----

    def _refuse(self, x: Exchange, error: ZtError) -> None:
        """Answer an error of any stage, recording the denial if no decision was recorded yet. Never raises."""
        if x.done:
            return
        try:
            self._deny(x, error)
        except Exception:
            log.exception("a denial failed", request_id=x.request_id)
            x.done = True
            x.connection.abort()

    def _deny(self, x: Exchange, error: ZtError) -> None:
        if error.reason is Reason.MALFORMED:
            x.close = True  # RFC 9112 §11.2
        if not x.recorded:
            try:
                route = x.route.name if x.route is not None else ""
                self.record(x, route, Decision(Effect.DENY, error.reason))
            except UnavailableError as failed:
                error = failed
            except Exception:
                log.exception("a denial was not recorded", request_id=x.request_id)
                error = ZtError(Reason.INTERNAL_ERROR)
        if x.relay is not None:
            x.relay.fail(error)  # gives the platform's connection up: its answer would be taken for another's
        else:
            self.responder.error(x, error)
        self.finish(x, error)

    def malformed(self, x: Exchange, error: ZtError) -> None:
        """The bytes of a connection stopped being HTTP: deny what they were going to be, and close."""
        x.close = True
        self._refuse(x, error)
        x.wake()

    def _answer_preflight(self, x: Exchange, route: Route) -> None:
        origin = x.head.noted[browser.ORIGIN]
        if origin is None or origin not in route.cors_origins:
            raise ClientError(Reason.CROSS_ORIGIN, "preflight from an origin that the route does not name", status=403)
        self.record(x, route.name, Decision(Effect.ALLOW, Reason.PREFLIGHT))
        self.responder.preflight(x, route, origin)
        self.finish(x, None)

    # ---- 11 yes ----

    def _forward(self, x: Exchange, route: Route, permit: Permitted) -> None:
        assert x.target is not None
        entry, make = x.session, route.relay
        if entry is not None:
            identity = self._identity(x, route, entry.session)
        elif x.machine is not None:
            identity = route.identity.machine(x.machine.machine, x.statement)
            make = Relay  # an integration reads no pages
        else:
            identity = route.identity.anonymous()
        if route.masking is not None:
            make = partial(route.masking.relay, x.masks)
        request = outgoing.request_head(x, route, x.target, identity)
        self.relay(x, make, permit, route.pool, request, self.responder.response_lines(x, route), route.body_limit)

    def _identity(self, x: Exchange, route: Route, session: Session) -> bytes:
        """The identity headers of a person: what was signed for this way last, as long as it may be sent again."""
        way = x.way
        if way is None:
            return route.identity.signed(session, x.statement).lines
        signed = way.signed
        if signed is None or way.statement is not x.statement or not self.signer.good(signed, session, x.at):
            signed = way.signed = route.identity.signed(session, x.statement)
            way.statement = x.statement
        return signed.lines

    def _to_portal(self, x: Exchange, found: CachedSession | Reason) -> None:
        """The proxy's own places: a closed list, served by the portal behind its private socket (ZT-APP-01)."""
        assert x.target is not None
        head = x.head
        permit: Internal | None = internal(x.target.path, head.method, portal=x.host == self.routes.portal_host)
        if permit is None or head.websocket:
            raise ClientError(Reason.PATH_UNKNOWN, "not a place of the proxy at this host", status=404)
        cookie = head.noted[COOKIE]
        if permit.place is InternalPlace.BACK_CHANNEL_LOGOUT:
            # From the provider's server, which has no Origin and no session: what it sends is signed. A browser gains
            # nothing by sending it, because its cookie is not passed on.
            cookie = x.session = None
        else:
            browser.check_origin(head, b"https://" + x.host.encode(), frozenset())
        if permit.place is InternalPlace.PREFLIGHT:
            preflight.check(head)
            self._wait(x, self._detours.preflight(x, found))
            return
        self.record(x, "", INTERNAL)
        if permit.place is InternalPlace.ACTIVITY and x.session is not None:
            reported(self.routes.at(x.host), x.session, self.sessions, x.at)
        sid = x.session.session.sid if x.session is not None else None
        identity = self.signer.portal_header(host=x.host, client=x.client, sid=sid, request_id=x.request_id)
        request = outgoing.portal_head(x, x.target, identity, self.own_pairs(cookie))
        lines = self.responder.response_lines(x, None)
        self.relay(x, Relay, permit, self.portal_pool, request, lines, PORTAL_BODY_LIMIT)

    def own_pairs(self, header: bytes | None) -> bytes:
        """The proxy's own cookies of a Cookie header, for the portal; none if any is there twice."""
        if header is None:
            return b""
        found, _, repeated = cookies.take(header, self._own_cookies)
        return b"" if repeated else b"; ".join(b"%b=%b" % pair for pair in found.items())

    def relay(
        self,
        x: Exchange,
        make: NewRelay,
        permit: Permitted | Internal,
        pool: UpstreamPool,
        request: bytes,
        extra: bytes,
        limit: int,
    ) -> None:
        if not x.head.ordinary:
            self.go_ahead(x)
        relay = x.relay = make(permit, x, x.connection, pool, x.head, request, extra, limit, self._own_cookies)
        if x.head.ordinary:
            relay.request_ended = x.request_ended
        elif x.head.websocket and x.route is not None and x.route.profile is not None:
            relay.must_switch = True
        pool.take(relay)

    def go_ahead(self, x: Exchange) -> None:
        """Tell a client that waits for it to send its body (RFC 9110 §10.1.1)."""
        if x.head.noted[EXPECT] is not None and x.head.has_body and not x.continued:
            x.continued = True
            x.connection.write(CONTINUE)

    def tunnel(self, x: Exchange, relay: Relay, extensions: bool) -> None:
        """The platform agreed to a WebSocket: frames go through until either side or the policy ends it."""
        most = self.settings.limits.websocket_message
        profile = x.route.profile if x.route is not None else None
        if profile is not None and profile.reads_messages:
            tunnel: WebSocketTunnel = MessageTunnel(x, relay, most, self._messages)
        else:
            tunnel = WebSocketTunnel(x, relay, most, extensions)
        x.tunnel = tunnel
        early = x.connection.begin_tunnel()
        if early:
            tunnel.from_client(early)

    def record_message(self, x: Exchange, act: Act, decision: Decision) -> None:
        """A decision about a message of an open socket, under the request's own id. Raises UnavailableError."""
        assert x.target is not None
        who = x.session.session if x.session is not None else self.machines.on_record(x)
        route = x.route.name if x.route is not None else ""
        circumstances = self.recorder.describe(
            route, x.host, x.head.method, x.client, who, decision, act, x.origin, x.risk
        )
        self.recorder.decision(x.id, self.clock.now(), x.target.path, circumstances, "websocket-message")
        self.metrics.decision(decision.reason)

    def at_new_route(self, x: Exchange, route: Route) -> None:
        """A reload put another route in place of this request's: its profile says what it means now. Where that stands
        in a body, one that has gone on keeps what it meant when it was decided."""
        before = x.act
        if self.witness.understand(x, route) is not None and x.relay is not None:
            x.act = before

    def still_allowed(self, x: Exchange) -> Reason | None:
        """Decide an open stream again. None: it may go on; else why not."""
        if self.locks:
            reason = locked.turned(self.locks, x, self.settings.strongest, self.clock.now())
            if reason is not None:
                return reason
        if x.connection.shown is not None:
            turned = self.machines.turned(x, x.connection.shown, self.clock.now())
            if turned is not None or x.machine is not None:
                return turned
        route, entry = x.route, x.session
        if route is None or x.target is None or x.relay is None:
            return None  # the portal's, or not decided yet
        opened = x.decision
        if opened is None or opened.effect is not Effect.ALLOW:
            return None  # a form on its way to be kept, which nobody allowed
        session = entry.session if entry is not None else None
        now = self.clock.now()
        if session is not None and (x.at > session.absolute_deadline or now >= session.absolute_deadline):
            return Reason.SESSION_EXPIRED
        principal = session.principal if session is not None else None
        facts = self.witness.facts(x, route, principal, session, now=now)
        decision = route.policy.decide(facts)
        if x.tunnel is not None and not x.tunnel.reads and route.profile is not None and route.profile.reads_messages:
            return Reason.ACTION_UNKNOWN  # opened when nobody read its messages, and nobody can begin in their midst
        if decision.effect is Effect.ALLOW:
            return masks_turned(x, route, facts, decision)
        spent = opened.level if opened.once else Level.SINGLE
        if decision.challenge in ASKED_OF_PEOPLE and route.policy.allows_at_any_age(facts, spent):
            return None  # a proof that grew old, or was spent, ends no stream that was opened with it; an approval does
        return decision.reason

    # ---- 12 finally ----

    def finish(self, x: Exchange, error: ZtError | None) -> None:
        """The one end of every request: its record, its figures, and the connection's next turn."""
        if x.done:
            return
        relay = x.relay
        if error is not None and relay is not None and not x.status:
            if x.tunnel is not None:
                x.close = True
            elif relay.answered:
                x.connection.abort()
            elif error.status != 499:
                x.relay = None
                self._answer(x, error)
        x.done = True
        status, sent, received, masked = x.status, 0, 0, 0
        if relay is not None:
            status = x.status or relay.status
            sent, received, masked = relay.bytes_out, relay.bytes_in, relay.masked
            x.close = x.close or relay.must_close or x.tunnel is not None
        if x.allowance:
            self.allowances.spend(x.allowance, who_asks(x), sent)
        duration = self.clock.monotonic() - x.started
        reason = error.reason.value if error is not None else ""
        if x.recorded:
            try:
                self.recorder.end(x.id, x.at + duration, status, received, sent, duration, reason, masked)
            except Exception:
                log.exception("an end was not recorded", request_id=x.request_id)
        self.metrics.request(x.route.name if x.route is not None else "", status, duration)
        x.relay = None  # breaks the cycle of owner and relay: no work for the garbage collector
        x.connection.answered(x, close=x.close)

    def _answer(self, x: Exchange, error: ZtError) -> None:
        """Say what a relay failed of. Never raises: nobody above would end the request."""
        try:
            self.responder.error(x, error)
        except Exception:
            log.exception("an error was not answered", request_id=x.request_id)
            x.connection.abort()

    async def close(self) -> None:
        """Nobody waits for control any more; who still did is put on record."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _limits(settings: WorkerSettings) -> dict[str, Limit]:
    return {
        unlock_key(route.name, rule.id): rule.limit
        for route in settings.routes
        for rule in route.rules.rules
        if rule.limit is not None
    }
