"""The README's first own route, as somebody follows it: its commands are run, in its order, on free ports.

A comment before a block, or alone, says what to do with it:

    test: start shows="TEXT"           leave it running; go on when it said TEXT
    test: run exit=N shows="TEXT"      run it; N is 0 where it is left out
    test: until shows="TEXT"           run it again and again until it says TEXT: something else has to notice first
    test: after PERSON PATH REASON     this person opens PATH in a browser, and the record has REASON
"""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from yarl import URL

from zt_proxy.demo.people import DEMO_PEOPLE
from zt_proxy.demo.web import LoopbackResolver

README = Path(__file__).parents[2] / "README.md"
STEP = re.compile(r"<!-- test: (?P<what>[^>]*?) -->\n(?:```sh\n(?P<code>.*?)```)?", re.DOTALL)
SHOWS = re.compile(r'shows="([^"]*)"')
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none", "Accept": "text/html"}


class Newcomer:
    """Somebody in front of an empty folder, with terminals and browsers."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.ports = {number: free_port() for number in ("8080", "8443", "8444", "9464")}
        self.browsers: dict[str, aiohttp.ClientSession] = {}
        self._stack = stack

    def local(self, text: str) -> str:
        """The text with free ports, and without what only finds the command."""
        text = text.replace(". .venv/bin/activate\n", "")
        for number, free in self.ports.items():
            text = text.replace(number, str(free))
        flags = f"--port {self.ports['8443']} --provider-port {self.ports['8444']}"
        return text.replace("--provider-only", f"--provider-only {flags}")

    async def follow(self, what: str, code: str) -> None:
        kind, _, rest = what.partition(" ")
        shows = self.local(found[1]) if (found := SHOWS.search(rest)) else ""
        code = self.local(code)
        # A terminal remembers what was exported in it; here each block has a terminal of its own.
        for name, value in re.findall(r'^export (\w+)="\$\(cat ([^)]*)\)"$', code, re.MULTILINE):
            self.environment[name] = (self.folder / value).read_text()
        match kind:
            case "start":
                await self.start(code, shows)
            case "run":
                status = int(found[1]) if (found := re.search(r"exit=(\d+)", rest)) else 0
                await self.run(code, status, shows)
            case "until":
                await self.until(code, shows)
            case "after":
                await self.open(*rest.split())
            case _:
                raise AssertionError(f"the README asks for {kind}")

    async def start(self, code: str, shows: str) -> asyncio.subprocess.Process:
        process = await self._stack.enter_async_context(self._shell(code))
        assert process.stdout is not None
        said = ""
        try:
            async with asyncio.timeout(30):
                while shows not in said:
                    line = await process.stdout.readline()
                    assert line, f"{code}\nended, having said:\n{said}"
                    said += line.decode()
        except TimeoutError:
            raise AssertionError(f"{code}\nonly said:\n{said}") from None
        return process

    async def run(self, code: str, status: int, shows: str) -> None:
        async with self._shell(code) as process:
            output, _ = await process.communicate()
        text = re.sub(r"\s+", " ", output.decode())
        assert (process.returncode, shows in text) == (status, True), f"{code}\nsaid:\n{output.decode()}"
        for file in self.folder.glob("zt-proxy.yaml"):
            if "9464" in (text := file.read_text()):  # a proxy may be watching it
                file.write_text(text.replace("9464", str(self.ports["9464"])))

    async def until(self, code: str, shows: str) -> None:
        output = b""
        try:
            async with asyncio.timeout(20):
                while shows not in output.decode():
                    async with self._shell(code) as process:
                        output, _ = await process.communicate()
        except TimeoutError:
            raise AssertionError(f"{code}\nonly said:\n{output.decode()}") from None

    @asynccontextmanager
    async def _shell(self, code: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", code, cwd=self.folder, env=self.environment, start_new_session=True,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)
                assert process.stdout is not None
                await process.stdout.read()
                await process.wait()

    async def open(self, who: str, path: str, reason: str) -> None:
        app = f"https://app.localhost:{self.ports['8443']}"
        http = self.browsers.get(who)
        if http is None:
            trust = ssl.create_default_context(cafile=self.folder / ".state" / "demo" / "ca.pem")
            connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), ssl=trust, force_close=True)
            http = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=NAVIGATE))
            self.browsers[who] = http
            await sign_in(http, app, who)
        async with http.get(app + path) as answer:
            await answer.read()
            request = answer.headers["X-Request-Id"]
        assert reason in await self._reasons(request)

    async def _reasons(self, request: str) -> list[str]:
        """The reasons on record for a request; the record is written beside the path, so it may take a moment."""
        async with asyncio.timeout(20):
            while True:
                lines = [
                    json.loads(line)
                    for file in (self.folder / "state" / "audit").glob("*.jsonl")
                    for line in file.read_text().splitlines()
                ]
                if found := [line["reason"] for line in lines if line.get("id") == request and "reason" in line]:
                    return found
                await asyncio.sleep(0.05)  # another process writes it: nothing here could be awaited


async def sign_in(http: aiohttp.ClientSession, app: str, who: str) -> None:
    """Type what the demo provider's pages ask for."""
    (person,) = (person for person in DEMO_PEOPLE if person.username == who)
    async with http.get(app) as page:
        url = page.url
        assert url.host == "localhost", await page.text()
    async with http.post(url, data={"username": who, "password": person.password}) as page:
        text = await page.text()
        code = re.search(r'id="demo-code">(\d+)', text)
        url = page.url
    assert code is not None, text
    async with http.post(url, data={"code": code[1]}) as page:
        assert page.url.origin() == URL(app)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def test_the_first_own_route_of_the_readme_works_command_by_command(tmp_path: Path) -> None:
    steps = [(step["what"], step["code"] or "") for step in STEP.finditer(README.read_text("utf-8"))]
    assert len(steps) >= 10
    async with AsyncExitStack() as stack:
        newcomer = Newcomer(tmp_path, stack)
        for what, code in steps:
            await newcomer.follow(what, code)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    text = README.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = README.parent / path
        assert target.exists(), link
        if anchor:
            assert f"## {anchor}\n" in target.read_text("utf-8"), link
