"""The stages of a request that comes with a client certificate: who it is, how often it may ask, what it may do.

A machine never becomes a person, nor a person a machine: a session beside a certificate is refused (ZT-SESS-12), rules
for people allow a machine nothing, and whatever it is told, it is told as problem+json.
"""

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.session import Machine
from zt_proxy.core.types import Decision, Effect
from zt_proxy.worker.gateway import browser
from zt_proxy.worker.gateway.exchange import Exchange, Granted
from zt_proxy.worker.gateway.facts import Witness, keeps, masks_turned, stated
from zt_proxy.worker.gateway.routes import Route
from zt_proxy.worker.identify.integrations import Integrations, KnownMachine, Shown
from zt_proxy.worker.protect.limits import RateLimits
from zt_proxy.worker.record import Recorder
from zt_proxy.worker.settings import WorkerSettings
from zt_proxy.worker.wire import cookies
from zt_proxy.worker.wire.hygiene import Kind

COOKIE = int(Kind.COOKIE)


class Machines:
    """One gateway's part for integrations."""

    def __init__(self, settings: WorkerSettings, recorder: Recorder, witness: Witness) -> None:
        self.integrations = Integrations(settings.integrations)
        self._rates = RateLimits(
            {one.name: one.rate for one in settings.integrations if one.rate is not None}, settings.rate_shares
        )
        self._recorder = recorder
        self._witness = witness
        self._session_cookie = settings.session_cookie.encode()
        self._own_cookies = frozenset(
            (self._session_cookie, settings.login_cookie.encode(), settings.device_cookie.encode())
        )

    def identify(self, x: Exchange, shown: Shown) -> KnownMachine | None:
        """The machine that asks; None: nobody showed a certificate, and nobody had to.

        Raises ClientError with the reason why the certificate does not count, 403, or TOO_MANY_REQUESTS, 429.
        """
        found = self.integrations.identify(shown, x.at)
        if found is None:
            return None
        if isinstance(found, Reason):
            raise ClientError(found, f"sha256 {shown.fingerprint}", status=403)
        x.machine = found
        if self._has_session(x):
            raise ClientError(Reason.CREDENTIALS_MIXED, "a session cookie beside a certificate", status=403)
        bucket = self._rates.of(found.machine.principal.integration)
        if bucket is not None:
            x.retry_after = bucket.take(x.started)
            if x.retry_after:
                raise ClientError(Reason.TOO_MANY_REQUESTS, "the integration's rate", status=429)
        return found

    def _has_session(self, x: Exchange) -> bool:
        """Whether a session cookie came along, good or not; what other cookies there are is kept for the platform."""
        way = x.way
        if way is not None and way.cookie is not None:
            x.cookie, x.rest_cookies = way.cookie, way.rest_cookies
            return bool(x.cookie)
        header = x.head.noted[COOKIE]
        if header is not None:
            found, x.rest_cookies, repeated = cookies.take(header, self._own_cookies)
            if repeated:
                return True
            x.cookie = found.get(self._session_cookie, b"")
        if way is not None:
            way.cookie, way.rest_cookies = x.cookie, x.rest_cookies
        return bool(x.cookie)

    def decide(self, x: Exchange, known: KnownMachine, route: Route) -> Decision:
        """What the route's rules let this integration do."""
        way, machine = x.way, known.machine
        if way is not None:
            granted = way.granted
            if granted is not None and granted.to is machine:
                x.circumstances, x.statement = granted.circumstances, granted.statement
                return granted.decision
        head = x.head
        if not head.ordinary and (head.noted[browser.ORIGIN] or head.noted[browser.FETCH_SITE]) is not None:
            # A browser that holds the certificate: another site's page must not use it. Not every browser sends both.
            browser.check_origin(head, route.origin, route.cors_origins)
        facts = self._witness.facts(x, route, machine.principal, None)
        decision = route.machines.decide(machine.principal.integration, facts)
        if decision.effect is Effect.ALLOW:
            x.statement = stated(x, decision)
            if way is not None and keeps(route) and route.machines.is_timeless(machine.principal.integration, facts):
                x.circumstances = self._recorder.describe(
                    route.name, x.host, head.method, x.client, machine, decision, x.act, x.origin
                )
                way.granted = Granted(machine, decision, x.circumstances, x.statement)
        return decision

    def turned(self, x: Exchange, shown: Shown, now: float) -> Reason | None:
        """Judge the certificate, and decide an open stream again. None: it may go on, as far as this goes."""
        route, target = x.route, x.target
        if route is None or target is None or x.relay is None:
            return None  # the portal's, or not decided yet
        found = self.integrations.identify(shown, now)
        if isinstance(found, Reason):
            return found
        if found is None or x.machine is None:
            # Nobody has to show a certificate: what a machine began goes on no more, what a person began may.
            return None if x.machine is None else Reason.CERTIFICATE_UNKNOWN
        x.machine = found
        principal = found.machine.principal
        facts = self._witness.facts(x, route, principal, None, now=now)
        decision = route.machines.decide(principal.integration, facts)
        return masks_turned(x, route, facts, decision) if decision.effect is Effect.ALLOW else decision.reason

    def on_record(self, x: Exchange) -> Machine | None:
        """Whose certificate it is, for the record: also one that is nobody's, or that nobody asked about until now."""
        if x.machine is not None:
            return x.machine.machine
        shown = x.connection.shown
        if shown is None:
            return None
        try:
            found = self.integrations.identify(shown, x.at)
        except Exception:
            return shown.stranger  # what is refused is on record all the same, though nobody can say for whom
        return found.machine if isinstance(found, KnownMachine) else shown.stranger
