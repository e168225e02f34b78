"""Fixtures that drive real programs: oidc-provider and Node-RED from npm, Chromium from Debian.

Use them from another folder's conftest.py: `from tests.real.fixtures import browser, node_red, oidc_provider`.
A program that is missing skips the test, or fails it when ZT_REQUIRE_REAL=1 is set.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright

from zt_proxy.demo.node_red import EXAMPLE_FLOWS, READY, NodeRedMissing, prepare

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
CHROMIUM = "/usr/bin/chromium"
START_SECONDS = 60

USERS: dict[str, dict[str, Any]] = {
    "vera": {"password": "vera-pw", "code": "111111", "name": "Vera Voss", "groups": ["staff"]},
    "max": {"password": "max-pw", "code": "222222", "name": "Max Meyer", "groups": ["staff", "makers"]},
    "rita": {"password": "rita-pw", "code": "333333", "name": "Rita Roth", "groups": ["staff", "makers", "releasers"]},
    "olaf": {"password": "olaf-pw", "code": "444444", "name": "Olaf Ott", "groups": []},
    "nina": {"password": "nina-pw", "name": "Nina Nagel", "groups": ["staff"]},
}
"""The people whom oidc_provider.mjs knows unless a test says otherwise; nina has no second factor."""


def missing(text: str) -> None:
    """Skip with the reason, or fail where skipping is not allowed."""
    if os.environ.get("ZT_REQUIRE_REAL") == "1":
        pytest.fail(f"{text} (ZT_REQUIRE_REAL=1)")
    pytest.skip(text)


@contextmanager
def program(argv: Sequence[str], ready: str, environment: Mapping[str, str] | None = None) -> Iterator[list[str]]:
    """Run a program from when a line with `ready` came out of it until the block ends; gives its output so far."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    lines: list[str] = []
    settled = threading.Event()
    is_ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if ready in line:
                is_ready.set()
                settled.set()
        settled.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        settled.wait(START_SECONDS)
        if not is_ready.is_set():
            pytest.fail(f"{argv[1]} did not start:\n{''.join(lines[-30:])}")
        yield lines
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(5)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True)
class RunningProvider:
    """An oidc-provider that answers: its issuer URL, its port and its people."""

    issuer: str
    port: int
    users: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class RunningNodeRed:
    """A Node-RED that answers; `user_dir` holds its flows.json."""

    url: str
    port: int
    user_dir: Path


def need_node(package: str) -> str:
    """The node command, when it and the npm package are there."""
    node = shutil.which("node")
    if node is None:
        missing("Node.js is not installed; tests/real/install-debian.sh installs it")
    if not (MODULES / package).is_dir():
        missing(f"{package} is not installed; run `npm ci` in tests/real")
    assert node is not None
    return node


@pytest.fixture
def oidc_provider() -> Iterator[Callable[..., RunningProvider]]:
    """Starts oidc-provider: `oidc_provider(redirect_uris=[...], issuer="https://idp.zt.test:{port}", tls={...}, ...)`.

    Keywords: redirect_uris, post_logout_redirect_uris, client_id, client_secret, users, `registration` (more metadata of
    the client), and any top-level key of oidc_provider.mjs. A second call starts a second one.
    """
    with ExitStack() as running:

        def start(
            redirect_uris: Sequence[str],
            post_logout_redirect_uris: Sequence[str] = (),
            client_id: str = "zt",
            client_secret: str = "zt-secret",
            users: dict[str, dict[str, Any]] | None = None,
            registration: Mapping[str, Any] = {},
            **more: Any,
        ) -> RunningProvider:
            node = need_node("oidc-provider")
            client = {
                "client_id": client_id,
                "client_secret": client_secret,
                "redirect_uris": list(redirect_uris),
                "post_logout_redirect_uris": list(post_logout_redirect_uris),
                **registration,
            }
            people = USERS if users is None else users
            config = {"clients": [client], "users": people, **more}
            command = [node, str(HERE / "oidc_provider.mjs"), json.dumps(config)]
            lines = running.enter_context(program(command, '"ready":true'))
            told = json.loads(next(line for line in lines if '"ready":true' in line))
            return RunningProvider(told["issuer"], told["port"], people)

        yield start


@pytest.fixture
def node_red(tmp_path: Path) -> Iterator[Callable[..., RunningNodeRed]]:
    """Starts Node-RED in a folder of its own: `node_red(flows=[...])`; the default flows are an inject and a debug.

    `policy` is the Content-Security-Policy of its pages."""
    with ExitStack() as running:

        def start(flows: Sequence[Mapping[str, object]] = EXAMPLE_FLOWS, policy: str = "") -> RunningNodeRed:
            user_dir = tmp_path / "node-red"
            try:
                command = prepare(MODULES, user_dir, flows)
            except NodeRedMissing as problem:
                missing(str(problem))
            environment = {**command.environment, **({"ZT_NODE_RED_CSP": policy} if policy else {})}
            running.enter_context(program(command.argv, READY, environment))
            return RunningNodeRed(command.url, command.port, user_dir)

        yield start


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window. Every name under .test is this machine.

    `await browser.new_context(ignore_https_errors=True)` makes a person's profile; viewport, color_scheme and
    java_script_enabled are its arguments too.
    """
    if not Path(CHROMIUM).exists():
        missing("Chromium is not installed; tests/real/install-debian.sh installs it")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--host-resolver-rules=MAP *.test 127.0.0.1, MAP *.localhost 127.0.0.1",
            ],
        )
        try:
            yield chromium
        finally:
            await chromium.close()
