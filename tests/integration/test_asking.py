"""A person signed in and asked for a page; the operator asks why, with what the proxy and its record know of them."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.integration.test_risk import OFFICE, Traveller, travelling
from tests.lab.waiting import until

CONFIG = """version: 1
runtime_dir: {folder}/run
audit: {{directory: {folder}/audit}}
listen:
  - {{name: web, address: "127.0.0.1:443", tls: {{certificate: site.pem, key: site.key}}}}
portal: {{url: "https://auth.test"}}
identity: {{providers: {{corp: {{issuer: "https://idp.test", client_id: zt, client_secret: "${{file:secret}}"}}}}}}
networks: {{office: [81.2.69.0/24]}}
routes:
  - name: app
    host: app.test
    upstream: http://127.0.0.1:8080
    rules: [{{id: office, allow: all, to: {{groups: {groups}}}, when: {{network: office}}}}]
"""


async def command(*arguments: str) -> tuple[int, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "zt_proxy.cli.main", *arguments, "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert out, err.decode()
    return process.returncode or 0, json.loads(out)


async def test_why_and_who_are_answered_with_what_the_running_proxy_knows(tmp_path: Path) -> None:
    async with travelling(tmp_path) as running:
        session = await Traveller(running, OFFICE).signed_in()
        folder = running.lab.directory
        config = tmp_path / "zt-proxy.yaml"
        config.write_text(CONFIG.format(folder=folder, groups=json.dumps(sorted(session.principal.groups))))
        asked = ("-c", str(config), "--network", "office")
        code, answer = await command("explain", *asked, "--user", session.principal.subject)
        assert (code, answer["rule"]) == (0, "office")
        assert answer["question"]["groups"] == sorted(session.principal.groups)
        code, answer = await command("who-can", "GET:/", "app", *asked)
        assert (code, answer["count"]) == (0, {"yes": 1})

        def decided() -> list[dict[str, Any]]:
            lines = [
                json.loads(line) for file in folder.glob("audit/*.jsonl") for line in file.read_text().splitlines()
            ]
            return [line for line in lines if line["type"] == "decision" and line.get("sid") and line["route"] == "app"]

        await until(lambda: bool(decided()))
        code, answer = await command("explain", "-c", str(config), "--request", decided()[0]["id"])
        assert (code, answer["rule"], answer["question"]["network"]) == (0, "office", ["office"])
        assert answer["question"]["groups"] == sorted(session.principal.groups)
