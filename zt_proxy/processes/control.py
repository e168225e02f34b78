"""Control: the one writer of the store, the portal, the audit log, the keys. Wiring only."""

import asyncio
import contextlib
import os
from pathlib import Path

import structlog
from aiohttp import web

from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.control.audit.writer import AuditWriter
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.portal.app import build_portal
from zt_proxy.control.portal.runner import PortalRunner
from zt_proxy.control.portal_verifier import AssertionPortalVerifier
from zt_proxy.control.session.manager import SessionManager, open_sessions
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.private import private_directory
from zt_proxy.link.memory import MemoryLink

KEY_CHECK = 60.0
"""Seconds between looks whether the assertion key is due for rotation."""

log = structlog.get_logger("zt_proxy.control")


class Control:
    """Use `await Control.open(...)`, then `start`; `stop` leaves everything durable."""

    def __init__(
        self,
        settings: ControlSettings,
        clock: Clock,
        ring: KeyRing,
        sessions: SessionManager,
        audit: AuditWriter,
        keys: AssertionKeys,
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.audit = audit
        self.keys = keys
        self.ring = ring
        self.link = MemoryLink(sessions)
        self._clock = clock
        self._providers: dict[str, OidcProvider] = {}
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, settings: ControlSettings, clock: Clock) -> "Control":
        """Open or create everything under `state_dir`. Raises ConfigurationError, UnavailableError, OSError."""
        for directory in (settings.state_dir, settings.runtime_dir, settings.audit.directory):
            private_directory(directory)
        ring = KeyRing.load_or_create(settings.state_dir / "worker.keys")
        keys = AssertionKeys.load_or_create(
            settings.state_dir, clock, settings.assertion_rotation, settings.assertion_overlap
        )
        sessions = await open_sessions(settings, ring, clock)
        return cls(settings, clock, ring, sessions, AuditWriter(settings.audit, settings.runtime_dir, clock), keys)

    async def start(self) -> None:
        """Serve the portal, write the log, keep the store in order."""
        settings = self.settings
        await self.audit.start()
        self.sessions.on_change(self.link.invalidate)
        self.link.signing_key(self.keys.current())
        redirect_uri = settings.portal_origin + "/.zt/callback"
        for provider in settings.providers:
            self._providers[provider.name] = OidcProvider(provider, redirect_uri=redirect_uri, clock=self._clock)
        portal = build_portal(
            settings,
            self.sessions,
            self._providers,
            self.ring,
            self._clock,
            self.keys.jwks,
            AssertionPortalVerifier(self.keys, settings.portal_origin, self._clock),
        )
        self._runner = PortalRunner(portal)
        await self._runner.setup()
        await _serve_privately(self._runner, settings.socket)
        self._tasks.append(asyncio.create_task(self.sessions.run(asyncio.sleep), name="sessions"))
        self._tasks.append(asyncio.create_task(self._rotate_keys(), name="assertion-keys"))
        for name in settings.insecure:
            log.warning("insecure switch is on", switch=name)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        for provider in self._providers.values():
            await provider.close()
        self.link.close()
        await self.sessions.close()
        await self.audit.stop()

    def problem(self) -> str:
        """What keeps control from doing its work; empty when nothing does."""
        for task in self._tasks:
            if task.done():
                return f"the task {task.get_name()} ended"
        return self.audit.problem()

    async def _rotate_keys(self) -> None:
        while True:
            if self.keys.due(self._clock.now()):
                self.keys.rotate()
                self.link.signing_key(self.keys.current())
                log.info("assertion key rotated", kid=self.keys.current().kid)
            await asyncio.sleep(KEY_CHECK)


async def _serve_privately(runner: web.AppRunner, path: Path) -> None:
    """A unix socket that only this user can reach, also in the moment of its making."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
