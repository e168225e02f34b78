"""When to read the configuration again, and what of it cannot change while the proxy runs.

SIGHUP asks at once, and so does an order of the operator's (`link.reload_order`), which may pass over what the guard
says. Files are looked at ten times a second, by name, as operators and their tools replace them: by
writing, by renaming, by turning a symbolic link (which notifications of the file system miss, as they miss most network
mounts). A change counts once it has stood still for one look, so that a certificate and its key are read together.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from zt_proxy.config import ConfigurationProblems, read
from zt_proxy.config.build import Built
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ZtError
from zt_proxy.link import reload_order
from zt_proxy.processes import guard

LOOK = 0.1
"""Seconds between looks at the files."""
AGAIN = 5.0
"""Seconds until a file that could not be put in force is tried again, though no file that is watched has changed."""
READING = 20
"""Of so many seconds, at most one goes into reading a large file that is refused again and again."""

log = structlog.get_logger("zt_proxy.reload")

Apply = Callable[[Built, int], Awaitable[None]]
"""Puts a configuration in force under an epoch. Raises ZtError or OSError, with the old one still in force."""
Fingerprint = dict[Path, tuple[int, ...]]


class Reloader:
    """Knows which configuration is in force. Run `run()` as a task."""

    def __init__(
        self, path: Path, built: Built, apply: Apply, clock: Clock, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.built = built
        self.epoch = 1
        self.loaded = clock.now()
        """Epoch seconds at which the configuration in force was taken over."""
        self.problem = ""
        """Why the files as they stand are not in force; empty when they are."""
        self.path = path
        self._apply = apply
        self._clock = clock
        self._changed = changed
        self._asked = asyncio.Event()
        self._again_at = float("inf")
        self._files = fingerprint(built.files)
        self._orders = built.control.runtime_dir
        reload_order.take(self._orders)  # what was ordered of a proxy that is gone is nothing that counts

    def ask(self) -> None:
        """Read again, changed or not (SIGHUP)."""
        self._asked.set()

    async def run(self) -> None:
        """Look and reload until cancelled."""
        seen = self._files
        while True:
            asked = await self._pause()
            order = reload_order.take(self._orders)
            now = fingerprint(self.built.files)
            still = now == seen
            seen = now
            due = self._clock.monotonic() >= self._again_at
            if order or asked or due or (still and now != self._files):
                await self.reload(again=due and not asked and not order, force=order is not None and order.force)
                if order is not None:
                    self._answer(order)
                # As they were before they were read: what changed meanwhile is seen at the next look.
                seen = self._files = {**fingerprint(self.built.files), **now}
                for gone in set(seen) - set(self.built.files):
                    del seen[gone]

    async def _pause(self) -> bool:
        try:
            async with asyncio.timeout(LOOK):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    def _answer(self, order: reload_order.Order) -> None:
        try:
            reload_order.reply(self._orders, reload_order.Answer(order.token, self.epoch, self.problem))
        except OSError as error:
            log.error("what came of the reload cannot be told", problem=str(error))

    async def reload(self, *, again: bool = False, force: bool = False) -> None:
        """Read, check and apply; what is wrong is said, and the old configuration stays in force.

        `again`: by nobody's wish; that it failed for the same reason as before need not be said again. `force`:
        whatever the guard says.
        """
        before = self.problem
        await self._reload(force=force)
        if self.problem and not (again and self.problem == before):
            log.error("configuration not taken over; the one before stays in force", problem=self.problem)
        self._changed()

    async def _guard(self, built: Built, *, force: bool) -> None:
        """Raises Unchangeable when too many of the requests on record would turn."""
        if force:
            if (self.built.guard or built.guard) is not None:
                log.warning("the guard is passed over by an operator's order")
            return
        refused = await guard.refusal(self.built, built, self._clock.now())
        if refused:
            raise Unchangeable(refused)

    async def _reload(self, *, force: bool) -> None:
        self._again_at = float("inf")
        began = self._clock.monotonic()
        try:
            built = await asyncio.to_thread(read, self.path)
            for fault in unchangeable(self.built, built):
                raise Unchangeable(fault)
            await self._guard(built, force=force)
        except Unchangeable as error:
            self.problem = str(error)
            return
        except (ConfigurationProblems, OSError) as error:
            self.problem = str(error)
            # It may be about a file that only this configuration names, and nobody looks at yet.
            now = self._clock.monotonic()
            self._again_at = now + max(AGAIN, READING * (now - began))
            return
        except Exception as error:
            log.exception("reload failed")
            self.problem = f"reading it failed: {type(error).__name__}"
            return
        try:
            await self._apply(built, self.epoch + 1)
        except Exception as error:
            if not isinstance(error, ZtError | OSError):
                log.exception("reload failed")
            self.problem = str(error) or type(error).__name__
            self._again_at = self._clock.monotonic() + AGAIN
            return
        self.built = built
        self.epoch += 1
        self.loaded = self._clock.now()
        self.problem = ""
        for warning in built.warnings:
            log.warning("configuration", problem=str(warning))
        log.info("configuration taken over", epoch=self.epoch)


class Unchangeable(Exception):
    """The file asks for what only a restart, or an operator's order, can give: until it changes, nothing is tried."""


def unchangeable(old: Built, new: Built) -> list[str]:
    """What differs and cannot change while the proxy runs, each in words for the operator."""
    faults = []
    pairs = (
        ("state_dir", old.control.state_dir, new.control.state_dir),
        ("runtime_dir", old.control.runtime_dir, new.control.runtime_dir),
        ("audit.directory", old.control.audit.directory, new.control.audit.directory),
        ("audit.rotate", old.control.audit.rotate_bytes, new.control.audit.rotate_bytes),
    )
    for name, before, after in pairs:
        if before != after:
            faults.append(f"`{name}` cannot change while the proxy runs (from {before} to {after}): restart it")
    if bool(old.workers) != bool(new.workers):
        faults.append(
            f"`workers` cannot change between one process (0) and several while the proxy runs "
            f"(from {old.workers} to {new.workers}): restart it"
        )
    return faults


def fingerprint(files: Iterable[Path]) -> Fingerprint:
    """What tells one content from another without reading: times, size and inode of each file, behind links.

    A change of rights moves the time of the inode, so that a file that could not be read is read once it can be.
    """
    seen: Fingerprint = {}
    for path in files:
        try:
            found = os.stat(path)
        except OSError:
            seen[path] = ()
        else:
            seen[path] = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
    return seen
