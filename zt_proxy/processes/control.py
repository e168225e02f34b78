"""Control: the one writer of the store, the portal, the audit log, the keys. Wiring only."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog
from aiohttp import web

from zt_proxy.control.approvals.manager import Approvals
from zt_proxy.control.approvals.store import ApprovalStore
from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.control.audit.writer import AuditWriter
from zt_proxy.control.devices.mail import Outbox
from zt_proxy.control.devices.store import KnownDevices
from zt_proxy.control.factors.manager import Factors, Prepared, open_factors, prepare
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.identity.refresh import Refresher
from zt_proxy.control.integrations.revocation import Source
from zt_proxy.control.integrations.watch import CrlWatcher
from zt_proxy.control.locks.manager import LockManager
from zt_proxy.control.locks.store import LockStore
from zt_proxy.control.portal.app import build_portal
from zt_proxy.control.portal.runner import PortalRunner
from zt_proxy.control.portal_verifier import AssertionPortalVerifier
from zt_proxy.control.risk.judge import Judge, origins_of
from zt_proxy.control.risk.people import KnownPeople
from zt_proxy.control.session.manager import SessionManager, open_sessions
from zt_proxy.control.settings import ControlSettings
from zt_proxy.control.watch.manager import Watch
from zt_proxy.control.watch.webhooks import Webhook
from zt_proxy.core.clock import Clock
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.private import private_directory
from zt_proxy.link.messages import SessionAuthority, WorkersLink
from zt_proxy.policy.geo import Origins

KEY_CHECK = 60.0
"""Seconds between looks whether the assertion key is due for rotation."""
OVERLAP = 10.0
"""Seconds for which the portal of before still answers those who hold a connection to it."""

log = structlog.get_logger("zt_proxy.control")


class ControlSideLink(WorkersLink, Protocol):
    """The link's end that control holds, and lets go of at its own end."""

    def close(self) -> Awaitable[None] | None: ...


L = TypeVar("L", bound=ControlSideLink)
Connect = Callable[[SessionAuthority, KeyRing], L]
"""Makes the link over which workers ask this authority."""


class Front:
    """The portal of one configuration: its providers, and its server at the private socket."""

    def __init__(
        self,
        settings: ControlSettings,
        providers: dict[str, OidcProvider],
        runner: PortalRunner,
        revocation: list[Source],
        factors: Prepared,
        origins: Origins,
        webhooks: list[Webhook],
    ) -> None:
        self.settings = settings
        self.revocation = revocation
        self.factors = factors
        self.origins = origins
        self.webhooks = webhooks
        self._providers = providers
        self._runner = runner

    @property
    def refreshing(self) -> list[OidcProvider]:
        """Providers that are asked again who their people are."""
        return [self._providers[each.name] for each in self.settings.providers if each.refresh]

    @property
    def _waiting(self) -> Path:
        return self.settings.socket.with_suffix(".new")

    async def listen(self) -> None:
        """Serve beside the socket that workers know. Raises OSError."""
        await self._runner.setup()
        await _serve_privately(self._runner, self._waiting)

    def take_over(self) -> None:
        """From now on the socket that workers know leads here; what is connected to the one before stays."""
        self._waiting.rename(self.settings.socket)

    async def close(self) -> None:
        await self._runner.cleanup()
        for provider in self._providers.values():
            await provider.close()


class Control(Generic[L]):
    """Use `await Control.open(...)`, then `start`; `stop` leaves everything durable."""

    def __init__(
        self,
        settings: ControlSettings,
        clock: Clock,
        ring: KeyRing,
        sessions: SessionManager,
        factors: Factors,
        devices: KnownDevices,
        people: KnownPeople,
        locks: LockStore,
        approvals: ApprovalStore,
        watch: Watch,
        audit: AuditWriter,
        keys: AssertionKeys,
        link: L,
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.factors = factors
        self.devices = devices
        self.judge = Judge(people, sessions, clock)
        self.outbox = Outbox(clock, settings.mail)
        self.audit = audit
        self.keys = keys
        self.ring = ring
        self.link = link
        self.locks = LockManager(locks, link, audit.write, clock)
        self.approvals = Approvals(approvals, sessions, audit.write, clock)
        self.watch = watch
        watch.use(self.locks)
        self.revocation = CrlWatcher(clock, settings.state_dir / "crl-numbers.json", link.revocation_lists)
        self.clock = clock
        self.refresher = Refresher(sessions.at_provider, clock)
        self._front: Front | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, settings: ControlSettings, clock: Clock, connect: Connect[L]) -> "Control[L]":
        """Open or create everything under `state_dir`. Raises ConfigurationError, UnavailableError, OSError."""
        for directory in (settings.state_dir, settings.runtime_dir, settings.audit.directory):
            private_directory(directory)
        ring = KeyRing.load_or_create(settings.state_dir / "worker.keys")
        keys = AssertionKeys.load_or_create(
            settings.state_dir, clock, settings.assertion_rotation, settings.assertion_overlap
        )
        sessions = await open_sessions(settings, ring, clock)
        store_ring = KeyRing.load_or_create(settings.state_dir / "store.keys")
        factors = await open_factors(settings.factors, settings.state_dir, store_ring, clock)
        devices = await KnownDevices.open(settings.state_dir, clock)
        people = await KnownPeople.open(settings.state_dir, clock)
        locks = await LockStore.open(settings.state_dir)
        approvals = await ApprovalStore.open(settings.state_dir)
        audit = AuditWriter(settings.audit, settings.runtime_dir, clock)
        watch = await Watch.open(settings.watch, settings.state_dir, clock, audit, sessions.directory().groups_of)
        link = connect(sessions, ring)
        return cls(
            settings, clock, ring, sessions, factors, devices, people, locks, approvals, watch, audit, keys, link
        )

    async def start(self) -> None:
        """Serve the portal, write the log, keep the store in order."""
        await self.audit.start()
        self.audit.watch = self.watch.take
        self.watch.start()
        self.sessions.on_change(self.link.invalidate)
        self.sessions.note = self.audit.write
        self.sessions.at_provider.heard = self.judge.renewed
        self.link.signing_key(self.keys.current())
        await self.locks.start()
        await self.approvals.start()
        await self.adopt(await self.prepare(self.settings))
        self._tasks.append(asyncio.create_task(self.sessions.run(asyncio.sleep), name="sessions"))
        self._tasks.append(asyncio.create_task(self.refresher.run(), name="refresh"))
        self._tasks.append(asyncio.create_task(self.outbox.run(), name="mail"))
        self._tasks.append(asyncio.create_task(self.judge.run(), name="address-databases"))
        self._tasks.append(asyncio.create_task(self._rotate_keys(), name="assertion-keys"))
        self._tasks.append(asyncio.create_task(self.revocation.run(), name="revocation"))
        self._tasks.append(asyncio.create_task(self.locks.run(), name="locks"))
        self._tasks.append(asyncio.create_task(self.approvals.run(), name="approvals"))

    async def stop(self) -> None:
        for task in (*self._tasks, *self._closing):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._closing, return_exceptions=True)
        await self.refresher.close()
        if self._front is not None:
            await self._front.close()
        closing = self.link.close()
        if closing is not None:
            await closing
        await self.audit.drain()
        await self.watch.finish()
        await self.approvals.close()
        await self.sessions.close()
        await self.factors.close()
        await self.devices.close()
        await self.judge.close()
        await self.locks.close()
        await self.audit.stop()
        await self.watch.stop()

    # ---- reload ----

    async def prepare(self, settings: ControlSettings) -> Front:
        """Build the portal of new settings beside the one in force. Raises ConfigurationError, OSError."""
        redirect_uri = settings.portal_origin + "/.zt/callback"
        providers = {
            each.name: OidcProvider(each, redirect_uri=redirect_uri, clock=self.clock) for each in settings.providers
        }
        portal = build_portal(
            settings,
            self.sessions,
            providers,
            self.ring,
            self.clock,
            self.keys.jwks,
            AssertionPortalVerifier(self.keys, settings.portal_origin, self.clock),
            self.factors,
            self.devices,
            self.outbox,
            self.judge,
            self.approvals,
            self.locks,
            self.watch.alerts.put,
        )
        revocation = await self.revocation.prepare(settings.revocation)
        origins = await asyncio.to_thread(origins_of, settings, self.judge.origins)
        front = Front(
            settings,
            providers,
            PortalRunner(portal),
            revocation,
            prepare(settings.factors),
            origins,
            self.watch.prepare(settings.watch),
        )
        try:
            await front.listen()
        except BaseException:
            await front.close()
            raise
        return front

    async def adopt(self, front: Front) -> None:
        """Put a prepared portal and its settings in force."""
        before, self._front = self._front, front
        front.take_over()
        self.revocation.adopt(front.revocation)
        self.settings = settings = front.settings
        self.refresher.use(front.refreshing)
        self.sessions.configure(settings.session)
        self.factors.use(front.factors)
        self.judge.use(front.origins, settings.risk)
        self.watch.adopt(settings.watch, front.webhooks)
        await self.sessions.tighten(before.settings if before is not None else None, settings)
        self.outbox.configure(settings.mail)
        self.keys.schedule(settings.assertion_rotation, settings.assertion_overlap)
        for name in settings.insecure:
            log.warning("insecure switch is on", switch=name)
        if before is not None:
            task = asyncio.create_task(_close_later(before), name="former-portal")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # ---- upkeep ----

    def problem(self) -> str:
        """What keeps control from doing its work; empty when nothing does."""
        for task in self._tasks:
            if task.done():
                return f"the task {task.get_name()} ended"
        return self.audit.problem()

    def notes(self) -> tuple[str, ...]:
        """What is not as it should be, though control does its work: no reason to send traffic elsewhere."""
        return (*self.revocation.problems(), *self.refresher.problems(), *self.judge.problems(), *self.watch.problems())

    async def _rotate_keys(self) -> None:
        while True:
            if self.keys.due(self.clock.now()):
                self.keys.rotate()
                self.link.signing_key(self.keys.current())
                log.info("assertion key rotated", kid=self.keys.current().kid)
            await asyncio.sleep(KEY_CHECK)


async def _close_later(front: Front) -> None:
    try:
        await asyncio.sleep(OVERLAP)
    finally:
        await front.close()


async def _serve_privately(runner: web.AppRunner, path: Path) -> None:
    """A unix socket that only this user can reach, also in the moment of its making."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
