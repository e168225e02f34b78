"""The samples that developers copy, as servers of their own, and the self-test that tries them (FIELD 28)."""

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trustme
from typer.testing import CliRunner

from zt_proxy.cli.main import app
from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.control.upstream_check import Report, Upstream, check
from zt_proxy.control.upstream_probes import Visitor, probes
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.session import Principal, Session
from zt_proxy.worker.identify.assertion import AssertionSigner

EXAMPLES = Path(__file__).parents[2] / "examples" / "verify"
PYTHON = [sys.executable, str(EXAMPLES / "python" / "verify.py")]
NODE = ["node", str(EXAMPLES / "node" / "verify.mjs")]
ISSUER = "https://auth.example.com"
AUDIENCE = "builder"

SAMPLES = pytest.mark.parametrize("command", [PYTHON, NODE], ids=["python", "node"])


class KeyServer:
    """Serves the JWKS as the portal does, and counts."""

    def __init__(self, keys: AssertionKeys) -> None:
        self.fetched = 0
        self.working = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.fetched += 1
                self.send_response(200 if outer.working else 503)
                self.send_header("Content-Type", "application/jwk-set+json")
                self.send_header("Cache-Control", "public, max-age=300")
                self.end_headers()
                self.wfile.write(json.dumps(keys.jwks()).encode() if outer.working else b"{}")

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/.zt/jwks.json"


@contextlib.contextmanager
def in_thread(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def keys(tmp_path: Path) -> AssertionKeys:
    return AssertionKeys.load_or_create(tmp_path / "state", SystemClock(), 86_400.0, 3_600.0)


@pytest.fixture
def jwks(keys: AssertionKeys) -> Iterator[KeyServer]:
    server = KeyServer(keys)
    with in_thread(server.server):
        yield server


@contextlib.contextmanager
def sample(command: list[str], jwks_url: str) -> Iterator[str]:
    arguments = ["--jwks", jwks_url, "--issuer", ISSUER, "--audience", AUDIENCE, "--port", "0"]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd="/"
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=10)


def ask(keys: AssertionKeys, origin: str) -> Report:
    sent = probes(keys.current(), Visitor(ISSUER, AUDIENCE), SystemClock().now())
    return asyncio.run(check(Upstream(origin, "flows.example.com"), sent))


def assertion(keys: AssertionKeys) -> str:
    clock = SystemClock()
    now = clock.now()
    signer = AssertionSigner(ISSUER, clock)
    signer.key(keys.current())
    person = Principal("u-17", "https://idp.example", "corp", "alice@example.com", "Ælice", frozenset(("staff",)))
    session = Session("s1", "flows.example.com", person, "mfa", ("otp",), True, now, now, now, 1800.0, now + 3600)
    return signer.header(session, AUDIENCE, "builder").decode()


@SAMPLES
def test_a_sample_accepts_the_good_and_refuses_every_forged_assertion(
    command: list[str], keys: AssertionKeys, jwks: KeyServer
) -> None:
    with sample(command, jwks.url) as origin:
        report = ask(keys, origin)
    assert report.exit_code == 0, report
    assert {answer.status for answer in report.forged} == {401}
    # One of the forgeries names an unknown key: a stranger must not be able to make the app ask again and again.
    assert jwks.fetched == 1


@SAMPLES
def test_a_sample_reads_what_the_proxy_really_sends(command: list[str], keys: AssertionKeys, jwks: KeyServer) -> None:
    import urllib.request

    with sample(command, jwks.url) as origin:
        request = urllib.request.Request(origin, headers={"X-ZT-Assertion": assertion(keys)})
        with urllib.request.urlopen(request, timeout=10) as response:
            claims = json.load(response)
    assert (claims["sub"], claims["name"], claims["groups"]) == ("u-17", "Ælice", ["staff"])


@SAMPLES
def test_a_sample_without_keys_lets_nobody_in(command: list[str], keys: AssertionKeys, jwks: KeyServer) -> None:
    jwks.working = False
    with sample(command, jwks.url) as origin:
        report = ask(keys, origin)
    assert (report.exit_code, report.good.status) == (2, 503)


@SAMPLES
def test_a_sample_refuses_the_assertions_of_another_installation(
    command: list[str], jwks: KeyServer, tmp_path: Path
) -> None:
    others = AssertionKeys.load_or_create(tmp_path / "other", SystemClock(), 86_400.0, 3_600.0)
    with sample(command, jwks.url) as origin:
        report = ask(others, origin)
    assert (report.exit_code, report.good.status) == (2, 401)


def python_sample() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_sample", EXAMPLES / "python" / "verify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_python_sample_fetches_again_for_a_new_key_but_not_too_often(keys: AssertionKeys, jwks: KeyServer) -> None:
    module = python_sample()
    eager, patient = module.Jwks(jwks.url, refresh=0.0), module.Jwks(jwks.url, refresh=3600.0)
    old = keys.current().kid
    for cache in (eager, patient):
        cache.key(old)
        cache.key(old)
    assert jwks.fetched == 2
    keys.rotate(compromised=True)
    eager.key(keys.current().kid)
    with pytest.raises(module.AssertionRefused):
        eager.key(old)
    with pytest.raises(module.AssertionRefused):
        patient.key(keys.current().kid)
    assert jwks.fetched == 4


def test_the_node_sample_fetches_again_for_a_new_key_but_not_too_often(keys: AssertionKeys, jwks: KeyServer) -> None:
    script = f"""
      import {{ Jwks }} from {json.dumps((EXAMPLES / "node" / "verify.mjs").as_uri())};
      import {{ createInterface }} from 'node:readline/promises';
      const caches = [new Jwks({json.dumps(jwks.url)}, {{refresh: 0}}), new Jwks({json.dumps(jwks.url)}, {{refresh: 3600}})];
      for await (const kid of createInterface({{ input: process.stdin }})) {{
        const said = [];
        for (const cache of caches) said.push(await cache.key(kid).then(() => 'key', (e) => e.constructor.name));
        console.log(JSON.stringify(said));
      }}
    """
    process = subprocess.Popen(
        ["node", "--input-type=module", "-e", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None

        def said(kid: str) -> Any:
            process.stdin.write(kid + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return json.loads(process.stdout.readline())  # type: ignore[union-attr]

        old = keys.current().kid
        assert said(old) == said(old) == ["key", "key"]
        assert jwks.fetched == 2
        keys.rotate(compromised=True)
        assert said(keys.current().kid) == ["key", "AssertionRefused"]
        assert said(old) == ["AssertionRefused", "key"]
        process.stdin.close()


def test_a_sample_takes_no_keys_over_plain_http_from_elsewhere() -> None:
    with pytest.raises(ValueError, match="https"):
        python_sample().Jwks("http://auth.example.com/.zt/jwks.json")
    done = subprocess.run(
        [*NODE, "--jwks", "http://auth.example.com/", "--issuer", ISSUER, "--audience", AUDIENCE],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert "https" in done.stderr


class Careless(BaseHTTPRequestHandler):
    """Answers whoever comes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


def configuration(folder: Path, upstream: str) -> Path:
    leaf = trustme.CA().issue_cert("flows.example.com", "auth.example.com")
    leaf.private_key_pem.write_to_path(folder / "site.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "site.pem")
    path = folder / "zt-proxy.yaml"
    path.write_text(f"""
version: 1
state_dir: state
listen:
  - {{name: web, address: "127.0.0.1:8443", tls: {{certificate: site.pem, key: site.key}}}}
portal: {{url: "{ISSUER}"}}
identity:
  providers:
    corp: {{issuer: "https://idp.example", client_id: zt, client_auth: none}}
routes:
  - name: flows
    host: flows.example.com
    audience: {AUDIENCE}
    upstream: {upstream}
    rules:
      - {{id: staff, allow: all, to: {{groups: [staff]}}}}
""")
    return path


def verify_upstream(path: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify-upstream", *arguments, "-c", str(path)], catch_exceptions=False)
    return result.exit_code, result.output


def test_the_command_passes_an_app_that_verifies(keys: AssertionKeys, jwks: KeyServer, tmp_path: Path) -> None:
    with sample(PYTHON, jwks.url) as origin:
        path = configuration(tmp_path, origin)
        code, text = verify_upstream(path, "flows")
        assert (code, "refuses every forged assertion" in text) == (0, True), text
        code, text = verify_upstream(path, "flows", "--json", "--subject", "u-17", "--group", "staff")
    report = json.loads(text)
    assert (code, report["exit_code"], report["audience"]) == (0, 0, AUDIENCE)
    assert {answer["outcome"] for answer in report["forged"]} == {"refused"}


def test_the_command_names_what_a_careless_app_does_not_check(keys: AssertionKeys, tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    with in_thread(server):
        path = configuration(tmp_path, f"http://127.0.0.1:{server.server_port}")
        code, text = verify_upstream(path, "flows")
    assert code == 1
    for words in ("does not check the signature", "`aud`", "`exp`", "`iss`", "alg: none", "HS256"):
        assert words in text


def test_the_command_says_when_nothing_can_be_learned(keys: AssertionKeys, tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    server.server_close()
    path = configuration(tmp_path, f"http://127.0.0.1:{server.server_port}")
    code, text = verify_upstream(path, "flows")
    assert (code, "cannot be reached" in text) == (2, True)
    code, text = verify_upstream(path, "flow")
    assert (code, "flows" in text) == (2, True)
    code, text = verify_upstream(path, "flows", "--path", "no-slash")
    assert (code, "path must begin" in text) == (2, True)


def test_the_command_makes_no_keys_of_its_own(tmp_path: Path) -> None:
    path = configuration(tmp_path, "http://127.0.0.1:9")
    code, text = verify_upstream(path, "flows")
    assert (code, "assertion keys cannot be read" in text) == (2, True)
    assert not (tmp_path / "state" / "assertion.keys").exists()
