"""`zt-proxy demo`: a provider, an app and the proxy on this machine, with one URL to open.

The proxy runs as the operator would run it: a process of its own, with a YAML file. Everything the demo writes is below
its state folder; everything it starts ends with it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from zt_proxy.core.clock import Clock, SystemClock
from zt_proxy.demo.app import AppConfig, build_app
from zt_proxy.demo.idp import Client, IdpConfig, build_idp
from zt_proxy.demo.layout import APP_HOST, CLIENT_ID, IDP_HOST, PORTAL_HOST, AppKind, Layout, lay_out, proxy_config
from zt_proxy.demo.node_red import READY, NodeRedCommand, NodeRedMissing, prepare
from zt_proxy.demo.people import DEMO_PEOPLE
from zt_proxy.demo.web import LoopbackResolver, serve

PORT, IDP_PORT = 8443, 8444
START_SECONDS = 45.0
STOP_SECONDS = 10.0

_MODULES = Path(__file__).parents[2] / "tests" / "real" / "node_modules"
"""Where `make demo-node-red` puts Node-RED."""

_MAY: dict[AppKind, dict[str, str]] = {
    "builtin": {
        "vera": "read and export records",
        "max": "all that, edit records, open the editor",
        "rita": "all that, see whole account numbers, and deploy",
        "olaf": "nothing: in no group that a rule allows",
        "nina": "read and export records",
    },
    "node-red": {
        "vera": "look at flows",
        "max": "look, press inject, switch debug nodes",
        "rita": "all that, and deploy",
        "olaf": "nothing: in no group that a rule allows",
        "nina": "look at flows",
    },
}

_FACTORS = {
    "max": "an app, set up at the first sign-in",
    "rita": "code; to deploy a passkey",
    "nina": "set up at the first sign-in",
}
"""Of those for whom the provider's own is not enough."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoFailed(RuntimeError):
    """A part of the demo did not start; the text says which, and what it said."""


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that runs."""

    layout: Layout
    upstream: str
    proxy: Child


@asynccontextmanager
async def demo(
    state_dir: Path,
    app: AppKind = "builtin",
    *,
    port: int = PORT,
    idp_port: int = IDP_PORT,
    modules: Path = _MODULES,
    clock: Clock | None = None,
) -> AsyncIterator[Demo]:
    """All parts of the demo, until the block ends. Raises `DemoFailed`."""
    layout = lay_out(state_dir, app, port, idp_port)
    clock = clock or SystemClock()
    async with AsyncExitStack() as parts:
        await parts.enter_async_context(provider(layout, clock))
        if app == "builtin":
            upstream = (await parts.enter_async_context(serve(build_app(_app_config(layout, clock))))).url
        else:
            upstream = await parts.enter_async_context(_node_red(layout, modules))
        layout.config.write_text(proxy_config(layout, upstream))
        proxy = await parts.enter_async_context(_proxy(layout))
        yield Demo(layout, upstream, proxy)


@asynccontextmanager
async def provider(layout: Layout, clock: Clock) -> AsyncIterator[None]:
    """The demo provider at the layout's issuer, with one client: a proxy at the layout's portal."""
    client = Client(
        client_id=CLIENT_ID,
        client_secret=layout.client_secret,
        redirect_uris=(f"{layout.portal_url}/.zt/callback",),
        post_logout_redirect_uris=(f"{layout.portal_url}/.zt/signed-out",),
        refresh=True,
        backchannel_logout_uri=f"{layout.portal_url}/.zt/back-channel-logout",
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(layout.certificate, layout.key)
    trust = ssl.create_default_context(cafile=str(layout.ca))
    idp = build_idp(IdpConfig(layout.issuer, [client], clock=clock, trust=trust))
    async with serve(idp, port=layout.idp_port, ssl=tls):
        yield


def _app_config(layout: Layout, clock: Clock) -> AppConfig:
    trust = ssl.create_default_context(cafile=str(layout.ca))
    return AppConfig(f"{layout.app_url}/.zt/jwks.json", layout.portal_url, layout.app_url, trust, clock)


@asynccontextmanager
async def _process(name: str, argv: Sequence[str], log: Path, environment: dict[str, str]) -> AsyncIterator[Child]:
    """A program in a session of its own, so that Ctrl-C reaches only us and we end it in order."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield Child(name, process, log)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


@dataclass(frozen=True, slots=True)
class Child:
    """A started program and the file with its output."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def said(self) -> str:
        """All output so far."""
        return self.log.read_text(errors="replace")

    def failed(self, why: str) -> DemoFailed:
        """The error that says so, with the end of the output."""
        tail = "\n".join(self.said().splitlines()[-15:])
        return DemoFailed(f"{self.name} {why}; the end of {self.log}:\n{tail}")

    async def until(self, probe: _Probe) -> None:
        """Wait until `probe` is true. Raises `DemoFailed` when the program ends or takes too long."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await probe(self):
                    if self.process.returncode is not None:
                        raise self.failed(f"ended with status {self.process.returncode}")
                    await asyncio.sleep(0.05)  # another program: nothing here could be awaited
        except TimeoutError:
            raise self.failed(f"did not start within {START_SECONDS:.0f} s") from None


_Probe = Callable[[Child], Awaitable[bool]]


@asynccontextmanager
async def _node_red(layout: Layout, modules: Path) -> AsyncIterator[str]:
    try:
        command: NodeRedCommand = prepare(modules, layout.folder / "node-red")
    except NodeRedMissing as problem:
        raise DemoFailed(str(problem)) from problem

    async def ready(child: Child) -> bool:
        return READY in child.said()

    log = layout.folder / "node-red.log"
    async with _process("Node-RED", command.argv, log, dict(command.environment)) as child:
        await child.until(ready)
        yield command.url


@asynccontextmanager
async def _proxy(layout: Layout) -> AsyncIterator[Child]:
    """The proxy, from when it serves its keys."""
    trust = ssl.create_default_context(cafile=str(layout.ca))
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), ssl=trust)
    argv = (sys.executable, "-m", "zt_proxy.cli.main", "run", "--config", str(layout.config))
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=2)) as http,
        _process("the proxy", argv, layout.folder / "proxy.log", dict(os.environ)) as child,
    ):

        async def ready(_: Child) -> bool:
            try:
                async with http.get(f"{layout.app_url}/.zt/jwks.json") as answer:
                    return answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                return False

        await child.until(ready)
        yield child


async def run(
    state_dir: Path,
    app: AppKind = "builtin",
    *,
    port: int = PORT,
    idp_port: int = IDP_PORT,
    modules: Path | None = None,
) -> int:
    """Run the demo until Ctrl-C or SIGTERM; gives the exit status."""
    console = Console(highlight=False)
    return await _until_stopped(console, _show(console, state_dir, app, port, idp_port, modules or _MODULES))


async def run_provider(state_dir: Path, *, port: int = PORT, idp_port: int = IDP_PORT) -> int:
    """Run the provider alone, for a proxy of one's own at `port`, until Ctrl-C or SIGTERM; gives the exit status."""
    console = Console(highlight=False)
    return await _until_stopped(console, _show_provider(console, state_dir, port, idp_port))


async def _until_stopped(console: Console, showing: Coroutine[object, object, None]) -> int:
    task = asyncio.create_task(showing)
    asked: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        # Only the first one counts: a second would break off the cleaning up.
        if not asked:
            task.cancel()
        asked.append(number)

    loop = asyncio.get_running_loop()
    for number in _STOPS:
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except DemoFailed as problem:
        console.print(f"The demo did not work: {problem}", style="bold red", markup=False)
        return 1
    except asyncio.CancelledError:
        if not asked:
            raise
        console.print("Stopped.")
        return 0
    finally:
        for number in _STOPS:
            loop.remove_signal_handler(number)
    return 0


async def _show(console: Console, state_dir: Path, app: AppKind, port: int, idp_port: int, modules: Path) -> None:
    """Start everything, say what there is, and stay. Raises `DemoFailed`."""
    console.print("Starting the provider, the app and the proxy …")
    async with demo(state_dir, app, port=port, idp_port=idp_port, modules=modules) as running:
        layout = running.layout
        if layout.port != port:
            console.print(f"Port {port} is busy: this demo is on {layout.port}.", style="yellow")
        console.print()
        console.print(f"Open  [bold]{layout.app_url}/[/bold]")
        console.print(_people(_MAY[app]))
        console.print("The provider shows its codes on the page that asks for them. No authenticator app at hand?")
        console.print("  zt-proxy demo --code SECRET   shows what one would, for the secret of the set-up page")
        console.print(f"To become someone else, sign out: {layout.portal_url}/.zt/sign-out", soft_wrap=True)
        console.print(f"The browser warns of an unknown certificate, or trusts {layout.ca}", soft_wrap=True)
        console.print(f"Rules: {layout.config}   Log: {running.proxy.log}", soft_wrap=True)
        console.print("Ctrl-C ends it.")
        await running.proxy.process.wait()
        raise running.proxy.failed("ended")


async def _show_provider(console: Console, state_dir: Path, port: int, idp_port: int) -> None:
    """Start the provider, say what a proxy has to know of it, and stay."""
    # The proxy's port is not ours to look at: the proxy that will have it may run already.
    layout = replace(lay_out(state_dir, "builtin", 0, idp_port), port=port)
    async with provider(layout, SystemClock()):
        for label, value in (
            ("Issuer", layout.issuer),
            ("Client id", CLIENT_ID),
            ("Client secret", f"in {layout.folder / 'oidc-secret'}"),
            ("Redirect URI", f"{layout.portal_url}/.zt/callback"),
            ("Certificate", f"{layout.certificate} and {layout.key.name}, for {PORTAL_HOST}, {APP_HOST}, {IDP_HOST}"),
            ("Its CA", str(layout.ca)),
        ):
            console.print(f"{label:14}[bold]{value}[/bold]", soft_wrap=True)
        console.print(_people({}))
        console.print("The second factor is shown on the page that asks for it.\nCtrl-C ends the provider.")
        await asyncio.Event().wait()


def _people(may: dict[str, str]) -> Table:
    """`may`: what each may do, by name; empty where nobody knows."""
    table = Table(title="Who can sign in", title_justify="left", title_style="bold")
    for heading in ("User", "Password", "Second factor", "Groups", *(("May",) if may else ())):
        table.add_column(heading, overflow="fold")
    for person in DEMO_PEOPLE:
        factor = (_FACTORS.get(person.username) if may else None) or ("code" if person.otp_secret else "none")
        groups = ", ".join(person.groups) or "–"
        row = [person.username, person.password, factor, groups]
        table.add_row(*row, *((may[person.username],) if may else ()))
    return table
